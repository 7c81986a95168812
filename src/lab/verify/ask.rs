//! Who is asked: something that answers HTTP, wherever it is. Checks know only this, so that tests need no cluster.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::base::bounded;
use crate::lab::error::LabError;
use crate::lab::http::{self, Answer};
use crate::lab::kube::{Api, proxy};

/// Longest one question takes: a hanging service must not eat a check's whole time.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest piece of an answer shown to people, in characters.
const SHOWN: usize = 160;

/// Something that answers HTTP.
pub trait Asker: Send + Sync {
    /// Sends `method path` with these headers.
    fn ask<'a>(
        &'a self,
        method: &'a str,
        path: &'a str,
        headers: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<Answer, LabError>>;
    /// What people call it: `service observability/jaeger:16686`.
    fn label(&self) -> String;
}

/// A service of a cluster, asked through the API server.
#[derive(Clone)]
pub struct Service {
    /// The cluster.
    pub api: Api,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Port: a number or a name.
    pub port: String,
}

impl Asker for Service {
    fn ask<'a>(
        &'a self,
        method: &'a str,
        path: &'a str,
        headers: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<Answer, LabError>> {
        Box::pin(async move {
            let target = (self.namespace.as_str(), self.name.as_str(), self.port.as_str());
            let asked = proxy::ask(&self.api, target, method, path, headers);
            let late = || LabError::failed(self.label(), format!("no answer within {} s", ASK_TIMEOUT.as_secs()));
            tokio::time::timeout(ASK_TIMEOUT, asked).await.unwrap_or_else(|_| Err(late()))
        })
    }

    fn label(&self) -> String {
        format!("service {}/{}:{}", self.namespace, self.name, self.port)
    }
}

/// Something at a URL, asked from this machine.
#[derive(Debug, Clone)]
pub struct At(
    /// Where its paths start: `http://127.0.0.1:16686`.
    pub String,
);

impl Asker for At {
    fn ask<'a>(
        &'a self,
        method: &'a str,
        path: &'a str,
        headers: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<Answer, LabError>> {
        Box::pin(async move {
            let url = format!("{}{path}", self.0);
            http::fetch(&http::Request { method, url: &url, headers, follow: true, timeout: ASK_TIMEOUT }).await
        })
    }

    fn label(&self) -> String {
        self.0.clone()
    }
}

/// The JSON that `path` answers with 200.
///
/// # Errors
/// No answer, another status, or something that is not the JSON expected, in one line.
pub async fn json<T: serde::de::DeserializeOwned>(asker: &dyn Asker, path: &str) -> Result<T, String> {
    let answer = asker.ask("GET", path, &[]).await.map_err(|e| e.to_string())?;
    if answer.status != 200 {
        return Err(format!("{}{path} answered {}", asker.label(), status_line(&answer)));
    }
    bounded::from_json(&answer.body)
        .map_err(|e| format!("{}{path} answered no such JSON ({e}): {}", asker.label(), glimpse(&answer.body)))
}

/// The status with what the answer says about it; a Kubernetes `Status` or a list of errors says it in a field.
pub fn status_line(answer: &Answer) -> String {
    let said = match bounded::from_json::<serde_json::Value>(&answer.body) {
        Ok(json) => ["/message", "/error", "/errors/0/msg"].iter().find_map(|at| {
            let text = json.pointer(at)?.as_str()?;
            Some(glimpse(text.as_bytes()))
        }),
        Err(_) => None,
    };
    let said = said.unwrap_or_else(|| glimpse(&answer.body));
    if said.is_empty() { answer.status.to_string() } else { format!("{} ({said})", answer.status) }
}

/// The start of an answer as one line.
pub fn glimpse(body: &[u8]) -> String {
    let start = body.get(..body.len().min(SHOWN * 4)).unwrap_or_default();
    let text = String::from_utf8_lossy(start);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    let short: String = line.chars().take(SHOWN).collect();
    if short.len() < line.len() || start.len() < body.len() { format!("{short}…") } else { short }
}

/// A value as part of a URL's query (RFC 3986 section 2.1).
pub fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_shown_short_and_in_one_line() {
        let answer = |body: &str| Answer { status: 503, headers: vec![], body: body.to_owned().into() };
        let status = r#"{"kind":"Status","message":"no endpoints available for service \"web\""}"#;
        assert_eq!(status_line(&answer(status)), "503 (no endpoints available for service \"web\")");
        assert_eq!(status_line(&answer("a\n\u{1b}[31mb")), "503 (a [31mb)");
        assert_eq!(status_line(&answer("")), "503");
        assert!(status_line(&answer(&"x".repeat(10_000))).chars().count() < 200);
    }
}
