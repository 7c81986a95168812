//! A lab's boxes into Vagrant's home, out of its folder for Vagrant or out of its bundle.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::bounded;
use crate::base::digest::Digest;
use crate::base::null;
use crate::base::shell::word;
use crate::base::{atomic, regular};
use crate::build::vagrant_lab::BOXES;
use crate::lab::vagrant::import::{Imported, Wanted, import, is_plain};
use crate::lab::vagrant::{Folder, LAB_FILE};
use crate::lab::{Machine, State};
use crate::model::profile::{Profile, Reach};
use crate::ops::check::profile_in;
use crate::ops::{Ctx, OpsError, boxes};
use crate::store::bundle::Bundle;

/// How labs are found that `labimg status` does not know.
const FOLDERS: &str = "`labimg status` lists labs, `labimg up BUNDLE` brings one up; Vagrant's machines are verified in their \
                       folder: cd FOLDER && labimg verify, or: labimg verify --vagrant FOLDER";

/// The largest `lab.json` or catalog that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// Where boxes are, and which are wanted.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The lab's bundle, or the folder of its `Vagrantfile`.
    pub lab: PathBuf,
    /// The folder to make, where `lab` is a bundle; else it stands beside the bundle.
    pub out: Option<PathBuf>,
    /// Vagrant's provider. Where not given: of a folder, the lab's first, for Vagrant finds the others in it; of a bundle, all.
    pub provider: Option<String>,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LabImported {
    /// Where `vagrant up` is typed.
    pub folder: PathBuf,
    /// Names of the machines that come up.
    pub machines: Vec<String>,
    /// The boxes.
    pub boxes: Vec<Imported>,
}

/// What of `lab.json` an import needs.
#[derive(Deserialize)]
struct LabJson {
    providers: Vec<String>,
    hosts: Vec<HostJson>,
}

#[derive(Deserialize)]
struct HostJson {
    name: String,
    catalog: String,
}

/// A catalog (Vagrant, "Box file format", "Box metadata").
#[derive(Deserialize)]
struct Catalog {
    name: String,
    #[serde(default, deserialize_with = "null::in_list")]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default, deserialize_with = "null::in_list")]
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    url: String,
    checksum: String,
}

/// The bundle of a folder's lab, where that lab is the one a person names: a bundle that is named, else the folder's own.
///
/// # Errors
/// A file that is named and is no bundle; a bundle of the folder's own that is not there any more.
pub(super) fn bundle_of(folder: &Folder, lab: Option<&str>) -> Result<Option<PathBuf>, OpsError> {
    match lab {
        Some(name) if name != folder.lab => {
            let path = Path::new(name);
            Ok((path.is_file() && Bundle::open_checked(path)?.index().name == folder.lab).then(|| path.to_owned()))
        }
        _ if folder.bundle.is_file() => Ok(Some(folder.bundle.clone())),
        _ => Err(OpsError::hinted(
            format!(
                "there is no bundle `{}`, where `{}` looks for it",
                folder.bundle.display(),
                folder.dir().join(LAB_FILE).display()
            ),
            format!("name the bundle: labimg verify BUNDLE --vagrant {}", word(folder.dir())),
        )),
    }
}

/// Whether Vagrant alone brings the lab up.
pub(super) fn all_is_vagrants(profile: &Profile) -> bool {
    let nothing_else = profile.cluster.is_empty() && profile.deploy.is_empty();
    nothing_else && !profile.host.is_empty() && profile.host.iter().all(|h| h.reach == Reach::Vagrant)
}

/// Whether Vagrant runs machines of the lab.
pub(super) fn has_vagrants(profile: &Profile) -> bool {
    profile.host.iter().any(|h| h.reach == Reach::Vagrant)
}

/// What to type for the machines of lab `name` in `bundle` to come up.
pub(super) fn how_to_come_up(bundle: &Path, name: &str) -> String {
    let folder = boxes::folder_of(bundle, name);
    format!("labimg box import {}, then: cd {} && vagrant up", word(bundle), word(&folder))
}

/// That a lab is not up, with what to type where it is, or may be, one of machines that Vagrant runs.
pub(super) fn in_its_folder(error: OpsError, machine: &Machine, lab: Option<&str>) -> OpsError {
    let up = |name: &str| State::new(&machine.state_root, name).dir().is_dir();
    let named = lab.map(Path::new).filter(|path| path.is_file());
    let profile = named.and_then(|path| profile_in(&Bundle::open_checked(path).ok()?).ok());
    let hint = match (named, profile, lab) {
        (Some(path), Some(p), _) if p.host.iter().any(|h| h.reach == Reach::Vagrant) && !up(&p.name) => {
            let folder = boxes::folder_of(path, &p.name);
            match Folder::open(&folder) {
                Ok(Some(_)) => format!("Vagrant runs its machines: cd {} && labimg verify", word(&folder)),
                _ => format!(
                    "Vagrant runs its machines: {} && labimg verify; where that folder is elsewhere: --vagrant FOLDER",
                    how_to_come_up(path, &p.name)
                ),
            }
        }
        (None, None, Some(name)) if !up(name) => FOLDERS.to_owned(),
        (None, None, None) if State::labs(&machine.state_root).is_ok_and(|labs| labs.is_empty()) => FOLDERS.to_owned(),
        _ => return error,
    };
    OpsError::hinted(error.to_string(), hint)
}

/// Puts the boxes of a lab into Vagrant's `home`. Out of a bundle, its folder for Vagrant is made first; the boxes go from the
/// bundle to Vagrant without standing in between.
///
/// # Errors
/// Neither a bundle with boxes nor a folder of a lab, a provider it has no boxes for, boxes that are not what their catalog says.
pub fn box_import(ctx: &Ctx, options: &ImportOptions, home: &Path) -> Result<LabImported, OpsError> {
    let named = match options.lab.is_dir() {
        true => None,
        false => Some(Bundle::open_checked(&options.lab)?),
    };
    let dir = match (&named, &options.out) {
        (Some(bundle), out) => boxes::write_from(bundle, out.as_deref(), options.provider.as_deref())?,
        (None, None) => options.lab.clone(),
        (None, Some(_)) => {
            let message = format!("`{}` is a folder already: `--out` is for a bundle", options.lab.display());
            return Err(OpsError::hinted(message, "leave --out away, or name the bundle"));
        }
    };
    let Some(folder) = Folder::open(&dir)? else {
        return Err(OpsError::hinted(
            format!("`{}` has no Vagrantfile of labimg's", dir.display()),
            "`labimg build PROFILE` writes one, in a folder beside the bundle; `labimg box import BUNDLE` makes it anew",
        ));
    };
    let lab: LabJson = read(&dir.join(LAB_FILE))?;
    let wanted = wanted_providers(&lab, options.provider.as_deref(), named.is_some());
    let mut place = Place { folder, bundle: named };
    let mut boxes = Vec::new();
    for path in catalogs(&dir, &lab)? {
        boxes.extend(of_catalog(ctx, &path, &wanted, &mut place, home)?);
    }
    let machines = lab.hosts.into_iter().map(|h| h.name).collect();
    Ok(LabImported { folder: dir, machines, boxes })
}

/// Imports the boxes that a catalog names for these providers.
fn of_catalog(
    ctx: &Ctx,
    path: &Path,
    providers: &[String],
    place: &mut Place,
    home: &Path,
) -> Result<Vec<Imported>, OpsError> {
    let catalog: Catalog = read(path)?;
    let url = fs_err::canonicalize(path).ok().map(|p| format!("file://{}", p.display()));
    let mut done = Vec::new();
    for version in &catalog.versions {
        for provider in providers {
            let entry = version.provider(provider, &catalog.name)?;
            if !is_plain(&entry.url) {
                return Err(OpsError::user(format!(
                    "`{}` says that a box is at {:?}: a box stands beside its catalog",
                    path.display(),
                    entry.url
                )));
            }
            let digest = Digest::from_hex(&entry.checksum)
                .map_err(|e| OpsError::user(format!("`{}`: checksum: {e}", path.display())))?;
            let (file, part) = place.find(&atomic::parent(path).join(&entry.url), &digest)?;
            let (name, version, provider) = (catalog.name.clone(), version.version.clone(), entry.name.clone());
            let wanted = Wanted { name, version, provider, file, part, digest };
            done.push(import(&wanted, home, url.as_deref(), ctx.reporter.as_ref())?);
        }
    }
    Ok(done)
}

/// The catalogs of the lab's machines; of a lab that has boxes alone, all of them.
fn catalogs(dir: &Path, lab: &LabJson) -> Result<BTreeSet<PathBuf>, OpsError> {
    if !lab.hosts.is_empty() {
        let one = |h: &HostJson| match h.catalog.strip_prefix("boxes/").filter(|name| is_plain(name)) {
            Some(name) => Ok(dir.join(BOXES).join(name)),
            None => {
                let lab = dir.join(LAB_FILE);
                Err(OpsError::user(format!("`{}`: no catalog is at {:?}", lab.display(), h.catalog)))
            }
        };
        return lab.hosts.iter().map(one).collect();
    }
    let mut found = BTreeSet::new();
    for entry in fs_err::read_dir(dir.join(BOXES))? {
        let path = entry?.path();
        found.extend(path.extension().is_some_and(|end| end == "json").then_some(path));
    }
    Ok(found)
}

/// Names of providers as boxes have them, each once: vagrant-qemu takes libvirt's boxes, and asks for them by that name.
fn wanted_providers(lab: &LabJson, asked: Option<&str>, all: bool) -> Vec<String> {
    let of_lab = lab.providers.iter().take(if all { usize::MAX } else { 1 });
    let mut wanted: Vec<String> = asked.map_or_else(|| of_lab.cloned().collect(), |one| vec![one.to_owned()]);
    if wanted.is_empty() {
        wanted.push("libvirt".to_owned());
    }
    wanted.iter_mut().filter(|name| *name == "qemu").for_each(|name| "libvirt".clone_into(name));
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

impl Version {
    fn provider(&self, name: &str, of: &str) -> Result<&Entry, OpsError> {
        self.providers.iter().find(|p| p.name == name).ok_or_else(|| {
            let has: Vec<&str> = self.providers.iter().map(|p| p.name.as_str()).collect();
            OpsError::hinted(format!("{of} has no box for provider `{name}`"), format!("it has: {}", has.join(", ")))
        })
    }
}

/// A folder of a lab, and its bundle once it is needed.
struct Place {
    folder: Folder,
    bundle: Option<Bundle>,
}

/// A file, and which part of it.
type Part = (PathBuf, Option<(u64, u64)>);

impl Place {
    /// Where a box stands: in the bundle that was named, or as `file`, or, where that is not there, in the folder's bundle.
    fn find(&mut self, file: &Path, digest: &Digest) -> Result<Part, OpsError> {
        if self.bundle.is_none() && file.is_file() {
            return Ok((file.to_owned(), None));
        }
        if self.bundle.is_none() && self.folder.bundle.is_file() {
            self.bundle = Some(Bundle::open_checked(&self.folder.bundle)?);
        }
        let found = self.bundle.as_ref().and_then(|b| Some((b.path().to_owned(), b.blob(digest)?)));
        match found {
            Some((path, member)) => Ok((path, Some((member.offset, member.size)))),
            None => Err(OpsError::hinted(
                format!("the box `{}` is neither there nor in a bundle beside its folder", file.display()),
                "copy it again from where it came, or name the bundle: labimg box import BUNDLE",
            )),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, OpsError> {
    let text = regular::read(path, LIMIT)?;
    bounded::from_json(&text).map_err(|e| OpsError::user(format!("`{}` is damaged: {e}", path.display())))
}
