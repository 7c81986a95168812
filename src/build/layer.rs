//! Trees as image layers: sorted tar, gzip, into the store (image-spec, "Image Layer Filesystem Changeset").

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::base::digest::{Digest, Hasher};
use crate::base::gzip::GzipWriter;
use crate::base::report::Task;
use crate::base::tarball::{self, Member, TarWriter};
use crate::build::BuildError;
use crate::build::step::Output;
use crate::build::tree::{Content, Entry, Kind, Source, Tree};
use crate::model::guest_path::GuestPath;
use crate::store::Store;

/// What a whiteout's name starts with (image-spec, layer, "Whiteouts").
pub const WHITEOUT: &str = ".wh.";
/// Who brings whiteouts: nobody else may bring names like theirs.
const REMOVED: &str = "a removed path";
/// The fact of a layer's [`Output`] that holds its diff id.
pub use crate::store::realisation::DIFF_ID;
/// The fact of a layer's [`Output`] that says that nothing is in it: it is left out of the image.
pub const EMPTY: &str = "empty";
/// Longest chain of hard links that name hard links.
const MAX_CHAIN: usize = 64;

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the gzip blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of the tar inside.
    pub diff_id: Digest,
    /// Size of the tar in bytes.
    pub uncompressed: u64,
    /// Whether nothing is in it.
    pub empty: bool,
}

impl Layer {
    /// It as a step's output.
    pub fn output(&self) -> Output {
        let mut facts = BTreeMap::from([(DIFF_ID.to_owned(), self.diff_id.to_string())]);
        if self.empty {
            facts.insert(EMPTY.to_owned(), "yes".to_owned());
        }
        Output { digest: self.digest, size: self.size, facts }
    }
}

/// Writes `tree` as a gzip layer into the store: members sorted by path, all of the time `epoch` (seconds since 1970). Of
/// hard links the first path holds the content. `threads` compress while this one reads and hashes; `task` advances by bytes
/// of the tar. The digests depend on tree and epoch alone.
///
/// # Errors
/// Contents that can not be read, hard links to nothing, names of whiteouts, and a store that can not be written.
pub fn write_layer(
    tree: &Tree,
    epoch: u64,
    store: &Store,
    threads: usize,
    task: &Task<'_>,
) -> Result<Layer, BuildError> {
    let links = Links::of(tree)?;
    let (digest, size, (diff_id, uncompressed)) = store.put_with(|out| {
        let packing = |e| BuildError::bad("a layer", format!("can not be compressed: {e}"));
        let gzip = GzipWriter::new(out, threads).map_err(packing)?;
        let mut tar = TarWriter::new(Plain { out: gzip, hasher: Hasher::new(), size: 0, task });
        for (path, entry) in &tree.entries {
            put(&mut tar, tree, &links, path, entry, epoch)?;
        }
        let plain = tar.finish().map_err(packing)?;
        plain.out.finish().map_err(packing)?;
        Ok::<_, BuildError>((plain.hasher.finish(), plain.size))
    })?;
    Ok(Layer { digest, size, diff_id, uncompressed, empty: tree.entries.is_empty() })
}

fn put<W: Write>(
    tar: &mut TarWriter<W>,
    tree: &Tree,
    links: &Links<'_>,
    path: &GuestPath,
    entry: &Entry,
    epoch: u64,
) -> Result<(), BuildError> {
    if path.name().starts_with(WHITEOUT) && &*entry.origin != REMOVED {
        let why = format!("`{path}` has a name that layers keep for removed files");
        return Err(BuildError::bad(&*entry.origin, why));
    }
    let member = |kind, entry: &Entry| Member {
        path: path.as_str(),
        kind,
        mode: entry.mode,
        uid: u64::from(entry.uid),
        gid: u64::from(entry.gid),
        mtime: epoch,
    };
    let failed = |e: io::Error| BuildError::bad(&*entry.origin, format!("`{path}`: {e}"));
    let nothing: &mut dyn Read = &mut io::empty();
    match &entry.kind {
        Kind::Dir => tar.put(&member(tarball::Kind::Dir, entry), nothing),
        Kind::Symlink(target) => tar.put(&member(tarball::Kind::Symlink(target), entry), nothing),
        Kind::File(_) | Kind::Hardlink(_) => {
            let (first, file, content) = links.file(tree, path)?;
            if first == path {
                let mut reader = content.open().map_err(failed)?;
                tar.put(&member(tarball::Kind::File(content.size), file), &mut reader)
            } else {
                tar.put(&member(tarball::Kind::Hardlink(first.as_str()), file), nothing)
            }
        }
    }
    .map_err(failed)
}

/// Hashes and counts the tar on its way into the compressor.
struct Plain<'a, W> {
    out: W,
    hasher: Hasher,
    size: u64,
    task: &'a Task<'a>,
}

impl<W: Write> Write for Plain<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.task.advance(bytes.len() as u64);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Which paths are one file.
struct Links<'t> {
    /// For paths of files with several names: the file's own path.
    file: BTreeMap<&'t GuestPath, &'t GuestPath>,
    /// By a file's own path: all its paths, sorted.
    names: BTreeMap<&'t GuestPath, Vec<&'t GuestPath>>,
}

impl<'t> Links<'t> {
    fn of(tree: &'t Tree) -> Result<Self, BuildError> {
        let (mut file, mut names) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for (path, entry) in &tree.entries {
            let Kind::Hardlink(target) = &entry.kind else { continue };
            let own = own_path(tree, target).ok_or_else(|| {
                BuildError::bad(
                    &*entry.origin,
                    format!("`{path}` is a hard link to `{target}`, which is no file of it"),
                )
            })?;
            file.insert(own, own);
            file.insert(path, own);
        }
        for (path, own) in &file {
            names.entry(*own).or_default().push(*path);
        }
        Ok(Self { file, names })
    }

    /// The first path of the file at `path`, its entry, its content.
    fn file(&self, tree: &'t Tree, path: &'t GuestPath) -> Result<(&'t GuestPath, &'t Entry, &'t Content), BuildError> {
        let own = self.file.get(path).copied().unwrap_or(path);
        let first = self.names.get(own).and_then(|n| n.first()).copied().unwrap_or(own);
        match tree.entries.get(own) {
            Some(entry @ Entry { kind: Kind::File(content), .. }) => Ok((first, entry, content)),
            _ => Err(BuildError::Internal(format!("`{path}` is no file"))),
        }
    }

    /// All names of the file at `path`.
    fn names(&self, path: &'t GuestPath) -> Vec<&'t GuestPath> {
        self.file.get(path).and_then(|own| self.names.get(own)).cloned().unwrap_or_else(|| vec![path])
    }
}

/// Follows hard links from `path` to the file.
fn own_path<'t>(tree: &'t Tree, path: &'t GuestPath) -> Option<&'t GuestPath> {
    let mut at = path;
    for _ in 0..MAX_CHAIN {
        let (own, entry) = tree.entries.get_key_value(at)?;
        match &entry.kind {
            Kind::File(_) => return Some(own),
            Kind::Hardlink(next) => at = next,
            _ => return None,
        }
    }
    None
}

/// What a layer over `lower` must hold so that both together are `upper`: entries that are new or other (contents compared
/// byte by byte), the directories above them, and a whiteout for each path that is gone. Equal trees give an empty one.
///
/// # Errors
/// Contents that can not be read, hard links to nothing, and names of whiteouts in `upper`.
pub fn difference(lower: &Tree, upper: &Tree) -> Result<Tree, BuildError> {
    let (below, above) = (Links::of(lower)?, Links::of(upper)?);
    let mut changed = Tree::default();
    for (path, entry) in &upper.entries {
        if path.name().starts_with(WHITEOUT) {
            let why = format!("`{path}` has a name that layers keep for removed files");
            return Err(BuildError::bad(&*entry.origin, why));
        }
        if !same(lower, &below, upper, &above, path, entry)? {
            changed.entries.insert(path.clone(), entry.clone());
        }
    }
    let removed: Arc<str> = REMOVED.into();
    for path in lower.entries.keys().filter(|p| gone(upper, p)) {
        let parent = path.parent().unwrap_or_default();
        let whiteout = parent.join(&format!("{WHITEOUT}{}", path.name()))?;
        changed.entries.insert(whiteout, Entry::file(&removed, 0o644, Content::bytes([])));
    }
    for path in changed.entries.keys().cloned().collect::<Vec<_>>() {
        let mut at = path.parent();
        while let Some(dir) = at.filter(|d| !d.is_root()) {
            at = dir.parent();
            if let Some(entry) = upper.get(&dir) {
                changed.entries.entry(dir).or_insert_with(|| entry.clone());
            }
        }
    }
    Ok(changed)
}

/// Whether `path` of the lower tree needs a whiteout: it is gone, and the directory it was in is still one.
fn gone(upper: &Tree, path: &GuestPath) -> bool {
    let parent = path.parent().unwrap_or_default();
    let in_dir = parent.is_root() || upper.get(&parent).is_some_and(|e| matches!(e.kind, Kind::Dir));
    upper.get(path).is_none() && in_dir
}

fn same<'t>(
    lower: &'t Tree,
    below: &Links<'t>,
    upper: &'t Tree,
    above: &Links<'t>,
    path: &'t GuestPath,
    new: &'t Entry,
) -> Result<bool, BuildError> {
    let Some((path_below, old)) = lower.entries.get_key_value(path) else { return Ok(false) };
    let owned = |a: &Entry, b: &Entry| (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid);
    Ok(match (&old.kind, &new.kind) {
        (Kind::Dir, Kind::Dir) => owned(old, new),
        // The mode of a symbolic link means nothing.
        (Kind::Symlink(a), Kind::Symlink(b)) => a == b && (old.uid, old.gid) == (new.uid, new.gid),
        (Kind::File(_) | Kind::Hardlink(_), Kind::File(_) | Kind::Hardlink(_)) => {
            let (_, old, a) = below.file(lower, path_below)?;
            let (_, new, b) = above.file(upper, path)?;
            let equal = || same_content(a, b).map_err(|e| BuildError::io(Path::new(&path.to_string()), "read", e));
            owned(old, new) && below.names(path_below) == above.names(path) && equal()?
        }
        _ => false,
    })
}

fn same_content(a: &Content, b: &Content) -> io::Result<bool> {
    if a.size != b.size {
        return Ok(false);
    }
    let one_place = match (&a.source, &b.source) {
        (Source::Bytes(a), Source::Bytes(b)) => return Ok(a == b),
        (Source::Spool(a, at), Source::Spool(b, there)) => Arc::ptr_eq(a, b) && at == there,
        (Source::Path(a), Source::Path(b)) => a == b,
        _ => false,
    };
    if one_place {
        return Ok(true);
    }
    let (mut a_in, mut b_in) = (a.open()?, b.open()?);
    let (mut one, mut other) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut left = a.size;
    while left > 0 {
        let n = usize::try_from(left).map_or(one.len(), |l| l.min(one.len()));
        a_in.read_exact(&mut one[..n])?;
        b_in.read_exact(&mut other[..n])?;
        if one[..n] != other[..n] {
            return Ok(false);
        }
        left -= n as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
