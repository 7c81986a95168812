//! Clusters whose node image is made here, with the lab's images inside.

use std::collections::BTreeSet;

use super::lab::Cluster;
use super::types::Profile;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;

impl Cluster {
    /// The platforms of its nodes; `linux/amd64` where the profile says nothing.
    pub fn node_platforms(&self) -> BTreeSet<Platform> {
        let said: BTreeSet<Platform> = self.platforms.iter().map(|p| **p).collect();
        if said.is_empty() { BTreeSet::from([Platform::LinuxAmd64]) } else { said }
    }
}

impl Profile {
    /// The node image that is made for `cluster`: `labimg.lab/node/<lab>/<cluster>:<Kubernetes version>`; none where the cluster
    /// does not preload.
    pub fn preloaded_node_image(&self, cluster: &Cluster) -> Option<ImageRef> {
        let version = cluster.kubernetes.as_ref().filter(|_| cluster.preload)?;
        // What may stand in a version and not in a tag is build metadata.
        let tag = version.replace('+', "-");
        format!("labimg.lab/node/{}/{}:{tag}", *self.name, *cluster.name).parse().ok()
    }
}
