//! HTTP from this machine to what a lab shows its attendees: mostly ports of loopback.
//!
//! No proxy is used: the lab is here. Certificates of loopback hosts are not looked at (a lab's own authority signed them, if
//! any); all others must be good.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use url::{Host, Url};

use super::error::LabError;
pub use super::kube::proxy::Answer;

/// Largest answer read, in bytes.
const ANSWER_LIMIT: usize = 32 << 20;
/// Most redirects that are followed.
const REDIRECTS: usize = 10;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Method: `GET`.
    pub method: &'a str,
    /// The URL.
    pub url: &'a str,
    /// Further headers.
    pub headers: &'a [(String, String)],
    /// Whether redirects are followed, as long as they stay on the host.
    pub follow: bool,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// Sends one request from this machine.
///
/// # Errors
/// A URL that is none, a host that does not answer in time, an answer of more than 32 MiB. Any HTTP status is an answer.
pub async fn fetch(request: &Request<'_>) -> Result<Answer, LabError> {
    let what = || format!("{} {}", request.method, crate::model::url_policy::masked(request.url));
    let failed = |why: String| LabError::failed(what(), why);
    let url = Url::parse(request.url).map_err(|e| failed(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed(format!("`{}` is neither http nor https", url.scheme())));
    }
    let method = request.method.parse::<reqwest::Method>().map_err(|e| failed(e.to_string()))?;
    let client = client(&url, request).map_err(|e| failed(chain(&e)))?;
    let mut asked = client.request(method, url);
    for (name, value) in request.headers {
        asked = asked.header(name, value);
    }
    let response = asked.send().await.map_err(|e| failed(chain(&e)))?;
    let status = response.status().as_u16();
    let text = |v: &reqwest::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(k, v)| (k.as_str().to_owned(), text(v))).collect();
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| failed(chain(&e)))?;
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(failed(format!("the answer is larger than {ANSWER_LIMIT} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body: body.freeze() })
}

fn client(url: &Url, request: &Request<'_>) -> Result<Client, reqwest::Error> {
    let (host, loopback) = (url.host_str().unwrap_or_default().to_owned(), is_loopback(url));
    let policy = if request.follow { same_host(url) } else { Policy::none() };
    let builder = Client::builder().no_proxy().redirect(policy).timeout(request.timeout);
    // A client that checks certificates can not be built on a machine without authorities: only where it must.
    let unchecked = loopback || url.scheme() == "http";
    named_loopback(builder, &host).tls_danger_accept_invalid_certs(unchecked).build()
}

/// Redirects on the same host; from plain HTTP to TLS only on loopback, where certificates do not matter.
fn same_host(url: &Url) -> Policy {
    let first = url.clone();
    Policy::custom(move |attempt| {
        let next = attempt.url();
        let same = next.host_str() == first.host_str() || (is_loopback(next) && is_loopback(&first));
        let same = same && (next.scheme() == first.scheme() || is_loopback(&first));
        if same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
    })
}

/// `NAME.localhost` is loopback whatever resolves names here (RFC 6761 section 6.3); browsers know that by themselves.
fn named_loopback(builder: ClientBuilder, host: &str) -> ClientBuilder {
    match host.ends_with(".localhost") {
        true => builder.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        false => builder,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// An error with its causes: reqwest's own text leaves out why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;

    async fn serve() -> SocketAddr {
        let app = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/moved", get(|| async { Redirect::to("/") }))
            .route("/loop", get(|| async { Redirect::to("/loop") }))
            .route("/away", get(|| async { Redirect::to("http://203.0.113.1/") }))
            .route("/slow", get(std::future::pending::<&str>))
            .route("/huge", get(|| async { vec![b'x'; ANSWER_LIMIT + 1] }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    async fn ask(url: &str, follow: bool) -> Result<Answer, LabError> {
        fetch(&Request { method: "GET", url, headers: &[], follow, timeout: Duration::from_secs(5) }).await
    }

    #[tokio::test]
    async fn redirects_stay_on_the_host() {
        let at = serve().await;
        assert_eq!(ask(&format!("http://{at}/moved"), true).await.unwrap().body, "here");
        assert_eq!(ask(&format!("http://{at}/moved"), false).await.unwrap().status, 303);
        assert_eq!(ask(&format!("http://{at}/away"), true).await.unwrap().status, 303);
        assert_eq!(ask(&format!("http://{at}/loop"), true).await.unwrap().status, 303);
        let named = format!("http://shop.localhost:{}/", at.port());
        assert_eq!(ask(&named, true).await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn what_can_not_be_asked_says_why() {
        let at = serve().await;
        let huge = ask(&format!("http://{at}/huge"), true).await.unwrap_err().to_string();
        assert!(huge.contains("larger than"), "{huge}");
        for bad in ["", "file:///etc/passwd", "http://"] {
            assert!(ask(bad, true).await.is_err(), "{bad}");
        }
        let closed = ask("http://127.0.0.1:1/", true).await.unwrap_err().to_string();
        assert!(closed.contains("refused"), "{closed}");
        let url = format!("http://{at}/slow");
        let slow =
            Request { method: "GET", url: &url, headers: &[], follow: true, timeout: Duration::from_millis(100) };
        assert!(fetch(&slow).await.unwrap_err().to_string().contains("timed out"));
    }
}
