//! Making a cluster, or finding it made.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::beside;
use super::config::{configuration, control_planes, workers};
use super::explain;
use super::files;
use super::judge::{Plan, plan};
use super::nodes::{is_ours, nodes_of};
use super::restart;
use crate::base::digest::Digest;
use crate::base::report::Task;
use crate::lab::docker::Docker;
use crate::lab::docker::container::Found;
use crate::lab::docker::image::tagged;
use crate::lab::error::LabError;
use crate::lab::run::{self, Program};
use crate::lab::session::Session;
use crate::lab::state::ClusterFile;
use crate::lab::{kube, registry, tools};
use crate::model::profile::Cluster;

/// How long the API of nodes that were started again may take.
const API: Duration = Duration::from_secs(180);

/// See [`crate::lab::engine::Engine::up`].
pub(super) async fn up(session: &Session, cluster: &Cluster) -> Result<PathBuf, LabError> {
    session.same_bundle()?;
    let docker = Docker::connect(&session.machine).await?;
    let name = cluster.name.as_str();
    let mounts = files::write(session, cluster)?;
    let image = tagged(&beside::node_image(session, cluster)?)?;
    let config = configuration(cluster, &image, &mounts, session.machine.engines.get("kind"));
    let text = serde_json::to_string_pretty(&config).map_err(LabError::internal)?;
    let digest = Digest::of(text.as_bytes()).to_string();
    let nodes = nodes_of(&docker, name).await?;
    let known = session.state.read()?;
    let ours = is_ours(&nodes, session.state.dir(), known.as_ref());
    let entry = known.as_ref().and_then(|file| file.clusters.get(name));
    match plan(entry, &nodes, ours, containers(cluster), &digest) {
        Plan::Foreign => return Err(foreign(name)),
        Plan::Differs => return Err(differs(session, cluster, &text)?),
        Plan::Start(stopped) => {
            if !stopped.is_empty() {
                let addresses = entry.map(|e| e.addresses.clone()).unwrap_or_default();
                restart::nodes(&docker, session, &stopped, &addresses).await?;
            }
            beside::ensure(&docker, session, cluster).await?;
            kubeconfig_again(&docker, session, cluster).await?;
        }
        Plan::Make => make(&docker, session, cluster, &text, &digest).await?,
        Plan::Remake => {
            session.reporter.note(&format!("cluster `{name}` is half made: it is made anew"));
            remove(&docker, &nodes).await?;
            make(&docker, session, cluster, &text, &digest).await?;
        }
    }
    let kubeconfig = session.state.kubeconfig(name);
    let api = kube::connect(name, &kubeconfig, None).await?;
    answers(&api).await?;
    if let Some(wanted) = &cluster.registry {
        registry::announce(&api, wanted).await?;
    }
    Ok(kubeconfig)
}

/// Containers kind makes: nodes, and a load balancer before several control planes.
fn containers(cluster: &Cluster) -> usize {
    let balancer = u32::from(control_planes(cluster) > 1);
    (control_planes(cluster) + workers(cluster) + balancer) as usize
}

/// Removes a cluster's containers with their volumes.
///
/// # Errors
/// An engine that does not answer.
pub(super) async fn remove(docker: &Docker, nodes: &[Found]) -> Result<(), LabError> {
    let all = nodes.iter().map(|node| docker.remove_container(&node.name));
    futures_util::future::try_join_all(all).await.map(drop)
}

async fn make(docker: &Docker, session: &Session, cluster: &Cluster, text: &str, digest: &str) -> Result<(), LabError> {
    let name = cluster.name.as_str();
    let kind = kind_program(docker, session)?;
    let half = ClusterFile { engine: "kind".to_owned(), configuration: digest.to_owned(), ..ClusterFile::default() };
    session.remember(|file| drop(file.clusters.insert(name.to_owned(), half.clone())))?;
    tokio::try_join!(beside::images(docker, session, cluster), beside::ensure(docker, session, cluster))?;
    let own = format!("nodes/{name}/kind.yaml");
    session.state.write_secret(&own, text.as_bytes())?;
    let kubeconfig = session.state.folder("kubeconfig")?.join(name);
    let config = session.state.dir().join(own);
    let created = {
        let _task = Task::begin(&*session.reporter, &format!("cluster {name}"), None);
        kind.args(["create", "cluster", "--name", name, "--retain", "--config"])
            .args([config.to_string_lossy(), "--kubeconfig".into(), kubeconfig.to_string_lossy()])
            .run()
            .await
    };
    if let Err(error) = created {
        return Err(explain::with_reasons(docker, name, error).await);
    }
    let node_images = stored(docker, name).await?;
    let nodes = nodes_of(docker, name).await?;
    let addresses = nodes.into_iter().filter_map(|n| Some((n.name, n.address?))).collect();
    session.remember(|file| {
        let made = ClusterFile { made: true, node_images, addresses, ..half };
        file.clusters.insert(name.to_owned(), made);
    })?;
    Ok(())
}

/// The kubeconfig, where it is gone, is had from kind.
async fn kubeconfig_again(docker: &Docker, session: &Session, cluster: &Cluster) -> Result<(), LabError> {
    let kubeconfig = session.state.kubeconfig(&cluster.name);
    if !kubeconfig.is_file() {
        session.state.folder("kubeconfig")?;
        let kind = kind_program(docker, session)?.args(["export", "kubeconfig", "--name", cluster.name.as_str()]);
        kind.args(["--kubeconfig".into(), kubeconfig.to_string_lossy()]).run().await?;
    }
    Ok(())
}

/// The bundle's kind, for the engine that labimg itself talks to.
fn kind_program(docker: &Docker, session: &Session) -> Result<Program, LabError> {
    if run::find(&session.machine, "docker").is_none() {
        return Err(LabError::failed("kind runs the `docker` command", "there is none in PATH")
            .hint("install Docker's command line (Debian, Ubuntu: `sudo apt install docker-cli`)"));
    }
    let mut program = Program::new(&session.machine, &tools::tool(session, "kind")?)
        .env("DOCKER_HOST", docker.host())
        .env("KIND_EXPERIMENTAL_PROVIDER", "docker");
    for (name, value) in session.machine.engines.get("kind").iter().flat_map(|s| &s.env) {
        program = program.env(name, value);
    }
    Ok(program)
}

/// Waits until the API server says that it is ready.
async fn answers(api: &kube::Api) -> Result<(), LabError> {
    let started = Instant::now();
    loop {
        let request = hyper::Request::get("/readyz").body(Vec::new()).map_err(LabError::internal)?;
        let asked = tokio::time::timeout(Duration::from_secs(10), api.client.request_text(request)).await;
        let why = match asked {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in 10 s".to_owned(),
        };
        if started.elapsed() > API {
            return Err(LabError::NotReady {
                what: format!("the API of cluster `{}`", api.cluster),
                waited: format!("{} s", API.as_secs()),
                at: None,
                reasons: vec![why],
                hint: Some("`docker ps` shows its nodes; `labimg down` and `labimg up` make it anew".to_owned()),
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Digests of what stands in the nodes' own store from the start: manifests and configurations.
async fn stored(docker: &Docker, cluster: &str) -> Result<Vec<Digest>, LabError> {
    let nodes = nodes_of(docker, cluster).await?;
    let Some(node) = nodes.iter().find(|n| n.label(super::ROLE) == "control-plane") else { return Ok(Vec::new()) };
    let ran = docker.exec(&node.name, &["ctr", "-n", "k8s.io", "images", "ls"]).await?;
    Ok(digests(&ran.output))
}

/// Every digest in a text, sorted, each once.
fn digests(text: &str) -> Vec<Digest> {
    let starts = text.match_indices("sha256:").map(|(at, mark)| at + mark.len());
    let mut found: Vec<Digest> =
        starts.filter_map(|at| text.get(at..at + 64)).filter_map(|hex| Digest::from_hex(hex).ok()).collect();
    found.sort();
    found.dedup();
    found
}

fn foreign(name: &str) -> LabError {
    LabError::failed(format!("there is a kind cluster `{name}` already"), "this lab did not make it").hint(format!(
        "if nobody needs it: `kind delete cluster --name {name}`, or `docker rm -fv $(docker ps -aq --filter label={}={name})`",
        super::CLUSTER
    ))
}

/// Says what changed, line by line.
fn differs(session: &Session, cluster: &Cluster, text: &str) -> Result<LabError, LabError> {
    let path = session.state.dir().join(format!("nodes/{}/kind.yaml", *cluster.name));
    let old = fs_err::read_to_string(path).unwrap_or_default();
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        a.lines().filter(|l| !b.lines().any(|o| o == *l)).take(8).map(|l| format!("{sign} {}", l.trim())).collect()
    };
    let changes = [only(&old, text, '-'), only(text, &old, '+')].concat();
    let why = format!("it was made from another configuration:\n  {}", changes.join("\n  "));
    Ok(LabError::failed(format!("cluster `{}` can not be changed", *cluster.name), why)
        .hint(format!("`labimg down {}` takes the lab away; then `labimg up` makes it anew", session.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_from_a_listing() {
        let one = Digest::of(b"1");
        let text = format!("REF TYPE DIGEST\na:1 t {one} 1 MiB\n{one} t {one}\nsha256:short\n");
        assert_eq!(digests(&text), [one]);
    }
}
