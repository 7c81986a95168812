//! One file where another is wanted: a bundle for a profile, a profile for a bundle. Said as that, with what to type.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::OpsError;
use crate::base::shell::word;
use crate::store::bundle::INDEX_PATH;

/// Most of a file that is read to find a lab's name, in bytes.
const HEAD: u64 = 64 << 10;

/// Why the file at `path` is no profile, where that can be told before it is read as one.
pub(super) fn not_a_profile(path: &Path) -> Option<OpsError> {
    let shown = path.display();
    let end = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let Ok(meta) = fs_err::metadata(path) else {
        return beside(path, "toml").map(|there| {
            OpsError::hinted(format!("there is no file `{shown}`"), format!("did you mean `{}`?", there.display()))
        });
    };
    if meta.is_dir() {
        let hint = profiles_in(path).unwrap_or_else(|| "name a profile: a `.toml` file".to_owned());
        return Some(OpsError::hinted(format!("`{shown}` is a directory, not a file"), hint));
    }
    if meta.is_file() && head(path, 512).starts_with(INDEX_PATH.as_bytes()) {
        let message = format!("`{shown}` is a bundle; a profile is wanted here, which bundles are made from");
        return Some(OpsError::hinted(message, format!("`labimg inspect {}` shows what it is", word(path))));
    }
    if meta.is_file() && end == "lock" {
        let hint = match path.with_extension("toml") {
            profile if profile.is_file() => format!("its profile is `{}`", profile.display()),
            _ => "name the profile it was made from".to_owned(),
        };
        return Some(OpsError::hinted(format!("`{shown}` is a lock; a profile is wanted here"), hint));
    }
    None
}

/// What to type where the file at `path` was taken for a bundle and is none; `None` where nothing is known of it.
pub(super) fn not_a_bundle(path: &Path) -> Option<String> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => {
            let name = lab_name(path).unwrap_or_else(|| "NAME".to_owned());
            Some(format!("that is a profile; `labimg build {}` makes its bundle, `{name}.labimg`", word(path)))
        }
        Some("lock") => {
            Some("that is a lock; a bundle is a `.labimg` file, which `labimg build PROFILE` writes".to_owned())
        }
        Some("box") => Some("that is a Vagrant box; a bundle is a `.labimg` file".to_owned()),
        _ if path.is_dir() => Some("name the bundle in it: a `.labimg` file".to_owned()),
        _ => None,
    }
}

/// The bundle that is meant by a name without its ending.
pub(super) fn bundle_beside(path: &Path) -> Option<String> {
    beside(path, "labimg").map(|there| format!("did you mean `{}`?", there.display()))
}

/// The file of that name with that ending, where the name alone is none.
fn beside(path: &Path, ending: &str) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(format!(".{ending}"));
    let there = path.with_file_name(name);
    (!path.exists() && there.is_file()).then_some(there)
}

fn profiles_in(dir: &Path) -> Option<String> {
    let names = fs_err::read_dir(dir).ok()?.filter_map(Result::ok).map(|e| e.path());
    let mut found: Vec<PathBuf> = names.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    found.sort();
    let shown: Vec<String> = found.iter().take(5).map(|p| format!("`{}`", p.display())).collect();
    (!shown.is_empty()).then(|| format!("name a profile in it: {}", shown.join(", ")))
}

/// The name that a profile gives its lab.
fn lab_name(path: &Path) -> Option<String> {
    let text = String::from_utf8(head(path, HEAD)).ok()?;
    let table: toml::Table = text.parse().ok()?;
    Some(table.get("name")?.as_str()?.to_owned())
}

/// The first bytes of a regular file; none where it can not be read.
fn head(path: &Path, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let regular = fs_err::metadata(path).is_ok_and(|m| m.is_file());
    if let Some(file) = regular.then(|| fs_err::File::open(path).ok()).flatten() {
        // What can not be read is told by who reads it next.
        let _ = file.take(most).read_to_end(&mut bytes);
    }
    bytes
}
