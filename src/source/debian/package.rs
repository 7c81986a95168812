//! Locked packages: from the mirror of today, else from the snapshots that keep everything.

use std::sync::Arc;

use url::Url;

use super::DebianError;
use super::mirror::{self, Bases, ask};
use crate::model::debian::date;
use crate::model::lock::{LockedPackage, LockedSuite};
use crate::source::http::{Download, download};
use crate::source::{ErrorKind, Net, SourceError};
use crate::store::Store;

/// How much later than its Release file a package is sure to be in a snapshot: an archive keeps what it replaces for longer
/// than that, and takes hours to publish what it signs.
const LATER: u64 = 24 * 3600;

/// Brings a locked package into the store, unless it is there.
///
/// # Errors
/// Whatever keeps it from arriving with its digest. Where neither mirror nor snapshots have it, which snapshot does.
pub async fn fetch_package(
    net: &Net,
    store: &Arc<Store>,
    suite: &LockedSuite,
    package: &LockedPackage,
) -> Result<(), SourceError> {
    if store.has(&package.digest, package.size) {
        return Ok(());
    }
    let options = net.options();
    let bases = mirror::bases(options, &package.archive, suite.snapshot.as_deref(), suite.date + LATER)?;
    let failed = match bring(net, store, &bases, package).await {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        done => return done.map_err(|e| named(e, package)),
    };
    let snapshot = suite.snapshot.clone().unwrap_or_else(|| date::snapshot_name(suite.date.saturating_add(LATER)));
    let kept = mirror::snapshot_bases(options, &package.archive, &snapshot)?;
    if kept.urls != bases.urls {
        match bring(net, store, &kept, package).await {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unreachable) => {}
            done => return done.map_err(|e| named(e, package)),
        }
    }
    let asked = match &failed {
        SourceError::NotFound { url, .. } => url.clone(),
        _ => bases.origin,
    };
    let (archive, debian) = (package.archive.clone(), package.debian.clone());
    Err(DebianError::Vanished { package: package.label(), archive, asked, snapshot, debian }.into())
}

/// An error that says which package it is about; what is wrong with an archive or with the store is about more than one.
fn named(error: SourceError, package: &LockedPackage) -> SourceError {
    if matches!(error, SourceError::Debian(_) | SourceError::Store(_)) {
        return error;
    }
    let (package, debian) = (package.label(), package.debian.clone());
    DebianError::Package { package, debian, source: Box::new(error) }.into()
}

async fn bring(net: &Net, store: &Arc<Store>, bases: &Bases, package: &LockedPackage) -> Result<(), SourceError> {
    let label = format!("package {}", package.label());
    let (label, expected, size) = (&label, Some(package.digest), Some(package.size));
    let get = |url: Url| async move {
        let job = Download { url: &url, key: url.as_str(), label, expected, size, auth: None };
        download(net, store, &job).await
    };
    ask(net, bases, &package.path, get).await.map(drop)
}
