//! labimg itself, as a locked input: which program a bundle carries for each platform. It stands in the lock as it is here.

use serde::{Deserialize, Serialize};

use super::Lock;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;

/// What labimg calls itself: the lock's section, the name of the bundle's file, the word for `--update`.
pub const LABIMG: &str = "labimg";

/// Repository of the image that holds labimg itself.
const OWN: (&str, &str) = ("labimg.lab", "labimg");

/// Whether an image is the one that holds labimg itself: a bundle carries it, and it is none of the lab's images.
pub fn is_labimg(reference: &ImageRef) -> bool {
    is_labimg_at(&reference.registry, &reference.repository)
}

/// The same of a repository below its registry.
pub fn is_labimg_at(registry: &str, repository: &str) -> bool {
    (registry, repository) == OWN
}

/// labimg for one platform: a static program, so that it runs in an image that holds nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedProgram {
    /// The platform it runs on.
    pub platform: Platform,
    /// Its version: one for all platforms of a lock.
    pub version: String,
    /// Digest of the program.
    #[serde(rename = "sha256")]
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl LockedProgram {
    /// What people call it, and [`Lock::input_names`]: `labimg (linux/amd64)`.
    pub fn label(&self) -> String {
        format!("{LABIMG} ({})", self.platform)
    }
}

impl Lock {
    /// The image that holds labimg itself, where a lock carries one.
    pub fn labimg_image(&self) -> Option<ImageRef> {
        let version = &self.carried.first()?.version;
        format!("{}/{}:{version}", OWN.0, OWN.1).parse().ok()
    }
}

/// What entries that no labimg wrote say wrong.
pub(super) fn check(lock: &Lock) -> Result<(), String> {
    let mut versions = lock.carried.iter().map(|p| p.version.as_str());
    let Some(first) = versions.next() else { return Ok(()) };
    if let Some(other) = versions.find(|v| *v != first) {
        return Err(format!("the lock carries labimg {first} and {other}: one lock has one version"));
    }
    match lock.labimg_image() {
        Some(_) => Ok(()),
        None => Err(format!("`{first}` is no version of labimg")),
    }
}
