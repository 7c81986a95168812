//! What one cluster of engine `kind` needs.

use super::{judge, probe};
use crate::lab::docker::container::Found;
use crate::lab::docker::{Docker, image};
use crate::lab::engine::kind::{is_ours, kubernetes_minor, nodes_of, run_images};
use crate::lab::error::LabError;
use crate::lab::finding::Finding;
use crate::lab::session::Session;
use crate::model::platform::Platform;
use crate::model::profile::Cluster;

/// Looks at what the cluster needs: images, control groups, its name, its ports.
pub async fn kind(session: &Session, cluster: &Cluster) -> Vec<Finding> {
    match look(session, cluster).await {
        Ok(found) => found,
        Err(error) => {
            let hint = error.advice().unwrap_or("`docker info` shows why").to_owned();
            vec![Finding::bad(format!("cluster {}", *cluster.name), error.to_string(), hint)]
        }
    }
}

async fn look(session: &Session, cluster: &Cluster) -> Result<Vec<Finding>, LabError> {
    let docker = Docker::connect(&session.machine).await?;
    let facts = probe::engine(&docker).await?;
    let settings = session.machine.engines.get("kind");
    let own = cluster.kubeadm_patches.iter().map(|p| p.as_str());
    let machine = settings.iter().flat_map(|s| s.config_patches.iter().map(String::as_str));
    let allowed = own.chain(machine).any(|p| p.contains("failCgroupV1"));
    let mut found = vec![judge::cgroup(facts.cgroup, kubernetes_minor(cluster), allowed)];
    found.extend(images(session, cluster, docker.platform().await?));
    let nodes = nodes_of(&docker, &cluster.name).await?;
    let ours = is_ours(&nodes, session.state.dir(), session.state.read()?.as_ref());
    found.push(name(cluster, &nodes, ours));
    if docker.is_local() {
        found.extend(ports(cluster, if ours { &nodes } else { &[] }));
    }
    Ok(found)
}

/// The images kind runs itself, for the engine's platform. Those that the bundle lacks altogether are told with the bundle.
fn images(session: &Session, cluster: &Cluster, platform: Platform) -> Option<Finding> {
    let what = format!("cluster {}: images", *cluster.name);
    let all = Ok(run_images(session, cluster).ok()?).and_then(|names| {
        for name in &names {
            let held = image::bundled(&session.bundle, name)?;
            if !held.platforms.contains_key(&platform) {
                let why = format!("the bundle does not hold it for {platform}, which the engine runs");
                return Err(LabError::failed(format!("image `{name}`"), why)
                    .hint(format!("say `platforms = [\"{platform}\"]` in the profile's cluster, and build again")));
            }
        }
        Ok(names)
    });
    Some(match all {
        Ok(names) => {
            let names: Vec<String> = names.iter().map(|n| format!("`{}`", n.tagged())).collect();
            Finding::ok(what, names.join(", "))
        }
        Err(error) => {
            let hint = error.advice().unwrap_or("name it in an `[[image]]` of the profile").to_owned();
            Finding::bad(what, error.to_string(), hint)
        }
    })
}

/// Whether the name is free, or ours.
fn name(cluster: &Cluster, nodes: &[Found], ours: bool) -> Finding {
    let what = format!("cluster {}: name", *cluster.name);
    match (nodes.is_empty(), ours) {
        (true, _) => Finding::ok(what, "free"),
        (false, true) => Finding::ok(what, format!("this lab's own, {} containers", nodes.len())),
        (false, false) => {
            let hint = format!("if nobody needs it: `kind delete cluster --name {}`", *cluster.name);
            Finding::bad(what, "a kind cluster of that name is there, and this lab did not make it", hint)
        }
    }
}

fn ports(cluster: &Cluster, own: &[Found]) -> Vec<Finding> {
    let one = |port: &crate::model::profile::Port| {
        let ours = own.iter().any(|n| n.ports.iter().any(|(_, host, _)| *host == *port.host));
        let taken = probe::taken(*port.host, port.protocol);
        judge::port(*port.host, &format!("cluster {}", *cluster.name), taken.as_deref(), ours)
    };
    cluster.ports.iter().map(one).collect()
}
