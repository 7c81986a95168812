//! A body into the store, under its digest.

use std::sync::Arc;

use reqwest::header::HeaderValue;
use url::Url;

use super::transfer::{Get, Progress, transfer};
use crate::base::digest::Digest;
use crate::source::{Net, SourceError};
use crate::store::{Claim, Partial, PartialKey, Store, StoreError};

/// The most bytes taken of something whose size nobody knows.
const UNKNOWN_LIMIT: u64 = 64 << 30;

/// Something to be downloaded.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// Where from.
    pub url: &'a Url,
    /// What to file the part under when no digest is known: the upstream URL, also when a mirror is asked.
    pub key: &'a str,
    /// What a person would call it.
    pub label: &'a str,
    /// Its digest, where known.
    pub expected: Option<Digest>,
    /// Its size in bytes, where known.
    pub size: Option<u64>,
    /// `Authorization`, sent to the URL's own host only.
    pub auth: Option<&'a HeaderValue>,
}

/// Brings the body into the store, going on from what an earlier try or run left. Gives its digest and size.
///
/// # Errors
/// Whatever keeps it from arriving whole and with the expected digest. The part is kept for the next run unless it is
/// known to be wrong.
pub async fn download(net: &Net, store: &Arc<Store>, job: &Download<'_>) -> Result<(Digest, u64), SourceError> {
    let key = job.expected.map_or_else(|| PartialKey::url(job.key), PartialKey::Digest);
    let mut again = true;
    loop {
        let partial = match (store.claim(key).await?, job.expected) {
            (Claim::Write(partial), _) => *partial,
            (Claim::Present(size), Some(digest)) => return present(store, job, digest, size),
            (Claim::Present(_), None) => {
                return Err(SourceError::Internal("a part without digest is present".to_owned()));
            }
        };
        let (partial, joined) = fill(net, job, partial).await?;
        match commit(store, partial, job.expected).await {
            // What an earlier run or another response left may be to blame: once more, from nothing.
            Err(SourceError::Store(StoreError::Mismatch { .. })) if joined && again => {
                again = false;
                net.reporter()
                    .note(&format!("{}: the joined parts have a wrong digest; from the start again", job.label));
            }
            Err(SourceError::Store(StoreError::Mismatch { expected, found, .. })) => {
                return Err(SourceError::Mismatch { url: super::send::shown(job.url), expected, found });
            }
            other => return other,
        }
    }
}

/// A blob that is there: its size must be the one asked for, as its bytes are those of its name.
fn present(store: &Store, job: &Download<'_>, digest: Digest, size: u64) -> Result<(Digest, u64), SourceError> {
    match job.size.filter(|want| *want != size) {
        None => Ok((digest, size)),
        Some(want) => Err(SourceError::Store(StoreError::Damaged {
            path: store.blob_path(&digest),
            why: format!("it has {size} bytes, not {want}"),
        })),
    }
}

async fn fill(net: &Net, job: &Download<'_>, mut partial: Partial) -> Result<(Partial, bool), SourceError> {
    let get =
        Get { auth: job.auth, size: job.size, checked: job.expected.is_some(), ..Get::new(job.url, UNKNOWN_LIMIT) };
    let mut progress = Progress::new(net.reporter(), job.label, job.size);
    let received = transfer(net, &get, &mut partial, &mut progress).await?;
    Ok((partial, received.joined))
}

/// Committing syncs to disk, which takes long: other downloads go on meanwhile.
async fn commit(store: &Arc<Store>, partial: Partial, expected: Option<Digest>) -> Result<(Digest, u64), SourceError> {
    let store = store.clone();
    let work = move || store.commit(partial, expected.as_ref(), "download");
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| SourceError::Internal(e.to_string()))?;
    Ok(done?)
}
