//! Talking to a cluster's API.

pub mod dns;
pub mod fault;
pub mod kinds;
pub mod pods;
pub mod proxy;
pub mod reach;
pub mod ready;
pub mod reasons;

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::LabError;

/// The field manager of everything labimg applies.
pub const MANAGER: &str = "labimg";

/// A cluster's API.
#[derive(Clone)]
pub struct Api {
    /// The cluster's name in the profile.
    pub cluster: String,
    /// The client.
    pub client: Client,
    /// The same, but one that never asks again: a 503 that a service gives through the API server is an answer.
    pub plain: Client,
}

impl Api {
    /// The API that a configuration leads to; no request is made.
    ///
    /// # Errors
    /// A configuration that can not be used.
    pub fn new(cluster: &str, config: Config) -> Result<Self, kube::Error> {
        let mut once = config.clone();
        once.default_retry = false;
        Ok(Self { cluster: cluster.to_owned(), client: Client::try_from(config)?, plain: Client::try_from(once)? })
    }
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
    Api::new(cluster, config).map_err(|e| LabError::failed(what(), e))
}
