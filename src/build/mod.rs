//! Builders: what goes into a bundle, the archives made from one, and what is made here. No network.

pub mod bundle;
pub mod closure;
pub mod complete;
pub mod debian;
pub mod descent;
pub mod disk;
pub mod disk_base;
pub mod error;
pub mod export;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod image;
pub mod layer;
pub mod listing;
pub mod made;
pub mod node_image;
pub mod provision;
pub mod rootfs;
pub mod run_step;
pub mod sandbox;
pub mod spool;
pub mod step;
#[cfg(test)]
pub(crate) mod tests;
pub mod toolchain;
pub mod tree;
pub mod vagrant_box;
pub mod vagrant_lab;
pub mod wheel;

pub use error::BuildError;
