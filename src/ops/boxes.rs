//! The folder of a lab's Vagrantfile, beside its bundle: as a build leaves it, and as it is made from a bundle alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::OpsError;
use super::check::profile_in;
use super::profile::OnDisk;
use crate::base::atomic;
use crate::build::vagrant_box::{box_of, name as provider_name, provider_of};
use crate::build::vagrant_lab::{BOXES, MadeBox, VAGRANTFILE, folder};
use crate::lab::vagrant::{Folder, LAB_FILE};
use crate::model::lock::FileKind;
use crate::model::profile::Profile;
use crate::store::Store;
use crate::store::bundle::{Bundle, BundleError, FileEntry};

/// How the names of boxes start that are still being copied.
const PART: &str = ".box-";
/// How those of all others end that stand beside boxes, and of the boxes.
const ENDINGS: [&str; 3] = [".box", ".box.sha256", ".json"];

/// Refuses what stands where the folder of a lab's machines goes and is something else; of a lab without boxes, nothing.
///
/// # Errors
/// Such a folder or file, and I/O errors.
pub(super) fn require_place(profile: &Profile, bundle: &Path) -> Result<(), OpsError> {
    match profile.boxes.is_empty() {
        true => Ok(()),
        false => {
            require_ours(&folder_of(bundle, &profile.name), profile, "move it away, or build elsewhere: --out DIR")
        }
    }
}

/// Writes Vagrantfile, `lab.json`, catalogs and boxes into a folder named like the bundle, without its ending; nothing where the
/// lab has no boxes. What is there already and the same stays as it is; boxes of an earlier build go.
///
/// # Errors
/// A machine of a box that was not made for it, what [`require_place`] refuses, and I/O errors.
pub(super) fn write(
    disk: &OnDisk,
    boxes: &[MadeBox],
    epoch: u64,
    store: &Store,
    bundle: &Path,
) -> Result<Option<PathBuf>, OpsError> {
    if boxes.is_empty() {
        return Ok(None);
    }
    require_place(&disk.profile, bundle)?;
    let dir = folder_of(bundle, &disk.profile.name);
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let texts = folder(&disk.profile, boxes, epoch, &format!("../{name}"))?;
    fs_err::create_dir_all(dir.join(BOXES))?;
    for made in boxes {
        place(store, made, &dir.join(BOXES).join(made.file_name()))?;
    }
    // A person who types `vagrant up` meanwhile finds boxes behind every name in the texts.
    write_texts(&dir, &texts)?;
    remove_others(&dir.join(BOXES), boxes, &texts.keys().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Some(dir))
}

/// Makes the folder of a bundle's machines, without the boxes, which stay in the bundle: `out`, or beside the bundle and called
/// like it. One that is there and is this lab's is brought up to date; boxes of another build go out of it.
///
/// # Errors
/// A bundle without boxes, or without those for `provider`, a folder that is there and something else, and I/O errors.
pub(super) fn write_from(bundle: &Bundle, out: Option<&Path>, provider: Option<&str>) -> Result<PathBuf, OpsError> {
    let boxes = boxes_in(bundle)?;
    if boxes.is_empty() {
        return Err(OpsError::user(format!("`{}` carries no boxes", bundle.path().display())));
    }
    let profile = profile_in(bundle)?;
    provider.map_or(Ok(()), |provider| has_provider(&profile, &boxes, provider))?;
    let dir = out.map_or_else(|| folder_of(bundle.path(), &profile.name), Path::to_owned);
    require_ours(&dir, &profile, "name another one: --out DIR")?;
    fs_err::create_dir_all(dir.join(BOXES))?;
    let texts = folder(&profile, &boxes, bundle.index().epoch, &seen_from(&dir, bundle.path())?)?;
    for made in &boxes {
        let file = dir.join(BOXES).join(made.file_name());
        if fs_err::read_to_string(mark_of(&file)).is_ok_and(|line| line != mark(made)) {
            // The mark last: without it nobody would know that the box is another one.
            if file.is_file() {
                fs_err::remove_file(&file)?;
            }
            fs_err::remove_file(mark_of(&file))?;
        }
    }
    write_texts(&dir, &texts)?;
    remove_others(&dir.join(BOXES), &boxes, &texts.keys().map(String::as_str).collect::<Vec<_>>())?;
    Ok(dir)
}

/// Refuses a provider that a box of the lab's machines is not made for; of a lab that has boxes alone, any box.
fn has_provider(profile: &Profile, boxes: &[MadeBox], wanted: &str) -> Result<(), OpsError> {
    let hosts: Vec<_> =
        profile.host.iter().filter_map(|h| Some((h.box_name.as_ref()?.as_str(), h.runs_on()))).collect();
    for one in boxes.iter().filter(|b| hosts.is_empty() || hosts.contains(&(b.name.as_str(), b.platform))) {
        let others = boxes.iter().filter(|b| (&b.name, b.platform) == (&one.name, one.platform));
        let has: Vec<&str> = others.map(|b| provider_name(b.provider)).collect();
        if !has.contains(&provider_of(wanted).map_or(wanted, |p| provider_name(box_of(p)))) {
            let (lab, table, arch) = (&*profile.name, &one.name, one.platform.arch());
            return Err(OpsError::hinted(
                format!("{lab}/{table}-{arch} has no box for provider `{wanted}`"),
                format!("it has: {}", has.join(", ")),
            ));
        }
    }
    Ok(())
}

/// The folder that belongs to the bundle of lab `name`: beside it, and called like it, or like the lab where that has no ending.
pub(super) fn folder_of(bundle: &Path, name: &str) -> PathBuf {
    match bundle.extension() {
        Some(_) => bundle.with_extension(""),
        None => bundle.with_file_name(name),
    }
}

/// Refuses what is there and is not the folder of this lab, nor what an interrupted build of it left.
fn require_ours(dir: &Path, profile: &Profile, hint: &str) -> Result<(), OpsError> {
    let what = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => "it is no folder".to_owned(),
        Err(e) => return Err(e.into()),
        Ok(_) => match Folder::open(dir)? {
            Some(folder) if folder.lab == *profile.name => return Ok(()),
            Some(folder) => format!("it is the folder of lab `{}`", folder.lab),
            None => match others_in(dir, profile)? {
                None => return Ok(()),
                Some(other) => format!("it holds `{other}`, which labimg did not write"),
            },
        },
    };
    Err(OpsError::hinted(
        format!("`{}` is there already, and is not the folder of lab `{}`: {what}", dir.display(), *profile.name),
        hint,
    ))
}

/// What is in a folder without Vagrantfile or `lab.json`, which is written last, that no build of this lab can have left.
fn others_in(dir: &Path, profile: &Profile) -> Result<Option<String>, OpsError> {
    let lab =
        fs_err::read(dir.join(LAB_FILE)).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    if lab.is_some_and(|lab| lab["name"] == profile.name.as_str()) {
        return Ok(None);
    }
    let ours = |name: &str| name.starts_with(PART) || profile.boxes.iter().any(|b| is_of(name, &b.name));
    let mut found: Vec<String> = names_in(dir)?.into_iter().filter(|name| name != BOXES).collect();
    let same = |name: &str| fs_err::read(dir.join(name)).is_ok_and(|text| text == VAGRANTFILE.as_bytes());
    found.retain(|name| name != "Vagrantfile" || !same(name));
    match dir.join(BOXES) {
        boxes if boxes.is_dir() => {
            found
                .extend(names_in(&boxes)?.into_iter().filter(|name| !ours(name)).map(|name| format!("{BOXES}/{name}")));
        }
        boxes if boxes.exists() => found.push(BOXES.to_owned()),
        _ => {}
    }
    found.sort_unstable();
    Ok(found.into_iter().next())
}

/// Whether a file beside the boxes can be of box `of`: `OF-ARCH.json`, `OF-ARCH-PROVIDER.box`, `OF-ARCH-PROVIDER.box.sha256`.
fn is_of(name: &str, of: &str) -> bool {
    let rest = name.strip_prefix(of).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| ENDINGS.iter().any(|end| rest.ends_with(end)))
}

fn names_in(dir: &Path) -> Result<Vec<String>, OpsError> {
    let name = |entry: std::io::Result<fs_err::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    fs_err::read_dir(dir)?.map(name).collect()
}

/// The bundle's path as `lab.json` has it: relative where the folder stands beside it, so that both can be carried away.
fn seen_from(dir: &Path, bundle: &Path) -> Result<String, OpsError> {
    let bundle = fs_err::canonicalize(bundle)?;
    let dir = fs_err::canonicalize(dir)?;
    let name = bundle.file_name().unwrap_or_default();
    let path = if dir.parent() == bundle.parent() { Path::new("..").join(name) } else { bundle };
    let text = path.to_str().ok_or_else(|| OpsError::user(format!("`{}` is not UTF-8", path.display())))?;
    Ok(text.to_owned())
}

/// The boxes that a bundle carries, sorted.
fn boxes_in(bundle: &Bundle) -> Result<Vec<MadeBox>, OpsError> {
    let of = |f: &FileEntry| {
        let (name, provider) = f.name.split_once('/')?;
        let (provider, platform) = (provider_of(provider)?, f.platform?);
        Some(MadeBox { name: name.to_owned(), platform, provider, digest: f.digest, size: f.size })
    };
    let all = bundle.index().contents.files.iter().filter(|f| f.kind == FileKind::Box);
    let odd = |f: &FileEntry| BundleError::Damaged {
        path: bundle.path().to_owned(),
        member: crate::store::bundle::INDEX_PATH.to_owned(),
        why: format!("`{}` is no name of a box", f.name),
    };
    let made: Result<Vec<MadeBox>, BundleError> =
        all.map(|f| of(f).filter(|b| crate::model::profile::is_name(&b.name)).ok_or_else(|| odd(f))).collect();
    let mut made = made?;
    made.sort_by(|a, b| (&a.name, a.platform, a.provider).cmp(&(&b.name, b.platform, b.provider)));
    Ok(made)
}

fn write_texts(dir: &Path, texts: &BTreeMap<String, String>) -> Result<(), OpsError> {
    for (path, text) in texts {
        let path = dir.join(path);
        if fs_err::read_to_string(&path).ok().as_deref() != Some(text) {
            atomic::write_file(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Where it stands which box a file is.
fn mark_of(file: &Path) -> PathBuf {
    file.with_extension("box.sha256")
}

/// What stands there, as `sha256sum` writes it.
fn mark(made: &MadeBox) -> String {
    format!("{}  {}\n", made.digest.hex(), made.file_name())
}

/// Copies a box out of the store, unless it is there; whoever reads it checks it against its catalog.
fn place(store: &Store, made: &MadeBox, to: &Path) -> Result<(), OpsError> {
    let from = store.blob_path(&made.digest);
    let (at, line) = (mark_of(to), mark(made));
    let there = fs_err::metadata(to).is_ok_and(|m| m.len() == made.size);
    if there && fs_err::read_to_string(&at).ok().as_deref() == Some(line.as_str()) {
        return Ok(());
    }
    let temp = tempfile::Builder::new().prefix(PART).tempfile_in(atomic::parent(to))?;
    fs_err::copy(from, temp.path()).map_err(|e| no_room(e, made, to))?;
    fs_err::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    temp.as_file().sync_all()?;
    temp.persist(to).map_err(|e| e.error)?;
    Ok(atomic::write_file(&at, line.as_bytes())?)
}

/// A disk that is full is told with what the box needs.
fn no_room(error: std::io::Error, made: &MadeBox, to: &Path) -> OpsError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => OpsError::hinted(
            format!("there is no room for `{}`: it needs {}", to.display(), crate::base::size::shown(made.size)),
            "make room, or write elsewhere: --out DIR",
        ),
        _ => error.into(),
    }
}

/// Takes boxes and catalogs away that this build did not write, and what one that was interrupted left.
fn remove_others(dir: &Path, boxes: &[MadeBox], texts: &[&str]) -> Result<(), OpsError> {
    let mut wanted: Vec<String> =
        boxes.iter().flat_map(|b| [b.file_name(), format!("{}.sha256", b.file_name())]).collect();
    wanted.extend(texts.iter().filter_map(|t| t.strip_prefix("boxes/")).map(str::to_owned));
    for name in names_in(dir)? {
        let ours = name.starts_with(PART) || ENDINGS.iter().any(|end| name.ends_with(end));
        if ours && !wanted.contains(&name) {
            fs_err::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}
