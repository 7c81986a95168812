//! A body into the store, under its digest.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::HeaderValue;
use url::Url;

use super::coding::{Coding, Undone, undo_file};
use super::sink::{ScratchSink, Sink};
use super::transfer::{Get, Progress, Received, transfer};
use crate::base::codec::Codec;
use crate::base::digest::{Digest, hash_reader};
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
    /// `Authorization`, sent to the URL's own origin only.
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
        let (partial, received) = fill(net, job, partial).await?;
        let joined = received.joined;
        let coded = Coding::declared(&received.head.headers).map(|coding| Coded {
            coding,
            in_name: coding.is_in_name(job.key),
            limit: job.size.unwrap_or(UNKNOWN_LIMIT),
        });
        match commit(store, partial, job.expected, coded).await {
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

async fn fill(net: &Net, job: &Download<'_>, mut partial: Partial) -> Result<(Partial, Received), SourceError> {
    let get =
        Get { auth: job.auth, size: job.size, checked: job.expected.is_some(), ..Get::new(job.url, UNKNOWN_LIMIT) };
    let mut progress = Progress::new(net.reporter(), job.label, job.size);
    let received = transfer(net, &get, &mut partial, &mut progress).await?;
    Ok((partial, received))
}

/// Committing syncs to disk, which takes long: other downloads go on meanwhile.
async fn commit(
    store: &Arc<Store>,
    mut partial: Partial,
    expected: Option<Digest>,
    coded: Option<Coded>,
) -> Result<(Digest, u64), SourceError> {
    let store = store.clone();
    let work = move || {
        if let Some(coded) = coded {
            coded.undo(&store, &mut partial, expected)?;
        }
        store.commit(partial, expected.as_ref(), "download")
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| SourceError::Internal(e.to_string()))?;
    Ok(done?)
}

/// A body whose response declared a coding.
struct Coded {
    coding: Coding,
    /// Whether the name says the same, so that the bytes may well be meant as they are.
    in_name: bool,
    /// The most bytes to make of it.
    limit: u64,
}

impl Coded {
    /// Makes `partial` hold the plain bytes, where those are what is wanted: those of the `expected` digest, if there is one.
    /// Else a file whose name ends as compressed files do stays so, unless it was compressed once more on the way.
    fn undo(&self, store: &Store, partial: &mut Partial, expected: Option<Digest>) -> Result<(), StoreError> {
        if expected.is_some_and(|expected| expected == partial.digest()) {
            return Ok(());
        }
        let undone = undo_file(store, self.coding, partial.reader()?, self.limit)?;
        let Undone::Plain(plain) = undone else { return Ok(()) };
        let size = plain.len();
        let mut file = plain.rewound()?;
        let failed = |e| StoreError::io(Path::new("a scratch file of the store"), "read", e);
        let wanted = match expected {
            Some(expected) => hash_reader(&mut file).map_err(failed)?.0 == expected,
            None => !self.in_name || codec_of(&mut file).map_err(failed)? != Codec::Plain,
        };
        if !wanted {
            return Ok(());
        }
        let mut file = ScratchSink::of(file, size).rewound()?;
        partial.restart()?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => return Ok(()),
                n => partial.write(&buffer[..n])?,
            }
        }
    }
}

fn codec_of(file: &mut std::fs::File) -> std::io::Result<Codec> {
    let mut head = Vec::new();
    file.take(6).read_to_end(&mut head)?;
    Ok(Codec::sniff(&head))
}
