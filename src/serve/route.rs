//! From a request to its answer: method, path and query. Whatever goes wrong is an answer, too.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Version};

use super::body::ReplyBody;
use super::patient::Owed;
use super::pool::CHUNK;
use super::reply::{self, Code, Refusal, Reply};
use super::request::{self, Asked, Name, canonical};
use super::{State, Writable, blobs, listing, manifests, pushes, referrers};

/// How many bytes of a refused request are read, and for how long.
const DRAINED: usize = 64 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// How many chunks of long answers are in memory at a time: 64 MiB.
pub(super) const LARGE_ANSWERS: u32 = 1024;

/// What a query may say.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) ns: Option<String>,
    pub(super) n: Option<String>,
    pub(super) last: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) mount: Option<String>,
    pub(super) artifact_type: Option<String>,
}

impl Query {
    fn parse(text: Option<&str>) -> Self {
        let mut query = Self::default();
        for (key, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let slot = match &*key {
                "ns" => &mut query.ns,
                "n" => &mut query.n,
                "last" => &mut query.last,
                "digest" => &mut query.digest,
                "mount" => &mut query.mount,
                "artifactType" => &mut query.artifact_type,
                _ => continue,
            };
            *slot = Some(value.into_owned());
        }
        query
    }
}

/// Answers a request.
pub(super) async fn answer(state: &State, client: IpAddr, request: Request<Owed>) -> Reply {
    state.traffic.request();
    let (parts, mut body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let head = request.method() == Method::HEAD;
    // RFC 9112, section 3.2. Whoever stands between may have read another host than we would.
    if request.version() == Version::HTTP_11 && request.headers().get_all(HOST).into_iter().count() != 1 {
        let refusal = Refusal::bad(Code::Unsupported, "a request of HTTP/1.1 has one header `Host`");
        return reply::close(without_body(refusal.into_reply(), head));
    }
    let reply = match dispatch(state, client, &request, &mut body).await {
        Ok(reply) => reply,
        Err(refusal) => {
            drain(&mut body).await;
            refusal.into_reply()
        }
    };
    without_body(bounded(state, reply), head)
}

/// Of an answer to `HEAD` the length stays in the header.
fn without_body(mut reply: Reply, head: bool) -> Reply {
    if head {
        *reply.body_mut() = ReplyBody::Whole(None);
    }
    reply
}

/// Takes room in memory for an answer that is larger than a chunk (lists, and what was sent to whom), until it was sent.
fn bounded(state: &State, mut reply: Reply) -> Reply {
    let ReplyBody::Whole(Some(bytes)) = reply.body_mut() else { return reply };
    if bytes.len() <= CHUNK {
        return reply;
    }
    let chunks = u32::try_from(bytes.len().div_ceil(CHUNK)).unwrap_or(u32::MAX);
    match state.large_answers.clone().try_acquire_many_owned(chunks.min(LARGE_ANSWERS)) {
        Ok(room) => {
            *reply.body_mut() = ReplyBody::Large(Some(std::mem::take(bytes)), room);
            reply
        }
        Err(_) => {
            let message = "too many long lists are being sent at the moment";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::Toomanyrequests, message);
            refusal.with(RETRY_AFTER, "5").into_reply()
        }
    }
}

/// Reads what still comes of a refused request, within bounds: a connection that is closed with bytes unread is reset, and
/// the client would never see why it was refused.
async fn drain(body: &mut Owed) {
    let mut read = 0;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DRAINED {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAINED_WITHIN, all).await;
}

async fn dispatch(state: &State, client: IpAddr, request: &Request<()>, body: &mut Owed) -> Result<Reply, Refusal> {
    let asked = request::parse(request.method(), request.uri().path())?;
    let query = Query::parse(request.uri().query());
    match *request.method() {
        Method::GET | Method::HEAD => read(state, client, request, asked, &query).await,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => match (&state.writable, asked) {
            (Some(writable), asked @ (Asked::StartUpload(_) | Asked::Upload(..) | Asked::Manifest(..))) => {
                pushes::write(state, writable, client, request, body, asked, &query).await
            }
            (Some(_), _) => Err(Refusal::unsupported("GET, HEAD", "there is nothing to write at this path")),
            (None, _) => {
                Err(Refusal::unsupported("GET, HEAD", "this is a mirror of a lab's images: it takes no pushes"))
            }
        },
        _ => Err(Refusal::unsupported("GET, HEAD", "this method means nothing here")),
    }
}

async fn read(
    state: &State,
    client: IpAddr,
    request: &Request<()>,
    asked: Asked,
    query: &Query,
) -> Result<Reply, Refusal> {
    let head = request.method() == Method::HEAD;
    let headers = request.headers();
    match asked {
        Asked::Api => Ok(reply::json(StatusCode::OK, &serde_json::Map::new())),
        Asked::Health => {
            let mut reply = reply::whole(StatusCode::OK, Bytes::from_static(b"ok\n"));
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Ok(reply)
        }
        Asked::Status => {
            let registry = state.writable.as_ref().map(|w| w.host.clone());
            Ok(reply::json(StatusCode::OK, &state.traffic.status(&state.sources.told, registry)))
        }
        Asked::Catalog => listing::catalog(state, query).await,
        Asked::Tags(text) => listing::tags(state, &text, &name(state, &text, query)?, query).await,
        Asked::Manifest(text, wanted) => {
            manifests::get(state, &name(state, &text, query)?, &wanted, headers, head).await
        }
        Asked::Blob(text, digest) => {
            blobs::get(state, &name(state, &text, query)?, &digest, headers, client, head).await
        }
        Asked::Upload(_, id) => match &state.writable {
            Some(writable) => pushes::status(writable, &id, request.uri().path()).await,
            None => Err(Refusal::missing(Code::BlobUploadUnknown, "this is a mirror: there are no uploads")),
        },
        Asked::StartUpload(_) => Err(Refusal::unsupported("POST", "an upload is started by POST")),
        Asked::Referrers(text, digest) => {
            referrers::get(state, &text, &name(state, &text, query)?, &digest, query).await
        }
    }
}

/// The repository that is meant. The writable registry is one host: its names carry none.
pub(super) fn name(state: &State, text: &str, query: &Query) -> Result<Name, Refusal> {
    match &state.writable {
        None => request::resolve(text, query.ns.as_deref(), |host| state.catalog.has_host(host)),
        Some(writable) => own_name(writable, text, query.ns.as_deref()),
    }
}

fn own_name(writable: &Writable, text: &str, ns: Option<&str>) -> Result<Name, Refusal> {
    if let Some(ns) = ns.filter(|ns| canonical(ns) != writable.host) {
        let message = format!("this is the registry {}, no mirror of `{ns}`", writable.host);
        return Err(Refusal::missing(Code::NameUnknown, message));
    }
    request::upstream(&writable.host, text)
}
