//! The manifest of each platform out of an index.
//!
//! Entries that state a platform come first, in their order; then those that state none, whose configuration says it
//! (`platform` is optional; layouts that skopeo and buildah copied as they are leave it out). An entry may be an index itself,
//! which is looked into. Whatever nobody asks for may be as odd as it likes.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::check::{self, Document};
use super::resolve::{bring, locked, not_for, stated};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::LockedManifest;
use crate::model::platform::Platform;
use crate::source::{ErrorKind, Net, SourceError};
use crate::store::Store;
use crate::store::image::{Descriptor, Index, PlatformField, is_index};
use crate::store::image_index::{DEPTH, MOST, may_lead_to};

/// Something an index names, brought and read.
enum Entry {
    Index(Index),
    /// A manifest, and what it is for where that had to be asked.
    Manifest(LockedManifest, Option<PlatformField>),
}

/// Looks for manifests in one image's index.
pub struct Picker<'a> {
    net: &'a Net,
    store: &'a Arc<Store>,
    reference: &'a ImageRef,
    /// What was brought.
    known: HashMap<Digest, Arc<Entry>>,
    indexes: usize,
    /// The platforms there are, as far as they were seen.
    there: Vec<PlatformField>,
    /// Why an entry that may have been what is wanted could not be used.
    against: Vec<String>,
}

/// What a search gives, some time.
type Searching<'s> = Pin<Box<dyn Future<Output = Result<Option<LockedManifest>, SourceError>> + Send + 's>>;

impl<'a> Picker<'a> {
    /// One that brings what it reads into `store`.
    pub fn new(net: &'a Net, store: &'a Arc<Store>, reference: &'a ImageRef) -> Self {
        let (known, there, against) = (HashMap::new(), Vec::new(), Vec::new());
        Self { net, store, reference, known, indexes: 0, there, against }
    }

    /// The manifest of each of `platforms`.
    ///
    /// # Errors
    /// [`SourceError::Platform`] when some are not there; whatever keeps one that is there from being read.
    pub async fn all(
        mut self,
        index: &Index,
        platforms: &[Platform],
    ) -> Result<BTreeMap<Platform, LockedManifest>, SourceError> {
        let mut picked = BTreeMap::new();
        let mut missing = Vec::new();
        // Platforms that nothing here can be for are told before anything is brought.
        let hopeless = |platform: &&Platform| {
            index.manifests.iter().all(|entry| entry.stated().is_some_and(|field| !field.is(**platform)))
        };
        let lost: Vec<Platform> = platforms.iter().filter(hopeless).copied().collect();
        if !lost.is_empty() {
            self.there = index.manifests.iter().filter_map(|entry| entry.stated().cloned()).collect();
            self.note_odd(index, &lost);
            return Err(self.lost(&lost));
        }
        for platform in platforms {
            match self.search(index, *platform, 0).await? {
                Some(manifest) => drop(picked.insert(*platform, manifest)),
                None => missing.push(*platform),
            }
        }
        if missing.is_empty() { Ok(picked) } else { Err(self.lost(&missing)) }
    }

    /// What is said when `missing` were not found.
    fn lost(mut self, missing: &[Platform]) -> SourceError {
        self.against.dedup();
        match self.against.is_empty() {
            true => not_for(self.reference, &self.there, missing),
            false => {
                let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
                SourceError::Unsupported {
                    what: format!("what the index of `{}` has for {}", self.reference, missing.join(", ")),
                    why: self.against.join("; "),
                }
            }
        }
    }

    fn note_odd(&mut self, index: &Index, platforms: &[Platform]) {
        let fits = |field: &PlatformField| platforms.iter().any(|platform| field.is(*platform));
        let odd = index.odd.iter().filter(|odd| odd.platform.as_ref().is_some_and(fits));
        self.against.extend(odd.map(|odd| odd.why.clone()));
    }

    /// The platform's manifest in an index that lies `depth` deep.
    fn search<'s>(&'s mut self, index: &'s Index, platform: Platform, depth: usize) -> Searching<'s> {
        Box::pin(async move {
            self.there.extend(index.manifests.iter().filter_map(|entry| entry.stated().cloned()));
            let is_for = |entry: &&Descriptor| entry.stated().is_some_and(|field| field.is(platform));
            let silent = index.manifests.iter().filter(|entry| entry.stated().is_none());
            for entry in index.manifests.iter().filter(is_for).chain(silent) {
                if let Some(found) = self.look_at(entry, platform, depth).await? {
                    return Ok(Some(found));
                }
            }
            self.note_odd(index, &[platform]);
            Ok(None)
        })
    }

    async fn look_at(
        &mut self,
        entry: &Descriptor,
        platform: Platform,
        depth: usize,
    ) -> Result<Option<LockedManifest>, SourceError> {
        let named = entry.stated().is_some();
        let read = match self.read(entry).await {
            Ok(read) => read,
            // Nobody says that this is what we look for.
            Err(error) if !named && error.kind() == ErrorKind::Content => {
                self.against.push(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match &*read {
            Entry::Manifest(manifest, asked) => {
                let fits = named || asked.as_ref().is_some_and(|field| field.is(platform));
                Ok(fits.then(|| manifest.clone()))
            }
            Entry::Index(inner) if may_lead_to(entry, platform) => {
                if depth == DEPTH {
                    return Err(self.too_much(format!("indexes lie more than {DEPTH} deep in each other")));
                }
                self.search(inner, platform, depth + 1).await
            }
            Entry::Index(_) => Ok(None),
        }
    }

    /// Brings an entry and reads it, once; one that states no platform is asked for it.
    async fn read(&mut self, entry: &Descriptor) -> Result<Arc<Entry>, SourceError> {
        if let Some(known) = self.known.get(&entry.digest) {
            return Ok(known.clone());
        }
        let fetched = bring(self.net, self.store, self.reference, &entry.digest, entry.size).await?;
        let (document, media_type) = check::parse(&fetched.bytes, &entry.media_type, &self.reference.to_string())?;
        let read = match document {
            Document::Index(_) if !is_index(&entry.media_type) => {
                let why = format!("its entry in the index says `{}`, and it is an index", entry.media_type);
                return Err(SourceError::Answer { url: fetched.url, what: "image manifest", why });
            }
            Document::Index(index) => {
                self.indexes += 1;
                if self.indexes > MOST {
                    return Err(self.too_much(format!("more than {MOST} indexes lie in it")));
                }
                Entry::Index(index)
            }
            Document::Manifest(manifest) => {
                let asked = match entry.stated() {
                    Some(_) => None,
                    None => stated(self.net, self.store, self.reference, &manifest.config).await?,
                };
                self.there.extend(asked.clone());
                Entry::Manifest(locked(&media_type, &fetched), asked)
            }
        };
        let read = Arc::new(read);
        self.known.insert(entry.digest, read.clone());
        Ok(read)
    }

    fn too_much(&self, why: String) -> SourceError {
        SourceError::Unsupported { what: format!("the index of `{}`", self.reference), why }
    }
}
