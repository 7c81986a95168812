//! Manifests: small, asked for often, and checked before the first byte leaves. Those asked for are kept in memory.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, IF_NONE_MATCH};

use super::State;
use super::catalog::Repository;
use super::reply::{self, Code, Refusal, Reply};
use super::request::{Name, Wanted};
use super::source::{Manifest, Sources};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::store::image::{self, MANIFEST_LIMIT};

/// How many bytes of manifests are kept.
const KEPT: usize = 16 << 20;

/// Manifests in memory; those that came first go first.
#[derive(Default)]
pub(super) struct ManifestCache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    by_digest: HashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
}

impl ManifestCache {
    fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).by_digest.get(digest).cloned()
    }

    fn put(&self, digest: Digest, bytes: &Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_digest.insert(digest, bytes.clone()).is_some() {
            return;
        }
        kept.bytes += bytes.len();
        kept.order.push_back(digest);
        while kept.bytes > KEPT {
            let Some(oldest) = kept.order.pop_front() else { return };
            let gone = kept.by_digest.remove(&oldest);
            kept.bytes -= gone.map_or(0, |b| b.len());
        }
    }
}

/// Answers `GET` and `HEAD` for a manifest.
pub(super) async fn get(
    state: &State,
    name: &Name,
    wanted: &Wanted,
    headers: &HeaderMap,
    head: bool,
) -> Result<Reply, Refusal> {
    let manifest = find(state, name, wanted).await?;
    let etag = format!("\"{}\"", manifest.digest);
    let same = |value: &str| value.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == etag);
    if headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(same) {
        let mut reply = reply::empty(StatusCode::NOT_MODIFIED);
        reply::set_digest(reply.headers_mut(), &manifest.digest);
        return Ok(reply);
    }
    let bytes = read(state, &manifest.digest).await?;
    let mut reply = match head {
        true => reply::head(StatusCode::OK, bytes.len() as u64),
        false => reply::whole(StatusCode::OK, bytes),
    };
    reply::set(reply.headers_mut(), CONTENT_TYPE, &manifest.media_type);
    reply::set_digest(reply.headers_mut(), &manifest.digest);
    Ok(reply)
}

/// Which manifest that is. What was pushed comes before what the sources hold.
async fn find(state: &State, name: &Name, wanted: &Wanted) -> Result<Manifest, Refusal> {
    if let Some(writable) = state.writable.as_ref().filter(|w| w.host == name.host)
        && let Some(manifest) = writable.pushed.manifest(&name.path, wanted).await?
    {
        return Ok(manifest);
    }
    let Some(repository) = state.catalog.repository(&name.host, &name.path) else {
        return Err(unknown_name(state, name).await);
    };
    let found = match wanted {
        Wanted::Tag(tag) => repository.tag(tag),
        Wanted::Digest(digest) => repository.manifest(digest),
    };
    match (found, wanted) {
        (Some(manifest), _) => Ok(manifest.clone()),
        (None, Wanted::Tag(tag)) => {
            let there: Vec<&str> = repository.tags().collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let message = format!("{}/{} has no tag `{tag}` here; tags there are: {there}", name.host, name.path);
            Err(Refusal::missing(Code::ManifestUnknown, message))
        }
        (None, Wanted::Digest(digest)) => Err(not_carried(state, name, repository, digest).await),
    }
}

/// Says that a repository is not there; one that only exists by what was pushed has no manifest of that name.
async fn unknown_name(state: &State, name: &Name) -> Refusal {
    let pushed = match &state.writable {
        Some(w) if w.host == name.host => w.pushed.has_repository(&name.path).await,
        _ => false,
    };
    let full = format!("{}/{}", name.host, name.path);
    match pushed {
        true => Refusal::missing(Code::ManifestUnknown, format!("{full} has no such manifest")),
        false => Refusal::missing(Code::NameUnknown, format!("there are no images of {full} here")),
    }
}

/// Multi-platform images travel as they are, with some of their platforms: says which, when another is asked for.
async fn not_carried(state: &State, name: &Name, repository: &Repository, digest: &Digest) -> Refusal {
    let full = format!("{}/{}", name.host, name.path);
    for (top, platforms) in &repository.carried {
        let Ok(bytes) = read(state, top).await else { continue };
        let Ok(index) = bounded::from_json::<image::Index>(&bytes) else { continue };
        let Some(entry) = index.manifests.iter().find(|m| m.digest == *digest) else { continue };
        let platform = entry.platform.as_ref().map_or_else(|| "this part".to_owned(), ToString::to_string);
        let message = format!("{platform} of {full} was not packed; there is {}", platforms.join(", "));
        return Refusal::missing(Code::ManifestUnknown, message);
    }
    Refusal::missing(Code::ManifestUnknown, format!("{full} has no manifest {digest} here"))
}

/// The bytes of a manifest, known to be right.
///
/// # Errors
/// Bytes that are not.
pub(super) async fn read(state: &State, digest: &Digest) -> Result<Bytes, Refusal> {
    if let Some(bytes) = state.manifests.get(digest) {
        return Ok(bytes);
    }
    let bytes = Bytes::from(read_checked(&state.sources, digest).map_err(|e| Refusal::internal(e.to_string()))?);
    state.manifests.put(*digest, &bytes);
    Ok(bytes)
}

fn read_checked(sources: &Sources, digest: &Digest) -> io::Result<Vec<u8>> {
    let failed = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("manifest {digest} {why}"));
    let blob = sources.open(digest).map_err(|e| failed(format!("can not be read: {e}")))?;
    let blob = blob.ok_or_else(|| failed("is gone".to_owned()))?;
    let mut bytes = Vec::new();
    let mut reader = blob.reader().take(MANIFEST_LIMIT + 1);
    reader.read_to_end(&mut bytes).map_err(|e| failed(format!("can not be read: {e}")))?;
    match Digest::of(&bytes) {
        found if found == *digest => Ok(bytes),
        found => Err(failed(format!("is damaged: its bytes have digest {found}"))),
    }
}
