//! The lock: every input of a profile, by digest. What it promises: complete, readable, small diffs, the same text for the
//! same content, and checkable against its profile without a network.

mod carried;
mod diff;
mod made;
mod satisfies;
pub mod wire;

pub use carried::{LABIMG, LockedProgram, is_labimg, is_labimg_at};
pub use diff::{Change, diff};
pub use made::{
    LockedPackage, LockedSuite, LockedWheel, PackageSet, WheelSetLock, box_set, essential_set, image_set,
    toolchain_set, wheel_set,
};
pub use satisfies::{Stale, satisfies};

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;

/// The lock as the rest of labimg sees it; how it looks on disk is [`wire`]'s business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The profile's name.
    pub name: String,
    /// The one point in time (seconds since 1970) that every timestamp we write is set to.
    pub epoch: u64,
    /// Images, sorted by reference.
    pub images: Vec<LockedImage>,
    /// Charts, sorted by name.
    pub charts: Vec<LockedChart>,
    /// Tools, manifests and other files from the network, sorted by kind, name and platform.
    pub files: Vec<LockedFile>,
    /// Files beside the profile, sorted by path.
    pub locals: Vec<LockedLocal>,
    /// Debian suites, as they were when the packages were chosen; sorted by table and suite.
    pub suites: Vec<LockedSuite>,
    /// Sets of packages that were resolved together, sorted by name.
    pub package_sets: Vec<PackageSet>,
    /// Debian packages, sorted by table, name, architecture and version.
    pub packages: Vec<LockedPackage>,
    /// Sets of wheels that were resolved together, sorted by name.
    pub wheel_sets: Vec<WheelSetLock>,
    /// Wheels, sorted by file name.
    pub wheels: Vec<LockedWheel>,
    /// labimg itself, sorted by platform.
    pub carried: Vec<LockedProgram>,
}

/// An empty lock of the constant epoch.
impl Default for Lock {
    fn default() -> Self {
        Self {
            name: String::new(),
            epoch: DEFAULT_EPOCH,
            images: Vec::new(),
            charts: Vec::new(),
            files: Vec::new(),
            locals: Vec::new(),
            suites: Vec::new(),
            package_sets: Vec::new(),
            packages: Vec::new(),
            wheel_sets: Vec::new(),
            wheels: Vec::new(),
            carried: Vec::new(),
        }
    }
}

/// The epoch of a lock whose inputs carry none of their own: 2025-01-01T00:00:00Z.
pub const DEFAULT_EPOCH: u64 = 1_735_689_600;

impl Lock {
    /// Puts every list into the one order a lock has.
    pub fn sort(&mut self) {
        self.images.sort_by_cached_key(|i| i.reference.to_string());
        self.charts.sort_by(|a, b| a.name.cmp(&b.name));
        self.files.sort_by(|a, b| (a.kind, &a.name, a.platform).cmp(&(b.kind, &b.name, b.platform)));
        self.locals.sort_by(|a, b| a.path.cmp(&b.path));
        self.suites.sort_by(|a, b| (&a.debian, &a.suite).cmp(&(&b.debian, &b.suite)));
        self.package_sets.sort_by(|a, b| a.name.cmp(&b.name));
        self.packages.sort_by(|a, b| a.key().cmp(&b.key()));
        self.wheel_sets.sort_by(|a, b| a.name.cmp(&b.name));
        self.wheels.sort_by(|a, b| a.file.cmp(&b.file));
        self.carried.sort_by_key(|p| p.platform);
    }

    /// The packages of a set, sorted.
    pub fn packages_of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a LockedPackage> {
        self.packages.iter().filter(move |p| p.sets.iter().any(|s| s == set))
    }

    /// The wheels of a set, sorted.
    pub fn wheels_of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a LockedWheel> {
        self.wheels.iter().filter(move |w| w.sets.iter().any(|s| s == set))
    }

    /// Every input as people call it, in the lock's order; files once per platform.
    pub fn input_names(&self) -> Vec<String> {
        let images = self.images.iter().map(|i| format!("image {}", i.reference));
        let charts = self.charts.iter().map(|c| format!("chart {}", c.name));
        let files = self.files.iter().map(|f| match f.platform {
            Some(platform) => format!("{} {} ({platform})", f.kind.as_str(), f.name),
            None => format!("{} {}", f.kind.as_str(), f.name),
        });
        let locals = self.locals.iter().map(|l| format!("local {}", l.path));
        let sets = self.package_sets.iter().map(|s| format!("packages {}", s.name));
        let wheels = self.wheel_sets.iter().map(|s| format!("wheels {}", s.name));
        let carried = self.carried.iter().map(LockedProgram::label);
        images.chain(charts).chain(files).chain(locals).chain(sets).chain(wheels).chain(carried).collect()
    }
}

/// An image by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedImage {
    /// The name the lab uses: registry, repository, tag (and the digest the author pinned, if any).
    pub reference: ImageRef,
    /// Where it was found, when the profile rewrites that name.
    pub source: Option<ImageRef>,
    /// Media type of the index, or of the only manifest.
    pub media_type: String,
    /// Digest of the index, or of the only manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The manifest of each platform asked for. Equal to `digest` when the image has no index.
    pub platforms: BTreeMap<Platform, LockedManifest>,
}

/// One platform's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedManifest {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// A chart by the digest of its `.tgz` (registry manifests of charts carry a clock and are not reproducible).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedChart {
    /// The profile's name for it.
    pub name: String,
    /// The chart's own name.
    pub chart: String,
    /// The repository as the profile gives it: `https://…` or `oci://…`.
    pub repo: String,
    /// The exact version.
    pub version: String,
    /// Where the `.tgz` was found: an `https://…` URL, or `oci://host/repository:tag`.
    pub url: String,
    /// Digest of the `.tgz`.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Sub-charts inside it as `name@version`, sorted.
    pub dependencies: Vec<String>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Any other file.
    File,
    /// Kubernetes objects.
    Manifest,
    /// A program attendees run, for one platform.
    Tool,
    /// A Vagrant box, made here: in bundles only, never in a lock.
    Box,
}

impl FileKind {
    /// The name of the profile's table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Manifest => "manifest",
            Self::Tool => "tool",
            Self::Box => "box",
        }
    }
}

/// A file from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedFile {
    /// What it is for.
    pub kind: FileKind,
    /// The profile's name for it.
    pub name: String,
    /// The platform it is for, where that matters (always for tools).
    pub platform: Option<Platform>,
    /// Version, as the profile states it.
    pub version: Option<String>,
    /// Where it was found, variables filled in; never a mirror's address.
    pub url: String,
    /// Digest of what the URL serves.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The one member of that archive which the lab wants, where the profile selects one.
    pub member: Option<LockedMember>,
}

impl LockedFile {
    /// Digest and size of what the lab gets: the selected member, else the whole file.
    pub fn content(&self) -> (Digest, u64) {
        self.member.as_ref().map_or((self.digest, self.size), |m| (m.digest, m.size))
    }
}

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedMember {
    /// Path inside the archive.
    pub path: String,
    /// Digest of the member.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A file beside the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedLocal {
    /// Path relative to the profile's directory, with `/`.
    pub path: String,
    /// Digest.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}
