//! The profile's tables for virtual machines: disks built from packages, and the Vagrant boxes of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::is_default;
use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// A disk that boots, made from locked packages (or a locked disk), and the Vagrant boxes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoxDef {
    /// Its name in this profile; Vagrant knows it as `<lab>/<name>`.
    pub name: Loc<String>,
    /// Platforms it is made for (`linux/amd64` where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Loc<Platform>>,
    /// Name of the `[debian.NAME]` table its packages come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debian: Option<Loc<String>>,
    /// A disk of another distribution to start from, in place of `debian`: `file:NAME` of a `[[file]]` that is a qcow2 or raw
    /// image, its root ext4. It takes no `packages`, `kernel` and `modules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Loc<String>>,
    /// Packages, beside those every machine has (systemd, a kernel, an SSH server, sudo).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Loc<String>>,
    /// Package of the kernel (`linux-image-cloud-<architecture>` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Loc<String>>,
    /// Kernel modules of the initial ramdisk, beside those that disks and networks of virtual machines need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Loc<String>>,
    /// The disk's size, in whole gibibytes (`4GiB` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Loc<String>>,
    /// How it boots (`bios` for amd64, `efi` for arm64 where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Loc<Boot>>,
    /// Its partition table (`mbr` with `bios`, else `gpt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Loc<Table>>,
    /// How the clusters of the qcow2 image are compressed (`zstd` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Loc<Compression>>,
    /// Vagrant providers to make boxes for (all where not given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Loc<Provider>>,
    /// Users, beside `vagrant`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<BoxUser>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<BoxFile>,
    /// Symbolic links: path to target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub link: BTreeMap<String, Loc<String>>,
    /// systemd units to start at boot: `web.service`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enable: Vec<Loc<String>>,
    /// systemd units that shall not start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disable: Vec<Loc<String>>,
    /// References of `[[image]]` tables that the machine can run without a network: imported by containerd at first boot, or
    /// by k3s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Loc<String>>,
    /// k3s on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k3s: Option<K3s>,
    /// What can only be done by running the machine: steps over SSH, at build time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<MachineStep>,
}

/// How a disk boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// GRUB from the master boot record.
    Bios,
    /// GRUB from the EFI system partition.
    Efi,
    /// Both.
    Hybrid,
}

/// A partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Master boot record.
    Mbr,
    /// GUID partition table (UEFI specification, section 5.3).
    Gpt,
}

/// How a qcow2 image's clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Zstandard: QEMU 5.1 and later.
    #[default]
    Zstd,
    /// Deflate: slower, read by everything.
    Zlib,
    /// Not at all.
    None,
}

/// A Vagrant provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// vagrant-libvirt.
    Libvirt,
    /// VirtualBox.
    Virtualbox,
    /// vagrant-qemu, which takes libvirt's boxes.
    Qemu,
}

/// A user of a box, with a group of the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoxUser {
    /// Login name.
    pub name: Loc<String>,
    /// Numeric id, of the user and its group.
    pub uid: Loc<u32>,
    /// Groups of the machine it is in, beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Loc<String>>,
    /// Login shell (`/bin/bash` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Loc<String>>,
    /// Whether it may do anything with `sudo`, without a password.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sudo: bool,
    /// Public SSH keys that may log in, each a line of `authorized_keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_keys: Vec<Loc<String>>,
}

/// A file of a box, or a folder of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoxFile {
    /// A file relative to this profile; or `step:NAME/path`, `file:NAME`, `manifest:NAME`, `tool:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Loc<String>>,
    /// The file's text, in place of `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Loc<String>>,
    /// Absolute path in the machine.
    pub to: Loc<String>,
    /// Octal mode (`0644` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Loc<String>>,
    /// Owner by name or number (root where not given); `user:group` says both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Loc<String>>,
}

/// k3s on a machine: its files where k3s looks for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct K3s {
    /// Control plane or worker.
    pub role: K3sRole,
    /// The `[tool.NAME]` that is k3s itself (`k3s` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Loc<String>>,
    /// The archive of k3s's own images: `file:NAME`, as its release has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub airgap: Option<Loc<String>>,
    /// `[[manifest]]` names that k3s applies at its first start (control plane only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Loc<String>>,
    /// `https://ADDRESS:6443` of the control plane: every worker has it, and no control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Loc<String>>,
    /// Its `registries.yaml`, where containerd pulls from: a file relative to this profile, or `file:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registries: Option<Loc<String>>,
    /// Further arguments of `k3s server` or `k3s agent`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// What a k3s machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum K3sRole {
    /// Control plane.
    Server,
    /// Worker.
    Agent,
}

/// One step on a running machine; exactly one of `run`, `file`, `upload`, `reboot` and `wait`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineStep {
    /// Its name, for messages and the cache.
    pub name: Loc<String>,
    /// A shell script, run by `/bin/sh -eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Loc<String>>,
    /// A file to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<BoxFile>,
    /// A file (relative to this profile), or what a `step:NAME` left, put into a directory of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
    /// Restarts the machine and waits for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reboot: bool,
    /// A shell command to repeat until it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Loc<String>>,
    /// User it runs as (`root` where not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Loc<String>>,
    /// Environment of `run` and `wait`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long it may take (`10m` where not given): `60s`, `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Loc<String>>,
}

/// What is uploaded where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upload {
    /// A file relative to this profile, or `step:NAME`: everything that step left.
    pub from: Loc<String>,
    /// Absolute path of a directory in the machine; made where it is not there.
    pub to: Loc<String>,
}
