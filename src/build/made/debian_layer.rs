//! The layers of an image that come from Debian packages: the essential ones, shared by every image of one table, and the
//! rest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::build::BuildError;
use crate::build::debian::{RootOptions, build_root, rules, unpack_all};
use crate::build::image::files_layer::layer_outputs;
use crate::build::layer::difference;
use crate::build::step::{Action, Cost, Input, Outputs, Run};
use crate::model::image_def::ALL_SCRIPTS;
use crate::model::lock::LockedPackage;

/// Which part of a root becomes the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// What it has beyond these packages, which are a layer of their own below it.
    Beyond(BTreeSet<String>),
}

/// Packages to a layer.
pub struct DebianLayer {
    /// Its name in the plan.
    pub name: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Packages, sorted as in the lock.
    pub packages: Vec<LockedPackage>,
    /// Which part.
    pub part: Part,
    /// Packages whose scripts may stay undone.
    pub without_scripts: BTreeSet<String>,
}

/// The label of a package among a step's inputs.
pub fn label(package: &LockedPackage) -> String {
    format!("package {}", package.label())
}

impl Action for DebianLayer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        "debian-layer/3"
    }

    fn params(&self) -> Value {
        let below = match &self.part {
            Part::Whole => Value::Null,
            Part::Beyond(names) => json!(names),
        };
        // Names of other packages change nothing.
        let ours = |name: &&String| *name == ALL_SCRIPTS || self.packages.iter().any(|p| p.name == **name);
        let without: Vec<&String> = self.without_scripts.iter().filter(ours).collect();
        json!({
            "architecture": self.architecture,
            "below": below,
            "rules": rules::table::digest(),
            "without-scripts": without,
        })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let input = |p: &LockedPackage| (label(p), Input::Blob { digest: p.digest, size: p.size });
        self.packages.iter().map(input).collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 2, memory: 200 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let unpacked = unpack_all(run.store, &self.packages, run.scratch, run.threads, run.reporter)?;
        let essential_names = match &self.part {
            Part::Whole => BTreeSet::new(),
            Part::Beyond(names) => names.clone(),
        };
        let options = RootOptions {
            epoch: run.epoch,
            without_scripts: self.without_scripts.clone(),
            architecture: self.architecture.clone(),
            essential_names,
        };
        let root = build_root(unpacked, &options)?;
        let tree = match self.part {
            Part::Whole => root.full,
            Part::Beyond(_) => difference(&root.essential, &root.full)?,
        };
        layer_outputs(&self.name, &tree, run)
    }
}
