//! A container image as the archive that a machine loads: one platform of it, as `labimg export` writes it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::build::BuildError;
use crate::build::export::{ExportError, Format, Selection, export};
use crate::build::image::manifest::assemble;
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::model::image::ImageRef;
use crate::model::lock::LockedImage;
use crate::model::platform::Platform;

/// The output: the archive, not compressed (its layers are).
pub const ARCHIVE: &str = "archive";
/// The label of the image's manifest among the inputs.
const MANIFEST: &str = "manifest";

/// Makes the archive. Docker's form is read by everything: an OCI layout, which containerd and k3s prefer, with Docker's
/// `manifest.json` beside it.
pub struct ImageArchive {
    /// Its name in the plan: `box web image quickstart.lab/frontend:1.0`.
    pub name: String,
    /// The platform.
    pub platform: Platform,
    /// The image.
    pub image: ImageSource,
}

/// Where an image comes from.
pub enum ImageSource {
    /// The lock.
    Locked(LockedImage),
    /// A step that makes its manifest for the platform.
    Made {
        /// Its reference.
        reference: ImageRef,
        /// The manifest.
        manifest: Input,
    },
}

impl ImageArchive {
    fn reference(&self) -> &ImageRef {
        match &self.image {
            ImageSource::Locked(image) => &image.reference,
            ImageSource::Made { reference, .. } => reference,
        }
    }

    /// The image with this platform alone.
    fn locked(&self, run: &Run<'_>) -> Result<LockedImage, BuildError> {
        let reference = match &self.image {
            ImageSource::Locked(image) => return Ok(image.clone()),
            ImageSource::Made { reference, .. } => reference.clone(),
        };
        let manifest = run.inputs.get(MANIFEST).ok_or_else(|| BuildError::Internal("no manifest".to_owned()))?;
        let built = assemble(&BTreeMap::from([(self.platform, manifest.clone())]), run.store)?;
        let (media_type, platforms) = (built.media_type, built.platforms);
        Ok(LockedImage { reference, source: None, media_type, digest: built.digest, size: built.size, platforms })
    }
}

impl Action for ImageArchive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        "rootfs-image-archive/1"
    }

    fn params(&self) -> serde_json::Value {
        json!({"platform": self.platform, "reference": self.reference().to_string()})
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let input = match &self.image {
            ImageSource::Locked(image) => {
                image.platforms.get(&self.platform).map(|m| Input::Blob { digest: m.digest, size: m.size })
            }
            ImageSource::Made { manifest, .. } => Some(manifest.clone()),
        };
        input.map(|input| (MANIFEST.to_owned(), input)).into_iter().collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 32 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let image = self.locked(run)?;
        let selection = Selection { format: Format::Docker, platform: Some(self.platform), images: Vec::new() };
        let (digest, size, _) = run.store.put_with(|out| {
            export(run.store.as_ref(), &[image], run.epoch, &selection, out, run.reporter).map_err(|e| match e {
                ExportError::Store(e) => BuildError::Store(e),
                other => BuildError::bad(self.name.clone(), other.to_string()),
            })
        })?;
        Ok(Outputs::from([(ARCHIVE.to_owned(), Output { digest, size, facts: BTreeMap::new() })]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::base::report::Silent;
    use crate::model::lock::LockedManifest;
    use crate::store::{Access, Store};
    use std::sync::Arc;

    #[test]
    fn an_archive_holds_one_platform_and_is_the_same_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), Access::Shared).unwrap());
        let blob = |media: &str, bytes: &[u8]| {
            let digest = store.put(bytes).unwrap();
            json!({"mediaType": media, "digest": digest.to_string(), "size": bytes.len()})
        };
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": blob("application/vnd.oci.image.config.v1+json", br#"{"architecture":"amd64","os":"linux"}"#),
            "layers": [blob("application/vnd.oci.image.layer.v1.tar+gzip", b"\x1f\x8blayer")],
        }))
        .unwrap();
        let (digest, size) = (store.put(&manifest).unwrap(), manifest.len() as u64);
        let platform: Platform = "linux/amd64".parse().unwrap();
        let locked = LockedManifest { digest, size, media_type: media_type.clone() };
        let reference: ImageRef = "app.lab/app:1".parse().unwrap();
        let image = LockedImage {
            reference,
            source: None,
            media_type,
            digest,
            size,
            platforms: BTreeMap::from([(platform, locked)]),
        };
        let action = ImageArchive { name: "box web image app".into(), platform, image: ImageSource::Locked(image) };
        assert_eq!(action.inputs().len(), 1);
        let scratch = dir.path().join("scratch");
        let run =
            Run { store: &store, scratch: &scratch, inputs: &BTreeMap::new(), epoch: 7, threads: 1, reporter: &Silent };
        let out = action.run(&run).unwrap();
        assert_eq!(out, action.run(&run).unwrap());
        let bytes = fs_err::read(store.blob_path(&out[ARCHIVE].digest)).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert!(names.contains(&"oci-layout".to_owned()) && names.contains(&"manifest.json".to_owned()), "{names:?}");
        assert!(names.contains(&format!("blobs/sha256/{}", digest.hex())), "{names:?}");
        let gone = Digest::of(b"gone");
        let missing = LockedImage {
            platforms: BTreeMap::from([(platform, LockedManifest { digest: gone, size: 4, media_type: "x".into() })]),
            ..match action.image {
                ImageSource::Locked(image) => image,
                ImageSource::Made { .. } => unreachable!("it is a locked one"),
            }
        };
        let action = ImageArchive { name: "x".into(), platform, image: ImageSource::Locked(missing) };
        assert!(action.run(&run).is_err());
    }
}
