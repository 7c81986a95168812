//! From a lock to the description of its bundle.

use std::collections::BTreeMap;

use super::vagrant_box;
use super::vagrant_lab::MadeBox;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, Lock};
use crate::store::BlobSource;
use crate::store::bundle::{
    BundleError, Contents, Description, FileEntry, LOCK_PATH, OCI_INDEX_PATH, OCI_LAYOUT_PATH, PROFILE_PATH,
};
use crate::store::image::image_blobs;
use crate::store::layout::OCI_LAYOUT;

/// Describes the bundle of a lock and of the boxes made for it. `profile` and `lock_text` are the canonical texts it carries.
///
/// Of the store, only the manifests are read: with them the size of every blob is known.
///
/// # Errors
/// A manifest that is missing or damaged; one digest with two sizes.
pub fn describe(
    profile: &str,
    lock_text: &str,
    lock: &Lock,
    boxes: &[MadeBox],
    store: &dyn BlobSource,
) -> Result<Description, BundleError> {
    let contents = contents(lock, boxes);
    let mut blobs = BTreeMap::new();
    for image in &lock.images {
        for blob in image_blobs(store, image)? {
            add(&mut blobs, blob.digest, blob.size)?;
        }
    }
    for (digest, size) in contents.blobs() {
        add(&mut blobs, digest, size)?;
    }
    let texts = vec![
        (OCI_LAYOUT_PATH.to_owned(), OCI_LAYOUT.as_bytes().to_vec()),
        (OCI_INDEX_PATH.to_owned(), contents.oci_index()),
        (PROFILE_PATH.to_owned(), profile.as_bytes().to_vec()),
        (LOCK_PATH.to_owned(), lock_text.as_bytes().to_vec()),
    ];
    Ok(Description { name: lock.name.clone(), epoch: lock.epoch, contents, texts, blobs })
}

fn add(blobs: &mut BTreeMap<Digest, u64>, digest: Digest, size: u64) -> Result<(), BundleError> {
    match blobs.insert(digest, size) {
        Some(other) if other != size => Err(BundleError::TwoSizes { digest, one: other, other: size }),
        _ => Ok(()),
    }
}

/// What the lab is made of.
fn contents(lock: &Lock, boxes: &[MadeBox]) -> Contents {
    let mut all = Contents::of(lock);
    all.files.extend(boxes.iter().map(|b| FileEntry {
        digest: b.digest,
        kind: FileKind::Box,
        name: format!("{}/{}", b.name, vagrant_box::name(b.provider)),
        platform: Some(b.platform),
        size: b.size,
        version: None,
    }));
    all.sort_files();
    all
}

/// The tag Docker files an image under; none for an image that is only named by digest.
pub(super) fn docker_tag(reference: &ImageRef) -> Option<String> {
    reference.tag.is_some().then(|| reference.tagged())
}
