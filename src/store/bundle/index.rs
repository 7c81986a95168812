//! `labimg/index.json`: what a bundle is made of and where its members lie (`docs/bundle.md`, "The index").
//!
//! Fields stand in alphabetical order and lists are sorted, so that the text is canonical as it is serialised.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{BLOBS, FORMAT, INDEX_PATH, LOCK_PATH, OCI_INDEX_PATH, OCI_LAYOUT_PATH, PROFILE_PATH, SIGNATURES};
use crate::base::digest::Digest;
use crate::base::shown;
use crate::base::tarfmt::{BLOCK, END, MAX, padded};
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, LockedImage, LockedManifest};
use crate::model::platform::Platform;

/// The bundle's index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// What the lab is made of.
    pub contents: Contents,
    /// The lock's epoch (seconds since 1970): the time of every member.
    pub epoch: u64,
    /// The bundle format: [`FORMAT`].
    pub format: u32,
    /// Every member but the index itself, in the order of the file.
    pub members: Vec<Member>,
    /// The profile's name.
    pub name: String,
    /// Size of the whole file in bytes, both zero blocks at its end included, signatures not.
    pub size: u64,
}

/// A member of the bundle's tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Digest of its data.
    pub digest: Digest,
    /// Where its data starts: bytes from the start of the file.
    pub offset: u64,
    /// Its name in the tar.
    pub path: String,
    /// Size of its data in bytes.
    pub size: u64,
}

/// What the lab is made of. All of it are blobs of the bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Charts, sorted by name.
    pub charts: Vec<ChartEntry>,
    /// Tools, manifests and files, sorted by kind, name and platform.
    pub files: Vec<FileEntry>,
    /// Images, sorted by reference.
    pub images: Vec<ImageEntry>,
    /// Files from beside the profile, sorted by path.
    pub locals: Vec<LocalEntry>,
}

/// A chart: the digest is that of its `.tgz`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChartEntry {
    /// The chart's own name.
    pub chart: String,
    /// Digest of the `.tgz`.
    pub digest: Digest,
    /// The profile's name for it.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its version.
    pub version: String,
}

/// A file from the network: what the lab gets, so the selected member where one of an archive was selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Digest of the content.
    pub digest: Digest,
    /// What it is for.
    pub kind: FileKind,
    /// The profile's name for it.
    pub name: String,
    /// The platform it is for, where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its size in bytes.
    pub size: u64,
    /// Its version, where the profile states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageEntry {
    /// Digest of its index, or of its only manifest.
    pub digest: Digest,
    /// Media type of that.
    pub media_type: String,
    /// The manifests the bundle holds.
    pub platforms: BTreeMap<Platform, ManifestEntry>,
    /// The name the lab uses.
    pub reference: ImageRef,
    /// Size of the index or manifest in bytes.
    pub size: u64,
}

/// One platform's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A file from beside the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its path relative to the profile.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The member an index went wrong at, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The member's path, or `labimg/index.json`.
    pub member: String,
    /// What is wrong.
    pub why: String,
}

impl From<&LockedImage> for ImageEntry {
    fn from(image: &LockedImage) -> Self {
        let manifest =
            |m: &LockedManifest| ManifestEntry { digest: m.digest, media_type: m.media_type.clone(), size: m.size };
        Self {
            digest: image.digest,
            media_type: image.media_type.clone(),
            platforms: image.platforms.iter().map(|(p, m)| (*p, manifest(m))).collect(),
            reference: image.reference.clone(),
            size: image.size,
        }
    }
}

impl From<&ImageEntry> for LockedImage {
    fn from(image: &ImageEntry) -> Self {
        let manifest =
            |m: &ManifestEntry| LockedManifest { media_type: m.media_type.clone(), digest: m.digest, size: m.size };
        Self {
            reference: image.reference.clone(),
            source: None,
            media_type: image.media_type.clone(),
            digest: image.digest,
            size: image.size,
            platforms: image.platforms.iter().map(|(p, m)| (*p, manifest(m))).collect(),
        }
    }
}

impl Contents {
    /// Every blob named here with its size (not the configs and layers that manifests name).
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let images = self
            .images
            .iter()
            .flat_map(|i| std::iter::once((i.digest, i.size)).chain(i.platforms.values().map(|m| (m.digest, m.size))));
        let charts = self.charts.iter().map(|c| (c.digest, c.size));
        let files = self.files.iter().map(|f| (f.digest, f.size));
        images.chain(charts).chain(files).chain(self.locals.iter().map(|l| (l.digest, l.size)))
    }
}

impl Index {
    /// The canonical text, without the padding at its end.
    pub fn to_text(&self) -> Vec<u8> {
        // Maps have string keys and no value can fail, so there is no error to report.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Where the members' region starts in a file whose index takes `index_len` bytes.
    pub fn start(index_len: u64) -> u64 {
        BLOCK + index_len
    }

    /// Checks everything that can be checked without the rest of the file: paths, order, bounds, closure of the contents.
    ///
    /// # Errors
    /// The first thing that is wrong, with the member it is wrong at.
    pub fn validate(&self, index_len: u64) -> Result<(), Invalid> {
        let own = |why: String| Invalid { member: INDEX_PATH.to_owned(), why };
        if self.format != FORMAT {
            return Err(own(format!("format {}", self.format)));
        }
        if let Some(name) = self.odd_name() {
            return Err(own(match name.contains(char::is_control) {
                true => format!("a name in it has control characters: {name:?}"),
                false => format!("a name in it has characters that hide, or turn text around: {name:?}"),
            }));
        }
        let end = self.validate_members(Self::start(index_len))?;
        if end.checked_add(END) != Some(self.size) {
            return Err(own(format!("it states {} bytes but its members end at {end}", self.size)));
        }
        let paths: HashMap<&str, &Member> = self.members.iter().map(|m| (m.path.as_str(), m)).collect();
        for path in [OCI_LAYOUT_PATH, OCI_INDEX_PATH, PROFILE_PATH, LOCK_PATH] {
            if !paths.contains_key(path) {
                return Err(own(format!("it lists no `{path}`")));
            }
        }
        for (digest, size) in self.contents.blobs() {
            let path = format!("{BLOBS}{}", digest.hex());
            match paths.get(path.as_str()) {
                Some(m) if m.size == size => {}
                Some(m) => {
                    return Err(Invalid { member: path, why: format!("{} bytes, {size} in the contents", m.size) });
                }
                None => return Err(own(format!("the contents name {digest}, which no member holds"))),
            }
        }
        Ok(())
    }

    /// A name that is not what it looks like where it is shown.
    pub(super) fn odd_name(&self) -> Option<&str> {
        self.names().find(|name| name.contains(misleads))
    }

    /// Every name that verbs show: it must not steer a terminal. (Members' paths are stricter.)
    fn names(&self) -> impl Iterator<Item = &str> {
        let c = &self.contents;
        let charts = c.charts.iter().flat_map(|c| [c.chart.as_str(), &c.name, &c.version]);
        let files = c.files.iter().flat_map(|f| [Some(f.name.as_str()), f.version.as_deref()]).flatten();
        let manifests = c.images.iter().flat_map(|i| i.platforms.values()).map(|m| m.media_type.as_str());
        let images = c.images.iter().map(|i| i.media_type.as_str()).chain(manifests);
        let locals = c.locals.iter().map(|l| l.path.as_str());
        std::iter::once(self.name.as_str()).chain(charts).chain(files).chain(images).chain(locals)
    }

    /// Members in order, apart, inside; gives the end of the last one's padding.
    fn validate_members(&self, start: u64) -> Result<u64, Invalid> {
        let mut end = start;
        let mut seen = HashSet::with_capacity(self.members.len());
        for member in &self.members {
            let bad = |why: &str| Invalid { member: member.path.clone(), why: why.to_owned() };
            if !is_sane(&member.path) {
                return Err(bad("its path is not one a bundle holds"));
            }
            if !seen.insert(member.path.as_str()) {
                return Err(bad("it is listed twice"));
            }
            if member.path.strip_prefix(BLOBS).is_some_and(|hex| hex != member.digest.hex()) {
                return Err(bad("its digest is not its name"));
            }
            let first = end.checked_add(BLOCK).ok_or_else(|| bad("it lies beyond 2^63 bytes"))?;
            if member.offset < first {
                return Err(bad("it overlaps what stands before it"));
            }
            if !member.offset.is_multiple_of(BLOCK) {
                return Err(bad("it does not start on a tar block"));
            }
            let size = padded(member.size).ok_or_else(|| bad("its size is beyond 2^63 bytes"))?;
            end = member
                .offset
                .checked_add(size)
                .filter(|e| *e <= MAX)
                .ok_or_else(|| bad("it ends beyond 2^63 bytes"))?;
            if end.checked_add(END).is_none_or(|end| end > self.size) {
                return Err(bad("it lies outside the file"));
            }
        }
        Ok(end)
    }
}

/// Whether a character hides what a name says. The joiners U+200C and U+200D are let be: names in some scripts, and emoji, are
/// written with them.
fn misleads(c: char) -> bool {
    shown::hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a path may stand in a bundle: relative, plain components, and one that is not the index's or a signature's.
fn is_sane(path: &str) -> bool {
    let plain =
        |c: &str| !c.is_empty() && c != "." && c != ".." && c.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    path.len() <= 100 && path.split('/').all(plain) && path != INDEX_PATH && !path.starts_with(SIGNATURES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index over the four small members, and one blob of `size` bytes.
    fn index() -> Index {
        let digest = Digest::of(b"blob");
        let mut members = Vec::new();
        let mut at = 4096;
        for path in [OCI_LAYOUT_PATH, OCI_INDEX_PATH, PROFILE_PATH, LOCK_PATH] {
            members.push(Member { digest: Digest::of(b""), offset: at + 512, path: path.into(), size: 1 });
            at += 1024;
        }
        members.push(Member { digest, offset: at + 512, path: format!("{BLOBS}{}", digest.hex()), size: 4 });
        let contents =
            Contents { locals: vec![LocalEntry { digest, path: "x".into(), size: 4 }], ..Contents::default() };
        Index { contents, epoch: 0, format: FORMAT, members, name: "lab".into(), size: at + 1024 + END }
    }

    fn why(change: impl FnOnce(&mut Index)) -> String {
        let mut index = index();
        change(&mut index);
        index.validate(4096 - 512).unwrap_err().why
    }

    #[test]
    fn a_sound_index_is_accepted() {
        assert_eq!(index().validate(4096 - 512), Ok(()));
    }

    #[test]
    fn members_outside_the_file_are_refused() {
        assert!(why(|i| i.members[4].offset += 512).contains("outside"));
        assert!(why(|i| i.members[0].offset = 512).contains("overlaps"));
        assert!(why(|i| i.members[2].offset = i.members[1].offset).contains("overlaps"));
        assert!(why(|i| i.members.swap(1, 2)).contains("overlaps"));
        assert!(why(|i| i.members[0].offset += 1).contains("block"));
        assert!(why(|i| i.size -= 1024).contains("outside"));
        assert!(why(|i| i.size += 512).contains("but its members end"));
    }

    #[test]
    fn huge_numbers_are_refused() {
        for n in [1 << 63, (1 << 63) - 1, u64::MAX, u64::MAX - 511] {
            assert!(why(|i| i.members[4].size = n).contains("2^63"), "{n}");
            why(|i| i.members[4].offset = n);
            why(|i| i.size = n);
        }
        why(|i| i.members[4].offset = (1 << 63) - 512);
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in
            ["/etc/passwd", "../x", "a/../b", "", "a//b", "./x", "a\\b", "a b", INDEX_PATH, "labimg/signatures/x"]
        {
            assert!(why(|i| i.members[4].path = path.into()).contains("path"), "{path}");
        }
        assert!(why(|i| i.members[1].path = OCI_LAYOUT_PATH.into()).contains("twice"));
        assert!(why(|i| i.members[3].path = "other".into()).contains("lists no"));
        assert!(why(|i| i.members[4].digest = Digest::of(b"")).contains("not its name"));
    }

    #[test]
    fn names_do_not_steer_a_terminal() {
        for bad in ["a\u{1b}[2J", "a\nb", "\u{9b}x", "\0", "a\u{202e}b", "\u{2066}"] {
            for why in [why(|i| i.name = bad.into()), why(|i| i.contents.locals[0].path = bad.into())] {
                assert!(why.contains("a name in it has c") && why.is_ascii(), "{why}");
            }
        }
        for bad in ["a\u{202e}gpj.sh", "\u{2066}x", "a\u{200b}b", "x\u{feff}", "x\u{e0041}", "a\u{2028}b"] {
            let why = why(|i| i.contents.locals[0].path = bad.into());
            assert!(why.contains("turn text around") && why.is_ascii(), "{why}");
        }
        let mut fine = index();
        fine.contents.locals[0].path = "\u{646}\u{627}\u{645}\u{647}\u{200c}\u{647}\u{627} \u{e4}.txt".into();
        assert_eq!(fine.validate(4096 - 512), Ok(()));
    }

    #[test]
    fn contents_must_be_there() {
        assert!(why(|i| i.contents.locals[0].digest = Digest::of(b"gone")).contains("no member"));
        assert!(why(|i| i.contents.locals[0].size = 5).contains("in the contents"));
    }

    #[test]
    fn keys_are_sorted_in_the_text() {
        fn sorted(value: &serde_json::Value) -> bool {
            match value {
                serde_json::Value::Object(map) => map.values().all(sorted),
                serde_json::Value::Array(list) => list.iter().all(sorted),
                _ => true,
            }
        }
        let text = index().to_text();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(sorted(&value));
        // `Value` keeps its keys in a sorted map, so equal text means that ours were sorted to begin with.
        assert_eq!(serde_json::to_vec(&value).unwrap(), text);
    }
}
