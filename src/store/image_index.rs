//! Indexes inside an image's index, as some release workflows push them: an index of indexes, each with one platform's manifest
//! and its attestation. The lock names the outermost index and the manifests; what lies between is found by walking.
//!
//! Walking goes as containerd does it (`images.FilterPlatforms`): into each index that states the platform, or none. Nothing is
//! walked for a platform whose manifest the outermost index names itself, which is what nearly every image is like.

use std::collections::BTreeSet;

use super::image::{
    CONFIG_LIMIT, Descriptor, Index, PlatformField, config_platform, is_index, plain, read_index, read_manifest,
};
use super::{BlobSource, StoreError};
use crate::base::digest::Digest;
use crate::model::lock::{LockedImage, LockedManifest};
use crate::model::platform::Platform;

/// How deep indexes may lie in each other below the outermost.
pub const DEPTH: usize = 4;
/// The most indexes in one image that are followed.
pub const MOST: usize = 64;

/// An index inside another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// The index that names it.
    pub within: Digest,
    /// The index itself.
    pub index: Descriptor,
}

/// What a walk came to.
enum Walk {
    /// All there is.
    Done(Vec<Nested>),
    /// An index that the source does not have.
    Lacks(Descriptor),
}

/// The indexes inside the image's index that lead to its manifests, each once for each index that names it, outer ones first.
///
/// # Errors
/// An index that is missing or damaged; more of them than anybody needs.
pub fn nested(source: &dyn BlobSource, image: &LockedImage) -> Result<Vec<Nested>, StoreError> {
    found(source, walk(source, image, image.platforms.iter())?)
}

/// As [`nested`], for one platform only.
///
/// # Errors
/// As [`nested`].
pub fn nested_for(source: &dyn BlobSource, image: &LockedImage, platform: Platform) -> Result<Vec<Nested>, StoreError> {
    found(source, walk(source, image, image.platforms.iter().filter(|(key, _)| **key == platform))?)
}

/// What a walk found, if it came to its end.
fn found(source: &dyn BlobSource, walk: Walk) -> Result<Vec<Nested>, StoreError> {
    match walk {
        Walk::Done(found) => Ok(found),
        Walk::Lacks(index) if source.blob_size(&index.digest).is_some() => {
            let why = format!("it has another size than {} bytes", index.size);
            Err(StoreError::BadBlob { digest: index.digest, why })
        }
        // Reading it says that it is not there, in the source's own words.
        Walk::Lacks(index) => read_index(source, &index.digest).map(|_| Vec::new()),
    }
}

/// The first index inside the image's index that the source lacks; the outermost one must be there.
///
/// # Errors
/// As [`nested`].
pub fn lacking(source: &dyn BlobSource, image: &LockedImage) -> Result<Option<Descriptor>, StoreError> {
    match walk(source, image, image.platforms.iter())? {
        Walk::Done(_) => Ok(None),
        Walk::Lacks(index) => Ok(Some(index)),
    }
}

fn walk<'a>(
    source: &dyn BlobSource,
    image: &LockedImage,
    platforms: impl Iterator<Item = (&'a Platform, &'a LockedManifest)>,
) -> Result<Walk, StoreError> {
    let mut found: Vec<Nested> = Vec::new();
    if !is_index(&image.media_type) {
        return Ok(Walk::Done(found));
    }
    let top = read_index(source, &image.digest)?;
    for (platform, manifest) in platforms {
        let mut level = vec![(image.digest, top.clone())];
        for depth in 0.. {
            let inner = inner(&level, *platform, &manifest.digest);
            if inner.is_empty() {
                break;
            }
            if depth == DEPTH {
                return Err(too_much(image, format!("indexes lie more than {DEPTH} deep in each other")));
            }
            level = Vec::new();
            for nested in inner {
                if source.blob_size(&nested.index.digest) != Some(nested.index.size) {
                    return Ok(Walk::Lacks(nested.index));
                }
                level.push((nested.index.digest, read_index(source, &nested.index.digest)?));
                if !found.contains(&nested) {
                    found.push(nested);
                }
            }
            if found.len() > MOST {
                return Err(too_much(image, format!("more than {MOST} indexes lie in it")));
            }
        }
    }
    Ok(Walk::Done(found))
}

/// What to look into next: indexes for the platform, or for nobody says what, of each index that does not name the manifest.
fn inner(level: &[(Digest, Index)], platform: Platform, manifest: &Digest) -> Vec<Nested> {
    let mut seen = BTreeSet::new();
    let blind = level.iter().filter(|(_, index)| !index.manifests.iter().any(|entry| entry.digest == *manifest));
    let all = blind.flat_map(|(within, index)| {
        index.manifests.iter().map(|entry| Nested { within: *within, index: entry.clone() })
    });
    all.filter(|nested| may_lead_to(&nested.index, platform))
        .filter(|nested| seen.insert((nested.within, nested.index.digest)))
        .collect()
}

/// Whether this is an index that is for `platform`, or does not say for what.
pub fn may_lead_to(entry: &Descriptor, platform: Platform) -> bool {
    is_index(&entry.media_type) && entry.stated().is_none_or(|field| field.is(platform))
}

fn too_much(image: &LockedImage, why: String) -> StoreError {
    StoreError::BadBlob { digest: image.digest, why }
}

/// What of an index is there.
#[derive(Debug, Default)]
pub struct Here {
    /// Manifests, by platform.
    pub manifests: Vec<(Platform, LockedManifest)>,
    /// Indexes inside it, at any depth that is followed.
    pub indexes: Vec<Descriptor>,
}

/// The index's manifests that `source` has, by platform, with those of the indexes in it: for a reader who has no lock.
///
/// # Errors
/// As [`nested`].
pub fn manifests_here(source: &dyn BlobSource, digest: &Digest) -> Result<Here, StoreError> {
    let mut here = Here::default();
    let mut level = vec![plain("", *digest, 0)];
    for _ in 0..=DEPTH {
        let mut next = Vec::new();
        for index in level {
            for entry in read_index(source, &index.digest)?.manifests {
                if source.blob_size(&entry.digest) != Some(entry.size) {
                    continue;
                }
                if is_index(&entry.media_type) {
                    next.push(entry);
                } else if let Some(platform) = platform_of(source, &entry) {
                    let Descriptor { media_type, digest, size, .. } = entry;
                    here.manifests.push((platform, LockedManifest { media_type, digest, size }));
                }
            }
        }
        here.indexes.extend(next.iter().cloned());
        if here.indexes.len() > MOST {
            let why = format!("more than {MOST} indexes lie in it");
            return Err(StoreError::BadBlob { digest: *digest, why });
        }
        level = next;
    }
    Ok(here)
}

/// What a manifest is for: what its entry says, else its configuration.
fn platform_of(source: &dyn BlobSource, entry: &Descriptor) -> Option<Platform> {
    let named = |field: &PlatformField| Platform::ALL.into_iter().find(|platform| field.is(*platform));
    match entry.stated() {
        Some(field) => named(field),
        None => {
            let config = read_manifest(source, &entry.digest).ok()?.config;
            let bytes = source.read_blob(&config.digest, CONFIG_LIMIT).ok()?;
            named(&config_platform(&bytes)?)
        }
    }
}
