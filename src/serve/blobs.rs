//! Blobs: `GET` with one range (RFC 9110, section 14), and `HEAD`.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, IF_RANGE, RANGE,
};

use super::body::{BlobBody, ReplyBody};
use super::conditions;
use super::pool::CHUNK;
use super::reply::{self, Code, Refusal, Reply};
use super::request::Name;
use super::source::OpenBlob;
use super::{State, traffic::Ticket};
use crate::base::digest::Digest;

/// Answers `GET` and `HEAD` for a blob.
pub(super) async fn get(
    state: &State,
    name: &Name,
    digest: &Digest,
    headers: &HeaderMap,
    client: IpAddr,
    head: bool,
) -> Result<Reply, Refusal> {
    let failed = |e: std::io::Error| Refusal::internal(format!("blob {digest} cannot be sent: {e}"));
    let missing = || {
        Refusal::missing(Code::BlobUnknown, format!("no image of {}/{} here has a blob {digest}", name.host, name.path))
    };
    if !state.serves(name, digest) {
        return Err(missing());
    }
    let blob = state.sources.open(digest).map_err(failed)?.ok_or_else(missing)?;
    if let Some(reply) = conditions::settled(headers, digest)? {
        return Ok(reply);
    }
    let etag = format!("\"{digest}\"");
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let range = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|tag| tag == etag));
    let span = match range.map_or(Span::All, |text| span(text, blob.size)) {
        Span::All => None,
        Span::Part(at, end) => Some((at, end)),
        Span::Outside => {
            let message = format!("the blob has {} bytes", blob.size);
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, message);
            return Err(refusal.with(CONTENT_RANGE, format!("bytes */{}", blob.size)));
        }
    };
    let (at, end) = span.unwrap_or((0, blob.size));
    let status = if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut reply = match head {
        true => reply::head(status, end - at),
        false => {
            check(state, &blob, span.is_some()).await?;
            let ticket = state.traffic.ticket(client, *digest);
            send(state, status, &blob, (at, end), Some(ticket))
        }
    };
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
    reply::set_digest(headers, digest);
    if span.is_some() {
        reply::set(headers, CONTENT_RANGE, &format!("bytes {at}-{}/{}", end.saturating_sub(1), blob.size));
    }
    Ok(reply)
}

/// An answer with these bytes of a blob.
pub(super) fn send(
    state: &State,
    status: StatusCode,
    blob: &Arc<OpenBlob>,
    (at, end): (u64, u64),
    ticket: Option<Ticket>,
) -> Reply {
    let body = BlobBody::new(blob.clone(), (at, end), state.checker.clone(), state.pool.clone(), ticket);
    reply::with_body(status, end - at, ReplyBody::Blob(Box::new(body)))
}

/// A part, or a blob of one chunk, is checked before anything is said; of others the check starts now, and their last chunk
/// waits for it.
async fn check(state: &State, blob: &Arc<OpenBlob>, part: bool) -> Result<(), Refusal> {
    if state.checker.is_good(blob) {
        return Ok(());
    }
    let done = match part || blob.size <= CHUNK as u64 {
        true => state.checker.clone().ensure(blob.clone()).await,
        false => state.checker.start(blob),
    };
    done.map_err(|e| Refusal::internal(e.to_string()))
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Span {
    /// No range, or one that is not understood: those are ignored.
    All,
    /// From, and up to but not including.
    Part(u64, u64),
    Outside,
}

fn span(text: &str, size: u64) -> Span {
    let Some(range) = text.trim().strip_prefix("bytes=") else { return Span::All };
    let Some((first, last)) = range.trim().split_once('-') else { return Span::All };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (first, last) = (first.trim(), last.trim());
    if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
        return Span::All;
    }
    // A number that does not fit is larger than any blob.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let (at, end) = match (first.is_empty(), last.is_empty()) {
        (true, _) => (size.saturating_sub(number(last)), if number(last) == 0 { 0 } else { size }),
        (false, true) => (number(first), size),
        (false, false) if number(last) < number(first) => return Span::All,
        (false, false) => (number(first), number(last).saturating_add(1).min(size)),
    };
    if at < end { Span::Part(at, end) } else { Span::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, want) in [
            ("bytes=0-0", Span::Part(0, 1)),
            ("bytes=0-", Span::Part(0, 10)),
            ("bytes=3-5", Span::Part(3, 6)),
            ("bytes=3-99999999999999999999999", Span::Part(3, 10)),
            ("bytes=-4", Span::Part(6, 10)),
            ("bytes=-400", Span::Part(0, 10)),
            ("bytes=10-", Span::Outside),
            ("bytes=-0", Span::Outside),
            ("bytes=18446744073709551615-18446744073709551615", Span::Outside),
            ("bytes=99999999999999999999999-", Span::Outside),
            ("bytes=5-3", Span::All),
            ("bytes=-", Span::All),
            ("bytes=0-1,3-4", Span::All),
            ("bytes=a-b", Span::All),
            ("bytes=--1", Span::All),
            ("lines=1-2", Span::All),
            ("", Span::All),
        ] {
            assert_eq!(span(text, 10), want, "{text}");
        }
        assert_eq!(span("bytes=0-", 0), Span::Outside);
    }
}
