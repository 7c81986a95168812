//! Packages laid over each other as dpkg would: merged `/usr`, shared directories, `Replaces`, diversions, paths through links
//! resolved inside the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::inside;
use super::unpack::Unpacked;
use crate::build::BuildError;
use crate::build::tree::{Entry, Kind, Tree};
use crate::model::debian::relation;
use crate::model::guest_path::GuestPath;

/// Directories of the root that are links into `/usr` (file-hierarchy(7); Debian's base-files since trixie).
const ALIASES: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"];
/// The aliases every system has; the others come where a package needs them.
const ALWAYS: [&str; 3] = ["bin", "sbin", "lib"];

/// A diversion (dpkg-divert(1)): another package's `path` goes to `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The path as packages ship it.
    pub path: GuestPath,
    /// Where it goes.
    pub to: GuestPath,
    /// The package whose own file stays at `path`.
    pub by: String,
}

/// Packages laid over each other.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// The tree.
    pub tree: Tree,
    /// Paths that a package lost to one that replaces it, by the position of the package.
    pub lost: BTreeMap<usize, BTreeSet<GuestPath>>,
}

/// Lays packages over each other; the order they are given in does not matter.
///
/// # Errors
/// [`BuildError::Clash`] for a path that two packages have; a path that a link leads out of the tree.
pub fn root_tree(packages: &[&Unpacked], diversions: &[Diversion]) -> Result<Merged, BuildError> {
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|at| packages.get(*at).map(|p| (&p.package.name, &p.package.architecture)));
    let mut merge =
        Merge { packages, diversions, links: links(packages), owners: BTreeMap::new(), out: Merged::default() };
    merge.aliases();
    for at in order {
        merge.package(at)?;
    }
    Ok(merge.out)
}

/// Links of all packages, those of merged `/usr` among them.
fn links(packages: &[&Unpacked]) -> BTreeMap<GuestPath, String> {
    let mut links: BTreeMap<GuestPath, String> = BTreeMap::new();
    for package in packages {
        for (path, entry) in &package.entries {
            if let Kind::Symlink(target) = &entry.kind {
                links.entry(path.clone()).or_insert_with(|| target.clone());
            }
        }
    }
    let full = packages.iter().any(|p| p.package.name == "base-files");
    for name in ALIASES {
        let Ok(path) = GuestPath::parse(name) else { continue };
        let used = || packages.iter().any(|p| p.entries.keys().any(|e| e != &path && e.is_within(&path)));
        if full && ALWAYS.contains(&name) || used() {
            links.insert(path, format!("usr/{name}"));
        }
    }
    links
}

struct Merge<'a> {
    packages: &'a [&'a Unpacked],
    diversions: &'a [Diversion],
    links: BTreeMap<GuestPath, String>,
    owners: BTreeMap<GuestPath, usize>,
    out: Merged,
}

impl Merge<'_> {
    /// Puts the links of merged `/usr` that no package ships.
    fn aliases(&mut self) {
        let origin = "merged /usr".into();
        for name in ALIASES {
            let Ok(path) = GuestPath::parse(name) else { continue };
            if self.links.get(&path).is_some_and(|to| *to == format!("usr/{name}")) {
                if let Ok(dir) = GuestPath::parse(&format!("usr/{name}")) {
                    self.out.tree.put(dir, Entry::dir(&origin));
                }
                self.out.tree.put(path, Entry::symlink(&origin, format!("usr/{name}")));
            }
        }
    }

    fn package(&mut self, at: usize) -> Result<(), BuildError> {
        let Some(package) = self.packages.get(at) else { return Ok(()) };
        for (path, entry) in &package.entries {
            let path = self.place(path, &package.package.name, matches!(entry.kind, Kind::Dir))?;
            let mut entry = entry.clone();
            if let Kind::Hardlink(target) = &entry.kind {
                entry.kind = Kind::Hardlink(self.place(target, &package.package.name, false)?);
            }
            self.put(at, path, entry)?;
        }
        Ok(())
    }

    /// Where a path of a package goes: diverted, and with links above it followed inside the tree.
    fn place(&self, path: &GuestPath, package: &str, is_dir: bool) -> Result<GuestPath, BuildError> {
        let diverted = self.diversions.iter().find(|d| d.path == *path && d.by != package).map(|d| &d.to);
        let path = diverted.unwrap_or(path);
        inside::resolve(|at| self.links.get(at).map(String::as_str), path, is_dir)
            .map_err(|why| BuildError::bad(format!("package {package}"), format!("`{path}` {why}")))
    }

    /// Puts an entry, or settles whose it is.
    fn put(&mut self, at: usize, path: GuestPath, entry: Entry) -> Result<(), BuildError> {
        let above = path.parent().and_then(|dir| self.out.tree.get(&dir));
        if let Some(file) = above.filter(|e| !matches!(e.kind, Kind::Dir)) {
            return Err(clash(path.parent().unwrap_or_default(), file, &entry));
        }
        let Some(old) = self.out.tree.get(&path) else {
            self.owners.insert(path.clone(), at);
            self.out.tree.put(path, entry);
            return Ok(());
        };
        let Some(owner) = self.owners.get(&path).copied() else {
            // Ours: a directory made for something under it gets its real owner's mode; a link of merged /usr stays.
            if matches!((&old.kind, &entry.kind), (Kind::Dir, Kind::Dir)) {
                self.owners.insert(path.clone(), at);
                self.out.tree.entries.insert(path, entry);
                return Ok(());
            }
            return if same(old, &entry) { Ok(()) } else { Err(clash(path, old, &entry)) };
        };
        if matches!((&old.kind, &entry.kind), (Kind::Dir, Kind::Dir)) || self.shared(owner, at, &path, old, &entry) {
            return Ok(());
        }
        let (Some(first), Some(second)) = (self.packages.get(owner), self.packages.get(at)) else { return Ok(()) };
        if matches!(old.kind, Kind::Dir) || matches!(entry.kind, Kind::Dir) {
            return Err(clash(path, old, &entry));
        }
        if replaces(second, first) {
            self.out.lost.entry(owner).or_default().insert(path.clone());
            self.owners.insert(path.clone(), at);
            self.out.tree.entries.insert(path, entry);
            return Ok(());
        }
        if replaces(first, second) {
            self.out.lost.entry(at).or_default().insert(path);
            return Ok(());
        }
        Err(clash(path, old, &entry))
    }

    /// Whether two packages may have this path together: one package in two architectures (`Multi-Arch: same`), same content;
    /// or links with the same text that both got from merged `/usr`.
    fn shared(&self, one: usize, two: usize, path: &GuestPath, old: &Entry, new: &Entry) -> bool {
        let (Some(a), Some(b)) = (self.packages.get(one), self.packages.get(two)) else { return false };
        if a.package.name != b.package.name || a.control.stanza.text("Multi-Arch") != "same" {
            return false;
        }
        match (&old.kind, &new.kind) {
            (Kind::File(_), Kind::File(_)) => a.md5.get(path).is_some_and(|sum| b.md5.get(path) == Some(sum)),
            _ => same(old, new),
        }
    }
}

fn same(a: &Entry, b: &Entry) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Symlink(x), Kind::Symlink(y)) => x == y,
        (Kind::Hardlink(x), Kind::Hardlink(y)) => x == y,
        (Kind::Dir, Kind::Dir) => true,
        _ => false,
    }
}

fn clash(path: GuestPath, old: &Entry, new: &Entry) -> BuildError {
    BuildError::Clash { path, one: old.origin.to_string(), other: new.origin.to_string() }
}

/// Whether `new` says `Replaces:` of `old` (Debian policy 7.6.1).
fn replaces(new: &Unpacked, old: &Unpacked) -> bool {
    let all = relation::groups(new.control.stanza.text("Replaces")).flat_map(relation::alternatives);
    // What is no relation replaces nothing: the clash is told then.
    let mut relations = all.filter_map(Result::ok);
    relations.any(|r| r.name == old.package.name && r.accepts(Some(&old.package.version)))
}
