//! How labs are, live.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::docker::container::Found;
use super::docker::{Docker, LAB, ROLE};
use super::down::clusters;
use super::engine::ClusterState;
use super::engine::kind;
use super::error::LabError;
use super::kube::{self, fault};
use super::machine::Machine;
use super::state::{LabFile, State};

/// The engine of clusters that labimg did not make.
const EXISTING: &str = "existing";
/// How long the API of such a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Whether the bundle is where it was: without it the mirror serves nothing after a reboot.
    pub bundle_there: bool,
    /// Clusters, sorted by name.
    pub clusters: Vec<ClusterStatus>,
    /// What stands beside them: mirror, registry.
    pub containers: Vec<ContainerStatus>,
    /// Why the engine or a cluster could not be asked: what it runs was not looked at.
    pub unknown: Option<String>,
    /// What of the lab labimg did not bring up and does not look at, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_looked_at: Vec<String>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: String,
    /// Whether it was made to the end.
    pub made: bool,
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    /// Its nodes; none where there is nothing of it.
    pub state: Option<ClusterState>,
    /// Ports of this machine that lead into it: `127.0.0.1:8080 → 30080`.
    pub ports: Vec<String>,
}

/// A container beside the clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// `mirror`, `registry`.
    pub role: String,
    /// `running`, `exited`.
    pub state: String,
    /// Where it is reached from this machine.
    pub ports: Vec<String>,
}

impl LabStatus {
    /// Whether everything that there should be was looked at and runs. A lab without clusters is never up.
    pub fn is_up(&self) -> bool {
        let runs = |state: &Option<ClusterState>| state.iter().any(|s| s.nodes.iter().all(|n| n.state == "running"));
        self.unknown.is_none()
            && !self.clusters.is_empty()
            && self.clusters.iter().all(|c| c.made && runs(&c.state))
            && self.containers.iter().all(|c| c.state == "running")
    }
}

/// All labs of this machine, sorted by name.
///
/// # Errors
/// A state root that can not be read.
pub async fn all(machine: &Machine) -> Result<Vec<LabStatus>, LabError> {
    let mut found = Vec::new();
    for name in State::labs(&machine.state_root)? {
        found.extend(one(&name, machine).await?);
    }
    Ok(found)
}

/// The lab of that name; `None` where it was never up, or is down.
///
/// # Errors
/// A state folder that can not be read. An engine that does not answer is told in the status.
pub async fn one(name: &str, machine: &Machine) -> Result<Option<LabStatus>, LabError> {
    let state = State::new(&machine.state_root, name);
    let Some(file) = state.read()? else { return Ok(None) };
    let mut status = known(&state, &file);
    if let Err(error) = existing(&mut status).await {
        status.unknown = Some(error.to_string());
    }
    // A lab on clusters of somebody else's has nothing in an engine.
    let elsewhere = !status.clusters.is_empty() && status.clusters.iter().all(|c| c.engine == EXISTING);
    if elsewhere && file.beside.is_empty() {
        return Ok(Some(status));
    }
    let asked = async {
        let docker = Docker::connect(machine).await?;
        live(&docker, &state, &file, &mut status).await
    };
    if let Err(error) = asked.await {
        status.unknown = Some(error.to_string());
    }
    Ok(Some(status))
}

/// Asks the clusters that labimg did not make: their APIs are all of them that it knows.
async fn existing(status: &mut LabStatus) -> Result<(), LabError> {
    for cluster in status.clusters.iter_mut().filter(|c| c.engine == EXISTING && c.made) {
        let what = || format!("cluster `{}`", cluster.name);
        let api = kube::connect(&cluster.name, &cluster.kubeconfig, None).await?;
        let asked = tokio::time::timeout(PATIENCE, api.client.apiserver_version()).await;
        let asked = asked.map_err(|_| LabError::failed(what(), format!("no answer in {} s", PATIENCE.as_secs())))?;
        asked.map_err(|e| LabError::failed(what(), fault::describe(&e)))?;
        let (name, engine) = (cluster.name.clone(), cluster.engine.clone());
        cluster.state = Some(ClusterState { name, engine, nodes: Vec::new() });
    }
    Ok(())
}

fn known(state: &State, file: &LabFile) -> LabStatus {
    let cluster = |(name, cluster): (&String, &super::state::ClusterFile)| ClusterStatus {
        name: name.clone(),
        engine: cluster.engine.clone(),
        made: cluster.made,
        kubeconfig: state.kubeconfig(name),
        state: None,
        ports: Vec::new(),
    };
    let mut clusters: Vec<ClusterStatus> = file.clusters.iter().map(cluster).collect();
    let missing = file.wanted.iter().filter(|name| !file.clusters.contains_key(*name));
    clusters.extend(missing.map(|name| ClusterStatus {
        name: name.clone(),
        engine: String::new(),
        made: false,
        kubeconfig: state.kubeconfig(name),
        state: None,
        ports: Vec::new(),
    }));
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    LabStatus {
        name: file.name.clone(),
        bundle: file.bundle.clone(),
        bundle_there: file.bundle.is_file(),
        clusters,
        containers: Vec::new(),
        unknown: None,
        not_looked_at: file.idle.clone(),
    }
}

async fn live(docker: &Docker, state: &State, file: &LabFile, status: &mut LabStatus) -> Result<(), LabError> {
    for container in docker.containers(LAB, Some(&file.name)).await? {
        let role = container.label(ROLE).to_owned();
        let ports = ports(&container);
        status.containers.push(ContainerStatus { name: container.name, role, state: container.state, ports });
    }
    for (name, role) in &file.beside {
        if !status.containers.iter().any(|c| c.name == *name) {
            let (name, role) = (name.clone(), role.clone());
            status.containers.push(ContainerStatus { name, role, state: "missing".to_owned(), ports: Vec::new() });
        }
    }
    let ours = clusters(docker, state.dir(), file).await?;
    for cluster in &mut status.clusters {
        let Some((name, nodes)) = ours.iter().find(|(name, _)| *name == cluster.name) else { continue };
        cluster.state = kind::state(docker, name).await?;
        cluster.ports = nodes.iter().flat_map(ports).collect();
    }
    Ok(())
}

fn ports(container: &Found) -> Vec<String> {
    container.ports.iter().map(|(address, host, inside)| format!("{address}:{host} → {inside}")).collect()
}
