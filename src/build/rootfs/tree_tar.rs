//! Trees of machines as tar blobs: read without unpacking, written so that the same tree gives the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tar::EntryType;

use crate::base::tarball::{self, CAPABILITY, Member, TarWriter};
use crate::base::untar::{self, Untar};
use crate::base::{bounds, shown, tarfmt};
use crate::build::BuildError;
use crate::build::step::Output;
use crate::build::tree::{Content, Entry, Kind, Source, Tree};
use crate::model::guest_path::GuestPath;
use crate::store::Store;

/// Most entries of one tree.
const MAX_ENTRIES: usize = 5_000_000;
/// Most bytes of their names: five million of them have about this.
const MAX_NAMES: u64 = 512 << 20;
/// Most of one file's capabilities (linux/capability.h: `XATTR_CAPS_SZ_3` is 24).
const MAX_CAPABILITY: usize = 64;
/// Places that hold nothing of a machine that is off: what is in them is not read, devices least of all.
const VOLATILE: [&str; 3] = ["dev", "proc", "sys"];
/// Bytes of a compiled Python file's header (PEP 552).
const PYC_HEADER: u64 = 16;

/// Reads the tar at `path`; contents stay in it, `origin` names it in messages. What lies in `/dev`, `/proc` and `/sys` is
/// left out.
///
/// # Errors
/// Bytes that are no tar, devices elsewhere, names that are not UTF-8 or lead out of it, too many entries, I/O errors.
pub fn read_tree(path: &Path, origin: &str) -> Result<Tree, BuildError> {
    let file = fs_err::File::open(path).map_err(|e| BuildError::io(path, "read", e))?.into_parts().0;
    let bad = |why: String| BuildError::bad(origin, why);
    let spool = Arc::new(file.try_clone().map_err(|e| BuildError::io(path, "read", e))?);
    let from: Arc<str> = origin.into();
    let mut archive = Untar::new(file).with_names(MAX_NAMES);
    let mut tree = Tree::default();
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(|e| bad(e.to_string()))? {
        let mut entry = entry.map_err(|e| bad(format!("not a tar archive: {e}")))?;
        let before = end..entry.raw_header_position();
        end = tarfmt::padded(entry.size()).and_then(|size| size.checked_add(entry.raw_file_position())).unwrap_or(end);
        if tree.entries.len() >= MAX_ENTRIES {
            return Err(bad(format!("more than {MAX_ENTRIES} entries")));
        }
        let at = GuestPath::parse(&text(&entry.path_bytes(), origin)?)?;
        if at.is_root() || is_volatile(&at) {
            continue;
        }
        let made = capability(&spool, before)
            .and_then(|capability| Ok(Entry { capability, ..read_entry(&mut entry, &spool, &from)? }));
        let made = made.map_err(|e| bad(format!("`{at}`: {}", untar::told(&e))))?;
        tree.put(at, made);
    }
    Ok(tree)
}

fn is_volatile(path: &GuestPath) -> bool {
    path.as_str().split_once('/').is_some_and(|(top, _)| VOLATILE.contains(&top))
}

fn read_entry<R: Read>(
    entry: &mut untar::Entry<'_, R>,
    spool: &Arc<std::fs::File>,
    from: &Arc<str>,
) -> io::Result<Entry> {
    let link = |entry: &untar::Entry<'_, R>| {
        let bytes = entry.link_name_bytes().unwrap_or_default().into_owned();
        String::from_utf8(bytes).map_err(|_| io::Error::other("its target is not UTF-8"))
    };
    let kind = match entry.header().entry_type() {
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => Kind::Symlink(link(entry)?),
        EntryType::Link => Kind::Hardlink(GuestPath::parse(&link(entry)?).map_err(io::Error::other)?),
        EntryType::Regular | EntryType::Continuous => {
            let source = Source::Spool(spool.clone(), entry.raw_file_position());
            Kind::File(Content { size: entry.size(), source })
        }
        _ => return Err(io::Error::other("it is neither file, directory nor link")),
    };
    let header = entry.header();
    let id = |n: u64| u32::try_from(n).map_err(|_| io::Error::other("its owner is no number of 32 bits"));
    let (uid, gid) = (id(header.uid()?)?, id(header.gid()?)?);
    Ok(Entry { kind, mode: header.mode()? & 0o7777, uid, gid, capability: None, origin: from.clone() })
}

/// The capabilities in the extended header that stands in `range`. The tar library parts records at line feeds; this value
/// may hold some.
fn capability(file: &std::fs::File, range: std::ops::Range<u64>) -> io::Result<Option<Arc<[u8]>>> {
    let length = range.end.saturating_sub(range.start);
    if length < 2 * tarfmt::BLOCK {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(length.min(bounds::TAR_HEADER)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, range.start)?;
    let Some((header, records)) = bytes.split_first_chunk() else { return Ok(None) };
    let Some(header) = tarfmt::parse(header).filter(|h| h.kind == b'x') else { return Ok(None) };
    let size = usize::try_from(header.size).unwrap_or(usize::MAX).min(records.len());
    let mut rest = records.get(..size).unwrap_or_default();
    // Each record starts with its own length in decimal and a blank.
    while let Some(blank) = rest.iter().position(|b| *b == b' ') {
        let number = std::str::from_utf8(rest.get(..blank).unwrap_or_default()).ok().and_then(|n| n.parse().ok());
        let Some((record, next)) = number.filter(|n| *n > blank + 1).and_then(|n| rest.split_at_checked(n)) else {
            break;
        };
        let said = record.get(blank + 1..record.len() - 1).unwrap_or_default();
        let value = said.strip_prefix(CAPABILITY.as_bytes()).and_then(|v| v.strip_prefix(b"="));
        if let Some(value) = value.filter(|v| v.len() <= MAX_CAPABILITY) {
            return Ok(Some(value.into()));
        }
        rest = next;
    }
    Ok(None)
}

fn text(bytes: &[u8], origin: &str) -> Result<String, BuildError> {
    String::from_utf8(bytes.to_vec()).map_err(|e| {
        let name = shown::bytes(e.as_bytes());
        BuildError::bad(origin, format!("the name `{name}` is not UTF-8"))
    })
}

/// Stores a tree: members sorted by path, every time the epoch (seconds since 1970). Of hard links the first path holds the
/// content. Compiled Python files are told that their sources have that time, too: else Python would compile them again.
///
/// # Errors
/// Contents that can not be read, hard links to nothing, a store that can not be written.
pub fn write_tree(tree: &Tree, epoch: u64, store: &Store) -> Result<Output, BuildError> {
    let first = first_names(tree)?;
    let (digest, size, ()) = store.put_with(|out| {
        let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 20, out));
        for (path, entry) in &tree.entries {
            put(&mut tar, tree, &first, path, entry, epoch)?;
        }
        let failed = |e: io::Error| BuildError::bad("a root tree", format!("can not be written: {e}"));
        tar.finish().and_then(|mut out| out.flush()).map_err(failed)
    })?;
    Ok(Output { digest, size, facts: BTreeMap::new() })
}

fn put<W: Write>(
    tar: &mut TarWriter<W>,
    tree: &Tree,
    first: &BTreeMap<&GuestPath, &GuestPath>,
    path: &GuestPath,
    entry: &Entry,
    epoch: u64,
) -> Result<(), BuildError> {
    let failed = |e: io::Error| BuildError::bad(&*entry.origin, format!("`{path}`: {e}"));
    let member = |kind, of: &Entry| Member {
        path: path.as_str(),
        kind,
        mode: of.mode,
        uid: u64::from(of.uid),
        gid: u64::from(of.gid),
        mtime: epoch,
    };
    let nothing: &mut dyn Read = &mut io::empty();
    match &entry.kind {
        Kind::Dir => tar.put(&member(tarball::Kind::Dir, entry), nothing).map_err(failed),
        Kind::Symlink(to) => tar.put(&member(tarball::Kind::Symlink(to), entry), nothing).map_err(failed),
        Kind::File(_) | Kind::Hardlink(_) => {
            let own = own_name(tree, path)?;
            let name = first.get(own).copied().unwrap_or(own);
            let Some(file @ Entry { kind: Kind::File(content), .. }) = tree.get(own) else {
                return Err(BuildError::Internal(format!("`{path}` is no file")));
            };
            if name != path {
                return tar.put(&member(tarball::Kind::Hardlink(name.as_str()), file), nothing).map_err(failed);
            }
            let mut reader = content.open().map_err(failed)?;
            let member = member(tarball::Kind::File(content.size), file);
            let capability = file.capability.as_deref();
            let mut patched = compiled(path, content.size, &mut *reader, epoch).map_err(failed)?;
            tar.put_with(&member, capability, &mut *patched).map_err(failed)
        }
    }
}

/// By a file's own name: the first of all its names.
fn first_names(tree: &Tree) -> Result<BTreeMap<&GuestPath, &GuestPath>, BuildError> {
    let mut first = BTreeMap::new();
    for (path, entry) in &tree.entries {
        if let Kind::Hardlink(_) = entry.kind {
            let own = own_name(tree, path)?;
            first.entry(own).or_insert_with(|| path.min(own));
        }
    }
    Ok(first)
}

/// Follows a hard link to the file.
fn own_name<'t>(tree: &'t Tree, path: &'t GuestPath) -> Result<&'t GuestPath, BuildError> {
    let mut at = path;
    for _ in 0..64 {
        match tree.entries.get_key_value(at) {
            Some((own, Entry { kind: Kind::File(_), .. })) => return Ok(own),
            Some((_, Entry { kind: Kind::Hardlink(next), .. })) => at = next,
            _ => break,
        }
    }
    Err(BuildError::bad("a root tree", format!("`{path}` is a hard link to nothing")))
}

/// The content as it is; of a compiled Python file that remembers its source's time, with the epoch as that time.
fn compiled<'r>(path: &GuestPath, size: u64, reader: &'r mut dyn Read, epoch: u64) -> io::Result<Box<dyn Read + 'r>> {
    if !path.name().ends_with(".pyc") || size < PYC_HEADER {
        return Ok(Box::new(reader));
    }
    let mut header = [0; PYC_HEADER as usize];
    reader.read_exact(&mut header)?;
    let [_, _, cr, lf, f0, f1, f2, f3, time @ .., _, _, _, _] = &mut header;
    // Flags 0: the source's time (the low 32 bits) and size follow. The magic number ends in CR LF.
    if [*cr, *lf] == *b"\r\n" && [*f0, *f1, *f2, *f3] == [0; 4] {
        *time = (epoch as u32).to_le_bytes();
    }
    Ok(Box::new(Cursor::new(header).chain(reader)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).unwrap()
    }

    #[test]
    fn a_tree_goes_in_and_comes_out_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let from: Arc<str> = "test".into();
        let mut tree = Tree::default();
        let capability: Arc<[u8]> = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'\n'].into();
        let file = Entry::file(&from, 0o4755, Content::bytes(*b"ping"));
        tree.put(
            path("usr/bin/ping"),
            Entry { capability: Some(capability.clone()), uid: 70_000, gid: 3_000_000, ..file },
        );
        tree.put(path("usr/bin/a-name"), Entry { kind: Kind::Hardlink(path("usr/bin/ping")), ..Entry::dir(&from) });
        tree.put(path("bin"), Entry::symlink(&from, "usr/bin"));
        let pyc = [&b"\xa7\r\r\n\0\0\0\0\x01\x02\x03\x04size"[..], b"code"].concat();
        let hashed = [&b"\xa7\r\r\n\x01\0\0\0\x01\x02\x03\x04size"[..], b"code"].concat();
        tree.put(path("x/a.pyc"), Entry::file(&from, 0o644, Content::bytes(pyc)));
        tree.put(path("x/b.pyc"), Entry::file(&from, 0o644, Content::bytes(hashed.clone())));
        let out = write_tree(&tree, 7, &store).unwrap();
        let back = read_tree(&store.blob_path(&out.digest), "again").unwrap();
        assert_eq!(write_tree(&back, 7, &store).unwrap(), out);
        let names: Vec<&str> = back.entries.keys().map(GuestPath::as_str).collect();
        assert_eq!(names, ["bin", "usr", "usr/bin", "usr/bin/a-name", "usr/bin/ping", "x", "x/a.pyc", "x/b.pyc"]);
        let first = back.get(&path("usr/bin/a-name")).unwrap();
        assert_eq!((first.mode, first.uid, first.gid), (0o4755, 70_000, 3_000_000));
        assert_eq!(first.capability, Some(capability), "a value with a line feed in it");
        assert!(
            matches!(&back.get(&path("usr/bin/ping")).unwrap().kind, Kind::Hardlink(to) if to.as_str() == "usr/bin/a-name")
        );
        let content = |at: &str| match &back.get(&path(at)).unwrap().kind {
            Kind::File(content) => content.read(100).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(content("x/a.pyc"), b"\xa7\r\r\n\0\0\0\0\x07\0\0\0sizecode");
        assert_eq!(content("x/b.pyc"), hashed, "a hash knows no time");
    }

    #[test]
    fn links_to_nothing_and_devices_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let mut tree = Tree::default();
        tree.put(path("a"), Entry { kind: Kind::Hardlink(path("a")), ..Entry::dir(&"test".into()) });
        assert!(write_tree(&tree, 7, &store).unwrap_err().to_string().contains("hard link to nothing"));
        for (name, fine) in [("dev/null", true), ("srv/null", false)] {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_entry_type(EntryType::Char);
            header.set_size(0);
            header.set_cksum();
            let mut tar = tar::Builder::new(Vec::new());
            tar.append(&header, io::empty()).unwrap();
            let at = dir.path().join("x.tar");
            fs_err::write(&at, tar.into_inner().unwrap()).unwrap();
            assert_eq!(read_tree(&at, "x").is_ok(), fine, "{name}");
        }
    }
}
