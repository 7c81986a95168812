//! A lab's folder for Vagrant: its boxes into Vagrant's home.

use std::path::Path;

use serde::Deserialize;

use crate::base::digest::Digest;
use crate::lab::vagrant::import::{Imported, Wanted, import};
use crate::lab::vagrant::{Folder, LAB_FILE};
use crate::ops::{Ctx, OpsError};

/// What of `lab.json` an import needs.
#[derive(Deserialize)]
struct LabJson {
    providers: Vec<String>,
    hosts: Vec<HostJson>,
}

#[derive(Deserialize)]
struct HostJson {
    catalog: String,
}

/// A catalog (Vagrant, "Box file format", "Box metadata").
#[derive(Deserialize)]
struct Catalog {
    name: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    url: String,
    checksum: String,
}

/// Whether `lab`, as a person names it, is the lab of that folder.
pub(super) fn is_meant(folder: &Folder, lab: Option<&str>) -> bool {
    let same = |path: &str| fs_err::canonicalize(path).ok() == fs_err::canonicalize(&folder.bundle).ok();
    lab.is_none_or(|lab| lab == folder.lab || Path::new(lab).is_file() && same(lab))
}

/// Puts the boxes of the lab whose `Vagrantfile` lies in `dir` into Vagrant's `home`: those of `provider`, or of the lab's first.
///
/// # Errors
/// A folder without a lab, a provider it has no boxes for, boxes that are not what their catalog says.
pub fn box_import(ctx: &Ctx, dir: &Path, provider: Option<&str>, home: &Path) -> Result<Vec<Imported>, OpsError> {
    let Some(_) = Folder::open(dir)? else {
        return Err(OpsError::hinted(
            format!("`{}` has no Vagrantfile of labimg's", dir.display()),
            "`labimg build PROFILE` writes one, in a folder beside the bundle",
        ));
    };
    let lab: LabJson = read(&dir.join(LAB_FILE))?;
    // vagrant-qemu takes libvirt's boxes, and asks for them by that name.
    let wanted = provider.or(lab.providers.first().map(String::as_str)).unwrap_or("libvirt");
    let wanted = if wanted == "qemu" { "libvirt" } else { wanted };
    let mut catalogs: Vec<&str> = lab.hosts.iter().map(|h| h.catalog.as_str()).collect();
    catalogs.sort_unstable();
    catalogs.dedup();
    let mut done = Vec::new();
    for file in catalogs {
        let path = dir.join(file);
        let catalog: Catalog = read(&path)?;
        let url = fs_err::canonicalize(&path).ok().map(|p| format!("file://{}", p.display()));
        for version in &catalog.versions {
            let Some(entry) = version.providers.iter().find(|p| p.name == wanted) else {
                let has: Vec<&str> = version.providers.iter().map(|p| p.name.as_str()).collect();
                return Err(OpsError::hinted(
                    format!("{} has no box for provider `{wanted}`", catalog.name),
                    format!("it has: {}", has.join(", ")),
                ));
            };
            let digest = Digest::from_hex(&entry.checksum)
                .map_err(|e| OpsError::user(format!("`{}`: checksum: {e}", path.display())))?;
            let wanted = Wanted {
                name: catalog.name.clone(),
                version: version.version.clone(),
                provider: entry.name.clone(),
                file: path.parent().unwrap_or(dir).join(&entry.url),
                digest,
            };
            done.push(import(&wanted, home, url.as_deref(), ctx.reporter.as_ref())?);
        }
    }
    Ok(done)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, OpsError> {
    let text = fs_err::read(path)?;
    serde_json::from_slice(&text).map_err(|e| OpsError::user(format!("`{}` is damaged: {e}", path.display())))
}
