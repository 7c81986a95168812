//! Pushes of manifests: the last step of a push, after which the image can be had.

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use serde::Deserialize;
use tokio::sync::SemaphorePermit;

use super::patient::Owed;
use super::pool::CHUNK;
use super::pushed::blocking;
use super::referrers::{self, Referrer};
use super::reply::{self, Code, Refusal, Reply};
use super::request::{Name, Wanted};
use super::source::Manifest;
use super::upload::Upload;
use super::{State, Writable};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::base::null;
use crate::store::image::{Descriptor, MANIFEST_LIMIT};

/// The longest media type of a manifest, in bytes (RFC 6838 has 127 for each half).
const MEDIA_TYPE_LIMIT: usize = 255;
/// How many manifests larger than [`CHUNK`] are in memory at a time.
pub(super) const LARGE_AT_A_TIME: usize = 4;
/// How long all of a manifest may take to come.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// The bytes of a manifest, and the right to have so many of them in memory.
struct Received<'a> {
    bytes: Vec<u8>,
    _turn: Option<SemaphorePermit<'a>>,
}

/// Answers `PUT` of a manifest.
pub(super) async fn put(
    state: &State,
    writable: &Writable,
    headers: &HeaderMap,
    body: &mut Owed,
    name: &Name,
    wanted: &Wanted,
) -> Result<Reply, Refusal> {
    let declared = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let stalled = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::ManifestInvalid, "nothing came for long");
    let received = tokio::time::timeout(WITHIN, receive(writable, body)).await.map_err(stalled)??;
    let digest = Digest::of(&received.bytes);
    if let Wanted::Digest(wanted) = wanted
        && *wanted != digest
    {
        let message = format!("what was pushed has digest {digest}, not {wanted}");
        return Err(Refusal::bad(Code::DigestInvalid, message));
    }
    let media_type = judge(state, writable, name, &received.bytes, declared).await?;
    let manifest = Manifest { digest, media_type };
    let referrer = referrers::referrer(&manifest, &received.bytes);
    let subject = referrer.as_ref().map(|(subject, _)| *subject);
    let tag = match wanted {
        Wanted::Tag(tag) => Some(tag.clone()),
        Wanted::Digest(_) => None,
    };
    store(writable, name, received, manifest, referrer, tag).await?;
    let mut reply = reply::empty(StatusCode::CREATED);
    reply::set(reply.headers_mut(), LOCATION, &format!("/v2/{}/manifests/{digest}", name.path));
    reply::set_digest(reply.headers_mut(), &digest);
    if let Some(subject) = subject {
        reply::set(reply.headers_mut(), referrers::SUBJECT, &subject.to_string());
    }
    Ok(reply)
}

/// All of the body. What is larger than a chunk waits on the disk until it is whole: many clients may send the half of one.
async fn receive<'a>(writable: &'a Writable, body: &mut Owed) -> Result<Received<'a>, Refusal> {
    let too_large = || {
        let message = format!("a manifest has at most {MANIFEST_LIMIT} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)
    };
    if body.size_hint().lower() > MANIFEST_LIMIT {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut spool: Option<Upload> = None;
    while let Some(frame) = body.frame().await {
        let early = |e| Refusal::bad(Code::ManifestInvalid, format!("the body ended early: {e}"));
        let Ok(data) = frame.map_err(early)?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if spool.as_ref().map_or(0, |s| s.size) + bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(too_large());
        }
        if bytes.len() > CHUNK {
            let spool = spool.get_or_insert_with(|| writable.uploads.fresh());
            bytes = spool.write(&writable.uploads, bytes).await?;
            bytes.clear();
        }
    }
    let Some(mut spool) = spool else { return Ok(Received { bytes, _turn: None }) };
    drop(spool.write(&writable.uploads, bytes).await?);
    let turn = writable.large.acquire().await.map_err(|e| Refusal::internal(e.to_string()))?;
    Ok(Received { bytes: spool.into_bytes().await?, _turn: Some(turn) })
}

/// First the bytes, then the names.
async fn store(
    writable: &Writable,
    name: &Name,
    received: Received<'_>,
    manifest: Manifest,
    referrer: Option<(Digest, Referrer)>,
    tag: Option<String>,
) -> Result<(), Refusal> {
    let (pushed, path, length) = (writable.pushed.clone(), name.path.clone(), received.bytes.len() as u64);
    let Received { bytes, _turn } = received;
    writable.uploads.reserve(length)?;
    let work = pushed.clone();
    let stored = blocking(move || {
        let (mut file, spool) = work.spool()?.into_parts();
        std::io::Write::write_all(&mut file, &bytes)?;
        let new = work.keep(spool, &file, &manifest.digest)?;
        if let Some((subject, referrer)) = &referrer {
            work.refer(&path, subject, referrer)?;
        }
        work.name(&path, &manifest, tag.as_deref())?;
        Ok(new)
    })
    .await;
    if !matches!(stored, Ok(true)) {
        pushed.release(length);
    }
    stored.map(drop)
}

/// What of a manifest is looked at: image-spec's manifest or index, Docker's, or an artifact's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pushing {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null::absent")]
    layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null::absent")]
    manifests: Vec<Descriptor>,
}

/// Whether it is a manifest, of what type, and all that it names is there.
async fn judge(
    state: &State,
    writable: &Writable,
    name: &Name,
    bytes: &[u8],
    declared: Option<String>,
) -> Result<String, Refusal> {
    let invalid = |why: String| Refusal::bad(Code::ManifestInvalid, why);
    let manifest: Pushing = bounded::from_json(bytes).map_err(|e| invalid(format!("not a manifest: {e}")))?;
    if manifest.schema_version != 2 {
        return Err(invalid(format!("schema version {} is not 2", manifest.schema_version)));
    }
    let media_type = match (declared, manifest.media_type) {
        (Some(declared), Some(inside)) if declared != inside => {
            return Err(invalid(format!("it is sent as `{declared}` and calls itself `{inside}`")));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type,
        (None, None) => return Err(invalid("its media type is not told".to_owned())),
    };
    if media_type.len() > MEDIA_TYPE_LIMIT || media_type.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(invalid("its media type is none".to_owned()));
    }
    let blobs = manifest.config.iter().chain(manifest.layers.iter().filter(|layer| layer.urls.is_empty()));
    for blob in blobs {
        match state.blob_size(name, &blob.digest) {
            Some(size) if size == blob.size => {}
            Some(size) => return Err(invalid(format!("blob {} has {size} bytes, not {}", blob.digest, blob.size))),
            None => {
                let message = format!("blob {} was not pushed", blob.digest);
                return Err(Refusal::bad(Code::ManifestBlobUnknown, message));
            }
        }
    }
    for part in &manifest.manifests {
        let own = state.catalog.repository(&name.host, &name.path).is_some_and(|r| r.manifest(&part.digest).is_some());
        if !own && writable.pushed.manifest(&name.path, &Wanted::Digest(part.digest)).await?.is_none() {
            let message = format!("manifest {} was not pushed to this repository", part.digest);
            return Err(Refusal::bad(Code::ManifestBlobUnknown, message));
        }
    }
    Ok(media_type)
}
