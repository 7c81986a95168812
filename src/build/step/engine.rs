//! Builds a plan: steps whose inputs are there run side by side within the cores and memory given; a step whose key has a
//! realisation with all its outputs in the store does not run at all.
//!
//! A key holds the *digests* of inputs, so it is known only when everything a step reads is built; that is what makes equal
//! outputs stop a wave of building (early cut-off).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use super::key::KeyDocument;
use super::plan::Plan;
use super::{Action, Cost, Input, Output, Outputs, Run};
use crate::base::digest::Digest;
use crate::base::dirs;
use crate::base::report::{Reporter, Task};
use crate::build::BuildError;
use crate::build::descent::{self, Difference, Report, What};
use crate::store::realisation::{LastBuild, Realisation};
use crate::store::{Store, StoreError};

/// Differences of one output that a message names.
const SHOWN: usize = 20;

/// Whether steps are built that need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// Realisations are used.
    No,
    /// Every step runs (again), in another directory and with another number of threads than the first time, and must make
    /// the same outputs.
    AndCompare,
}

/// How to build.
pub struct EngineOptions<'a> {
    /// The store that inputs are in and outputs go into.
    pub store: &'a Arc<Store>,
    /// The lab that is built, for `labimg why`.
    pub lab: &'a str,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// Cores that may be busy at a time.
    pub cores: usize,
    /// Memory that steps may ask for together, in MiB.
    pub memory_mib: u64,
    /// The directory that steps get their scratch directories in; made when it is not there.
    pub scratch_root: &'a Path,
    /// The same for steps that are built again; `None` for a directory below that. On another kind of file system directories
    /// list their files in another order, and a step that lets it shape its output is found.
    pub again_root: Option<&'a Path>,
    /// Whether a failed step's scratch directory stays.
    pub keep_failed: bool,
    /// Whether steps are built that need not be.
    pub rebuild: Rebuild,
    /// Who is told how it goes.
    pub reporter: &'a dyn Reporter,
}

/// A step that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What it made.
    pub outputs: Outputs,
    /// Whether it ran, now.
    pub built: bool,
    /// Its build key.
    pub key: Digest,
}

/// What can be said of a step before anything runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Preview {
    /// Its inputs are there, so its key is known.
    Known {
        /// What the key is the digest of.
        document: KeyDocument,
        /// What it made, when it need not run.
        outputs: Option<Outputs>,
    },
    /// These steps must be built first, for their outputs are its inputs.
    Waits(BTreeSet<String>),
}

/// Builds every step of `plan`; gives what they made, by name.
///
/// # Errors
/// [`BuildError::StepFailed`] and [`BuildError::NotReproducible`] for the first such step of the plan, after the steps that
/// ran beside it came to their end (others that failed are told to the reporter); store errors.
pub fn realise(plan: &Plan, options: &EngineOptions<'_>) -> Result<BTreeMap<String, Done>, BuildError> {
    options.reporter.phase("building", None);
    let actions: Vec<&dyn Action> = plan.actions().collect();
    let mut state =
        State { done: actions.iter().map(|_| None).collect(), failed: BTreeMap::new(), running: Vec::new() };
    let mut waiting: BTreeSet<usize> = (0..actions.len()).collect();
    let mut ready: BTreeMap<usize, Job<'_>> = BTreeMap::new();
    std::thread::scope(|scope| {
        let (tell, hear) = mpsc::channel();
        loop {
            // Steps stand after what they read: one look at each finds all that need not run.
            for at in waiting.clone() {
                if !state.failed.is_empty() || plan.needs()[at].iter().any(|need| state.done[*need].is_none()) {
                    continue;
                }
                waiting.remove(&at);
                match look(actions[at], options, |s| state.of(&actions, s)) {
                    Ok(Looked::There(done)) => state.done[at] = Some(done),
                    Ok(Looked::Run(job)) => drop(ready.insert(at, *job)),
                    Err(e) => drop(state.failed.insert(at, e)),
                }
            }
            while let Some(at) = state.next(&ready, options).filter(|_| state.failed.is_empty()) {
                let Some(job) = ready.remove(&at) else { break };
                state.running.push((at, job.action.cost()));
                let tell = tell.clone();
                scope.spawn(move || {
                    let made = catch_unwind(AssertUnwindSafe(|| work(&job, options)));
                    let made = made.unwrap_or_else(|_| Err(BuildError::Internal(format!("{} panicked", job.name))));
                    // Nobody listens only when the engine itself is gone.
                    let _ = tell.send((at, made));
                });
            }
            if state.running.is_empty() {
                return;
            }
            let Ok((at, made)) = hear.recv() else { return };
            state.running.retain(|(running, _)| *running != at);
            match made {
                Ok(done) => state.done[at] = Some(done),
                Err(e) => drop(state.failed.insert(at, e)),
            }
        }
    });
    if let Some((_, first)) = state.failed.pop_first() {
        for other in state.failed.values() {
            options.reporter.warn(&other.to_string());
        }
        return Err(first);
    }
    Ok(actions.iter().zip(state.done).filter_map(|(a, done)| Some((a.name(), done?))).collect())
}

/// What is known of every step without running any.
///
/// # Errors
/// Realisations that can not be read for other reasons than being damaged.
pub fn preview(plan: &Plan, store: &Store, epoch: u64) -> Result<BTreeMap<String, Preview>, BuildError> {
    let mut found: BTreeMap<String, Preview> = BTreeMap::new();
    for action in plan.actions() {
        let open = |input: &Input| match input {
            Input::Step { step, .. } => match found.get(step) {
                Some(Preview::Known { outputs: Some(_), .. }) => None,
                _ => Some(step.clone()),
            },
            Input::Blob { .. } => None,
        };
        let waits: BTreeSet<String> = action.inputs().values().filter_map(open).collect();
        if !waits.is_empty() {
            found.insert(action.name(), Preview::Waits(waits));
            continue;
        }
        let inputs = resolve(action, |step| match found.get(step)? {
            Preview::Known { outputs, .. } => outputs.clone(),
            Preview::Waits(_) => None,
        })?;
        let document = document(action, &inputs, epoch);
        let known = usable(store, &document.key(), |_| {})?;
        found.insert(action.name(), Preview::Known { document, outputs: known.map(|r| r.outputs) });
    }
    Ok(found)
}

/// How far a build is.
struct State {
    done: Vec<Option<Done>>,
    failed: BTreeMap<usize, BuildError>,
    running: Vec<(usize, Cost)>,
}

impl State {
    fn of(&self, actions: &[&dyn Action], step: &str) -> Option<Outputs> {
        let at = actions.iter().position(|a| a.name() == step)?;
        self.done.get(at)?.as_ref().map(|d| d.outputs.clone())
    }

    /// The first ready step that fits beside those running. One that asks for more than there is runs alone.
    fn next(&self, ready: &BTreeMap<usize, Job<'_>>, options: &EngineOptions<'_>) -> Option<usize> {
        let cores: usize = self.running.iter().map(|(_, c)| c.cores.max(1)).sum();
        let memory: u64 = self.running.iter().map(|(_, c)| c.memory).fold(0, u64::saturating_add);
        let fits = |cost: Cost| {
            cores.saturating_add(cost.cores.max(1)) <= options.cores
                && memory.saturating_add(cost.memory) <= options.memory_mib
        };
        ready.iter().find(|(_, job)| self.running.is_empty() || fits(job.action.cost())).map(|(at, _)| *at)
    }
}

/// A step that must run.
struct Job<'a> {
    action: &'a dyn Action,
    name: String,
    inputs: BTreeMap<String, Output>,
    document: KeyDocument,
    /// What it made before: only where it is built again to compare.
    before: Option<Outputs>,
}

enum Looked<'a> {
    There(Done),
    Run(Box<Job<'a>>),
}

/// Looks whether a step must run, its inputs being there.
fn look<'a>(
    action: &'a dyn Action,
    options: &EngineOptions<'_>,
    outputs_of: impl Fn(&str) -> Option<Outputs>,
) -> Result<Looked<'a>, BuildError> {
    let inputs = resolve(action, outputs_of)?;
    let document = document(action, &inputs, options.epoch);
    let (name, key) = (action.name(), document.key());
    let known = usable(options.store, &key, |e| options.reporter.warn(&format!("{name} is built again: {e}")))?;
    match (known, options.rebuild) {
        (Some(known), Rebuild::No) => {
            remember(options, &name, key, &document)?;
            Ok(Looked::There(Done { outputs: known.outputs, built: false, key }))
        }
        (known, _) => {
            let before = known.map(|k| k.outputs);
            Ok(Looked::Run(Box::new(Job { action, name, inputs, document, before })))
        }
    }
}

/// A realisation whose outputs are all there; a damaged one is told and counts for nothing.
fn usable(store: &Store, key: &Digest, tell: impl FnOnce(&StoreError)) -> Result<Option<Realisation>, BuildError> {
    match store.realisation(key) {
        Ok(found) => Ok(found.filter(|r| store.is_realised(r))),
        Err(e @ StoreError::Damaged { .. }) => {
            tell(&e);
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

/// Every input as a blob.
fn resolve(
    action: &dyn Action,
    outputs_of: impl Fn(&str) -> Option<Outputs>,
) -> Result<BTreeMap<String, Output>, BuildError> {
    let mut found = BTreeMap::new();
    for (label, input) in action.inputs() {
        let output = match input {
            Input::Blob { digest, size } => Output { digest, size, facts: BTreeMap::new() },
            Input::Step { step, output } => {
                outputs_of(&step).and_then(|mut made| made.remove(&output)).ok_or_else(|| {
                    BuildError::bad(action.name(), format!("its input `{label}`: {step} makes no output `{output}`"))
                })?
            }
        };
        found.insert(label, output);
    }
    Ok(found)
}

fn document(action: &dyn Action, inputs: &BTreeMap<String, Output>, epoch: u64) -> KeyDocument {
    KeyDocument::of(action, inputs.iter().map(|(label, o)| (label.clone(), o.digest)).collect(), epoch)
}

fn remember(options: &EngineOptions<'_>, name: &str, key: Digest, document: &KeyDocument) -> Result<(), StoreError> {
    options.store.write_last_build(&LastBuild::new(options.lab, name, key, document.to_value()))
}

/// Runs a step, and once more where it is to be compared.
fn work(job: &Job<'_>, options: &EngineOptions<'_>) -> Result<Done, BuildError> {
    let key = job.document.key();
    sound(job, options.store)?;
    let threads = job.action.cost().cores.clamp(1, options.cores.max(1));
    let outputs = match &job.before {
        Some(before) => before.clone(),
        None => run(job, options, options.scratch_root, threads)?,
    };
    let made = Realisation::new(key, &job.name, outputs);
    if job.before.is_none() {
        options.store.write_realisation(&made)?;
    }
    remember(options, &job.name, key, &job.document)?;
    if options.rebuild == Rebuild::AndCompare {
        let other = if threads > 1 { 1 } else { 2 };
        let below = options.scratch_root.join("built-again");
        let again = run(job, options, options.again_root.unwrap_or(&below), other).map_err(second)?;
        let compared = |all: &Outputs| {
            all.iter().filter(|(n, _)| !job.action.varies(n)).map(|(n, o)| (n.clone(), o.clone())).collect::<Outputs>()
        };
        let (what, found) = differences(options.store, &job.name, &compared(&made.outputs), &compared(&again))?;
        if !what.is_empty() {
            return Err(BuildError::NotReproducible { step: job.name.clone(), what, differences: Box::new(found) });
        }
    }
    Ok(Done { outputs: made.outputs, built: true, key })
}

/// Hashes what a step reads: a damaged input must not shape what is kept under the key of a good one.
fn sound(job: &Job<'_>, store: &Store) -> Result<(), BuildError> {
    for (label, input) in &job.inputs {
        let wrong = match store.has(&input.digest, input.size) {
            true => store.verify(&input.digest).err(),
            false => Some(StoreError::Missing { digest: input.digest, store: store.path().to_owned() }),
        };
        if let Some(e) = wrong {
            let step = format!("{}, input `{label}`", job.name);
            return Err(BuildError::StepFailed { step, source: Box::new(e.into()), scratch: None, hint: None });
        }
    }
    Ok(())
}

/// A step that failed the second time only.
fn second(error: BuildError) -> BuildError {
    match error {
        BuildError::StepFailed { step, source, scratch, hint } => {
            BuildError::StepFailed { step: format!("{step}, built again,"), source, scratch, hint }
        }
        other => other,
    }
}

/// Runs a step in a scratch directory of its own.
fn run(job: &Job<'_>, options: &EngineOptions<'_>, root: &Path, threads: usize) -> Result<Outputs, BuildError> {
    let _task = Task::begin(options.reporter, &job.name, None);
    fs_err::create_dir_all(root).map_err(|e| BuildError::io(root, "create", e))?;
    let scratch = tempfile::Builder::new()
        .prefix(&format!("{}-", file_name(&job.name)))
        .tempdir_in(root)
        .map_err(|e| BuildError::io(root, "create a directory in", e))?;
    let run = Run {
        store: options.store,
        scratch: scratch.path(),
        inputs: &job.inputs,
        epoch: options.epoch,
        threads,
        reporter: options.reporter,
    };
    match job.action.run(&run).and_then(|made| checked(options.store, made)) {
        Ok(made) => {
            dirs::remove(&scratch.keep()).map_err(|e| BuildError::io(root, "remove a directory in", e))?;
            Ok(made)
        }
        Err(source) => Err(failed(job, options, scratch, source)),
    }
}

/// The outputs, when they are in the store as they should.
fn checked(store: &Store, made: Outputs) -> Result<Outputs, BuildError> {
    match made.iter().find(|(_, o)| !store.has(&o.digest, o.size)) {
        Some((name, _)) => Err(BuildError::Internal(format!("its output `{name}` is not in the store"))),
        None => Ok(made),
    }
}

fn failed(job: &Job<'_>, options: &EngineOptions<'_>, scratch: tempfile::TempDir, source: BuildError) -> BuildError {
    let dir = scratch.keep();
    // One without anything in it helps nobody.
    let empty = fs_err::remove_dir(&dir).is_ok();
    let keep = options.keep_failed && source.can_be_looked_into() && !empty;
    if !keep && !empty {
        // The failure is what must be told.
        let _ = dirs::remove(&dir);
    }
    let kept: Option<PathBuf> = keep.then_some(dir);
    let hint = kept.as_deref().map(|dir| match job.action.look_inside(dir) {
        Some(command) => format!("what it left is in `{}`; look into it with: {command}", dir.display()),
        None => format!("what it left is in `{}`", dir.display()),
    });
    BuildError::StepFailed { step: job.name.clone(), source: Box::new(source), scratch: kept, hint }
}

/// A step's name as a short file name; scratch directories get random letters behind it.
fn file_name(step: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    step.chars().map(safe).take(60).collect()
}

/// How the outputs of a step differ, in words and as data.
fn differences(
    store: &Store,
    step: &str,
    first: &Outputs,
    again: &Outputs,
) -> Result<(Vec<String>, Report), BuildError> {
    let names: BTreeSet<&String> = first.keys().chain(again.keys()).collect();
    let (mut lines, mut all) = (Vec::new(), Report::default());
    for name in names {
        let mut one = Report::default();
        let mut tell = |what| one.push(Difference { at: Vec::new(), what, cause: None });
        match (first.get(name), again.get(name)) {
            (Some(a), Some(b)) if a.digest != b.digest => one = descent::blobs(store, &a.digest, &b.digest)?,
            (Some(a), Some(b)) if a.facts != b.facts => {
                let (first, second) = (format!("{:?}", a.facts), format!("{:?}", b.facts));
                tell(What::Property { name: "facts".to_owned(), first, second });
            }
            (Some(_), None) => tell(What::OnlyInFirst),
            (None, Some(_)) => tell(What::OnlyInSecond),
            _ => {}
        }
        lines.extend(one.lines(SHOWN).into_iter().map(|line| format!("output `{name}`: {line}")));
        all.append(&[step, name], one);
    }
    Ok((lines, all))
}

#[cfg(test)]
mod tests;
