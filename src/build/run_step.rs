//! A profile's `[[step]]`: a script of the author's, run in a sandbox over the toolchain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::sandbox::{self, Exit, Spec, Stop};
use super::step::{Action, Cost, Input, Outputs, Run, tree_tar};
use super::toolchain::Toolchain;
use crate::base::shell;
use crate::build::BuildError;

/// Moves whenever the same script could leave other bytes: another environment, other modes in the archive.
const BUILDER: &str = "run-step/1";
/// Longest script: it is one argument (`MAX_ARG_STRLEN`, linux/binfmts.h, without its closing NUL).
const SCRIPT_LIMIT: usize = 128 * 1024 - 1;
/// The name of a step's one output: an uncompressed tar archive of what it left in `/out`.
pub const OUT: &str = "out";

/// A script to run. Inputs that are outputs of other such steps stand unpacked in `/in/<name>/`, blobs are files
/// `/in/<name>`; all of them can only be read.
pub struct RunStep {
    /// Its name in the plan: `step render`.
    pub name: String,
    /// What `/bin/sh -eu` runs.
    pub script: String,
    /// Environment beside the fixed one.
    pub env: BTreeMap<String, String>,
    /// Inputs by the name they have in `/in`.
    pub inputs: BTreeMap<String, Input>,
    /// The programs.
    pub toolchain: Arc<Toolchain>,
    /// What it takes.
    pub cost: Cost,
    /// labimg itself, which makes the sandbox.
    pub helper: PathBuf,
    /// The command that runs a program in the toolchain, for messages: `labimg toolchain exec profiles/x.toml`. What looks into
    /// a failed run is this and `--scratch DIR -- /bin/sh`.
    pub exec: String,
}

impl Action for RunStep {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        BUILDER
    }

    fn params(&self) -> serde_json::Value {
        json!({"env": self.env, "run": self.script, "toolchain": self.toolchain.key()})
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        self.inputs.clone()
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        if self.script.len() > SCRIPT_LIMIT {
            let message = format!("{}: its script has {} bytes", self.name, self.script.len());
            return Err(BuildError::user(message, "put it into a file and name that among the inputs: `path:FILE`"));
        }
        let tree = self.toolchain.tree(run.store, run.reporter)?;
        let spec = Spec {
            tree,
            inputs: self.place_inputs(run)?,
            scratch: run.scratch.to_owned(),
            argv: ["/bin/sh", "-eu", "-c", &self.script].map(str::to_owned).into(),
            env: self.env.clone(),
            epoch: run.epoch,
            cores: run.threads,
            ids: sandbox::Ids::One,
            vm: false,
        };
        let ended = sandbox::run(&self.helper, &spec, Stop::default())?;
        if ended.exit != Exit::Code(0) {
            let (command, output) = (self.told(), ended.output);
            return Err(BuildError::Program { command, ended: ended.exit.to_string(), output });
        }
        Ok(Outputs::from([(OUT.to_owned(), tree_tar::pack(run.store, &spec.out(), run.epoch)?)]))
    }

    fn look_inside(&self, scratch: &Path) -> Option<String> {
        // Before the sandbox was made there is nothing to look into.
        Spec::load(scratch).ok()?;
        Some(format!("{} --scratch {} -- /bin/sh", self.exec, shell::word(scratch)))
    }
}

impl RunStep {
    /// Puts the inputs into the scratch directory: blobs as copies, for a file's time must not tell when it was fetched.
    fn place_inputs(&self, run: &Run<'_>) -> Result<BTreeMap<String, PathBuf>, BuildError> {
        let dir = run.scratch.join("in");
        fs_err::create_dir_all(&dir).map_err(|e| BuildError::io(&dir, "create", e))?;
        let mut placed = BTreeMap::new();
        for (name, output) in run.inputs {
            sandbox::check_name(name)?;
            let to = dir.join(name);
            match self.inputs.get(name) {
                Some(Input::Step { .. }) => tree_tar::unpack(run.store, output, &to, run.epoch)?,
                _ => tree_tar::place(run.store, output, &to, run.epoch)?,
            }
            placed.insert(name.clone(), to);
        }
        Ok(placed)
    }

    /// The script in a message: its first line that is no comment.
    fn told(&self) -> String {
        let said = |l: &&str| !l.is_empty() && !l.starts_with('#');
        let mut lines = self.script.lines().map(str::trim).filter(said);
        let first = lines.next().unwrap_or_default();
        if lines.next().is_some() { format!("`{first} …`") } else { format!("`{first}`") }
    }
}
