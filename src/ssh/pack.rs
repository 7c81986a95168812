//! A local file or directory as a tar stream: sorted, owned by 0:0, without names of owners.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::base::tarball::{Kind, Member, TarWriter};

/// Writes what is below `dir`; with `root`, `.` itself comes first, with its mode.
///
/// # Errors
/// I/O errors, names that are not UTF-8, sockets, pipes and devices.
pub(super) fn directory(dir: &Path, root: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut tar = TarWriter::new(out);
    if root {
        one(&mut tar, dir, ".")?;
    }
    below(&mut tar, dir, "")?;
    tar.finish().map(|_| ())
}

/// Writes one file under the name `name`.
///
/// # Errors
/// As for [`directory`].
pub(super) fn file(path: &Path, name: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut tar = TarWriter::new(out);
    let mut content = fs_err::File::open(path)?;
    let meta = content.metadata()?;
    put(&mut tar, name, Kind::File(meta.len()), &meta, &mut content)?;
    tar.finish().map(|_| ())
}

fn below(tar: &mut TarWriter<&mut dyn Write>, dir: &Path, prefix: &str) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| io::Error::other(format!("`{}`: the name is not UTF-8", dir.join(name).display())))?;
        names.push(name);
    }
    names.sort_unstable();
    for name in names {
        let (path, inside) = (dir.join(&name), format!("{prefix}{name}"));
        if one(tar, &path, &inside)? {
            below(tar, &path, &format!("{inside}/"))?;
        }
    }
    Ok(())
}

/// Writes one member; says whether it is a directory.
fn one(tar: &mut TarWriter<&mut dyn Write>, path: &Path, name: &str) -> io::Result<bool> {
    let meta = fs_err::symlink_metadata(path)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        put(tar, name, Kind::Dir, &meta, &mut io::empty())?;
    } else if kind.is_symlink() {
        let target = fs_err::read_link(path)?;
        let target = target
            .to_str()
            .ok_or_else(|| io::Error::other(format!("`{}` points to a name that is not UTF-8", path.display())))?;
        put(tar, name, Kind::Symlink(target), &meta, &mut io::empty())?;
    } else if kind.is_file() {
        let mut content = fs_err::File::open(path)?;
        let changed = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other(format!("`{}` became shorter while it was read", path.display()))
            }
            _ => e,
        };
        put(tar, name, Kind::File(meta.len()), &meta, &mut content).map_err(changed)?;
    } else {
        return Err(io::Error::other(format!("`{}` is no file, directory or link", path.display())));
    }
    Ok(kind.is_dir())
}

fn put(
    tar: &mut TarWriter<&mut dyn Write>,
    path: &str,
    kind: Kind<'_>,
    meta: &std::fs::Metadata,
    content: &mut dyn io::Read,
) -> io::Result<()> {
    let mode = match kind {
        Kind::Symlink(_) => 0o777,
        _ => meta.permissions().mode() & 0o7777,
    };
    let mtime = u64::try_from(meta.mtime()).unwrap_or(0);
    tar.put(&Member { path, kind, mode, uid: 0, gid: 0, mtime }, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        archive.entries().unwrap().map(|e| String::from_utf8(e.unwrap().path_bytes().into_owned()).unwrap()).collect()
    }

    #[test]
    fn trees_are_sorted_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("b")).unwrap();
        fs_err::write(dir.path().join("b/x"), "x").unwrap();
        fs_err::write(dir.path().join("a"), "a").unwrap();
        fs_err::os::unix::fs::symlink("/nowhere", dir.path().join("c")).unwrap();
        let mut out = Vec::new();
        directory(dir.path(), true, &mut out).unwrap();
        assert_eq!(names(&out), ["./", "a", "b/", "b/x", "c"]);
        let mut again = Vec::new();
        directory(dir.path(), true, &mut again).unwrap();
        assert_eq!(out, again);
        out.clear();
        file(&dir.path().join("a"), "z", &mut out).unwrap();
        assert_eq!(names(&out), ["z"]);
    }

    #[test]
    fn sockets_and_strange_names_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(directory(dir.path(), false, &mut Vec::new()).unwrap_err().to_string().contains("no file"));
        drop(socket);
        fs_err::remove_file(dir.path().join("s")).unwrap();
        fs_err::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        assert!(directory(dir.path(), false, &mut Vec::new()).unwrap_err().to_string().contains("UTF-8"));
    }
}
