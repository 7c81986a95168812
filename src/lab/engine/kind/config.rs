//! kind's configuration (kind.sigs.k8s.io, "Configuration", `kind.x-k8s.io/v1alpha4`), as JSON, which is YAML.

use serde_json::{Value, json};

use super::tracing;
use crate::lab::machine::EngineSettings;
use crate::model::profile::{Cluster, Protocol};

/// A path of this machine that every node sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeMount {
    /// On this machine.
    pub(super) host: String,
    /// In the node.
    pub(super) node: String,
    /// Whether nodes may write.
    pub(super) writable: bool,
}

/// The configuration of `cluster` with nodes of `image`.
pub(super) fn configuration(
    cluster: &Cluster,
    image: &str,
    mounts: &[NodeMount],
    settings: Option<&EngineSettings>,
) -> Value {
    let components: Vec<_> = cluster.tracing.iter().map(|c| **c).collect();
    let version = cluster.kubernetes.as_ref().map(|v| v.as_str());
    let traced = tracing::patches(&cluster.name, version, &components);
    let own = cluster.kubeadm_patches.iter().map(|p| p.to_string());
    let machine = settings.iter().flat_map(|s| s.config_patches.iter().cloned());
    let patches: Vec<String> = traced.iter().map(Value::to_string).chain(own).chain(machine).collect();
    let mut config = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": cluster.name.as_str(),
        "nodes": nodes(cluster, image, mounts),
    });
    if !patches.is_empty() {
        config["kubeadmConfigPatches"] = json!(patches);
    }
    if let Some(settings) = settings.filter(|s| !s.feature_gates.is_empty()) {
        config["featureGates"] = json!(settings.feature_gates);
    }
    config
}

/// Control-plane nodes: 1 where the profile says nothing.
pub(super) fn control_planes(cluster: &Cluster) -> u32 {
    cluster.control_planes.as_ref().map_or(1, |n| **n)
}

/// Worker nodes: none where the profile says nothing.
pub(super) fn workers(cluster: &Cluster) -> u32 {
    cluster.workers.as_ref().map_or(0, |n| **n)
}

fn nodes(cluster: &Cluster, image: &str, mounts: &[NodeMount]) -> Vec<Value> {
    let mounts: Vec<Value> = mounts
        .iter()
        .map(|m| json!({ "hostPath": m.host, "containerPath": m.node, "readOnly": !m.writable }))
        .collect();
    let node = |role: &str| json!({ "role": role, "image": image, "extraMounts": mounts });
    let planes = (0..control_planes(cluster)).map(|_| node("control-plane"));
    let mut nodes: Vec<Value> = planes.chain((0..workers(cluster)).map(|_| node("worker"))).collect();
    if let Some(first) = nodes.first_mut().filter(|_| !cluster.ports.is_empty()) {
        first["extraPortMappings"] = cluster.ports.iter().map(port).collect();
    }
    nodes
}

/// Ports are this machine's own: a lab is for the one who sits here.
fn port(port: &crate::model::profile::Port) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    json!({
        "hostPort": *port.host, "containerPort": *port.node, "listenAddress": "127.0.0.1", "protocol": protocol,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::profile::{Profile, parse};

    /// A profile around one cluster.
    pub(in crate::lab) fn profile(cluster: &str) -> Profile {
        let text = format!("schema = 1\nname = \"lab\"\n[[cluster]]\nname = \"c\"\nengine = \"kind\"\n{cluster}");
        parse("p.toml", &text, &mut |_| Err("none".to_owned())).unwrap_or_else(|e| panic!("{e}")).profile
    }

    fn written(cluster: &str, settings: Option<&EngineSettings>) -> Value {
        let mount = NodeMount { host: "/s/certs.d".into(), node: "/etc/containerd/certs.d".into(), writable: false };
        configuration(&profile(cluster).cluster[0], "n:1", &[mount], settings)
    }

    #[test]
    fn one_node_is_the_least() {
        let config = written("kubernetes = \"v1.34.0\"", None);
        let mounts =
            json!([{ "hostPath": "/s/certs.d", "containerPath": "/etc/containerd/certs.d", "readOnly": true }]);
        let expected = json!({
            "kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "name": "c",
            "nodes": [{ "role": "control-plane", "image": "n:1", "extraMounts": mounts }],
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn any_topology_and_every_patch() {
        let text = r#"kubernetes = "v1.34.0"
            control-planes = 3
            workers = 2
            tracing = ["kubelet"]
            kubeadm-patches = ["kind: InitConfiguration"]
            ports = [{ host = 8080, node = 30080 }, { host = 53, node = 30053, protocol = "udp" }]"#;
        let settings = EngineSettings {
            config_patches: vec!["kind: JoinConfiguration".to_owned()],
            feature_gates: [("KubeletInUserNamespace".to_owned(), true)].into(),
            ..EngineSettings::default()
        };
        let config = written(text, Some(&settings));
        let roles: Vec<&str> =
            config["nodes"].as_array().unwrap().iter().map(|n| n["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["control-plane", "control-plane", "control-plane", "worker", "worker"]);
        let ports = &config["nodes"][0]["extraPortMappings"];
        assert_eq!(
            ports[1],
            json!({ "hostPort": 53, "containerPort": 30053, "listenAddress": "127.0.0.1", "protocol": "UDP" })
        );
        assert!(config["nodes"][1].get("extraPortMappings").is_none());
        let patches = config["kubeadmConfigPatches"].as_array().unwrap();
        assert_eq!(patches.len(), 3);
        assert!(patches[0].as_str().unwrap().contains("samplingRatePerMillion"));
        assert_eq!(patches[1], "kind: InitConfiguration");
        assert_eq!(patches[2], "kind: JoinConfiguration");
        assert_eq!(config["featureGates"], json!({ "KubeletInUserNamespace": true }));
    }
}
