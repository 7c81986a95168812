//! `labimg diff`: what changed between two bundles, by name, then by digest, then down to the path; and between two boxes, disk
//! images or archives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::OpsError;
use super::ls::{Kind, entries};
use crate::base::digest::Digest;
use crate::build::descent::{self, Report, What};
use crate::model::lock::is_labimg;
use crate::model::platform::Platform;
use crate::store::bundle::{BLOBS, Bundle, BundleError};

/// What two files differ in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Compared {
    /// Both are bundles.
    Bundles(Box<DiffReport>),
    /// Both are boxes, disk images or archives.
    Files(FilesReport),
}

/// The difference of two boxes, disk images or archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilesReport {
    /// The old one.
    pub old: PathBuf,
    /// The new one.
    pub new: PathBuf,
    /// Whether they are the same, byte for byte.
    pub same: bool,
    /// What differs, down to the path.
    #[serde(flatten)]
    pub found: Report,
}

/// The difference of two bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiffReport {
    /// The old bundle.
    pub old: Side,
    /// The new bundle.
    pub new: Side,
    /// Whether the two are the same bundle (the same identity).
    pub same: bool,
    /// What came, went or changed, by kind, name and platform.
    pub changes: Vec<Change>,
    /// Small members (profile, lock, OCI index) with other bytes.
    pub texts: Vec<String>,
    /// Bytes of blobs only the new one has.
    pub bytes_new: u64,
    /// Bytes of blobs only the old one has.
    pub bytes_gone: u64,
    /// Bytes of blobs both have.
    pub bytes_kept: u64,
    /// How what changed differs inside, layer by layer down to the path.
    #[serde(skip_serializing_if = "Report::is_empty")]
    pub inside: Report,
}

/// One of the two bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Side {
    /// The file.
    pub path: PathBuf,
    /// Its identity.
    pub identity: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// One difference. `old` is absent for what came, `new` for what went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its platform; absent for an image of which only the index changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<State>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<State>,
}

/// One side of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its version, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Compared {
    /// Whether nothing differs.
    pub fn same(&self) -> bool {
        match self {
            Self::Bundles(report) => report.same,
            Self::Files(report) => report.same,
        }
    }
}

/// What a file is that is to be compared.
enum Sort {
    Bundle,
    /// A box, disk image or archive: its format, and why it is no bundle.
    File(&'static str, String),
    /// Neither; why it is no bundle.
    Other(String),
}

impl Sort {
    fn of(path: &Path) -> Result<Self, OpsError> {
        match Bundle::open_checked(path) {
            Err(BundleError::NotABundle { why, .. }) => Ok(match descent::format_of(path) {
                Some(format) => Self::File(format, why),
                None => Self::Other(why),
            }),
            opened => Ok(opened.map(|_| Self::Bundle)?),
        }
    }

    fn words(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Bundle => format!("`{path}` is a labimg bundle"),
            Self::File(format, why) => {
                format!("`{path}` is a box, disk image or archive ({format}), and is not a labimg bundle: {why}")
            }
            Self::Other(why) => format!("`{path}` is not a labimg bundle: {why}; nor a box, disk image or archive"),
        }
    }
}

/// Compares two bundles, or two boxes, disk images or archives, down to the path. Compressed layers are unpacked into nameless
/// files in `scratch`.
///
/// # Errors
/// As [`diff`]; a bundle and something else, files that are neither, and those that can not be read.
pub fn compare(old: &Path, new: &Path, scratch: &Path) -> Result<Compared, OpsError> {
    match (Sort::of(old)?, Sort::of(new)?) {
        (Sort::Bundle, Sort::Bundle) => {}
        (Sort::File(..), Sort::File(..)) => {
            let found = descent::files(old, new, scratch)?;
            let same = found.is_empty();
            return Ok(Compared::Files(FilesReport { old: old.to_owned(), new: new.to_owned(), same, found }));
        }
        (first, second) => {
            let message = format!("{}; {}", first.words(old), second.words(new));
            return Err(OpsError::hinted(message, "give two bundles, or two boxes, disk images or archives"));
        }
    }
    let mut report = diff(old, new)?;
    if !report.same {
        let mut inside = descent::bundles(&Bundle::open_checked(old)?, &Bundle::open_checked(new)?, scratch)?;
        // Those are told by name already.
        let whole = |what: &What| matches!(what, What::OnlyInFirst | What::OnlyInSecond);
        inside.differences.retain(|d| {
            let told = d.at.first().is_some_and(|name| report.texts.contains(name));
            !told && (d.at.len() > 1 || !whole(&d.what))
        });
        report.inside = inside;
    }
    Ok(Compared::Bundles(Box::new(report)))
}

/// Compares the bundles at `old` and `new`. Only their indexes and manifests are read.
///
/// # Errors
/// When one of them is no sound bundle, or a manifest in it is damaged.
pub fn diff(old: &Path, new: &Path) -> Result<DiffReport, BundleError> {
    let (a, b) = (Bundle::open_checked(old)?, Bundle::open_checked(new)?);
    let bytes = |of: &Bundle, wanted: &dyn Fn(&Digest) -> bool| {
        let blobs = of.index().members.iter().filter(|m| m.path.starts_with(BLOBS) && wanted(&m.digest));
        blobs.map(|m| m.size).sum()
    };
    Ok(DiffReport {
        same: a.identity() == b.identity(),
        changes: changes(&a, &b)?,
        texts: texts(&a, &b),
        bytes_new: bytes(&b, &|d| a.blob(d).is_none()),
        bytes_gone: bytes(&a, &|d| b.blob(d).is_none()),
        bytes_kept: bytes(&b, &|d| a.blob(d).is_some()),
        old: side(&a),
        new: side(&b),
        inside: Report::default(),
    })
}

fn side(bundle: &Bundle) -> Side {
    Side { path: bundle.path().to_owned(), identity: bundle.identity(), size: bundle.file_size() }
}

type Key = (Kind, String, Option<Platform>);

fn changes(a: &Bundle, b: &Bundle) -> Result<Vec<Change>, BundleError> {
    let (mut old, mut new) = (states(a)?, states(b)?);
    let (old_indexes, new_indexes) = (indexes(a), indexes(b));
    for (name, state) in old_indexes {
        let key = (Kind::Image, name.clone(), None);
        // An index is worth a line only where nothing below it changed: a platform nobody locked was rebuilt.
        if let Some(other) =
            new_indexes.get(&name).filter(|o| **o != state && platforms(&old, &name).eq(platforms(&new, &name)))
        {
            old.insert(key.clone(), state);
            new.insert(key, other.clone());
        }
    }
    let keys: std::collections::BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
    let change = |key: &&Key| {
        let (kind, name, platform) = (*key).clone();
        let (old, new) = (old.get(*key).cloned(), new.get(*key).cloned());
        (old != new).then_some(Change { kind, name, platform, old, new })
    };
    Ok(keys.iter().filter_map(change).collect())
}

fn states(bundle: &Bundle) -> Result<BTreeMap<Key, State>, BundleError> {
    let one = |e: super::ls::Entry| {
        let state = State { digest: e.digest, size: e.size, version: e.version };
        ((e.kind, e.name, e.platform), state)
    };
    Ok(entries(bundle)?.into_iter().map(one).collect())
}

fn indexes(bundle: &Bundle) -> BTreeMap<String, State> {
    // Nobody else's hand is in the index of labimg's own image.
    let images = bundle.index().contents.images.iter().filter(|i| !is_labimg(&i.reference));
    images.map(|i| (i.reference.to_string(), State { digest: i.digest, size: i.size, version: None })).collect()
}

fn platforms<'a>(states: &'a BTreeMap<Key, State>, name: &'a str) -> impl Iterator<Item = (&'a Key, &'a State)> {
    states.iter().filter(move |((kind, n, _), _)| *kind == Kind::Image && n == name)
}

/// Paths of members that are no blobs and differ or stand in one bundle only.
fn texts(a: &Bundle, b: &Bundle) -> Vec<String> {
    let all = |of: &Bundle| -> BTreeMap<String, Digest> {
        let small = of.index().members.iter().filter(|m| !m.path.starts_with(BLOBS));
        small.map(|m| (m.path.clone(), m.digest)).collect()
    };
    let (old, new) = (all(a), all(b));
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    paths.into_iter().filter(|p| old.get(*p) != new.get(*p)).cloned().collect()
}
