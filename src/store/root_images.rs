//! The images of a root, as its OCI layout names them: those of the lock and those made here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::image::{Index, MANIFEST_LIMIT, is_index};
use super::{BlobSource, Store, StoreError};
use crate::base::bounds::INDEX_BYTES;
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{LockedImage, LockedManifest};
use crate::model::platform::Platform;

/// The annotation that carries an image's full name (image-spec, "Annotations").
const NAME: &str = "org.opencontainers.image.ref.name";

/// An entry of a root's `index.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    digest: Digest,
    media_type: String,
    size: u64,
}

impl Store {
    /// The images of a lab, with the platforms whose manifests are in the store (of images that are no index: none is told).
    ///
    /// # Errors
    /// A lab that is not there, or a root or index that can not be read.
    pub fn root_images(&self, lab: &str) -> Result<Vec<LockedImage>, StoreError> {
        #[derive(Deserialize)]
        struct Layout {
            manifests: Vec<Entry>,
        }
        let path = self.root_dir(lab).join("index.json");
        let damaged = |why: String| StoreError::Damaged { path: path.clone(), why };
        let text = bounded::read(&path, INDEX_BYTES).map_err(|e| StoreError::io(&path, "read", e))?;
        let layout: Layout = bounded::from_json(&text).map_err(|e| damaged(e.to_string()))?;
        let mut images = Vec::new();
        for entry in layout.manifests {
            let Some(name) = entry.annotations.get(NAME) else { continue };
            let reference: ImageRef = name.parse().map_err(|e| damaged(format!("{e}")))?;
            let platforms = self.platforms_here(&entry)?;
            let Entry { digest, media_type, size, .. } = entry;
            images.push(LockedImage { reference, source: None, media_type, digest, size, platforms });
        }
        Ok(images)
    }

    fn platforms_here(&self, entry: &Entry) -> Result<BTreeMap<Platform, LockedManifest>, StoreError> {
        if !is_index(&entry.media_type) {
            return Ok(BTreeMap::new());
        }
        let bytes = self.read_blob(&entry.digest, MANIFEST_LIMIT)?;
        let index: Index = bounded::from_json(&bytes)
            .map_err(|e| StoreError::BadBlob { digest: entry.digest, why: format!("not an image index: {e}") })?;
        let here = index.manifests.into_iter().filter(|m| self.has(&m.digest, m.size)).filter_map(|m| {
            let platform: Platform =
                format!("{}/{}", m.platform.as_ref()?.os, m.platform.as_ref()?.architecture).parse().ok()?;
            Some((platform, LockedManifest { media_type: m.media_type, digest: m.digest, size: m.size }))
        });
        Ok(here.collect())
    }
}
