//! The profile's own steps, and the toolchain they run in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Request, local};
use crate::base::report::Reporter;
use crate::build::BuildError;
use crate::build::debian::{RootOptions, build_root, unpack_all, write_tree};
use crate::build::run_step::{OUT, RunStep};
use crate::build::step::{Action, Cost, Input};
use crate::build::toolchain::Toolchain;
use crate::build::tree::Tree;
use crate::model::lock::{FileKind, Lock, LockedPackage, toolchain_set};
use crate::model::platform::Platform;
use crate::model::profile::{Step, StepInput};
use crate::store::Store;

/// Memory of a step that does not say, in MiB.
const MEMORY: u64 = 256;

/// The name of a profile's step in the plan.
pub(super) fn name(step: &str) -> String {
    format!("step {step}")
}

pub(super) fn actions(request: &Request<'_>) -> Result<Vec<Box<dyn Action>>, BuildError> {
    if request.profile.step.is_empty() {
        return Ok(Vec::new());
    }
    let toolchain = Arc::new(toolchain(request.lock, request.store)?);
    let mut actions: Vec<Box<dyn Action>> = Vec::new();
    for step in &request.profile.step {
        actions.push(Box::new(RunStep {
            name: name(&step.name),
            script: step.run.to_string(),
            env: step.env.clone(),
            inputs: inputs(request, step)?,
            toolchain: toolchain.clone(),
            cost: Cost {
                cores: step.cores.as_ref().map_or(1, |c| **c as usize),
                memory: step.memory.as_ref().map_or(MEMORY, |m| u64::from(**m)),
            },
            helper: request.program.to_owned(),
            exec: format!("labimg toolchain exec {}", request.path.display()),
        }));
    }
    Ok(actions)
}

fn inputs(request: &Request<'_>, step: &Step) -> Result<BTreeMap<String, Input>, BuildError> {
    let all = step.inputs.iter();
    all.map(|(label, text)| Ok((label.clone(), input(request, text)?))).collect()
}

fn input(request: &Request<'_>, text: &str) -> Result<Input, BuildError> {
    let lock = request.lock;
    let file = |kind: FileKind, name: &str, path: Option<&str>| match path {
        Some(path) => local(lock, path),
        None => {
            let found = lock.files.iter().find(|f| f.kind == kind && f.name == name).map(|f| f.content());
            found.ok_or_else(|| BuildError::Internal(format!("the lock has no {} `{name}`", kind.as_str())))
        }
    };
    let (digest, size) = match StepInput::parse(text) {
        Some(StepInput::Step(step)) => return Ok(Input::Step { step: name(step), output: OUT.to_owned() }),
        Some(StepInput::Path(path)) => local(lock, path)?,
        Some(StepInput::File(name)) => {
            let known = request.profile.file.iter().find(|f| *f.name == *name);
            file(FileKind::File, name, known.and_then(|f| f.path.as_deref()).map(String::as_str))?
        }
        Some(StepInput::Manifest(name)) => {
            let known = request.profile.manifest.iter().find(|m| *m.name == *name);
            file(FileKind::Manifest, name, known.and_then(|m| m.path.as_deref()).map(String::as_str))?
        }
        Some(StepInput::Chart(name)) => {
            let found = lock.charts.iter().find(|c| c.name == name).map(|c| (c.digest, c.size));
            found.ok_or_else(|| BuildError::Internal(format!("the lock has no chart `{name}`")))?
        }
        None => return Err(BuildError::Internal(format!("`{text}` is no input"))),
    };
    Ok(Input::Blob { digest, size })
}

/// The toolchain of a lock for this machine.
///
/// # Errors
/// A machine the lock has no toolchain for.
pub fn toolchain(lock: &Lock, store: &Arc<Store>) -> Result<Toolchain, BuildError> {
    let arch = Platform::here().filter(|p| p.runs_containers()).map(Platform::arch);
    let packages: Vec<LockedPackage> =
        arch.iter().flat_map(|a| lock.packages_of(&toolchain_set(a)).cloned().collect::<Vec<_>>()).collect();
    let Some(arch) = arch.filter(|_| !packages.is_empty()) else {
        return Err(BuildError::user(
            "this lab has no toolchain for this machine",
            "toolchains run on linux/amd64 and linux/arm64; a profile has one by [toolchain]",
        ));
    };
    let (store, key) = (store.clone(), packages.clone());
    Ok(Toolchain::new(&key, move |dir, reporter| write(&store, &packages, arch, dir, reporter)))
}

/// Unpacks a toolchain. Its packages are programs to be run here and now: what their scripts would do for a machine that
/// boots is not missed.
fn write(
    store: &Arc<Store>,
    packages: &[LockedPackage],
    arch: &str,
    dir: &Path,
    reporter: &dyn Reporter,
) -> Result<(), BuildError> {
    let scratch =
        tempfile::tempdir_in(crate::base::atomic::parent(dir)).map_err(|e| BuildError::io(dir, "write beside", e))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // As for a step's inputs: a damaged package must not become a program.
    packages.iter().try_for_each(|p| store.verify(&p.digest))?;
    let unpacked = unpack_all(store, packages, scratch.path(), threads, reporter)?;
    let options = RootOptions {
        epoch: 0,
        without_scripts: packages.iter().map(|p| p.name.clone()).collect(),
        architecture: arch.to_owned(),
        essential_names: Default::default(),
    };
    let mut root = build_root(unpacked, &options)?;
    without_set_id(&mut root.full);
    write_tree(&root.full, dir, 0)
}

/// Takes set-user-id and set-group-id bits off: in the store of root they would be old programs like `su` that everybody may
/// run. In a sandbox they mean nothing.
fn without_set_id(tree: &mut Tree) {
    tree.entries.values_mut().for_each(|entry| entry.mode &= 0o1777);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tree::{Content, Entry};
    use crate::model::guest_path::GuestPath;

    #[test]
    fn a_toolchain_has_no_set_user_id_programs() {
        let path = |text: &str| GuestPath::parse(text).unwrap();
        let mut tree = Tree::default();
        let from = "package".into();
        tree.put(path("usr/bin/su"), Entry::file(&from, 0o4755, Content::bytes(Vec::new())));
        tree.put(path("var/mail"), Entry { mode: 0o2775, ..Entry::dir(&from) });
        tree.put(path("tmp"), Entry { mode: 0o1777, ..Entry::dir(&from) });
        without_set_id(&mut tree);
        let mode = |text: &str| tree.get(&path(text)).map(|e| e.mode);
        assert_eq!([mode("usr/bin/su"), mode("var/mail"), mode("tmp")], [Some(0o755), Some(0o775), Some(0o1777)]);
    }
}
