//! Lean archives of one platform's images, for tools that know no bundle: `docker load`, `ctr images import`, `skopeo`.
//!
//! Their index lists single-platform manifests. An index of which some platforms are missing makes importers fail, so the
//! images' own indexes stay behind (and with them the digest that names all platforms).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;

use super::bundle::docker_tag;
use crate::base::codec::Codec;
use crate::base::digest::{Digest, Hasher};
use crate::base::report::{Reporter, Task};
use crate::base::tarball::{self, Kind, Member};
use crate::base::tarfmt::{self, TarError};
use crate::model::image::ImageRef;
use crate::model::lock::{LockedImage, is_labimg};
use crate::model::platform::Platform;
use crate::store::bundle::{BLOBS, OCI_INDEX_PATH, OCI_LAYOUT_PATH};
use crate::store::image::{ImageParts, image_parts};
use crate::store::layout::{OCI_LAYOUT, OciDescriptor, oci_index};
use crate::store::{BlobSource, StoreError};

/// Which archive to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout in a tar.
    Oci,
    /// The same with a `manifest.json` for Docker engines that know no OCI layout. Layers keep their digests.
    Docker,
}

/// What to export.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The archive's format.
    pub format: Format,
    /// The platform; left out, the only one there is, else this machine's.
    pub platform: Option<Platform>,
    /// The images; empty for all of the lab's, which the image that holds labimg itself is not.
    pub images: Vec<ImageRef>,
}

/// What an export can not do.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Reading blobs, or blobs with the wrong bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Writing the archive.
    #[error("can not write the archive: {0}")]
    Write(#[source] std::io::Error),
    /// Something tar can not hold.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// No way to choose.
    #[error("which platform? There are {}; say `--platform`", list(.0))]
    WhichPlatform(Vec<Platform>),
    /// An image without the platform.
    #[error("`{image}` has no {platform} (only {}); `--image` selects others", list(.has))]
    NotForPlatform {
        /// The image.
        image: Box<ImageRef>,
        /// What was wanted.
        platform: Platform,
        /// What it has.
        has: Vec<Platform>,
    },
    /// An image that is not there.
    #[error("there is no image `{image}` here; {}", names(.has))]
    NoImage {
        /// The image.
        image: Box<ImageRef>,
        /// Those that are there.
        has: Vec<String>,
    },
    /// Nothing to export.
    #[error("there are no images here")]
    Empty,
    /// Nothing of the lab's own to export.
    #[error("there are no images here but labimg's own (`--image {0}` exports it)")]
    OnlyLabimg(Box<ImageRef>),
}

/// The images there are: those one could have meant.
fn names(has: &[String]) -> String {
    const SHOWN: usize = 12;
    let more = has.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more (`labimg ls BUNDLE`)") } else { String::new() };
    match has.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are {}{more}", has.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ")),
    }
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The platform.
    pub platform: Platform,
    /// The images' names as the archive has them.
    pub images: Vec<String>,
    /// The archive's length in bytes.
    pub size: u64,
}

/// Streams the archive to `out`. Every blob is hashed as it passes and written once. The same input gives the same bytes.
///
/// # Errors
/// See [`ExportError`]. What was written before an error is no whole archive (it has no end mark).
pub fn export(
    source: &dyn BlobSource,
    images: &[LockedImage],
    epoch: u64,
    selection: &Selection,
    out: &mut dyn Write,
    reporter: &dyn Reporter,
) -> Result<Exported, ExportError> {
    let images = select(images, &selection.images)?;
    let platform = choose_platform(&images, selection.platform)?;
    let picked = pick(source, &images, platform)?;
    let mut texts =
        vec![(OCI_LAYOUT_PATH, OCI_LAYOUT.as_bytes().to_vec()), (OCI_INDEX_PATH, layout_index(&picked, platform))];
    if selection.format == Format::Docker {
        warn_about_zstd(source, &picked, reporter)?;
        texts.push(("manifest.json", docker_manifest(&picked)));
    }
    let blobs: BTreeMap<Digest, u64> =
        picked.iter().flat_map(|(_, parts)| parts.blobs()).map(|b| (b.digest, b.size)).collect();
    // What a manifest states is a claim: it may add up to anything.
    let total = blobs.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
    reporter.phase("export", Some(total));
    let task = Task::begin(reporter, &format!("{} images for {platform}", picked.len()), Some(total));
    let mut tar = TarWriter { out, epoch, at: 0 };
    for (path, bytes) in &texts {
        tar.text(path, bytes)?;
    }
    // Some readers (syft's among them) make no directory that an archive does not name.
    tar.directory("blobs")?;
    tar.directory("blobs/sha256")?;
    for (digest, size) in blobs {
        tar.blob(source, &digest, size, &task)?;
    }
    let size = tar.finish()?;
    Ok(Exported { platform, images: picked.iter().map(|(image, _)| image.reference.tagged()).collect(), size })
}

/// The images asked for, in the lock's order; a name without its digest finds the pinned image, too, and labimg's own needs no tag.
fn select<'a>(images: &'a [LockedImage], wanted: &[ImageRef]) -> Result<Vec<&'a LockedImage>, ExportError> {
    let is = |image: &LockedImage, name: &ImageRef| {
        let own = is_labimg(name) && is_labimg(&image.reference) && name.wanted() == "latest";
        own || image.reference == *name || image.reference.tagged() == name.to_string()
    };
    if let Some(gone) = wanted.iter().find(|w| !images.iter().any(|i| is(i, w))) {
        let has = images.iter().map(|i| i.reference.tagged()).collect();
        return Err(ExportError::NoImage { image: Box::new(gone.clone()), has });
    }
    let meant = |image: &&LockedImage| match wanted.is_empty() {
        true => !is_labimg(&image.reference),
        false => wanted.iter().any(|w| is(image, w)),
    };
    let found: Vec<_> = images.iter().filter(meant).collect();
    match (found.is_empty(), images.first()) {
        (false, _) => Ok(found),
        (true, Some(own)) => Err(ExportError::OnlyLabimg(Box::new(own.reference.clone()))),
        (true, None) => Err(ExportError::Empty),
    }
}

fn choose_platform(images: &[&LockedImage], wanted: Option<Platform>) -> Result<Platform, ExportError> {
    let all: BTreeSet<Platform> = images.iter().flat_map(|i| i.platforms.keys().copied()).collect();
    match (wanted, all.first(), Platform::here()) {
        (Some(platform), _, _) => Ok(platform),
        (None, Some(only), _) if all.len() == 1 => Ok(*only),
        (None, _, Some(here)) if all.contains(&here) => Ok(here),
        _ => Err(ExportError::WhichPlatform(all.into_iter().collect())),
    }
}

type Picked<'a> = (&'a LockedImage, ImageParts);

fn pick<'a>(
    source: &dyn BlobSource,
    images: &[&'a LockedImage],
    platform: Platform,
) -> Result<Vec<Picked<'a>>, ExportError> {
    let one = |image: &&'a LockedImage| {
        let lacks = || ExportError::NotForPlatform {
            image: Box::new(image.reference.clone()),
            platform,
            has: image.platforms.keys().copied().collect(),
        };
        let manifest = image.platforms.get(&platform).ok_or_else(lacks)?;
        Ok((*image, image_parts(source, manifest)?))
    };
    images.iter().map(one).collect()
}

fn layout_index(picked: &[Picked], platform: Platform) -> Vec<u8> {
    let descriptor = |(image, parts): &Picked| {
        let m = &parts.manifest;
        OciDescriptor::new(&m.media_type, m.digest, m.size).named(&image.reference.tagged()).of(platform)
    };
    oci_index(picked.iter().map(descriptor).collect())
}

/// `manifest.json` as `docker save` writes it (moby, "Docker Image Specification v1.2", "Combined Image JSON + Filesystem
/// Changeset Format"); its paths may point anywhere in the archive, so they point at the layout's blobs.
fn docker_manifest(picked: &[Picked]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        config: String,
        repo_tags: Vec<String>,
        layers: Vec<String>,
    }
    // One entry per image content: tools refuse two entries with one config.
    let mut entries: Vec<(Digest, Entry)> = Vec::new();
    for (image, parts) in picked {
        let tag = docker_tag(&image.reference);
        if let Some((_, entry)) = entries.iter_mut().find(|(digest, _)| *digest == parts.manifest.digest) {
            entry.repo_tags.extend(tag);
            continue;
        }
        let layers = parts.layers.iter().map(|l| blob_path(&l.digest)).collect();
        let repo_tags = tag.into_iter().collect();
        entries.push((parts.manifest.digest, Entry { config: blob_path(&parts.config.digest), repo_tags, layers }));
    }
    let entries: Vec<Entry> = entries.into_iter().map(|(_, e)| e).collect();
    serde_json::to_vec(&entries).unwrap_or_default()
}

fn warn_about_zstd(source: &dyn BlobSource, picked: &[Picked], reporter: &dyn Reporter) -> Result<(), ExportError> {
    for (image, parts) in picked {
        for layer in &parts.layers {
            let mut head = Vec::new();
            let failed = |e| StoreError::io(Path::new(&layer.digest.to_string()), "read", e);
            source.open_blob(&layer.digest)?.take(6).read_to_end(&mut head).map_err(failed)?;
            if Codec::sniff(&head) == Codec::Zstd {
                let name = image.reference.tagged();
                reporter.warn(&format!("`{name}` has zstd layers, which Docker Engine reads from version 23 on"));
                break;
            }
        }
    }
    Ok(())
}

fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

/// A tar on a stream.
struct TarWriter<'a> {
    out: &'a mut dyn Write,
    epoch: u64,
    at: u64,
}

impl TarWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(ExportError::Write)
    }

    fn header(&mut self, path: &str, size: u64) -> Result<(), ExportError> {
        let headers = tarfmt::headers(path, size, self.epoch, self.at)?;
        self.put(&headers)
    }

    fn directory(&mut self, path: &str) -> Result<(), ExportError> {
        let member = Member { path, kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime: self.epoch };
        let headers = tarball::headers(&member)?;
        self.put(&headers)
    }

    fn pad(&mut self) -> Result<(), ExportError> {
        let rest = self.at.next_multiple_of(tarfmt::BLOCK) - self.at;
        self.put(&[0; tarfmt::BLOCK as usize][..rest as usize])
    }

    fn text(&mut self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.header(path, bytes.len() as u64)?;
        self.put(bytes)?;
        self.pad()
    }

    fn blob(&mut self, source: &dyn BlobSource, digest: &Digest, size: u64, task: &Task) -> Result<(), ExportError> {
        let failed = |e| StoreError::io(Path::new(&digest.to_string()), "read", e);
        let mut reader = source.open_blob(digest)?.take(size);
        self.header(&blob_path(digest), size)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        let end = self.at + size;
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e).into()),
            };
            hasher.update(&buffer[..n]);
            self.put(&buffer[..n])?;
            task.advance(n as u64);
        }
        let found = hasher.finish();
        if self.at != end || found != *digest {
            return Err(StoreError::Mismatch { what: format!("blob {digest}"), expected: *digest, found }.into());
        }
        self.pad()
    }

    fn finish(mut self) -> Result<u64, ExportError> {
        self.put(&[0; tarfmt::END as usize])?;
        self.out.flush().map_err(ExportError::Write)?;
        Ok(self.at)
    }
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
