//! The lock's entries for things made here: Debian suites and packages, Python wheels. They stand in the lock file as they
//! are here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Lock;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;

/// A Debian suite as it was when packages were chosen from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedSuite {
    /// The profile's `[debian.NAME]` table.
    pub debian: String,
    /// The suite, as the archive names it.
    pub suite: String,
    /// The archive it is of: `debian`, `debian-security`.
    pub archive: String,
    /// Components used, sorted.
    pub components: Vec<String>,
    /// The snapshot that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// `Date` of its signed Release file, seconds since 1970.
    pub date: u64,
    /// Digest of the signed Release file (`InRelease`).
    #[serde(rename = "sha256")]
    pub digest: Digest,
}

/// Packages that were resolved together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageSet {
    /// `image <reference> (<architecture>)`, `box <name> (<architecture>)`, `toolchain (<architecture>)` or `essential <table> (<architecture>)`.
    pub name: String,
    /// The profile's `[debian.NAME]` table.
    pub debian: String,
    /// Debian's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// What was asked for, sorted.
    pub want: Vec<String>,
    /// Whether the essential packages are in it.
    pub essential: bool,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedPackage {
    /// The profile's `[debian.NAME]` table.
    pub debian: String,
    /// Name.
    pub name: String,
    /// Version, with epoch and revision.
    pub version: String,
    /// Architecture: `amd64`, `arm64`, `all`.
    pub architecture: String,
    /// The suite it is from.
    pub suite: String,
    /// The archive of that suite.
    pub archive: String,
    /// Path below the archive's root: `pool/main/h/hello/hello_2.10-3_amd64.deb`.
    pub path: String,
    /// Digest of the `.deb`.
    #[serde(rename = "sha256")]
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Names of the sets it is in, sorted.
    pub sets: Vec<String>,
}

/// Wheels that were resolved together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WheelSetLock {
    /// `<name> (<platform>)`.
    pub name: String,
    /// Python they are for, as `3.11`.
    pub python: String,
    /// What was asked for, sorted.
    pub requirements: Vec<String>,
}

/// A Python wheel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedWheel {
    /// File name (binary distribution format, "File name convention").
    pub file: String,
    /// The project, normalised (PEP 503).
    pub project: String,
    /// Version.
    pub version: String,
    /// Digest of the file.
    #[serde(rename = "sha256")]
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Names of the sets it is in, sorted.
    pub sets: Vec<String>,
}

impl LockedPackage {
    /// What one entry of a lock is known by.
    pub fn key(&self) -> (&str, &str, &str, &str) {
        (&self.debian, &self.name, &self.architecture, &self.version)
    }

    /// What people call it: `hello 2.10-3 amd64`.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.name, self.version, self.architecture)
    }
}

/// The name of the set of an image's packages.
pub fn image_set(reference: &ImageRef, arch: &str) -> String {
    format!("image {reference} ({arch})")
}

/// The name of the set of the toolchain's packages.
pub fn toolchain_set(arch: &str) -> String {
    format!("toolchain ({arch})")
}

/// The name of the set of a Debian table's essential packages.
pub fn essential_set(debian: &str, arch: &str) -> String {
    format!("essential {debian} ({arch})")
}

/// The name of the set of a box's packages.
pub fn box_set(name: &str, arch: &str) -> String {
    format!("box {name} ({arch})")
}

/// The name of a set of wheels.
pub fn wheel_set(name: &str, platform: Platform) -> String {
    format!("{name} ({platform})")
}

/// What pool paths are made of (Debian policy 5.6.1, 5.6.12: names and versions); anything else may mean another URL.
fn in_pool(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-._~:/".contains(c)
}

/// What entries that no labimg wrote say wrong: paths that lead elsewhere, sets that are not there, packages named twice.
pub(super) fn check(lock: &Lock) -> Result<(), String> {
    for pair in lock.packages.windows(2) {
        if let [a, b] = pair
            && a.key() == b.key()
        {
            return Err(format!("the lock has two entries for package {}", a.label()));
        }
    }
    for pair in lock.wheels.windows(2) {
        if let [a, b] = pair
            && a.file == b.file
        {
            return Err(format!("the lock has two entries for wheel {}", a.file));
        }
    }
    let sets: BTreeSet<&str> = lock.package_sets.iter().map(|s| s.name.as_str()).collect();
    for package in &lock.packages {
        let path = &package.path;
        if path.starts_with('/')
            || path.contains("://")
            || path.split('/').any(|p| matches!(p, "" | "." | ".."))
            || !path.chars().all(in_pool)
        {
            return Err(format!("package {}: `{path}` is no path below an archive", package.label()));
        }
        if let Some(set) = package.sets.iter().find(|s| !sets.contains(s.as_str())) {
            return Err(format!("package {} is in the set `{set}`, which the lock does not have", package.label()));
        }
    }
    let sets: BTreeSet<&str> = lock.wheel_sets.iter().map(|s| s.name.as_str()).collect();
    for wheel in &lock.wheels {
        if wheel.file.contains('/') || !wheel.file.ends_with(".whl") {
            return Err(format!("`{}` is no wheel's file name", wheel.file));
        }
        if let Some(set) = wheel.sets.iter().find(|s| !sets.contains(s.as_str())) {
            return Err(format!("wheel {} is in the set `{set}`, which the lock does not have", wheel.file));
        }
    }
    Ok(())
}
