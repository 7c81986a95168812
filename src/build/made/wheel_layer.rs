//! The layer of an image that holds Python wheels.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::build::BuildError;
use crate::build::image::files_layer::layer_outputs;
use crate::build::step::{Action, Cost, Input, Outputs, Run};
use crate::build::wheel::wheel_tree;
use crate::model::guest_path::GuestPath;
use crate::model::lock::LockedWheel;
use crate::model::platform::Platform;

/// Wheels to a layer.
pub struct WheelLayer {
    /// Its name in the plan.
    pub name: String,
    /// Wheels, sorted as in the lock.
    pub wheels: Vec<LockedWheel>,
    /// Where they go.
    pub to: GuestPath,
    /// Python they are for, as `3.11`.
    pub python: String,
    /// The platform they are for.
    pub platform: Platform,
}

impl Action for WheelLayer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        "wheel-layer/1"
    }

    fn params(&self) -> Value {
        json!({ "platform": self.platform.to_string(), "python": self.python, "to": self.to.as_str() })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let input = |w: &LockedWheel| (format!("wheel {}", w.file), Input::Blob { digest: w.digest, size: w.size });
        self.wheels.iter().map(input).collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 100 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let wheels: Vec<_> = self.wheels.iter().map(|w| (w.clone(), run.store.blob_path(&w.digest))).collect();
        let tree = wheel_tree(&wheels, &self.to, &self.python, self.platform, run.scratch)?;
        layer_outputs(&self.name, &tree, run)
    }
}
