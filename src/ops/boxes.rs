//! The folder of a lab's Vagrantfile, beside its bundle.

use std::path::{Path, PathBuf};

use super::OpsError;
use super::profile::OnDisk;
use crate::base::atomic;
use crate::build::vagrant_lab::{BOXES, MadeBox, folder};
use crate::store::Store;

/// Writes Vagrantfile, `lab.json`, catalogs and boxes into a folder named like the bundle, without its ending; nothing where the
/// lab has no boxes. What is there already and the same stays as it is; boxes of an earlier build go.
///
/// # Errors
/// A machine of a box that was not made for it, and I/O errors.
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
    let dir = bundle.with_extension("");
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let texts = folder(&disk.profile, boxes, epoch, &format!("../{name}"))?;
    fs_err::create_dir_all(dir.join(BOXES))?;
    for made in boxes {
        place(store, made, &dir.join(BOXES).join(made.file_name()))?;
    }
    // A person who types `vagrant up` meanwhile finds boxes behind every name in the texts.
    for (path, text) in &texts {
        let path = dir.join(path);
        if fs_err::read_to_string(&path).ok().as_deref() != Some(text) {
            atomic::write_file(&path, text.as_bytes())?;
        }
    }
    remove_others(&dir.join(BOXES), boxes, &texts.keys().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Some(dir))
}

/// Copies a box out of the store, unless it is there; whoever reads it checks it against its catalog.
fn place(store: &Store, made: &MadeBox, to: &Path) -> Result<(), OpsError> {
    let from = store.blob_path(&made.digest);
    let mark = to.with_extension("box.sha256");
    let line = format!("{}  {}\n", made.digest.hex(), made.file_name());
    let there = fs_err::metadata(to).is_ok_and(|m| m.len() == made.size);
    if there && fs_err::read_to_string(&mark).ok().as_deref() == Some(line.as_str()) {
        return Ok(());
    }
    let temp = tempfile::Builder::new().prefix(".box-").tempfile_in(atomic::parent(to))?;
    fs_err::copy(from, temp.path())?;
    fs_err::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    temp.as_file().sync_all()?;
    temp.persist(to).map_err(|e| e.error)?;
    Ok(atomic::write_file(&mark, line.as_bytes())?)
}

/// Takes boxes and catalogs away that this build did not write.
fn remove_others(dir: &Path, boxes: &[MadeBox], texts: &[&str]) -> Result<(), OpsError> {
    let mut wanted: Vec<String> =
        boxes.iter().flat_map(|b| [b.file_name(), format!("{}.sha256", b.file_name())]).collect();
    wanted.extend(texts.iter().filter_map(|t| t.strip_prefix("boxes/")).map(str::to_owned));
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = [".box", ".box.sha256", ".json"].iter().any(|end| name.ends_with(end));
        if ours && !wanted.contains(&name) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}
