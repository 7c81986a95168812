//! `images/<name>/image.toml`: how a container image is made here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source_map::Loc;

/// In `without-scripts`, in place of a package's name: all packages.
pub const ALL_SCRIPTS: &str = "*";

/// A container image made from packages, wheels and files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "labimg image")]
pub struct ImageDef {
    /// Version of this schema: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: Loc<u32>,
    /// Name of the profile's `[debian.NAME]` table packages come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debian: Option<Loc<String>>,
    /// Packages; what they depend on comes with them, what they recommend does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Loc<String>>,
    /// Whether Debian's essential packages (a shell, coreutils) are in it, too (yes where not given).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub essential: bool,
    /// Packages whose maintainer scripts may stay undone although labimg does not know what they do; `*` means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_scripts: Vec<Loc<String>>,
    /// Names of the profile's `[[wheel]]` tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wheels: Vec<Loc<String>>,
    /// Where wheels go (`/usr/local/lib/python<X.Y>/dist-packages` where not given); their programs go to `/usr/local/bin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wheels_to: Option<Loc<String>>,
    /// Users and their groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<ImageUser>,
    /// Directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dir: Vec<ImageDir>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<ImageFile>,
    /// Symbolic links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<ImageLink>,
    /// How it runs.
    #[serde(default)]
    pub config: ImageConfig,
}

/// A user of the image, with a group of the same name unless `group` says another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageUser {
    /// Login name.
    pub name: Loc<String>,
    /// Numeric id.
    pub uid: Loc<u32>,
    /// Numeric id of the group (the user's where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<Loc<u32>>,
    /// Home directory (`/nonexistent` where not given); not made by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Loc<String>>,
    /// Login shell (`/usr/sbin/nologin` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Loc<String>>,
}

/// A directory of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageDir {
    /// Absolute path in the image.
    pub path: Loc<String>,
    /// Octal mode (`0755` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Loc<String>>,
    /// Owner, by name or number (root where not given); `user:group` says both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Loc<String>>,
}

/// A file of the image, or a folder of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageFile {
    /// A file or folder relative to this `image.toml`, or `step:NAME/path` in the output of one of the profile's steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Loc<String>>,
    /// The file's text, in place of `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Loc<String>>,
    /// Absolute path in the image; what a folder holds comes under it.
    pub to: Loc<String>,
    /// Octal mode of files (`0644` where not given; from steps: as they are). Folders get `x` wherever files have `r`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Loc<String>>,
    /// Owner, by name or number (root where not given); `user:group` says both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Loc<String>>,
}

/// A symbolic link of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageLink {
    /// Absolute path in the image.
    pub path: Loc<String>,
    /// What it points to.
    pub target: Loc<String>,
}

/// How the image runs (image-spec, "Image Configuration").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageConfig {
    /// Program and its first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<Loc<String>>,
    /// Arguments a person may replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<Loc<String>>,
    /// Environment; `PATH` is Debian's where not given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports it listens on: `8080/tcp`, `8080`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<Loc<String>>,
    /// Volumes: absolute paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Loc<String>>,
    /// User it runs as: a name of the image's, or a number; `user:group` says both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Loc<String>>,
    /// Directory it starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<Loc<String>>,
    /// Signal that stops it: `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Loc<String>>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_yes(value: &bool) -> bool {
    *value
}
