//! The folder of a lab's Vagrantfile, beside its bundle: as a build leaves it, and as it is made from a bundle alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::OpsError;
use super::check::profile_in;
use super::profile::OnDisk;
use crate::base::digest::Digest;
use crate::base::own_dir::OwnDir;
use crate::base::{bounded, regular};
use crate::build::vagrant_box::{box_of, name as provider_name, provider_of};
use crate::build::vagrant_lab::{BOXES, MadeBox, VAGRANTFILE, folder};
use crate::lab::vagrant::LAB_FILE;
use crate::model::lock::FileKind;
use crate::model::profile::Profile;
use crate::store::Store;
use crate::store::bundle::{Bundle, BundleError, FileEntry};

/// The largest text that is read in such a folder, in bytes.
const LIMIT: u64 = 4 << 20;
/// How the names of boxes start that are still being copied.
const PART: &str = ".box-";
/// How paths of texts start that stand beside the boxes.
const IN_BOXES: &str = "boxes/";
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
            let dir = OwnDir::open(&folder_of(bundle, &profile.name));
            require_ours(dir, &folder_of(bundle, &profile.name), profile, "move it away, or build elsewhere: --out DIR")
        }
    }
}

/// Writes Vagrantfile, `lab.json`, catalogs and boxes into a folder named like the bundle, without its ending; nothing where the
/// lab has no boxes. What is there already and the same stays as it is; boxes of an earlier build go. No link is followed to there.
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
    let own = OwnDir::make(&dir)?;
    let beside = own.make_sub(BOXES)?;
    for made in boxes {
        place(store, made, &beside)?;
    }
    // A person who types `vagrant up` meanwhile finds boxes behind every name in the texts.
    write_texts(&own, &beside, &texts)?;
    remove_others(&beside, &disk.profile.name, boxes, &texts)?;
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
    // A folder that a person names may be a link of theirs; the one beside a bundle came with it, from whomever.
    let there = if out.is_some() { OwnDir::open_named(&dir) } else { OwnDir::open(&dir) };
    require_ours(there, &dir, &profile, "name another one: --out DIR")?;
    let own = if out.is_some() { OwnDir::make_named(&dir)? } else { OwnDir::make(&dir)? };
    let beside = own.make_sub(BOXES)?;
    let texts = folder(&profile, &boxes, bundle.index().epoch, &seen_from(&dir, bundle.path())?)?;
    for made in &boxes {
        let (name, mark_name) = (made.file_name(), mark_of(&made.file_name()));
        if text_in(&beside, &mark_name).is_some_and(|line| line != mark(made) && is_mark(&line, &name)) {
            // The mark last: without it nobody would know that the box is another one.
            if beside.size(&name).is_some() {
                beside.remove_file(&name)?;
            }
            beside.remove_file(&mark_name)?;
        }
    }
    write_texts(&own, &beside, &texts)?;
    remove_others(&beside, &profile.name, &boxes, &texts)?;
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
fn require_ours(
    there: std::io::Result<Option<OwnDir>>,
    dir: &Path,
    profile: &Profile,
    hint: &str,
) -> Result<(), OpsError> {
    let what = match there {
        Ok(None) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => "it is no folder".to_owned(),
        Err(e) => return Err(e.into()),
        Ok(Some(own)) => {
            regular::refuse_link(&dir.join(BOXES))?;
            match lab_of(&own)? {
                Some(lab) if lab == *profile.name => return Ok(()),
                Some(lab) => format!("it is the folder of lab `{lab}`"),
                None => match others_in(&own, profile)? {
                    None => return Ok(()),
                    Some(other) => format!("it holds `{other}`, which labimg did not write"),
                },
            }
        }
    };
    Err(OpsError::hinted(
        format!("`{}` is there already, and is not the folder of lab `{}`: {what}", dir.display(), *profile.name),
        hint,
    ))
}

/// The lab whose folder it is; `None` where no lab's `Vagrantfile` and `lab.json` lie as files of its own.
fn lab_of(own: &OwnDir) -> Result<Option<String>, OpsError> {
    if own.size("Vagrantfile").is_none() || own.size(LAB_FILE).is_none() {
        return Ok(None);
    }
    let text = own.read(LAB_FILE, LIMIT)?.unwrap_or_default();
    let lab: serde_json::Value = bounded::from_json(&text)
        .map_err(|e| OpsError::user(format!("`{}` is damaged: {e}", own.path().join(LAB_FILE).display())))?;
    Ok(Some(lab["name"].as_str().unwrap_or_default().to_owned()))
}

/// A text that stands in a folder as a file of its own.
fn text_in(own: &OwnDir, name: &str) -> Option<String> {
    own.read(name, LIMIT).ok().flatten().and_then(|text| String::from_utf8(text).ok())
}

/// What is in a folder without Vagrantfile or `lab.json`, which is written last, that no build of this lab can have left.
fn others_in(own: &OwnDir, profile: &Profile) -> Result<Option<String>, OpsError> {
    let lab = text_in(own, LAB_FILE).and_then(|text| bounded::from_json::<serde_json::Value>(text.as_bytes()).ok());
    if lab.is_some_and(|lab| lab["name"] == profile.name.as_str()) {
        return Ok(None);
    }
    let ours = |name: &str| name.starts_with(PART) || profile.boxes.iter().any(|b| is_of(name, &b.name));
    let mut found: Vec<String> = own.names()?.into_iter().filter(|name| name != BOXES).collect();
    found.retain(|name| name != "Vagrantfile" || text_in(own, name).is_none_or(|text| text != VAGRANTFILE));
    match own.sub(BOXES) {
        Ok(None) => {}
        Ok(Some(boxes)) => {
            found.extend(boxes.names()?.into_iter().filter(|name| !ours(name)).map(|name| format!("{BOXES}/{name}")));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => found.push(BOXES.to_owned()),
        Err(e) => return Err(e.into()),
    }
    found.sort_unstable();
    Ok(found.into_iter().next())
}

/// Whether a file beside the boxes can be of box `of`: `OF-ARCH.json`, `OF-ARCH-PROVIDER.box`, `OF-ARCH-PROVIDER.box.sha256`.
fn is_of(name: &str, of: &str) -> bool {
    let rest = name.strip_prefix(of).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| ENDINGS.iter().any(|end| rest.ends_with(end)))
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

fn write_texts(own: &OwnDir, beside: &OwnDir, texts: &BTreeMap<String, String>) -> Result<(), OpsError> {
    for (path, text) in texts {
        let (dir, name) = path.strip_prefix(IN_BOXES).map_or((own, path.as_str()), |name| (beside, name));
        if text_in(dir, name).as_ref() != Some(text) {
            dir.write(name, text.as_bytes())?;
        }
    }
    Ok(())
}

/// The file where it stands which box a file is.
fn mark_of(file: &str) -> String {
    format!("{file}.sha256")
}

/// What stands there, as `sha256sum` writes it.
fn mark(made: &MadeBox) -> String {
    format!("{}  {}\n", made.digest.hex(), made.file_name())
}

/// Whether a text is the mark of file `name`, with whatever digest.
fn is_mark(text: &str, name: &str) -> bool {
    let line = text.strip_suffix('\n').and_then(|line| line.split_once("  "));
    line.is_some_and(|(hex, of)| of == name && Digest::from_hex(hex).is_ok())
}

/// Copies a box out of the store, unless it is there; whoever reads it checks it against its catalog.
fn place(store: &Store, made: &MadeBox, dir: &OwnDir) -> Result<(), OpsError> {
    let (name, line) = (made.file_name(), mark(made));
    if dir.size(&name) == Some(made.size) && text_in(dir, &mark_of(&name)).as_ref() == Some(&line) {
        return Ok(());
    }
    let from = fs_err::File::open(store.blob_path(&made.digest))?;
    let (temporary, to) = dir.temporary(PART)?;
    // Of plain files, so that the kernel copies, or shares, what they hold.
    let copied = std::io::copy(&mut from.file(), &mut to.file()).and_then(|_| to.sync_all());
    let copied = copied.map_err(|e| no_room(e, made, &dir.path().join(&name)));
    let placed = copied.and_then(|()| Ok(dir.rename(&temporary, dir, &name)?));
    if placed.is_err() {
        // The failure is what must be told.
        let _ = dir.remove_file(&temporary);
    }
    placed?;
    Ok(dir.write(&mark_of(&name), line.as_bytes())?)
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

/// Takes boxes and catalogs away that an earlier build of the lab wrote and this one did not, and what one that was interrupted left.
fn remove_others(dir: &OwnDir, lab: &str, boxes: &[MadeBox], texts: &BTreeMap<String, String>) -> Result<(), OpsError> {
    let mut wanted: Vec<String> = boxes.iter().flat_map(|b| [b.file_name(), mark_of(&b.file_name())]).collect();
    wanted.extend(texts.keys().filter_map(|t| t.strip_prefix(IN_BOXES)).map(str::to_owned));
    // Sorted, so that a box is judged before its mark goes.
    for name in dir.names()?.into_iter().filter(|name| !wanted.contains(name)) {
        if is_left(dir, lab, &name) {
            dir.remove_file(&name)?;
        }
    }
    Ok(())
}

/// Whether a file is an earlier build's, by what labimg itself wrote into or beside it: a mark names its box, a catalog its lab and
/// itself. Whatever else has such a name is a person's.
fn is_left(dir: &OwnDir, lab: &str, name: &str) -> bool {
    if dir.size(name).is_none() {
        return false;
    }
    if let Some(rest) = name.strip_prefix(PART) {
        return !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    }
    let marked = |file: &str| text_in(dir, &mark_of(file)).is_some_and(|text| is_mark(&text, file));
    if let Some(file) = name.strip_suffix(".sha256") {
        return file.ends_with(".box") && marked(file);
    }
    if let Some(table) = name.strip_suffix(".json") {
        let catalog = text_in(dir, name).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        return catalog.is_some_and(|c| c["name"] == format!("{lab}/{table}") && c["versions"].is_array());
    }
    name.ends_with(".box") && marked(name)
}

#[cfg(test)]
mod tests;
