//! What was applied last.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::base::digest::Digest;
use crate::lab::error::LabError;
use crate::lab::kube::ready::Brought;
use crate::lab::kube::{Api, fault};
use crate::lab::state::State;

/// How long a cluster may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(60);

/// `deploys/<name>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Record {
    /// Digest of all that makes a difference but the secrets.
    pub(super) key: Option<Digest>,
    /// Secrets it refers to.
    #[serde(default)]
    pub(super) secrets: Vec<String>,
    /// Digest of their values.
    pub(super) secret_key: Option<Digest>,
    /// Whether it got ready.
    pub(super) ready: bool,
    /// What it brought.
    #[serde(default)]
    pub(super) objects: Vec<Brought>,
}

impl Record {
    /// The record of deploy `name`; an empty one where there is none.
    pub(super) fn read(state: &State, name: &str) -> Result<Self, LabError> {
        Ok(state.read_json(&file(name))?.unwrap_or_default())
    }

    /// Writes it.
    pub(super) fn write(&self, state: &State, name: &str) -> Result<(), LabError> {
        state.write_json(&file(name), self)
    }
}

fn file(name: &str) -> String {
    format!("deploys/{name}.json")
}

/// An identity of each cluster: the uid of `kube-system`, which lives as long as the cluster does.
///
/// # Errors
/// A cluster that does not answer.
pub(super) async fn identities(apis: &BTreeMap<String, Api>) -> Result<BTreeMap<String, String>, LabError> {
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    for (name, api) in apis {
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(api.client.clone());
        let asked = fault::patiently(deadline, || namespaces.get_metadata("kube-system")).await;
        let namespace = asked.map_err(|e| {
            LabError::failed(format!("cluster `{name}` does not answer"), fault::describe(&e))
                .hint("`labimg status` shows how it is; `labimg up` brings its nodes up again")
        })?;
        found.insert(name.clone(), namespace.metadata.uid.unwrap_or_default());
    }
    Ok(found)
}
