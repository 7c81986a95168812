//! Node images that hold the lab's images: `preload = true` of a cluster.
//!
//! A node image of kind runs with an anonymous volume over `/var`, into which the engine copies what the image has there, once
//! per node. So the bytes stand elsewhere, in a layer that all nodes share, and containerd finds them through links:
//!
//! ```text
//! /kind/labimg/blobs/sha256/<hex>                                     manifests, configurations, layers
//! /var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/<hex>   links to them
//! /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db          the node image's own metadata, with ours
//! ```
//!
//! containerd's content store only asks for size and bytes of what stands there, so links do. Nothing is run, nothing is
//! unpacked: a node unpacks an image when its first container starts, from its own disk.

pub mod base;
pub mod bolt;
mod content;
mod layer;
mod manifest;
pub mod metadata;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use layer::{Made, NodeLayer};
use manifest::NodeManifest;

use super::BuildError;
use super::image::files_layer::LAYER;
use super::image::manifest::{MANIFEST, ManifestStep};
use super::made::Request;
use super::step::{Action, Input};
use crate::model::image::ImageRef;
use crate::model::lock::LockedImage;
use crate::model::platform::Platform;
use crate::model::profile::{Cluster, Engine, MadeImage, Profile};

/// The repository of the load balancers that kind starts beside nodes, never on them; envoy may be a lab's own, too.
const BALANCER: &str = "docker.io/kindest/haproxy";
const BALANCER_OR_NOT: &str = "docker.io/envoyproxy/envoy";

/// The node images that a profile wants made, with their platforms.
pub fn node_images(profile: &Profile) -> Vec<(ImageRef, MadeImage)> {
    let made = |cluster: &Cluster| MadeImage { def: String::new(), platforms: cluster.node_platforms() };
    profile.cluster.iter().filter_map(|c| Some((profile.preloaded_node_image(c)?, made(c)))).collect()
}

/// The steps that make them.
///
/// # Errors
/// A cluster of another engine or without a node image, or one that the lock does not have for a platform.
pub fn actions(request: &Request<'_>) -> Result<Vec<Box<dyn Action>>, BuildError> {
    let mut actions: Vec<Box<dyn Action>> = Vec::new();
    for cluster in request.profile.cluster.iter().filter(|c| c.preload) {
        if *cluster.engine != Engine::Kind {
            let message =
                format!("cluster `{}` has `preload`, which only nodes of engine `kind` can have", *cluster.name);
            return Err(BuildError::user(message, "leave `preload` out"));
        }
        let Some(reference) = request.profile.preloaded_node_image(cluster) else { continue };
        for platform in cluster.node_platforms() {
            let base = base_of(request, cluster)?;
            let Some(locked) = base.platforms.get(&platform) else {
                return Err(BuildError::Internal(format!("the lock has no {} for {platform}", base.reference)));
            };
            let layer = NodeLayer {
                image: reference.to_string(),
                platform,
                base: locked.clone(),
                images: pulled(request, platform),
                made: made(request, platform),
            };
            let output = Input::Step { step: layer.name(), output: LAYER.to_owned() };
            let (image, base) = (reference.to_string(), locked.clone());
            actions.push(Box::new(layer));
            actions.push(Box::new(NodeManifest { image, platform, base, layer: output }));
        }
    }
    Ok(actions)
}

fn base_of<'l>(request: &Request<'l>, cluster: &Cluster) -> Result<&'l LockedImage, BuildError> {
    let Some(reference) = &cluster.node_image else {
        return Err(BuildError::user(
            format!("cluster `{}` has `preload` and no `node-image` to put the lab's images into", *cluster.name),
            "write the one of its Kubernetes version: node-image = \"docker.io/kindest/node:v…\"",
        ));
    };
    let found = request.lock.images.iter().find(|i| i.reference == **reference);
    found.ok_or_else(|| BuildError::Internal(format!("the lock has no {}", **reference)))
}

/// The locked images that nodes run.
fn pulled(request: &Request<'_>, platform: Platform) -> Vec<LockedImage> {
    let images = request.lock.images.iter();
    images.filter(|i| i.platforms.contains_key(&platform) && on_nodes(request.profile, &i.reference)).cloned().collect()
}

/// Whether an image may run on a node: it is not what nodes, registries and load balancers themselves are made of.
fn on_nodes(profile: &Profile, reference: &ImageRef) -> bool {
    let of_engine = profile.cluster.iter().flat_map(|c| {
        let registry = c.registry.as_ref().and_then(|r| r.image.as_ref());
        c.node_image.iter().chain(registry)
    });
    let balanced = profile.cluster.iter().any(|c| c.control_planes.as_ref().is_some_and(|n| **n > 1));
    let name = reference.name();
    let balancer = name == BALANCER || (name == BALANCER_OR_NOT && balanced);
    !balancer && !of_engine.into_iter().any(|r| **r == *reference)
}

/// The images made here that nodes run, by the steps that make their manifests.
fn made(request: &Request<'_>, platform: Platform) -> Vec<Made> {
    let for_it = request.inputs.made.iter().filter(|(_, image)| image.platforms.contains(&platform));
    let steps = |reference: &ImageRef, image: &MadeImage| -> BTreeMap<Platform, Input> {
        let step = |p: &Platform| ManifestStep::step_name(&reference.to_string(), *p);
        let input = |p: &Platform| (*p, Input::Step { step: step(p), output: MANIFEST.to_owned() });
        image.platforms.iter().map(input).collect()
    };
    for_it.map(|(reference, image)| Made { reference: reference.clone(), manifests: steps(reference, image) }).collect()
}
