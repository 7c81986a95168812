//! A static file server with single ranges, and a TCP relay of limited speed: what tests put between labimg and a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// Serves `folder` on `listen` until killed.
pub async fn files(listen: &str, folder: PathBuf) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    let app = Router::new().fallback(answer).with_state(folder);
    Ok(axum::serve(listener, app).await?)
}

async fn answer(State(folder): State<PathBuf>, request: Request) -> Response {
    let path = request.uri().path();
    if path.contains("..") || path.contains('%') {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let file = folder.join(path.trim_start_matches('/'));
    let Ok(data) = tokio::fs::read(&file).await else { return StatusCode::NOT_FOUND.into_response() };
    let tag = format!("\"{}\"", &crate::bytes::digest(&data)[7..23]);
    let total = data.len();
    let range = wanted_range(request.headers(), &tag).filter(|(from, _)| *from < total);
    let (status, body) = match range {
        Some((from, to)) => (StatusCode::PARTIAL_CONTENT, data[from..to.min(total)].to_vec()),
        None => (StatusCode::OK, data),
    };
    let mut answer =
        Response::builder().status(status).header(header::ETAG, tag).header(header::ACCEPT_RANGES, "bytes");
    if let Some((from, _)) = range {
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", from + body.len() - 1));
    }
    answer = answer.header(header::CONTENT_LENGTH, body.len());
    let body = if request.method() == Method::HEAD { Body::empty() } else { Body::from(body) };
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// `bytes=FROM-` or `bytes=FROM-TO` as a half-open range, unless `If-Range` names something else.
fn wanted_range(headers: &HeaderMap, tag: &str) -> Option<(usize, usize)> {
    if headers.get(header::IF_RANGE).is_some_and(|v| v.as_bytes() != tag.as_bytes()) {
        return None;
    }
    let (from, to) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let to = if to.is_empty() { usize::MAX } else { to.parse::<usize>().ok()?.saturating_add(1) };
    let from = from.parse().ok()?;
    (from < to).then_some((from, to))
}

/// Passes connections on `listen` to `target`, what comes back at no more than `rate` bytes per second each.
pub async fn throttle(listen: &str, target: String, rate: u64) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (near, _) = listener.accept().await?;
        let target = target.clone();
        tokio::spawn(async move {
            if let Ok(far) = TcpStream::connect(&target).await {
                let (mut near_read, mut near_write) = near.into_split();
                let (mut far_read, mut far_write) = far.into_split();
                let up = async {
                    let _ = tokio::io::copy(&mut near_read, &mut far_write).await;
                    let _ = far_write.shutdown().await;
                };
                let down = async {
                    let mut buffer = vec![0; 16 << 10];
                    while let Ok(len @ 1..) = far_read.read(&mut buffer).await {
                        if near_write.write_all(&buffer[..len]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_micros(len as u64 * 1_000_000 / rate.max(1))).await;
                    }
                };
                tokio::select! { () = down => {}, () = async { up.await; std::future::pending::<()>().await } => {} }
            }
        });
    }
}

/// Where a URL's file stands in the tree: `folder/host/path`, without the query.
pub fn place(folder: &Path, url: &str) -> Result<PathBuf, Failure> {
    let url = url::Url::parse(url)?;
    let host = url.host_str().ok_or("a URL without a host")?;
    Ok(folder.join(host).join(url.path().trim_start_matches('/')))
}
