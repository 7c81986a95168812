//! Listings: what stands in a layer, without the contents, as a small blob beside it. Later layers and checks read these, so
//! that nothing is unpacked again when a lower layer comes from the store.
//!
//! Text, one line per path, sorted, fields parted by tabs; `\\`, `\t`, `\n` and `\r` in fields stand for themselves escaped:
//!
//! ```text
//! labimg-listing 1
//! d  0755  0  0  usr                                directory: mode, owner, group, path
//! f  0755  0  0  usr/bin/env  linux/amd64           program: what it runs on, `#!` and its interpreter line, or `?` and what it is
//! f  0644  0  0  etc/passwd  -                      no program
//! l  0777  0  0  bin  usr/bin                       symbolic link: target
//! c  etc/passwd  root:x:0:0:…                       contents of the account files
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::base::exe::{self, Program};
use crate::build::BuildError;
use crate::build::layer::WHITEOUT;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// First line of a listing.
const HEADER: &str = "labimg-listing 1";
/// Files whose contents stand in a listing.
pub const ACCOUNT_FILES: [&str; 4] = ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"];
/// Largest account file.
const ACCOUNT_LIMIT: u64 = 1 << 20;
/// The kernel follows this many symbolic links in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What stands in a layer, or in layers merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// What stands where.
    pub entries: BTreeMap<GuestPath, Item>,
    /// Contents of [`ACCOUNT_FILES`] that are there.
    pub accounts: BTreeMap<GuestPath, String>,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// The twelve permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A directory.
    Dir,
    /// A file, or another name of one.
    File(Runs),
    /// A symbolic link and its target.
    Symlink(String),
}

/// What a file is to somebody who wants to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// Nobody may: it has no `x`.
    Never,
    /// A program for these platforms: `linux/amd64`.
    On(String),
    /// A script; what follows `#!`.
    Script(String),
    /// Something else, in a few words.
    Other(String),
}

/// The listing of a tree as a blob.
///
/// # Errors
/// Contents that can not be read.
pub fn listing(tree: &Tree) -> Result<Vec<u8>, BuildError> {
    Ok(Listing::of(tree)?.to_bytes())
}

/// Reads a listing.
///
/// # Errors
/// Bytes that are no listing of this version.
pub fn parse(bytes: &[u8]) -> Result<Listing, BuildError> {
    let bad = |why: &str| BuildError::bad("a layer's listing", why);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
    let rest = text.strip_prefix(HEADER).and_then(|t| t.strip_prefix('\n')).ok_or_else(|| bad("another version"))?;
    let mut listing = Listing::default();
    for line in rest.lines() {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        read_line(&mut listing, &fields).ok_or_else(|| bad(&format!("a line that is none: `{line}`")))?;
    }
    Ok(listing)
}

/// `upper` laid over `lower`, as an engine does it: whiteouts remove, anything but a directory replaces what is below it.
pub fn merge(lower: &Listing, upper: &Listing) -> Listing {
    let mut merged = lower.clone();
    for path in upper.entries.keys() {
        if let Some(name) = path.name().strip_prefix(WHITEOUT)
            && let Ok(gone) = path.parent().unwrap_or_default().join(name)
        {
            merged.remove(&gone);
        }
    }
    for (path, item) in upper.entries.iter().filter(|(p, _)| !p.name().starts_with(WHITEOUT)) {
        let both_dirs = item.kind == ItemKind::Dir && merged.is_dir(path);
        if !both_dirs && merged.entries.contains_key(path) {
            merged.remove(path);
        }
        merged.entries.insert(path.clone(), item.clone());
    }
    merged.accounts.extend(upper.accounts.clone());
    merged
}

impl Listing {
    /// The listing of a tree.
    ///
    /// # Errors
    /// Contents that can not be read.
    pub fn of(tree: &Tree) -> Result<Self, BuildError> {
        let mut listing = Self::default();
        for (path, entry) in &tree.entries {
            let (kind, entry) = match &entry.kind {
                Kind::Dir => (ItemKind::Dir, entry),
                Kind::Symlink(target) => (ItemKind::Symlink(target.clone()), entry),
                Kind::File(content) => (ItemKind::File(runs(path, entry, content)?), entry),
                Kind::Hardlink(target) => match tree.get(target) {
                    Some(file @ Entry { kind: Kind::File(content), .. }) => {
                        (ItemKind::File(runs(target, file, content)?), file)
                    }
                    _ => (ItemKind::File(Runs::Other("a link".to_owned())), entry),
                },
            };
            listing.entries.insert(path.clone(), Item { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid });
            if let (true, Kind::File(content)) = (ACCOUNT_FILES.contains(&path.as_str()), &entry.kind) {
                let bytes = content.read(ACCOUNT_LIMIT).map_err(|e| unreadable(path, e))?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| BuildError::bad(&*entry.origin, format!("`{path}` is not UTF-8")))?;
                listing.accounts.insert(path.clone(), text);
            }
        }
        Ok(listing)
    }

    /// As a blob; the same for equal listings.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{HEADER}\n");
        for (path, item) in &self.entries {
            let (flag, last) = match &item.kind {
                ItemKind::Dir => ('d', None),
                ItemKind::File(runs) => ('f', Some(runs.to_string())),
                ItemKind::Symlink(target) => ('l', Some(target.clone())),
            };
            let path = escape(path.as_str());
            out += &format!("{flag}\t{:04o}\t{}\t{}\t{path}", item.mode, item.uid, item.gid);
            out += &last.map(|l| format!("\t{}", escape(&l))).unwrap_or_default();
            out.push('\n');
        }
        for (path, text) in &self.accounts {
            out += &format!("c\t{}\t{}\n", escape(path.as_str()), escape(text));
        }
        out.into_bytes()
    }

    /// Whether a directory stands at `path`, or it is the root.
    pub fn is_dir(&self, path: &GuestPath) -> bool {
        path.is_root() || self.entries.get(path).is_some_and(|i| i.kind == ItemKind::Dir)
    }

    /// An account file's text; empty where there is none.
    pub fn account(&self, path: &str) -> &str {
        GuestPath::parse(path).ok().and_then(|p| self.accounts.get(&p)).map_or("", String::as_str)
    }

    /// Where `path` (from the root) leads when every symbolic link in it is followed inside the tree, as `chroot` would;
    /// `..` at the root stays there. What is missing from some part on is taken as it is written. `None` for a loop of links.
    pub fn resolve(&self, path: &str) -> Option<GuestPath> {
        self.follow(path, true)
    }

    /// As [`Self::resolve`], but a symbolic link in the last place is not followed.
    pub fn resolve_parent(&self, path: &str) -> Option<GuestPath> {
        self.follow(path, false)
    }

    fn follow(&self, path: &str, last_too: bool) -> Option<GuestPath> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at = GuestPath::root();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = at.join(&part).ok()?;
            let rest = todo.iter().any(|p| !p.is_empty() && p != ".");
            match self.entries.get(&next).map(|i| &i.kind) {
                Some(ItemKind::Symlink(target)) if rest || last_too => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        at = GuestPath::root();
                    }
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                _ => at = next,
            }
        }
        Some(at)
    }

    fn remove(&mut self, path: &GuestPath) {
        self.entries.remove(path);
        self.accounts.remove(path);
        // Sorted, but `usr-x` stands between `usr` and `usr/x`.
        let start = format!("{}/", path.as_str());
        let Ok(first) = GuestPath::parse(path.as_str()) else { return };
        let below: Vec<GuestPath> = self
            .entries
            .range(first..)
            .map(|(p, _)| p)
            .take_while(|p| p.as_str().starts_with(path.as_str()))
            .filter(|p| p.as_str().starts_with(&start))
            .cloned()
            .collect();
        for path in below {
            self.entries.remove(&path);
            self.accounts.remove(&path);
        }
    }
}

impl std::fmt::Display for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("-"),
            Self::On(platforms) => f.write_str(platforms),
            Self::Script(line) => write!(f, "#!{line}"),
            Self::Other(what) => write!(f, "?{what}"),
        }
    }
}

fn runs(path: &GuestPath, entry: &Entry, content: &Content) -> Result<Runs, BuildError> {
    if entry.mode & 0o111 == 0 {
        return Ok(Runs::Never);
    }
    let mut head = Vec::with_capacity(exe::HEAD);
    let reader = content.open().map_err(|e| unreadable(path, e))?;
    reader.take(exe::HEAD as u64).read_to_end(&mut head).map_err(|e| unreadable(path, e))?;
    Ok(match exe::identify(&head) {
        Program::Binary { os, archs } => {
            Runs::On(archs.iter().map(|a| format!("{os}/{a}")).collect::<Vec<_>>().join("+"))
        }
        Program::Script => {
            let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
            Runs::Script(
                String::from_utf8_lossy(line.get(2..256.min(line.len())).unwrap_or_default())
                    .trim_matches([' ', '\t'])
                    .to_owned(),
            )
        }
        Program::Other(what) => Runs::Other(what.to_owned()),
    })
}

fn unreadable(path: &GuestPath, error: std::io::Error) -> BuildError {
    BuildError::io(Path::new(&path.to_string()), "read", error)
}

fn read_line(listing: &mut Listing, fields: &[&str]) -> Option<()> {
    if let ["c", path, text] = fields {
        listing.accounts.insert(GuestPath::parse(path).ok()?, (*text).to_owned());
        return Some(());
    }
    let [flag, mode, uid, gid, path, last @ ..] = fields else { return None };
    let kind = match (*flag, last) {
        ("d", []) => ItemKind::Dir,
        ("l", [target]) => ItemKind::Symlink((*target).to_owned()),
        ("f", ["-"]) => ItemKind::File(Runs::Never),
        ("f", [text]) => ItemKind::File(match (text.strip_prefix("#!"), text.strip_prefix('?')) {
            (Some(line), _) => Runs::Script(line.to_owned()),
            (_, Some(what)) => Runs::Other(what.to_owned()),
            _ => Runs::On((*text).to_owned()),
        }),
        _ => return None,
    };
    let mode = u32::from_str_radix(mode, 8).ok()?;
    let item = Item { kind, mode, uid: uid.parse().ok()?, gid: gid.parse().ok()? };
    listing.entries.insert(GuestPath::parse(path).ok()?, item);
    Some(())
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some(other)) => out.push(other),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).unwrap()
    }

    fn sample() -> Tree {
        let from: Arc<str> = "test".into();
        let mut tree = Tree::default();
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 62;
        tree.put(path("usr/bin/dash"), Entry::file(&from, 0o755, Content::bytes(elf)));
        tree.put(path("usr/bin/sh"), Entry::symlink(&from, "dash"));
        tree.put(path("bin"), Entry::symlink(&from, "usr/bin"));
        tree.put(path("usr/bin/x"), Entry::file(&from, 0o755, Content::bytes(*b"#! /bin/sh -e\nexit\n")));
        tree.put(path("etc/passwd"), Entry::file(&from, 0o644, Content::bytes(*b"root:x:0:0:\\:/:/bin/sh\n")));
        tree.put(path("etc/a\tb\nc"), Entry::file(&from, 0o644, Content::bytes([])));
        tree.put(path("loop"), Entry::symlink(&from, "loop"));
        tree
    }

    #[test]
    fn listings_round_trip() {
        let listing = Listing::of(&sample()).unwrap();
        assert_eq!(parse(&listing.to_bytes()).unwrap(), listing);
        assert_eq!(listing.account("etc/passwd"), "root:x:0:0:\\:/:/bin/sh\n");
        assert_eq!(listing.entries[&path("usr/bin/dash")].kind, ItemKind::File(Runs::On("linux/amd64".into())));
        assert_eq!(listing.entries[&path("usr/bin/x")].kind, ItemKind::File(Runs::Script("/bin/sh -e".into())));
        for text in ["", "labimg-listing 2\n", "labimg-listing 1\nx\n", "labimg-listing 1\nd\t0755\t0\t0\t../x\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn links_are_followed_inside() {
        let listing = Listing::of(&sample()).unwrap();
        for (from, to) in
            [("/bin/sh", "/usr/bin/dash"), ("bin/../../../bin/x", "/usr/bin/x"), ("/no/where", "/no/where")]
        {
            assert_eq!(listing.resolve(from).unwrap().to_string(), to);
        }
        assert_eq!(listing.resolve_parent("/bin/sh").unwrap().to_string(), "/usr/bin/sh");
        assert_eq!(listing.resolve("/loop/x"), None);
    }

    #[test]
    fn merging_replaces_and_removes() {
        let lower = Listing::of(&sample()).unwrap();
        let from: Arc<str> = "test".into();
        let mut tree = Tree::default();
        tree.put(path("etc"), Entry::symlink(&from, "other"));
        tree.put(path("usr/bin/.wh.x"), Entry::file(&from, 0o644, Content::bytes([])));
        let merged = merge(&lower, &Listing::of(&tree).unwrap());
        assert!(merged.entries.contains_key(&path("usr/bin/sh")) && !merged.entries.contains_key(&path("usr/bin/x")));
        assert!(!merged.entries.contains_key(&path("etc/passwd")) && merged.account("etc/passwd").is_empty());
    }
}
