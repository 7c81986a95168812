//! Is this machine fit for this lab?

use super::finding::Finding;
use super::session::Session;
use crate::model::profile::Cluster;

/// What engine `kind` needs.
pub async fn kind(_session: &Session, _cluster: &Cluster) -> Vec<Finding> {
    Vec::new()
}

/// Everything the lab needs.
pub async fn preflight(session: &Session) -> Vec<Finding> {
    let mut found = Vec::new();
    for cluster in &session.profile.cluster {
        if let Some(engine) = super::engine::of(*cluster.engine) {
            found.extend(engine.preflight(session, cluster).await);
        }
    }
    found
}
