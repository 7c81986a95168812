//! What a cluster of engine `kind` needs: the images that kind itself starts, the registry beside it, and labimg, which is its
//! mirror.

use std::collections::BTreeSet;

use super::{BALANCER, Lack, balancer, paste};
use crate::model::image::ImageRef;
use crate::model::lock::Lock;
use crate::model::platform::Platform;
use crate::model::profile::{Cluster, Profile};

/// What kind starts before several control planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balancer {
    /// The cluster has one control plane.
    None,
    /// This very image.
    Image(ImageRef),
    /// Nobody here knows: kind is of this version, or of none that the profile states.
    Unknown(Option<String>),
}

/// The load balancer of `cluster`, by the version of `[tool.kind]`.
pub fn load_balancer(profile: &Profile, cluster: &Cluster) -> Balancer {
    if cluster.control_planes.as_ref().is_none_or(|n| **n < 2) {
        return Balancer::None;
    }
    let version = profile.tool.get("kind").map(|tool| tool.version.to_string());
    match version.as_deref().and_then(balancer::image) {
        Some(image) => Balancer::Image(image),
        None => Balancer::Unknown(version),
    }
}

/// The node image: the one made here with images inside, else the profile's, else kind's of the cluster's version.
///
/// # Errors
/// A cluster that states neither `node-image` nor `kubernetes`, or a version that is no tag: why, in words.
pub fn node_image(profile: &Profile, cluster: &Cluster) -> Result<ImageRef, String> {
    let said = profile.preloaded_node_image(cluster).or_else(|| cluster.node_image.as_deref().cloned());
    match (said, &cluster.kubernetes) {
        (Some(name), _) => Ok(name),
        (None, Some(version)) => {
            format!("docker.io/kindest/node:{}", **version).parse::<ImageRef>().map_err(|e| e.to_string())
        }
        (None, None) => Err("the profile names neither `node-image` nor `kubernetes`".to_owned()),
    }
}

/// What `cluster` lacks.
pub(super) fn lacks(profile: &Profile, lock: &Lock, cluster: &Cluster, here: Option<Platform>) -> Vec<Lack> {
    let nodes = match here {
        Some(here) => BTreeSet::from([here]),
        None => cluster.node_platforms(),
    };
    let held = Held { profile, lock, nodes };
    let mut found = Vec::new();
    found.extend(node(&held, cluster));
    found.extend(before_control_planes(&held, cluster));
    if let Some(registry) = &cluster.registry
        && let Some(image) = &registry.image
    {
        let by = format!("registry `{}` of cluster `{}` runs it", *registry.name, *cluster.name);
        found.extend(held.lack("registry image", image, &by, image.span()));
    }
    found.extend(labimg(lock, &held.nodes, cluster));
    found
}

/// What a lab holds, and what for.
struct Held<'a> {
    profile: &'a Profile,
    lock: &'a Lock,
    nodes: BTreeSet<Platform>,
}

impl Held<'_> {
    /// The platforms an image is held for, by its tag: an engine knows it by that. `None` where it is not held at all.
    fn platforms(&self, name: &ImageRef) -> Option<BTreeSet<Platform>> {
        let same = |other: &ImageRef| other == name || other.tagged() == name.tagged();
        let pulled =
            self.lock.images.iter().find(|i| same(&i.reference)).map(|i| i.platforms.keys().copied().collect());
        let made = || self.profile.image.iter().find(|i| i.build.is_some() && same(&i.reference));
        pulled.or_else(|| {
            made().map(|image| image.platforms.iter().map(|p| **p).collect::<BTreeSet<Platform>>()).map(
                // Where the profile says none, it is made for all that the lab has.
                |said| if said.is_empty() { self.nodes.clone() } else { said },
            )
        })
    }

    /// What is to be said of an image that is needed.
    fn lack(&self, part: &str, name: &ImageRef, by: &str, span: std::ops::Range<usize>) -> Option<Lack> {
        let Some(held) = self.platforms(name) else {
            let mut lack = Lack::new(part, format!("the lab does not carry `{name}`, and {by}"), span);
            lack.lines = Some(paste::image(name));
            return Some(lack);
        };
        let lacking: Vec<String> = self.nodes.difference(&held).map(ToString::to_string).collect();
        if lacking.is_empty() {
            return None;
        }
        let why = format!("the lab carries `{name}` for no {}, and {by}", lacking.join(", "));
        let mut lack = Lack::new(part, why, span);
        lack.hint = Some(format!("say `platforms = {lacking:?}` where the profile names `{}`", name.tagged()));
        Some(lack)
    }
}

fn node(held: &Held<'_>, cluster: &Cluster) -> Option<Lack> {
    // One that is made here is made for all platforms of the cluster; it needs the image it is made of.
    let wanted = match (&cluster.node_image, cluster.preload) {
        (Some(base), true) => Ok((**base).clone()),
        _ => node_image(held.profile, cluster),
    };
    let span = cluster.node_image.as_ref().map(|i| i.span()).unwrap_or(cluster.name.span());
    match wanted {
        Ok(name) => held.lack("node image", &name, &format!("cluster `{}` is made of it", *cluster.name), span),
        Err(why) => {
            let mut lack = Lack::new("node image", format!("cluster `{}`: {why}", *cluster.name), span);
            lack.hint = Some(format!("say `kubernetes = \"v1.34.0\"` in cluster `{}`, then lock again", *cluster.name));
            Some(lack)
        }
    }
}

fn before_control_planes(held: &Held<'_>, cluster: &Cluster) -> Option<Lack> {
    let planes = cluster.control_planes.as_ref()?;
    let by = format!("cluster `{}` has {} control planes", *cluster.name, **planes);
    let near: Vec<&ImageRef> =
        held.lock.images.iter().map(|i| &i.reference).filter(|r| balancer::is_candidate(r)).collect();
    match load_balancer(held.profile, cluster) {
        Balancer::None => None,
        Balancer::Image(name) => {
            let version = held.profile.tool.get("kind").map(|t| t.version.to_string()).unwrap_or_default();
            let by = format!("kind {version} starts it because {by}");
            let mut lack = held.lack(BALANCER, &name, &by, planes.span())?;
            if let Some(other) = near.iter().find(|r| r.tagged() != name.tagged()) {
                lack.why = format!("{} (`{}` is that of another version of kind)", lack.why, other.tagged());
            }
            Some(lack)
        }
        // Without kind itself its version is not known; that kind lacks is said already.
        Balancer::Unknown(None) if near.is_empty() => {
            let why = format!("{by}, and which image kind starts before them hangs on the version of `[tool.kind]`");
            let mut lack = Lack::new(BALANCER, why, planes.span());
            lack.lines = balancer::image(paste::KIND).map(|image| paste::image(&image));
            Some(lack)
        }
        Balancer::Unknown(version) => {
            let version = version.map_or_else(|| "of another place".to_owned(), |v| v.clone());
            let why = match near.first() {
                Some(held) => format!(
                    "{by}; labimg does not know which image kind {version} starts before them (known: {}), so whether \
                     `{}` is right was not looked at",
                    balancer::KNOWN,
                    held.tagged()
                ),
                None => format!(
                    "{by}; labimg does not know which image kind {version} starts before them (known: {}), and the lab \
                     carries none that could be it",
                    balancer::KNOWN
                ),
            };
            let mut lack = Lack::new(BALANCER, why, planes.span());
            lack.needed = near.is_empty();
            lack.hint = Some(
                "use a version of kind that labimg knows; or read pkg/cluster/internal/loadbalancer/const.go of that kind, \
                 and name its image in an `[[image]]`"
                    .to_owned(),
            );
            Some(lack)
        }
    }
}

/// labimg itself: every lab of kind has a mirror, which is labimg in a container.
fn labimg(lock: &Lock, nodes: &BTreeSet<Platform>, cluster: &Cluster) -> Option<Lack> {
    let lacking: Vec<String> =
        nodes.iter().filter(|n| !lock.carried.iter().any(|p| p.platform == **n)).map(ToString::to_string).collect();
    if lacking.is_empty() {
        return None;
    }
    let why = match lock.carried.is_empty() {
        true => format!("the lab does not carry it, and it serves the images to cluster `{}`", *cluster.name),
        false => format!(
            "the lab carries it for no {}, and it serves the images to cluster `{}`",
            lacking.join(", "),
            *cluster.name
        ),
    };
    let mut lack = Lack::new("labimg itself", why, cluster.engine.span());
    let files: Vec<String> = lacking.iter().map(|p| format!("--carry FILE (a static labimg for {p})")).collect();
    lack.hint = Some(format!(
        "labimg lock PROFILE --update labimg, run by a static labimg, or with {}; then build again",
        files.join(" and ")
    ));
    Some(lack)
}
