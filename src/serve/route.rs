//! From a request to its answer: method, path and query. Whatever goes wrong is an answer, too.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::reply::{self, Code, Refusal, Reply};
use super::request::{self, Asked, Name, canonical};
use super::{State, Writable, blobs, listing, manifests, pushes};

/// How many bytes of a refused request are read, and for how long.
const DRAINED: usize = 64 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// What a query may say.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) ns: Option<String>,
    pub(super) n: Option<String>,
    pub(super) last: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) mount: Option<String>,
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
                _ => continue,
            };
            *slot = Some(value.into_owned());
        }
        query
    }
}

/// Answers a request.
pub(super) async fn answer(state: &State, client: IpAddr, request: Request<Incoming>) -> Reply {
    state.traffic.request();
    let (parts, mut body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let head = request.method() == Method::HEAD;
    let mut reply = match dispatch(state, client, &request, &mut body).await {
        Ok(reply) => reply,
        Err(refusal) => {
            drain(&mut body).await;
            refusal.into_reply()
        }
    };
    if head {
        // The length stays in the header.
        *reply.body_mut() = super::body::ReplyBody::Whole(None);
    }
    reply
}

/// Reads what still comes of a refused request, within bounds: a connection that is closed with bytes unread is reset, and
/// the client would never see why it was refused.
async fn drain(body: &mut Incoming) {
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

async fn dispatch(state: &State, client: IpAddr, request: &Request<()>, body: &mut Incoming) -> Result<Reply, Refusal> {
    let asked = request::parse(request.uri().path())?;
    let query = Query::parse(request.uri().query());
    match *request.method() {
        Method::GET | Method::HEAD => read(state, client, request, asked, &query).await,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => match (&state.writable, asked) {
            (Some(writable), asked @ (Asked::StartUpload(_) | Asked::Upload(..) | Asked::Manifest(..))) => {
                pushes::write(state, writable, request, body, asked, &query).await
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
            name(state, &text, query)?;
            blobs::get(state, &digest, headers, client, head).await
        }
        Asked::Upload(_, id) => match &state.writable {
            Some(writable) => pushes::status(writable, &id, request.uri().path()).await,
            None => Err(Refusal::missing(Code::BlobUploadUnknown, "this is a mirror: there are no uploads")),
        },
        Asked::StartUpload(_) => Err(Refusal::unsupported("POST", "an upload is started by POST")),
        Asked::Referrers => Err(Refusal::missing(Code::Unsupported, "referrers are not listed here")),
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
