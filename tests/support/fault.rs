//! An HTTP server on loopback that answers as a test says, and remembers what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use futures_util::{StreamExt, stream};

/// One request, as it came in.
#[derive(Debug, Clone)]
pub struct Hit {
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    /// How many requests for this path came before.
    pub nth: usize,
}

impl Hit {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The first byte a `Range: bytes=N-` asks for.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// The server; stops when dropped.
pub struct Fault {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    hits: Arc<Mutex<Vec<Hit>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fault {
    pub async fn start(answer: impl Fn(&Hit) -> Response<Body> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let hits = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (hits.clone(), Arc::new(answer));
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move { answer(&note(&seen, &request)) }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { base, hits, task }
    }

    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(seen: &Mutex<Vec<Hit>>, request: &Request<Body>) -> Hit {
    let mut seen = seen.lock().unwrap();
    let path = request.uri().path().to_owned();
    let nth = seen.iter().filter(|hit| hit.path == path).count();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let hit = Hit { path, query, headers: request.headers().clone(), nth };
    seen.push(hit.clone());
    hit
}

pub fn status(code: u16) -> Response<Body> {
    Response::builder().status(code).body(Body::from("no")).unwrap()
}

pub fn with(code: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut builder = Response::builder().status(StatusCode::from_u16(code).unwrap());
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).unwrap()
}

/// What a good server answers: all of it, or the range asked for.
pub fn good(hit: &Hit, all: &[u8]) -> Response<Body> {
    let Some(from) = hit.from() else { return with(200, &[("etag", "\"v1\"")], all.to_vec()) };
    if from >= all.len() {
        return with(416, &[("content-range", &format!("bytes */{}", all.len()))], "");
    }
    let range = format!("bytes {from}-{}/{}", all.len() - 1, all.len());
    with(206, &[("content-range", &range), ("etag", "\"v1\"")], all[from..].to_vec())
}

/// Promises all of `all`, gives the first `n` bytes, and hangs up.
pub fn short(all: &[u8], n: usize) -> Response<Body> {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(&all[..n]))]);
    // The pause lets the bytes out before the connection breaks.
    let broken = stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::other("hung up"))
    });
    let length = all.len().to_string();
    with(200, &[("content-length", &length), ("etag", "\"v1\"")], Body::from_stream(first.chain(broken)))
}

/// Gives the first `n` bytes and then nothing more, without hanging up.
pub fn stalled(all: &[u8], n: usize) -> Response<Body> {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(&all[..n]))]);
    let length = all.len().to_string();
    let body = Body::from_stream(first.chain(stream::pending()));
    with(200, &[("content-length", &length), ("etag", "\"v1\"")], body)
}

/// Never ends.
pub fn endless() -> Response<Body> {
    let zeros = Bytes::from(vec![0; 64 * 1024]);
    with(200, &[], Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(zeros.clone()))))
}
