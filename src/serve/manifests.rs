//! Manifests: small, asked for often, and checked before the first byte leaves. Those asked for are kept in memory.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::catalog::Repository;
use super::pool::CHUNK;
use super::reply::{self, Code, Refusal, Reply};
use super::request::{Name, Wanted};
use super::source::{Manifest, OpenBlob};
use super::{State, blobs, conditions};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::store::image;

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
    if let Some(reply) = conditions::settled(headers, &manifest.digest)? {
        return Ok(reply);
    }
    let mut reply = match read(state, &manifest.digest).await? {
        Found::Small(bytes) if head => reply::head(StatusCode::OK, bytes.len() as u64),
        Found::Small(bytes) => reply::whole(StatusCode::OK, bytes),
        Found::Large(blob) if head => reply::head(StatusCode::OK, blob.size),
        Found::Large(blob) => blobs::send(state, StatusCode::OK, &blob, (0, blob.size), None),
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
    for (indexes, platforms) in &repository.carried {
        for index in indexes {
            let Ok(Found::Small(bytes)) = read(state, index).await else { continue };
            let Ok(index) = bounded::from_json::<image::Index>(&bytes) else { continue };
            let Some(entry) = index.manifests.iter().find(|m| m.digest == *digest) else { continue };
            let platform = entry.platform.as_ref().map_or_else(|| "this part".to_owned(), ToString::to_string);
            let message = format!("{platform} of {full} was not packed; there is {}", platforms.join(", "));
            return Refusal::missing(Code::ManifestUnknown, message);
        }
    }
    Refusal::missing(Code::ManifestUnknown, format!("{full} has no manifest {digest} here"))
}

/// A manifest, known to be right.
enum Found {
    /// In memory.
    Small(Bytes),
    /// Larger than a chunk, so sent from its file: many clients that read slowly would hold as many in memory.
    Large(Arc<OpenBlob>),
}

/// A manifest's bytes.
///
/// # Errors
/// Bytes that are not what their digest says.
async fn read(state: &State, digest: &Digest) -> Result<Found, Refusal> {
    if let Some(bytes) = state.manifests.get(digest) {
        return Ok(Found::Small(bytes));
    }
    let failed = |e: io::Error| Refusal::internal(format!("manifest {digest} cannot be read: {e}"));
    let blob = state.sources.open(digest).map_err(failed)?;
    let blob = blob.ok_or_else(|| Refusal::internal(format!("manifest {digest} is gone")))?;
    if blob.size > CHUNK as u64 {
        state.checker.clone().ensure(blob.clone()).await.map_err(|e| Refusal::internal(e.to_string()))?;
        return Ok(Found::Large(blob));
    }
    let mut bytes = Vec::new();
    blob.reader().read_to_end(&mut bytes).map_err(failed)?;
    match Digest::of(&bytes) {
        found if found == *digest => {
            let bytes = Bytes::from(bytes);
            state.manifests.put(*digest, &bytes);
            Ok(Found::Small(bytes))
        }
        found => {
            let why = format!("manifest {digest} is damaged: its bytes have digest {found}");
            state.alarm.damaged(digest, &blob.from, &why);
            Err(Refusal::internal(why))
        }
    }
}
