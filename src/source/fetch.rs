//! Everything a lock names, into the store: manifests first, then all else as one list, largest first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::chart::fetch_chart;
use super::debian::{DebianError, fetch_package};
use super::file::fetch_file;
use super::oci::{fetch_blob, fetch_image_manifests};
use super::wheel::fetch_wheel;
use super::{Net, SourceError};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{Lock, LockedChart, LockedFile, LockedImage, LockedPackage, LockedSuite, LockedWheel};
use crate::store::Store;
use crate::store::image::image_blobs;
use crate::store::image_index::lacking;

/// What a fetch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Blobs brought.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were there already.
    pub already: usize,
}

/// The first thing of a lock that a store lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it belongs to, for people.
    pub what: String,
    /// Its digest.
    pub digest: Digest,
}

/// Something to bring, and the input it is of, as a lock calls that.
struct Wanted {
    input: String,
    want: Want,
}

/// Something to bring, and where from.
enum Want {
    Blob { images: Vec<Arc<ImageRef>>, digest: Digest, size: u64 },
    Chart(Arc<LockedChart>),
    File(Arc<LockedFile>),
    Wheel(Arc<LockedWheel>),
    Package(Arc<LockedSuite>, Arc<LockedPackage>),
}

/// Brings everything that `lock` names and the store lacks; files beside the profile are not a network's business.
/// The first error ends the rest, whose parts stay to be resumed.
///
/// # Errors
/// Whatever one of them fails with.
pub async fn fetch_lock(net: &Net, store: &Arc<Store>, lock: &Lock) -> Result<Fetched, SourceError> {
    let mut without = Vec::new();
    for image in &lock.images {
        if !has_manifests(store, image) || lacking(&**store, image)?.is_some() {
            without.push(image.clone());
        }
    }
    let manifests = without.into_iter().map(|image| {
        let (net, store) = (net.clone(), store.clone());
        let input = format!("image {}", image.reference);
        async move { fetch_image_manifests(&net, &store, &image).await.map_err(|e| of(input, e)) }
    });
    all(net.options().jobs, manifests).await?;

    let (wants, already) = list(store, lock)?;
    let bytes = wants.iter().map(|w| w.want.size()).fold(0, u64::saturating_add);
    if !wants.is_empty() {
        net.reporter().phase("fetch", Some(bytes));
    }
    let blobs = wants.len();
    let work = wants.into_iter().map(|want| {
        let (net, store) = (net.clone(), store.clone());
        async move { bring(&net, &store, want.want).await.map_err(|e| of(want.input, e)) }
    });
    // Twice as many tasks as requests: while some wait for their bytes to be on disk, others use the network.
    all(2 * net.options().jobs, work).await?;
    Ok(Fetched { blobs, bytes, already })
}

/// The first thing that `lock` names and the store lacks; no network is used. Sizes are compared, bytes are not hashed
/// (but for manifests, which are read).
///
/// # Errors
/// A manifest in the store that is damaged.
pub fn missing(store: &Store, lock: &Lock) -> Result<Option<Missing>, SourceError> {
    for image in &lock.images {
        let what = || format!("image {}", image.reference);
        let lacks = |(digest, size): &(Digest, u64)| !store.has(digest, *size);
        if let Some((digest, _)) = manifests(image).find(lacks) {
            return Ok(Some(Missing { what: what(), digest }));
        }
        if let Some(index) = lacking(store, image)? {
            return Ok(Some(Missing { what: what(), digest: index.digest }));
        }
        let blobs = image_blobs(store, image)?;
        if let Some(blob) = blobs.iter().find(|blob| !store.has(&blob.digest, blob.size)) {
            return Ok(Some(Missing { what: what(), digest: blob.digest }));
        }
    }
    let charts = lock.charts.iter().map(|c| (format!("chart {}", c.name), (c.digest, c.size)));
    let files = lock.files.iter().map(|f| (format!("{} {}", f.kind.as_str(), f.name), f.content()));
    let wheels = lock.wheels.iter().map(|w| (format!("wheel {}", w.file), (w.digest, w.size)));
    let packages = lock.packages.iter().map(|p| (format!("package {}", p.label()), (p.digest, p.size)));
    let mut rest = charts.chain(files).chain(wheels).chain(packages);
    let found = rest.find(|(_, (digest, size))| !store.has(digest, *size));
    Ok(found.map(|(what, (digest, _))| Missing { what, digest }))
}

fn manifests(image: &LockedImage) -> impl Iterator<Item = (Digest, u64)> {
    std::iter::once((image.digest, image.size)).chain(image.platforms.values().map(|m| (m.digest, m.size)))
}

fn has_manifests(store: &Store, image: &LockedImage) -> bool {
    manifests(image).all(|(digest, size)| store.has(&digest, size))
}

impl Want {
    /// Bytes to be brought.
    fn size(&self) -> u64 {
        match self {
            Self::Blob { size, .. } => *size,
            Self::Chart(chart) => chart.size,
            Self::File(file) => file.size,
            Self::Wheel(wheel) => wheel.size,
            Self::Package(_, package) => package.size,
        }
    }

    /// The input it is of, as [`Lock::input_names`] calls it (of packages: the table they are chosen from).
    fn input(&self, lock: &Lock) -> String {
        match self {
            Self::Blob { images, .. } => images.first().map(|image| format!("image {image}")).unwrap_or_default(),
            Self::Chart(chart) => format!("chart {}", chart.name),
            Self::File(file) => match file.platform {
                Some(platform) => format!("{} {} ({platform})", file.kind.as_str(), file.name),
                None => format!("{} {}", file.kind.as_str(), file.name),
            },
            Self::Wheel(wheel) => {
                let set = lock.wheel_sets.iter().find(|set| wheel.sets.contains(&set.name));
                format!("wheels {}", set.map_or(wheel.file.as_str(), |set| set.name.as_str()))
            }
            Self::Package(_, package) => format!("debian {}", package.debian),
        }
    }
}

/// The same failure, with the input it is of.
fn of(input: String, error: SourceError) -> SourceError {
    match error {
        // Neither is any input's fault.
        SourceError::Internal(_) | SourceError::Store(_) => error,
        error => SourceError::Of { input, source: Box::new(error) },
    }
}

/// What is to be brought, each digest once, largest first; and how many blobs are there already.
fn list(store: &Store, lock: &Lock) -> Result<(Vec<Wanted>, usize), SourceError> {
    let mut wants: BTreeMap<Digest, Wanted> = BTreeMap::new();
    let mut there = std::collections::BTreeSet::new();
    for image in &lock.images {
        let source = Arc::new(image.source.clone().unwrap_or_else(|| image.reference.clone()));
        for blob in image_blobs(store, image)? {
            if store.has(&blob.digest, blob.size) {
                there.insert(blob.digest);
                continue;
            }
            let (digest, size) = (blob.digest, blob.size);
            match wants.entry(digest) {
                Entry::Vacant(slot) => {
                    let want = Want::Blob { images: vec![source.clone()], digest, size };
                    slot.insert(Wanted { input: format!("image {}", image.reference), want });
                }
                Entry::Occupied(mut slot) => slot.get_mut().want.also_at(&source),
            }
        }
    }
    let charts = lock.charts.iter().map(|c| ((c.digest, c.size), Want::Chart(Arc::new(c.clone()))));
    let files = lock.files.iter().map(|f| (f.content(), Want::File(Arc::new(f.clone()))));
    let wheels = lock.wheels.iter().map(|w| ((w.digest, w.size), Want::Wheel(Arc::new(w.clone()))));
    let packages = packages(lock)?.into_iter();
    for ((digest, size), want) in charts.chain(files).chain(wheels).chain(packages) {
        if store.has(&digest, size) {
            there.insert(digest);
        } else {
            let input = want.input(lock);
            wants.entry(digest).or_insert(Wanted { input, want });
        }
    }
    let mut wants: Vec<Wanted> = wants.into_values().collect();
    wants.sort_by_key(|wanted| std::cmp::Reverse(wanted.want.size()));
    Ok((wants, there.len()))
}

/// Something to bring, known by digest and size.
type Known = ((Digest, u64), Want);

/// The lock's packages with the suites they are from.
fn packages(lock: &Lock) -> Result<Vec<Known>, SourceError> {
    let suites: BTreeMap<(&str, &str), Arc<LockedSuite>> =
        lock.suites.iter().map(|s| ((s.debian.as_str(), s.suite.as_str()), Arc::new(s.clone()))).collect();
    let with_suite = |package: &LockedPackage| {
        let lost = || {
            let (debian, suite) = (package.debian.clone(), package.suite.clone());
            DebianError::NoSuite { package: package.label(), debian, suite }
        };
        let suite = suites.get(&(package.debian.as_str(), package.suite.as_str())).ok_or_else(lost)?;
        Ok(((package.digest, package.size), Want::Package(suite.clone(), Arc::new(package.clone()))))
    };
    lock.packages.iter().map(with_suite).collect()
}

impl Want {
    /// Another image has the same blob: a second place to ask, if it is in another repository.
    fn also_at(&mut self, image: &Arc<ImageRef>) {
        if let Self::Blob { images, .. } = self
            && !images.iter().any(|known| known.name() == image.name())
        {
            images.push(image.clone());
        }
    }
}

async fn bring(net: &Net, store: &Arc<Store>, want: Want) -> Result<(), SourceError> {
    match want {
        Want::Chart(chart) => fetch_chart(net, store, &chart).await,
        Want::File(file) => fetch_file(net, store, &file).await,
        Want::Wheel(wheel) => fetch_wheel(net, store, &wheel).await,
        Want::Package(suite, package) => fetch_package(net, store, &suite, &package).await,
        Want::Blob { images, digest, size } => {
            let mut failed = None;
            for image in images {
                let last = image.repository.rsplit('/').next().unwrap_or_default();
                let label = format!("{last} {}", digest.short());
                match fetch_blob(net, store, &image, &digest, size, &label).await {
                    Err(error) if error.ask_another() => failed = Some(failed.unwrap_or(error)),
                    done => return done,
                }
            }
            failed.map_or(Ok(()), Err)
        }
    }
}

/// Runs all of `work`, in order, `jobs` at a time, each as a task of its own (hashing wants every core). The first error
/// aborts the others.
async fn all<F>(jobs: usize, work: impl Iterator<Item = F>) -> Result<(), SourceError>
where
    F: Future<Output = Result<(), SourceError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut work = work.into_iter();
    loop {
        while running.len() < jobs.max(1)
            && let Some(next) = work.next()
        {
            running.spawn(next);
        }
        match running.join_next().await {
            None => return Ok(()),
            Some(done) => done.map_err(|e| SourceError::Internal(e.to_string()))??,
        }
    }
}
