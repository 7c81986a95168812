//! What must be there before the first node boots: network, node image, load balancer's image, mirror, registry.

use tokio::sync::Mutex;

use crate::build::complete::{self, Balancer};
use crate::lab::docker::{Docker, image};
use crate::lab::error::LabError;
use crate::lab::session::Session;
use crate::lab::{mirror, registry};
use crate::model::image::ImageRef;
use crate::model::profile::Cluster;

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

/// The images that kind runs itself: the node image, and the load balancer before several control planes. Where labimg does not
/// know which image that is, every one that may be it.
///
/// # Errors
/// A bundle that lacks one.
pub fn run_images(session: &Session, cluster: &Cluster) -> Result<Vec<ImageRef>, LabError> {
    let mut names = vec![node_image(session, cluster)?];
    match balancer(session, cluster) {
        Balancer::None => {}
        Balancer::Image(name) => names.push(image::bundled(&session.bundle, &name)?.reference),
        Balancer::Unknown(version) => names.extend(candidates(session, version.as_deref())?),
    }
    Ok(names)
}

/// The node image: the one baked at build time, else the profile's, else kind's of that version.
///
/// # Errors
/// A bundle that holds none.
pub(super) fn node_image(session: &Session, cluster: &Cluster) -> Result<ImageRef, LabError> {
    let what = || format!("cluster `{}`: node image", *cluster.name);
    let name = complete::node_image(&session.profile, cluster).map_err(|why| {
        LabError::failed(what(), why)
            .hint("say `kubernetes = \"v1.34.0\"` in the profile's cluster, lock and build again")
    })?;
    image::bundled(&session.bundle, &name).map(|i| i.reference)
}

/// The load balancer's image. The version of a kind out of PATH is not that of the profile.
fn balancer(session: &Session, cluster: &Cluster) -> Balancer {
    match (complete::load_balancer(&session.profile, cluster), session.machine.tools_from_path) {
        (Balancer::None, _) => Balancer::None,
        (_, true) => Balancer::Unknown(None),
        (known, false) => known,
    }
}

fn candidates(session: &Session, version: Option<&str>) -> Result<Vec<ImageRef>, LabError> {
    let held = session.bundle.images().into_iter().map(|i| i.reference);
    let found: Vec<ImageRef> = held.filter(complete::balancer::is_candidate).collect();
    match found.is_empty() {
        false => Ok(found),
        true => {
            let why = format!(
                "labimg does not know which image kind {} starts before them, and the bundle holds none that could be it",
                version.unwrap_or("of PATH")
            );
            Err(LabError::failed("several control planes", why).hint(format!(
                "use a kind that labimg knows ({}), and name its image in an `[[image]]`",
                complete::balancer::KNOWN
            )))
        }
    }
}
