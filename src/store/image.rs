//! Image manifests as blobs: parsing them, and listing what an image is made of.
//!
//! Formats: image-spec ("Image Manifest", "Image Index", "Content Descriptors") and Docker's image manifest version 2,
//! schema 2 (distribution, `manifest-v2-2.md`), which has the same shape under other media types.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::image_index::nested;
use super::{BlobSource, StoreError};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::base::null;
use crate::model::lock::{LockedImage, LockedManifest};
use crate::model::platform::Platform;

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

/// Image configurations hold labels and history, some of them much; more than this is no configuration.
pub const CONFIG_LIMIT: u64 = 16 << 20;

/// Whether this is the media type of an index (or a Docker manifest list).
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// A reference to a blob (image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the blob; empty where the document leaves it out.
    #[serde(default, deserialize_with = "null::absent")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// In an index: what the manifest is for.
    #[serde(default)]
    pub platform: Option<PlatformField>,
    /// Other places the blob may be had from: only foreign layers have them.
    #[serde(default, deserialize_with = "null::in_list")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// What the manifest is for, where that is stated: half a platform states nothing.
    pub fn stated(&self) -> Option<&PlatformField> {
        self.platform.as_ref().filter(|field| !field.os.is_empty() && !field.architecture.is_empty())
    }
}

/// The `platform` of a descriptor; an image's configuration has the same fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlatformField {
    /// Operating system, as Go names it.
    #[serde(default, deserialize_with = "null::absent")]
    pub os: String,
    /// Architecture, as Go names it.
    #[serde(default, deserialize_with = "null::absent")]
    pub architecture: String,
    /// Variant of the architecture (`v8`).
    #[serde(default)]
    pub variant: Option<String>,
}

impl PlatformField {
    /// Whether this is `platform`, also where somebody wrote the kernel's names for Go's (containerd's `platforms.Normalize`).
    pub fn is(&self, platform: Platform) -> bool {
        let lower = [&self.os, &self.architecture].map(|text| text.to_ascii_lowercase());
        let os = if lower[0] == "macos" { "darwin" } else { &lower[0] };
        let architecture = match lower[1].as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = self.variant.as_deref().map(|text| if text == "8" { "v8" } else { text });
        platform.matches(os, architecture, variant)
    }
}

impl std::fmt::Display for PlatformField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().filter(|v| !v.is_empty()).map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

/// An image index or Docker manifest list.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "WireIndex")]
pub struct Index {
    /// The manifests in it, and the indexes.
    pub manifests: Vec<Descriptor>,
    /// Entries that can not be read.
    pub odd: Vec<OddEntry>,
}

/// An entry of an index that can not be read: of a digest that is not SHA-256, say. Nobody need ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddEntry {
    /// What it is for, where that can be read.
    pub platform: Option<PlatformField>,
    /// What is wrong with it.
    pub why: String,
}

/// An index as it is written.
#[derive(Deserialize)]
struct WireIndex {
    #[serde(default, deserialize_with = "null::in_list")]
    manifests: Vec<serde_json::Value>,
}

impl From<WireIndex> for Index {
    fn from(wire: WireIndex) -> Self {
        let mut index = Self { manifests: Vec::new(), odd: Vec::new() };
        for entry in wire.manifests {
            let field = |name: &str| entry.get(name).cloned().unwrap_or_default();
            let platform = serde_json::from_value(field("platform")).unwrap_or_default();
            let other = field("digest").as_str().filter(|text| text.parse::<Digest>().is_err()).map(str::to_owned);
            match serde_json::from_value::<Descriptor>(entry) {
                Ok(descriptor) if i64::try_from(descriptor.size).is_ok() => index.manifests.push(descriptor),
                // A descriptor's size is an int64 (image-spec, "Descriptor").
                Ok(d) => {
                    let why = format!("{} can not have {} bytes", d.digest, d.size);
                    index.odd.push(OddEntry { platform, why });
                }
                Err(error) => {
                    let why = match other {
                        Some(other) => format!("its digest is `{other}`, and labimg reads SHA-256 only"),
                        None => error.to_string(),
                    };
                    index.odd.push(OddEntry { platform, why });
                }
            }
        }
        index
    }
}

/// An image manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What kind of artifact it is, where it says so; images say nothing.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// Its layers, lowest first; an image of nothing but its configuration has none.
    #[serde(default, deserialize_with = "null::absent")]
    pub layers: Vec<Descriptor>,
}

/// What an image configuration says it is for (image-spec, "Image Configuration"); `None` for what is no configuration.
pub fn config_platform(bytes: &[u8]) -> Option<PlatformField> {
    let field: PlatformField = serde_json::from_slice(bytes).ok()?;
    Some(field).filter(|f| !f.os.is_empty() && !f.architecture.is_empty())
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

/// Reads and parses the index `digest` from `source`; its digest is verified.
///
/// # Errors
/// As [`read_manifest`].
pub fn read_index(source: &dyn BlobSource, digest: &Digest) -> Result<Index, StoreError> {
    let bytes = source.read_blob(digest, MANIFEST_LIMIT)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| StoreError::BadBlob { digest: *digest, why: format!("not an image index: {e}") })
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

/// Every blob the image needs, each once: the index and those in it, then manifests, configurations, layers, in this order per
/// platform.
///
/// # Errors
/// As [`read_manifest`]: indexes and manifests must be there; configurations and layers need not.
pub fn image_blobs(source: &dyn BlobSource, image: &LockedImage) -> Result<Vec<Descriptor>, StoreError> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let mut add = |descriptor: Descriptor| {
        if seen.insert(descriptor.digest) {
            all.push(descriptor);
        }
    };
    add(plain(&image.media_type, image.digest, image.size));
    nested(source, image)?.into_iter().map(|nested| nested.index).for_each(&mut add);
    for locked in image.platforms.values() {
        image_parts(source, locked)?.blobs().cloned().for_each(&mut add);
    }
    Ok(all)
}

pub(super) fn plain(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, urls: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Store};
    use super::*;

    #[test]
    fn null_is_absent_and_odd_neighbours_are_told_apart() {
        let digest = Digest::of(b"x");
        let index: Index = serde_json::from_str(&format!(
            r#"{{"mediaType":null,"annotations":null,"manifests":[null,
            {{"mediaType":null,"digest":"{digest}","size":3,"platform":null,"urls":null,"annotations":null}},
            {{"digest":"{digest}","size":3,"platform":{{"os":null,"architecture":null,"variant":null}}}},
            {{"digest":"{digest}","size":3,"platform":{{"architecture":"amd64"}}}},
            {{"digest":"sha512:00","size":3,"platform":{{"os":"linux","architecture":"arm64"}}}},
            {{"digest":"{digest}","size":9223372036854775808}}, {{"digest":"{digest}","size":-1}},
            {{"digest":"{digest}","size":3,"platform":"linux/amd64"}}, 7]}}"#
        ))
        .unwrap();
        assert_eq!(index.manifests.len(), 3);
        assert!(index.manifests.iter().all(|entry| entry.stated().is_none() && entry.media_type.is_empty()));
        let whys: Vec<&str> = index.odd.iter().map(|odd| odd.why.as_str()).collect();
        assert_eq!(whys.len(), 5, "{whys:?}");
        assert_eq!(whys[0], "its digest is `sha512:00`, and labimg reads SHA-256 only");
        assert!(index.odd[0].platform.as_ref().unwrap().is(Platform::LinuxArm64));
        assert!(whys[1].contains("can not have 9223372036854775808 bytes"));
        let field = |text: &str| serde_json::from_str::<PlatformField>(text).unwrap();
        assert!(field(r#"{"os":"Linux","architecture":"aarch64","variant":"8"}"#).is(Platform::LinuxArm64));
        assert!(field(r#"{"os":"linux","architecture":"x86_64","variant":""}"#).is(Platform::LinuxAmd64));
        assert!(!field(r#"{"os":"linux","architecture":"amd64","variant":"v3"}"#).is(Platform::LinuxAmd64));
        for none in [r#"{"manifests":null}"#, "{}"] {
            assert!(serde_json::from_str::<Index>(none).unwrap().manifests.is_empty());
        }
        for layers in ["", r#","layers":null"#, r#","layers":[]"#] {
            let text =
                format!(r#"{{"config":{{"mediaType":"c","digest":"{digest}","size":2,"platform":null}}{layers}}}"#);
            assert!(serde_json::from_str::<Manifest>(&text).unwrap().layers.is_empty(), "{text}");
        }
    }

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
