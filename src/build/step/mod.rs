//! Build steps: one action each, with a build key over everything that shapes its output, and a realisation that remembers
//! the output (Nix's derivation and realisation).
//!
//! A key is the SHA-256 of a canonical JSON document: the builder and its version, its parameters, and its inputs by digest.
//! A step that reads another one's output has that output's *digest* in its key, not the other's key: when a step is built
//! again and its output is the same, nothing that depends on it is built (early cut-off).

pub mod engine;
pub mod key;
pub mod plan;
pub mod tree_tar;
pub mod why;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::report::Reporter;
use crate::build::BuildError;
use crate::store::Store;

pub use crate::store::realisation::{Output, Outputs};

/// What a step reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A blob of the store: an input of the lock.
    Blob {
        /// Digest.
        digest: Digest,
        /// Size in bytes.
        size: u64,
    },
    /// An output of another step.
    Step {
        /// Its name.
        step: String,
        /// The output's name.
        output: String,
    },
}

/// What a step takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Cores.
    pub cores: usize,
    /// Memory in MiB.
    pub memory: u64,
}

/// One build action. Its output may depend on nothing but what [`Action::builder`], [`Action::params`] and
/// [`Action::inputs`] say.
pub trait Action: Send + Sync {
    /// Its name in the plan, unique there: `image reg.lan/app:1 linux/amd64 packages`, `step render`.
    fn name(&self) -> String;
    /// The builder and its version, `debian-layer/1`: the version moves whenever the builder's bytes do.
    fn builder(&self) -> &'static str;
    /// Parameters; maps in it are sorted by `serde_json` itself.
    fn params(&self) -> serde_json::Value;
    /// Inputs by a label that says what they are: `package adduser 3.134 all`, `app.py`.
    fn inputs(&self) -> BTreeMap<String, Input>;
    /// What it takes.
    fn cost(&self) -> Cost;
    /// Builds it.
    ///
    /// # Errors
    /// Whatever keeps it from being built.
    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError>;
    /// Whether an output has other bytes each time: a state to go on from, which no result is made of. It is not compared.
    fn varies(&self, output: &str) -> bool {
        let _ = output;
        false
    }
    /// The command that looks into what a failed run left in `scratch`, where there is one.
    fn look_inside(&self, scratch: &Path) -> Option<String> {
        let _ = scratch;
        None
    }
}

/// What an action gets to work with.
pub struct Run<'a> {
    /// The store: inputs are read from it, outputs put into it.
    pub store: &'a Arc<Store>,
    /// A directory of its own, empty; kept when the step fails.
    pub scratch: &'a Path,
    /// Inputs by label, other steps' outputs resolved.
    pub inputs: &'a BTreeMap<String, Output>,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// Threads it may use.
    pub threads: usize,
    /// Who is told how it goes.
    pub reporter: &'a dyn Reporter,
}
