//! `labimg lock`: the only verb that asks a network what a name means.

mod ask;
mod choose;

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use serde::Serialize;

use super::profile::{OnDisk, load};
use super::{Ctx, OpsError, carry};
use crate::base::atomic;
use crate::build::complete::{self, Lack};
use crate::model::lock::{Change, DEFAULT_EPOCH, LABIMG, Lock, LockedLocal, Stale, diff, satisfies, wire};
use crate::store::Access;

/// How to lock.
#[derive(Debug, Clone, Default)]
pub struct LockOptions {
    /// Inputs to resolve anew though the lock has them: a name, an image reference, `labimg` or `epoch`.
    pub update: Vec<String>,
    /// Resolve everything anew.
    pub update_all: bool,
    /// Only say whether the lock would change; no network.
    pub check: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockOutcome {
    /// The lock file.
    pub path: PathBuf,
    /// Whether it was written.
    pub written: bool,
    /// Whether there was none before.
    pub new: bool,
    /// How many inputs it names.
    pub inputs: usize,
    /// What moved.
    pub changes: Vec<Change>,
    /// What the lab lacks to come up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<Lack>,
}

/// Locks a profile, and warns of what the lab lacks to come up.
///
/// # Errors
/// What is wrong with the profile, an unknown name in `update`, a lock that would change with `check`, or whatever keeps an
/// input from being resolved. The lock file is then what it was before.
pub async fn lock(ctx: &Ctx, path: &Path, options: &LockOptions) -> Result<LockOutcome, OpsError> {
    let done = lock_quietly(ctx, path, options).await?;
    warn_of(ctx, &done.lacking);
    Ok(done)
}

/// Tells what a lab lacks and what to do about it, in one warning; nothing where nothing lacks.
pub(super) fn warn_of(ctx: &Ctx, lacking: &[Lack]) {
    if lacking.is_empty() {
        return;
    }
    let mut text = match lacking.iter().any(|l| l.needed) {
        true => "the lab lacks what it needs to come up:".to_owned(),
        false => "the lab comes up, and lacks:".to_owned(),
    };
    for line in lacking.iter().map(Lack::line).chain([complete::advice(lacking)]).filter(|line| !line.is_empty()) {
        text.push_str("\n  ");
        text.push_str(&line.replace('\n', "\n  "));
    }
    ctx.reporter.warn(&text);
}

/// The same without warnings.
///
/// # Errors
/// As [`lock`].
pub(super) async fn lock_quietly(ctx: &Ctx, path: &Path, options: &LockOptions) -> Result<LockOutcome, OpsError> {
    let disk = load(path, &ctx.roots)?;
    let old = disk.read_lock()?;
    if options.check {
        return check(&disk, old);
    }
    let (lock, changed) = resolve(ctx, &disk, old.as_ref(), options).await?;
    let changes = match &old {
        Some(old) => diff(old, &lock),
        None => Vec::new(),
    };
    let path = disk.lock_path();
    if changed {
        let text = wire::to_text(&lock).map_err(|e| OpsError::Internal(e.to_string()))?;
        atomic::write_file(&path, text.as_bytes()).map_err(|e| not_written(&path, e))?;
    }
    let (new, inputs) = (old.is_none(), lock.input_names().len());
    let lacking = complete::lacks_at(&disk.profile, &lock, &disk.sources);
    Ok(LockOutcome { path, written: changed, new, inputs, changes, lacking })
}

/// The lock stands beside its profile: where that may not be written, it is for the person to choose another folder.
fn not_written(path: &Path, error: std::io::Error) -> OpsError {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let message = format!("can not write the lock `{}`: {error}", path.display());
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => OpsError::hinted(
            message,
            format!(
                "a lock stands beside its profile: make `{}` a folder you may write to, or copy the profile to one",
                atomic::parent(path).display()
            ),
        ),
        _ => OpsError::user(message),
    }
}

fn check(disk: &OnDisk, old: Option<Lock>) -> Result<LockOutcome, OpsError> {
    let path = disk.lock_path();
    let Some(lock) = old else {
        let stale = vec![Stale { input: "lock".to_owned(), why: "there is none yet".to_owned() }];
        return Err(OpsError::Stale { path, stale });
    };
    let stale = satisfies(&disk.profile.name, &disk.inputs, &disk.locals, &lock);
    if !stale.is_empty() {
        return Err(OpsError::Stale { path, stale });
    }
    let lacking = complete::lacks_at(&disk.profile, &lock, &disk.sources);
    let inputs = lock.input_names().len();
    Ok(LockOutcome { path, written: false, new: false, inputs, changes: Vec::new(), lacking })
}

/// The lock that answers the profile, and whether it differs from `old`.
async fn resolve(
    ctx: &Ctx,
    disk: &OnDisk,
    old: Option<&Lock>,
    options: &LockOptions,
) -> Result<(Lock, bool), OpsError> {
    let mut lock = Lock {
        name: disk.profile.name.to_string(),
        epoch: old.map_or(DEFAULT_EPOCH, |l| l.epoch),
        locals: disk.locals.iter().map(|(p, (d, s))| LockedLocal { path: p.clone(), digest: *d, size: *s }).collect(),
        ..Lock::default()
    };
    let moving = choose::moving(disk, old, options)?;
    let asks = choose::keep(disk, old, &moving, &mut lock);
    if !asks.is_empty() {
        let store = ctx.open_store(Access::Shared)?;
        ctx.reporter.phase("locking", None);
        let store = &store;
        let mut answers = futures_util::stream::iter(asks)
            .map(|ask| async move { ask::answer(ctx, store, disk, ask).await })
            .buffer_unordered(ctx.jobs.max(1));
        while let Some(answer) = answers.next().await {
            answer?.enter(&mut lock);
        }
    }
    choose::sets(disk, &mut lock);
    lock.carried = carry::pin(ctx, old, options.update_all || options.update.iter().any(|name| name == LABIMG))?;
    if old.is_none() || options.update.iter().any(|name| name == "epoch") {
        lock.epoch = lock.suites.iter().map(|s| s.date).max().unwrap_or(DEFAULT_EPOCH);
    }
    lock.sort();
    let changed = old != Some(&lock);
    Ok((lock, changed))
}
