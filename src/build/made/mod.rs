//! From a profile and its lock to a plan: which steps make its images, and what each of them reads.
//!
//! ```text
//! essential NAME ARCH ──────────┐
//! image REF PLATFORM packages ──┤ layers and listings
//! image REF PLATFORM wheels ────┼──▶ image REF PLATFORM manifest
//! image REF PLATFORM files ─────┘
//! ```

mod box_steps;
mod boxes;
mod debian_layer;
mod image;
mod labimg;
mod steps;
mod wheel_layer;

use std::path::Path;
use std::sync::Arc;

pub use super::node_image::node_images;
pub use boxes::box_step;
pub use image::built;
pub use labimg::labimg_image;
pub use steps::toolchain;

use super::BuildError;
use super::image::files_layer::{LAYER, LISTING};
use super::node_image;
use super::provision::OnFailure;
use super::step::plan::Plan;
use crate::base::digest::Digest;
use crate::model::lock::Lock;
use crate::model::profile::{ImageDefs, Inputs, Profile};
use crate::store::Store;

/// What a plan is made from.
pub struct Request<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// Its `image.toml` files.
    pub defs: &'a ImageDefs,
    /// What it needs.
    pub inputs: &'a Inputs,
    /// Its lock.
    pub lock: &'a Lock,
    /// The store.
    pub store: &'a Arc<Store>,
    /// labimg's own program, which makes sandboxes.
    pub program: &'a Path,
    /// The profile's path as a person types it, for messages.
    pub path: &'a Path,
    /// Told of a machine whose step failed, before it is switched off.
    pub on_failure: Option<OnFailure>,
}

/// The plan of everything the profile makes; empty when it makes nothing.
///
/// # Errors
/// Steps that do not fit together, and a lock that lacks what the profile names.
pub fn plan(request: &Request<'_>) -> Result<Plan, BuildError> {
    let mut actions = steps::actions(request)?;
    actions.extend(image::actions(request)?);
    actions.extend(boxes::actions(request)?);
    actions.extend(labimg::actions(request.lock)?);
    actions.extend(node_image::actions(request)?);
    Plan::new(actions)
}

/// Digest and size of a file beside the profile.
fn local(lock: &Lock, path: &str) -> Result<(Digest, u64), BuildError> {
    let found = lock.locals.iter().find(|l| l.path == path).map(|l| (l.digest, l.size));
    found.ok_or_else(|| BuildError::Internal(format!("the lock has no local file `{path}`")))
}
