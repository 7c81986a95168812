//! `labimg ls`: what is in a bundle, by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, is_labimg};
use crate::model::platform::Platform;
use crate::store::StoreError;
use crate::store::bundle::{Bundle, BundleError};
use crate::store::image::image_parts;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One platform of an image.
    Image,
    /// One platform of the image that holds labimg itself.
    Labimg,
    /// A chart.
    Chart,
    /// Kubernetes objects.
    Manifest,
    /// A program attendees run.
    Tool,
    /// A Vagrant box.
    Box,
    /// Any other file from the network.
    File,
    /// A file from beside the profile.
    Local,
}

impl Kind {
    /// An image's.
    pub(super) fn of_image(reference: &ImageRef) -> Self {
        if is_labimg(reference) { Self::Labimg } else { Self::Image }
    }
}

impl From<FileKind> for Kind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::File => Self::File,
            FileKind::Manifest => Self::Manifest,
            FileKind::Tool => Self::Tool,
            FileKind::Box => Self::Box,
        }
    }
}

/// One thing in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name in the profile; an image's reference; a local file's path.
    pub name: String,
    /// Its version, where the lock states one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The platform it is for, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its bytes: for an image, manifest, config and layers together, each once.
    pub size: u64,
    /// Its digest: for an image, that of the platform's manifest.
    pub digest: Digest,
}

/// Lists a bundle, by kind, then by name, then by platform; without the image that holds labimg itself, which is none of the
/// lab's.
///
/// # Errors
/// When the file is no sound bundle, or a manifest in it is damaged.
pub fn ls(path: &Path) -> Result<Vec<Entry>, BundleError> {
    let mut found = ls_all(path)?;
    found.retain(|entry| entry.kind != Kind::Labimg);
    Ok(found)
}

/// The same with labimg's own image.
///
/// # Errors
/// As [`ls`].
pub fn ls_all(path: &Path) -> Result<Vec<Entry>, BundleError> {
    Ok(entries(&Bundle::open_checked(path)?)?)
}

/// All entries of an open bundle, in the order of [`ls_all`].
pub(super) fn entries(bundle: &Bundle) -> Result<Vec<Entry>, StoreError> {
    let contents = &bundle.index().contents;
    let mut out = Vec::new();
    for image in bundle.images() {
        for (platform, manifest) in &image.platforms {
            let parts = image_parts(bundle, manifest)?;
            let blobs: BTreeMap<Digest, u64> = parts.blobs().map(|b| (b.digest, b.size)).collect();
            out.push(Entry {
                kind: Kind::of_image(&image.reference),
                name: image.reference.to_string(),
                version: None,
                platform: Some(*platform),
                // What a manifest states is a claim: it may add up to anything.
                size: blobs.values().fold(0, |sum: u64, size| sum.saturating_add(*size)),
                digest: manifest.digest,
            });
        }
    }
    out.extend(contents.charts.iter().map(|c| Entry {
        kind: Kind::Chart,
        name: c.name.clone(),
        version: Some(c.version.clone()),
        platform: None,
        size: c.size,
        digest: c.digest,
    }));
    out.extend(contents.files.iter().map(|f| Entry {
        kind: f.kind.into(),
        name: f.name.clone(),
        version: f.version.clone(),
        platform: f.platform,
        size: f.size,
        digest: f.digest,
    }));
    out.extend(contents.locals.iter().map(|l| Entry {
        kind: Kind::Local,
        name: l.path.clone(),
        version: None,
        platform: None,
        size: l.size,
        digest: l.digest,
    }));
    out.sort_by(|a, b| (a.kind, &a.name, a.platform).cmp(&(b.kind, &b.name, b.platform)));
    Ok(out)
}
