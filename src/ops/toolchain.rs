//! `labimg toolchain exec`: a program of a lab's toolchain, run for a person, in the sandbox that build steps run in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::fetch::fill;
use super::profile::load;
use super::{Ctx, OpsError};
use crate::build::made;
use crate::build::sandbox::{self, Exit, Spec};
use crate::store::Access;

/// What to run.
#[derive(Debug, Clone)]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// What stands in `/in`, by name.
    pub inputs: Vec<(String, PathBuf)>,
    /// A directory that stands in `/out`, in place of one that is thrown away.
    pub out: Option<PathBuf>,
    /// What a failed step left: its inputs, `/out` and `/tmp`.
    pub scratch: Option<PathBuf>,
}

/// Runs a program in the toolchain of the profile at `path`; gives its exit code (128 + N for signal N). `ready` is called when
/// everything is there, before the program starts.
///
/// # Errors
/// What is wrong with the profile or its lock; a machine without namespaces; a program that is not there.
pub async fn exec(ctx: &Ctx, path: &Path, request: &Exec, ready: impl FnOnce()) -> Result<u8, OpsError> {
    let disk = load(path)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    fill(ctx, &store, &disk, &lock).await?;
    let tree = made::toolchain(&lock, &store)?.tree(&store, ctx.reporter.as_ref())?;
    let argv = request.command.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let dir = store.scratch_root();
    fs_err::create_dir_all(&dir)?;
    let own = tempfile::Builder::new().prefix("exec-").tempdir_in(&dir)?;
    let spec = match &request.scratch {
        Some(scratch) => {
            let scratch = std::path::absolute(scratch)?;
            let left = Spec::load(&scratch)?;
            Spec { argv, scratch, tree, ..left }
        }
        None => Spec {
            tree,
            inputs: absolute(&request.inputs)?,
            scratch: own.path().to_owned(),
            argv,
            env: Default::default(),
            epoch: lock.epoch,
            cores: ctx.means.cores,
        },
    };
    if let Some(out) = &request.out {
        fs_err::os::unix::fs::symlink(std::path::absolute(out)?, spec.out())?;
    }
    ready();
    let exit = sandbox::exec(&ctx.means.program, &spec)?;
    Ok(match exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(1),
        Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(1),
        Exit::TimedOut(_) | Exit::Cancelled => 1,
    })
}

fn absolute(inputs: &[(String, PathBuf)]) -> Result<BTreeMap<String, PathBuf>, OpsError> {
    inputs.iter().map(|(name, path)| Ok((name.clone(), std::path::absolute(path)?))).collect()
}
