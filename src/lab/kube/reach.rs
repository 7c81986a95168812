//! HTTP to a port of one pod, through a port-forward: it reaches also what listens on the pod's loopback alone, which the API
//! server's proxy does not.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Api;
use super::pods::worded;
use super::proxy::Answer;
use crate::lab::error::LabError;

/// Largest answer read, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;

/// Asks `port` of a pod for `path`.
///
/// # Errors
/// A pod or port that can not be reached, or an answer that is no HTTP or larger than 16 MiB. Any HTTP status is an answer.
pub async fn get(api: &Api, namespace: &str, pod: &str, port: u16, path: &str) -> Result<Answer, LabError> {
    let what = || format!("port {port} of pod `{namespace}/{pod}`");
    let pods: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), namespace);
    let mut forward = pods.portforward(pod, &[port]).await.map_err(|e| LabError::failed(what(), worded(&e)))?;
    let error = forward.take_error(port);
    let Some(stream) = forward.take_stream(port) else {
        return Err(LabError::failed(what(), "there is no stream"));
    };
    let answer = over(stream, path).await;
    // Why the pod's end was closed is worth more than that it was.
    let why = match (&answer, error) {
        (Err(_), Some(error)) => tokio::time::timeout(std::time::Duration::from_millis(100), error).await.ok().flatten(),
        _ => None,
    };
    forward.abort();
    answer.map_err(|error| LabError::failed(what(), why.unwrap_or(error)))
}

/// One HTTP/1.1 question over a stream.
async fn over<S>(stream: S, path: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new());
    let asked = async {
        let response = sender.send_request(request.map_err(|e| e.to_string())?).await.map_err(|e| e.to_string())?;
        let (parts, mut chunks) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = chunks.frame().await {
            let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() else { continue };
            if body.len() + data.len() > ANSWER_LIMIT {
                return Err(format!("the answer is larger than {ANSWER_LIMIT} bytes"));
            }
            body.extend_from_slice(&data);
        }
        let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(k, v)| (k.as_str().to_owned(), text(v))).collect();
        Ok(Answer { status: parts.status.as_u16(), headers, body: body.freeze() })
    };
    let answer = asked.await;
    driver.abort();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn answered(text: &'static [u8]) -> Result<Answer, String> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let server = async move {
            let mut asked = [0; 1024];
            let n = theirs.read(&mut asked).await.unwrap();
            assert!(asked[..n].starts_with(b"GET /metrics HTTP/1.1\r\n"));
            theirs.write_all(text).await.unwrap();
        };
        tokio::join!(over(ours, "/metrics"), server).0
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_garbage_is_an_error() {
        let answer = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na 1").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"a 1"[..]));
        assert!(answered(b"garbage\r\n\r\n").await.is_err());
        assert!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na").await.is_err());
    }
}
