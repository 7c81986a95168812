//! Directories as deterministic tar archives in the store: what a step leaves in `/out`, and what the next one finds in `/in`.
//!
//! Members are sorted by path (bytes), owned by 0:0, with the epoch as their time; modes are 0755 for directories and for files
//! somebody may execute, 0644 for other files; symbolic links stay as they are. Hard links become files of their own.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tar::EntryType;

use super::Output;
use crate::base::shown;
use crate::base::tarball::{Kind, Member, TarWriter};
use crate::base::untar::Untar;
use crate::build::BuildError;
use crate::model::guest_path::GuestPath;
use crate::store::{BlobSource, Store};

/// Files and directories an archive may have.
const MEMBERS: usize = 1_000_000;

/// Stores what is in `dir`.
///
/// # Errors
/// Devices, pipes and sockets; names that are not UTF-8; I/O errors.
pub fn pack(store: &Store, dir: &Path, epoch: u64) -> Result<Output, BuildError> {
    let found = walk(dir)?;
    let pipe = |e| BuildError::io(dir, "make a pipe for", e);
    let (reader, writer) = io::pipe().map_err(pipe)?;
    std::thread::scope(|scope| {
        let written = scope.spawn(|| write(&found, epoch, BufWriter::with_capacity(256 * 1024, writer)));
        let stored = store.put_reader(reader, None, "the output of a step");
        let written = written.join().unwrap_or_else(|_| Err(BuildError::Internal("a writer panicked".to_owned())));
        // A store that takes no more breaks the pipe: what it says comes first. Half an archive is a blob that nobody names.
        let (digest, size) = stored?;
        written.map(|()| Output { digest, size, facts: BTreeMap::new() })
    })
}

/// Writes what [`pack`] stored into the empty directory `dir`, with the epoch as every time.
///
/// # Errors
/// An archive with members that lead out of `dir` or are neither file, directory nor link; I/O errors.
pub fn unpack(store: &Store, output: &Output, dir: &Path, epoch: u64) -> Result<(), BuildError> {
    let bad = |why: String| BuildError::bad(format!("archive {}", output.digest), why);
    let failed = |e: io::Error| BuildError::io(dir, "unpack into", e);
    fs_err::create_dir_all(dir).map_err(failed)?;
    let mut archive = Untar::new(store.open_blob(&output.digest)?);
    let mut dirs = vec![dir.to_owned()];
    for (count, entry) in archive.entries().map_err(failed)?.enumerate() {
        let mut entry = entry.map_err(failed)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink) || count >= MEMBERS {
            return Err(bad(format!("`{}` can not be in it", shown::name(&path))));
        }
        let to = dir.join(GuestPath::parse(&path)?.as_str());
        if !entry.unpack_in(dir).map_err(|e| bad(e.to_string()))? {
            return Err(bad(format!("`{}` leads out of it", shown::name(&path))));
        }
        match kind {
            EntryType::Directory => dirs.push(to),
            _ => stamp(&to, epoch)?,
        }
    }
    // Times of directories move with what is put into them.
    dirs.iter().try_for_each(|d| stamp(d, epoch))
}

/// Copies a blob to `to`, readable to all, with the epoch as its time.
///
/// # Errors
/// I/O errors.
pub fn place(store: &Store, output: &Output, to: &Path, epoch: u64) -> Result<(), BuildError> {
    fs_err::copy(store.blob_path(&output.digest), to).map_err(|e| BuildError::io(to, "write", e))?;
    let mode = std::fs::Permissions::from_mode(0o644);
    fs_err::set_permissions(to, mode).map_err(|e| BuildError::io(to, "chmod", e))?;
    stamp(to, epoch)
}

/// Sets the times of what is at `path`, symbolic links not followed.
///
/// # Errors
/// I/O errors.
pub fn stamp(path: &Path, epoch: u64) -> Result<(), BuildError> {
    let time = Timespec { tv_sec: i64::try_from(epoch).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| BuildError::io(path, "set the time of", e.into()))
}

/// Everything below `dir` by its path in the archive.
fn walk(dir: &Path) -> Result<BTreeMap<GuestPath, PathBuf>, BuildError> {
    let mut found = BTreeMap::new();
    let mut open = vec![(GuestPath::root(), dir.to_owned())];
    while let Some((at, dir)) = open.pop() {
        let failed = |e| BuildError::io(&dir, "read", e);
        readable(&dir, 0o500)?;
        for entry in fs_err::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(BuildError::bad(entry.path().display().to_string(), "its name is not UTF-8"));
            };
            let path = at.join(name)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                open.push((path.clone(), entry.path()));
            }
            found.insert(path, entry.path());
            if found.len() > MEMBERS {
                return Err(BuildError::bad("/out", format!("it has more than {MEMBERS} files")));
            }
        }
    }
    Ok(found)
}

fn write(found: &BTreeMap<GuestPath, PathBuf>, epoch: u64, out: impl Write) -> Result<(), BuildError> {
    let mut tar = TarWriter::new(out);
    for (path, source) in found {
        let failed = |e| BuildError::io(source, "pack", e);
        let bad = |why| BuildError::bad(format!("/out{path}"), why);
        let meta = fs_err::symlink_metadata(source).map_err(failed)?;
        let mut put = |kind, mode, content: &mut dyn Read| {
            let member = Member { path: path.as_str(), kind, mode, uid: 0, gid: 0, mtime: epoch };
            tar.put(&member, content).map_err(failed)
        };
        match meta.file_type() {
            t if t.is_dir() => put(Kind::Dir, 0o755, &mut io::empty())?,
            t if t.is_symlink() => {
                let target = fs_err::read_link(source).map_err(failed)?;
                let target = target.to_str().ok_or_else(|| bad("its target is not UTF-8"))?;
                put(Kind::Symlink(target), 0o777, &mut io::empty())?;
            }
            t if t.is_file() => {
                readable(source, 0o400)?;
                let mode = if meta.permissions().mode() & 0o111 != 0 { 0o755 } else { 0o644 };
                put(Kind::File(meta.len()), mode, &mut fs_err::File::open(source).map_err(failed)?)?;
            }
            _ => return Err(bad("only files, directories and symbolic links can be a step's output")),
        }
    }
    let done = tar.finish().and_then(|mut out| out.flush());
    done.map_err(|e| BuildError::io(Path::new("/out"), "pack", e))
}

/// Gives us the right to read what is ours: root has it anyway, and both must see the same.
fn readable(path: &Path, need: u32) -> Result<(), BuildError> {
    let failed = |e| BuildError::io(path, "read", e);
    let mode = fs_err::symlink_metadata(path).map_err(failed)?.permissions().mode();
    if mode & need == need {
        return Ok(());
    }
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode | need)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::store::Access;
    use std::os::unix::fs::MetadataExt;
    use tar::{Builder, Header};

    #[test]
    fn a_tree_goes_in_and_out_without_its_accidents() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Access::Shared).unwrap();
        let long = format!("{}/{}/{}", "d".repeat(120), "e".repeat(120), "f".repeat(120));
        let make = |name: &str, backwards: bool| {
            let at = dir.path().join(name);
            let mut files = vec![("a/x", 0o600), ("a-b", 0o4711), ("ä/c", 0o400), (long.as_str(), 0o644)];
            if backwards {
                files.reverse();
            }
            for (file, mode) in files {
                fs_err::create_dir_all(at.join(file).parent().unwrap()).unwrap();
                fs_err::write(at.join(file), file).unwrap();
                fs_err::set_permissions(at.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
            }
            fs_err::os::unix::fs::symlink("a/../x", at.join("link")).unwrap();
            at
        };
        let first = pack(&store, &make("one", false), 7).unwrap();
        assert_eq!(first, pack(&store, &make("two", true), 7).unwrap());
        // Other bytes for the same files need another version of the builder.
        let golden = "sha256:147b1f4b154805cbdfbe4c28561ebd3b193138aeb8e0abd34e470c2f8076dd9c";
        assert_eq!(first.digest.to_string(), golden);
        let to = dir.path().join("out");
        unpack(&store, &first, &to, 7).unwrap();
        assert_eq!(pack(&store, &to, 7).unwrap(), first);
        for (path, mode) in [("", 0o755), ("a", 0o755), ("a/x", 0o644), ("a-b", 0o755), (&long, 0o644)] {
            let meta = fs_err::metadata(to.join(path)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.mtime()), (mode, 7), "{path}");
        }
        assert_eq!(fs_err::read_link(to.join("link")).unwrap(), Path::new("a/../x"));
    }

    #[test]
    fn what_is_no_file_is_refused_and_nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Access::Shared).unwrap();
        let out = dir.path().join("out");
        fs_err::create_dir(&out).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap();
        let error = pack(&store, &out, 7).unwrap_err().to_string();
        assert_eq!(error, "/out/socket: only files, directories and symbolic links can be a step's output");
        let archive = |members: &[(&str, EntryType, &str)]| {
            let mut builder = Builder::new(Vec::new());
            for (path, kind, link) in members {
                let mut header = Header::new_gnu();
                header.set_entry_type(*kind);
                header.set_mode(0o644);
                header.set_size(0);
                header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
                if !link.is_empty() {
                    header.set_link_name(link).unwrap();
                }
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            }
            let bytes = builder.into_inner().unwrap();
            Output { digest: store.put(&bytes).unwrap(), size: bytes.len() as u64, facts: BTreeMap::new() }
        };
        let outside = dir.path().join("outside");
        fs_err::create_dir(&outside).unwrap();
        let target = outside.to_str().unwrap();
        for members in [
            &[("../outside/x", EntryType::Regular, "")][..],
            &[("null", EntryType::Char, "")],
            &[("way", EntryType::Symlink, target), ("way/x", EntryType::Regular, "")],
        ] {
            let to = tempfile::tempdir_in(dir.path()).unwrap();
            unpack(&store, &archive(members), to.path(), 7).unwrap_err();
            assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
        }
        let digest = Digest::of(b"not there");
        assert!(unpack(&store, &Output { digest, size: 1, facts: BTreeMap::new() }, &outside, 7).is_err());
    }
}
