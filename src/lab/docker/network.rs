//! Networks and volumes.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::errors::Error;
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions, ListVolumesOptions, RemoveVolumeOptions};

use super::connect::{Docker, is_missing};
use super::container::filter;
use super::{LAB, ROLE};
use crate::lab::error::LabError;

/// IPv6 range of the network, the one kind chooses for it (an RFC 4193 prefix derived from the network's name).
const RANGE: &str = "fc00:f853:ccd:e793::/64";

impl Docker {
    /// Sees to it that the network is there, with the options kind gives it: a bridge with masquerading, IPv6 where the engine
    /// can. Gives whether it was made now.
    ///
    /// # Errors
    /// An engine that can not make it.
    pub async fn ensure_network(&self, name: &str, lab: &str) -> Result<bool, LabError> {
        let what = format!("make network `{name}`");
        if self.network(name).await?.is_some() {
            return Ok(false);
        }
        let mut wrong = None;
        for six in [true, false] {
            match self.api.create_network(request(name, lab, six, None)).await {
                Ok(_) => {
                    self.own_range(name, lab, six).await?;
                    return Ok(true);
                }
                Err(Error::DockerResponseServerError { status_code: 409, .. }) => return Ok(false),
                Err(error) => wrong = Some(error),
            }
        }
        match wrong {
            Some(error) => Err(self.failed(&what, &error)),
            None => Ok(true),
        }
    }

    /// Makes the network again with the range that the engine chose for it as its own: only such a network takes fixed addresses,
    /// which nodes need after a reboot.
    async fn own_range(&self, name: &str, lab: &str, six: bool) -> Result<(), LabError> {
        let what = format!("make network `{name}`");
        let failed = |e: Error| self.failed(&what, &e);
        let found = self.api.inspect_network(name, None::<InspectNetworkOptions>).await.map_err(failed)?;
        let ranges = found.ipam.and_then(|i| i.config).unwrap_or_default();
        let Some(four) = ranges.into_iter().find(|r| r.subnet.as_ref().is_some_and(|s| s.contains('.'))) else {
            return Ok(());
        };
        self.api.remove_network(name).await.map_err(failed)?;
        self.api.create_network(request(name, lab, six, Some(four))).await.map(drop).map_err(failed)
    }

    /// Gives a stopped container a fixed address on the network.
    ///
    /// # Errors
    /// A network that takes none, or an engine that does not answer.
    pub async fn fix_address(&self, network: &str, container: &str, address: Ipv4Addr) -> Result<(), LabError> {
        let failed = |e: Error| self.failed(&format!("give `{container}` its address {address}"), &e);
        let leave = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        match self.api.disconnect_network(network, leave).await {
            Err(error) if !is_missing(&error) => return Err(failed(error)),
            _ => {}
        }
        let fixed = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() };
        let endpoint = EndpointSettings { ipam_config: Some(fixed), ..EndpointSettings::default() };
        let join = NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
        match self.api.connect_network(network, join).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // Never leave it without any network.
                let any = NetworkConnectRequest { container: container.to_owned(), endpoint_config: None };
                let _ = self.api.connect_network(network, any).await;
                Err(failed(error))
            }
        }
    }

    /// Number of containers on a network; `None` where there is no such network.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn network(&self, name: &str) -> Result<Option<usize>, LabError> {
        match self.api.inspect_network(name, None::<InspectNetworkOptions>).await {
            Ok(found) => Ok(Some(found.containers.map_or(0, |c| c.len()))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(&format!("look at network `{name}`"), &error)),
        }
    }

    /// Names of the networks that labimg made.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn own_networks(&self) -> Result<Vec<String>, LabError> {
        let options = ListNetworksOptions { filters: Some(filter(ROLE, Some("network"))) };
        let found = self.api.list_networks(Some(options)).await;
        let found = found.map_err(|e| self.failed("list networks", &e))?;
        Ok(found.into_iter().filter_map(|n| n.name).collect())
    }

    /// Removes a network; one that is not there, or in use, stays as it is. Gives whether it was removed.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn remove_network(&self, name: &str) -> Result<bool, LabError> {
        match self.api.remove_network(name).await {
            Ok(()) => Ok(true),
            // 403: it has containers.
            Err(Error::DockerResponseServerError { status_code: 403 | 404 | 409, .. }) => Ok(false),
            Err(error) => Err(self.failed(&format!("remove network `{name}`"), &error)),
        }
    }

    /// Sees to it that the lab's volume is there.
    ///
    /// # Errors
    /// An engine that can not make it.
    pub async fn ensure_volume(&self, name: &str, lab: &str, role: &str) -> Result<(), LabError> {
        let request =
            VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels(lab, role)), ..Default::default() };
        let made = self.api.create_volume(request).await;
        made.map(drop).map_err(|e| self.failed(&format!("make volume `{name}`"), &e))
    }

    /// Volumes of the lab.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn volumes(&self, lab: &str) -> Result<Vec<String>, LabError> {
        let options = ListVolumesOptions { filters: Some(filter(LAB, Some(lab))) };
        let found = self.api.list_volumes(Some(options)).await;
        let found = found.map_err(|e| self.failed("list volumes", &e))?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(|v| v.name).collect())
    }

    /// Removes a volume and what is in it. One that is not there is no error.
    ///
    /// # Errors
    /// One in use, or an engine that does not answer.
    pub async fn remove_volume(&self, name: &str) -> Result<(), LabError> {
        match self.api.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Err(error) if !is_missing(&error) => Err(self.failed(&format!("remove volume `{name}`"), &error)),
            _ => Ok(()),
        }
    }
}

fn request(name: &str, lab: &str, six: bool, four: Option<IpamConfig>) -> NetworkCreateRequest {
    let masquerade = ("com.docker.network.bridge.enable_ip_masquerade".to_owned(), "true".to_owned());
    let range = IpamConfig { subnet: Some(RANGE.to_owned()), ..IpamConfig::default() };
    let ranges: Vec<IpamConfig> = four.into_iter().chain(six.then_some(range)).collect();
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([masquerade])),
        labels: Some(labels(lab, "network")),
        enable_ipv6: six.then_some(true),
        ipam: (!ranges.is_empty()).then(|| Ipam { config: Some(ranges), ..Ipam::default() }),
        ..NetworkCreateRequest::default()
    }
}

/// The labels of something that belongs to a lab.
pub(super) fn labels(lab: &str, role: &str) -> HashMap<String, String> {
    HashMap::from([(LAB.to_owned(), lab.to_owned()), (ROLE.to_owned(), role.to_owned())])
}
