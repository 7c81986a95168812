//! What things made here need from outside: suites, sets of packages and wheels, files beside the profile.

use std::collections::{BTreeMap, BTreeSet};

use super::inputs::Inputs;
use super::types::{Image, Profile};
use super::{BoxDef, Debian, StepInput};
use crate::model::box_packages;
use crate::model::image_def::ImageDef;
use crate::model::lock::{PackageSet, WheelSetLock, box_set, essential_set, image_set, toolchain_set, wheel_set};
use crate::model::platform::Platform;
use crate::model::source_map::SourceMap;

/// The `image.toml` files of a profile, by their path as the profile gives it, with what folders they name hold.
pub type ImageDefs = BTreeMap<String, DefOnDisk>;

/// One `image.toml` as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct DefOnDisk {
    /// What it says.
    pub def: ImageDef,
    /// For every `from` beside it: the files meant, as path below that `from` (empty for a file itself) and path relative to
    /// the profile's folder.
    pub files: BTreeMap<String, BTreeMap<String, String>>,
    /// Where it says it.
    pub sources: SourceMap,
}

/// A suite to take packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteInput {
    /// As the archive names it.
    pub suite: String,
    /// The archive it is of.
    pub archive: String,
}

/// A `[debian.NAME]` table with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianInput {
    /// Suites, the first one first.
    pub suites: Vec<SuiteInput>,
    /// The archive of those that are no security suites.
    pub archive: String,
    /// Components, sorted.
    pub components: Vec<String>,
    /// Moment of the snapshot archive.
    pub snapshot: Option<String>,
    /// Keyring, relative to the profile's folder.
    pub keyring: Option<String>,
}

/// An image that is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeImage {
    /// Path of its `image.toml`.
    pub def: String,
    /// Platforms to make it for.
    pub platforms: BTreeSet<Platform>,
}

impl Debian {
    /// The table called `name`, defaults filled in.
    fn input(&self, name: &str) -> DebianInput {
        let archive = self.archive.as_ref().map_or("debian", |a| a.as_str());
        let of = |suite: &str| {
            let security = if suite.ends_with("-security") { "-security" } else { "" };
            SuiteInput { suite: suite.to_owned(), archive: format!("{archive}{security}") }
        };
        let suites: Vec<SuiteInput> = match self.suites.is_empty() {
            true => vec![of(name)],
            false => self.suites.iter().map(|s| of(s)).collect(),
        };
        let mut components: BTreeSet<String> = self.components.iter().map(|c| c.to_string()).collect();
        if components.is_empty() {
            components.insert("main".to_owned());
        }
        DebianInput {
            suites,
            archive: archive.to_owned(),
            components: components.into_iter().collect(),
            snapshot: self.snapshot.as_ref().map(|s| s.to_string()),
            keyring: self.keyring.as_ref().map(|k| k.to_string()),
        }
    }
}

impl BoxDef {
    /// Platforms it is made for.
    pub fn platforms(&self) -> BTreeSet<Platform> {
        let own: BTreeSet<Platform> = self.platforms.iter().map(|p| **p).collect();
        if own.is_empty() { BTreeSet::from([Platform::LinuxAmd64]) } else { own }
    }
}

impl Profile {
    /// Platforms an image is carried for.
    pub(super) fn image_platforms(&self, image: &Image) -> BTreeSet<Platform> {
        let own: BTreeSet<Platform> = image.platforms.iter().map(|p| **p).collect();
        if own.is_empty() { self.platforms() } else { own }
    }

    /// Adds what things made here need.
    pub(super) fn made_inputs(&self, defs: &ImageDefs, inputs: &mut Inputs) {
        inputs.debian = self.debian.iter().map(|(name, d)| (name.clone(), d.input(name))).collect();
        inputs.locals.extend(self.debian.values().filter_map(|d| d.keyring.as_deref()).cloned());
        for image in &self.image {
            let Some((path, found)) = image.build.as_ref().and_then(|b| defs.get_key_value(b.as_str())) else {
                continue;
            };
            let platforms = self.image_platforms(image);
            inputs.locals.insert(path.clone());
            inputs.locals.extend(found.files.values().flat_map(|files| files.values()).cloned());
            for platform in &platforms {
                inputs.add_image_set(image, &found.def, platform.arch());
            }
            inputs.made.insert((*image.reference).clone(), MadeImage { def: path.clone(), platforms });
        }
        self.toolchain_sets(inputs);
        self.box_inputs(inputs);
        self.wheel_sets(inputs);
        for text in self.step.iter().flat_map(|s| s.inputs.values()) {
            if let Some(StepInput::Path(path)) = StepInput::parse(text) {
                inputs.locals.insert(path.to_owned());
            }
        }
    }

    /// Whoever builds may sit at another machine than who locks: the toolchain is locked for both.
    fn toolchain_sets(&self, inputs: &mut Inputs) {
        let Some(toolchain) = &self.toolchain else { return };
        for arch in ["amd64", "arm64"] {
            inputs.add_set(PackageSet {
                name: toolchain_set(arch),
                debian: toolchain.debian.to_string(),
                architecture: arch.to_owned(),
                want: sorted(toolchain.packages.iter().map(|p| p.to_string()).chain(self.box_programs(arch))),
                essential: true,
            });
        }
    }

    /// What the toolchain must hold for the profile's boxes.
    fn box_programs(&self, arch: &str) -> Vec<String> {
        if self.boxes.is_empty() {
            return Vec::new();
        }
        let steps = self.boxes.iter().any(|b| !b.step.is_empty());
        box_packages::programs(arch, steps).map(str::to_owned).collect()
    }

    fn box_inputs(&self, inputs: &mut Inputs) {
        for table in &self.boxes {
            let files = table.file.iter().chain(table.step.iter().filter_map(|s| s.file.as_ref()));
            let named = files
                .filter_map(|f| f.from.as_deref())
                .chain(table.step.iter().filter_map(|s| s.upload.as_ref()).map(|u| &*u.from))
                .chain(table.k3s.as_ref().and_then(|k| k.registries.as_deref()));
            inputs.locals.extend(named.filter(|from| !is_elsewhere(from)).cloned());
            let Some(debian) = &table.debian else { continue };
            for platform in table.platforms() {
                let kernel = table.kernel.as_ref().map(|k| k.as_str());
                let own = table.packages.iter().map(|p| p.to_string());
                inputs.add_set(PackageSet {
                    name: box_set(&table.name, platform.arch()),
                    debian: debian.to_string(),
                    architecture: platform.arch().to_owned(),
                    want: sorted(own.chain(box_packages::machine(platform.arch(), kernel))),
                    essential: true,
                });
            }
        }
    }

    fn wheel_sets(&self, inputs: &mut Inputs) {
        for set in &self.wheel {
            let own: BTreeSet<Platform> = set.platforms.iter().map(|p| **p).collect();
            for platform in if own.is_empty() { self.platforms() } else { own } {
                let name = wheel_set(&set.name, platform);
                let requirements = sorted(set.requirements.iter().map(|r| r.to_string()));
                let lock = WheelSetLock { name: name.clone(), python: set.python.to_string(), requirements };
                inputs.wheel_sets.insert(name, (platform, lock));
            }
        }
    }
}

impl Inputs {
    fn add_set(&mut self, set: PackageSet) {
        self.package_sets.insert(set.name.clone(), set);
    }

    fn add_image_set(&mut self, image: &Image, def: &ImageDef, arch: &str) {
        let Some(debian) = &def.debian else { return };
        if def.essential {
            self.add_set(PackageSet {
                name: essential_set(debian, arch),
                debian: debian.to_string(),
                architecture: arch.to_owned(),
                want: Vec::new(),
                essential: true,
            });
        }
        self.add_set(PackageSet {
            name: image_set(&image.reference, arch),
            debian: debian.to_string(),
            architecture: arch.to_owned(),
            want: sorted(def.packages.iter().map(|p| p.to_string())),
            essential: def.essential,
        });
    }
}

/// Whether a `from` names something that does not lie beside the profile: `step:NAME/path`, `tool:NAME`.
pub(super) fn is_elsewhere(from: &str) -> bool {
    ["step:", "file:", "manifest:", "tool:"].iter().any(|kind| from.starts_with(kind))
}

fn sorted(items: impl Iterator<Item = String>) -> Vec<String> {
    items.collect::<BTreeSet<_>>().into_iter().collect()
}
