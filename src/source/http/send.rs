//! One request and its final response: redirects followed by hand, time-outs, and what a status means.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::origin::Trail;
use super::retry;
use crate::base::bounded;
use crate::source::error::Login;
use crate::source::net::chain;
use crate::source::{Net, SourceError};

/// How much of an error's body is read for what it says.
const SAID_LIMIT: usize = 16 * 1024;

/// A request.
pub struct Call<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Headers, without `Authorization`.
    pub headers: HeaderMap,
    /// `Authorization`, for the URL's own origin only.
    pub auth: Option<&'a HeaderValue>,
    /// A form to post; without one the request is a GET.
    pub form: Option<&'a str>,
}

/// Why there is no usable response.
pub enum Failure {
    /// Another try may help.
    Again(Trouble),
    /// Another try will not.
    Fatal(SourceError),
}

impl<E: Into<SourceError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// A failure that may pass.
pub struct Trouble {
    /// What happened.
    pub why: String,
    /// When the peer wants to be asked again.
    pub after: Option<Duration>,
    /// The status it answered with, and what it said, if it did.
    pub status: Option<(u16, String)>,
}

impl Trouble {
    /// Something happened to the connection.
    pub fn connection(why: impl Into<String>) -> Failure {
        Failure::Again(Self { why: why.into(), after: None, status: None })
    }

    /// What to report when no try is left.
    pub fn into_error(self, url: &Url, tries: u32) -> SourceError {
        let url = shown(url);
        match self.status {
            Some((status, said)) => SourceError::Status { url, status, tries, said },
            None => SourceError::Unreachable { url, tries, why: self.why, mirror_of: None },
        }
    }
}

/// A URL as errors show it: without user info, query and fragment.
pub fn shown(url: &Url) -> String {
    crate::model::url_policy::shown(url.as_str())
}

/// A response that can be used, and how we came to it.
pub struct Answer {
    /// Of status 200, 206 or 416.
    pub response: Response,
    /// Whether nobody but the origin that was asked had a say.
    pub own: bool,
}

/// Sends the request, follows redirects, and gives a response of status 200, 206 or 416.
///
/// # Errors
/// [`Failure::Again`] for a connection that failed and for statuses that pass; else what the status means.
pub async fn send(net: &Net, call: &Call<'_>) -> Result<Answer, Failure> {
    let mut url = call.url.clone();
    let mut trail = Trail::new(&url);
    loop {
        let auth = call.auth.filter(|_| trail.own());
        let response = once(net, &url, call, auth).await?;
        let Some(location) = location(&response).map_err(|why| redirect_error(call.url, why))? else {
            return judge(response, call, &url, trail.own()).await;
        };
        if call.form.is_some() {
            return Err(redirect_error(call.url, "a request that carries credentials".to_owned()));
        }
        url = trail.follow(&location).map_err(|why| redirect_error(call.url, why))?;
    }
}

fn redirect_error(url: &Url, why: String) -> Failure {
    Failure::Fatal(SourceError::Redirect { url: shown(url), why })
}

async fn once(net: &Net, url: &Url, call: &Call<'_>, auth: Option<&HeaderValue>) -> Result<Response, Failure> {
    if net.options().offline {
        return Err(SourceError::Offline { url: shown(call.url) }.into());
    }
    let method = if call.form.is_some() { Method::POST } else { Method::GET };
    let mut request = reqwest::Request::new(method, url.clone());
    *request.headers_mut() = call.headers.clone();
    if let Some(auth) = auth {
        request.headers_mut().insert(AUTHORIZATION, auth.clone());
    }
    *request.body_mut() = call.form.map(|form| form.to_owned().into());
    let sent = net.client()?.execute(request);
    match tokio::time::timeout(net.options().stall_timeout, sent).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(connection_failure(call.url, error)),
        Err(_) => Err(Trouble::connection(format!("no answer in {:?}", net.options().stall_timeout))),
    }
}

/// A bad certificate and a server that speaks no TLS stay so; everything else about a connection may pass.
fn connection_failure(url: &Url, error: reqwest::Error) -> Failure {
    let timeout = error.is_timeout();
    let why = if timeout { "connecting took too long".to_owned() } else { chain(&error.without_url()) };
    let why = if why.contains("InvalidContentType") { format!("it does not speak TLS ({why})") } else { why };
    if why.contains("certificate") || why.contains("speak TLS") {
        return SourceError::Unreachable { url: shown(url), tries: 1, why, mirror_of: None }.into();
    }
    Trouble::connection(why)
}

/// Where the response redirects to, if it does.
fn location(response: &Response) -> Result<Option<String>, String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).ok_or("without a `Location`")?;
    let text = std::str::from_utf8(location.as_bytes()).map_err(|_| "to something that is not text")?;
    Ok(Some(text.to_owned()))
}

/// Whether a status may be another one a moment later: a busy or broken server, and what proxies and CDNs answer in the place of a
/// server that they did not reach (their own numbers, 499 and 520 to 530, among them). 501 and 505 (RFC 9110, section 15.6) are
/// about the request itself and stay.
fn may_pass(code: u16) -> bool {
    match code {
        408 | 425 | 429 | 499 => true,
        501 | 505 => false,
        _ => (500..600).contains(&code),
    }
}

/// What the status of the last response means; `at` is who answered.
async fn judge(response: Response, call: &Call<'_>, at: &Url, own: bool) -> Result<Answer, Failure> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
        return Ok(Answer { response, own });
    }
    let after = retry::retry_after(response.headers());
    let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let challenges: Vec<String> = challenges.filter_map(|v| v.to_str().ok().map(str::to_owned)).collect();
    let said = said(response).await;
    let (url, code) = (shown(call.url), status.as_u16());
    match code {
        404 | 410 => Err(SourceError::NotFound { url, said }.into()),
        // Whatever it asks for, it is not the one that our credentials are for.
        401 | 403 if !own => Err(SourceError::Elsewhere { url, at: shown(at), status: code, said }.into()),
        401 | 403 => {
            let login = Box::new(Login::plain(call.auth.is_some()));
            Err(SourceError::Unauthorized { url, status: code, said, challenges, login }.into())
        }
        code if may_pass(code) => {
            Err(Failure::Again(Trouble { why: format!("status {status}"), after, status: Some((code, said)) }))
        }
        _ => Err(SourceError::Status { url, status: code, tries: 1, said }.into()),
    }
}

/// What an error response says for people: the errors of distribution-spec ("Error Codes"), or a short plain text.
async fn said(mut response: Response) -> String {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > SAID_LIMIT {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    let text = match bounded::from_json::<serde_json::Value>(&body) {
        Ok(json) => json_message(&json),
        Err(_) => String::from_utf8(body).ok().filter(|t| !t.trim_start().starts_with('<')),
    };
    let line = text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn json_message(json: &serde_json::Value) -> Option<String> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let first = json.get("errors").and_then(|errors| errors.get(0));
    if let Some(first) = first {
        let code = first.get("code").and_then(text).unwrap_or_default();
        let message = first.get("message").and_then(text).unwrap_or_default();
        return Some([code, message].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(": "));
    }
    ["message", "details", "error"].iter().find_map(|key| json.get(key).and_then(text))
}

/// Asks for the bytes from `offset` on.
pub fn range_from(headers: &mut HeaderMap, offset: u64) {
    headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={offset}-")).unwrap_or(HeaderValue::from_static("")));
}

#[cfg(test)]
mod tests {
    use super::may_pass;

    #[test]
    fn statuses_that_pass() {
        let passing: Vec<u16> = (100..1000).filter(|code| may_pass(*code)).collect();
        let expected: Vec<u16> =
            [408, 425, 429, 499].into_iter().chain((500..600).filter(|code| ![501, 505].contains(code))).collect();
        assert_eq!(passing, expected);
    }
}
