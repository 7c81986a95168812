//! Programs that run on this machine: those of the bundle, or, where settings say so, those the machine has.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::LabError;
use super::run;
use super::session::Session;
use crate::base::digest::{Digest, Hasher, hash_reader};
use crate::model::lock::FileKind;
use crate::store::bundle::FileEntry;

/// The host program `name` (`kind`, `kubectl`, `helm`, `istioctl`), ready to run: out of the bundle into the state folder's
/// `bin/<name>-<12 hex digits>`, once; or the machine's own, where settings say `tools-from-path`.
///
/// # Errors
/// A bundle without it for this machine, damaged bytes, a state folder that can not be written.
pub fn tool(session: &Session, name: &str) -> Result<PathBuf, LabError> {
    if session.machine.tools_from_path {
        return run::find(&session.machine, name).ok_or_else(|| {
            LabError::failed(format!("there is no `{name}` in PATH"), "settings say `tools-from-path = true`")
                .hint(format!("install {name}, or take that setting away: the bundle carries its own"))
        });
    }
    let entry = entry(session, name)?;
    let path = session.state.folder("bin")?.join(format!("{name}-{}", &entry.digest.hex()[..12]));
    if !is_right(&path, &entry.digest) {
        extract(session, &entry.digest, &path)?;
    }
    Ok(path)
}

/// Whether the bundle carries the tool for this machine.
///
/// # Errors
/// It does not.
pub fn carried(session: &Session, name: &str) -> Result<(), LabError> {
    entry(session, name).map(drop)
}

/// A program as people know it: `kind-0123456789ab` is `kind`.
pub(super) fn plain_name(file: &str) -> &str {
    match file.rsplit_once('-') {
        Some((name, digits)) if digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => file,
    }
}

fn entry<'a>(session: &'a Session, name: &str) -> Result<&'a FileEntry, LabError> {
    let tools = || session.bundle.index().contents.files.iter().filter(|f| f.kind == FileKind::Tool && f.name == name);
    let Some(platform) = session.machine.platform else {
        return Err(LabError::failed(format!("tool `{name}`"), "labimg knows no tools for a machine like this one"));
    };
    tools().find(|f| f.platform == Some(platform)).ok_or_else(|| {
        let has: Vec<String> = tools().filter_map(|f| f.platform).map(|p| p.to_string()).collect();
        let why = match has.is_empty() {
            true => format!("the bundle does not carry it, and {platform} needs it"),
            false => format!("the bundle carries it for {} only; this machine is {platform}", has.join(", ")),
        };
        LabError::failed(format!("tool `{name}`"), why)
            .hint(format!("add it to the profile's `[tool.{name}]` (`platforms`), or set `tools-from-path = true`"))
    })
}

/// A file is looked at whole once in a run: somebody may have altered it, and it is going to be run.
fn is_right(path: &Path, digest: &Digest) -> bool {
    let Ok(file) = fs_err::File::open(path) else { return false };
    let runs = file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o777 == 0o755);
    runs && hash_reader(file).is_ok_and(|(found, _)| found == *digest)
}

/// Takes a blob of the bundle to `path`, whole, checked and executable, or not at all.
fn extract(session: &Session, digest: &Digest, path: &Path) -> Result<(), LabError> {
    copy(session, digest, path, 0o755)
}

/// Takes a blob of the bundle to `path` with `mode`, whole and checked, or not at all.
///
/// # Errors
/// A blob that is not there or damaged; a path that can not be written.
pub(super) fn copy(session: &Session, digest: &Digest, path: &Path, mode: u32) -> Result<(), LabError> {
    let what = || format!("`{}` out of `{}`", path.display(), session.bundle.path().display());
    let member = session.bundle.blob(digest).ok_or_else(|| LabError::mismatch(what(), "the bundle lacks the blob"))?;
    let folder = crate::base::atomic::parent(path);
    let mut temp = tempfile::NamedTempFile::new_in(folder).map_err(|e| LabError::io(folder, "create a file in", e))?;
    let mut reader = session.bundle.reader(member);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = reader.read(&mut buffer).map_err(|e| LabError::io(session.bundle.path(), "read", e))?;
        let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
        hasher.update(bytes);
        temp.write_all(bytes).map_err(|e| LabError::io(path, "write", e))?;
    }
    let found = hasher.finish();
    if found != *digest {
        return Err(LabError::mismatch(what(), format!("its digest is {found}, not {digest}"))
            .hint("the bundle was damaged or altered: `labimg check BUNDLE` tells what, then copy it anew"));
    }
    temp.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(|e| LabError::io(path, "write", e))?;
    temp.persist(path).map_err(|e| LabError::io(path, "write", e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::plain_name;

    #[test]
    fn names_lose_their_digests_only() {
        assert_eq!(plain_name("kind-0123456789ab"), "kind");
        assert_eq!(plain_name("docker-compose"), "docker-compose");
        assert_eq!(plain_name("sh"), "sh");
    }
}
