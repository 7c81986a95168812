//! The files beside a profile: where they may come from, and how they are opened.
//!
//! Whoever wrote a profile says which files of this machine go into a bundle. So they come from below the profile's folder,
//! or below a root: a folder that the person at this machine names, else the repository the profile is in. What counts is
//! where a path ends after all links.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::OpsError;
use crate::base::bounds::PROFILE_BYTES;
use crate::base::digest::{Digest, hash_reader};
use crate::base::regular;

/// What marks the top of a repository, and holds what is nobody's input: a token may stand in its configuration.
const GIT: &str = ".git";

/// What the person at this machine says on where local files come from.
#[derive(Debug, Clone, Default)]
pub struct LocalRoots {
    /// The folder that profiles may take files from, in place of their repository.
    pub named: Option<PathBuf>,
    /// The person's home: never a root of itself, as everything private is below it.
    pub home: Option<PathBuf>,
}

/// The folders that the files of one profile come from.
#[derive(Debug, Clone)]
pub struct Locals {
    /// The profile's folder as it was given.
    dir: PathBuf,
    /// The same without links.
    folder: PathBuf,
    /// The root, without links, where there is one.
    root: Option<PathBuf>,
}

/// Why a local file is not taken.
#[derive(Debug)]
pub enum Refused {
    /// It leads out of the folders that files may come from.
    Outside {
        /// What it is and where it leads.
        why: String,
        /// What to do.
        hint: String,
    },
    /// It can not be read.
    Io(io::Error),
}

impl Refused {
    /// What is wrong.
    pub fn why(&self) -> String {
        match self {
            Self::Outside { why, .. } => why.clone(),
            Self::Io(e) if e.kind() == io::ErrorKind::NotFound => "it is not there".to_owned(),
            Self::Io(e) => e.to_string(),
        }
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Outside { hint, .. } => Some(hint),
            Self::Io(e) if e.kind() == io::ErrorKind::NotFound => {
                Some("paths are relative to the file that names them")
            }
            Self::Io(e) if e.kind() == io::ErrorKind::IsADirectory => Some("name one file, not a folder"),
            Self::Io(_) => None,
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Locals {
    /// The folders for profiles in the folder `dir`.
    ///
    /// # Errors
    /// A folder that is not there.
    pub fn of(dir: &Path, said: &LocalRoots) -> Result<Self, OpsError> {
        let folder = fs_err::canonicalize(dir)?;
        let root = match &said.named {
            Some(named) => Some(fs_err::canonicalize(named).map_err(|e| {
                OpsError::hinted(
                    format!("the root for local files, `{}`, can not be used: {e}", named.display()),
                    "it is what `--root`, LABIMG_ROOT or the setting `root` says",
                )
            })?),
            None => {
                repository(&folder, said.home.as_deref().and_then(|home| fs_err::canonicalize(home).ok()).as_deref())
            }
        };
        Ok(Self { dir: dir.to_owned(), folder, root })
    }

    /// Where `local`, a path as the profile has it, is.
    pub fn path(&self, local: &str) -> PathBuf {
        self.dir.join(local)
    }

    /// Makes sure that `path` leads to where files may come from; gives the folder it is below, and the rest, without links.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn resolve(&self, path: &Path) -> Result<(&Path, PathBuf), Refused> {
        let real = fs_err::canonicalize(path)?;
        let mut allowed = [Some(self.folder.as_path()), self.root.as_deref()].into_iter().flatten();
        let found = allowed.find_map(|top| Some((top, real.strip_prefix(top).ok()?.to_owned())));
        let Some((top, below)) = found else { return Err(self.outside(path, &real)) };
        if below.components().any(|part| part.as_os_str() == GIT) {
            let why = format!("`{}` belongs to git, and is no input", path.display());
            return Err(Refused::Outside { why, hint: "copy what you need out of it".to_owned() });
        }
        Ok((top, below))
    }

    fn outside(&self, path: &Path, real: &Path) -> Refused {
        let leads = match path.is_symlink() {
            true => format!("`{}` is a link to `{}`", path.display(), real.display()),
            false => format!("`{}` is `{}`", path.display(), real.display()),
        };
        let from = match self.root.as_ref().filter(|root| **root != self.folder) {
            Some(root) => format!("`{}` and `{}`", self.folder.display(), root.display()),
            None => format!("`{}`", self.folder.display()),
        };
        Refused::Outside {
            why: format!("{leads}; files of this profile come from below {from}"),
            hint: "copy it there; or, where you trust the profile, name the folder it may take files from: --root DIR"
                .to_owned(),
        }
    }

    /// Opens the file at `path`: a regular one, from where files may come from.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(&self, path: &Path) -> Result<fs_err::File, Refused> {
        let (top, below) = self.resolve(path)?;
        Ok(regular::open_below(top, &below)?)
    }

    /// Digest and size of the file at `path`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn hash(&self, path: &Path) -> Result<(Digest, u64), Refused> {
        Ok(hash_reader(self.open(path)?)?)
    }

    /// The text of the file at `path`.
    ///
    /// # Errors
    /// [`Refused`]; a text that is not UTF-8.
    pub fn text(&self, path: &Path) -> Result<String, Refused> {
        let bytes = regular::read_all(self.open(path)?, path, PROFILE_BYTES)?;
        let not_text = |_| io::Error::other(format!("`{}` is not UTF-8 text", path.display()));
        Ok(String::from_utf8(bytes).map_err(not_text)?)
    }
}

/// The nearest folder from `folder` on upwards that holds `.git`. None of these counts: the file system's root, `home` and
/// what is above it, and a folder that anybody may write to, as `/tmp`: whoever put `.git` there need not be the person.
fn repository(folder: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let found = folder.ancestors().find(|dir| fs_err::symlink_metadata(dir.join(GIT)).is_ok())?;
    let too_wide = found.parent().is_none() || home.is_some_and(|home| home.starts_with(found));
    let mode = fs_err::metadata(found).ok()?.permissions().mode();
    (!too_wide && mode & 0o002 == 0).then(|| found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed(tempfile::TempDir);

    impl Bed {
        fn new(dirs: &[&str]) -> Self {
            let bed = Self(tempfile::tempdir().unwrap());
            for dir in dirs {
                fs_err::create_dir_all(bed.at(dir)).unwrap();
            }
            bed
        }

        fn at(&self, name: &str) -> PathBuf {
            fs_err::canonicalize(self.0.path()).unwrap().join(name)
        }

        fn locals(&self, named: Option<&str>) -> Locals {
            let said = LocalRoots { named: named.map(|n| self.at(n)), home: Some(self.at("home")) };
            Locals::of(&self.at("home/repo/profiles"), &said).unwrap()
        }

        fn told(&self, locals: &Locals, path: &str) -> String {
            match locals.text(&self.at(path)) {
                Ok(text) => text,
                Err(refused) => refused.why(),
            }
        }
    }

    #[test]
    fn files_come_from_the_folder_or_the_repository() {
        let bed = Bed::new(&["home/repo/.git", "home/repo/profiles", "home/repo/images", "home/.ssh"]);
        for file in ["home/repo/.git/config", "home/repo/profiles/a", "home/repo/images/b", "home/.ssh/key"] {
            fs_err::write(bed.at(file), "text").unwrap();
        }
        let link = |to: &str, at: &str| fs_err::os::unix::fs::symlink(to, bed.at(at)).unwrap();
        link("../images/b", "home/repo/profiles/inside");
        link("../../.ssh/key", "home/repo/profiles/outside");
        link("../../.ssh", "home/repo/profiles/folder");
        link("../.git", "home/repo/profiles/git");
        let locals = bed.locals(None);
        for good in ["a", "../images/b", "inside"] {
            assert_eq!(bed.told(&locals, &format!("home/repo/profiles/{good}")), "text");
        }
        for bad in ["outside", "folder/key", "../../.ssh/key", "../../../home/.ssh/key"] {
            let told = bed.told(&locals, &format!("home/repo/profiles/{bad}"));
            assert!(told.contains("home/.ssh/key`; files of this profile come from below"), "{bad}: {told}");
        }
        for bad in ["../.git/config", "git/config"] {
            assert!(bed.told(&locals, &format!("home/repo/profiles/{bad}")).contains("belongs to git"), "{bad}");
        }
        // A root that the person names takes the repository's place.
        let locals = bed.locals(Some("home/.ssh"));
        assert_eq!(bed.told(&locals, "home/repo/profiles/outside"), "text");
        assert!(bed.told(&locals, "home/repo/images/b").contains("home/.ssh`"));
    }

    #[test]
    fn a_home_or_a_folder_of_everybody_is_no_repository() {
        let bed = Bed::new(&["home/repo/profiles", "home/.git", ".git"]);
        assert_eq!(bed.locals(None).root, None);
        fs_err::remove_dir(bed.at("home/.git")).unwrap();
        assert_eq!(bed.locals(None).root, None, "above home");
        fs_err::create_dir(bed.at("home/repo/.git")).unwrap();
        assert_eq!(bed.locals(None).root, Some(bed.at("home/repo")));
        fs_err::set_permissions(bed.at("home/repo"), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(bed.locals(None).root, None, "anybody may have put it there");
        let said = LocalRoots { named: Some(bed.at("gone")), home: None };
        assert!(Locals::of(&bed.at("home"), &said).unwrap_err().hint().unwrap().contains("--root"));
    }
}
