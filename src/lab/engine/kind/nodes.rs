//! Node containers, and whose they are.

use std::path::Path;

use crate::lab::docker::Docker;
use crate::lab::docker::container::Found;
use crate::lab::error::LabError;
use crate::lab::state::LabFile;

/// kind's label of a node container: its cluster (kind, `pkg/cluster/internal/providers/docker/constants.go`).
pub const CLUSTER: &str = "io.x-k8s.kind.cluster";
/// kind's label of a node container: what it does.
pub const ROLE: &str = "io.x-k8s.kind.role";
/// Role of the load balancer, which has no mounts of ours.
pub const BALANCER: &str = "external-load-balancer";

/// The node containers of a cluster, running or not.
///
/// # Errors
/// An engine that does not answer.
pub async fn nodes_of(docker: &Docker, cluster: &str) -> Result<Vec<Found>, LabError> {
    docker.containers(CLUSTER, Some(cluster)).await
}

/// Whether a cluster's containers are this lab's: nodes mount its state folder, which no other cluster does; where only a load
/// balancer stands yet, `lab.json` says it.
pub fn is_ours(nodes: &[Found], state: &Path, file: Option<&LabFile>) -> bool {
    let Some(cluster) = nodes.first().map(|n| n.label(CLUSTER)) else { return false };
    let folder = state.join("nodes").join(cluster);
    // Docker Desktop shows paths of the host below one of its own.
    let mounts_it = |n: &&Found| n.mounts.iter().any(|m| m.contains(&*folder.to_string_lossy()));
    match nodes.iter().find(|n| n.label(ROLE) != BALANCER) {
        Some(node) => mounts_it(&node),
        None => file.is_some_and(|f| f.clusters.contains_key(cluster)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::state::ClusterFile;

    fn node(role: &str, mounts: &[&str]) -> Found {
        let labels = [(CLUSTER, "c"), (ROLE, role)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let mounts = mounts.iter().map(|m| (*m).to_owned()).collect();
        Found { name: "n".to_owned(), state: "running".to_owned(), labels, mounts, ports: Vec::new(), address: None }
    }

    #[test]
    fn mounts_tell_whose_a_cluster_is() {
        let state = Path::new("/s/lab");
        let ours = node("control-plane", &["/var/lib/x", "/host_mnt/s/lab/nodes/c/certs.d"]);
        let other = node("control-plane", &["/s/other/nodes/c/certs.d"]);
        assert!(is_ours(std::slice::from_ref(&ours), state, None));
        assert!(!is_ours(std::slice::from_ref(&other), state, None));
        assert!(!is_ours(&[], state, None));
        let balancer = node(BALANCER, &[]);
        assert!(!is_ours(std::slice::from_ref(&balancer), state, None));
        let file = LabFile { clusters: [("c".to_owned(), ClusterFile::default())].into(), ..LabFile::default() };
        assert!(is_ours(std::slice::from_ref(&balancer), state, Some(&file)));
        // A cluster of somebody else stays his, though our file has one of that name.
        assert!(!is_ours(&[balancer, other], state, Some(&file)));
    }
}
