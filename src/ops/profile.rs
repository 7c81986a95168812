//! Reads a profile from disk, with its imports, its files and its lock.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::OpsError;
use super::local::{LocalRoots, Locals, Refused};
use crate::base::bounds::{LOCK_BYTES, PROFILE_BYTES};
use crate::base::digest::Digest;
use crate::base::regular;
use crate::model::lock::{Lock, satisfies, wire};
use crate::model::profile::{ImageDefs, Inputs, Profile, ProfileError, parse_from};
use crate::model::source_map::{Diagnostic, SourceMap};

/// A profile on disk.
pub struct OnDisk {
    /// The profile's file.
    pub path: PathBuf,
    /// Its folder: local paths start here.
    pub dir: PathBuf,
    /// Where its files may come from.
    pub beside: Locals,
    /// The merged profile.
    pub profile: Profile,
    /// Where everything is written.
    pub sources: SourceMap,
    /// The `image.toml` files of images made here.
    pub defs: ImageDefs,
    /// What it needs from outside.
    pub inputs: Inputs,
    /// Digest and size of the files beside it.
    pub locals: BTreeMap<String, (Digest, u64)>,
}

/// Reads a profile; its files come from where `roots` lets them come from.
///
/// # Errors
/// A file that can not be read, and everything wrong with the profile.
pub fn load(path: &Path, roots: &LocalRoots) -> Result<OnDisk, OpsError> {
    if let Some(other) = super::mixed::not_a_profile(path) {
        return Err(other);
    }
    let text = read_text(path)?;
    let dir = crate::base::atomic::parent(path);
    let beside = Locals::of(dir, roots)?;
    let name = path.to_string_lossy().replace('\\', "/");
    let mut read = |import: &str| {
        beside.text(Path::new(import)).map_err(|e| match &e {
            Refused::Io(e) if e.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => [Some(e.why()), e.hint().map(str::to_owned)].into_iter().flatten().collect::<Vec<_>>().join("; "),
        })
    };
    let cwd = std::path::absolute(".").map(|dir| dir.to_string_lossy().replace('\\', "/")).unwrap_or_default();
    let loaded = parse_from(&cwd, &name, &text, &mut read)?;
    let defs = super::image_defs::load(dir, &beside, &cwd, &loaded)?;
    let inputs = loaded.profile.inputs(&defs);
    let mut disk = OnDisk {
        path: path.to_owned(),
        dir: dir.to_owned(),
        beside,
        profile: loaded.profile,
        sources: loaded.sources,
        defs,
        inputs,
        locals: BTreeMap::new(),
    };
    disk.locals = hash_locals(&disk)?;
    Ok(disk)
}

/// The text of a file that a person named.
fn read_text(path: &Path) -> Result<String, OpsError> {
    let bytes = regular::read(path, PROFILE_BYTES).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OpsError::user(format!("there is no file `{}`", path.display())),
        io::ErrorKind::IsADirectory => OpsError::user(format!("`{}` is a directory, not a file", path.display())),
        _ => e.into(),
    })?;
    String::from_utf8(bytes).map_err(|_| OpsError::user(format!("`{}` is not UTF-8 text", path.display())))
}

fn hash_locals(disk: &OnDisk) -> Result<BTreeMap<String, (Digest, u64)>, OpsError> {
    let hash = |local: &String| match disk.beside.hash(&disk.beside.path(local)) {
        Ok(hashed) => Ok((local.clone(), hashed)),
        Err(refused) => Err(not_taken(disk, local, &refused)),
    };
    disk.inputs.locals.iter().map(hash).collect()
}

/// Says where the profile names the file.
pub(super) fn not_taken(disk: &OnDisk, local: &str, refused: &Refused) -> OpsError {
    let message = format!("can not read `{}`: {}", disk.beside.path(local).display(), refused.why());
    match disk.profile.written_at(local) {
        Some(span) => {
            let found = Diagnostic::new(&disk.sources, &span, message);
            ProfileError::from(match refused.hint() {
                Some(hint) => found.hint(hint),
                None => found,
            })
            .into()
        }
        None => match refused.hint() {
            Some(hint) => OpsError::hinted(message, hint),
            None => OpsError::user(message),
        },
    }
}

impl OnDisk {
    /// The lock's file: beside the profile, with ending `.lock`.
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    /// The bundle's file name: after the lab.
    pub fn bundle_name(&self) -> String {
        format!("{}.labimg", *self.profile.name)
    }

    /// Reads the lock, where there is one.
    ///
    /// # Errors
    /// A lock that can not be read or used.
    pub fn read_lock(&self) -> Result<Option<Lock>, OpsError> {
        read_lock(&self.lock_path())
    }

    /// Reads the lock and makes sure that it answers the profile.
    ///
    /// # Errors
    /// No lock, one that can not be used, or a stale one.
    pub fn valid_lock(&self) -> Result<Lock, OpsError> {
        let path = self.lock_path();
        let lock = self.read_lock()?.ok_or_else(|| OpsError::NoLock(self.path.clone()))?;
        let stale = satisfies(&self.profile.name, &self.inputs, &self.locals, &lock);
        if stale.is_empty() { Ok(lock) } else { Err(OpsError::Stale { path, stale }) }
    }
}

/// Reads a lock file, where there is one.
///
/// # Errors
/// A lock that can not be read or used.
pub fn read_lock(path: &Path) -> Result<Option<Lock>, OpsError> {
    let bytes = match regular::read(path, LOCK_BYTES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let text =
        String::from_utf8(bytes).map_err(|_| OpsError::user(format!("`{}` is not UTF-8 text", path.display())))?;
    wire::parse(&text).map(Some).map_err(|source| OpsError::Lock { path: path.to_owned(), source })
}
