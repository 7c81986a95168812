//! The tree that becomes of a box after its steps: the one it started with, and on top of it what each step changed. A booted file
//! system is never shipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Machine;
use super::delta;
use crate::build::BuildError;
use crate::build::rootfs::{TREE, normalise, read_tree, write_tree};
use crate::build::step::{Action, Cost, Input, Outputs, Run};

/// Puts together what steps changed.
pub struct Harvest {
    /// Its name in the plan: `box m amd64 after its steps`.
    pub name: String,
    /// The tree the machine started with.
    pub tree: Input,
    /// What each step changed, in their order.
    pub changes: Vec<Input>,
    /// The machine, which is switched off: nobody needs it any more.
    pub machine: Arc<Machine>,
}

impl Action for Harvest {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        "provision-harvest/1"
    }

    fn params(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let changes = self.changes.iter().enumerate().map(|(i, input)| (label(i), input.clone()));
        changes.chain([(TREE.to_owned(), self.tree.clone())]).collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 128 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        self.machine.off();
        let lacks = || BuildError::Internal(format!("{}: an input is missing", self.name));
        let from = run.inputs.get(TREE).ok_or_else(lacks)?;
        let mut tree = read_tree(&run.store.blob_path(&from.digest), &self.name)?;
        for i in 0..self.changes.len() {
            let changes = run.inputs.get(&label(i)).ok_or_else(lacks)?;
            delta::apply(&mut tree, read_tree(&run.store.blob_path(&changes.digest), &label(i))?)?;
        }
        normalise::shadow(&mut tree, run.epoch)?;
        Ok(Outputs::from([(TREE.to_owned(), write_tree(&tree, run.epoch, run.store)?)]))
    }
}

fn label(i: usize) -> String {
    format!("changes {:03}", i + 1)
}
