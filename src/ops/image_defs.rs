//! Reads the `image.toml` files that a profile's images are made from, and finds the files they name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::OpsError;
use super::local::{Locals, Refused};
use crate::model::image_def::ImageDef;
use crate::model::image_def_load::parse_from as parse_def;
use crate::model::profile::{DefOnDisk, ImageDefs, LoadedProfile, ProfileError, check_def, join_path};
use crate::model::source_map::{Diagnostic, SourceMap};

/// Most files one `from` may mean; a folder of sources never has as many, a checkout with its `node_modules` does.
const MAX_FILES: usize = 10_000;

/// Reads every `image.toml` the profile in the folder `dir` names; files come from where `beside` lets them come from.
///
/// # Errors
/// A file that can not be read, and everything wrong with it.
pub(super) fn load(dir: &Path, beside: &Locals, cwd: &str, loaded: &LoadedProfile) -> Result<ImageDefs, OpsError> {
    let mut defs = ImageDefs::new();
    for build in loaded.profile.image.iter().filter_map(|i| i.build.as_ref()) {
        if defs.contains_key(build.as_str()) {
            continue;
        }
        let path = PathBuf::from(join_path(&dir.to_string_lossy().replace('\\', "/"), build));
        if !path.is_file() {
            let (text, hint) = match path.is_dir() {
                true => (
                    format!("`{}` is a folder", path.display()),
                    format!("name the file in it: {}/image.toml", **build),
                ),
                false => (
                    format!("there is no file `{}`", path.display()),
                    "paths are relative to the file that names them".to_owned(),
                ),
            };
            return Err(told(Diagnostic::new(&loaded.sources, &build.span(), text).hint(hint)));
        }
        let name = path.to_string_lossy();
        let text = beside.text(&path).map_err(|refused| {
            let why = format!("can not read `{}`: {}", path.display(), refused.why());
            told(hinted(Diagnostic::new(&loaded.sources, &build.span(), why), &refused))
        })?;
        let found = parse_def(cwd, &name, &text)?;
        let wrong = check_def(&loaded.profile, &found.def, &found.sources);
        if !wrong.is_empty() {
            return Err(ProfileError { diagnostics: wrong }.into());
        }
        let files = files(beside, build, &found.def, &found.sources)?;
        defs.insert(build.to_string(), DefOnDisk { def: found.def, files, sources: found.sources });
    }
    Ok(defs)
}

fn told(diagnostic: Diagnostic) -> OpsError {
    ProfileError::from(diagnostic).into()
}

fn hinted(diagnostic: Diagnostic, refused: &Refused) -> Diagnostic {
    match refused.hint() {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// For every `from` beside the `image.toml` at `build`: the files it means.
fn files(
    beside: &Locals,
    build: &str,
    def: &ImageDef,
    sources: &SourceMap,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, OpsError> {
    let folder = build.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut all = BTreeMap::new();
    for from in def.file.iter().filter_map(|f| f.from.as_ref()).filter(|f| !f.starts_with("step:")) {
        let local = join_path(folder, from);
        let mut found = BTreeMap::new();
        walk(beside, &local, "", &mut found).map_err(|refused| {
            let text = format!("can not take `{}`: {}", beside.path(&local).display(), refused.why());
            told(hinted(Diagnostic::new(sources, &from.span(), text), &refused))
        })?;
        all.insert(from.to_string(), found);
    }
    Ok(all)
}

/// Regular files at and under `local`, by path below the start; symbolic links are refused: where they lead is no input. Links
/// on the way to the start are followed, as far as they lead to where files may come from.
fn walk(beside: &Locals, local: &str, below: &str, found: &mut BTreeMap<String, String>) -> Result<(), Refused> {
    // The profile's own folder is an empty `local`: what is below it must not become a path from the file system's root.
    let at = join_path(local, below);
    let path = beside.path(&at);
    let meta = fs_err::symlink_metadata(&path)?;
    if meta.is_symlink() || !(meta.is_file() || meta.is_dir()) {
        let what = if meta.is_symlink() {
            "a symbolic link: where it leads is no input"
        } else {
            "neither a file nor a folder"
        };
        return Err(io::Error::other(format!("`{at}` is {what}")).into());
    }
    beside.resolve(&path)?;
    if meta.is_file() {
        found.insert(below.to_owned(), at);
        let many = || io::Error::other(format!("it holds more than {MAX_FILES} files")).into();
        return if found.len() > MAX_FILES { Err(many()) } else { Ok(()) };
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(&path)? {
        let name = entry?.file_name();
        names.push(name.into_string().map_err(|name| io::Error::other(format!("the name {name:?} is not UTF-8")))?);
    }
    names.sort();
    for name in names {
        walk(beside, local, &if below.is_empty() { name } else { format!("{below}/{name}") }, found)?;
    }
    Ok(())
}
