//! What was pushed to the lab's registry: asked of its HTTP API (distribution-spec, "Pull" and "Content Discovery").

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::images::{Running, repository};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::base::null;
use crate::lab::http::{self, Answer};
use crate::store::image::{DOCKER_LIST, DOCKER_MANIFEST, MANIFEST_LIMIT, OCI_INDEX, OCI_MANIFEST};

/// Most requests one look makes.
const MOST_REQUESTS: usize = 2000;
/// Longest one request takes.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize, Default)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// An index or a manifest, as far as needed.
#[derive(Deserialize, Default)]
struct Either {
    #[serde(default, deserialize_with = "null::in_list")]
    manifests: Vec<Entry>,
    #[serde(default)]
    config: Option<Entry>,
}

/// What a manifest or index names. Its digest may be of another algorithm than ours: then nothing that runs has it.
#[derive(Deserialize)]
struct Entry {
    #[serde(default, deserialize_with = "null::absent")]
    digest: String,
}

impl Entry {
    fn digest(&self) -> Option<Digest> {
        self.digest.parse().ok()
    }
}

/// How many indexes inside each other are followed.
const DEPTH: usize = 4;

struct Registry<'a> {
    url: &'a str,
    requests: usize,
}

/// Digests of manifests and configurations among `wanted` that the registry at `url`, known to pods by `names`, holds.
///
/// # Errors
/// A registry that does not answer, in one line.
pub async fn find(url: &str, names: &[String], wanted: &[Running]) -> Result<BTreeSet<Digest>, String> {
    let mut registry = Registry { url, requests: 0 };
    let mut held = BTreeSet::new();
    let mut repositories = BTreeSet::new();
    for one in wanted {
        let Some(repository) = repository(&one.image, names) else { continue };
        let Some(digest) = one.digest else { continue };
        // By digest first: a tag that was pushed again no longer leads to what still runs.
        if !held.contains(&digest) && registry.manifest(&repository, &digest.to_string()).await?.is_some() {
            held.insert(digest);
        }
        repositories.insert(repository);
    }
    let missing = |held: &BTreeSet<Digest>| wanted.iter().filter_map(|w| w.digest).any(|d| !held.contains(&d));
    if !missing(&held) {
        return Ok(held);
    }
    repositories.extend(registry.catalog().await?);
    for repository in repositories {
        registry.hold(&repository, &mut held).await?;
        if !missing(&held) {
            break;
        }
    }
    Ok(held)
}

impl Registry<'_> {
    async fn get(&mut self, path: &str) -> Result<Option<Answer>, String> {
        self.requests += 1;
        if self.requests > MOST_REQUESTS {
            return Err(format!("the registry at {} holds too much to look through", self.url));
        }
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "application/json"].join(", ");
        let headers = [("accept".to_owned(), accept)];
        let url = format!("{}{path}", self.url);
        let request = http::Request { method: "GET", url: &url, headers: &headers, follow: false, timeout: TIMEOUT };
        let answer = http::fetch(&request).await.map_err(|e| format!("the lab's registry does not answer: {e}"))?;
        Ok((answer.status == 200).then_some(answer))
    }

    /// Names of all repositories; none where the registry does not tell.
    async fn catalog(&mut self) -> Result<Vec<String>, String> {
        let answer = self.get("/v2/_catalog?n=1000").await?;
        let catalog: Catalog = answer.and_then(|a| bounded::from_json(&a.body).ok()).unwrap_or_default();
        Ok(catalog.repositories.unwrap_or_default().into_iter().filter(|r| is_name(r)).collect())
    }

    async fn manifest(&mut self, repository: &str, wanted: &str) -> Result<Option<(Digest, Either)>, String> {
        let answer = self.get(&format!("/v2/{repository}/manifests/{wanted}")).await?;
        let Some(answer) = answer.filter(|a| a.body.len() as u64 <= MANIFEST_LIMIT) else { return Ok(None) };
        let digest = Digest::of(&answer.body);
        // A registry that answers with other bytes than asked for holds nothing.
        if wanted.starts_with("sha256:") && digest.to_string() != wanted {
            return Ok(None);
        }
        Ok(bounded::from_json(&answer.body).ok().map(|either| (digest, either)))
    }

    /// Takes the digests of everything that the repository's tags lead to.
    async fn hold(&mut self, repository: &str, held: &mut BTreeSet<Digest>) -> Result<(), String> {
        let answer = self.get(&format!("/v2/{repository}/tags/list?n=1000")).await?;
        let tags: Tags = answer.and_then(|a| bounded::from_json(&a.body).ok()).unwrap_or_default();
        for tag in tags.tags.unwrap_or_default().into_iter().filter(|t| is_name(t)) {
            let Some((digest, either)) = self.manifest(repository, &tag).await? else { continue };
            held.insert(digest);
            self.hold_below(repository, either, held).await?;
        }
        Ok(())
    }

    /// Takes what an index or manifest names: configurations, manifests, and indexes inside it with theirs.
    async fn hold_below(&mut self, repository: &str, top: Either, held: &mut BTreeSet<Digest>) -> Result<(), String> {
        let mut level = vec![top];
        for _ in 0..=DEPTH {
            let mut next = Vec::new();
            for either in level {
                held.extend(either.config.and_then(|c| c.digest()));
                for digest in either.manifests.iter().filter_map(Entry::digest) {
                    if held.insert(digest) {
                        next.extend(self.manifest(repository, &digest.to_string()).await?.map(|(_, either)| either));
                    }
                }
            }
            level = next;
        }
        Ok(())
    }
}

/// Whether a name out of an answer may stand in a path.
fn is_name(text: &str) -> bool {
    !text.contains("..") && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::routing::get;

    /// A registry with one index under `team/app:v1`, a manifest below it, and an older manifest that no tag leads to.
    async fn registry() -> (String, [Digest; 4]) {
        let config = Digest::of(b"config");
        let manifest = format!(r#"{{"config":{{"digest":"{config}"}},"layers":[]}}"#);
        let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, Digest::of(manifest.as_bytes()));
        let old = r#"{"layers":[]}"#.to_owned();
        let digests = [&index, &manifest, &old].map(|t| Digest::of(t.as_bytes()));
        let by_name = move |Path(wanted): Path<String>| {
            let all = [index.clone(), manifest.clone(), old.clone()];
            let found = all.into_iter().find(|t| Digest::of(t.as_bytes()).to_string() == wanted);
            let tagged = (wanted == "v1").then(|| index.clone());
            std::future::ready(found.or(tagged).ok_or(StatusCode::NOT_FOUND))
        };
        let app = Router::new()
            .route("/v2/_catalog", get(|| async { r#"{"repositories":["team/app","../etc"]}"# }))
            .route("/v2/team/app/tags/list", get(|| async { r#"{"name":"team/app","tags":["v1"]}"# }))
            .route("/v2/team/app/manifests/{wanted}", get(by_name));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url, [digests[0], digests[1], digests[2], config])
    }

    fn running(image: &str, digest: Digest) -> Running {
        let (pod, container) = ("n/p".to_owned(), "c".to_owned());
        Running { pod, container, image: image.to_owned(), id: digest.to_string(), digest: Some(digest) }
    }

    #[tokio::test]
    async fn what_was_pushed_is_found_by_every_digest() {
        let (url, [index, manifest, old, config]) = registry().await;
        let names = ["localhost:5001".to_owned()];
        for digest in [index, manifest, old, config] {
            let held = find(&url, &names, &[running("localhost:5001/team/app:v1", digest)]).await.unwrap();
            assert!(held.contains(&digest), "{digest}");
        }
        let strange = Digest::of(b"strange");
        let held = find(&url, &names, &[running("localhost:5001/team/app:v1", strange)]).await.unwrap();
        assert!(!held.contains(&strange));
        // Known by its configuration only, under a name that says nothing.
        assert!(find(&url, &names, &[running("app", config)]).await.unwrap().contains(&config));
    }

    #[tokio::test]
    async fn a_registry_that_is_not_there_is_said() {
        let why = find("http://127.0.0.1:1", &[], &[running("app", Digest::of(b"x"))]).await.unwrap_err();
        assert!(why.contains("does not answer"), "{why}");
    }
}
