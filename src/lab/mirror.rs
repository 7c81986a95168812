//! The node mirror: labimg itself, in a container beside the clusters, serving the bundle in place. It stands before the first
//! node boots, comes back by itself after a reboot, and is reached by its name on the engine's network.

use std::time::Duration;

use super::docker::Docker;
use super::docker::container::Spec;
use super::docker::image;
use super::error::LabError;
use super::session::Session;
use crate::model::image::ImageRef;

/// The network of kind's nodes, and of what stands beside them.
pub const NETWORK: &str = "kind";
/// The port in the container.
pub const PORT: u16 = 5000;
/// Where the container sees the bundle.
const BUNDLE: &str = "/lab/lab.labimg";
/// Where the registry keeps what is pushed.
const PUSHES: &str = "/pushes";
/// How long a server may take to say that it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Name of the lab's mirror: a container, and a host on [`NETWORK`].
pub fn name(lab: &str) -> String {
    format!("labimg-{lab}-mirror")
}

/// Name of the volume that a lab's registry keeps pushes in.
pub fn volume(lab: &str, registry: &str) -> String {
    format!("labimg-{lab}-{registry}")
}

/// Sees to it that the network is there, and remembers whether it is ours.
///
/// # Errors
/// An engine that can not make it.
pub async fn network(docker: &Docker, session: &Session) -> Result<(), LabError> {
    if docker.ensure_network(NETWORK, session.name()).await? {
        session.remember(|file| file.own_network = true)?;
    }
    Ok(())
}

/// Sees to it that the lab's mirror listens.
///
/// # Errors
/// A bundle without labimg's image, an engine that can not run it.
pub async fn ensure(docker: &Docker, session: &Session) -> Result<(), LabError> {
    start(docker, session, Vec::new()).await.map(drop)
}

/// `labimg serve --engine docker`: the mirror, reached from this machine, too, at 127.0.0.1:`port`. Gives the container's name.
///
/// # Errors
/// As [`ensure`]; a port that is taken.
pub async fn serve_in_docker(session: &Session, port: u16) -> Result<String, LabError> {
    let docker = Docker::connect(&session.machine).await?;
    network(&docker, session).await?;
    start(&docker, session, vec![(port, PORT)]).await
}

async fn start(docker: &Docker, session: &Session, ports: Vec<(u16, u16)>) -> Result<String, LabError> {
    let mut spec = server(docker, session, &name(session.name()), "mirror").await?;
    spec.ports = ports;
    session.remember(|file| file.beside.extend([(spec.name.clone(), spec.role.clone())]))?;
    docker.ensure_container(&spec).await?;
    docker.wait_for_line(&spec.name, "http://", PATIENCE).await?;
    Ok(spec.name)
}

/// A container that runs `labimg serve` over the bundle.
pub(super) async fn server(docker: &Docker, session: &Session, name: &str, role: &str) -> Result<Spec, LabError> {
    let image = own_image(session)?;
    session.load_image(docker, &image).await?;
    let command = ["serve", BUNDLE, "--listen", &format!("0.0.0.0:{PORT}")];
    Ok(Spec {
        name: name.to_owned(),
        lab: session.name().to_owned(),
        role: role.to_owned(),
        image: image::tagged(&image)?,
        command: command.map(str::to_owned).into(),
        env: Vec::new(),
        network: NETWORK.to_owned(),
        files: vec![(session.bundle.path().to_owned(), BUNDLE.to_owned())],
        volumes: Vec::new(),
        ports: Vec::new(),
    })
}

/// The same as the writable registry of `host`.
pub(super) fn as_registry(spec: &mut Spec, host: &str, volume: String) {
    spec.command.extend(["--registry", host, "--pushes", PUSHES].map(str::to_owned));
    spec.volumes.push((volume, PUSHES.to_owned()));
}

/// labimg's own image in the bundle.
///
/// # Errors
/// A bundle without one.
pub fn own_image(session: &Session) -> Result<ImageRef, LabError> {
    let held = session.bundle.images().into_iter().map(|i| i.reference);
    held.into_iter().find(|r| r.registry == "labimg.lab" && r.repository == "labimg").ok_or_else(|| {
        LabError::failed(format!("`{}`", session.bundle.path().display()), "the bundle does not carry labimg itself")
            .hint("lock the profile with a static labimg (`labimg lock PROFILE --update labimg`), then build it again")
    })
}
