//! Wheels as the files they install: what `pip install` would leave, without running anything and without byte-code.
//!
//! Format: "Binary distribution format" and "Recording installed projects" (PyPA specifications). Libraries go to one
//! directory, programs to `/usr/local/bin`, data below `/usr/local`: where Debian's Python looks for what is not its own.
//!
//! | file | holds |
//! |---|---|
//! | `archive` | the zip file, read with suspicion |
//! | `metadata` | `WHEEL`, `METADATA`, `entry_points.txt` |
//! | `record` | `RECORD`, read and written |
//! | `install` | one wheel's files, each to its place |

mod archive;
mod install;
mod metadata;
mod record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::base::digest::hash_reader;
use crate::build::BuildError;
use crate::build::spool::Spool;
use crate::build::tree::{Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;
use crate::model::lock::LockedWheel;
use crate::model::pep440::same_version;
use crate::model::platform::Platform;
use crate::model::wheel::{PythonVersion, WheelName};

/// The interpreter of installed programs: what Debian calls its Python 3.
const INTERPRETER: &str = "/usr/bin/python3";

/// Where everything but libraries goes.
const PREFIX: &str = "usr/local";

/// The most bytes all wheels of one tree unpack to.
const MOST_BYTES: u64 = 16 << 30;

/// The files that `wheels` (each with the file that has its bytes) install for CPython `python` (`3.11`) on `platform`,
/// libraries under `to`. Contents are in a nameless file in `scratch`. The order of `wheels` makes no difference.
///
/// # Errors
/// [`BuildError::Bad`] for a wheel that is not what the lock says, not for that Python and platform, or not as the format
/// wants it; [`BuildError::Clash`] when two wheels have one file; I/O errors.
pub fn wheel_tree(
    wheels: &[(LockedWheel, PathBuf)],
    to: &GuestPath,
    python: &str,
    platform: Platform,
    scratch: &Path,
) -> Result<Tree, BuildError> {
    let python = PythonVersion::parse(python)
        .map_err(|e| BuildError::user(e.to_string(), "write `python = \"3.11\"` in the [[wheel]] table"))?;
    let mut sorted: Vec<&(LockedWheel, PathBuf)> = wheels.iter().collect();
    sorted.sort_by(|a, b| a.0.file.cmp(&b.0.file));
    let mut spool = Spool::new(scratch)?;
    let mut tree = Tree::default();
    for (locked, path) in sorted {
        let what = format!("wheel {}", locked.file);
        let name = checked_name(&what, locked, python, platform)?;
        checked_bytes(&what, locked, path)?;
        let place = install::Place { what: &what, name: &name, locked, to, python };
        for (path, entry) in install::install(&place, path, &mut spool)? {
            put(&mut tree, path, entry)?;
        }
    }
    spool.flush()?;
    Ok(tree)
}

/// What the file name says, where it agrees with the lock and fits.
fn checked_name(
    what: &str,
    locked: &LockedWheel,
    python: PythonVersion,
    platform: Platform,
) -> Result<WheelName, BuildError> {
    let name = WheelName::parse(&locked.file).map_err(|e| BuildError::bad(what, e.to_string()))?;
    if name.project() != locked.project || !same_version(&name.version, &locked.version) {
        let why = format!("the lock calls it {} {}", locked.project, locked.version);
        return Err(BuildError::bad(what, why));
    }
    if !name.tag.fits(python, platform) {
        let why = format!("it is for {}, not for Python {python} on {platform}", name.tag.text());
        return Err(BuildError::bad(what, why));
    }
    Ok(name)
}

fn checked_bytes(what: &str, locked: &LockedWheel, path: &Path) -> Result<(), BuildError> {
    let file = fs_err::File::open(path).map_err(|e| BuildError::io(path, "open", e))?;
    let (digest, size) = hash_reader(file).map_err(|e| BuildError::io(path, "read", e))?;
    if (digest, size) == (locked.digest, locked.size) {
        return Ok(());
    }
    let why = format!("it has digest {digest} ({size} bytes), the lock says {} ({} bytes)", locked.digest, locked.size);
    Err(BuildError::bad(what, why))
}

/// Puts a file where nobody has one.
fn put(tree: &mut Tree, path: GuestPath, entry: Entry) -> Result<(), BuildError> {
    let clash = |path: &GuestPath, there: &Entry| BuildError::Clash {
        path: path.clone(),
        one: there.origin.to_string(),
        other: entry.origin.to_string(),
    };
    if let Some(there) = tree.get(&path) {
        return Err(clash(&path, there));
    }
    let mut above = path.parent();
    while let Some(dir) = above {
        if let Some(there) = tree.get(&dir).filter(|there| !matches!(there.kind, Kind::Dir)) {
            return Err(clash(&dir, there));
        }
        above = dir.parent();
    }
    tree.put(path, entry);
    Ok(())
}
