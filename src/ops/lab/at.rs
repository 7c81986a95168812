//! Which lab, which cluster.

use std::path::PathBuf;

use crate::lab::kube::{self, Api};
use crate::lab::{LabError, Session};

/// A cluster of a lab, as people say it.
#[derive(Debug, Clone, Default)]
pub struct At {
    /// The lab's name or bundle; the only one where not given.
    pub lab: Option<String>,
    /// The cluster; the only one where not given.
    pub cluster: Option<String>,
}

impl At {
    /// Kubeconfig of the cluster.
    pub(super) fn kubeconfig(&self, session: &Session) -> Result<PathBuf, LabError> {
        let cluster = session.cluster(self.cluster.as_deref())?;
        Ok(session.state.kubeconfig(&cluster.name))
    }

    /// API of the cluster.
    pub(super) async fn api(&self, session: &Session) -> Result<Api, LabError> {
        let cluster = session.cluster(self.cluster.as_deref())?;
        kube::connect(&cluster.name, &session.state.kubeconfig(&cluster.name), None).await
    }
}
