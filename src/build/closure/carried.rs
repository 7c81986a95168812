//! Which images a lab carries, by the names it knows them under.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::Lock;
use crate::model::profile::Profile;

/// The images of a lab: pulled ones and those made here.
pub(super) struct Carried {
    /// Tags by repository.
    tags: BTreeMap<String, BTreeSet<String>>,
    /// Digests of indexes and manifests by repository.
    digests: BTreeMap<String, BTreeSet<Digest>>,
    /// Hosts of the clusters' own registries, as attendees and nodes write them.
    own: BTreeSet<String>,
}

/// What a lab has to say to a reference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is there.
    Carried,
    /// It is not, and a node would ask the world for it.
    Missing {
        /// What is known about it.
        why: String,
        /// Lines for the profile.
        hint: Option<String>,
    },
    /// It is not, and need not be.
    Allowed(String),
}

impl Carried {
    pub(super) fn new(profile: &Profile, lock: &Lock) -> Self {
        let mut found = Self { tags: BTreeMap::new(), digests: BTreeMap::new(), own: BTreeSet::new() };
        for image in &lock.images {
            found.name(&image.reference);
            // A lab's mirror answers to the name the lab uses, never to the one it was found under.
            let digests = found.digests.entry(image.reference.name()).or_default();
            digests.insert(image.digest);
            digests.extend(image.platforms.values().map(|m| m.digest));
        }
        for image in profile.image.iter().filter(|i| i.build.is_some()) {
            found.name(&image.reference);
        }
        for registry in profile.cluster.iter().filter_map(|c| c.registry.as_ref()) {
            for host in ["localhost", "127.0.0.1", registry.name.as_str()] {
                found.own.insert(format!("{host}:{}", *registry.port));
            }
            // The port registries listen on inside the engine's network.
            found.own.insert(format!("{}:5000", *registry.name));
        }
        found
    }

    fn name(&mut self, reference: &ImageRef) {
        self.tags.entry(reference.name()).or_default().extend(reference.tag.clone());
        self.digests.entry(reference.name()).or_default().extend(reference.digest);
    }

    /// Looks a reference up, as it stands in a manifest.
    pub(super) fn answer(&self, text: &str, pull_policy: Option<&str>) -> Answer {
        let reference = match text.parse::<ImageRef>() {
            Ok(reference) => reference,
            Err(e) => return Answer::Missing { why: e.why, hint: None },
        };
        if self.has(&reference) {
            return Answer::Carried;
        }
        if self.own.contains(&reference.registry) {
            return Answer::Allowed(format!("not carried: attendees push it to {}", reference.registry));
        }
        if pull_policy == Some("Never") {
            return Answer::Allowed("not carried, and never pulled: the nodes must have it".to_owned());
        }
        let why = match self.tags.get(&reference.name()) {
            Some(tags) if !tags.is_empty() => {
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                format!("not carried; of {} the lab has {}", reference.name(), tags.join(", "))
            }
            _ => "not carried".to_owned(),
        };
        Answer::Missing { why, hint: Some(format!("[[image]]\nref = \"{reference}\"")) }
    }

    /// A digest says what is meant, whatever tag stands beside it; without one the tag does.
    fn has(&self, reference: &ImageRef) -> bool {
        let name = reference.name();
        match (&reference.digest, &reference.tag) {
            (Some(digest), _) => self.digests.get(&name).is_some_and(|d| d.contains(digest)),
            (None, Some(tag)) => self.tags.get(&name).is_some_and(|t| t.contains(tag)),
            (None, None) => false,
        }
    }
}
