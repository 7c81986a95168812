//! Image manifests as blobs: parsing them, and listing what an image is made of.
//!
//! Formats: image-spec ("Image Manifest", "Image Index", "Content Descriptors") and Docker's image manifest version 2,
//! schema 2 (distribution, `manifest-v2-2.md`), which has the same shape under other media types.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::{BlobSource, StoreError};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::model::lock::{LockedImage, LockedManifest};

/// Media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Manifests and indexes are small: distribution-spec asks registries to take up to 4 MiB.
pub const MANIFEST_LIMIT: u64 = crate::base::bounds::IMAGE_MANIFEST_BYTES;

/// Whether this is the media type of an index (or a Docker manifest list).
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// A reference to a blob (image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the blob.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// In an index: what the manifest is for.
    #[serde(default)]
    pub platform: Option<PlatformField>,
    /// Other places the blob may be had from: only foreign layers have them.
    #[serde(default)]
    pub urls: Vec<String>,
}

/// The `platform` of a descriptor; an image's configuration has the same fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlatformField {
    /// Operating system, as Go names it.
    #[serde(default)]
    pub os: String,
    /// Architecture, as Go names it.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture (`v8`).
    #[serde(default)]
    pub variant: Option<String>,
}

impl std::fmt::Display for PlatformField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().filter(|v| !v.is_empty()).map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

/// An image index or Docker manifest list.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Its media type, where it states one.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The manifests in it.
    pub manifests: Vec<Descriptor>,
}

/// An image manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Its media type, where it states one.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Reads and parses the manifest `digest` from `source`; its digest is verified.
///
/// # Errors
/// A blob that is missing, too large, altered, or no manifest.
pub fn read_manifest(source: &dyn BlobSource, digest: &Digest) -> Result<Manifest, StoreError> {
    let bytes = source.read_blob(digest, MANIFEST_LIMIT)?;
    bounded::from_json(&bytes).map_err(|e| StoreError::Damaged {
        path: Path::new(&digest.to_string()).to_owned(),
        why: format!("not an image manifest: {e}"),
    })
}

/// What one platform of an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// The manifest itself.
    pub manifest: Descriptor,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, lowest first; one may stand there several times.
    pub layers: Vec<Descriptor>,
}

impl ImageParts {
    /// All of it, in this order.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.manifest, &self.config].into_iter().chain(&self.layers)
    }
}

/// Reads what a locked manifest lists.
///
/// # Errors
/// As [`read_manifest`].
pub fn image_parts(source: &dyn BlobSource, locked: &LockedManifest) -> Result<ImageParts, StoreError> {
    let Manifest { config, layers, .. } = read_manifest(source, &locked.digest)?;
    Ok(ImageParts { manifest: plain(&locked.media_type, locked.digest, locked.size), config, layers })
}

/// Every blob the image needs, each once: index, manifests, configurations, layers, in this order per platform.
///
/// # Errors
/// As [`read_manifest`]: the manifests must be there; configurations and layers need not.
pub fn image_blobs(source: &dyn BlobSource, image: &LockedImage) -> Result<Vec<Descriptor>, StoreError> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let mut add = |descriptor: Descriptor| {
        if seen.insert(descriptor.digest) {
            all.push(descriptor);
        }
    };
    add(plain(&image.media_type, image.digest, image.size));
    for locked in image.platforms.values() {
        image_parts(source, locked)?.blobs().cloned().for_each(&mut add);
    }
    Ok(all)
}

fn plain(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, urls: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Store};
    use super::*;
    use crate::model::platform::Platform;

    #[test]
    fn an_image_lists_each_blob_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let layer = format!(r#"{{"mediaType":"l","digest":"{}","size":4}}"#, Digest::of(b"layer"));
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{}","size":2}},"layers":[{layer},{layer}]}}"#,
            Digest::of(b"config")
        );
        let digest = store.put(text.as_bytes()).unwrap();
        let (media_type, size) = (OCI_MANIFEST.to_owned(), text.len() as u64);
        let locked = LockedManifest { media_type: media_type.clone(), digest, size };
        let image = LockedImage {
            reference: "x:1".parse().unwrap(),
            source: None,
            media_type,
            digest,
            size,
            platforms: [(Platform::LinuxAmd64, locked)].into(),
        };
        let blobs = image_blobs(&store, &image).unwrap();
        let digests: Vec<Digest> = blobs.iter().map(|b| b.digest).collect();
        assert_eq!(digests, [digest, Digest::of(b"config"), Digest::of(b"layer")]);
    }
}
