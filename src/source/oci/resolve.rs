//! What an image reference means right now: the digest of its index and of the manifest of each platform.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::{self, Document};
use super::client::{Fetched, fetch_blob, fetch_manifest};
use super::pick::Picker;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{LockedImage, LockedManifest};
use crate::model::platform::Platform;
use crate::source::{Net, SourceError};
use crate::store::image::{CONFIG_LIMIT, Descriptor, Manifest, PlatformField, config_platform, is_index};
use crate::store::image_index;
use crate::store::{BlobSource, Store};

/// An image by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Media type of the index, or of the only manifest.
    pub media_type: String,
    /// Digest of the index, or of the only manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The manifest of each platform asked for.
    pub platforms: BTreeMap<Platform, LockedManifest>,
}

/// Asks the registry what `reference` means, for `platforms` only. Index and manifests land in the store.
///
/// # Errors
/// An image that can not be had, used ([`SourceError::Unsupported`]), or is not there for one of the platforms.
pub async fn resolve(
    net: &Net,
    store: &Arc<Store>,
    reference: &ImageRef,
    platforms: &[Platform],
) -> Result<Resolved, SourceError> {
    let fetched = fetch_manifest(net, reference, &reference.wanted(), reference.digest.as_ref()).await?;
    let (document, media_type) = check::parse(&fetched.bytes, &fetched.content_type, &reference.to_string())?;
    let platforms = match document {
        Document::Index(index) => Picker::new(net, store, reference).all(&index, platforms).await?,
        Document::Manifest(manifest) => {
            of_manifest(net, store, reference, &manifest, platforms).await?;
            let locked = locked(&media_type, &fetched);
            platforms.iter().map(|platform| (*platform, locked.clone())).collect()
        }
    };
    store.put(&fetched.bytes)?;
    Ok(Resolved { media_type, digest: fetched.digest, size: fetched.bytes.len() as u64, platforms })
}

pub(super) fn locked(media_type: &str, fetched: &Fetched) -> LockedManifest {
    LockedManifest { media_type: media_type.to_owned(), digest: fetched.digest, size: fetched.bytes.len() as u64 }
}

/// A lone manifest says what it is for in its configuration only.
async fn of_manifest(
    net: &Net,
    store: &Arc<Store>,
    reference: &ImageRef,
    manifest: &Manifest,
    platforms: &[Platform],
) -> Result<(), SourceError> {
    match stated(net, store, reference, &manifest.config).await? {
        Some(field) => all_there(reference, &[field], platforms),
        None => Err(check::no_image(manifest, reference)),
    }
}

/// What an image's configuration says it is for; `None` where it says nothing.
pub(super) async fn stated(
    net: &Net,
    store: &Arc<Store>,
    reference: &ImageRef,
    config: &Descriptor,
) -> Result<Option<PlatformField>, SourceError> {
    let what = || format!("configuration of {reference}");
    if config.size > CONFIG_LIMIT {
        return Err(SourceError::TooLarge { url: what(), limit: CONFIG_LIMIT });
    }
    fetch_blob(net, store, reference, &config.digest, config.size, &what()).await?;
    Ok(config_platform(&store.read_blob(&config.digest, CONFIG_LIMIT)?))
}

pub(super) fn all_there(
    reference: &ImageRef,
    there: &[PlatformField],
    platforms: &[Platform],
) -> Result<(), SourceError> {
    let missing: Vec<Platform> =
        platforms.iter().filter(|platform| !there.iter().any(|field| field.is(**platform))).copied().collect();
    if missing.is_empty() { Ok(()) } else { Err(not_for(reference, there, &missing)) }
}

/// What is said of an image that is `there` for other platforms only.
pub(super) fn not_for(reference: &ImageRef, there: &[PlatformField], missing: &[Platform]) -> SourceError {
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    // `unknown/unknown` are attestations of BuildKit, nothing to run.
    let mut names: Vec<String> = there.iter().filter(|f| f.os != "unknown").map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let there =
        if names.is_empty() { "it names no platform".to_owned() } else { format!("it is for {}", names.join(", ")) };
    SourceError::Platform { what: format!("image `{reference}`"), wanted: missing.join(", "), there }
}

/// Brings index and manifests of a locked image that the store lacks, by digest.
///
/// # Errors
/// As [`resolve`]; also when a locked size is wrong.
pub async fn fetch_image_manifests(net: &Net, store: &Arc<Store>, image: &LockedImage) -> Result<(), SourceError> {
    let source = image.source.as_ref().unwrap_or(&image.reference);
    let top = (&image.media_type, image.digest, image.size);
    let children = image.platforms.values().map(|m| (&m.media_type, m.digest, m.size));
    for (media_type, digest, size) in std::iter::once(top).chain(children) {
        if store.has(&digest, size) {
            continue;
        }
        let fetched = bring(net, store, source, &digest, size).await?;
        let (document, _) = check::parse(&fetched.bytes, media_type, &source.to_string())?;
        if is_index(media_type) != matches!(document, Document::Index(_)) {
            let why = format!("the lock calls it `{media_type}`, which it is not");
            return Err(SourceError::Answer { url: fetched.url, what: "image manifest", why });
        }
    }
    // Which indexes lie between those two is seen by walking, one step at a time; the walk is bounded.
    while let Some(index) = image_index::lacking(&**store, image)? {
        bring(net, store, source, &index.digest, index.size).await?;
    }
    Ok(())
}

/// A manifest by digest, put into the store.
pub(super) async fn bring(
    net: &Net,
    store: &Arc<Store>,
    image: &ImageRef,
    digest: &Digest,
    size: u64,
) -> Result<Fetched, SourceError> {
    let fetched = fetch_manifest(net, image, &digest.to_string(), Some(digest)).await?;
    let found = fetched.bytes.len() as u64;
    if found != size {
        return Err(SourceError::Size { url: fetched.url, expected: size, found });
    }
    store.put(&fetched.bytes)?;
    Ok(fetched)
}
