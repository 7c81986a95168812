//! `labimg serve`: a registry over bundles, or labs of the store.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::{Ctx, OpsError};
use crate::base::digest::Digest;
use crate::serve::{self, Options, Registry, Server, Source};
use crate::store::bundle::Bundle;
use crate::store::{Access, Store};

/// What is to be served, and where.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Bundles.
    pub bundles: Vec<PathBuf>,
    /// Labs of the store.
    pub labs: Vec<String>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The lab's writable registry instead of a mirror.
    pub registry: Option<Registry>,
}

/// A server that listens.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listening {
    /// Its address.
    pub address: SocketAddr,
    /// What is served.
    pub sources: Vec<Served>,
    /// How many images can be had.
    pub images: usize,
    /// The host whose registry it is; absent for a mirror of all upstreams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Where pushes go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushes: Option<PathBuf>,
}

/// One thing that is served.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Served {
    /// A bundle's path, or the lab.
    pub name: String,
    /// A bundle's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Digest>,
}

/// Opens what is to be served and listens. [`Server::run`] then answers.
///
/// # Errors
/// Bundles that cannot be read or disagree, labs that are not there, an address that is taken.
pub async fn serve(ctx: &Ctx, options: ServeOptions) -> Result<(Server, Listening), OpsError> {
    if options.bundles.is_empty() && options.labs.is_empty() {
        return Err(OpsError::hinted("nothing to serve", "name a bundle, or a lab of the store: --store-lab NAME"));
    }
    let mut sources = Vec::new();
    let mut served = Vec::new();
    for path in &options.bundles {
        let bundle = Bundle::open_checked(path)?;
        served.push(Served { name: path.display().to_string(), identity: Some(bundle.identity()) });
        sources.push(serve::from_bundle(bundle));
    }
    for lab in &options.labs {
        sources.push(lab_source(ctx, lab)?);
        served.push(Served { name: lab.clone(), identity: None });
    }
    let (registry, pushes) = options.registry.clone().map(|r| (r.host, r.pushes)).unzip();
    let server = Server::bind(Options { listen: options.listen, registry: options.registry }, sources).await?;
    server.report_to(ctx.reporter.clone());
    let told = Listening { address: server.address(), sources: served, images: server.images(), registry, pushes };
    Ok((server, told))
}

fn lab_source(ctx: &Ctx, lab: &str) -> Result<Source, OpsError> {
    let store = std::sync::Arc::new(Store::open_existing(&ctx.store, Access::Shared)?);
    let labs = store.labs()?;
    if !labs.iter().any(|known| known == lab) {
        let there = if labs.is_empty() { "none".to_owned() } else { labs.join(", ") };
        return Err(OpsError::hinted(format!("the store has no lab `{lab}`"), format!("labs there: {there}")));
    }
    Ok(serve::from_store(&store, lab)?)
}
