//! From a lock to the description of its bundle.

use std::collections::{BTreeMap, BTreeSet};

use super::vagrant_box;
use super::vagrant_lab::MadeBox;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, LABIMG, Lock};
use crate::model::platform::Platform;
use crate::store::BlobSource;
use crate::store::bundle::{
    BundleError, ChartEntry, Contents, Description, FileEntry, ImageEntry, LOCK_PATH, LocalEntry, OCI_INDEX_PATH,
    OCI_LAYOUT_PATH, PROFILE_PATH,
};
use crate::store::image::image_blobs;
use crate::store::layout::{OCI_LAYOUT, OciDescriptor, oci_index};

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
    let images = contents.images.iter().map(|i| {
        let name = i.reference.tagged();
        OciDescriptor::new(&i.media_type, i.digest, i.size).named(&name)
    });
    let texts = vec![
        (OCI_LAYOUT_PATH.to_owned(), OCI_LAYOUT.as_bytes().to_vec()),
        (OCI_INDEX_PATH.to_owned(), oci_index(images.collect())),
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

/// What the lab is made of, sorted here again: the bundle's bytes must not hang on how somebody filled the lock.
fn contents(lock: &Lock, boxes: &[MadeBox]) -> Contents {
    let mut charts: Vec<ChartEntry> = lock
        .charts
        .iter()
        .map(|c| ChartEntry {
            chart: c.chart.clone(),
            digest: c.digest,
            name: c.name.clone(),
            size: c.size,
            version: c.version.clone(),
        })
        .collect();
    charts.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let mut files: Vec<FileEntry> = lock
        .files
        .iter()
        .map(|f| {
            let (digest, size) = f.content();
            let (name, version) = (f.name.clone(), f.version.clone());
            FileEntry { digest, kind: f.kind, name, platform: f.platform, size, version }
        })
        .collect();
    // A tool that the profile itself calls labimg stands in its place.
    let taken: BTreeSet<Option<Platform>> =
        files.iter().filter(|f| (f.kind, f.name.as_str()) == (FileKind::Tool, LABIMG)).map(|f| f.platform).collect();
    files.extend(lock.carried.iter().filter(|p| !taken.contains(&Some(p.platform))).map(|p| FileEntry {
        digest: p.digest,
        kind: FileKind::Tool,
        name: LABIMG.to_owned(),
        platform: Some(p.platform),
        size: p.size,
        version: Some(p.version.clone()),
    }));
    files.extend(boxes.iter().map(|b| FileEntry {
        digest: b.digest,
        kind: FileKind::Box,
        name: format!("{}/{}", b.name, vagrant_box::name(b.provider)),
        platform: Some(b.platform),
        size: b.size,
        version: None,
    }));
    files.sort_by(|a, b| (a.kind, &a.name, a.platform).cmp(&(b.kind, &b.name, b.platform)));
    let mut images: Vec<ImageEntry> = lock.images.iter().map(ImageEntry::from).collect();
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    let local =
        |l: &crate::model::lock::LockedLocal| LocalEntry { digest: l.digest, path: l.path.clone(), size: l.size };
    let mut locals: Vec<LocalEntry> = lock.locals.iter().map(local).collect();
    locals.sort_by(|a, b| a.path.cmp(&b.path));
    Contents { charts, files, images, locals }
}

/// The tag Docker files an image under; none for an image that is only named by digest.
pub(super) fn docker_tag(reference: &ImageRef) -> Option<String> {
    reference.tag.is_some().then(|| reference.tagged())
}
