//! Which tags a repository has (distribution-spec 1.1, "Listing Tags"): asked only to help who wrote one that is not there.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::auth::with_auth;
use super::endpoint::{Endpoint, endpoints};
use crate::model::image::ImageRef;
use crate::source::http::get_small;
use crate::source::{Net, SourceError};

/// Largest page taken, in bytes.
const PAGE_LIMIT: u64 = 1 << 20;
/// Tags asked for at a time.
const PER_PAGE: usize = 1000;
/// Pages asked for: registries list by name, so that the newest may stand on the last.
const MOST_PAGES: usize = 5;
/// Longest wait for all of it: it is only a help.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a registry says of the tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// Nothing that could be used.
    Unknown,
    /// It has no such repository.
    NoRepository,
    /// These.
    There {
        /// The tags, as the registry orders them.
        tags: Vec<String>,
        /// Whether there are more than were asked for.
        more: bool,
    },
}

/// Asks the first server of the image's registry. Never an error: who asks has one already.
pub async fn tags(net: &Net, image: &ImageRef) -> Tags {
    tokio::time::timeout(PATIENCE, ask(net, image)).await.unwrap_or(Tags::Unknown)
}

async fn ask(net: &Net, image: &ImageRef) -> Tags {
    let first = endpoints(net.options(), &image.registry).ok().and_then(|all| all.into_iter().next());
    let Some(endpoint) = first else { return Tags::Unknown };
    let mut tags: Vec<String> = Vec::new();
    for _ in 0..MOST_PAGES {
        match page(net, &endpoint, image, tags.last().map(String::as_str)).await {
            Ok(page) => {
                let whole = page.len() < PER_PAGE;
                // A registry that knows no pages gives the same one again.
                let known = tags.len();
                tags.extend(page.into_iter().filter(|tag| !tag.is_empty()));
                tags.sort();
                tags.dedup();
                if whole || tags.len() == known {
                    return Tags::There { tags, more: false };
                }
            }
            // Some answer 404 to whatever they do not know, this list too: only the code of the specification says it.
            Err(SourceError::NotFound { said, .. }) if tags.is_empty() && said.contains("NAME_UNKNOWN") => {
                return Tags::NoRepository;
            }
            Err(_) if tags.is_empty() => return Tags::Unknown,
            Err(_) => break,
        }
    }
    Tags::There { tags, more: true }
}

async fn page(
    net: &Net,
    endpoint: &Endpoint,
    image: &ImageRef,
    last: Option<&str>,
) -> Result<Vec<String>, SourceError> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        tags: Option<Vec<String>>,
    }
    let mut url: Url = endpoint.url(image, "tags", "list")?;
    url.query_pairs_mut().append_pair("n", &PER_PAGE.to_string());
    if let Some(last) = last {
        url.query_pairs_mut().append_pair("last", last);
    }
    let url = &url;
    let small = with_auth(net, endpoint, &image.repository, |auth| async move {
        get_small(net, url, None, PAGE_LIMIT, auth.as_ref()).await
    })
    .await?;
    let page: Page = serde_json::from_slice(&small.bytes).map_err(|e| SourceError::Answer {
        url: crate::model::url_policy::shown(url.as_str()),
        what: "list of tags",
        why: e.to_string(),
    })?;
    Ok(page.tags.unwrap_or_default())
}
