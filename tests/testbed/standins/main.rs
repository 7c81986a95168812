//! Stand-ins for everything a profile names, so that the shipped profiles themselves go through `lock`, `fetch` and
//! `build` against real servers, without any public registry:
//!
//! ```text
//! standins fill PROFILE… --registry 127.0.0.1:5000 --files DIR [--scale N]   images, charts and files
//! standins serve DIR --listen 127.0.0.1:8081                                 the files, as DIR/<host>/<path>
//! standins throttle --listen 127.0.0.1:5001 --to 127.0.0.1:5000 --rate N     a slow way to either
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod archive;
mod bytes;
mod chart;
mod file;
mod image;
mod push;
mod serve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use labimg::model::image::ImageRef;
use labimg::model::platform::Platform;
use labimg::model::profile::{self, ChartInput, Inputs};

/// Why it did not work: shown to whoever wrote the test.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Fills and runs the servers of the test bed.
#[derive(Parser)]
enum Verb {
    /// Makes everything the profiles name.
    Fill {
        /// Profiles.
        #[arg(required = true)]
        profiles: Vec<PathBuf>,
        /// A plain registry on loopback; every image goes there under its repository, without its host.
        #[arg(long)]
        registry: String,
        /// Where the HTTP tree goes.
        #[arg(long)]
        files: PathBuf,
        /// How many times larger than usual.
        #[arg(long, default_value_t = 1)]
        scale: u64,
    },
    /// Serves an HTTP tree.
    Serve {
        /// The tree.
        folder: PathBuf,
        /// Address.
        #[arg(long)]
        listen: String,
    },
    /// Relays TCP slowly.
    Throttle {
        /// Address.
        #[arg(long)]
        listen: String,
        /// Where to.
        #[arg(long)]
        to: String,
        /// Bytes per second and connection.
        #[arg(long)]
        rate: u64,
    },
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    match Verb::parse() {
        Verb::Fill { profiles, registry, files, scale } => {
            let registry = push::Registry::at(&registry)?;
            for path in profiles {
                let inputs = inputs_of(&path)?;
                let sent = push_images(&registry, &inputs, scale).await?;
                let charts = put_charts(&registry, &inputs, &files).await?;
                let written = put_files(&inputs, &files, scale)?;
                println!(
                    "{}: {} images ({} MB new), {charts} charts, {} files ({} MB)",
                    path.display(),
                    inputs.images.len(),
                    sent / 1_000_000,
                    inputs.files.len(),
                    written / 1_000_000,
                );
            }
            Ok(())
        }
        Verb::Serve { folder, listen } => serve::files(&listen, folder).await,
        Verb::Throttle { listen, to, rate } => serve::throttle(&listen, to, rate).await,
    }
}

fn inputs_of(path: &Path) -> Result<Inputs, Failure> {
    let text = fs_err::read_to_string(path)?;
    let mut read = |import: &str| fs_err::read_to_string(import).map_err(|e| e.to_string());
    Ok(profile::parse(&path.display().to_string(), &text, &mut read)?.profile.inputs(&Default::default()))
}

/// Every image under the name it is really found at. The first two asked for on linux/amd64 alone have no index.
async fn push_images(registry: &push::Registry, inputs: &Inputs, scale: u64) -> Result<u64, Failure> {
    let only_amd64 = |i: &profile::ImageInput| i.platforms.iter().eq([&Platform::LinuxAmd64]);
    let singles: Vec<&ImageRef> = inputs.images.iter().filter(|(_, i)| only_amd64(i)).map(|(r, _)| r).take(2).collect();
    let mut wanted: BTreeMap<(String, String), bool> = BTreeMap::new();
    for (reference, input) in &inputs.images {
        let found = input.source.as_ref().unwrap_or(reference);
        match (&found.tag, &found.digest) {
            (Some(tag), None) => {
                let single = singles.contains(&reference);
                let entry = wanted.entry((found.repository.clone(), tag.clone())).or_insert(single);
                *entry &= single;
            }
            _ => eprintln!("{found}: pinned by digest, no stand-in can have that"),
        }
    }
    let sent: Vec<u64> = stream::iter(wanted)
        .map(|((repository, tag), single)| async move {
            let name = format!("{repository}:{tag}");
            let made = tokio::task::spawn_blocking(move || image::stand_in(&name, single, scale)).await??;
            registry.push(&repository, &tag, made.blobs, made.manifests).await
        })
        .buffer_unordered(3)
        .try_collect()
        .await?;
    Ok(sent.iter().sum())
}

async fn put_charts(registry: &push::Registry, inputs: &Inputs, files: &Path) -> Result<usize, Failure> {
    let mut repositories: BTreeMap<&str, Vec<&ChartInput>> = BTreeMap::new();
    for chart in inputs.charts.values() {
        repositories.entry(&chart.repo).or_default().push(chart);
    }
    for (repo, mut charts) in repositories {
        charts.dedup_by(|a, b| a.chart == b.chart && a.version == b.version);
        let Some(oci) = repo.strip_prefix("oci://") else {
            for (name, data) in chart::http_repository(repo, &charts)? {
                write(&serve::place(files, &format!("{repo}/{name}"))?, &data)?;
            }
            continue;
        };
        for chart in charts {
            let made = chart::oci_artifact(chart)?;
            let folder = oci.split_once('/').map_or("", |(_, path)| path);
            let repository = format!("{folder}/{}", chart.chart);
            let tag = chart.version.replace('+', "_");
            registry.push(repository.trim_start_matches('/'), &tag, made.blobs, made.manifests).await?;
        }
    }
    Ok(inputs.charts.len())
}

fn put_files(inputs: &Inputs, folder: &Path, scale: u64) -> Result<u64, Failure> {
    let mut by_url: BTreeMap<&str, Vec<file::Wanted<'_>>> = BTreeMap::new();
    for ((kind, name, platform), input) in &inputs.files {
        let wanted = file::Wanted { kind: *kind, name, platform: *platform, input };
        by_url.entry(&input.url).or_default().push(wanted);
    }
    let mut written = 0;
    for (url, wanted) in by_url {
        let data = file::contents(url, &wanted, scale)?;
        written += data.len() as u64;
        write(&serve::place(folder, url)?, &data)?;
    }
    Ok(written)
}

fn write(path: &Path, data: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(fs_err::write(path, data)?)
}
