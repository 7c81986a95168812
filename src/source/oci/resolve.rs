//! What an image reference means right now: the digest of its index and of the manifest of each platform.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::{self, Document};
use super::client::{Fetched, fetch_blob, fetch_manifest};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{LockedImage, LockedManifest};
use crate::model::platform::Platform;
use crate::source::{Net, SourceError};
use crate::store::image::{Descriptor, Index, Manifest, PlatformField, is_index};
use crate::store::{BlobSource, Store};

/// Image configurations hold labels and history, some of them much; more than this is no configuration.
const CONFIG_LIMIT: u64 = 16 << 20;

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
        Document::Index(index) => of_index(net, store, reference, &index, platforms).await?,
        Document::Manifest(manifest) => {
            of_manifest(net, store, reference, &manifest, platforms).await?;
            let locked = locked(&media_type, &fetched);
            platforms.iter().map(|platform| (*platform, locked.clone())).collect()
        }
    };
    store.put(&fetched.bytes)?;
    Ok(Resolved { media_type, digest: fetched.digest, size: fetched.bytes.len() as u64, platforms })
}

fn locked(media_type: &str, fetched: &Fetched) -> LockedManifest {
    LockedManifest { media_type: media_type.to_owned(), digest: fetched.digest, size: fetched.bytes.len() as u64 }
}

/// Picks the manifest of each platform out of an index, and brings it.
async fn of_index(
    net: &Net,
    store: &Arc<Store>,
    reference: &ImageRef,
    index: &Index,
    platforms: &[Platform],
) -> Result<BTreeMap<Platform, LockedManifest>, SourceError> {
    let fields = |d: &&Descriptor| d.platform.clone();
    let there: Vec<PlatformField> = index.manifests.iter().filter_map(|d| fields(&d)).collect();
    all_there(reference, &there, platforms)?;
    let mut picked = BTreeMap::new();
    for platform in platforms {
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|field| is_for(field, *platform));
        let Some(descriptor) = index.manifests.iter().find(fits) else { continue };
        let fetched = bring(net, store, reference, &descriptor.digest, descriptor.size).await?;
        let (document, media_type) = check::parse(&fetched.bytes, &descriptor.media_type, &reference.to_string())?;
        if let Document::Index(_) = document {
            return Err(SourceError::Unsupported {
                what: format!("an index inside the index of `{reference}`"),
                why: "importers do not follow it".to_owned(),
            });
        }
        picked.insert(*platform, locked(&media_type, &fetched));
    }
    Ok(picked)
}

/// A lone manifest says what it is for in its configuration only.
async fn of_manifest(
    net: &Net,
    store: &Arc<Store>,
    reference: &ImageRef,
    manifest: &Manifest,
    platforms: &[Platform],
) -> Result<(), SourceError> {
    let config = &manifest.config;
    let what = || format!("configuration of {reference}");
    if config.size > CONFIG_LIMIT {
        return Err(SourceError::TooLarge { url: what(), limit: CONFIG_LIMIT });
    }
    fetch_blob(net, store, reference, &config.digest, config.size, &what()).await?;
    let bytes = store.read_blob(&config.digest, CONFIG_LIMIT)?;
    let field = config_platform(&bytes).ok_or_else(|| SourceError::Unsupported {
        what: format!("configuration `{}` of `{reference}`", config.media_type),
        why: "it states no platform, so this is no container image".to_owned(),
    })?;
    all_there(reference, &[field], platforms)
}

/// What an image configuration says it is for (image-spec, "Image Configuration").
fn config_platform(bytes: &[u8]) -> Option<PlatformField> {
    let field: PlatformField = bounded::from_json(bytes).ok()?;
    Some(field).filter(|f| !f.os.is_empty() && !f.architecture.is_empty())
}

fn is_for(field: &PlatformField, platform: Platform) -> bool {
    platform.matches(&field.os, &field.architecture, field.variant.as_deref())
}

fn all_there(reference: &ImageRef, there: &[PlatformField], platforms: &[Platform]) -> Result<(), SourceError> {
    let missing: Vec<String> = platforms
        .iter()
        .filter(|platform| !there.iter().any(|field| is_for(field, **platform)))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    // `unknown/unknown` are attestations of BuildKit, nothing to run.
    let mut names: Vec<String> = there.iter().filter(|f| f.os != "unknown").map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let there =
        if names.is_empty() { "it names no platform".to_owned() } else { format!("it is for {}", names.join(", ")) };
    Err(SourceError::Platform { what: format!("image `{reference}`"), wanted: missing.join(", "), there })
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
    Ok(())
}

/// A manifest by digest, put into the store.
async fn bring(
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
