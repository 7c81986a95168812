//! A cluster that is there already, reached by a context of the user's kubeconfig. labimg writes a kubeconfig of its own and
//! changes nothing beside the cluster.

use std::path::PathBuf;

use ::kube::config::Kubeconfig;
use futures_util::future::BoxFuture;

use super::{ClusterState, Engine};
use crate::lab::error::LabError;
use crate::lab::finding::Finding;
use crate::lab::kube;
use crate::lab::machine::Machine;
use crate::lab::session::Session;
use crate::lab::state::ClusterFile;
use crate::model::profile::Cluster;

/// The engine.
pub struct Existing;

impl Engine for Existing {
    fn name(&self) -> &'static str {
        "existing"
    }

    fn preflight<'a>(&'a self, session: &'a Session, cluster: &'a Cluster) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let what = format!("cluster {}", *cluster.name);
            let looked = async {
                let own = own_config(session, cluster)?;
                let api = open(cluster, own).await?;
                version(&api).await
            };
            vec![match looked.await {
                Ok(version) => Finding::ok(what, format!("Kubernetes {version} answers")),
                Err(error) => {
                    let hint = error.advice().unwrap_or("`kubectl --context CONTEXT get nodes` shows why").to_owned();
                    Finding::bad(what, error.to_string(), hint)
                }
            }]
        })
    }

    fn up<'a>(&'a self, session: &'a Session, cluster: &'a Cluster) -> BoxFuture<'a, Result<PathBuf, LabError>> {
        Box::pin(async move {
            session.same_bundle()?;
            let own = own_config(session, cluster)?;
            // YAML is a superset of JSON, and kubectl reads it.
            let text = serde_json::to_vec_pretty(&own).map_err(LabError::internal)?;
            version(&open(cluster, own).await?).await?;
            let name = cluster.name.as_str();
            session.state.write_secret(&format!("kubeconfig/{name}"), &text)?;
            session.remember(|file| {
                let made = ClusterFile { engine: "existing".to_owned(), made: true, ..ClusterFile::default() };
                file.clusters.insert(name.to_owned(), made);
            })?;
            Ok(session.state.kubeconfig(name))
        })
    }

    fn state<'a>(
        &'a self,
        session: &'a Session,
        cluster: &'a Cluster,
    ) -> BoxFuture<'a, Result<Option<ClusterState>, LabError>> {
        Box::pin(async move {
            let there = session.state.kubeconfig(&cluster.name).is_file();
            let state =
                || ClusterState { name: cluster.name.to_string(), engine: self.name().to_owned(), nodes: Vec::new() };
            Ok(there.then(state))
        })
    }
}

async fn open(cluster: &Cluster, own: Kubeconfig) -> Result<kube::Api, LabError> {
    let what = || format!("cluster `{}`", *cluster.name);
    let options = ::kube::config::KubeConfigOptions::default();
    let config = ::kube::Config::from_custom_kubeconfig(own, &options).await;
    let config = config.map_err(|e| LabError::failed(what(), e))?;
    kube::Api::new(&cluster.name, config).map_err(|e| LabError::failed(what(), e))
}

async fn version(api: &kube::Api) -> Result<String, LabError> {
    let what = || format!("the API of cluster `{}` does not answer", api.cluster);
    let asked = tokio::time::timeout(std::time::Duration::from_secs(15), api.client.apiserver_version()).await;
    let info = asked.map_err(|_| LabError::failed(what(), "no answer in 15 s"))?;
    info.map(|v| v.git_version).map_err(|e| LabError::failed(what(), e))
}

/// The one context of the user's kubeconfig that the profile names (the current one where it names none), alone.
fn own_config(session: &Session, cluster: &Cluster) -> Result<Kubeconfig, LabError> {
    let all = read(&session.machine)?;
    let wanted = cluster.context.as_ref().map(|c| c.to_string()).or_else(|| all.current_context.clone());
    let contexts = || all.contexts.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let what = || format!("cluster `{}`", *cluster.name);
    let hint = "`kubectl config get-contexts` lists them; the profile names one with `context = …`";
    let Some(wanted) = wanted else {
        return Err(LabError::failed(what(), "the kubeconfig has no current context").hint(hint));
    };
    let Some(context) = all.contexts.iter().find(|c| c.name == wanted) else {
        let why = format!("the kubeconfig has no context `{wanted}` (it has: {})", contexts());
        return Err(LabError::failed(what(), why).hint(hint));
    };
    let parts = context.context.as_ref();
    let cluster_name = parts.map(|c| c.cluster.as_str()).unwrap_or_default();
    let user = parts.and_then(|c| c.user.as_deref()).unwrap_or_default();
    Ok(Kubeconfig {
        clusters: all.clusters.iter().filter(|c| c.name == cluster_name).cloned().collect(),
        auth_infos: all.auth_infos.iter().filter(|a| a.name == user).cloned().collect(),
        contexts: vec![context.clone()],
        current_context: Some(wanted),
        ..Kubeconfig::default()
    })
}

/// The user's kubeconfig, as kubectl finds it: the files of `KUBECONFIG` merged, or `~/.kube/config`.
fn read(machine: &Machine) -> Result<Kubeconfig, LabError> {
    let listed = machine.env.get("KUBECONFIG").filter(|v| !v.is_empty());
    let paths: Vec<PathBuf> = match (listed, machine.env.get("HOME")) {
        (Some(list), _) => std::env::split_paths(list).filter(|p| !p.as_os_str().is_empty()).collect(),
        (None, Some(home)) => vec![PathBuf::from(home).join(".kube/config")],
        (None, None) => Vec::new(),
    };
    let mut all = Kubeconfig::default();
    let mut found = false;
    for path in paths.iter().filter(|p| p.is_file()) {
        let what = || format!("kubeconfig `{}`", path.display());
        let one = Kubeconfig::read_from(path).map_err(|e| LabError::failed(what(), e))?;
        all = all.merge(one).map_err(|e| LabError::failed(what(), e))?;
        found = true;
    }
    match found {
        true => Ok(all),
        false => Err(LabError::failed("there is no kubeconfig", "neither KUBECONFIG nor ~/.kube/config names one")
            .hint("get one from whoever runs the cluster, and say `export KUBECONFIG=FILE`")),
    }
}
