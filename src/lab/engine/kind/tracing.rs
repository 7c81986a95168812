//! Traces of the control plane, wired before it starts: kubeadm patches, and the API server's tracing configuration.
//!
//! Sources: kubernetes.io, "Traces For Kubernetes System Components"; etcd.io, "Distributed tracing"; kubeadm's
//! `ClusterConfiguration`, v1beta3.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::profile::TracedComponent;

/// Where components send traces: the collector on every node's own network.
const ENDPOINT: &str = "127.0.0.1:4317";
/// Every request.
const RATE: u64 = 1_000_000;
/// Where a node has the API server's tracing configuration.
pub(super) const FOLDER: &str = "/etc/labimg/tracing";
/// The configuration's file in that folder.
pub(super) const FILE: &str = "apiserver.yaml";

/// kubeadm patches that wire `components`; none for none.
pub(super) fn patches(cluster: &str, kubernetes: Option<&str>, components: &[TracedComponent]) -> Vec<Value> {
    let mut control = json!({ "kind": "ClusterConfiguration" });
    if components.contains(&TracedComponent::Etcd) {
        control["etcd"] = json!({ "local": { "extraArgs": etcd_flags(cluster, kubernetes) } });
    }
    if components.contains(&TracedComponent::Apiserver) {
        let volume = json!({
            "name": "labimg-tracing", "hostPath": FOLDER, "mountPath": FOLDER, "readOnly": true, "pathType": "Directory",
        });
        control["apiServer"] = json!({
            "extraArgs": { "tracing-config-file": format!("{FOLDER}/{FILE}") },
            "extraVolumes": [volume],
        });
    }
    let mut patches = Vec::new();
    if control.as_object().is_some_and(|o| o.len() > 1) {
        patches.push(control);
    }
    if components.contains(&TracedComponent::Kubelet) {
        let tracing = json!({ "endpoint": ENDPOINT, "samplingRatePerMillion": RATE });
        patches.push(json!({ "kind": "KubeletConfiguration", "tracing": tracing }));
    }
    patches
}

/// etcd's flags lost `experimental-` with 3.6, which kubeadm runs from Kubernetes 1.34 on.
fn etcd_flags(cluster: &str, kubernetes: Option<&str>) -> BTreeMap<String, String> {
    let prefix = if kubernetes.and_then(minor).is_some_and(|minor| minor < 34) { "experimental-" } else { "" };
    let flags = [
        ("enable-distributed-tracing", "true".to_owned()),
        ("distributed-tracing-address", ENDPOINT.to_owned()),
        ("distributed-tracing-service-name", "etcd".to_owned()),
        ("distributed-tracing-instance-id", cluster.to_owned()),
        ("distributed-tracing-sampling-rate", RATE.to_string()),
    ];
    flags.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
}

/// The API server's `TracingConfiguration`.
pub(super) fn apiserver() -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "TracingConfiguration",
        "endpoint": ENDPOINT, "samplingRatePerMillion": RATE,
    })
}

/// The minor number of `v1.34.0`.
pub(crate) fn minor(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use TracedComponent::{Apiserver, Etcd, Kubelet};

    #[test]
    fn each_component_is_wired_in_its_own_place() {
        let all = patches("c", Some("v1.34.0"), &[Etcd, Apiserver, Kubelet]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["etcd"]["local"]["extraArgs"]["distributed-tracing-address"], ENDPOINT);
        assert_eq!(all[0]["apiServer"]["extraVolumes"][0]["hostPath"], FOLDER);
        assert_eq!(all[1]["tracing"]["samplingRatePerMillion"], RATE);
        assert_eq!(patches("c", None, &[Kubelet]).len(), 1);
        assert!(patches("c", None, &[]).is_empty());
    }

    #[test]
    fn older_etcds_have_experimental_flags() {
        let old = patches("c", Some("v1.33.4"), &[Etcd]);
        assert_eq!(old[0]["etcd"]["local"]["extraArgs"]["experimental-enable-distributed-tracing"], "true");
    }
}
