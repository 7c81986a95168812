//! The profile's tables. Doc comments here are what `labimg schema` tells editors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::made::{Debian, Step, Toolchain, WheelSet};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// A lab: clusters, hosts, inputs, deploy steps and checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "labimg profile")]
pub struct Profile {
    /// Version of this schema: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: Loc<u32>,
    /// The lab's name: lower-case letters, digits and `-`. The bundle is `<name>.labimg`; the lock is named after the file.
    pub name: Loc<String>,
    /// One line on what the lab shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Other profile files, relative to this one, merged by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Loc<String>>,
    /// Old repository (or `registry/repository:tag`) to the one that serves it now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewrite: BTreeMap<String, Loc<String>>,
    /// Kubernetes clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<Cluster>,
    /// Machines outside the clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<Host>,
    /// Programs attendees run, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tool: BTreeMap<String, Tool>,
    /// Container images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<Image>,
    /// Debian suites that packages are taken from, by a name of the author's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub debian: BTreeMap<String, Debian>,
    /// The locked programs that build steps run with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<Toolchain>,
    /// Sets of Python wheels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wheel: Vec<WheelSet>,
    /// Commands run in the toolchain at build time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<Step>,
    /// Helm charts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chart: Vec<Chart>,
    /// Kubernetes objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifest: Vec<Manifest>,
    /// Any other file the lab needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<FileInput>,
    /// What attendees read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<Text>,
    /// Secrets made when the lab comes up, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret: BTreeMap<String, Secret>,
    /// What is applied, as a graph.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deploy: Vec<Deploy>,
    /// Services of one cluster made reachable from another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<Link>,
    /// What must be seen at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Check>,
}

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
    /// Bake the lab's images into the node image at build time
    #[serde(default, skip_serializing_if = "is_default")]
    pub preload: bool,
    /// Components that send traces, wired before the cluster starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracing: Vec<Loc<TracedComponent>>,
    /// Ports of the attendee's machine that lead into the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Context of the kubeconfig (`existing` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Loc<String>>,
}

/// A registry beside a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registry {
    /// Container name.
    pub name: Loc<String>,
    /// Port on the attendee's machine.
    pub port: Loc<u16>,
    /// Its image.
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

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// By SSH.
    Ssh,
    /// A Vagrant machine.
    Vagrant,
    /// A container that plays the host.
    Docker,
    /// The attendee's own machine.
    Local,
}

/// A machine outside the clusters: an edge host, a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Host {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// `linux/amd64` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Loc<Platform>>,
    /// How it is reached.
    pub reach: Reach,
    /// Address (`ssh` only); usually set in `labimg.local.toml` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Loc<String>>,
    /// User to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Compose file it runs, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Loc<String>>,
}

/// A program attendees run; travels in the bundle, per platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tool {
    /// Its version, as the URL spells it.
    pub version: Loc<String>,
    /// Where it is; `{version}`, `{os}` and `{arch}` are filled in.
    pub url: Loc<String>,
    /// The archive member that is the program; the same variables. Without it the URL serves the program itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Loc<String>>,
    /// Platforms to carry (those of the lab's nodes and hosts where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Loc<Platform>>,
    /// What the URL must serve, per platform: 64 hex digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sha256: BTreeMap<Platform, Loc<Sha256Hex>>,
}

/// A container image: pulled, or made here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Image {
    /// Its reference, optionally with `@sha256:…`.
    #[serde(rename = "ref")]
    pub reference: Loc<ImageRef>,
    /// The `image.toml` it is made from, relative to this file; without it the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Loc<String>>,
    /// Platforms to carry (those of the lab's nodes and hosts where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Loc<Platform>>,
    /// Why it is here, when nothing else in the profile names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A Helm chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Chart {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// The chart's own name, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Loc<String>>,
    /// `https://…` of the repository, or `oci://…` of the folder that holds the chart.
    pub repo: Loc<String>,
    /// Exact version.
    pub version: Loc<String>,
    /// Values file, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Loc<String>>,
    /// The cluster it is for, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// What the `.tgz` must be: 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Loc<Sha256Hex>>,
}

/// Kubernetes objects: from a URL, or a file beside the profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Loc<String>>,
    /// The file, relative to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Loc<String>>,
    /// The cluster it is for, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// What the URL must serve: 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Loc<Sha256Hex>>,
}

/// Any other file: from a URL, or beside the profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileInput {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Loc<String>>,
    /// The file, relative to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Loc<String>>,
    /// The archive member that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Loc<String>>,
    /// The platform it is for, where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Loc<Platform>>,
    /// A program: checked to be one for `platform`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub executable: bool,
    /// What the URL must serve: 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Loc<Sha256Hex>>,
}

/// What attendees read and type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Text {
    /// The file, relative to this one.
    pub path: Loc<String>,
}

/// A secret made when the lab comes up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secret {
    /// `alnum:N` or `hex:N`, N characters.
    #[schemars(regex(pattern = "^(alnum|hex):[0-9]+$"))]
    pub generate: Loc<String>,
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
    /// What to wait for: `deployment/NAME`, `deployment/*`, `statefulset/…`, `daemonset/…`, `job/…`, `webhook`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Loc<String>>,
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

/// What an attendee must see at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// One line, as the report prints it.
    pub name: Loc<String>,
    /// The cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Loc<String>>,
    /// A trace that must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceCheck>,
    /// A page that must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// How long to try: `60s`, `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Loc<String>>,
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
    /// An operation that must be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Fewest spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_spans: Option<u32>,
    /// Shortest duration: `3s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_duration: Option<Loc<String>>,
}

/// A page that must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpCheck {
    /// Its URL, as an attendee opens it.
    pub url: String,
    /// Expected status (200 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Text the body must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

/// A SHA-256 as upstreams publish it: 64 hex digits, with or without `sha256:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Hex(pub Digest);

impl Serialize for Sha256Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.hex())
    }
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.to_lowercase();
        let hex = text.strip_prefix("sha256:").unwrap_or(&text);
        Digest::from_hex(hex)
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a SHA-256: want 64 hex digits")))
    }
}

impl JsonSchema for Sha256Hex {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sha256Hex".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(sha256:)?[0-9a-fA-F]{64}$" })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
