//! Where blobs come from: bundles, the store, the folder of pushes. All are files with ranges in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::LockedImage;
use crate::store::bundle::{BlobFiles, Bundle};
use crate::store::image::is_index;
use crate::store::image_index::manifests_here;
use crate::store::{BlobSource, Store, StoreError};

/// Blobs that lie in files.
pub(super) trait Blobs: BlobSource + BlobFiles {}
impl<T: BlobSource + BlobFiles> Blobs for T {}

/// A bundle, or a lab in the store.
pub struct Source {
    pub(super) name: String,
    pub(super) identity: Option<Digest>,
    pub(super) images: Vec<Image>,
    pub(super) blobs: Arc<dyn Blobs>,
    /// The blobs of the lab, where `blobs` has those of others, too.
    of_lab: Option<BTreeMap<Digest, u64>>,
}

impl Source {
    /// Whether the blob is there, and the lab's.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.of_lab.as_ref().is_none_or(|blobs| blobs.contains_key(digest)) && self.blobs.blob_size(digest).is_some()
    }
}

/// An image of a source.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) reference: ImageRef,
    /// Its index, or its only manifest.
    pub(super) top: Manifest,
    /// The indexes inside its index that the source holds.
    pub(super) nested: Vec<Manifest>,
    /// The manifests the source holds, by platform.
    pub(super) platforms: Vec<(String, Manifest)>,
}

impl Image {
    /// An image of a source. A damaged index is told when it is asked for.
    fn new(blobs: &dyn BlobSource, image: LockedImage) -> Self {
        let indexes = match is_index(&image.media_type) {
            true => manifests_here(blobs, &image.digest).map(|here| here.indexes).unwrap_or_default(),
            false => Vec::new(),
        };
        Self {
            reference: image.reference,
            top: Manifest::new(image.digest, &image.media_type),
            nested: indexes.iter().map(|index| Manifest::new(index.digest, &index.media_type)).collect(),
            platforms: image
                .platforms
                .into_iter()
                .map(|(platform, m)| (platform.to_string(), Manifest::new(m.digest, &m.media_type)))
                .collect(),
        }
    }

    /// The image without the indexes and platforms that only another lab has: an index may name them.
    fn only(mut self, of_lab: &BTreeMap<Digest, u64>) -> Self {
        self.nested.retain(|m| of_lab.contains_key(&m.digest));
        self.platforms.retain(|(_, m)| of_lab.contains_key(&m.digest));
        self
    }
}

/// A manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) digest: Digest,
    pub(super) media_type: String,
}

impl Manifest {
    fn new(digest: Digest, media_type: &str) -> Self {
        Self { digest, media_type: media_type.to_owned() }
    }
}

/// A bundle as a source.
pub fn from_bundle(bundle: Bundle) -> Source {
    let images = bundle.images().into_iter().map(|image| Image::new(&bundle, image)).collect();
    let (name, identity) = (bundle.path().display().to_string(), Some(bundle.identity()));
    Source { name, identity, images, blobs: Arc::new(bundle), of_lab: None }
}

/// A lab in the store as a source: nothing that only other labs of the store have. The store cannot be cleaned up while it is
/// served.
///
/// # Errors
/// When the lab is not there, or its list of blobs or images cannot be read.
pub fn from_store(store: &Arc<Store>, lab: &str) -> Result<Source, StoreError> {
    let of_lab = store.root(lab)?.blobs;
    let images = store.root_images(lab)?.into_iter().map(|image| Image::new(&**store, image).only(&of_lab));
    let images = images.collect();
    let name = format!("lab `{lab}` of {}", store.path().display());
    Ok(Source { name, identity: None, images, blobs: store.clone(), of_lab: Some(of_lab) })
}

/// All sources of a server.
pub(super) struct Sources {
    pub(super) told: Vec<(String, Option<Digest>)>,
    blobs: Vec<(Arc<str>, Arc<dyn Blobs>)>,
}

impl Sources {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let told = sources.iter().map(|s| (s.name.clone(), s.identity)).collect();
        Self { told, blobs: sources.into_iter().map(|s| (s.name.into(), s.blobs)).collect() }
    }

    /// One more, asked last.
    pub(super) fn add(&mut self, name: &str, blobs: Arc<dyn Blobs>) {
        self.blobs.push((name.into(), blobs));
    }

    /// The blob's size in bytes. Whether it may be told is another question (`State::blob_size`).
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.iter().find_map(|(_, s)| s.blob_size(digest))
    }

    /// The blob, opened; `None` when no source has it. Whether it may be sent is another question (`State::serves`).
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Option<Arc<OpenBlob>>> {
        let there = self.blobs.iter().find(|(_, s)| s.blob_size(digest).is_some());
        let Some((name, source)) = there else { return Ok(None) };
        let range = source.blob_range(digest).map_err(io::Error::other)?;
        let from = name.clone();
        let blob = OpenBlob { digest: *digest, from, file: range.file, offset: range.offset, size: range.size };
        blob.stamp()?;
        Ok(Some(Arc::new(blob)))
    }
}

/// A blob's place in an open file.
#[derive(Debug)]
pub(super) struct OpenBlob {
    pub(super) digest: Digest,
    /// What it is from, for people.
    pub(super) from: Arc<str>,
    file: File,
    offset: u64,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// What changes when somebody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl OpenBlob {
    /// The file's state now.
    ///
    /// # Errors
    /// A file that is too short for the blob by now.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        let meta = self.file.metadata()?;
        if meta.len() < self.offset.saturating_add(self.size) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file that holds it was cut off"));
        }
        Ok(Stamp {
            inode: (meta.dev(), meta.ino()),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Reads from the blob's byte `at` on, waiting for the disk.
    ///
    /// # Errors
    /// I/O errors; the end of the file before the blob's is one.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, self.offset.saturating_add(at)) {
                Ok(0) if !buffer.is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file that holds it was cut off"));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// As [`Self::read_at`], but only what is in memory: `None` when the disk would have to be waited for.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    pub(super) fn read_cached(&self, buffer: &mut [u8], at: u64) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let mut slices = [io::IoSliceMut::new(buffer)];
        match preadv2(&self.file, &mut slices, self.offset.saturating_add(at), ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file that holds it was cut off")),
            Ok(n) => Ok(Some(n)),
            // Not in memory, or a file system or kernel that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A reader over all of it.
    pub(super) fn reader(self: &Arc<Self>) -> impl Read {
        BlobReader { blob: self.clone(), at: 0 }
    }
}

struct BlobReader {
    blob: Arc<OpenBlob>,
    at: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blob.size - self.at).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        let n = self.blob.read_at(buffer.get_mut(..want).unwrap_or_default(), self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A file that holds nothing but one blob.
pub(super) fn range_of(path: &Path) -> io::Result<crate::store::bundle::FileRange> {
    let file = fs_err::File::open(path)?;
    let size = file.metadata()?.len();
    Ok(crate::store::bundle::FileRange { file: file.into_parts().0, offset: 0, size })
}
