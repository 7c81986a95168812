//! Answers: headers of every answer, and errors in the form of distribution-spec ("Error Codes").

use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::ReplyBody;
use crate::base::digest::Digest;

/// An answer.
pub(super) type Reply = Response<ReplyBody>;

/// The digest of what is answered (distribution-spec, "Pulling manifests").
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Docker's clients look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Codes of distribution-spec ("Error Codes"); `Unknown` is Docker's, for what is not the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    Toomanyrequests,
    Unknown,
    Unsupported,
}

/// A request that is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    /// Something the server has not.
    pub(super) fn missing(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// Something that makes no sense.
    pub(super) fn bad(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The server's own trouble: damaged bytes, a disk that fails.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, message)
    }

    /// A verb that does not exist here.
    pub(super) fn unsupported(allow: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message).with(hyper::header::ALLOW, allow)
    }

    /// With one more header.
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// As an answer.
    pub(super) fn into_reply(self) -> Reply {
        #[derive(Serialize)]
        struct Errors<'a> {
            errors: [Told<'a>; 1],
        }
        #[derive(Serialize)]
        struct Told<'a> {
            code: Code,
            message: &'a str,
        }
        let told = Errors { errors: [Told { code: self.code, message: &self.message }] };
        let mut reply = json(self.status, &told);
        for (name, value) in self.headers {
            set(reply.headers_mut(), name, &value);
        }
        reply
    }
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    whole(status, Bytes::new())
}

/// An answer from memory.
pub(super) fn whole(status: StatusCode, bytes: Bytes) -> Reply {
    let length = bytes.len() as u64;
    with_body(status, length, ReplyBody::Whole(Some(bytes)))
}

/// Headers for `length` bytes and no body: the answer to `HEAD`.
pub(super) fn head(status: StatusCode, length: u64) -> Reply {
    with_body(status, length, ReplyBody::Whole(None))
}

/// An answer with this body.
pub(super) fn with_body(status: StatusCode, length: u64, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.reserve(8);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    reply
}

/// The answer to a request that breaks the rules of HTTP: nothing after it on this connection is believed.
pub(super) fn close(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// A JSON value.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // Own types with string keys: nothing in them can fail to serialise.
    let mut reply = whole(status, Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Sets a header, unless the value can stand in none.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The headers that tell a digest: the spec's own and the entity tag.
pub(super) fn set_digest(headers: &mut HeaderMap, digest: &Digest) {
    let text = digest.to_string();
    set(headers, hyper::header::ETAG, &format!("\"{text}\""));
    set(headers, CONTENT_DIGEST, &text);
}
