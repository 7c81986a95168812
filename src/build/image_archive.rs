//! One image as an archive of its own, for machines that load it at their first boot: an OCI layout with Docker's manifest, as
//! `labimg export --docker` writes it, which k3s, containerd and Docker read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::BuildError;
use super::export::{ExportError, Format, Selection, export};
use super::image::files_layer::input;
use super::image::manifest::{MANIFEST, ManifestStep, assemble};
use super::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::model::image::ImageRef;
use crate::model::lock::LockedImage;
use crate::model::platform::Platform;
use crate::model::profile::MadeImage;

/// The step's one output.
pub const ARCHIVE: &str = "archive";

/// Where an image comes from.
pub enum Origin {
    /// From the lock.
    Locked(Box<LockedImage>),
    /// Made here, for these platforms.
    Made(MadeImage),
}

/// Writes the archive of an image for one platform.
pub struct ImageArchive {
    /// The image.
    pub reference: ImageRef,
    /// The platform.
    pub platform: Platform,
    /// Where it comes from.
    pub origin: Origin,
}

impl ImageArchive {
    /// The name of the step that writes it.
    pub fn step_name(reference: &ImageRef, platform: Platform) -> String {
        format!("image {reference} {platform} archive")
    }

    fn image(&self, run: &Run<'_>) -> Result<LockedImage, BuildError> {
        match &self.origin {
            Origin::Locked(image) => Ok((**image).clone()),
            Origin::Made(_) => {
                let manifest: Output = input(run, MANIFEST)?.clone();
                let built = assemble(&BTreeMap::from([(self.platform, manifest)]), run.store)?;
                Ok(LockedImage {
                    reference: self.reference.clone(),
                    source: None,
                    media_type: built.media_type,
                    digest: built.digest,
                    size: built.size,
                    platforms: built.platforms,
                })
            }
        }
    }
}

impl Action for ImageArchive {
    fn name(&self) -> String {
        Self::step_name(&self.reference, self.platform)
    }

    fn builder(&self) -> &'static str {
        "image-archive/1"
    }

    fn params(&self) -> Value {
        json!({ "platform": self.platform, "reference": self.reference.to_string() })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let from = match &self.origin {
            Origin::Locked(image) => {
                image.platforms.get(&self.platform).map(|m| Input::Blob { digest: m.digest, size: m.size })
            }
            Origin::Made(_) => Some(Input::Step {
                step: ManifestStep::step_name(&self.reference.to_string(), self.platform),
                output: MANIFEST.to_owned(),
            }),
        };
        from.into_iter().map(|input| (MANIFEST.to_owned(), input)).collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 32 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let images = [self.image(run)?];
        let selection = Selection { format: Format::Docker, platform: Some(self.platform), images: Vec::new() };
        let (digest, size, ()) = run.store.put_with(|out| {
            let mut out = Plain { out };
            export(run.store.as_ref(), &images, run.epoch, &selection, &mut out, run.reporter)
                .map(drop)
                .map_err(|e| failed(&self.reference, e))
        })?;
        Ok(BTreeMap::from([(ARCHIVE.to_owned(), Output { digest, size, facts: BTreeMap::new() })]))
    }
}

fn failed(reference: &ImageRef, error: ExportError) -> BuildError {
    match error {
        ExportError::Store(error) => error.into(),
        other => BuildError::bad(format!("image {reference}"), other.to_string()),
    }
}

/// A writer as a trait object.
struct Plain<W> {
    out: W,
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
