//! Reads a profile from disk, with its imports, its files and its lock.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::OpsError;
use crate::base::digest::{Digest, hash_reader};
use crate::model::lock::{Lock, satisfies, wire};
use crate::model::profile::{ImageDefs, Inputs, Profile, StepInput, parse_from};
use crate::model::source_map::{Diagnostic, SourceMap};

/// A profile on disk.
pub struct OnDisk {
    /// The profile's file.
    pub path: PathBuf,
    /// Its folder: local paths start here.
    pub dir: PathBuf,
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

/// Reads a profile.
///
/// # Errors
/// A file that can not be read, and everything wrong with the profile.
pub fn load(path: &Path) -> Result<OnDisk, OpsError> {
    if let Some(other) = super::mixed::not_a_profile(path) {
        return Err(other);
    }
    let text = read_text(path)?;
    let name = path.to_string_lossy().replace('\\', "/");
    let mut read = |import: &str| {
        read_text(Path::new(import)).map_err(|e| match Path::new(import).exists() {
            true => e.to_string(),
            false => "there is no such file".to_owned(),
        })
    };
    let cwd = std::path::absolute(".").map(|dir| dir.to_string_lossy().replace('\\', "/")).unwrap_or_default();
    let loaded = parse_from(&cwd, &name, &text, &mut read)?;
    let dir = crate::base::atomic::parent(path).to_owned();
    let defs = super::image_defs::load(&dir, &cwd, &loaded)?;
    let inputs = loaded.profile.inputs(&defs);
    let mut disk = OnDisk {
        path: path.to_owned(),
        dir,
        profile: loaded.profile,
        sources: loaded.sources,
        defs,
        inputs,
        locals: BTreeMap::new(),
    };
    disk.locals = hash_locals(&disk)?;
    Ok(disk)
}

pub(super) fn read_text(path: &Path) -> Result<String, OpsError> {
    let bytes = read_regular(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OpsError::user(format!("there is no file `{}`", path.display())),
        io::ErrorKind::IsADirectory => OpsError::user(format!("`{}` is a directory, not a file", path.display())),
        _ => e.into(),
    })?;
    String::from_utf8(bytes).map_err(|_| OpsError::user(format!("`{}` is not UTF-8 text", path.display())))
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    regular(path)?;
    fs_err::read(path)
}

/// Looks before anything is opened: opening a FIFO waits for somebody to write into it.
fn regular(path: &Path) -> io::Result<()> {
    let meta = fs_err::metadata(path)?;
    match (meta.is_file(), meta.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a file")),
        _ => Err(io::Error::other(format!("`{}` is no regular file", path.display()))),
    }
}

fn hash_locals(disk: &OnDisk) -> Result<BTreeMap<String, (Digest, u64)>, OpsError> {
    let mut found = BTreeMap::new();
    for local in &disk.inputs.locals {
        let path = disk.dir.join(local);
        let hashed = regular(&path).and_then(|()| fs_err::File::open(&path)).and_then(hash_reader);
        match hashed {
            Ok(hashed) => found.insert(local.clone(), hashed),
            Err(e) => return Err(missing_local(disk, local, &e)),
        };
    }
    Ok(found)
}

fn missing_local(disk: &OnDisk, local: &str, error: &io::Error) -> OpsError {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        _ => error.to_string(),
    };
    let message = format!("can not read `{}`: {why}", disk.dir.join(local).display());
    let p = &disk.profile;
    let mut places = p
        .host
        .iter()
        .filter_map(|h| h.compose.as_ref())
        .chain(p.chart.iter().filter_map(|c| c.values.as_ref()))
        .chain(p.manifest.iter().filter_map(|m| m.path.as_ref()))
        .chain(p.file.iter().filter_map(|f| f.path.as_ref()))
        .chain(p.text.iter().map(|t| &t.path))
        .chain(p.debian.values().filter_map(|d| d.keyring.as_ref()));
    let step_paths = p.step.iter().flat_map(|s| s.inputs.values());
    let mut step_paths = step_paths.filter(|i| StepInput::parse(i) == Some(StepInput::Path(local)));
    match places.find(|place| place.as_str() == local).or_else(|| step_paths.next()) {
        Some(place) => {
            let hint = match disk.dir.join(local).is_dir() {
                true => "name one file, not a folder",
                false => "paths are relative to the file that names them",
            };
            let told = Diagnostic::new(&disk.sources, &place.span(), message).hint(hint);
            crate::model::profile::ProfileError::from(told).into()
        }
        None => OpsError::user(message),
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
    match fs_err::read_to_string(path) {
        Ok(text) => {
            let lock = wire::parse(&text).map_err(|source| OpsError::Lock { path: path.to_owned(), source })?;
            Ok(Some(lock))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}
