//! The step that makes an image's topmost layer: users, directories, files and links of image.toml.

use std::collections::BTreeMap;

use serde_json::json;

use super::files::{Origins, files_tree};
use super::step_output;
use crate::base::report::Task;
use crate::build::BuildError;
use crate::build::layer::write_layer;
use crate::build::listing::{self, Listing};
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::build::tree::{Content, Kind, Source, Tree};
use crate::model::image_def::ImageDef;
use crate::model::platform::Platform;
use crate::store::Store;

/// The output that is the layer.
pub const LAYER: &str = "layer";
/// The output that is its listing.
pub const LISTING: &str = "listing";
/// Largest listing: a million paths.
const LISTING_LIMIT: u64 = 256 << 20;

/// Makes the layer of what image.toml itself brings. Outputs [`LAYER`] (with its diff id) and [`LISTING`].
pub struct FilesLayer {
    /// The image's reference.
    pub image: String,
    /// Its platform.
    pub platform: Platform,
    /// Its definition.
    pub def: ImageDef,
    /// Local files by their path relative to image.toml (those in folders, too): blobs of the lock.
    pub locals: BTreeMap<String, Input>,
    /// Outputs (plain tars) of the steps that `from` names, by the step's name.
    pub steps: BTreeMap<String, Input>,
    /// Listings of the layers below, lowest first.
    pub lower: Vec<Input>,
}

impl Action for FilesLayer {
    fn name(&self) -> String {
        format!("image {} {} files", self.image, self.platform)
    }

    fn builder(&self) -> &'static str {
        "files-layer/1"
    }

    fn params(&self) -> serde_json::Value {
        let ImageDef { user, dir, file, link, config, .. } = &self.def;
        json!({ "user": user, "dir": dir, "file": file, "link": link, "working-dir": config.working_dir })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let locals = self.locals.iter().map(|(path, input)| (format!("file {path}"), input.clone()));
        let steps = self.steps.iter().map(|(name, input)| (format!("step {name}"), input.clone()));
        let lower = self.lower.iter().enumerate().map(|(i, input)| (lower_label(i), input.clone()));
        locals.chain(steps).chain(lower).collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 64 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let lower = merged(run, self.lower.len())?;
        let tree = files_tree(&self.def, &self.origins(run)?, &lower)?;
        layer_outputs(&self.name(), &tree, run)
    }
}

/// Writes a tree as a layer, and what stands in it as a listing: outputs [`LAYER`] and [`LISTING`]. `label` is what progress
/// calls it.
///
/// # Errors
/// As [`write_layer`], and a store that can not be written.
pub fn layer_outputs(label: &str, tree: &Tree, run: &Run<'_>) -> Result<Outputs, BuildError> {
    let bytes = tree.entries.values().filter_map(|e| match &e.kind {
        Kind::File(content) => Some(content.size),
        _ => None,
    });
    let task = Task::begin(run.reporter, label, Some(bytes.sum()));
    let layer = write_layer(tree, run.epoch, run.store, run.threads, &task)?;
    Ok(BTreeMap::from([
        (LAYER.to_owned(), layer.output()),
        (LISTING.to_owned(), put(run.store, &listing::listing(tree)?)?),
    ]))
}

impl FilesLayer {
    fn origins(&self, run: &Run<'_>) -> Result<Origins, BuildError> {
        let mut origins = Origins::default();
        for path in self.locals.keys() {
            let Output { digest, size, .. } = input(run, &format!("file {path}"))?;
            let source = Source::Path(run.store.blob_path(digest).into());
            origins.locals.insert(path.clone(), Content { size: *size, source });
        }
        for name in self.steps.keys() {
            let Output { digest, .. } = input(run, &format!("step {name}"))?;
            let file = run.store.blob_file(digest)?.into_parts().0;
            origins.steps.insert(name.clone(), step_output::tree(file, &format!("step {name}"))?);
        }
        Ok(origins)
    }
}

/// The label of the `index`th listing of layers below.
pub(super) fn lower_label(index: usize) -> String {
    format!("listing {index}")
}

/// The `count` listings among a step's inputs, merged.
pub(super) fn merged(run: &Run<'_>, count: usize) -> Result<Listing, BuildError> {
    let mut all = Listing::default();
    for index in 0..count {
        let bytes = crate::store::BlobSource::read_blob(
            run.store.as_ref(),
            &input(run, &lower_label(index))?.digest,
            LISTING_LIMIT,
        )?;
        all = listing::merge(&all, &listing::parse(&bytes)?);
    }
    Ok(all)
}

pub(in crate::build) fn input<'r>(run: &'r Run<'_>, label: &str) -> Result<&'r Output, BuildError> {
    run.inputs.get(label).ok_or_else(|| BuildError::Internal(format!("the step has no input `{label}`")))
}

/// Small bytes as an output.
pub(in crate::build) fn put(store: &Store, bytes: &[u8]) -> Result<Output, BuildError> {
    Ok(Output { digest: store.put(bytes)?, size: bytes.len() as u64, facts: BTreeMap::new() })
}
