//! What must be there before the first node boots: network, node image, load balancer's image, mirror, registry.

use tokio::sync::Mutex;

use crate::lab::docker::{Docker, image};
use crate::lab::error::LabError;
use crate::lab::session::Session;
use crate::lab::{mirror, registry};
use crate::model::image::ImageRef;
use crate::model::lock::FileKind;
use crate::model::profile::Cluster;

use super::config::control_planes;
use super::tracing::minor;

/// Clusters come up side by side, and share what stands beside them.
static BESIDE: Mutex<()> = Mutex::const_new(());
/// The same for images: the engine unpacks one at a time anyway.
static IMAGES: Mutex<()> = Mutex::const_new(());

/// Makes what is missing, starts what is stopped.
///
/// # Errors
/// An image that the bundle lacks, a port that is taken, an engine that refuses.
pub(super) async fn ensure(docker: &Docker, session: &Session, cluster: &Cluster) -> Result<(), LabError> {
    let _one = BESIDE.lock().await;
    mirror::network(docker, session).await?;
    mirror::ensure(docker, session).await?;
    if let Some(wanted) = &cluster.registry {
        registry::ensure(docker, session, wanted).await?;
    }
    Ok(())
}

/// Loads the images that kind runs itself.
///
/// # Errors
/// As [`ensure`].
pub(super) async fn images(docker: &Docker, session: &Session, cluster: &Cluster) -> Result<(), LabError> {
    let _one = IMAGES.lock().await;
    for name in run_images(session, cluster)? {
        session.load_image(docker, &name).await?;
    }
    Ok(())
}

/// The images that kind runs itself: the node image, and the load balancer before several control planes.
///
/// # Errors
/// A bundle that lacks one.
pub fn run_images(session: &Session, cluster: &Cluster) -> Result<Vec<ImageRef>, LabError> {
    let mut names = vec![node_image(session, cluster)?];
    if control_planes(cluster) > 1 {
        names.push(balancer(session)?);
    }
    Ok(names)
}

/// The node image: the one baked at build time, else the profile's, else kind's of that version.
///
/// # Errors
/// A bundle that holds none.
pub(super) fn node_image(session: &Session, cluster: &Cluster) -> Result<ImageRef, LabError> {
    let what = || format!("cluster `{}`: node image", *cluster.name);
    let said = session.profile.preloaded_node_image(cluster).or_else(|| cluster.node_image.as_deref().cloned());
    let name = match (said, &cluster.kubernetes) {
        (Some(name), _) => name,
        (None, Some(version)) => {
            format!("docker.io/kindest/node:{}", **version).parse().map_err(|e| LabError::failed(what(), e))?
        }
        (None, None) => {
            return Err(LabError::failed(what(), "the profile names neither `node-image` nor `kubernetes`"));
        }
    };
    image::bundled(&session.bundle, &name).map(|i| i.reference)
}

/// The load balancer before several control planes. No manifest names it, and it changes with kind's version: haproxy up to
/// 0.31, Envoy from 0.32 on (kind, `pkg/cluster/internal/loadbalancer/const.go`).
fn balancer(session: &Session) -> Result<ImageRef, LabError> {
    let files = &session.bundle.index().contents.files;
    let kind = files.iter().find(|f| f.kind == FileKind::Tool && f.name == "kind").and_then(|f| f.version.as_deref());
    let envoy = kind.and_then(minor).is_some_and(|minor| minor >= 32);
    let repository = if envoy { "envoyproxy/envoy" } else { "kindest/haproxy" };
    let found = session.bundle.images().into_iter().map(|i| i.reference).find(|r| r.repository == repository);
    found.ok_or_else(|| {
        let why = format!("kind {} needs an image `{repository}`, which the bundle lacks", kind.unwrap_or("(of PATH)"));
        LabError::failed("several control planes", why)
            .hint("name it in an `[[image]]` of the profile; `kind create cluster` says which tag it wants")
    })
}
