//! The step that makes configuration and manifest: the node image's, with one layer more. Always of OCI's types; the layers
//! are the same bytes under either name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::bounded;
use crate::build::BuildError;
use crate::build::image::config::rfc3339;
use crate::build::image::files_layer::{input, put};
use crate::build::image::manifest::{CONFIG, MANIFEST, ManifestStep, OCI_CONFIG, OCI_GZIP};
use crate::build::layer::DIFF_ID;
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::model::lock::LockedManifest;
use crate::model::platform::Platform;
use crate::store::BlobSource;
use crate::store::image::{Descriptor, MANIFEST_LIMIT, OCI_MANIFEST, read_manifest};

const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's names for layers (distribution, `manifest-v2-2.md`).
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Labels of inputs.
const BASE: &str = "node image";
const LAYER: &str = "layer";

/// Makes the manifest for one platform: outputs [`CONFIG`] and [`MANIFEST`].
pub(super) struct NodeManifest {
    /// The image's reference.
    pub(super) image: String,
    /// Its platform.
    pub(super) platform: Platform,
    /// The node image below.
    pub(super) base: LockedManifest,
    /// Our layer.
    pub(super) layer: Input,
}

impl Action for NodeManifest {
    fn name(&self) -> String {
        ManifestStep::step_name(&self.image, self.platform)
    }

    fn builder(&self) -> &'static str {
        "node-manifest/1"
    }

    fn params(&self) -> Value {
        Value::Null
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let base = Input::Blob { digest: self.base.digest, size: self.base.size };
        BTreeMap::from([(BASE.to_owned(), base), (LAYER.to_owned(), self.layer.clone())])
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 32 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let base = read_manifest(run.store.as_ref(), &self.base.digest)?;
        let layer = input(run, LAYER)?;
        let text = run.store.read_blob(&base.config.digest, MANIFEST_LIMIT)?;
        let config = config(&text, base.layers.len(), layer, run.epoch)
            .map_err(|why| BuildError::bad("the node image's configuration", why))?;
        let config = put(run.store, config.to_string().as_bytes())?;
        let mut layers = base.layers.iter().map(below).collect::<Result<Vec<_>, _>>()?;
        layers.push(json!({ "digest": layer.digest, "mediaType": OCI_TAR, "size": layer.size }));
        let manifest = json!({
            "config": { "digest": config.digest, "mediaType": OCI_CONFIG, "size": config.size },
            "layers": layers,
            "mediaType": OCI_MANIFEST,
            "schemaVersion": 2,
        });
        let manifest = put(run.store, manifest.to_string().as_bytes())?;
        Ok(BTreeMap::from([(CONFIG.to_owned(), config), (MANIFEST.to_owned(), manifest)]))
    }
}

/// A layer of the node image by OCI's name.
fn below(layer: &Descriptor) -> Result<Value, BuildError> {
    let media_type = match layer.media_type.as_str() {
        OCI_GZIP | DOCKER_GZIP => OCI_GZIP,
        OCI_TAR | DOCKER_TAR => OCI_TAR,
        OCI_ZSTD => OCI_ZSTD,
        other => return Err(BuildError::bad("the node image", format!("it has a layer of the type `{other}`"))),
    };
    Ok(json!({ "digest": layer.digest, "mediaType": media_type, "size": layer.size }))
}

/// The configuration `text` with a layer on top of `layers` others.
fn config(text: &[u8], layers: usize, layer: &Output, epoch: u64) -> Result<Value, String> {
    let mut config: Value = bounded::from_json(text).map_err(|e| e.to_string())?;
    let diff_ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut);
    let diff_ids = diff_ids.filter(|ids| ids.len() == layers).ok_or("its diff ids are not those of its layers")?;
    diff_ids.push(json!(layer.facts.get(DIFF_ID)));
    let map = config.as_object_mut().ok_or("it is no object")?;
    let created = rfc3339(epoch);
    if let Some(history) = map.get_mut("history").and_then(Value::as_array_mut) {
        history.push(json!({ "created": created, "created_by": "labimg: the lab's images" }));
    }
    map.insert("created".to_owned(), created.into());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    #[test]
    fn a_configuration_gets_one_layer_more() {
        let layer = Output {
            digest: Digest::of(b"x"),
            size: 1,
            facts: BTreeMap::from([(DIFF_ID.to_owned(), "sha256:1".to_owned())]),
        };
        let text =
            br#"{"config":{"Entrypoint":["/init"]},"history":[{}],"rootfs":{"diff_ids":["sha256:0"],"type":"layers"}}"#;
        let made = config(text, 1, &layer, 0).unwrap();
        assert_eq!(made["rootfs"]["diff_ids"], json!(["sha256:0", "sha256:1"]));
        assert_eq!((&made["config"]["Entrypoint"][0], made["history"].as_array().unwrap().len()), (&json!("/init"), 2));
        assert!(config(text, 2, &layer, 0).is_err() && config(b"[]", 0, &layer, 0).is_err());
    }
}
