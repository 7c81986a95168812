//! Kubernetes in Docker containers, by the bundle's own `kind`.
//!
//! What stands beside the clusters (network, mirror, registry) is made before the first node boots: kubelet pulls static pods
//! before there is an API. Nodes find the mirror by `certs.d`, mounted from the state folder.

mod beside;
mod config;
mod create;
mod explain;
mod files;
mod judge;
mod nodes;
mod restart;
mod tracing;

use std::path::PathBuf;

use futures_util::future::BoxFuture;

pub use beside::run_images;
pub use nodes::{CLUSTER, ROLE, is_ours, nodes_of};

use super::{ClusterState, Engine, NodeState};
use crate::lab::docker::Docker;
use crate::lab::error::LabError;
use crate::lab::finding::Finding;
use crate::lab::preflight;
use crate::lab::session::Session;
use crate::model::profile::Cluster;

/// The engine.
pub struct Kind;

impl Engine for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn preflight<'a>(&'a self, session: &'a Session, cluster: &'a Cluster) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(preflight::kind(session, cluster))
    }

    fn up<'a>(&'a self, session: &'a Session, cluster: &'a Cluster) -> BoxFuture<'a, Result<PathBuf, LabError>> {
        Box::pin(create::up(session, cluster))
    }

    fn state<'a>(
        &'a self,
        session: &'a Session,
        cluster: &'a Cluster,
    ) -> BoxFuture<'a, Result<Option<ClusterState>, LabError>> {
        Box::pin(async move {
            let docker = Docker::connect(&session.machine).await?;
            state(&docker, &cluster.name).await
        })
    }
}

/// The minor number of the Kubernetes version that the profile states.
pub fn kubernetes_minor(cluster: &Cluster) -> Option<u32> {
    cluster.kubernetes.as_ref().and_then(|version| tracing::minor(version))
}

/// How the cluster of that name is, whosever it is.
///
/// # Errors
/// An engine that does not answer.
pub async fn state(docker: &Docker, name: &str) -> Result<Option<ClusterState>, LabError> {
    let found = nodes_of(docker, name).await?;
    let of = |found: &crate::lab::docker::container::Found| NodeState {
        name: found.name.clone(),
        role: found.label(ROLE).to_owned(),
        state: found.state.clone(),
    };
    let nodes: Vec<NodeState> = found.iter().map(of).collect();
    Ok((!nodes.is_empty()).then(|| ClusterState { name: name.to_owned(), engine: "kind".to_owned(), nodes }))
}
