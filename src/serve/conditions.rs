//! Conditional requests (RFC 9110, section 13): the entity tag of whatever is answered is its digest.

use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::reply::{self, Code, Refusal, Reply};
use crate::base::digest::Digest;

/// The answer when the conditions of a `GET` or `HEAD` say that nothing is to be sent.
///
/// # Errors
/// `If-Match` that does not match.
pub(super) fn settled(headers: &HeaderMap, digest: &Digest) -> Result<Option<Reply>, Refusal> {
    let etag = format!("\"{digest}\"");
    // Section 13.1.1: strong comparison.
    if headers.contains_key(IF_MATCH) && !tags(headers, IF_MATCH).any(|tag| tag == "*" || tag == etag) {
        let refusal = Refusal::new(StatusCode::PRECONDITION_FAILED, Code::Unknown, format!("it is {etag} here"));
        return Err(refusal);
    }
    // Section 13.1.2: weak comparison.
    let same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
    if !tags(headers, IF_NONE_MATCH).any(same) {
        return Ok(None);
    }
    let mut reply = reply::empty(StatusCode::NOT_MODIFIED);
    // It would have to be the length that a 200 tells (section 8.6).
    reply.headers_mut().remove(CONTENT_LENGTH);
    reply::set_digest(reply.headers_mut(), digest);
    Ok(Some(reply))
}

/// The tags of a header. A digest has no comma in it.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: HeaderName, value: &str) -> u16 {
        let digest = Digest::of(b"");
        let value = value.replace("TAG", &digest.to_string());
        let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
        match settled(&headers, &digest) {
            Ok(None) => 200,
            Ok(Some(reply)) => reply.status().as_u16(),
            Err(refusal) => refusal.into_reply().status().as_u16(),
        }
    }

    #[test]
    fn tags_are_compared_as_each_header_wants() {
        for (value, none_match, matches) in [
            ("\"TAG\"", 304, 200),
            ("W/\"TAG\"", 304, 412),
            ("*", 304, 200),
            ("\"x\", \"TAG\"", 304, 200),
            ("W/\"x\",W/\"TAG\"", 304, 412),
            ("\"x\"", 200, 412),
            ("TAG", 200, 412),
            ("", 200, 412),
        ] {
            assert_eq!((status(IF_NONE_MATCH, value), status(IF_MATCH, value)), (none_match, matches), "{value}");
        }
    }
}
