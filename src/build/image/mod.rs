//! Images made here: the layer of users, files and links; configuration, manifest and index; and the checks that an image
//! can run at all.

pub mod accounts;
pub mod check;
pub mod config;
pub mod files;
pub mod files_layer;
pub mod manifest;
mod step_output;
#[cfg(test)]
mod tests;

pub use accounts::Accounts;
pub use check::check;
pub use files::{Origins, files_tree};
pub use files_layer::FilesLayer;
pub use manifest::{BuiltImage, ManifestStep, PlacedLayer, assemble};
