//! The profile's tables for what runs: clusters, what is deployed to them, secrets, and what must be seen at the end.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::is_default;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// What runs a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Kubernetes in Docker containers.
    Kind,
    /// minikube.
    Minikube,
    /// k3s on hosts.
    K3s,
    /// A cluster that is there already, reached by a kubeconfig context.
    Existing,
}

/// A component of the control plane that can send traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TracedComponent {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    Apiserver,
    /// kubelet.
    Kubelet,
}

/// A Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cluster {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// What runs it.
    pub engine: Loc<Engine>,
    /// Kubernetes version, with `v`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Loc<String>>,
    /// The engine's node image, where the default of its version will not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_image: Option<Loc<ImageRef>>,
    /// Control-plane nodes (1 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_planes: Option<Loc<u32>>,
    /// Worker nodes (0 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Loc<u32>>,
    /// Platforms of its nodes (`linux/amd64` where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Loc<Platform>>,
    /// A registry attendees push to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// Components that send traces, wired before the cluster starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracing: Vec<Loc<TracedComponent>>,
    /// Bake the lab's images into the node image at build time: nodes then pull nothing, and the bundle holds them twice.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preload: bool,
    /// Patches of the engine's kubeadm configuration, as YAML: strategic merge by `kind` (`kind` engine only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubeadm_patches: Vec<Loc<String>>,
    /// Files of the profile and directories of the attendee's machine that every node sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Ports of the attendee's machine that lead into the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Context of the kubeconfig (`existing` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Loc<String>>,
}

/// What a node sees of the attendee's machine: a file of the profile, or a directory of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mount {
    /// A file, relative to this one; it travels in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Loc<String>>,
    /// A directory of the attendee's machine, made when it is not there: absolute, or relative to where `labimg up` is typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Loc<String>>,
    /// Where it stands in the node: an absolute path.
    pub node: Loc<String>,
    /// Whether nodes may write there (`host` only).
    #[serde(default, skip_serializing_if = "is_default")]
    pub writable: bool,
}

/// A registry beside a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registry {
    /// Container name.
    pub name: Loc<String>,
    /// Port on the attendee's machine.
    pub port: Loc<u16>,
    /// Its image; labimg's own registry where not given, which holds the lab's images of that name from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Loc<ImageRef>>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port forwarded from the attendee's machine to the nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Port {
    /// On the attendee's machine.
    pub host: Loc<u16>,
    /// On the node.
    pub node: Loc<u16>,
    /// `tcp` where not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
}

/// A secret made when the lab comes up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secret {
    /// `alnum:N` or `hex:N`, N characters; `ca:NAME`, an authority of its own; `cert:NAME`, a certificate signed by `ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(alnum:[0-9]+|hex:[0-9]+|ca:.+|cert:.+)$"))]
    pub generate: Option<Loc<String>>,
    /// The secret that signs it (`cert` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Loc<String>>,
    /// DNS names and addresses it is for (`cert` only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Loc<String>>,
    /// Taken from an object in a cluster, once that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<SecretField>,
}

/// A field of an object in a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretField {
    /// The cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// `KIND/NAME`, as kubectl takes it: `secret/jenkins`.
    pub object: Loc<String>,
    /// Its namespace (`default` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// JSONPath of the field: `$.data.password`. What stands in a Secret's `data` is decoded.
    pub path: Loc<String>,
}

/// An Istio installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Istio {
    /// Istio's configuration profile: `demo`, `default`, `minimal`…
    pub profile: Loc<String>,
    /// Further settings, as `istioctl install --set` takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
}

/// Something applied to a cluster: a manifest, a chart or Istio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deploy {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// The cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// Name of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Loc<String>>,
    /// Name of a chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Loc<String>>,
    /// Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio: Option<Istio>,
    /// Namespace, made when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of deploys that must be ready before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Loc<String>>,
    /// What to wait for: `deployment/NAME` or `deployment/*` (so, too, `statefulset`, `daemonset`, `job`, `pod`, `crd`,
    /// `loadbalancer`), `webhook`, `http://…` from this machine, `http:SERVICE:PORT/PATH` through the cluster, `dns:NAME` in the
    /// cluster, or `field:KIND/NAME:$.path=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Loc<String>>,
    /// How long that may take (`10m` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Loc<String>>,
}

/// A service of one cluster made reachable from another (Skupper).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Link {
    /// The cluster that uses the service.
    pub from: Loc<String>,
    /// The cluster that has it.
    pub to: Loc<String>,
    /// The service.
    pub service: Loc<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The observability stack as one table. What it says becomes ordinary tables: images, manifests and deploys called `jaeger`,
/// `otel-gateway`, `otel-agent` and `prometheus`, and checks. Collectors come after Jaeger; agents send to the gateway where
/// there is one, else to Jaeger. Services are called as the deploys; OTLP is at their ports 4317 (gRPC) and 4318 (HTTP).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observability {
    /// The cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// Namespace (`observability` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Loc<String>>,
    /// Jaeger all-in-one of this version (`1.62.0`): stores and shows traces (16686), takes OTLP and Zipkin (9411).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jaeger: Option<Loc<String>>,
    /// OpenTelemetry Collector of this version (`0.111.0`), the core distribution; without Jaeger it prints what it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<Loc<String>>,
    /// How the collector runs: `gateway` (a Deployment and its Service) and `agent` (on every node, reached at 127.0.0.1); both
    /// where not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<Loc<CollectorMode>>,
    /// Prometheus of this version (`3.5.0`): scrapes the collectors and every pod annotated `prometheus.io/scrape: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Loc<String>>,
    /// Deploys that must be ready before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Loc<String>>,
}

/// How an OpenTelemetry Collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CollectorMode {
    /// One for all: a Deployment with a Service.
    Gateway,
    /// One on every node, on the node's own network.
    Agent,
}

/// What an attendee must see at the end: one kind of look each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// One line, as the report prints it.
    pub name: Loc<String>,
    /// The cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// Things that must be ready, as in `[[deploy]]`; in `namespace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Loc<String>>,
    /// A page that must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A trace that must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceCheck>,
    /// A metric that must have a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricCheck>,
    /// A line that must have been logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogCheck>,
    /// A name that must resolve in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsCheck>,
    /// A command on one of the profile's hosts, over SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshCheck>,
    /// Every running image must come from the bundle, the node image, or the lab's registry.
    #[serde(default, skip_serializing_if = "is_default")]
    pub images: bool,
    /// Namespace of `ready` and `log` (`default` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How long to try (`60s` where not given): `60s`, `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Loc<String>>,
}

/// A command that must succeed on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SshCheck {
    /// Name of a `[[host]]`.
    pub host: Loc<String>,
    /// A shell command; it must end with exit code 0.
    pub run: String,
    /// Text its standard output must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// A trace that must be found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TraceCheck {
    /// What to ask: the name of a deploy that runs a Jaeger query service.
    pub via: Loc<String>,
    /// The service to search by.
    pub service: String,
    /// Services that must all have a span in one trace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// An operation of `service` to search by; it must be in the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Operations that must all be in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
    /// Spans of one service below spans of another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<TraceParent>,
    /// Fewest spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_spans: Option<u32>,
    /// Shortest duration: `3s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_duration: Option<Loc<String>>,
    /// Only a trace that this request starts: labimg sends it with a trace id of its own and looks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<HttpCheck>,
}

/// A span of one service whose parent is of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TraceParent {
    /// Service of the parent.
    pub parent: String,
    /// Service of the child.
    pub child: String,
}

/// A page that must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpCheck {
    /// Its URL, as an attendee opens it; or `SERVICE.NAMESPACE:PORT/PATH`, asked through the cluster.
    pub url: String,
    /// Method (`GET` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Expected status (200 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Headers the answer must have, and what they must hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// JSONPath to the value (as text) that the body must have there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, String>,
    /// Text the body must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

/// A metric that must have a value; without a bound, any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MetricCheck {
    /// What to ask: the name of a deploy that runs Prometheus.
    pub via: Loc<String>,
    /// PromQL; the first value of its result counts.
    pub query: String,
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A line that must have been logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogCheck {
    /// Whose log: `deployment/NAME`, `pod/NAME`, `statefulset/…`, `daemonset/…`, `job/…`.
    pub of: Loc<String>,
    /// Container, where a pod has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Text that a line must hold.
    pub contains: String,
}

/// A name that must resolve in the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DnsCheck {
    /// The name, whole: `jaeger.observability.svc.cluster.local`.
    pub name: String,
    /// An address it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}
