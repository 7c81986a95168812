//! The steps of one image, and the image they make.

use std::collections::{BTreeMap, BTreeSet};

use super::debian_layer::{DebianLayer, Part};
use super::wheel_layer::WheelLayer;
use super::{LAYER, LISTING, Request, local, steps};
use crate::build::BuildError;
use crate::build::image::manifest::{MANIFEST, ManifestStep};
use crate::build::image::{FilesLayer, assemble};
use crate::build::run_step::OUT;
use crate::build::step::engine::Done;
use crate::build::step::{Action, Input};
use crate::model::guest_path::GuestPath;
use crate::model::image::ImageRef;
use crate::model::image_def::ImageDef;
use crate::model::lock::{LockedImage, LockedPackage, essential_set, image_set, wheel_set};
use crate::model::platform::Platform;
use crate::model::profile::{DefOnDisk, MadeImage};
use crate::store::Store;

/// Actions so far, each with a name of its own.
#[derive(Default)]
struct Actions {
    list: Vec<Box<dyn Action>>,
    names: BTreeSet<String>,
}

impl Actions {
    /// Adds an action unless another image has brought it already.
    fn add(&mut self, action: impl Action + 'static) -> String {
        let name = action.name();
        if self.names.insert(name.clone()) {
            self.list.push(Box::new(action));
        }
        name
    }
}

pub(super) fn actions(request: &Request<'_>) -> Result<Vec<Box<dyn Action>>, BuildError> {
    let mut actions = Actions::default();
    for (reference, made) in &request.inputs.made {
        let Some(found) = request.defs.get(&made.def) else {
            return Err(BuildError::Internal(format!("`{}` was not read", made.def)));
        };
        for platform in &made.platforms {
            image(request, reference, found, *platform, &mut actions)?;
        }
    }
    Ok(actions.list)
}

/// The steps of an image for one platform.
fn image(
    request: &Request<'_>,
    reference: &ImageRef,
    found: &DefOnDisk,
    platform: Platform,
    actions: &mut Actions,
) -> Result<(), BuildError> {
    let def = &found.def;
    let mut layers = debian_layers(request, reference, def, platform, actions);
    for set in &def.wheels {
        layers.push(("wheels".to_owned(), wheels(request, reference, def, set, platform, actions)?));
    }
    let lower = layers.iter().map(|(_, step)| output(step, LISTING)).collect();
    let files = files_layer(request, reference, found, platform, lower)?;
    layers.push(("files".to_owned(), actions.add(files)));
    let layers = layers.into_iter().map(|(what, step)| (what, output(&step, LAYER), output(&step, LISTING)));
    actions.add(ManifestStep { image: reference.to_string(), platform, def: def.clone(), layers: layers.collect() });
    Ok(())
}

fn output(step: &str, name: &str) -> Input {
    Input::Step { step: step.to_owned(), output: name.to_owned() }
}

/// The essential layer and the one of all other packages; what each holds, and its step.
fn debian_layers(
    request: &Request<'_>,
    reference: &ImageRef,
    def: &ImageDef,
    platform: Platform,
    actions: &mut Actions,
) -> Vec<(String, String)> {
    let Some(debian) = &def.debian else { return Vec::new() };
    let architecture = platform.arch().to_owned();
    let of = |set: &str| -> Vec<LockedPackage> { request.lock.packages_of(set).cloned().collect() };
    let mut layers = Vec::new();
    let mut part = Part::Whole;
    if def.essential {
        let packages = of(&essential_set(debian, &architecture));
        part = Part::Beyond(packages.iter().map(|p| p.name.clone()).collect());
        let step = actions.add(DebianLayer {
            name: format!("essential {} {architecture}", **debian),
            architecture: architecture.clone(),
            without_scripts: shared_without_scripts(request, debian),
            packages,
            part: Part::Whole,
        });
        layers.push(("essential packages".to_owned(), step));
    }
    let step = actions.add(DebianLayer {
        name: format!("image {reference} {platform} packages"),
        packages: of(&image_set(reference, &architecture)),
        architecture,
        part,
        without_scripts: def.without_scripts.iter().map(|name| name.to_string()).collect(),
    });
    layers.push(("packages".to_owned(), step));
    layers
}

/// Packages of a table whose scripts may stay undone: the layer of the essential ones is every image's, so any image may say so.
/// An image that does not is refused when its own layer is made.
fn shared_without_scripts(request: &Request<'_>, debian: &str) -> BTreeSet<String> {
    let defs = request.defs.values().map(|d| &d.def);
    let of_table = defs.filter(|def| def.debian.as_ref().is_some_and(|d| **d == *debian));
    of_table.flat_map(|def| &def.without_scripts).map(|name| name.to_string()).collect()
}

fn wheels(
    request: &Request<'_>,
    reference: &ImageRef,
    def: &ImageDef,
    set: &str,
    platform: Platform,
    actions: &mut Actions,
) -> Result<String, BuildError> {
    let name = wheel_set(set, platform);
    let Some(locked) = request.lock.wheel_sets.iter().find(|s| s.name == name) else {
        let message = format!("image {reference}: the wheels `{set}` are not locked for {platform}");
        return Err(BuildError::user(message, format!("add \"{platform}\" to the platforms of [[wheel]] `{set}`")));
    };
    let to = match &def.wheels_to {
        Some(path) => GuestPath::parse(path)?,
        None => GuestPath::parse(&format!("usr/local/lib/python{}/dist-packages", locked.python))?,
    };
    Ok(actions.add(WheelLayer {
        name: format!("image {reference} {platform} wheels {set}"),
        wheels: request.lock.wheels_of(&name).cloned().collect(),
        to,
        python: locked.python.clone(),
        platform,
    }))
}

fn files_layer(
    request: &Request<'_>,
    reference: &ImageRef,
    found: &DefOnDisk,
    platform: Platform,
    lower: Vec<Input>,
) -> Result<FilesLayer, BuildError> {
    let mut locals = BTreeMap::new();
    for (from, files) in &found.files {
        for (below, path) in files {
            let (digest, size) = local(request.lock, path)?;
            let key = if below.is_empty() { from.clone() } else { format!("{from}/{below}") };
            locals.insert(key, Input::Blob { digest, size });
        }
    }
    let from = found.def.file.iter().filter_map(|f| f.from.as_ref());
    let named = from.filter_map(|f| f.strip_prefix("step:")).filter_map(|rest| rest.split('/').next());
    let steps = named.map(|name| (name.to_owned(), output(&steps::name(name), OUT))).collect();
    Ok(FilesLayer { image: reference.to_string(), platform, def: found.def.clone(), locals, steps, lower })
}

/// The image that finished steps made.
///
/// # Errors
/// A store that can not be written.
pub fn built(
    reference: &ImageRef,
    made: &MadeImage,
    done: &BTreeMap<String, Done>,
    store: &Store,
) -> Result<LockedImage, BuildError> {
    let mut manifests = BTreeMap::new();
    for platform in &made.platforms {
        let step = ManifestStep::step_name(&reference.to_string(), *platform);
        let outputs = done.get(&step).map(|d| &d.outputs);
        let manifest = outputs.and_then(|o| o.get(MANIFEST));
        let manifest = manifest.ok_or_else(|| BuildError::Internal(format!("step `{step}` made no {MANIFEST}")))?;
        manifests.insert(*platform, manifest.clone());
    }
    let image = assemble(&manifests, store)?;
    Ok(LockedImage {
        reference: reference.clone(),
        source: None,
        media_type: image.media_type,
        digest: image.digest,
        size: image.size,
        platforms: image.platforms,
    })
}
