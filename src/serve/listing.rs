//! Lists: tags of a repository and repositories, in pages (distribution-spec, "Listing Tags"; Docker's `_catalog`).

use hyper::StatusCode;
use hyper::header::LINK;
use serde::Serialize;

use super::State;
use super::reply::{self, Code, Refusal, Reply};
use super::request::{Name, canonical};
use super::route::Query;

/// The tags of a repository.
pub(super) async fn tags(state: &State, asked: &str, name: &Name, query: &Query) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Tags<'a> {
        name: &'a str,
        tags: Vec<String>,
    }
    let repository = state.catalog.repository(&name.host, &name.path);
    let mut all: Vec<String> = repository.iter().flat_map(|r| r.tags()).map(str::to_owned).collect();
    let mut known = repository.is_some();
    if let Some(writable) = state.writable.as_ref().filter(|w| w.host == name.host) {
        known |= writable.pushed.has_repository(&name.path).await;
        all.extend(writable.pushed.tags(&name.path).await?);
        all.sort();
        all.dedup();
    }
    if !known {
        let message = format!("there are no images of {}/{} here", name.host, name.path);
        return Err(Refusal::missing(Code::NameUnknown, message));
    }
    let (tags, last) = page(all, query)?;
    let mut reply = reply::json(StatusCode::OK, &Tags { name: asked, tags });
    link(&mut reply, &format!("/v2/{asked}/tags/list"), query, last);
    Ok(reply)
}

/// All repositories; with `ns` those of one upstream.
pub(super) async fn catalog(state: &State, query: &Query) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Repositories {
        repositories: Vec<String>,
    }
    let mut all = match &state.writable {
        Some(writable) => state.catalog.names(Some(&writable.host)),
        None => state.catalog.names(query.ns.as_deref().map(canonical).as_deref()),
    };
    if let Some(writable) = &state.writable {
        all.extend(writable.pushed.repositories().await?);
        all.sort();
        all.dedup();
    }
    let (repositories, last) = page(all, query)?;
    let mut reply = reply::json(StatusCode::OK, &Repositories { repositories });
    link(&mut reply, "/v2/_catalog", query, last);
    Ok(reply)
}

/// One page of a sorted list, and the last entry on it when there are more.
fn page(all: Vec<String>, query: &Query) -> Result<(Vec<String>, Option<String>), Refusal> {
    let invalid = |_| Refusal::bad(Code::PaginationNumberInvalid, "`n` is not a number of entries");
    let limit = query.n.as_ref().map_or(Ok(usize::MAX), |text| text.parse().map_err(invalid))?;
    let mut rest: Vec<String> = match &query.last {
        Some(last) => all.into_iter().filter(|entry| entry > last).collect(),
        None => all,
    };
    let more = rest.len() > limit;
    rest.truncate(limit);
    let last = rest.last().filter(|_| more).cloned();
    Ok((rest, last))
}

/// Where the next page is (RFC 8288).
fn link(reply: &mut Reply, path: &str, query: &Query, last: Option<String>) {
    let Some((n, last)) = query.n.as_ref().zip(last) else { return };
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.append_pair("n", n).append_pair("last", &last);
    if let Some(ns) = &query.ns {
        text.append_pair("ns", ns);
    }
    reply::set(reply.headers_mut(), LINK, &format!("<{path}?{}>; rel=\"next\"", text.finish()));
}
