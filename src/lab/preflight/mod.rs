//! Is this machine fit for this lab?

use super::finding::Finding;
use super::session::Session;
use crate::model::profile::Cluster;

/// What engine `kind` needs.
pub async fn kind(_session: &Session, _cluster: &Cluster) -> Vec<Finding> {
    Vec::new()
}
