//! Helm charts from HTTP repositories and OCI registries, locked by the digest of their `.tgz`.

mod index;
mod tgz;

use std::io::BufReader;
use std::sync::Arc;

use super::file::{blocking, checked, get};
use super::http::{Scratch, get_scratch};
use super::oci::{fetch_blob, fetch_manifest};
use super::{Net, SourceError};
use crate::base::bounded;
use crate::base::shown;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::LockedChart;
use crate::store::image::{Descriptor, Manifest};
use crate::store::{BlobSource, Store};

/// Media type of a chart's configuration in a registry (Helm, "Use OCI-based registries").
const OCI_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// Media type of the layer that is the `.tgz`.
const OCI_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// A chart a profile asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartRequest {
    /// The profile's name for it.
    pub name: String,
    /// The chart's own name.
    pub chart: String,
    /// The repository: `https://…`, or `oci://host/path` above the chart's own name.
    pub repo: String,
    /// The exact version; a leading `v` makes no difference.
    pub version: String,
    /// Digest of the `.tgz`, where the author pinned it.
    pub sha256: Option<Digest>,
}

/// What a repository says of one version.
struct Found {
    url: String,
    version: String,
    digest: Option<Digest>,
    size: Option<u64>,
}

/// Finds the chart, downloads it, and says what it is.
///
/// # Errors
/// A repository or version that is not there, other bytes than the index or the author names, an archive that is not that
/// chart.
pub async fn resolve_chart(net: &Net, store: &Arc<Store>, request: &ChartRequest) -> Result<LockedChart, SourceError> {
    let found = match request.repo.strip_prefix("oci://") {
        Some(repo) => find_oci(net, repo, request).await?,
        None => find_http(net, store, request).await?,
    };
    if let (Some(expected), Some(digest)) = (request.sha256, found.digest)
        && expected != digest
    {
        return Err(SourceError::Mismatch { url: found.url, expected, found: digest });
    }
    let expected = request.sha256.or(found.digest);
    let (digest, size) = bring(net, store, &request.name, &found.url, expected, found.size).await?;
    let (url, chart, version) = (found.url.clone(), request.chart.clone(), found.version.clone());
    let contents = blocking(store, move |store| contents(store, &digest, &url, &chart, &version)).await?;
    Ok(LockedChart {
        name: request.name.clone(),
        chart: request.chart.clone(),
        repo: request.repo.clone(),
        version: contents.version,
        url: found.url,
        digest,
        size,
        dependencies: contents.inner.into_iter().collect(),
    })
}

/// Brings a locked chart, unless the store has it.
///
/// # Errors
/// As [`resolve_chart`]; the repository's index is not asked any more.
pub async fn fetch_chart(net: &Net, store: &Arc<Store>, chart: &LockedChart) -> Result<(), SourceError> {
    if store.has(&chart.digest, chart.size) {
        return Ok(());
    }
    bring(net, store, &chart.name, &chart.url, Some(chart.digest), Some(chart.size)).await.map(|_| ())
}

/// Downloads a `.tgz` by its URL; one in a registry is a blob there, for which its manifest is not needed.
async fn bring(
    net: &Net,
    store: &Arc<Store>,
    name: &str,
    url: &str,
    expected: Option<Digest>,
    size: Option<u64>,
) -> Result<(Digest, u64), SourceError> {
    let label = format!("chart {name}");
    match (url.strip_prefix("oci://"), expected, size) {
        (None, ..) => get(net, store, url, &label, expected, size).await,
        (Some(reference), Some(digest), Some(size)) => {
            fetch_blob(net, store, &image_ref(reference, url)?, &digest, size, &label).await?;
            Ok((digest, size))
        }
        (Some(_), ..) => Err(SourceError::Internal(format!("`{url}` without a digest"))),
    }
}

fn contents(
    store: &Store,
    digest: &Digest,
    url: &str,
    chart: &str,
    version: &str,
) -> Result<tgz::Contents, SourceError> {
    let bad = |why: String| SourceError::Archive { what: url.to_owned(), why };
    let contents = tgz::look_into(store.open_blob(digest)?).map_err(bad)?;
    if contents.name != chart || bare(&contents.version) != bare(version) {
        let why =
            format!("it is chart `{}` version {}, not `{chart}` version {version}", contents.name, contents.version);
        return Err(bad(why));
    }
    Ok(contents)
}

fn bare(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

async fn find_http(net: &Net, store: &Arc<Store>, request: &ChartRequest) -> Result<Found, SourceError> {
    let base = checked(&format!("{}/", request.repo.trim_end_matches('/')))?;
    let url =
        base.join("index.yaml").map_err(|e| SourceError::Setting { what: "URL".to_owned(), why: e.to_string() })?;
    let shown = url.to_string();
    let index = get_index(net, store, url.as_str()).await?;
    let chart = request.chart.clone();
    let read = tokio::task::spawn_blocking(move || {
        index::versions_of(BufReader::with_capacity(256 * 1024, index.file), &chart)
    });
    let bad = |why: String| SourceError::Archive { what: shown.clone(), why };
    let versions = read.await.map_err(|e| SourceError::Internal(e.to_string()))?.map_err(bad)?;
    let versions = versions.ok_or_else(|| bad(format!("no chart `{}` in this repository", request.chart)))?;
    let entry = pick(&versions, &request.version).map_err(|why| bad(format!("chart `{}`: {why}", request.chart)))?;
    let first = entry.urls.first().ok_or_else(|| bad(format!("chart `{}` has no URL", request.chart)))?;
    if first.starts_with("oci://") {
        // Some repositories moved their archives to a registry and kept the index.
        return ask_registry(net, first, &entry.version).await;
    }
    let tgz = base.join(first).map_err(|e| bad(format!("`{first}`: {e}")))?;
    let digest = entry.digest.as_deref().filter(|d| !d.is_empty());
    let digest = digest.map(|d| Digest::from_hex(d.strip_prefix("sha256:").unwrap_or(d))).transpose();
    Ok(Found {
        url: tgz.to_string(),
        version: entry.version.clone(),
        digest: digest.map_err(|e| bad(e.to_string()))?,
        size: None,
    })
}

async fn get_index(net: &Net, store: &Arc<Store>, url: &str) -> Result<Scratch, SourceError> {
    let mut failed = None;
    for asked in net.options().mirrored(url) {
        match get_scratch(net, store, &checked(&asked)?, url, index::LIMIT).await {
            Err(error) if error.ask_another() => {
                let mirrored = asked != url;
                failed = Some(failed.unwrap_or(if mirrored { error.by_mirror_of(url) } else { error }));
            }
            done => return done,
        }
    }
    Err(failed.unwrap_or_else(|| SourceError::Internal("no URL to ask".to_owned())))
}

/// The entry of exactly this version.
fn pick<'a>(versions: &'a [index::Entry], wanted: &str) -> Result<&'a index::Entry, String> {
    let exact = versions.iter().find(|entry| entry.version == wanted);
    let found = exact.or_else(|| versions.iter().find(|entry| bare(&entry.version) == bare(wanted)));
    found.ok_or_else(|| {
        let mut near: Vec<&index::Entry> = versions.iter().collect();
        near.sort_by(|a, b| {
            let like = |e: &index::Entry| shown::alike(bare(&e.version), bare(wanted));
            like(b).total_cmp(&like(a)).then_with(|| a.version.cmp(&b.version))
        });
        let names: Vec<&str> = near.iter().take(5).map(|entry| entry.version.as_str()).collect();
        format!("no version {wanted} (there are {}, among them {})", versions.len(), names.join(", "))
    })
}

/// The chart in a registry: `repo` is what stands above the chart's own name.
async fn find_oci(net: &Net, repo: &str, request: &ChartRequest) -> Result<Found, SourceError> {
    // Helm: `+` of a version is `_` in a tag, which may not hold `+`.
    let tag = request.version.replace('+', "_");
    ask_registry(net, &format!("oci://{}/{}:{tag}", repo.trim_end_matches('/'), request.chart), &request.version).await
}

/// What the chart `url` (`oci://host/repository:tag`) is, by its manifest.
async fn ask_registry(net: &Net, url: &str, version: &str) -> Result<Found, SourceError> {
    let image = image_ref(url.trim_start_matches("oci://"), url)?;
    let fetched = fetch_manifest(net, &image, &image.wanted(), image.digest.as_ref()).await?;
    let bad = |why: String| SourceError::Archive { what: url.to_owned(), why };
    let manifest: Manifest = bounded::from_json(&fetched.bytes).map_err(|e| bad(format!("no manifest: {e}")))?;
    if manifest.config.media_type != OCI_CONFIG {
        return Err(bad(format!("its configuration is `{}`: this is no Helm chart", manifest.config.media_type)));
    }
    let layer: &Descriptor = manifest
        .layers
        .iter()
        .find(|layer| layer.media_type == OCI_LAYER)
        .ok_or_else(|| bad(format!("it has no layer of type `{OCI_LAYER}`")))?;
    let (digest, size) = (Some(layer.digest), Some(layer.size));
    Ok(Found { url: url.to_owned(), version: version.to_owned(), digest, size })
}

fn image_ref(text: &str, url: &str) -> Result<ImageRef, SourceError> {
    text.parse().map_err(|e: crate::model::image::ImageRefError| SourceError::Setting {
        what: format!("chart `{url}`"),
        why: e.to_string(),
    })
}

/// Doors of `source::fuzzing`.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use super::{index, tgz};

    pub(in crate::source) fn index(data: &[u8]) {
        let _ = index::versions_of(data, "traefik");
    }

    pub(in crate::source) fn archive(data: &[u8]) {
        let _ = tgz::look_into(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_picked_exactly() {
        let entry = |version: &str| index::Entry { version: version.to_owned(), urls: Vec::new(), digest: None };
        let all = [entry("v1.14.0"), entry("1.13.1"), entry("v1.13.0")];
        assert_eq!(pick(&all, "v1.14.0").unwrap().version, "v1.14.0");
        assert_eq!(pick(&all, "1.13.0").unwrap().version, "v1.13.0");
        let error = pick(&all, "1.13.2").unwrap_err();
        assert!(error.contains("no version 1.13.2 (there are 3, among them 1.13.1"), "{error}");
    }
}
