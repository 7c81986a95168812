//! Manifests and indexes of images made here (image-spec, "Image Manifest", "Image Index").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::check;
use super::config::{config, variant};
use super::files_layer::{input, lower_label, merged, put};
use crate::build::BuildError;
use crate::build::layer::{DIFF_ID, EMPTY, Layer};
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::model::image_def::ImageDef;
use crate::model::lock::LockedManifest;
use crate::model::platform::Platform;
use crate::store::Store;
use crate::store::image::{OCI_INDEX, OCI_MANIFEST};

pub(in crate::build) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(in crate::build) const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The output of [`ManifestStep`] that is the manifest.
pub const MANIFEST: &str = "manifest";
/// The output of [`ManifestStep`] that is the configuration.
pub const CONFIG: &str = "config";

/// A layer in its place in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedLayer {
    /// The layer; empty ones are left out.
    pub layer: Layer,
    /// What it holds, for the image's history: `packages`.
    pub what: String,
}

impl PlacedLayer {
    /// From a layer step's output.
    ///
    /// # Errors
    /// An output without a diff id.
    pub fn from_output(output: &Output, what: &str) -> Result<Self, BuildError> {
        let diff_id = output.facts.get(DIFF_ID).and_then(|d| d.parse().ok());
        let diff_id = diff_id.ok_or_else(|| BuildError::Internal(format!("layer `{what}` has no diff id")))?;
        let empty = output.facts.contains_key(EMPTY);
        let layer = Layer { digest: output.digest, size: output.size, diff_id, uncompressed: 0, empty };
        Ok(Self { layer, what: what.to_owned() })
    }
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Media type of what `digest` names.
    pub media_type: String,
    /// The manifest of an image of one platform, else the index.
    pub digest: crate::base::digest::Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The manifest of each platform.
    pub platforms: BTreeMap<Platform, LockedManifest>,
}

/// Puts configuration and manifest of one platform into the store; gives both as outputs [`CONFIG`] and [`MANIFEST`].
///
/// # Errors
/// A store that can not be written.
pub fn manifest(
    def: &ImageDef,
    platform: Platform,
    epoch: u64,
    layers: &[PlacedLayer],
    store: &Store,
) -> Result<Outputs, BuildError> {
    let config = put(store, &config(def, platform, epoch, layers))?;
    let kept = layers.iter().map(|l| &l.layer).filter(|l| !l.empty);
    let layers: Vec<Value> =
        kept.map(|l| json!({ "digest": l.digest, "mediaType": OCI_GZIP, "size": l.size })).collect();
    let manifest = json!({
        "config": { "digest": config.digest, "mediaType": OCI_CONFIG, "size": config.size },
        "layers": layers,
        "mediaType": OCI_MANIFEST,
        "schemaVersion": 2,
    });
    let manifest = put(store, manifest.to_string().as_bytes())?;
    Ok(BTreeMap::from([(CONFIG.to_owned(), config), (MANIFEST.to_owned(), manifest)]))
}

/// The image of these manifests: of one platform, the manifest itself; of several, an index, which is put into the store.
///
/// # Errors
/// No manifest at all, and a store that can not be written.
pub fn assemble(platforms: &BTreeMap<Platform, Output>, store: &Store) -> Result<BuiltImage, BuildError> {
    let locked: BTreeMap<Platform, LockedManifest> = platforms
        .iter()
        .map(|(p, o)| (*p, LockedManifest { media_type: OCI_MANIFEST.to_owned(), digest: o.digest, size: o.size }))
        .collect();
    let mut all = locked.values();
    let (media_type, digest, size) = match (all.next(), all.next()) {
        (None, _) => return Err(BuildError::Internal("an image of no platform".to_owned())),
        (Some(only), None) => (only.media_type.clone(), only.digest, only.size),
        _ => {
            let index = put(store, index(&locked).to_string().as_bytes())?;
            (OCI_INDEX.to_owned(), index.digest, index.size)
        }
    };
    Ok(BuiltImage { media_type, digest, size, platforms: locked })
}

fn index(platforms: &BTreeMap<Platform, LockedManifest>) -> Value {
    let entry = |(platform, manifest): (&Platform, &LockedManifest)| {
        let mut its = json!({ "architecture": platform.arch(), "os": platform.os() });
        if let (Some(variant), Some(map)) = (variant(*platform), its.as_object_mut()) {
            map.insert("variant".to_owned(), variant.into());
        }
        json!({ "digest": manifest.digest, "mediaType": manifest.media_type, "platform": its, "size": manifest.size })
    };
    let manifests: Vec<Value> = platforms.iter().map(entry).collect();
    json!({ "manifests": manifests, "mediaType": OCI_INDEX, "schemaVersion": 2 })
}

/// Checks that an image can run and makes configuration and manifest of one platform: outputs [`CONFIG`], [`MANIFEST`].
pub struct ManifestStep {
    /// The image's reference.
    pub image: String,
    /// Its platform.
    pub platform: Platform,
    /// Its definition.
    pub def: ImageDef,
    /// Layers, lowest first: what each holds, the layer, its listing.
    pub layers: Vec<(String, Input, Input)>,
}

impl ManifestStep {
    /// The name of the step that makes the manifest of `image` for `platform`.
    pub fn step_name(image: &str, platform: Platform) -> String {
        format!("image {image} {platform} manifest")
    }
}

impl Action for ManifestStep {
    fn name(&self) -> String {
        Self::step_name(&self.image, self.platform)
    }

    fn builder(&self) -> &'static str {
        "manifest/2"
    }

    fn params(&self) -> Value {
        let layers: Vec<&String> = self.layers.iter().map(|(what, ..)| what).collect();
        json!({ "config": self.def.config, "layers": layers, "platform": self.platform })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let each = self.layers.iter().enumerate();
        each.flat_map(|(i, (_, layer, listing))| [(layer_label(i), layer.clone()), (lower_label(i), listing.clone())])
            .collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 32 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        check::check(&self.def, self.platform, &merged(run, self.layers.len())?)?;
        let placed: Result<Vec<_>, _> = self
            .layers
            .iter()
            .enumerate()
            .map(|(i, (what, ..))| PlacedLayer::from_output(input(run, &layer_label(i))?, what))
            .collect();
        manifest(&self.def, self.platform, run.epoch, &placed?, run.store)
    }
}

fn layer_label(index: usize) -> String {
    format!("layer {index}")
}
