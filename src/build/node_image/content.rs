//! What of images goes into a node's content store, and how containerd's collector is to see it.

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::build::BuildError;
use crate::model::image::ImageRef;
use crate::model::lock::LockedImage;
use crate::model::platform::Platform;
use crate::store::Store;
use crate::store::image::{ImageParts, image_parts, read_index};
use crate::store::image_index::{Nested, nested_for};

/// What starts the labels by which blobs keep others (containerd, "Garbage Collection Labels").
const KEEPS: &str = "containerd.io/gc.ref.content";

/// A blob of the content store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob {
    /// Size in bytes.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An image's name and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Images by name, blobs by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Names to targets.
    pub names: BTreeMap<String, Target>,
    /// Blobs.
    pub blobs: BTreeMap<Digest, Blob>,
}

impl Content {
    /// Adds one platform of an image under the names that a pull through CRI gives it: the tag, the digest, and its id, which
    /// is its configuration's digest.
    ///
    /// # Errors
    /// A manifest that is not in the store, or damaged; one digest with two sizes.
    pub fn add(&mut self, image: &LockedImage, platform: Platform, store: &Store) -> Result<(), BuildError> {
        let Some(locked) = image.platforms.get(&platform) else {
            return Err(BuildError::Internal(format!("{} is not locked for {platform}", image.reference)));
        };
        let ImageParts { manifest, config, layers } = image_parts(store, locked)?;
        self.blob(image, config.digest, config.size, BTreeMap::new())?;
        let mut labels = BTreeMap::from([(format!("{KEEPS}.config"), config.digest.to_string())]);
        for (index, layer) in layers.iter().enumerate() {
            labels.insert(format!("{KEEPS}.l.{index}"), layer.digest.to_string());
            self.blob(image, layer.digest, layer.size, BTreeMap::new())?;
        }
        self.blob(image, manifest.digest, manifest.size, labels)?;
        if image.digest != manifest.digest {
            self.indexes(image, &nested_for(store, image, platform)?, manifest.digest, store)?;
        }
        let target = Target { media_type: image.media_type.clone(), digest: image.digest, size: image.size };
        for name in names(&image.reference, image.digest) {
            self.names.insert(name, target.clone());
        }
        self.names.entry(config.digest.to_string()).or_insert(target);
        Ok(())
    }

    /// Adds the image's index and those in it. The manifests of other platforms are not there: as after a pull, only what is there
    /// is kept.
    fn indexes(
        &mut self,
        image: &LockedImage,
        nested: &[Nested],
        manifest: Digest,
        store: &Store,
    ) -> Result<(), BuildError> {
        let mut sizes = BTreeMap::from([(image.digest, image.size)]);
        sizes.extend(nested.iter().map(|n| (n.index.digest, n.index.size)));
        let only = sizes.len() == 1;
        for (index, size) in sizes {
            let below = nested.iter().filter(|n| n.within == index).map(|n| n.index.digest);
            let names = only || read_index(store, &index)?.manifests.iter().any(|entry| entry.digest == manifest);
            let kept = names.then_some(manifest).into_iter().chain(below).enumerate();
            let labels = kept.map(|(n, digest)| (format!("{KEEPS}.m.{n}"), digest.to_string())).collect();
            self.blob(image, index, size, labels)?;
        }
        Ok(())
    }

    fn blob(
        &mut self,
        image: &LockedImage,
        digest: Digest,
        size: u64,
        labels: BTreeMap<String, String>,
    ) -> Result<(), BuildError> {
        let blob = self.blobs.entry(digest).or_insert_with(|| Blob { size, ..Blob::default() });
        if blob.size != size {
            let why = format!("{digest} has {} bytes in one place and {size} in another", blob.size);
            return Err(BuildError::bad(format!("image {}", image.reference), why));
        }
        blob.labels.extend(labels);
        Ok(())
    }
}

/// The tag and the digest under which CRI files an image.
fn names(reference: &ImageRef, digest: Digest) -> Vec<String> {
    let by_tag = reference.tag.is_some().then(|| reference.tagged());
    by_tag.into_iter().chain([format!("{}@{digest}", reference.name())]).collect()
}
