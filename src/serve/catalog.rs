//! Which images there are: by upstream host, then repository, then tag or digest.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::alarm::Alarm;
use super::closure::Reader;
use super::error::{Disagreement, ServeError};
use super::referrers::Referrer;
use super::request::canonical;
use super::source::{Image, Manifest, Source};
use crate::base::digest::Digest;
use crate::model::lock::is_labimg_at;

/// All images of the sources.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    hosts: BTreeMap<String, BTreeMap<String, Repository>>,
    /// What all images together are made of.
    blobs: HashSet<Digest>,
}

/// The images of one repository of one upstream.
#[derive(Debug, Default)]
pub(super) struct Repository {
    tags: BTreeMap<String, Tagged>,
    manifests: HashMap<Digest, Manifest>,
    blobs: HashSet<Digest>,
    referrers: HashMap<Digest, Vec<Referrer>>,
    /// Each image's index and the indexes in it, with the platforms that are there.
    pub(super) carried: Vec<(Vec<Digest>, Vec<String>)>,
}

#[derive(Debug)]
struct Tagged {
    digest: Digest,
    from: String,
    /// The author pinned the digest, too: the tag is only a name then.
    pinned: bool,
}

impl Catalog {
    /// What the sources hold, together. Manifests that are damaged raise the alarm.
    ///
    /// # Errors
    /// A tag that is different bytes in two of them.
    pub(super) fn new(sources: &[Source], alarm: &Alarm) -> Result<Self, ServeError> {
        let mut catalog = Self::default();
        // Images named by their tags alone come first: a digest beside a tag says that the tag does not matter.
        for pinned in [false, true] {
            for source in sources {
                for image in source.images.iter().filter(|i| i.reference.digest.is_some() == pinned) {
                    catalog.add(image, &source.name)?;
                }
            }
        }
        for source in sources {
            let mut reader = Reader::new(source, alarm);
            for image in &source.images {
                catalog.add_parts(image, &mut reader);
            }
        }
        Ok(catalog)
    }

    /// What of the image is served: by its repository.
    fn add_parts(&mut self, image: &Image, reader: &mut Reader<'_>) {
        let closure = reader.closure(image);
        let repository = self.entry(image);
        for manifest in closure.manifests {
            repository.manifests.entry(manifest.digest).or_insert(manifest);
        }
        for (subject, referrer) in closure.referrers {
            repository.referrers.entry(subject).or_default().push(referrer);
        }
        repository.blobs.extend(&closure.blobs);
        self.blobs.extend(closure.blobs);
    }

    fn entry(&mut self, image: &Image) -> &mut Repository {
        let host = self.hosts.entry(canonical(&image.reference.registry)).or_default();
        host.entry(image.reference.repository.clone()).or_default()
    }

    fn add(&mut self, image: &Image, from: &str) -> Result<(), ServeError> {
        let reference = &image.reference;
        let repository = self.entry(image);
        let indexes = || std::iter::once(&image.top).chain(&image.nested);
        let manifests = indexes().chain(image.platforms.iter().map(|(_, m)| m));
        repository.manifests.extend(manifests.map(|m| (m.digest, m.clone())));
        let platforms = image.platforms.iter().map(|(p, _)| p.clone()).collect();
        repository.carried.push((indexes().map(|index| index.digest).collect(), platforms));
        let (Some(tag), pinned) = (&reference.tag, reference.digest.is_some()) else { return Ok(()) };
        match repository.tags.get(tag) {
            Some(there) if there.digest != image.top.digest && !pinned && !there.pinned => {
                Err(ServeError::Disagree(Box::new(Disagreement {
                    image: reference.to_string(),
                    one: (there.digest, there.from.clone()),
                    other: (image.top.digest, from.to_owned()),
                })))
            }
            Some(_) => Ok(()),
            None => {
                let tagged = Tagged { digest: image.top.digest, from: from.to_owned(), pinned };
                repository.tags.insert(tag.clone(), tagged);
                Ok(())
            }
        }
    }

    /// One repository.
    pub(super) fn repository(&self, host: &str, path: &str) -> Option<&Repository> {
        self.hosts.get(host)?.get(path)
    }

    /// Whether an image of this repository has the blob.
    pub(super) fn has_blob(&self, host: &str, path: &str, digest: &Digest) -> bool {
        self.repository(host, path).is_some_and(|repository| repository.blobs.contains(digest))
    }

    /// Whether any image has the blob.
    pub(super) fn any_has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }

    /// Whether images of this upstream are there.
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// Every repository of one upstream, or of all with the host before the path; sorted.
    pub(super) fn names(&self, host: Option<&str>) -> Vec<String> {
        match host {
            Some(host) => self.hosts.get(host).map(|paths| paths.keys().cloned().collect()).unwrap_or_default(),
            None => {
                let all = self.hosts.iter().flat_map(|(host, paths)| paths.keys().map(move |p| format!("{host}/{p}")));
                let mut all: Vec<String> = all.collect();
                all.sort();
                all
            }
        }
    }

    /// How many images there are, of one upstream or of all; labimg's own, which is none of a lab's, does not count.
    pub(super) fn images(&self, host: Option<&str>) -> usize {
        let of = self.hosts.iter().filter(|(name, _)| host.is_none_or(|host| host == name.as_str()));
        let all = of.flat_map(|(host, paths)| paths.iter().map(move |(path, repository)| (host, path, repository)));
        let counted = all.filter(|(host, path, _)| !is_labimg_at(host, path));
        counted.map(|(.., repository)| repository.carried.len()).sum()
    }
}

impl Repository {
    /// What a tag means.
    pub(super) fn tag(&self, tag: &str) -> Option<&Manifest> {
        self.manifests.get(&self.tags.get(tag)?.digest)
    }

    /// The manifest with this digest.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<&Manifest> {
        self.manifests.get(digest)
    }

    /// Those of its manifests that refer to this one.
    pub(super) fn referrers(&self, subject: &Digest) -> &[Referrer] {
        self.referrers.get(subject).map(Vec::as_slice).unwrap_or_default()
    }

    /// All tags, sorted.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.keys().map(String::as_str)
    }
}
