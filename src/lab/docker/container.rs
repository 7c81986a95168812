//! Containers: made once, found again, replaced when what they are made from changed.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, EndpointSettings, HostConfig, Mount, MountType,
    NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptions, LogsOptions, RemoveContainerOptions,
    StartContainerOptions, StopContainerOptions,
};
use futures_util::StreamExt;
use serde::Serialize;

use super::connect::{Docker, is_missing};
use super::network::labels;
use super::{LAB, SPEC};
use crate::base::digest::Digest;
use crate::lab::error::LabError;

/// A container that stands beside the clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spec {
    /// Its name, which is also its host name on `network`.
    pub name: String,
    /// The lab it belongs to.
    pub lab: String,
    /// What it is there for.
    pub role: String,
    /// Its image: a name or an id.
    pub image: String,
    /// Arguments after the image's entry point.
    pub command: Vec<String>,
    /// Further environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// The network.
    pub network: String,
    /// Files of the host it reads: from, to.
    pub files: Vec<(PathBuf, String)>,
    /// Volumes: name, to.
    pub volumes: Vec<(String, String)>,
    /// Ports on 127.0.0.1 of the host: host, container.
    pub ports: Vec<(u16, u16)>,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// `running`, `exited`, `created`, …
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Paths of the host it has mounted.
    pub mounts: Vec<String>,
    /// Ports of the host that lead to it: address, host port, container port.
    pub ports: Vec<(String, u16, u16)>,
    /// Its IPv4 address; none while it does not run.
    pub address: Option<Ipv4Addr>,
}

impl Found {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// A label's value, or nothing.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Docker {
    /// Sees to it that the container stands and runs as the spec says.
    ///
    /// # Errors
    /// A container of that name that is not the lab's; an engine that can not make it.
    pub async fn ensure_container(&self, spec: &Spec) -> Result<(), LabError> {
        let digest = spec.digest();
        if let Some(found) = self.container(&spec.name).await? {
            if found.label(LAB) != spec.lab {
                return Err(foreign(&found));
            }
            if found.label(SPEC) == digest {
                return if found.is_running() { Ok(()) } else { self.start(&spec.name).await };
            }
            self.remove_container(&spec.name).await?;
        }
        let what = format!("make container `{}`", spec.name);
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let made = self.api.create_container(Some(options), spec.body(&digest)).await;
        made.map_err(|e| self.failed(&what, &e))?;
        self.start(&spec.name).await
    }

    /// Starts a container that is there.
    ///
    /// # Errors
    /// A port that is taken, a file that is gone, an engine that does not answer.
    pub async fn start(&self, name: &str) -> Result<(), LabError> {
        let started = self.api.start_container(name, None::<StartContainerOptions>).await;
        started.map_err(|e| {
            let error = self.failed(&format!("start container `{name}`"), &e);
            let text = error.to_string();
            match text.contains("address already in use") || text.contains("port is already allocated") {
                true => error.hint("another program has that port: `ss -ltnp` names it; stop it, or change the port"),
                false => error,
            }
        })
    }

    /// Stops a container; one that is not there or not running is no error.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn stop(&self, name: &str, patience: Duration) -> Result<(), LabError> {
        let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), ..StopContainerOptions::default() };
        match self.api.stop_container(name, Some(options)).await {
            Err(error) if !is_missing(&error) => Err(self.failed(&format!("stop container `{name}`"), &error)),
            _ => Ok(()),
        }
    }

    /// Kills and removes a container with its anonymous volumes. One that is not there is no error.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn remove_container(&self, name: &str) -> Result<(), LabError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match self.api.remove_container(name, Some(options)).await {
            Err(error) if !is_missing(&error) && !is_under_way(&error) => {
                Err(self.failed(&format!("remove container `{name}`"), &error))
            }
            _ => Ok(()),
        }
    }

    /// The container of that name; `None` where there is none.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn container(&self, name: &str) -> Result<Option<Found>, LabError> {
        match self.api.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) => Ok(Some(of_inspect(name, found))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(&format!("look at container `{name}`"), &error)),
        }
    }

    /// Containers, running or not, with that label (of that value, where one is given), sorted by name.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn containers(&self, label: &str, value: Option<&str>) -> Result<Vec<Found>, LabError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(filter(label, value)),
            ..ListContainersOptions::default()
        };
        let found = self.api.list_containers(Some(options)).await.map_err(|e| self.failed("list containers", &e))?;
        let mut found: Vec<Found> = found.into_iter().map(of_summary).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The last lines a container wrote, both streams.
    ///
    /// # Errors
    /// No such container, or an engine that does not answer.
    pub async fn tail(&self, name: &str, lines: usize) -> Result<Vec<String>, LabError> {
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let mut parts = Box::pin(self.api.logs(name, Some(options)));
        let mut bytes = Vec::new();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|e| self.failed(&format!("read the log of `{name}`"), &e))?;
            bytes.extend_from_slice(part.as_ref());
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(|l| crate::lab::run::printable(l.trim_end())).collect())
    }

    /// Waits until a line of the container's log holds `text`; one that ends meanwhile is an error with its last lines.
    ///
    /// # Errors
    /// A container that ends, or says nothing of the kind in `patience`.
    pub async fn wait_for_line(&self, name: &str, text: &str, patience: Duration) -> Result<(), LabError> {
        let started = std::time::Instant::now();
        loop {
            let lines = self.tail(name, 50).await?;
            if lines.iter().any(|l| l.contains(text)) {
                return Ok(());
            }
            let state = self.container(name).await?.map_or_else(|| "gone".to_owned(), |f| f.state);
            if started.elapsed() > patience || !matches!(state.as_str(), "running" | "created") {
                return Err(LabError::NotReady {
                    what: format!("container `{name}` ({state})"),
                    waited: format!("{} s", started.elapsed().as_secs()),
                    at: None,
                    reasons: lines,
                    hint: Some(format!("`docker logs {name}` shows all it wrote")),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Spec {
    /// What makes this container this one.
    pub fn digest(&self) -> String {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default()).short()
    }

    fn body(&self, digest: &str) -> ContainerCreateBody {
        let mut labels = labels(&self.lab, &self.role);
        labels.insert(SPEC.to_owned(), digest.to_owned());
        let bound =
            |host: &u16| vec![PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(host.to_string()) }];
        let files = self.files.iter().map(|(from, to)| Mount {
            typ: Some(MountType::BIND),
            source: Some(from.to_string_lossy().into_owned()),
            target: Some(to.clone()),
            read_only: Some(true),
            ..Mount::default()
        });
        let volumes = self.volumes.iter().map(|(name, to)| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            target: Some(to.clone()),
            ..Mount::default()
        });
        let host = HostConfig {
            mounts: Some(files.chain(volumes).collect()),
            port_bindings: Some(self.ports.iter().map(|(h, c)| (format!("{c}/tcp"), Some(bound(h)))).collect()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            network_mode: Some(self.network.clone()),
            ..HostConfig::default()
        };
        let endpoints = HashMap::from([(self.network.clone(), EndpointSettings::default())]);
        ContainerCreateBody {
            hostname: Some(self.name.chars().take(63).collect()),
            image: Some(self.image.clone()),
            cmd: (!self.command.is_empty()).then(|| self.command.clone()),
            env: Some(self.env.clone()),
            exposed_ports: Some(self.ports.iter().map(|(_, c)| format!("{c}/tcp")).collect()),
            labels: Some(labels),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints) }),
            ..ContainerCreateBody::default()
        }
    }
}

fn foreign(found: &Found) -> LabError {
    let why = match found.label(LAB) {
        "" => "labimg did not make it".to_owned(),
        lab => format!("it belongs to lab `{lab}`"),
    };
    let hint = match found.label(LAB) {
        "" => format!("if nobody needs it: `docker rm -f {}`", found.name),
        lab => format!("`labimg down {lab}` takes it away"),
    };
    LabError::failed(format!("there is a container `{}` already", found.name), why).hint(hint)
}

/// A filter by label.
pub(super) fn filter(label: &str, value: Option<&str>) -> HashMap<String, Vec<String>> {
    let text = value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"));
    HashMap::from([("label".to_owned(), vec![text])])
}

/// Somebody else removes it right now.
fn is_under_way(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 409, message }
        if message.contains("already in progress"))
}

fn of_inspect(name: &str, found: ContainerInspectResponse) -> Found {
    let state = found.state.and_then(|s| s.status).map(|s| s.to_string()).unwrap_or_default();
    let labels = found.config.and_then(|c| c.labels).unwrap_or_default().into_iter().collect();
    let mounts = found.mounts.unwrap_or_default().into_iter().filter_map(|m| m.source).collect();
    let network = found.network_settings.unwrap_or_default();
    let address = address(network.networks.as_ref());
    let bound = network.ports.unwrap_or_default();
    let mut ports = Vec::new();
    for (inside, outside) in bound {
        let inside = inside.split('/').next().and_then(|p| p.parse().ok()).unwrap_or(0);
        for port in outside.into_iter().flatten() {
            let host = port.host_port.and_then(|p| p.parse().ok()).unwrap_or(0);
            ports.push((port.host_ip.unwrap_or_default(), host, inside));
        }
    }
    ports.sort();
    Found { name: name.to_owned(), state, labels, mounts, ports, address }
}

fn of_summary(found: ContainerSummary) -> Found {
    let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    let ports = found.ports.unwrap_or_default();
    let mut ports: Vec<_> =
        ports.into_iter().filter_map(|p| Some((p.ip.unwrap_or_default(), p.public_port?, p.private_port))).collect();
    ports.sort();
    let address = address(found.network_settings.and_then(|n| n.networks).as_ref());
    Found {
        name: name.trim_start_matches('/').to_owned(),
        state: found.state.map(|s| s.to_string()).unwrap_or_default(),
        labels: found.labels.unwrap_or_default().into_iter().collect(),
        mounts: found.mounts.unwrap_or_default().into_iter().filter_map(|m| m.source).collect(),
        ports,
        address,
    }
}

/// The address on the only network our containers and nodes are on.
fn address(networks: Option<&HashMap<String, EndpointSettings>>) -> Option<Ipv4Addr> {
    networks?.values().find_map(|n| n.ip_address.as_deref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            name: "kind-registry".to_owned(),
            lab: "l".to_owned(),
            role: "registry".to_owned(),
            image: "i:1".to_owned(),
            command: vec!["serve".to_owned()],
            env: Vec::new(),
            network: "kind".to_owned(),
            files: vec![("/b/lab.labimg".into(), "/lab/lab.labimg".to_owned())],
            volumes: vec![("v".to_owned(), "/pushes".to_owned())],
            ports: vec![(5001, 5000)],
        }
    }

    #[test]
    fn ports_are_the_hosts_own_and_mounts_read_only() {
        let spec = spec();
        let body = serde_json::to_value(spec.body(&spec.digest())).unwrap();
        let binding = body.pointer("/HostConfig/PortBindings/5000~1tcp/0").unwrap();
        assert_eq!(binding, &serde_json::json!({"HostIp": "127.0.0.1", "HostPort": "5001"}));
        let mounts = body.pointer("/HostConfig/Mounts").unwrap().as_array().unwrap();
        assert_eq!(mounts[0]["ReadOnly"], true);
        assert_eq!(mounts[1]["Type"], "volume");
        assert_eq!(body.pointer("/HostConfig/RestartPolicy/Name").unwrap(), "unless-stopped");
        assert_eq!(body.pointer("/Labels").unwrap()["labimg.lab"], "l");
    }

    #[test]
    fn another_bundle_is_another_container() {
        let mut other = spec();
        other.files[0].0 = "/c/lab.labimg".into();
        assert_ne!(spec().digest(), other.digest());
    }
}
