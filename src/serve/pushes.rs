//! Pushes of blobs (distribution-spec, "Push"): in one piece, in chunks, or mounted.

use std::net::IpAddr;

use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE};
use hyper::{Method, Request, StatusCode};

use super::patient::Owed;
use super::reply::{self, Code, Refusal, Reply};
use super::request::{Asked, Name, parse_digest};
use super::route::{self, Query};
use super::upload::Upload;
use super::{State, Writable, put_manifest};
use crate::base::digest::Digest;

/// The upload's name, for clients that resume (Docker's API).
const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Answers a request that writes.
pub(super) async fn write(
    state: &State,
    writable: &Writable,
    client: IpAddr,
    request: &Request<()>,
    body: &mut Owed,
    asked: Asked,
    query: &Query,
) -> Result<Reply, Refusal> {
    match (request.method().clone(), asked) {
        (Method::POST, Asked::StartUpload(text)) => {
            let name = route::name(state, &text, query)?;
            start(state, writable, client, body, &name, query).await
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
            put_manifest::put(state, writable, request.headers(), body, &name, &wanted).await
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
    client: IpAddr,
    body: &mut Owed,
    name: &Name,
    query: &Query,
) -> Result<Reply, Refusal> {
    if let Some(text) = &query.mount {
        let digest = parse_digest(text)?;
        // Blobs are shared by all repositories: wherever it is to be mounted from, it is there or not.
        if state.blob_size(name, &digest).is_some() {
            return Ok(created(name, &digest));
        }
    }
    let mut upload = writable.uploads.fresh();
    if let Some(text) = &query.digest {
        let digest = parse_digest(text)?;
        upload.append(&writable.uploads, body).await?;
        upload.finish(digest).await?;
        return Ok(created(name, &digest));
    }
    let id = writable.uploads.register(upload, client)?;
    Ok(progress(StatusCode::ACCEPTED, &format!("/v2/{}/blobs/uploads/{id}", name.path), &id, 0))
}

async fn patch(
    writable: &Writable,
    request: &Request<()>,
    body: &mut Owed,
    name: &Name,
    id: &str,
) -> Result<Reply, Refusal> {
    let upload = writable.uploads.get(id)?;
    let mut upload = upload.lock().await;
    let path = format!("/v2/{}/blobs/uploads/{id}", name.path);
    in_order(request.headers(), &upload, &path)?;
    let appended = append(writable, body, &mut upload, id).await;
    upload.rest();
    appended?;
    Ok(progress(StatusCode::ACCEPTED, &path, id, upload.size))
}

async fn finish(
    writable: &Writable,
    request: &Request<()>,
    body: &mut Owed,
    name: &Name,
    id: &str,
    query: &Query,
) -> Result<Reply, Refusal> {
    let digest = query.digest.as_deref().ok_or_else(|| Refusal::bad(Code::DigestInvalid, "`digest` is missing"))?;
    let digest = parse_digest(digest)?;
    let upload = writable.uploads.get(id)?;
    let mut upload = upload.lock().await;
    in_order(request.headers(), &upload, &format!("/v2/{}/blobs/uploads/{id}", name.path))?;
    if let Err(refusal) = append(writable, body, &mut upload, id).await {
        upload.rest();
        return Err(refusal);
    }
    let finished = upload.finish(digest).await;
    // Another request may have forgotten it meanwhile.
    let _ = writable.uploads.forget(id);
    finished?;
    Ok(created(name, &digest))
}

/// Appends; an upload that cannot be gone on with is forgotten.
async fn append(writable: &Writable, body: &mut Owed, upload: &mut Upload, id: &str) -> Result<(), Refusal> {
    let appended = upload.append(&writable.uploads, body).await;
    writable.uploads.rests(id);
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
