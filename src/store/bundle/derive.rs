//! What of a bundle follows from what else is in it: `contents` from the lock, `index.json` from `contents`, the blobs from
//! both. A damaged or altered index may be a valid one; then it says something else than what it was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::index::{ChartEntry, Contents, FileEntry, ImageEntry, Index, LocalEntry};
use super::verify::Damaged;
use super::{
    BLOBS, Bundle, BundleError, INDEX_PATH, LOCK_PATH, OCI_INDEX_PATH, OCI_LAYOUT_PATH, PROFILE_PATH, index::Invalid,
};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::wire::{self, LockReadError};
use crate::model::lock::{FileKind, LABIMG, Lock, LockedImage, LockedLocal};
use crate::model::platform::Platform;
use crate::model::profile::{Profile, parse};
use crate::store::BlobSource;
use crate::store::image::{self, MANIFEST_LIMIT, image_blobs, is_index};
use crate::store::layout::{OCI_LAYOUT, OciDescriptor, oci_index};

/// Largest lock that is compared when a bundle is opened, in bytes: a larger one takes longer than it may.
const LOCK_LIMIT: u64 = 4 << 20;
/// Largest lock and profile that a whole check compares, in bytes.
const TEXT_LIMIT: u64 = 16 << 20;

impl Contents {
    /// What follows from a lock; what is made here is in none. Sorted here again: a bundle's bytes must not hang on how somebody
    /// filled the lock.
    pub fn of(lock: &Lock) -> Self {
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
        let mut images: Vec<ImageEntry> = lock.images.iter().map(ImageEntry::from).collect();
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        let local = |l: &LockedLocal| LocalEntry { digest: l.digest, path: l.path.clone(), size: l.size };
        let mut locals: Vec<LocalEntry> = lock.locals.iter().map(local).collect();
        locals.sort_by(|a, b| a.path.cmp(&b.path));
        let mut all = Self { charts, files: files(lock), images, locals };
        all.sort_files();
        all
    }

    /// Puts files into the order they have in a bundle.
    pub fn sort_files(&mut self) {
        self.files.sort_by(|a, b| (a.kind, &a.name, a.platform).cmp(&(b.kind, &b.name, b.platform)));
    }

    /// `index.json`: the images, as other tools find them.
    pub fn oci_index(&self) -> Vec<u8> {
        let named = |i: &ImageEntry| OciDescriptor::new(&i.media_type, i.digest, i.size).named(&i.reference.tagged());
        oci_index(self.images.iter().map(named).collect())
    }
}

fn files(lock: &Lock) -> Vec<FileEntry> {
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
    files
}

impl Bundle {
    /// As [`Bundle::open`], and sees that the index says what the lock beside it says: whoever is given names and digests out of
    /// the index can go by them. A lock that is
    /// damaged or can not be read is left to whoever needs it.
    ///
    /// # Errors
    /// As [`Bundle::open`], and an index and a lock that do not agree.
    pub fn open_checked(path: &Path) -> Result<Self, BundleError> {
        let bundle = Self::open(path)?;
        let lock = match bundle.text(LOCK_PATH, LOCK_LIMIT) {
            Ok(text) => wire::parse(&text).ok(),
            Err(e @ BundleError::Store(_)) => return Err(e),
            Err(_) => None,
        };
        match lock.and_then(|lock| disagreements(bundle.index(), &lock).into_iter().next()) {
            None => Ok(bundle),
            Some(why) => Err(BundleError::Damaged { path: path.to_owned(), member: INDEX_PATH.to_owned(), why }),
        }
    }

    /// Whether `oci-layout` and `index.json` are, by the digests the index lists, those that follow from its contents.
    pub(super) fn check_layout(&self) -> Result<(), Invalid> {
        let listed = |path: &str| self.member(path).map(|m| m.digest);
        if listed(OCI_LAYOUT_PATH) != Some(Digest::of(OCI_LAYOUT.as_bytes())) {
            return Err(Invalid {
                member: OCI_LAYOUT_PATH.to_owned(),
                why: "it is of no format known here".to_owned(),
            });
        }
        let contents = &self.index().contents;
        if listed(OCI_INDEX_PATH) == Some(Digest::of(&contents.oci_index())) {
            return Ok(());
        }
        let why = match self.text(OCI_INDEX_PATH, TEXT_LIMIT) {
            Err(e) => format!("it does not follow from `{INDEX_PATH}`: {e}"),
            Ok(text) => format!("it does not say what `{INDEX_PATH}` says: {}", differ(&contents.oci_index(), &text)),
        };
        Err(Invalid { member: OCI_INDEX_PATH.to_owned(), why })
    }

    /// All that does not follow from what it was made from, in a bundle whose members are whole.
    ///
    /// # Errors
    /// When the file can not be read.
    pub(super) fn underived(&self) -> Result<Vec<Damaged>, BundleError> {
        let of = |path: &str, why: String| Damaged { path: path.to_owned(), why };
        let lock = match self.text(LOCK_PATH, TEXT_LIMIT).map(|text| wire::parse(&text)) {
            Ok(Ok(lock)) => lock,
            // Of a version that is not known here, nothing can be said.
            Ok(Err(LockReadError::Version { .. })) => return Ok(Vec::new()),
            Ok(Err(e)) => {
                return Ok(vec![of(LOCK_PATH, format!("what is in the bundle can not be compared with it: {e}"))]);
            }
            Err(BundleError::Store(e)) => return Err(e.into()),
            Err(e) => return Ok(vec![of(LOCK_PATH, e.to_string())]),
        };
        let mut found: Vec<Damaged> =
            disagreements(self.index(), &lock).into_iter().map(|why| of(INDEX_PATH, why)).collect();
        // A profile that reads otherwise today was sound when the bundle was written.
        let mut none = |_: &str| Err("a bundle's profile has no imports".to_owned());
        let profile = self.text(PROFILE_PATH, TEXT_LIMIT).ok().and_then(|t| parse(PROFILE_PATH, &t, &mut none).ok());
        if let Some(profile) = profile {
            found.extend(made_here(self.index(), &lock, &profile.profile).into_iter().map(|why| of(INDEX_PATH, why)));
        }
        let made = |i: &&ImageEntry| !lock.images.iter().any(|l| l.reference == i.reference);
        for entry in self.index().contents.images.iter().filter(made) {
            found.extend(self.made_of(entry)?.map(|why| of(INDEX_PATH, why)));
        }
        found.extend(self.unnamed()?);
        Ok(found)
    }

    /// What the index says wrong of an image that was made here: its own index or manifest says it, too.
    fn made_of(&self, entry: &ImageEntry) -> Result<Option<String>, BundleError> {
        let name = &entry.reference;
        let bytes = self.read_blob(&entry.digest, MANIFEST_LIMIT)?;
        let own: Option<Typed> = serde_json::from_slice(&bytes).ok();
        if let Some(own) = own.and_then(|o| o.media_type).filter(|own| *own != entry.media_type) {
            return Ok(Some(format!(
                "it says that image {name} is of type `{}`, the image says `{own}`",
                entry.media_type
            )));
        }
        let mut platforms = entry.platforms.iter();
        if !is_index(&entry.media_type) {
            let only = platforms.next().map(|(_, m)| (m.digest, m.size, &m.media_type));
            let sound = only == Some((entry.digest, entry.size, &entry.media_type)) && platforms.next().is_none();
            return Ok(
                (!sound).then(|| format!("image {name} has no index, and the platform it lists is not the image"))
            );
        }
        let Ok(index) = serde_json::from_slice::<image::Index>(&bytes) else {
            return Ok(Some(format!("the index of image {name} can not be read")));
        };
        let listed = |(platform, m): &(&Platform, &super::ManifestEntry)| {
            index.manifests.iter().any(|d| {
                let its = d.platform.as_ref().map(|p| format!("{}/{}", p.os, p.architecture).parse::<Platform>().ok());
                its == Some(Some(**platform)) && (d.digest, d.size, &d.media_type) == (m.digest, m.size, &m.media_type)
            })
        };
        let odd = platforms.find(|p| !listed(p));
        Ok(odd.map(|(platform, m)| {
            format!("it says that image {name} is {} for {platform}, the image does not", m.digest)
        }))
    }

    /// Blobs that are missing, and those that nothing in the bundle names.
    fn unnamed(&self) -> Result<Vec<Damaged>, BundleError> {
        let mut named: BTreeMap<Digest, u64> = self.index().contents.blobs().collect();
        let mut found = Vec::new();
        for image in self.index().contents.images.iter().map(LockedImage::from) {
            match image_blobs(self, &image) {
                Ok(blobs) => named.extend(blobs.into_iter().map(|b| (b.digest, b.size))),
                Err(e @ crate::store::StoreError::Io { .. }) => return Err(e.into()),
                Err(e) => {
                    let path = format!("{BLOBS}{}", image.digest.hex());
                    found.push(Damaged { path, why: format!("image {}: {e}", image.reference) });
                }
            }
        }
        for (digest, size) in &named {
            let path = format!("{BLOBS}{}", digest.hex());
            match self.blob(digest) {
                None => found.push(Damaged { path, why: "an image needs it, and it is not in the bundle".to_owned() }),
                Some(m) if m.size != *size => {
                    found.push(Damaged {
                        path,
                        why: format!("it has {} bytes, the image that needs it says {size}", m.size),
                    });
                }
                Some(_) => {}
            }
        }
        let blobs = self.index().members.iter().filter(|m| m.path.starts_with(BLOBS));
        let extra = blobs.filter(|m| found.is_empty() && !named.contains_key(&m.digest));
        let extra: Vec<Damaged> =
            extra.map(|m| Damaged { path: m.path.clone(), why: "nothing in the bundle names it".to_owned() }).collect();
        found.extend(extra);
        Ok(found)
    }
}

/// The type that a manifest or index gives itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

/// In which ways an index says something else than the lock of its bundle.
fn disagreements(index: &Index, lock: &Lock) -> Vec<String> {
    let mut found = Vec::new();
    let want = Contents::of(lock);
    let have = &index.contents;
    if index.name != lock.name {
        found.push(format!("the index is of lab `{}`, the lock of lab `{}`", index.name, lock.name));
    }
    if index.epoch != lock.epoch {
        found.push(format!("the index has epoch {}, the lock {}", index.epoch, lock.epoch));
    }
    let files: Vec<FileEntry> = have.files.iter().filter(|f| f.kind != FileKind::Box).cloned().collect();
    found.extend(other(&have.charts, &want.charts, |c| format!("chart {} {}", c.name, c.version)));
    found.extend(other(&files, &want.files, file_label));
    found.extend(other(&have.locals, &want.locals, |l| format!("local {}", l.path)));
    let is_locked = |i: &&ImageEntry| want.images.iter().any(|l| l.reference == i.reference);
    let locked: Vec<ImageEntry> = have.images.iter().filter(is_locked).cloned().collect();
    match want.images.iter().find(|l| !locked.iter().any(|i| i.reference == l.reference)) {
        Some(gone) => {
            let others: Vec<String> =
                have.images.iter().filter(|i| !is_locked(i)).map(|i| format!("`{}`", i.reference)).collect();
            let others = match others.is_empty() {
                true => "does not list it".to_owned(),
                false => format!("lists {} in its place", others.join(", ")),
            };
            found.push(format!("the lock has image `{}`, the index {others}", gone.reference));
        }
        None => found.extend(other(&locked, &want.images, |i| format!("image {}", i.reference))),
    }
    found
}

/// The first place where two lists differ, in words.
fn other<T: PartialEq + Serialize + Debug>(have: &[T], want: &[T], label: impl Fn(&T) -> String) -> Option<String> {
    let at = (0..have.len().max(want.len())).find(|at| have.get(*at) != want.get(*at))?;
    Some(match (have.get(at), want.get(at)) {
        (Some(a), Some(b)) if label(a) == label(b) => {
            let text = |one: &T| serde_json::to_string(one).unwrap_or_default();
            format!("of {}, the index says {}, the lock {}", label(a), text(a), text(b))
        }
        (Some(a), Some(b)) => format!("the index has {}, the lock {}", label(a), label(b)),
        (Some(a), None) => format!("the index has {}, which is not in the lock", label(a)),
        (None, b) => format!("the lock has {}, which the index does not list", b.map(label).unwrap_or_default()),
    })
}

fn file_label(file: &FileEntry) -> String {
    match file.platform {
        Some(platform) => format!("{} {} ({platform})", file.kind.as_str(), file.name),
        None => format!("{} {}", file.kind.as_str(), file.name),
    }
}

/// What an index lists as made here and the profile does not make, and the other way round.
fn made_here(index: &Index, lock: &Lock, profile: &Profile) -> Vec<String> {
    let mut found = Vec::new();
    let own = profile.image.iter().filter(|i| i.build.is_some()).map(|i| (*i.reference).clone());
    let nodes = profile.cluster.iter().filter_map(|c| profile.preloaded_node_image(c));
    let made: BTreeSet<ImageRef> = own.chain(nodes).chain(lock.labimg_image()).collect();
    let listed: BTreeSet<&ImageRef> = index.contents.images.iter().map(|i| &i.reference).collect();
    let locked: BTreeSet<&ImageRef> = lock.images.iter().map(|i| &i.reference).collect();
    for odd in listed.iter().filter(|r| !locked.contains(*r) && !made.contains(**r)) {
        found.push(format!("the index has image `{odd}`, which is neither in the lock nor made by the profile"));
    }
    for gone in made.iter().filter(|r| !listed.contains(r)) {
        found.push(format!("the profile makes image `{gone}`, which the index does not list"));
    }
    let tables: BTreeSet<(&str, Platform)> =
        profile.boxes.iter().flat_map(|b| b.platforms().into_iter().map(move |p| (b.name.as_str(), p))).collect();
    let boxes = index.contents.files.iter().filter(|f| f.kind == FileKind::Box);
    let boxes: Vec<(&str, Option<Platform>)> =
        boxes.map(|f| (f.name.split_once('/').map_or(f.name.as_str(), |(name, _)| name), f.platform)).collect();
    for (name, platform) in &boxes {
        if !platform.is_some_and(|p| tables.contains(&(name, p))) {
            found.push(format!("the index has a box of `{name}`, which the profile does not make for such machines"));
        }
    }
    for (name, platform) in tables.iter().filter(|(n, p)| !boxes.contains(&(n, Some(*p)))) {
        found.push(format!("the profile makes box `{name}` for {platform}, which the index does not list"));
    }
    found
}

/// How an `index.json` differs from the one that follows from the contents: by the first name that is another one.
fn differ(want: &[u8], found: &str) -> String {
    let images = |value: &serde_json::Value| -> Vec<(String, String)> {
        let all = value["manifests"].as_array().into_iter().flatten();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or("?").to_owned();
        let image = |m: &serde_json::Value| {
            let name = text(&m["annotations"]["org.opencontainers.image.ref.name"]);
            (name, format!("{}, {}, {} bytes", text(&m["digest"]), text(&m["mediaType"]), m["size"]))
        };
        all.map(image).collect()
    };
    let (Ok(want), Ok(found)) = (serde_json::from_slice(want), serde_json::from_str(found)) else {
        return "it is no image index".to_owned();
    };
    let (want, found) = (images(&want), images(&found));
    let at = (0..want.len().max(found.len())).find(|at| want.get(*at) != found.get(*at));
    match at.map(|at| (want.get(at), found.get(at))) {
        Some((Some((a, of_a)), Some((b, of_b)))) if a == b => format!("image `{a}` there is {of_a}, here {of_b}"),
        Some((Some((a, _)), Some((b, _)))) => format!("it calls an image `{b}` that is `{a}` there"),
        Some((Some((a, _)), None)) => format!("it lacks image `{a}`"),
        Some((None, Some((b, _)))) => format!("it has image `{b}`, which is not there"),
        _ => "it is not written as it must be".to_owned(),
    }
}
