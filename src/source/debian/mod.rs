//! Debian archives: which packages a set needs, from signed indices, and the packages themselves.
//!
//! | file | holds |
//! |---|---|
//! | `mirror` | where an archive is |
//! | `release`, `verify` | Release files and their signatures |
//! | `index`, `shorten`, `odd`, `ahead` | package indices, their short form in the store |
//! | `universe` | all packages of an architecture, merged over suites |
//! | `resolve`, `explain` | the closure of a set, and why there is none |
//! | `package` | locked packages into the store |

pub mod mirror;

mod ahead;
mod error;
mod explain;
mod index;
mod odd;
mod package;
mod release;
mod resolve;
mod shorten;
mod universe;
mod verify;

pub use error::DebianError;
pub use package::fetch_package;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use self::index::Place;
use self::release::{Release, SuiteAt, fetch_release};
use self::universe::{Id, Source, Universe};
use super::file::blocking;
use super::{Net, SourceError};
use crate::base::digest::Digest;
use crate::model::lock::{LockedPackage, LockedSuite, PackageSet};
use crate::store::Store;

/// How many indices are read at once: each takes a core and some tens of megabytes.
const INDICES: usize = 2;

/// One `[debian.NAME]` table, and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuiteRequest {
    /// The table's name.
    pub debian: String,
    /// Suites, in the order in which equal versions are preferred.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// The archive; suites that end in `-security` are of `<archive>-security`.
    pub archive: String,
    /// The snapshot, as `20261101T000000Z`.
    pub snapshot: Option<String>,
    /// Keyring that signs it; Debian's of this machine where there is none.
    pub keyring: Option<PathBuf>,
    /// The time it is, seconds since 1970.
    pub now: u64,
    /// What is wanted.
    pub sets: Vec<PackageSet>,
}

/// What a lock keeps of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The suites, in the order asked for.
    pub suites: Vec<LockedSuite>,
    /// Packages of all sets, each once, in a lock's order.
    pub packages: Vec<LockedPackage>,
}

/// Resolves all sets of one table.
///
/// # Errors
/// A suite that can not be had or trusted, an index that is malformed, a set that can not be: see [`DebianError`].
pub async fn resolve(net: &Net, store: &Arc<Store>, request: &SuiteRequest) -> Result<Resolved, SourceError> {
    let mut suites = Vec::new();
    for suite in &request.suites {
        let at = suite_at(net, request, suite)?;
        let release = fetch_release(net, store, &at).await?;
        suites.push((at, Arc::new(release)));
    }
    let mut chosen = BTreeMap::new();
    let architectures: BTreeSet<&String> = request.sets.iter().map(|set| &set.architecture).collect();
    // One after the other: the indices of one architecture take most of the memory we may use.
    for architecture in architectures {
        let sources = sources(net, store, request, &suites, architecture).await?;
        let (request, architecture) = (request.clone(), architecture.clone());
        let found = blocking(store, move |_| closures(&sources, &request, &architecture)).await?;
        for package in found {
            let key = (package.name.clone(), package.architecture.clone(), package.version.clone(), package.digest);
            let known = chosen.entry(key).or_insert_with(|| LockedPackage { sets: Vec::new(), ..package.clone() });
            known.sets.extend(package.sets);
        }
    }
    let mut packages: Vec<LockedPackage> = chosen.into_values().collect();
    packages.iter_mut().for_each(|package| {
        package.sets.sort();
        package.sets.dedup();
    });
    packages.sort_by(|a, b| a.key().cmp(&b.key()));
    let suites = suites.iter().map(|(at, release)| locked_suite(request, at, release)).collect();
    Ok(Resolved { suites, packages })
}

fn suite_at(net: &Net, request: &SuiteRequest, suite: &str) -> Result<SuiteAt, SourceError> {
    if suite.is_empty() || suite.contains(|c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c))) {
        let why = "a suite's name has letters, digits, and - . _ in it".to_owned();
        return Err(SourceError::Setting { what: format!("suite `{suite}`"), why });
    }
    let archive = archive_of(request, suite);
    Ok(SuiteAt {
        suite: suite.to_owned(),
        bases: mirror::bases(net.options(), &archive, request.snapshot.as_deref(), request.now)?,
        archive,
        snapshot: request.snapshot.clone(),
        keyring: request.keyring.clone(),
        now: request.now,
    })
}

fn archive_of(request: &SuiteRequest, suite: &str) -> String {
    let security = suite.ends_with("-security") && !request.archive.ends_with("-security");
    if security { format!("{}-security", request.archive) } else { request.archive.clone() }
}

fn locked_suite(request: &SuiteRequest, at: &SuiteAt, release: &Release) -> LockedSuite {
    let components: BTreeSet<String> = request.components.iter().cloned().collect();
    LockedSuite {
        debian: request.debian.clone(),
        suite: at.suite.clone(),
        archive: at.archive.clone(),
        components: components.into_iter().collect(),
        snapshot: at.snapshot.clone(),
        date: release.date,
        digest: release.digest,
    }
}

/// The indices of one architecture, in the order of the suites, then of the components.
async fn sources(
    net: &Net,
    store: &Arc<Store>,
    request: &SuiteRequest,
    suites: &[(SuiteAt, Arc<Release>)],
    architecture: &str,
) -> Result<Vec<Source>, SourceError> {
    let mut wanted = Vec::new();
    for (number, (at, release)) in suites.iter().enumerate() {
        for component in &request.components {
            release.check(&at.suite, component, architecture)?;
            for architecture in [Some(architecture), release.split_all.then_some("all")].into_iter().flatten() {
                let (suite, component, architecture) = (at.suite.clone(), component.clone(), architecture.to_owned());
                wanted.push((number, at.bases.clone(), release.clone(), Place { suite, component, architecture }));
            }
        }
    }
    let loads = wanted.into_iter().map(|(suite, bases, release, place)| {
        let (net, store) = (net.clone(), store.clone());
        async move {
            let text = index::load(&net, &store, &bases, &release, &place).await?;
            Ok(Source { suite, text })
        }
    });
    stream::iter(loads).buffered(INDICES).collect::<Vec<_>>().await.into_iter().collect()
}

/// The closures of all sets of one architecture; a package comes once for each set it is in.
fn closures(sources: &[Source], request: &SuiteRequest, architecture: &str) -> Result<Vec<LockedPackage>, SourceError> {
    let all = Universe::new(sources, &request.suites, architecture);
    let mut found = Vec::new();
    for set in request.sets.iter().filter(|set| set.architecture == architecture) {
        for id in resolve::resolve(&all, set)? {
            found.push(locked_package(&all, id, request, &set.name)?);
        }
    }
    Ok(found)
}

fn locked_package(all: &Universe<'_>, id: Id, request: &SuiteRequest, set: &str) -> Result<LockedPackage, SourceError> {
    let lost = || SourceError::Internal(format!("package {} has no entry", all.name(id)));
    let row = all.row(id).ok_or_else(lost)?;
    let suite = request.suites.get(all.suite(id)).cloned().ok_or_else(lost)?;
    Ok(LockedPackage {
        debian: request.debian.clone(),
        name: row.name.to_owned(),
        version: row.version.to_owned(),
        architecture: row.architecture.to_owned(),
        archive: archive_of(request, &suite),
        suite,
        path: row.path.to_owned(),
        digest: Digest::from_hex(row.sha256).map_err(|e| SourceError::Internal(e.to_string()))?,
        size: row.size,
        sets: vec![set.to_owned()],
    })
}

/// Doors of `source::fuzzing`.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use super::{index, release, shorten};

    pub(in crate::source) fn release(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let digest = crate::base::digest::Digest::of(b"");
        let _ = release::parse(&text, "https://archive.example/InRelease", digest, "bookworm");
    }

    pub(in crate::source) fn packages(data: &[u8]) {
        let Ok(short) = shorten::shorten(data, "https://archive.example/Packages", "amd64") else { return };
        // What was written is read again.
        assert!(short.lines().all(|line| index::Row::parse(line).is_some()), "{short}");
    }
}
