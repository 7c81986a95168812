//! `labimg toolchain exec`: a program of a lab's toolchain, run for a person, in the sandbox that build steps run in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::fetch::fill;
use super::profile::load;
use super::{Ctx, OpsError};
use crate::base::{dirs, shell};
use crate::build::BuildError;
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
    let argv = request.command.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    if let Some(spec) = request.scratch.as_deref().map(left).transpose()?
        && spec.tree.is_dir()
    {
        // What the step ran with, wherever that store is and whatever the lock says by now.
        return run(ctx, &Spec { argv, ..spec }, ready);
    }
    let disk = load(path, &ctx.roots)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    fill(ctx, &store, &disk, &lock).await?;
    let tree = made::toolchain(&lock, &store)?.tree(&store, ctx.reporter.as_ref())?;
    if let Some(scratch) = &request.scratch {
        return run(ctx, &Spec { argv, tree, ..left(scratch)? }, ready);
    }
    let dir = store.scratch_root();
    fs_err::create_dir_all(&dir)?;
    let own = tempfile::Builder::new().prefix("exec-").tempdir_in(&dir)?;
    let spec = Spec {
        tree,
        inputs: absolute(&request.inputs)?,
        scratch: own.path().to_owned(),
        argv,
        env: Default::default(),
        epoch: lock.epoch,
        cores: ctx.means.cores,
        ids: sandbox::Ids::One,
        vm: false,
    };
    if let Some(out) = &request.out {
        if !out.is_dir() {
            let message = format!("--out: `{}` is no directory", out.display());
            return Err(OpsError::hinted(message, format!("mkdir {}", shell::word(out))));
        }
        fs_err::os::unix::fs::symlink(std::path::absolute(out)?, spec.out())?;
    }
    let ended = run(ctx, &spec, ready);
    // Programs leave directories that a plain removal can not enter.
    dirs::remove(&own.keep())?;
    ended
}

fn run(ctx: &Ctx, spec: &Spec, ready: impl FnOnce()) -> Result<u8, OpsError> {
    ready();
    Ok(match sandbox::exec(&ctx.means.program, spec)? {
        Exit::Code(code) => u8::try_from(code).unwrap_or(1),
        Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(1),
        Exit::TimedOut(_) | Exit::Cancelled => 1,
    })
}

/// What a failed step was run as; its scratch directory may have been moved.
fn left(scratch: &Path) -> Result<Spec, OpsError> {
    let scratch = std::path::absolute(scratch)?;
    match Spec::load(&scratch) {
        Err(BuildError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Err(OpsError::hinted(
            format!("no build step ran in `{}`", scratch.display()),
            "take the directory that the failed step's message names",
        )),
        other => Ok(Spec { scratch, ..other? }),
    }
}

fn absolute(inputs: &[(String, PathBuf)]) -> Result<BTreeMap<String, PathBuf>, OpsError> {
    let one = |(name, path): &(String, PathBuf)| match path.exists() {
        true => Ok((name.clone(), std::path::absolute(path)?)),
        false => Err(OpsError::user(format!("--in {name}: there is no `{}`", path.display()))),
    };
    inputs.iter().map(one).collect()
}
