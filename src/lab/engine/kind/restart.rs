//! Nodes after a reboot: an engine gives out addresses anew, but certificates and etcd's members know the old ones.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::lab::docker::{Docker, LAB};
use crate::lab::error::LabError;
use crate::lab::mirror::NETWORK;
use crate::lab::session::Session;

/// How long a container may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Starts these nodes under the addresses they were made with, for good.
///
/// # Errors
/// An engine that does not answer, or an address that something else holds.
pub(super) async fn nodes(
    docker: &Docker,
    session: &Session,
    names: &[String],
    addresses: &BTreeMap<String, Ipv4Addr>,
) -> Result<(), LabError> {
    try_join_all(names.iter().map(|name| docker.stop(name, STOP))).await?;
    // What stands beside the cluster came back by itself, perhaps under a node's address; it is started again afterwards.
    let beside = docker.containers(LAB, Some(session.name())).await?;
    let in_the_way = beside.iter().filter(|c| c.address.is_some_and(|a| addresses.values().any(|b| *b == a)));
    try_join_all(in_the_way.map(|c| docker.stop(&c.name, STOP))).await?;
    let fixed = names.iter().filter_map(|name| Some((name, addresses.get(name)?)));
    let fixed = try_join_all(fixed.map(|(name, address)| docker.fix_address(NETWORK, name, *address))).await;
    match fixed {
        Ok(_) => try_join_all(names.iter().map(|name| docker.start(name))).await.map(drop),
        Err(error) => {
            session.reporter.warn(&format!("nodes may get other addresses than they had: {error}"));
            in_order(docker, names, addresses).await
        }
    }
}

/// One after the other, lowest address first: an engine gives addresses out in that order.
async fn in_order(docker: &Docker, names: &[String], addresses: &BTreeMap<String, Ipv4Addr>) -> Result<(), LabError> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_by_key(|name| addresses.get(*name));
    for name in names {
        docker.start(name).await?;
    }
    Ok(())
}
