//! HTTP to a service through the API server (Kubernetes API: `services/{name}/proxy`), so that no port need be opened.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use kube::client::Body;

use super::Api;
use crate::lab::error::LabError;

/// Largest answer read, in bytes.
const ANSWER_LIMIT: usize = 32 << 20;

/// What a service answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// Sends `method path` to `service` (port: number or name) in `namespace`, with `headers`.
///
/// # Errors
/// An API server that does not answer, or an answer of more than 32 MiB. Any HTTP status is an answer.
pub async fn ask(
    api: &Api,
    (namespace, service, port): (&str, &str, &str),
    method: &str,
    path: &str,
    headers: &[(String, String)],
) -> Result<Answer, LabError> {
    let what = || format!("{method} {service}.{namespace}:{port}{path} through cluster `{}`", api.cluster);
    let uri = format!("/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy{path}");
    let mut request = hyper::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::empty()).map_err(|e| LabError::failed(what(), e))?;
    let response = api.plain.send(request).await.map_err(|e| LabError::failed(what(), e))?;
    let status = response.status().as_u16();
    let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(k, v)| (k.as_str().to_owned(), text(v))).collect();
    let mut body = BytesMut::new();
    let mut chunks = response.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| LabError::failed(what(), e))?;
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(LabError::failed(what(), format!("the answer is larger than {ANSWER_LIMIT} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body: body.freeze() })
}
