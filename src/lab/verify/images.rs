//! The `images` check: every image that runs came from the bundle, from the node image's own store, or was pushed to the lab's
//! registry.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::look::Look;
use super::pushed;
use crate::base::digest::Digest;
use crate::lab::error::LabError;
use crate::lab::kube::{Api, pods};
use crate::lab::session::Session;
use crate::model::image::ImageRef;
use crate::model::profile::Cluster;
use crate::store::image::image_parts;

/// Most images named in a report.
const NAMED: usize = 20;
/// Pods asked for at once.
const PAGE: u32 = 500;

/// An image that ran, or runs, in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// `namespace/pod`
    pub pod: String,
    /// Container.
    pub container: String,
    /// The image as the pod asks for it.
    pub image: String,
    /// What the runtime says it took (`imageID`).
    pub id: String,
    /// The digest in that: of an index, a manifest or a configuration.
    pub digest: Option<Digest>,
}

/// Where images may come from, by digest.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Indexes, manifests and configurations of the bundle.
    pub bundle: BTreeSet<Digest>,
    /// The same of what stood in the node image.
    pub nodes: BTreeSet<Digest>,
}

/// What may run in a cluster.
///
/// # Errors
/// A bundle or a state file that can not be read.
pub fn known(session: &Session, cluster: &Cluster) -> Result<Known, LabError> {
    let mut bundle = BTreeSet::new();
    for image in &session.lock.images {
        bundle.insert(image.digest);
        for manifest in image.platforms.values() {
            let parts = image_parts(&*session.bundle, manifest)
                .map_err(|e| LabError::mismatch(format!("image {} of the bundle", image.reference), e))?;
            bundle.extend([manifest.digest, parts.config.digest]);
        }
    }
    let file = session.state.read()?.unwrap_or_default();
    let nodes = file.clusters.get(cluster.name.as_str()).map(|c| c.node_images.iter().copied().collect());
    Ok(Known { bundle, nodes: nodes.unwrap_or_default() })
}

/// One look at all pods of the cluster.
pub async fn look(known: &Known, api: &Api, cluster: &Cluster) -> Look {
    let (running, waiting) = match running(api).await {
        Ok(found) => found,
        Err(error) => return Look::not_yet(error),
    };
    let (mut of_bundle, mut of_nodes, mut strange) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for one in running {
        match one.digest {
            Some(digest) if known.bundle.contains(&digest) => drop(of_bundle.insert(digest)),
            Some(digest) if known.nodes.contains(&digest) => drop(of_nodes.insert(digest)),
            _ => strange.push(one),
        }
    }
    let pushed = match &cluster.registry {
        Some(registry) if !strange.is_empty() => {
            let names = [crate::lab::registry::host(registry), format!("127.0.0.1:{}", *registry.port)];
            let names: Vec<String> = names.into_iter().chain([format!("{}:5000", *registry.name)]).collect();
            pushed::find(&format!("http://127.0.0.1:{}", *registry.port), &names, &strange).await
        }
        _ => Ok(BTreeSet::new()),
    };
    let (pushed, note) = match pushed {
        Ok(pushed) => (pushed, None),
        Err(why) => (BTreeSet::new(), Some(why)),
    };
    strange.retain(|one| one.digest.is_none_or(|digest| !pushed.contains(&digest)));
    let asked = note.is_none();
    let against = reasons(&strange, cluster, note);
    if asked && !against.is_empty() {
        // What runs does not become something else by waiting.
        return Look::Never(against);
    }
    Look::judged(against, || {
        let waiting = if waiting == 0 { String::new() } else { format!("; {waiting} containers have not started") };
        let (bundle, nodes, pushed) = (of_bundle.len(), of_nodes.len(), pushed.len());
        format!("{bundle} images from the bundle, {nodes} from the node image, {pushed} pushed here{waiting}")
    })
}

fn reasons(strange: &[Running], cluster: &Cluster, note: Option<String>) -> Vec<String> {
    let mut by_image: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for one in strange {
        let who = format!("{} ({})", one.pod, one.container);
        by_image.entry((one.image.as_str(), one.id.as_str())).or_default().push(who);
    }
    let line = |((image, id), who): (&(&str, &str), &Vec<String>)| {
        format!(
            "`{image}` runs as `{id}`, which is of neither bundle nor node image nor pushed here: {}",
            super::trace::listed(who)
        )
    };
    let mut lines: Vec<String> = by_image.iter().take(NAMED).map(line).collect();
    if by_image.len() > NAMED {
        lines.push(format!("and {} more images", by_image.len() - NAMED));
    }
    if !lines.is_empty() {
        lines.extend(note);
        let push = match &cluster.registry {
            Some(registry) => format!(", or push it to localhost:{}", *registry.port),
            None => String::new(),
        };
        lines.push(format!(
            "add the image to the profile (`[[image]]`), `labimg lock`, `labimg build`, `labimg up`{push}"
        ));
    }
    lines
}

/// Every container that has an image, of every pod; and how many have none yet.
async fn running(api: &Api) -> Result<(Vec<Running>, usize), LabError> {
    let all: kube::Api<Pod> = kube::Api::all(api.client.clone());
    let (mut found, mut waiting) = (Vec::new(), 0);
    let mut params = kube::api::ListParams::default().limit(PAGE);
    loop {
        let page = all
            .list(&params)
            .await
            .map_err(|e| LabError::failed(format!("list the pods of cluster `{}`", api.cluster), pods::worded(&e)))?;
        for pod in &page.items {
            let (some, none) = of_pod(pod);
            found.extend(some);
            waiting += none;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok((found, waiting)),
        }
    }
}

/// The images of one pod's containers, ephemeral ones too; and how many containers have none yet.
pub fn of_pod(pod: &Pod) -> (Vec<Running>, usize) {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let name = format!("{}/{}", own(&pod.metadata.namespace), own(&pod.metadata.name));
    let Some(status) = &pod.status else { return (Vec::new(), 0) };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let all: Vec<&ContainerStatus> = lists.into_iter().flatten().flatten().collect();
    let asked = asked_images(pod);
    let (with, without): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| !c.image_id.is_empty());
    let running = with.into_iter().map(|c| Running {
        pod: name.clone(),
        container: c.name.clone(),
        image: asked.get(c.name.as_str()).map_or_else(|| c.image.clone(), |image| (*image).to_owned()),
        id: c.image_id.clone(),
        digest: digest_of(&c.image_id),
    });
    (running.collect(), without.len())
}

fn asked_images(pod: &Pod) -> BTreeMap<&str, &str> {
    let Some(spec) = &pod.spec else { return BTreeMap::new() };
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let plain = plain.filter_map(|c| Some((c.name.as_str(), c.image.as_deref()?)));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    plain.chain(ephemeral.filter_map(|c| Some((c.name.as_str(), c.image.as_deref()?)))).collect()
}

/// The digest in an `imageID`: containerd writes `repository@sha256:…` or the bare digest of the configuration, Docker puts a
/// scheme before it.
pub fn digest_of(id: &str) -> Option<Digest> {
    let start = id.rfind("sha256:")?;
    id.get(start..)?.parse().ok()
}

/// Repositories of the lab's registry that a pod's image can be in: those whose registry is one of `names`.
pub fn repository(image: &str, names: &[String]) -> Option<String> {
    let reference: ImageRef = image.parse().ok()?;
    names.contains(&reference.registry).then_some(reference.repository)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn digests_stand_in_image_ids_in_several_ways() {
        let digest = Digest::of(b"x");
        for id in [
            format!("docker.io/library/app@{digest}"),
            digest.to_string(),
            format!("docker-pullable://localhost:5001/app@{digest}"),
            format!("docker://{digest}"),
        ] {
            assert_eq!(digest_of(&id), Some(digest), "{id}");
        }
        assert_eq!([digest_of("app:v1"), digest_of("sha256:12"), digest_of("")], [None; 3]);
    }

    #[test]
    fn every_container_of_a_pod_counts() {
        let digest = Digest::of(b"x");
        let status = |name: &str, id: &str| json!({ "name": name, "image": "?", "imageID": id, "ready": true, "restartCount": 0 });
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "containers": [{ "name": "a", "image": "app:v1" }], "initContainers": [{ "name": "i", "image": "init" }],
                "ephemeralContainers": [{ "name": "e", "image": "debug" }] },
            "status": { "initContainerStatuses": [status("i", &digest.to_string())],
                "containerStatuses": [status("a", ""), status("b", "strange")],
                "ephemeralContainerStatuses": [status("e", &format!("debug@{digest}"))] } });
        let (found, waiting) = of_pod(&serde_json::from_value(pod).unwrap());
        let short: Vec<_> = found.iter().map(|r| (r.image.as_str(), r.digest.is_some())).collect();
        assert_eq!((short, waiting), (vec![("init", true), ("?", false), ("debug", true)], 1));
    }

    #[test]
    fn only_the_labs_own_registry_counts() {
        let names = ["localhost:5001".to_owned(), "kind-registry:5000".to_owned()];
        assert_eq!(repository("localhost:5001/team/app:v2", &names).as_deref(), Some("team/app"));
        assert_eq!(repository("localhost:5002/app", &names), None);
        assert_eq!(repository("app", &names), None);
    }
}
