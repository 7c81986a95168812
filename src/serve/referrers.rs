//! Referrers (distribution-spec, "Listing Referrers"): the manifests of a repository that have another one as their subject,
//! such as signatures and lists of contents.

use std::collections::BTreeMap;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, LINK};
use serde::{Deserialize, Serialize};

use super::State;
use super::reply::{self, Refusal, Reply};
use super::request::Name;
use super::route::Query;
use super::source::Manifest;
use crate::base::digest::Digest;
use crate::store::image::{OCI_INDEX, is_index};

/// Tells that the answer is filtered.
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Tells on `PUT` that the manifest is found by its subject from now on: nobody has to keep a list in a tag.
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// How many bytes of referrers are listed at once, about: annotations can be large.
const PAGE: usize = 1 << 20;

/// A manifest that refers to another one: image-spec's descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referrer {
    media_type: String,
    pub(super) digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What of a manifest is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referring {
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

/// Which manifest this one refers to, and what is told of it; `None` when it refers to none, or not in words that are understood.
pub(super) fn referrer(manifest: &Manifest, bytes: &[u8]) -> Option<(Digest, Referrer)> {
    let Referring { subject, artifact_type, config, annotations } = serde_json::from_slice(bytes).ok()?;
    let stated = |text: Option<String>| text.filter(|t| !t.is_empty());
    // The type of what an image manifest is made from stands in for its own.
    let config = config.filter(|_| !is_index(&manifest.media_type)).and_then(|c| c.media_type);
    let referrer = Referrer {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest,
        size: bytes.len() as u64,
        artifact_type: stated(artifact_type).or_else(|| stated(config)),
        annotations: annotations.unwrap_or_default(),
    };
    Some((subject?.digest, referrer))
}

/// Answers a request for the referrers of a manifest. The manifest itself need not be there.
pub(super) async fn get(
    state: &State,
    asked: &str,
    name: &Name,
    subject: &Digest,
    query: &Query,
) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u32,
        media_type: &'static str,
        manifests: Vec<Referrer>,
    }
    let repository = state.catalog.repository(&name.host, &name.path);
    let mut all: Vec<Referrer> = repository.map(|r| r.referrers(subject).to_vec()).unwrap_or_default();
    if let Some(writable) = state.writable.as_ref().filter(|w| w.host == name.host) {
        all.extend(writable.pushed.referrers(&name.path, subject).await?);
    }
    all.sort_by_key(|r| r.digest);
    all.dedup_by_key(|r| r.digest);
    if let Some(wanted) = &query.artifact_type {
        all.retain(|r| r.artifact_type.as_ref() == Some(wanted));
    }
    if let Some(last) = query.last.as_ref().and_then(|last| last.parse::<Digest>().ok()) {
        all.retain(|r| r.digest > last);
    }
    let more = page(&mut all);
    let index = Index { schema_version: 2, media_type: OCI_INDEX, manifests: all };
    let mut reply = reply::json(StatusCode::OK, &index);
    reply::set(reply.headers_mut(), CONTENT_TYPE, OCI_INDEX);
    if query.artifact_type.is_some() {
        reply::set(reply.headers_mut(), FILTERS_APPLIED, "artifactType");
    }
    if let Some(last) = more {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.append_pair("last", &last.to_string());
        for (key, value) in [("artifactType", &query.artifact_type), ("ns", &query.ns)] {
            if let Some(value) = value {
                text.append_pair(key, value);
            }
        }
        let link = format!("</v2/{asked}/referrers/{subject}?{}>; rel=\"next\"", text.finish());
        reply::set(reply.headers_mut(), LINK, &link);
    }
    Ok(reply)
}

/// Leaves what fits onto a page; gives the last of it when there is more.
fn page(all: &mut Vec<Referrer>) -> Option<Digest> {
    let mut bytes = 0;
    let fit = all.iter().take_while(|referrer| {
        let before = bytes;
        bytes += serde_json::to_vec(referrer).map_or(0, |text| text.len());
        before < PAGE
    });
    let fit = fit.count();
    if fit >= all.len() {
        return None;
    }
    all.truncate(fit);
    all.last().map(|r| r.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::image::OCI_MANIFEST;
    use serde_json::json;

    fn of(media_type: &str, text: &serde_json::Value) -> Option<(Digest, Referrer)> {
        let manifest = Manifest { digest: Digest::of(b"m"), media_type: media_type.to_owned() };
        referrer(&manifest, text.to_string().as_bytes())
    }

    #[test]
    fn a_referrer_is_told_with_its_type_and_annotations() {
        let subject = Digest::of(b"s");
        let text =
            json!({"subject": {"digest": subject}, "config": {"mediaType": "a/config"}, "annotations": {"k": "v"}});
        let (of_what, found) = of(OCI_MANIFEST, &text).unwrap();
        assert_eq!((of_what, found.artifact_type.as_deref()), (subject, Some("a/config")));
        assert_eq!(found.annotations["k"], "v");
        let text =
            json!({"subject": {"digest": subject}, "artifactType": "a/own", "config": {"mediaType": "a/config"}});
        assert_eq!(of(OCI_MANIFEST, &text).unwrap().1.artifact_type.as_deref(), Some("a/own"));
        assert_eq!(of(OCI_INDEX, &json!({"subject": {"digest": subject}})).unwrap().1.artifact_type, None);
        for odd in [
            json!({}),
            json!({"subject": null}),
            json!({"subject": {"digest": "sha512:00"}}),
            json!([]),
            json!({"subject": {"digest": 3}}),
        ] {
            assert_eq!(of(OCI_MANIFEST, &odd), None, "{odd}");
        }
    }

    #[test]
    fn pages_are_bounded_and_never_empty() {
        let one = |n: u8, length: usize| {
            let text = json!({"subject": {"digest": Digest::of(b"s")}, "annotations": {"k": "v".repeat(length)}});
            let manifest = Manifest { digest: Digest::of(&[n]), media_type: OCI_MANIFEST.to_owned() };
            referrer(&manifest, text.to_string().as_bytes()).unwrap().1
        };
        let mut all: Vec<Referrer> = (0..5).map(|n| one(n, PAGE / 2)).collect();
        assert_eq!(page(&mut all), Some(Digest::of(&[1])));
        assert_eq!(all.len(), 2);
        let mut all = vec![one(0, 2 * PAGE), one(1, 1)];
        assert_eq!((page(&mut all), all.len()), (Some(Digest::of(&[0])), 1));
        assert_eq!((page(&mut all), all.len()), (None, 1));
    }
}
