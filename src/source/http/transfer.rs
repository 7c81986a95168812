//! A whole body into a sink: tries, resume (RFC 9110, section 14: `Range`, `If-Range`, `Content-Range`), caps, progress.

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LAST_MODIFIED,
};
use reqwest::{Response, StatusCode};
use url::Url;

use super::coding::Coding;
use super::retry::Tries;
use super::send::{self, Answer, Call, Failure, Trouble, shown};
use super::sink::Sink;
use crate::base::report::{Reporter, Task};
use crate::source::{Net, SourceError};

/// What to get.
#[derive(Clone)]
pub struct Get<'a> {
    /// Where from.
    pub url: &'a Url,
    /// `Accept`.
    pub accept: Option<&'static str>,
    /// `Authorization`, sent to the URL's own origin only.
    pub auth: Option<&'a HeaderValue>,
    /// A form to post instead of a GET.
    pub form: Option<&'a str>,
    /// The size the body must have, where known.
    pub size: Option<u64>,
    /// The most bytes to take when it is not.
    pub limit: u64,
    /// Whether the body's digest is known: then a part may be resumed without a validator, as the digest tells.
    pub checked: bool,
}

impl<'a> Get<'a> {
    /// A plain GET of at most `limit` bytes.
    pub fn new(url: &'a Url, limit: u64) -> Self {
        Self { url, accept: None, auth: None, form: None, size: None, limit, checked: false }
    }

    fn cap(&self) -> u64 {
        self.size.unwrap_or(self.limit)
    }
}

/// The last response, without its body.
pub struct Head {
    /// Its headers; empty when there was nothing left to ask for.
    pub headers: HeaderMap,
    /// Where it came from, redirects followed.
    pub url: Url,
    /// Whether nobody but the origin that was asked had a say in that.
    pub own: bool,
}

/// A body that arrived whole.
pub struct Received {
    /// The response it came with.
    pub head: Head,
    /// Whether bytes of more than one response went in.
    pub joined: bool,
}

/// Tells of bytes in large steps, and never twice of those that had to be fetched again. The task starts with the first
/// request, so that what waits for its turn has no row.
pub struct Progress<'a> {
    row: Option<Row<'a>>,
    task: Option<Task<'a>>,
    told: u64,
}

/// What the task will be called.
struct Row<'a> {
    reporter: &'a dyn Reporter,
    label: &'a str,
    size: Option<u64>,
}

/// From this size on a body of known digest gets its validator kept too.
const VALIDATED: u64 = 1 << 20;

/// How many bytes between two words to the reporter.
const STEP: u64 = 256 * 1024;

impl<'a> Progress<'a> {
    /// Progress of a task on `reporter`, called `label`, of `size` bytes where that is known.
    pub fn new(reporter: &'a dyn Reporter, label: &'a str, size: Option<u64>) -> Self {
        Self { row: Some(Row { reporter, label, size }), task: None, told: 0 }
    }

    /// Progress nobody hears of.
    pub fn silent() -> Self {
        Self { row: None, task: None, told: 0 }
    }

    /// A request starts; `len` bytes are there already.
    fn start(&mut self, len: u64) {
        if let Some(Row { reporter, label, size }) = self.row.take() {
            self.task = Some(Task::begin(reporter, label, size));
        }
        self.at(len, true);
    }

    /// `len` bytes are there.
    fn at(&mut self, len: u64, last: bool) {
        let new = len.saturating_sub(self.told);
        if new > 0 && (last || new >= STEP) {
            if let Some(task) = &self.task {
                task.advance(new);
            }
            self.told = len;
        }
    }
}

/// Brings the whole body into `sink`, trying as often as the options say.
///
/// # Errors
/// What the last try failed with. What arrived stays in the sink.
pub async fn transfer(
    net: &Net,
    get: &Get<'_>,
    sink: &mut impl Sink,
    progress: &mut Progress<'_>,
) -> Result<Received, SourceError> {
    let mut tries = Tries::new(net);
    let mut joined = false;
    let mut furthest = None;
    loop {
        let before = begin(get, sink)?;
        joined |= before > 0;
        // Only bytes nobody got before are progress: a body that starts anew each time would else be tried for ever.
        let reached = *furthest.get_or_insert(before);
        if before > 0 && get.size == Some(before) {
            let head = Head { headers: HeaderMap::new(), url: get.url.clone(), own: true };
            return Ok(Received { head, joined });
        }
        match attempt(net, get, sink, progress).await {
            Ok(head) => return Ok(Received { head, joined }),
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Again(trouble)) => {
                furthest = Some(reached.max(sink.len()));
                let gained = sink.len().saturating_sub(reached);
                tries.failed(net, get.url, trouble, gained).await?;
            }
        }
    }
}

/// Readies the sink: what it holds is kept only if more can be joined to it.
fn begin(get: &Get<'_>, sink: &mut impl Sink) -> Result<u64, SourceError> {
    let keep = sink.len() <= get.cap() && (get.checked || sink.validator().is_some());
    if sink.len() > 0 && !keep {
        sink.restart()?;
    }
    Ok(sink.len())
}

async fn attempt(net: &Net, get: &Get<'_>, sink: &mut impl Sink, progress: &mut Progress<'_>) -> Result<Head, Failure> {
    let _permit = net.permit(get.url).await?;
    progress.start(sink.len());
    let call = Call { url: get.url, headers: headers(get, sink), auth: get.auth, form: get.form };
    let Answer { response, own } = send::send(net, &call).await?;
    let head = Head { headers: response.headers().clone(), url: response.url().clone(), own };
    let Some(total) = start(get, sink, &response)? else {
        return Ok(head);
    };
    let most = match (total, Coding::declared(&head.headers)) {
        (Some(total), _) => total,
        (None, Some(_)) => get.size.map_or(get.limit, Coding::grown),
        (None, None) => get.limit,
    };
    receive(net, (get, most), sink, progress, response).await?;
    match total.filter(|total| sink.len() < *total) {
        Some(total) => Err(Trouble::connection(format!("it ended after {} of {total} bytes", sink.len()))),
        None => Ok(head),
    }
}

fn headers(get: &Get<'_>, sink: &impl Sink) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(accept) = get.accept {
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
    }
    if get.form.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    if sink.len() > 0 {
        send::range_from(&mut headers, sink.len());
        if let Some(value) = sink.validator().and_then(|v| HeaderValue::from_str(&v).ok()) {
            headers.insert(IF_RANGE, value);
        }
    }
    headers
}

/// Compares the response's head with what was asked for. Gives the size the sink must reach, where it is known;
/// `None` when all is there already.
fn start(get: &Get<'_>, sink: &mut impl Sink, response: &Response) -> Result<Option<Option<u64>>, Failure> {
    match response.status() {
        StatusCode::RANGE_NOT_SATISFIABLE => past_the_end(sink, response).map(|()| None),
        StatusCode::PARTIAL_CONTENT => continued(get, sink, response).map(Some),
        _ => {
            if sink.len() > 0 {
                sink.restart()?;
            }
            let total = total(get, response, number(response.headers().get(CONTENT_LENGTH)))?;
            // One more file per blob is worth its price only where a resume is worth much, or needs it.
            if !get.checked || total.is_none_or(|total| total >= VALIDATED) {
                sink.set_validator(validator(response.headers()).as_deref())?;
            }
            Ok(Some(total))
        }
    }
}

/// A 206 must go on exactly where the sink ends; any other is a broken peer, asked again from the start.
fn continued(get: &Get<'_>, sink: &mut impl Sink, response: &Response) -> Result<Option<u64>, Failure> {
    let text = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match content_range(text) {
        Some((from, total)) if from == sink.len() && sink.len() > 0 => Ok(self::total(get, response, total)?),
        _ => {
            let why = format!("it sent `Content-Range: {text}` when asked for bytes from {} on", sink.len());
            sink.restart()?;
            Err(Trouble::connection(why))
        }
    }
}

/// A 416: all is there when the peer's size is ours, else the peer has other bytes now.
fn past_the_end(sink: &mut impl Sink, response: &Response) -> Result<(), Failure> {
    let text = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let total = text.strip_prefix("bytes */").and_then(|n| n.parse::<u64>().ok());
    if sink.len() > 0 && total == Some(sink.len()) {
        return Ok(());
    }
    let why = format!("it has no bytes from {} on (status 416)", sink.len());
    sink.restart()?;
    Err(Trouble::connection(why))
}

/// The size the sink must reach, where it is known, when the peer's body has `found` bytes. A coded body has a size of its own.
fn total(get: &Get<'_>, response: &Response, found: Option<u64>) -> Result<Option<u64>, SourceError> {
    let coded = Coding::declared(response.headers()).is_some();
    let limit = if coded { get.size.map_or(get.limit, Coding::grown) } else { get.limit };
    match (get.size, found) {
        (Some(expected), Some(found)) if expected != found && !coded => {
            Err(SourceError::Size { url: shown(get.url), expected, found })
        }
        (size, Some(found)) if (size.is_none() || coded) && found > limit => {
            Err(SourceError::TooLarge { url: shown(get.url), limit })
        }
        (size, found) => Ok(if coded { found } else { size.or(found) }),
    }
}

/// The hot path: chunks as the connection gives them, hashed and written at once. A chunk is never split or copied.
async fn receive(
    net: &Net,
    (get, cap): (&Get<'_>, u64),
    sink: &mut impl Sink,
    progress: &mut Progress<'_>,
    mut response: Response,
) -> Result<(), Failure> {
    let patience = net.options().stall_timeout;
    loop {
        let chunk = match tokio::time::timeout(patience, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                let why = crate::source::net::chain(&error.without_url());
                return Err(Trouble::connection(format!("it broke off after {} bytes: {why}", sink.len())));
            }
            Err(_) => return Err(Trouble::connection(format!("no byte for {patience:?} after {}", sink.len()))),
        };
        if sink.len() + chunk.len() as u64 > cap {
            sink.restart()?;
            return Err(SourceError::TooLarge { url: shown(get.url), limit: cap }.into());
        }
        sink.write(&chunk)?;
        progress.at(sink.len(), false);
    }
    progress.at(sink.len(), true);
    Ok(())
}

/// What tells this body from others at the same URL: a strong `ETag`, else `Last-Modified` where it can not be one of
/// two changes in one second (RFC 9110, section 8.8.2.2).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let strong = text(ETAG).filter(|tag| tag.starts_with('"'));
    let modified = text(LAST_MODIFIED).filter(|when| text(DATE).is_some_and(|now| now != *when));
    strong.or(modified).map(str::to_owned)
}

/// `bytes 5-9/10` -> (5, Some(10)); `bytes 5-9/*` -> (5, None).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;
    match total {
        "*" => Some((from, None)),
        total => Some((from, Some(total.parse().ok()?))),
    }
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes */10", "items 5-9/10", "bytes 5-9", "bytes -9/10", "bytes 5-9/x"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn only_strong_validators_count() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            validator(&pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect())
        };
        assert_eq!(headers(&[("etag", "\"a\""), ("last-modified", "x")]).as_deref(), Some("\"a\""));
        assert_eq!(headers(&[("etag", "W/\"a\""), ("last-modified", "x"), ("date", "y")]).as_deref(), Some("x"));
        assert_eq!(headers(&[("etag", "W/\"a\""), ("last-modified", "x"), ("date", "x")]), None);
    }
}
