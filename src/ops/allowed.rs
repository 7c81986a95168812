//! The settings files of folders that the person at this machine allowed: once each, and anew after every change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::OpsError;
use crate::base::digest::{Digest, hash_reader};
use crate::base::flock::{self, Mode};
use crate::base::{atomic, regular};

/// Largest record that is read, in bytes; each file that is allowed takes some hundred.
const MOST: u64 = 4 << 20;
/// How long another labimg may write the record.
const PATIENCE: Duration = Duration::from_secs(10);
/// First line of the record.
const HEADER: &str =
    "# Written by `labimg settings allow`: settings files of folders, as they were when you allowed them.\n";

/// The record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(default)]
    allowed: Vec<Allowed>,
}

/// A settings file that is allowed, with what it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The file, without links in its folder's path.
    pub file: PathBuf,
    /// Its content.
    pub sha256: Digest,
    /// Files it names whose content counts as much as its own (authorities, programs), and their content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<PathBuf, Digest>,
}

/// Whether a settings file may be used as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was allowed, and nothing changed.
    Allowed,
    /// It was never allowed.
    New,
    /// It was allowed; this file changed since.
    Changed(PathBuf),
}

impl Allowed {
    /// What is to be allowed: the settings file in its folder, its text, and the files it names.
    ///
    /// # Errors
    /// A file that can not be read.
    pub fn of(file: &Path, text: &str, names: &[PathBuf]) -> Result<Self, OpsError> {
        let named = |path: &PathBuf| -> Result<(PathBuf, Digest), OpsError> {
            let digest = regular::open(path).and_then(hash_reader).map_err(|e| {
                OpsError::user(format!("`{}` names `{}`, which can not be read: {e}", file.display(), path.display()))
            })?;
            Ok((canonical(path), digest.0))
        };
        let names = names.iter().map(named).collect::<Result<_, _>>()?;
        Ok(Self { file: canonical(file), sha256: Digest::of(text.as_bytes()), names })
    }
}

/// `path` with its folder resolved; the last part stays, so that a link is known by its own name.
fn canonical(path: &Path) -> PathBuf {
    let dir = fs_err::canonicalize(atomic::parent(path));
    let dir = dir.or_else(|_| std::path::absolute(atomic::parent(path)));
    dir.map_or_else(|_| path.to_owned(), |dir| dir.join(path.file_name().unwrap_or_default()))
}

/// How the settings file at `file`, which has `text` in it and names `names`, stands in the record at `record`.
///
/// # Errors
/// A record that can not be read.
pub fn standing(record: &Path, file: &Path, text: &str, names: &[PathBuf]) -> Result<Standing, OpsError> {
    let known = canonical(file);
    let Some(allowed) = read(record)?.allowed.into_iter().find(|a| a.file == known) else {
        return Ok(Standing::New);
    };
    if allowed.sha256 != Digest::of(text.as_bytes()) {
        return Ok(Standing::Changed(file.to_owned()));
    }
    let changed = names.iter().find(|path| {
        let now = regular::open(path).and_then(hash_reader).map(|(digest, _)| digest).ok();
        now.is_none() || allowed.names.get(&canonical(path)) != now.as_ref()
    });
    Ok(changed.map_or(Standing::Allowed, |path| Standing::Changed(path.clone())))
}

/// Puts `allowed` into the record at `record`, in place of what stood there of this file.
///
/// # Errors
/// A record that can not be read or written.
pub fn allow(record: &Path, allowed: Allowed) -> Result<(), OpsError> {
    change(record, |all| {
        all.retain(|a| a.file != allowed.file);
        all.push(allowed);
        all.sort_by(|a, b| a.file.cmp(&b.file));
    })
}

/// Takes the settings file at `file` out of the record; says whether it was there.
///
/// # Errors
/// A record that can not be read or written.
pub fn revoke(record: &Path, file: &Path) -> Result<bool, OpsError> {
    let known = canonical(file);
    let mut there = false;
    if read(record)?.allowed.iter().any(|a| a.file == known) {
        change(record, |all| {
            there = all.iter().any(|a| a.file == known);
            all.retain(|a| a.file != known);
        })?;
    }
    Ok(there)
}

fn change(record: &Path, with: impl FnOnce(&mut Vec<Allowed>)) -> Result<(), OpsError> {
    fs_err::create_dir_all(atomic::parent(record))?;
    let _writer = flock::lock(&record.with_extension("lock"), Mode::Exclusive, PATIENCE)
        .map_err(|e| OpsError::user(e.to_string()))?;
    let mut all = read(record)?;
    with(&mut all.allowed);
    let text = toml::to_string(&all).map_err(|e| OpsError::user(format!("`{}`: {e}", record.display())))?;
    Ok(atomic::write_file(record, format!("{HEADER}{text}").as_bytes())?)
}

fn read(record: &Path) -> Result<Record, OpsError> {
    let bytes = match regular::read(record, MOST) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
        other => other?,
    };
    let damaged = |why: String| {
        OpsError::hinted(
            format!("`{}` is damaged: {why}", record.display()),
            "remove it; every folder's settings are then to be allowed anew",
        )
    };
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8 text".to_owned()))?;
    toml::from_str(&text).map_err(|e: toml::de::Error| damaged(e.message().trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_a_content_in_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (record, file, ca) = (at("config/allowed.toml"), at("lab/x.toml"), at("lab/ca.pem"));
        fs_err::create_dir_all(at("lab")).unwrap();
        fs_err::write(&ca, "one").unwrap();
        let names = [ca.clone()];
        let stands = |file: &Path, text: &str| standing(&record, file, text, &names).unwrap();
        assert_eq!(stands(&file, "a"), Standing::New);
        allow(&record, Allowed::of(&file, "a", &names).unwrap()).unwrap();
        assert_eq!(stands(&file, "a"), Standing::Allowed);
        assert_eq!(stands(&at("lab/../lab/x.toml"), "a"), Standing::Allowed);
        assert_eq!(stands(&file, "b"), Standing::Changed(file.clone()));
        assert_eq!(stands(&at("x.toml"), "a"), Standing::New, "the same text elsewhere is another file");
        fs_err::write(&ca, "two").unwrap();
        assert_eq!(stands(&file, "a"), Standing::Changed(ca.clone()));
        fs_err::remove_file(&ca).unwrap();
        assert_eq!(stands(&file, "a"), Standing::Changed(ca.clone()));
        assert!(Allowed::of(&file, "a", &names).unwrap_err().to_string().contains("ca.pem"));
        assert!(revoke(&record, &file).unwrap() && !revoke(&record, &file).unwrap());
        assert_eq!(stands(&file, "a"), Standing::New);
        fs_err::write(&record, "rubbish").unwrap();
        assert!(standing(&record, &file, "a", &names).unwrap_err().to_string().contains("is damaged"));
    }
}
