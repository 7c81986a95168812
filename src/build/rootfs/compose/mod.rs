//! What a box has on top of its packages: users, files, units, its network, container images, k3s. A tree and wishes in, a tree out.
//!
//! No program runs: account files and the links of units are edited as the text and the links they are.

mod accounts;
mod base;
mod files;
mod foreign;
mod images;
mod k3s;
mod over;
mod units;
mod wishes;

use std::collections::BTreeMap;

use crate::build::BuildError;
use crate::build::step::{Action, Cost, Input, Outputs, Run};
use crate::build::tree::Tree;

use super::{TREE, read_tree, write_tree};
use over::Over;

pub use base::INSECURE_KEY;
pub use k3s::ENV as K3S_ENV;
pub use wishes::{Contents, File, K3s, K3sRole, Manifest, Preload, User, Wishes};

/// Moves whenever the same wishes give another tree.
const BUILDER: &str = "rootfs-compose/1";
/// The label of the tree among the inputs; others are called by their place in the machine, which has a `/` in front.
const FROM: &str = "tree";

/// Puts wishes on top of a tree.
pub struct Compose {
    /// Its name in the plan: `box web tree`.
    pub name: String,
    /// The tree: the output of [`super::Bootstrap`] or of `disk_base::DiskBase`, or a harvested one.
    pub tree: Input,
    /// What to put on top.
    pub wishes: Wishes,
}

impl Action for Compose {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        BUILDER
    }

    fn params(&self) -> serde_json::Value {
        // A map of plain values; it can not fail.
        serde_json::to_value(&self.wishes).unwrap_or_default()
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let mut all = self.wishes.inputs();
        all.insert(FROM.to_owned(), self.tree.clone());
        all
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 128 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let from = run.inputs.get(FROM).ok_or_else(|| BuildError::Internal("a box without a tree".to_owned()))?;
        let mut tree = read_tree(&run.store.blob_path(&from.digest), &self.name)?;
        let contents = files::Sources { store: run.store, inputs: run.inputs };
        compose(&mut tree, &self.wishes, &contents, run.epoch)?;
        Ok(Outputs::from([(TREE.to_owned(), write_tree(&tree, run.epoch, run.store)?)]))
    }
}

/// Puts `wishes` on top of `tree`, in a fixed order: what an author says later wins over what every box has.
fn compose(tree: &mut Tree, wishes: &Wishes, sources: &files::Sources<'_>, epoch: u64) -> Result<(), BuildError> {
    let mut over = Over::new(tree);
    let mut accounts = accounts::Accounts::read(&over)?;
    foreign::put(&mut over, wishes)?;
    base::put(&mut over, wishes)?;
    for user in wishes.users() {
        let (user, is_there) = foreign::user(user, &accounts, wishes, &over);
        if !is_there {
            accounts.add(&user, epoch)?;
        }
        base::user(&mut over, &user, &accounts)?;
    }
    let accounts = accounts.write(&mut over)?;
    k3s::put(&mut over, wishes, sources)?;
    images::put(&mut over, wishes, sources)?;
    files::put(&mut over, wishes, sources, &accounts)?;
    units::put(&mut over, wishes)
}

#[cfg(test)]
mod tests;
