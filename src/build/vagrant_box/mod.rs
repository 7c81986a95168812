//! Vagrant boxes of a disk: one plain tar archive for each provider, and the catalogs that name them.
//!
//! Boxes are not compressed as a whole: what is large in them is already, and Vagrant unpacks them faster so. There is none for
//! vagrant-qemu, which looks for boxes of the provider `libvirt`.

pub mod action;
pub mod archive;
pub mod catalog;
pub mod ovf;
mod template;
pub mod vagrantfile;

pub use action::BoxAction;
pub use catalog::{Catalog, CatalogEntry};

use crate::model::profile::Provider;

/// What machines of a box start with; a person's Vagrantfile may say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name in VirtualBox.
    pub name: String,
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Whether it runs Debian, which VirtualBox likes to know.
    pub debian: bool,
}

/// The provider whose box a provider uses: vagrant-qemu takes libvirt's (its `box_format`).
pub fn box_of(provider: Provider) -> Provider {
    match provider {
        Provider::Qemu => Provider::Libvirt,
        other => other,
    }
}

/// The provider of that name.
pub fn provider_of(text: &str) -> Option<Provider> {
    [Provider::Libvirt, Provider::Virtualbox, Provider::Qemu].into_iter().find(|p| name(*p) == text)
}

/// A provider's name as Vagrant has it, and as the outputs of [`BoxAction`] are called.
pub fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Libvirt => "libvirt",
        Provider::Virtualbox => "virtualbox",
        Provider::Qemu => "qemu",
    }
}
