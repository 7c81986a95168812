//! What somebody wants of a box: plain data, with contents by digest or by the step that makes them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::digest::Digest;
use crate::build::step::Input;

/// What a box has on top of its packages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Wishes {
    /// What the machine is called until somebody says otherwise; empty for `labimg`.
    pub hostname: String,
    /// Users, beside `vagrant`, which every box has. One called `root` stands for keys alone.
    pub users: Vec<User>,
    /// Files, and folders out of steps.
    pub files: Vec<File>,
    /// Symbolic links: absolute path to target.
    pub links: BTreeMap<String, String>,
    /// systemd units to start at boot.
    pub enable: Vec<String>,
    /// Units that shall not start at boot.
    pub disable: Vec<String>,
    /// Units that nothing may start.
    pub mask: Vec<String>,
    /// Container images the machine has.
    pub images: Vec<Preload>,
    /// k3s.
    pub k3s: Option<K3s>,
    /// Whether partition and file system of the root grow to the disk's size at first boot.
    pub grow_root: bool,
    /// Whether the tree is that of another distribution's disk: it has a network manager, units and perhaps users of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// A user with a group of the same name and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Id of user and group.
    pub uid: u32,
    /// Groups it is in, beside its own; they must be there.
    pub groups: Vec<String>,
    /// Login shell.
    pub shell: String,
    /// Whether it may do anything with sudo, without a password.
    pub sudo: bool,
    /// Lines of `authorized_keys`.
    pub authorized_keys: Vec<String>,
}

/// A file of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Absolute path.
    pub to: String,
    /// What is in it.
    pub contents: Contents,
    /// Permission bits; `None`: 0644, or what a step left.
    pub mode: Option<u32>,
    /// `user`, `user:group`, names or numbers; `None` for root.
    pub owner: Option<String>,
}

/// Where contents come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// A text.
    Text(String),
    /// A blob of the store.
    Blob {
        /// Digest.
        digest: Digest,
        /// Bytes.
        size: u64,
    },
    /// A step's output as it is.
    Output {
        /// The step.
        step: String,
        /// The output.
        output: String,
    },
    /// A file or folder in a step's output, which is a tar.
    Member {
        /// The step.
        step: String,
        /// The output.
        output: String,
        /// The path in it; empty for all of it.
        path: String,
    },
}

/// A container image the machine has: an archive in OCI or Docker form, as `build::export` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preload {
    /// File name: `app.tar`, `app.tar.zst`. A number goes in front: they are loaded in the order of the list.
    pub name: String,
    /// The archive.
    pub contents: Contents,
}

/// k3s on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct K3s {
    /// Control plane or worker.
    pub role: K3sRole,
    /// The program.
    pub program: Contents,
    /// The archive of its own images: file name (its extension says how it is compressed), and the archive.
    pub airgap: Option<(String, Contents)>,
    /// `registries.yaml`.
    pub registries: Option<Contents>,
    /// What it applies at its first start (control plane only).
    pub manifests: Vec<Manifest>,
    /// Further arguments.
    pub args: Vec<String>,
}

/// What k3s is on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum K3sRole {
    /// Control plane.
    Server,
    /// Worker.
    Agent,
}

/// A Kubernetes manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Its name, without `.yaml`.
    pub name: String,
    /// The manifest.
    pub contents: Contents,
}

impl Contents {
    /// The input this is, if it is one.
    pub(in crate::build) fn input(&self) -> Option<Input> {
        match self {
            Self::Text(_) => None,
            Self::Blob { digest, size } => Some(Input::Blob { digest: *digest, size: *size }),
            Self::Output { step, output } | Self::Member { step, output, .. } => {
                Some(Input::Step { step: step.clone(), output: output.clone() })
            }
        }
    }
}

impl Wishes {
    /// Everything that comes from elsewhere, by its place in the machine.
    pub(super) fn inputs(&self) -> BTreeMap<String, Input> {
        let files = self.files.iter().map(|f| (f.to.clone(), &f.contents));
        let images = self.images.iter().map(|i| (i.label(), &i.contents));
        let k3s = self.k3s.iter().flat_map(|k| {
            let program = (super::k3s::PROGRAM.to_owned(), &k.program);
            let airgap = k.airgap.iter().map(|(name, contents)| (K3s::airgap_label(name), contents));
            let manifests = k.manifests.iter().map(|m| (m.label(), &m.contents));
            let registries = k.registries.iter().map(|c| (super::k3s::REGISTRIES.to_owned(), c));
            [program].into_iter().chain(airgap).chain(registries).chain(manifests)
        });
        files.chain(images).chain(k3s).filter_map(|(label, c)| Some((label, c.input()?))).collect()
    }
}

impl Preload {
    /// Its label among the inputs.
    pub(super) fn label(&self) -> String {
        format!("/image/{}", self.name)
    }
}

impl K3s {
    /// The label of its own images among the inputs.
    pub(super) fn airgap_label(name: &str) -> String {
        format!("/airgap/{name}")
    }
}

impl Manifest {
    /// Its label among the inputs.
    pub(super) fn label(&self) -> String {
        format!("/manifest/{}", self.name)
    }
}
