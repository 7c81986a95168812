//! The profile's tables for things made here: where packages and wheels come from, the toolchain, build steps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// Debian suites that are used together, as one machine's `sources.list` would.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Debian {
    /// Suites, as the archive names them (the table's own name where not given): `bookworm`, `bookworm-security`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<Loc<String>>,
    /// Components (`main` where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Loc<String>>,
    /// The moment of the snapshot archive to take, as `20261101T000000Z`; without it, what the mirror has when the lab is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]{8}T[0-9]{6}Z$"))]
    pub snapshot: Option<Loc<String>>,
    /// The archive (`debian` where not given); suites that end in `-security` come from the one called `<archive>-security`.
    /// Where an archive is stands in the machine's settings: `--mirror debian=URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Loc<String>>,
    /// Keyring that signs it, relative to this file; Debian's archive keyring of this machine where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<Loc<String>>,
}

/// The programs build steps run with: a tree of locked packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Toolchain {
    /// Name of a `[debian.NAME]` table.
    pub debian: Loc<String>,
    /// Packages, beside the essential ones.
    pub packages: Vec<Loc<String>>,
}

/// Python wheels that are resolved together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WheelSet {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// Requirements, as pip takes them: `flask==3.0.*`.
    pub requirements: Vec<Loc<String>>,
    /// Python they are for, as `3.11`.
    #[schemars(regex(pattern = "^3\\.[0-9]+$"))]
    pub python: Loc<String>,
    /// Platforms they are for (those of the lab's nodes and hosts where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Loc<Platform>>,
}

/// A command run at build time: in the toolchain, without a network, with nothing to see but its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// Its name in this profile.
    pub name: Loc<String>,
    /// What `/bin/sh -eu` of the toolchain runs: inputs stand in `/in/<name>`, what it leaves in `/out` is the step's output.
    pub run: Loc<String>,
    /// Inputs by name: `path:FILE` (relative to this file), `step:NAME`, `file:NAME`, `manifest:NAME` or
    /// `chart:NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Loc<String>>,
    /// Environment variables beside the fixed ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Cores it uses (1 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<Loc<u32>>,
    /// Memory it uses in MiB (256 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Loc<u32>>,
}

/// What a step's input refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepInput<'a> {
    /// A file beside the profile.
    Path(&'a str),
    /// The output of another step.
    Step(&'a str),
    /// A `[[file]]`.
    File(&'a str),
    /// A `[[manifest]]`.
    Manifest(&'a str),
    /// A `[[chart]]`.
    Chart(&'a str),
}

impl<'a> StepInput<'a> {
    /// Reads `kind:rest`; `None` when the kind is unknown.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "path" => Self::Path(rest),
            "step" => Self::Step(rest),
            "file" => Self::File(rest),
            "manifest" => Self::Manifest(rest),
            "chart" => Self::Chart(rest),
            _ => return None,
        })
    }
}
