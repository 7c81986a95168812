//! The profile's tables. Doc comments here are what `labimg schema` tells editors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::boxes::BoxDef;
use super::lab::{Check, Cluster, Deploy, Link, Observability, Secret};
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
    /// Disks of virtual machines, and Vagrant boxes of them.
    #[serde(default, rename = "box", skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<BoxDef>,
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
    /// The observability stack: its images, manifests, deploys and checks are added to the profile's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
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
    /// The `[[box]]` it is made of (`vagrant` only).
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    pub box_name: Option<Loc<String>>,
    /// Its address on the lab's private network (`vagrant` only): `10.77.0.10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Loc<String>>,
    /// Memory in MiB (`vagrant` only; 1024 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Loc<u32>>,
    /// Cores (`vagrant` only; 1 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<Loc<u32>>,
    /// Ports of it that this machine's loopback leads to (`vagrant` only): port there to port here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<Forward>,
}

/// A port of this machine's loopback that leads to a port of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forward {
    /// Port of the host.
    pub guest: Loc<u16>,
    /// Port here.
    pub local: Loc<u16>,
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

/// Kubernetes objects: from a URL, a file beside the profile, or written here.
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
    /// The objects themselves, as YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Loc<String>>,
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

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
