//! Pushes (distribution-spec, "Push"): blobs in one piece, in chunks, or mounted; then the manifest that names them.

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RANGE};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;

use super::pushed::blocking;
use super::reply::{self, Code, Refusal, Reply};
use super::request::{Asked, Name, Wanted, parse_digest};
use super::route::{self, Query};
use super::source::Manifest;
use super::uploads::Upload;
use super::{State, Writable};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::store::image::{Descriptor, MANIFEST_LIMIT};

/// The upload's name, for clients that resume (Docker's API).
const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// The longest media type of a manifest, in bytes (RFC 6838 has 127 for each half).
const MEDIA_TYPE_LIMIT: usize = 255;

/// Answers a request that writes.
pub(super) async fn write(
    state: &State,
    writable: &Writable,
    request: &Request<()>,
    body: &mut Incoming,
    asked: Asked,
    query: &Query,
) -> Result<Reply, Refusal> {
    match (request.method().clone(), asked) {
        (Method::POST, Asked::StartUpload(text)) => {
            let name = route::name(state, &text, query)?;
            start(state, writable, body, &name, query).await
        }
        (Method::PATCH, Asked::Upload(text, id)) => {
            let name = route::name(state, &text, query)?;
            patch(writable, request, body, &name, &id).await
        }
        (Method::PUT, Asked::Upload(text, id)) => {
            let name = route::name(state, &text, query)?;
            finish(writable, request, body, &name, &id, query).await
        }
        (Method::DELETE, Asked::Upload(_, id)) => {
            writable.uploads.forget(&id)?;
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
        (Method::PUT, Asked::Manifest(text, wanted)) => {
            let name = route::name(state, &text, query)?;
            put_manifest(state, writable, request, body, &name, &wanted).await
        }
        (Method::DELETE, _) => {
            Err(Refusal::unsupported("GET, HEAD, PUT", "what was pushed stays: nothing is deleted here"))
        }
        _ => Err(Refusal::unsupported("GET, HEAD, POST, PUT, PATCH", "this method means nothing here")),
    }
}

/// Tells how far an upload is.
pub(super) async fn status(writable: &Writable, id: &str, path: &str) -> Result<Reply, Refusal> {
    let upload = writable.uploads.get(id)?;
    let size = upload.lock().await.size;
    Ok(progress(StatusCode::NO_CONTENT, path, id, size))
}

async fn start(
    state: &State,
    writable: &Writable,
    body: &mut Incoming,
    name: &Name,
    query: &Query,
) -> Result<Reply, Refusal> {
    if let Some(text) = &query.mount {
        let digest = parse_digest(text)?;
        // Blobs are shared by all repositories: wherever it is to be mounted from, it is there or not.
        if state.sources.size(&digest).is_some() {
            return Ok(created(name, &digest));
        }
    }
    let mut upload = writable.uploads.fresh().await?;
    if let Some(text) = &query.digest {
        let digest = parse_digest(text)?;
        upload.append(body).await?;
        upload.finish(digest).await?;
        return Ok(created(name, &digest));
    }
    let id = writable.uploads.register(upload)?;
    Ok(progress(StatusCode::ACCEPTED, &format!("/v2/{}/blobs/uploads/{id}", name.path), &id, 0))
}

async fn patch(
    writable: &Writable,
    request: &Request<()>,
    body: &mut Incoming,
    name: &Name,
    id: &str,
) -> Result<Reply, Refusal> {
    let upload = writable.uploads.get(id)?;
    let mut upload = upload.lock().await;
    let path = format!("/v2/{}/blobs/uploads/{id}", name.path);
    in_order(request.headers(), &upload, &path)?;
    append(writable, body, &mut upload, id).await?;
    Ok(progress(StatusCode::ACCEPTED, &path, id, upload.size))
}

async fn finish(
    writable: &Writable,
    request: &Request<()>,
    body: &mut Incoming,
    name: &Name,
    id: &str,
    query: &Query,
) -> Result<Reply, Refusal> {
    let digest = query.digest.as_deref().ok_or_else(|| Refusal::bad(Code::DigestInvalid, "`digest` is missing"))?;
    let digest = parse_digest(digest)?;
    let upload = writable.uploads.get(id)?;
    let mut upload = upload.lock().await;
    in_order(request.headers(), &upload, &format!("/v2/{}/blobs/uploads/{id}", name.path))?;
    append(writable, body, &mut upload, id).await?;
    let finished = upload.finish(digest).await;
    // Another request may have forgotten it meanwhile.
    let _ = writable.uploads.forget(id);
    finished?;
    Ok(created(name, &digest))
}

/// Appends; an upload that can not be gone on with is forgotten.
async fn append(writable: &Writable, body: &mut Incoming, upload: &mut Upload, id: &str) -> Result<(), Refusal> {
    let appended = upload.append(body).await;
    if appended.is_err() && !upload.is_sound() {
        let _ = writable.uploads.forget(id);
    }
    appended
}

/// A chunk that says where it belongs must belong at the end.
fn in_order(headers: &HeaderMap, upload: &Upload, path: &str) -> Result<(), Refusal> {
    let Some(range) = headers.get(CONTENT_RANGE) else { return Ok(()) };
    let invalid = || Refusal::bad(Code::BlobUploadInvalid, "`Content-Range` is not `FIRST-LAST`");
    let text = range.to_str().map_err(|_| invalid())?;
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let (first, last) = text.split('/').next().and_then(|t| t.split_once('-')).ok_or_else(invalid)?;
    let (first, last): (u64, u64) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let fits = last.checked_sub(first).and_then(|n| n.checked_add(1));
    if first != upload.size || length.is_some_and(|length| Some(length) != fits) {
        let message = format!("this chunk does not go on where the upload is: at byte {}", upload.size);
        let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, message);
        return Err(refusal.with(LOCATION, path).with(RANGE, so_far(upload.size)));
    }
    Ok(())
}

async fn put_manifest(
    state: &State,
    writable: &Writable,
    request: &Request<()>,
    body: &mut Incoming,
    name: &Name,
    wanted: &Wanted,
) -> Result<Reply, Refusal> {
    let declared = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let too_large = |_| {
        let message = format!("a manifest has at most {MANIFEST_LIMIT} bytes, and all of them must come");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)
    };
    let body = Limited::new(body, MANIFEST_LIMIT as usize).collect();
    let stalled = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::ManifestInvalid, "nothing came for long");
    let limit = std::time::Duration::from_secs(60);
    let bytes = tokio::time::timeout(limit, body).await.map_err(stalled)?.map_err(too_large)?.to_bytes();
    let digest = Digest::of(&bytes);
    if let Wanted::Digest(wanted) = wanted
        && *wanted != digest
    {
        let message = format!("what was pushed has digest {digest}, not {wanted}");
        return Err(Refusal::bad(Code::DigestInvalid, message));
    }
    let media_type = judge(state, writable, name, &bytes, declared).await?;
    let tag = match wanted {
        Wanted::Tag(tag) => Some(tag.clone()),
        Wanted::Digest(_) => None,
    };
    store(writable, name, bytes, Manifest { digest, media_type }, tag).await?;
    let mut reply = reply::empty(StatusCode::CREATED);
    reply::set(reply.headers_mut(), LOCATION, &format!("/v2/{}/manifests/{digest}", name.path));
    reply::set_digest(reply.headers_mut(), &digest);
    Ok(reply)
}

/// First the bytes, then the names.
async fn store(
    writable: &Writable,
    name: &Name,
    bytes: Bytes,
    manifest: Manifest,
    tag: Option<String>,
) -> Result<(), Refusal> {
    let (pushed, path, length) = (writable.pushed.clone(), name.path.clone(), bytes.len() as u64);
    pushed.reserve(length)?;
    let work: Arc<super::pushed::Pushed> = pushed.clone();
    let stored = blocking(move || {
        let mut file = work.spool()?;
        std::io::Write::write_all(&mut file, &bytes)?;
        let new = work.keep(file, &manifest.digest)?;
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
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
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
        match state.sources.size(&blob.digest) {
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

fn created(name: &Name, digest: &Digest) -> Reply {
    let mut reply = reply::empty(StatusCode::CREATED);
    reply::set(reply.headers_mut(), LOCATION, &format!("/v2/{}/blobs/{digest}", name.path));
    reply::set_digest(reply.headers_mut(), digest);
    reply
}

fn progress(status: StatusCode, path: &str, id: &str, size: u64) -> Reply {
    let mut reply = reply::empty(status);
    let headers = reply.headers_mut();
    reply::set(headers, LOCATION, path);
    reply::set(headers, RANGE, &so_far(size));
    reply::set(headers, UPLOAD_UUID, id);
    reply
}

/// The last byte that is there; an upload without bytes is told as `0-0`, as Docker's registry does it.
fn so_far(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}
