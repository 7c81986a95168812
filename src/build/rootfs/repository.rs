//! A repository of exactly the locked packages, in a folder (Debian wiki, "DebianRepository/Format"; flat, as sources.list(5)
//! has it with `./`). Its index is made from the packages themselves, sorted: the same packages give the same bytes.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::base::digest::Digest;
use crate::build::BuildError;
use crate::build::debian::unpack;
use crate::model::lock::LockedPackage;
use crate::store::Store;

/// The folder the packages are in.
const POOL: &str = "pool";

/// Makes the repository in the empty folder `dir`. Every package is hashed: what apt installs is trusted for being in here.
///
/// # Errors
/// Packages that are not in the store or are not what the lock says; I/O errors.
pub(super) fn write(store: &Store, packages: &[LockedPackage], dir: &Path) -> Result<(), BuildError> {
    let pool = dir.join(POOL);
    fs_err::create_dir_all(&pool).map_err(|e| BuildError::io(&pool, "create", e))?;
    let mut sorted: Vec<&LockedPackage> = packages.iter().collect();
    sorted.sort_by_key(|p| p.key());
    let mut index = String::new();
    for package in sorted {
        store.verify(&package.digest)?;
        index += &stanza(store, package)?;
        let to = dir.join(file_name(package));
        if !to.exists() {
            place(&store.blob_path(&package.digest), &to)?;
        }
    }
    let release = release(&index);
    for (name, text) in [("Packages", &index), ("Release", &release)] {
        let path = dir.join(name);
        fs_err::write(&path, text).map_err(|e| BuildError::io(&path, "write", e))?;
        readable(&path)?;
    }
    [dir, &pool].iter().try_for_each(|d| {
        let mode = std::fs::Permissions::from_mode(0o755);
        fs_err::set_permissions(d, mode).map_err(|e| BuildError::io(d, "chmod", e))
    })
}

/// The package's own stanza, and where it is.
fn stanza(store: &Store, package: &LockedPackage) -> Result<String, BuildError> {
    let control = unpack::control(&mut store.blob_file(&package.digest)?, package)?;
    let mut text = String::new();
    let ours = ["filename", "size", "sha256", "status"];
    for (name, value) in control.stanza.fields.iter().filter(|(n, _)| !ours.contains(&n.to_lowercase().as_str())) {
        let _ = writeln!(text, "{name}: {value}");
    }
    let (file, hex) = (file_name(package), package.digest.hex());
    let _ = writeln!(text, "Filename: {file}\nSize: {}\nSHA256: {hex}\n", package.size);
    Ok(text)
}

/// No version is in a file's name: its characters mean something in URLs.
fn file_name(package: &LockedPackage) -> String {
    format!("{POOL}/{}.deb", package.digest.hex())
}

fn release(index: &str) -> String {
    let digest = Digest::of(index.as_bytes()).hex();
    format!("Origin: labimg\nLabel: labimg\nSHA256:\n {digest} {} Packages\n", index.len())
}

/// A hard link where that works, else a copy.
fn place(from: &Path, to: &Path) -> Result<(), BuildError> {
    if fs_err::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs_err::copy(from, to).map_err(|e| BuildError::io(to, "write", e))?;
    readable(to)
}

/// What was written here may be read by all, whatever the umask.
///
/// # Errors
/// I/O errors.
pub(super) fn readable(path: &Path) -> Result<(), BuildError> {
    let mode = std::fs::Permissions::from_mode(0o644);
    fs_err::set_permissions(path, mode).map_err(|e| BuildError::io(path, "chmod", e))
}
