//! Talking to a cluster's API.

pub mod dns;
pub mod pods;
pub mod proxy;
pub mod reach;

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::LabError;

/// A cluster's API.
#[derive(Clone)]
pub struct Api {
    /// The cluster's name in the profile.
    pub cluster: String,
    /// The client.
    pub client: Client,
}

/// Opens the API of `cluster` by a kubeconfig file; no request is made.
///
/// # Errors
/// A file that is not there or can not be used.
pub async fn connect(cluster: &str, kubeconfig: &Path, context: Option<&str>) -> Result<Api, LabError> {
    let what = || format!("cluster `{cluster}`, `{}`", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig)
        .map_err(|e| LabError::failed(what(), e).hint("`labimg up` makes the cluster and this file"))?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|e| LabError::failed(what(), e))?;
    let client = Client::try_from(config).map_err(|e| LabError::failed(what(), e))?;
    Ok(Api { cluster: cluster.to_owned(), client })
}
