//! Python wheels, resolved by `pip` and locked by file name and digest.
//!
//! pip chooses; labimg asks it in an environment of its own (nothing installed, no configuration but the index, no cache,
//! no source distributions), checks what it chose against the index, and brings the files itself.
//!
//! | file | holds |
//! |---|---|
//! | `config` | which indexes: a mirror of the settings, else what the caller's pip is configured with |
//! | `pip` | one run of pip, and its report |
//! | `refusal` | what pip's failure means |
//! | `page` | a project's page on an index |
//! | `find` | a file on the indexes |
//!
//! What is not here: a second run of pip with every digest as a requirement. With digests asked for, pip downloads every
//! file, for a check that happens anyway: the digests pip reports are compared with the index's here, and the bytes with
//! the digests whenever a file is brought.

mod config;
pub mod error;
mod find;
mod page;
mod pip;
mod refusal;

use std::sync::Arc;

use tokio::task::JoinSet;

pub(super) use config::Indexes;
pub use error::WheelError;

use super::http::{Download, download};
use super::{Net, SourceError};
use crate::base::digest::Digest;
use crate::model::lock::LockedWheel;
use crate::model::platform::Platform;
use crate::model::wheel::{PythonVersion, WheelName, machine, normalized};
use crate::store::Store;

/// The most wheels one resolution may have.
const MOST_WHEELS: usize = 2000;

/// Wheels a profile asks for, for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelRequest {
    /// The profile's name for them.
    pub name: String,
    /// Requirements (PyPA, "Dependency specifiers"), each with any number of `--hash=sha256:…` behind it; with one of
    /// these, pip wants them of everything.
    pub requirements: Vec<String>,
    /// Python they are for, as `3.11`.
    pub python: String,
    /// Platform they are for.
    pub platform: Platform,
}

/// A file as it was found on an index.
struct Found {
    url: url::Url,
    digest: Option<Digest>,
    size: Option<u64>,
    auth: Option<reqwest::header::HeaderValue>,
}

/// Chooses wheels that satisfy the request, and says what they are; their `sets` are left empty. A wheel whose size the
/// index does not tell is downloaded.
///
/// # Errors
/// [`WheelError`] for what pip can not do or find; the network's own failures; a file that the index lists with another
/// digest than pip reports.
pub async fn resolve(net: &Net, store: &Arc<Store>, request: &WheelRequest) -> Result<Vec<LockedWheel>, SourceError> {
    let target = Target::of(request)?;
    for requirement in &request.requirements {
        pip::check_requirement(requirement)?;
    }
    if request.requirements.is_empty() {
        return Ok(Vec::new());
    }
    let indexes = net.wheel_indexes().await?;
    let report = match pip::run(net, indexes, request, target).await? {
        Ok(report) => report,
        Err(said) => return Err(refusal::explain(indexes, &said, target).await),
    };
    if !report.for_target(target) {
        net.reporter().warn(&format!(
            "wheels {}: this pip judges conditions of requirements (`; python_version < …`) for this machine, not for \
             Python {} on {}",
            request.name, target.python, target.platform
        ));
    }
    if report.install.len() > MOST_WHEELS {
        return Err(
            WheelError::Pip { said: format!("{} wheels, more than {MOST_WHEELS}", report.install.len()) }.into()
        );
    }
    let mut running = JoinSet::new();
    for chosen in report.install {
        let (net, store) = (net.clone(), store.clone());
        running.spawn(async move { lock_one(&net, &store, &chosen, target).await });
    }
    let mut wheels = Vec::new();
    while let Some(done) = running.join_next().await {
        wheels.push(done.map_err(|e| SourceError::Internal(e.to_string()))??);
    }
    wheels.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(wheels)
}

/// Brings a locked wheel, unless the store has it.
///
/// # Errors
/// A file that no index has any more or that is another one there, and the network's own failures.
pub async fn fetch_wheel(net: &Net, store: &Arc<Store>, wheel: &LockedWheel) -> Result<(), SourceError> {
    if store.has(&wheel.digest, wheel.size) {
        return Ok(());
    }
    let indexes = net.wheel_indexes().await?;
    let found = find::file(indexes, &wheel.project, &wheel.file).await?;
    same_digest(&found, wheel.digest)?;
    bring(indexes, store, &wheel.file, &found, Some(wheel.digest), Some(wheel.size)).await.map(|_| ())
}

/// What wheels must run on.
#[derive(Debug, Clone, Copy)]
struct Target {
    python: PythonVersion,
    platform: Platform,
    machine: &'static str,
}

impl Target {
    fn of(request: &WheelRequest) -> Result<Self, WheelError> {
        let python = PythonVersion::parse(&request.python).map_err(|e| WheelError::Request { why: e.to_string() })?;
        let platform = request.platform;
        let machine = machine(platform).ok_or_else(|| WheelError::Request {
            why: format!("wheels are for images, and images are not for {platform}"),
        })?;
        Ok(Self { python, platform, machine })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Python {} on {}", self.python, self.platform)
    }
}

/// Checks what pip chose, and completes it.
async fn lock_one(
    net: &Net,
    store: &Arc<Store>,
    chosen: &pip::Chosen,
    target: Target,
) -> Result<LockedWheel, SourceError> {
    let file = chosen.file()?;
    let name = WheelName::parse(&file).map_err(|e| WheelError::Pip { said: e.to_string() })?;
    let project = normalized(&chosen.metadata.name);
    if name.project() != project || !name.tag.fits(target.python, target.platform) {
        let said = format!("it chose `{file}` for {project} on {target}");
        return Err(WheelError::Pip { said }.into());
    }
    let indexes = net.wheel_indexes().await?;
    let found = find::file(indexes, &project, &file).await?;
    let reported = chosen.digest()?;
    if let Some(reported) = reported {
        same_digest(&found, reported)?;
    }
    let expected = reported.or(found.digest);
    let (digest, size) = match (expected, found.size) {
        (Some(digest), Some(size)) => (digest, size),
        (_, size) => bring(indexes, store, &file, &found, expected, size).await?,
    };
    Ok(LockedWheel { file, project, version: chosen.metadata.version.clone(), digest, size, sets: Vec::new() })
}

fn same_digest(found: &Found, expected: Digest) -> Result<(), SourceError> {
    match found.digest.filter(|d| *d != expected) {
        None => Ok(()),
        Some(other) => {
            let url = crate::model::url_policy::shown(found.url.as_str());
            Err(SourceError::Mismatch { url, expected, found: other })
        }
    }
}

async fn bring(
    indexes: &Indexes,
    store: &Arc<Store>,
    file: &str,
    found: &Found,
    expected: Option<Digest>,
    size: Option<u64>,
) -> Result<(Digest, u64), SourceError> {
    let label = format!("wheel {file}");
    let key = found.url.as_str();
    let job = Download { url: &found.url, key, label: &label, expected, size, auth: found.auth.as_ref() };
    download(indexes.net(), store, &job).await
}

/// Doors of `source::fuzzing`.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    pub(in crate::source) fn page(content_type: &str, data: &[u8], base: &url::Url) {
        let _ = super::page::read(content_type, data, base);
    }
}
