//! The blobs an image is made of, read from its manifests (image-spec, "Image Manifest"; Docker "Image Manifest V2, Schema 2").

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{BlobSource, StoreError};
use crate::base::digest::Digest;
use crate::model::lock::{LockedImage, LockedManifest};

/// The largest manifest that is read, in bytes (the registry limit of distribution and containerd).
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// A blob as an index or manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobDescriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// The parts of one platform's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// The manifest itself.
    pub manifest: BlobDescriptor,
    /// The image configuration.
    pub config: BlobDescriptor,
    /// The layers, lowest first. A layer may stand here twice.
    pub layers: Vec<BlobDescriptor>,
}

impl ImageParts {
    /// Manifest, config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobDescriptor> {
        [&self.manifest, &self.config].into_iter().chain(&self.layers)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    schema_version: u32,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
}

impl From<WireDescriptor> for BlobDescriptor {
    fn from(d: WireDescriptor) -> Self {
        Self { digest: d.digest, size: d.size, media_type: d.media_type }
    }
}

/// Reads one platform's manifest from `source` and says what the image is made of.
///
/// # Errors
/// When the manifest is missing, larger than [`MANIFEST_LIMIT`], has other bytes than its digest says, or is no image manifest.
pub fn image_parts(source: &dyn BlobSource, manifest: &LockedManifest) -> Result<ImageParts, StoreError> {
    let bytes = source.read_blob(&manifest.digest, MANIFEST_LIMIT)?;
    let bad = |why: String| StoreError::Damaged { path: PathBuf::from(manifest.digest.to_string()), why };
    if bytes.len() as u64 != manifest.size {
        return Err(bad(format!("the manifest has {} bytes, the lock says {}", bytes.len(), manifest.size)));
    }
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|e| bad(format!("it is no image manifest: {e}")))?;
    let (Some(config), Some(layers), 2) = (wire.config, wire.layers, wire.schema_version) else {
        return Err(bad("it is no image manifest of schema version 2".to_owned()));
    };
    Ok(ImageParts {
        manifest: BlobDescriptor {
            digest: manifest.digest,
            size: manifest.size,
            media_type: manifest.media_type.clone(),
        },
        config: config.into(),
        layers: layers.into_iter().map(Into::into).collect(),
    })
}

/// Every blob of an image: its index, and manifest, config and layers of each locked platform. Each blob once.
///
/// # Errors
/// As [`image_parts`].
pub fn image_blobs(source: &dyn BlobSource, image: &LockedImage) -> Result<Vec<BlobDescriptor>, StoreError> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    let mut add = |blob: BlobDescriptor| {
        if seen.insert(blob.digest) {
            out.push(blob);
        }
    };
    add(BlobDescriptor { digest: image.digest, size: image.size, media_type: image.media_type.clone() });
    for manifest in image.platforms.values() {
        image_parts(source, manifest)?.blobs().cloned().for_each(&mut add);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::platform::Platform;
    use std::collections::{BTreeMap, HashMap};
    use std::io::Read;

    struct Memory(HashMap<Digest, Vec<u8>>);

    impl BlobSource for Memory {
        fn blob_size(&self, digest: &Digest) -> Option<u64> {
            self.0.get(digest).map(|b| b.len() as u64)
        }
        fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, StoreError> {
            match self.0.get(digest) {
                Some(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
                None => Err(StoreError::Missing { digest: *digest, store: "memory".into() }),
            }
        }
    }

    fn locked(source: &mut Memory, manifest: &str) -> LockedManifest {
        let digest = Digest::of(manifest.as_bytes());
        source.0.insert(digest, manifest.as_bytes().to_vec());
        LockedManifest { media_type: "m".into(), digest, size: manifest.len() as u64 }
    }

    fn manifest(layer: &str) -> String {
        let (config, layer) = (Digest::of(b"config"), Digest::of(layer.as_bytes()));
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":6}},
            "layers":[{{"mediaType":"l","digest":"{layer}","size":5}},{{"mediaType":"l","digest":"{layer}","size":5}}]}}"#
        )
    }

    #[test]
    fn every_blob_is_listed_once() {
        let mut source = Memory(HashMap::new());
        let amd = locked(&mut source, &manifest("amd64"));
        let arm = locked(&mut source, &manifest("arm64"));
        let platforms = BTreeMap::from([(Platform::LinuxAmd64, amd.clone()), (Platform::LinuxArm64, arm.clone())]);
        let image = LockedImage {
            reference: "x:1".parse().unwrap(),
            source: None,
            media_type: "i".into(),
            digest: Digest::of(b"index"),
            size: 5,
            platforms,
        };
        let found: Vec<Digest> = image_blobs(&source, &image).unwrap().iter().map(|b| b.digest).collect();
        let layer = |l: &str| Digest::of(l.as_bytes());
        let want =
            [Digest::of(b"index"), amd.digest, Digest::of(b"config"), layer("amd64"), arm.digest, layer("arm64")];
        assert_eq!(found, want);
        assert_eq!(image_parts(&source, &amd).unwrap().layers.len(), 2);
    }

    #[test]
    fn other_documents_are_refused() {
        let mut source = Memory(HashMap::new());
        for text in ["", "[]", "{}", r#"{"schemaVersion":1,"fsLayers":[]}"#, r#"{"schemaVersion":2,"manifests":[]}"#] {
            let manifest = locked(&mut source, text);
            assert!(matches!(image_parts(&source, &manifest), Err(StoreError::Damaged { .. })), "{text}");
        }
        let mut wrong = locked(&mut source, &manifest("x"));
        wrong.size += 1;
        assert!(image_parts(&source, &wrong).is_err());
    }
}
