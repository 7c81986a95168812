//! Kinds an API server knows, asked for group by group when they are needed and kept.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::{ApiResource, DynamicObject};
use kube::{Client, Error};

/// A kind of object.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Lower-case names that kubectl takes: plural, singular, kind, short names.
    names: Vec<String>,
}

/// The kinds of one API server.
pub struct Kinds {
    client: Client,
    known: Mutex<HashMap<String, Vec<Kind>>>,
}

impl Kind {
    /// Its objects: those in `namespace` where it has namespaces.
    pub fn objects(&self, client: &Client, namespace: &str) -> kube::Api<DynamicObject> {
        if self.namespaced {
            kube::Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            kube::Api::all_with(client.clone(), &self.resource)
        }
    }
}

impl Kinds {
    /// Nothing is asked yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::new(HashMap::new()) }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The kind called `kind` in `api_version`; asked for anew when it is not known, for CRDs come at any time.
    ///
    /// # Errors
    /// An API server that does not answer. A group that is not there is no error.
    pub async fn of(&self, api_version: &str, kind: &str) -> Result<Option<Kind>, Error> {
        let find = |kinds: &[Kind]| kinds.iter().find(|k| k.resource.kind == kind).cloned();
        if let Some(found) = self.cached(api_version).and_then(|kinds| find(&kinds)) {
            return Ok(Some(found));
        }
        let kinds = self.ask(api_version).await?;
        Ok(find(&kinds))
    }

    /// The kind whose plural is `plural` in `api_version`.
    ///
    /// # Errors
    /// An API server that does not answer.
    pub async fn by_plural(&self, api_version: &str, plural: &str) -> Result<Option<Kind>, Error> {
        let kinds = self.of_group(api_version).await?;
        Ok(kinds.into_iter().find(|k| k.resource.plural == plural))
    }

    /// The kind that kubectl would take `name` for: `certificate`, `deployments.apps`, `ing`.
    ///
    /// # Errors
    /// An API server that does not answer.
    pub async fn named(&self, name: &str) -> Result<Option<Kind>, Error> {
        let name = name.to_lowercase();
        let (short, group) = name.split_once('.').map_or((name.as_str(), None), |(s, g)| (s, Some(g)));
        let is = |kind: &Kind| {
            kind.names.iter().any(|n| n == short)
                && group.is_none_or(|group| {
                    let (own, version) = (kind.resource.group.as_str(), kind.resource.version.as_str());
                    group == own || group.strip_prefix(version).and_then(|g| g.strip_prefix('.')) == Some(own)
                })
        };
        let find = |kinds: Vec<Kind>| kinds.into_iter().find(is);
        if let Some(found) = find(self.of_group("v1").await?) {
            return Ok(Some(found));
        }
        // In the server's own order: built-in groups before those of CRDs.
        for group in self.client.list_api_groups().await?.groups {
            let preferred = group.preferred_version.iter().chain(&group.versions);
            for version in preferred {
                if let Some(found) = find(self.of_group(&version.group_version).await?) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    async fn of_group(&self, api_version: &str) -> Result<Vec<Kind>, Error> {
        match self.cached(api_version) {
            Some(kinds) => Ok(kinds),
            None => self.ask(api_version).await,
        }
    }

    fn cached(&self, api_version: &str) -> Option<Vec<Kind>> {
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.get(api_version).cloned()
    }

    async fn ask(&self, api_version: &str) -> Result<Vec<Kind>, Error> {
        let asked = match api_version.contains('/') {
            true => self.client.list_api_group_resources(api_version).await,
            false => self.client.list_core_api_resources(api_version).await,
        };
        let kinds = match asked {
            Ok(list) => kinds_of(api_version, list),
            Err(Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(api_version.to_owned(), kinds.clone());
        Ok(kinds)
    }
}

fn kinds_of(api_version: &str, list: APIResourceList) -> Vec<Kind> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let own = |text: &str| text.to_owned();
    let whole = list.resources.into_iter().filter(|r| !r.name.contains('/'));
    let kind = |r: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource| {
        let mut names = vec![r.name.clone(), r.singular_name, r.kind.to_lowercase()];
        names.extend(r.short_names.unwrap_or_default());
        let (group, version) = (own(group), own(version));
        let resource = ApiResource { group, version, api_version: own(api_version), kind: r.kind, plural: r.name };
        Kind { resource, namespaced: r.namespaced, names }
    };
    whole.map(kind).collect()
}
