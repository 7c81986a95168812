//! The images of a root, as its OCI layout names them: those of the lock and those made here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::image::is_index;
use super::image_index::manifests_here;
use super::{Store, StoreError};
use crate::base::bounded;
use crate::base::bounds::INDEX_BYTES;
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

impl Entry {
    fn image(&self, reference: ImageRef, platforms: BTreeMap<Platform, LockedManifest>) -> LockedImage {
        let (media_type, digest, size) = (self.media_type.clone(), self.digest, self.size);
        LockedImage { reference, source: None, media_type, digest, size, platforms }
    }
}

impl Store {
    /// The images of a lab, with the platforms whose manifests are in the store (of images that are no index: none is told).
    ///
    /// # Errors
    /// A lab that is not there, or a root or index that can not be read.
    pub fn root_images(&self, lab: &str) -> Result<Vec<LockedImage>, StoreError> {
        let image = |entry: Entry, reference| Ok(entry.image(reference, self.platforms_here(&entry)?));
        self.entries(lab)?.into_iter().map(|(entry, reference)| image(entry, reference)).collect()
    }

    /// As [`Self::root_images`], whatever became of the images' own blobs: of those that can not be read, no platform is told.
    ///
    /// # Errors
    /// A lab that is not there, or an `index.json` that can not be read.
    pub(super) fn root_names(&self, lab: &str) -> Result<Vec<LockedImage>, StoreError> {
        let image = |entry: Entry, reference| entry.image(reference, self.platforms_here(&entry).unwrap_or_default());
        Ok(self.entries(lab)?.into_iter().map(|(entry, reference)| image(entry, reference)).collect())
    }

    fn entries(&self, lab: &str) -> Result<Vec<(Entry, ImageRef)>, StoreError> {
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
            images.push((entry, reference));
        }
        Ok(images)
    }

    fn platforms_here(&self, entry: &Entry) -> Result<BTreeMap<Platform, LockedManifest>, StoreError> {
        if !is_index(&entry.media_type) {
            return Ok(BTreeMap::new());
        }
        Ok(manifests_here(self, &entry.digest)?.manifests.into_iter().collect())
    }
}
