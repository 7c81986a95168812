//! `labimg inspect`: what a bundle is.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::whose;
use crate::base::digest::Digest;
use crate::base::report::Reporter;
use crate::model::lock::is_labimg;
use crate::store::bundle::{Bundle, BundleError, Contents, Damaged};

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InspectReport {
    /// The file.
    pub path: PathBuf,
    /// The lab's name.
    pub name: String,
    /// The bundle's identity: digest of its index.
    pub identity: Digest,
    /// Its format.
    pub format: u32,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// Length of the file in bytes.
    pub size: u64,
    /// How many members it has, its index not counted.
    pub members: usize,
    /// Whether signatures stand behind the members. (Whether they are good is not said here.)
    pub signed: bool,
    /// What the lab is made of, without labimg's own image.
    pub contents: Contents,
    /// The image that holds labimg itself, where the bundle carries it: mirrors and registries of the lab run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labimg: Option<String>,
    /// Members that are not what they must be; absent when nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<Vec<Damaged>>,
}

/// Reads the bundle's index; with `verify`, also every other byte of it.
///
/// # Errors
/// When the file is no bundle, cut off, or has an index that can not be right. Damaged members are in the report.
pub fn inspect(path: &Path, verify: bool, reporter: &dyn Reporter) -> Result<InspectReport, BundleError> {
    // With `verify`, disagreement is part of the report.
    let bundle = if verify { Bundle::open(path)? } else { Bundle::open_checked(path)? };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let damaged = if verify { Some(whose::named(&bundle, bundle.verify(threads, reporter)?)) } else { None };
    let index = bundle.index();
    let mut contents = index.contents.clone();
    let labimg = contents.images.iter().find(|i| is_labimg(&i.reference)).map(|i| i.reference.to_string());
    contents.images.retain(|i| !is_labimg(&i.reference));
    Ok(InspectReport {
        path: path.to_owned(),
        name: index.name.clone(),
        identity: bundle.identity(),
        format: index.format,
        epoch: index.epoch,
        size: bundle.file_size(),
        members: index.members.len(),
        signed: bundle.is_signed(),
        contents,
        labimg,
        damaged,
    })
}
