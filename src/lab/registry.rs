//! The registry beside a cluster, which attendees push to: kind's recipe ("Create A Cluster And Registry", kind.sigs.k8s.io)
//! with labimg's own registry server, or with the image that the profile names.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};

use super::docker::Docker;
use super::docker::container::Spec;
use super::docker::image;
use super::error::LabError;
use super::kube::Api;
use super::mirror::{self, NETWORK, PORT};
use super::session::Session;
use crate::model::profile::Registry;

/// How long a registry may take to say that it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where `docker.io/library/registry` keeps its data.
const DATA: &str = "/var/lib/registry";

/// The name images have in it: `localhost:5001`.
pub fn host(registry: &Registry) -> String {
    format!("localhost:{}", *registry.port)
}

/// Sees to it that the registry runs, on 127.0.0.1 of this machine and on the nodes' network.
///
/// # Errors
/// A container of that name that is not the lab's, a port that is taken, an engine that can not run it.
pub async fn ensure(docker: &Docker, session: &Session, registry: &Registry) -> Result<(), LabError> {
    let volume = mirror::volume(session.name(), &registry.name);
    docker.ensure_volume(&volume, session.name(), "registry").await?;
    let mut spec = match &registry.image {
        Some(image) => foreign(docker, session, registry, image, volume).await?,
        None => {
            let mut spec = mirror::server(docker, session, &registry.name, "registry").await?;
            mirror::as_registry(&mut spec, &host(registry), volume);
            spec
        }
    };
    spec.ports = vec![(*registry.port, PORT)];
    session.remember(|file| file.beside.extend([(spec.name.clone(), spec.role.clone())]))?;
    docker.ensure_container(&spec).await?;
    let says = if registry.image.is_some() { "listening on" } else { "http://" };
    docker.wait_for_line(&spec.name, says, PATIENCE).await
}

async fn foreign(
    docker: &Docker,
    session: &Session,
    registry: &Registry,
    image: &crate::model::image::ImageRef,
    volume: String,
) -> Result<Spec, LabError> {
    session.load_image(docker, image).await?;
    Ok(Spec {
        name: registry.name.to_string(),
        lab: session.name().to_owned(),
        role: "registry".to_owned(),
        image: image::tagged(image)?,
        command: Vec::new(),
        // Distribution 3 sends traces to a collector on localhost unless told otherwise.
        env: vec!["OTEL_TRACES_EXPORTER=none".to_owned()],
        network: NETWORK.to_owned(),
        files: Vec::new(),
        volumes: vec![(volume, DATA.to_owned())],
        ports: Vec::new(),
    })
}

/// Tells tools of the registry: the ConfigMap of KEP-1755.
///
/// # Errors
/// An API server that refuses it or does not answer.
pub async fn announce(api: &Api, registry: &Registry) -> Result<(), LabError> {
    let name = "local-registry-hosting";
    let text = format!("host: \"{}\"\nhelp: \"https://kind.sigs.k8s.io/docs/user/local-registry/\"\n", host(registry));
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("kube-public".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("localRegistryHosting.v1".to_owned(), text)].into()),
        ..ConfigMap::default()
    };
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(api.client.clone(), "kube-public");
    let params = PatchParams::apply("labimg").force();
    let applied = maps.patch(name, &params, &Patch::Apply(&map)).await;
    applied.map(drop).map_err(|e| LabError::failed(format!("ConfigMap kube-public/{name} of `{}`", api.cluster), e))
}
