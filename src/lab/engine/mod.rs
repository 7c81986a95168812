//! What runs a cluster. An engine is one folder and one line in [`of`].

pub mod existing;
pub mod kind;

use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::error::LabError;
use super::finding::Finding;
use super::session::Session;
use crate::build::complete::engine_name;
use crate::model::profile::{Cluster, Engine as EngineName};

/// How a cluster is, live.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: String,
    /// Nodes by name, and whether each is running.
    pub nodes: Vec<NodeState>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// `control-plane`, `worker`, `external-load-balancer`.
    pub role: String,
    /// What the engine says: `running`, `exited`.
    pub state: String,
}

/// Brings clusters up and down.
pub trait Engine: Send + Sync {
    /// As profiles call it.
    fn name(&self) -> &'static str;
    /// Whether this machine is fit for the cluster. Changes nothing, and never fails: what can not be found out is a finding.
    fn preflight<'a>(&'a self, session: &'a Session, cluster: &'a Cluster) -> BoxFuture<'a, Vec<Finding>>;
    /// Makes the cluster and what stands beside it, or finds it made: idempotent. Gives its kubeconfig; its API answers, its
    /// nodes need not be ready.
    fn up<'a>(&'a self, session: &'a Session, cluster: &'a Cluster) -> BoxFuture<'a, Result<PathBuf, LabError>>;
    /// How it is; `None` where there is nothing of it.
    fn state<'a>(
        &'a self,
        session: &'a Session,
        cluster: &'a Cluster,
    ) -> BoxFuture<'a, Result<Option<ClusterState>, LabError>>;
}

/// The engine of that name; `None` for those that labimg does not drive yet.
pub fn of(name: EngineName) -> Option<&'static dyn Engine> {
    match name {
        EngineName::Kind => Some(&kind::Kind),
        EngineName::Existing => Some(&existing::Existing),
        EngineName::Minikube | EngineName::K3s => None,
    }
}

/// The engine of a cluster.
///
/// # Errors
/// One that labimg does not drive yet.
pub fn of_cluster(cluster: &Cluster) -> Result<&'static dyn Engine, LabError> {
    let name = *cluster.engine;
    of(name).ok_or_else(|| {
        let word = engine_name(name);
        LabError::failed(format!("cluster `{}`", *cluster.name), format!("labimg does not bring {word} up yet"))
            .hint("use engine `kind`, or bring the cluster up yourself and use engine `existing`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::complete::runs;

    #[test]
    fn what_is_said_to_run_runs() {
        for name in [EngineName::Kind, EngineName::Minikube, EngineName::K3s, EngineName::Existing] {
            assert_eq!(of(name).is_some(), runs(name), "{}", engine_name(name));
            assert!(of(name).is_none_or(|engine| engine.name() == engine_name(name)));
        }
    }
}
