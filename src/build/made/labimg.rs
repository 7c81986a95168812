//! The image that holds labimg itself: one file, for what runs in containers (`serve` on an engine's network).

use std::collections::BTreeMap;

use super::{LAYER, LISTING};
use crate::build::BuildError;
use crate::build::image::{FilesLayer, ManifestStep};
use crate::build::step::{Action, Input};
use crate::model::image::ImageRef;
use crate::model::image_def::ImageDef;
use crate::model::image_def_load;
use crate::model::lock::Lock;
use crate::model::profile::MadeImage;

/// Its definition. `from` is the name under which [`actions`] gives the program.
const DEF: &str = r#"
schema = 1
[[file]]
from = "labimg"
to = "/labimg"
mode = "0755"
[config]
entrypoint = ["/labimg"]
"#;

/// The image of labimg itself and its platforms, where the lock carries labimg.
pub fn labimg_image(lock: &Lock) -> Option<(ImageRef, MadeImage)> {
    let platforms = lock.carried.iter().map(|p| p.platform).collect();
    Some((lock.labimg_image()?, MadeImage { def: String::new(), platforms }))
}

/// The steps that make it: none where the lock carries nothing.
pub(super) fn actions(lock: &Lock) -> Result<Vec<Box<dyn Action>>, BuildError> {
    let Some(reference) = lock.labimg_image() else { return Ok(Vec::new()) };
    let def = definition()?;
    let mut actions: Vec<Box<dyn Action>> = Vec::new();
    for program in &lock.carried {
        let files = FilesLayer {
            image: reference.to_string(),
            platform: program.platform,
            def: def.clone(),
            locals: BTreeMap::from([("labimg".to_owned(), Input::Blob { digest: program.digest, size: program.size })]),
            steps: BTreeMap::new(),
            lower: Vec::new(),
        };
        let of = |output: &str| Input::Step { step: files.name(), output: output.to_owned() };
        actions.push(Box::new(ManifestStep {
            image: reference.to_string(),
            platform: program.platform,
            def: def.clone(),
            layers: vec![("files".to_owned(), of(LAYER), of(LISTING))],
        }));
        actions.push(Box::new(files));
    }
    Ok(actions)
}

fn definition() -> Result<ImageDef, BuildError> {
    let loaded = image_def_load::parse("labimg", DEF);
    loaded.map(|l| l.def).map_err(|e| BuildError::Internal(format!("the definition of labimg's own image: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_reads() {
        assert_eq!(definition().unwrap().file.len(), 1);
        assert!(actions(&Lock::default()).unwrap().is_empty());
    }
}
