//! `labimg build`: lock when there is no lock, fetch what is missing, write the bundle.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::boxes;
use super::fetch::{FetchOutcome, fill, needed};
use super::lock::{LockOptions, LockOutcome, lock};
use super::make::make;
use super::profile::load;
use super::{Ctx, OpsError};
use crate::base::atomic;
use crate::base::digest::Digest;
use crate::build::bundle::describe;
use crate::build::{closure, descent};
use crate::model::lock::{Lock, wire};
use crate::store::bundle::{BLOBS, Bundle, BundleError, Description, Options, Outcome, Written, write};
use crate::store::root::Made;
use crate::store::{Access, Store, StoreError};

/// Differences inside a bundle that a message names.
const SHOWN: usize = 20;

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Directory for the bundle; made when it is not there.
    pub out: PathBuf,
    /// Hash every byte of the bundle, then write it a second time and compare.
    pub check: bool,
}

/// What was built.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BuildOutcome {
    /// The bundle.
    pub bundle: PathBuf,
    /// Digest of its index: the bundle's identity.
    pub identity: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The folder with the lab's Vagrantfile and boxes, where it has machines of Vagrant.
    pub vagrant: Option<PathBuf>,
    /// It stood there already, byte for byte.
    pub unchanged: bool,
    /// The lock that was made because there was none.
    pub locked: Option<LockOutcome>,
    /// What came over the network.
    pub fetched: FetchOutcome,
    /// Build steps that ran; the others' output was there.
    pub steps_run: usize,
    /// Build steps in all.
    pub steps: usize,
}

/// Builds the profile at `path`.
///
/// # Errors
/// A stale lock, manifests that name images the lab lacks, and whatever keeps an input from arriving or the bundle from being
/// written.
pub async fn build(ctx: &Ctx, path: &Path, options: &BuildOptions) -> Result<BuildOutcome, OpsError> {
    let disk = load(path)?;
    let target = options.out.join(disk.bundle_name());
    // Hours of work may come before the folder is written.
    boxes::require_place(&disk.profile, &target)?;
    let locked = match disk.read_lock()? {
        Some(_) => None,
        None => {
            ctx.reporter.note(&format!("`{}` has no lock yet: locking it first", path.display()));
            Some(lock(ctx, path, &LockOptions::default()).await?)
        }
    };
    let locked_inputs = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    let fetched = fill(ctx, &store, &disk, &locked_inputs).await?;
    let closed = closure::check(&disk.profile, &locked_inputs, store.as_ref())?;
    closed.remarks.iter().for_each(|remark| ctx.reporter.note(&remark.line()));
    closed.require()?;
    let profile = toml::to_string(&disk.profile).map_err(|e| OpsError::Internal(e.to_string()))?;
    let lock_text = wire::to_text(&locked_inputs).map_err(|e| OpsError::Internal(e.to_string()))?;
    let made = make(ctx, &store, &disk, &locked_inputs, options.check)?;
    let all = Lock { images: [&locked_inputs.images[..], &made.images].concat(), ..locked_inputs.clone() };
    let mut kept = needed(&store, &all)?;
    kept.extend(made.blobs);
    store.write_root(&locked_inputs, Made::These(&made.images), &kept)?;
    let description = describe(&profile, &lock_text, &all, &made.boxes, store.as_ref())?;
    fs_err::create_dir_all(&options.out)?;
    let mut done = write(&description, store.as_ref(), &target, Options::default(), ctx.reporter.as_ref())?;
    if options.check {
        done = sound(ctx, &description, &store, &target, done)?;
        build_again(ctx, &description, &store, &target)?;
    }
    let vagrant = boxes::write(&disk, &made.boxes, locked_inputs.epoch, &store, &target)?;
    Ok(BuildOutcome {
        bundle: target,
        vagrant,
        identity: done.identity,
        size: done.size,
        unchanged: done.outcome == Outcome::Unchanged,
        locked,
        fetched,
        steps_run: made.steps_run,
        steps: made.steps,
    })
}

/// Profiles whose bundles would get one file name: the second would replace the first.
///
/// # Errors
/// The first two such profiles.
pub fn distinct(profiles: &[PathBuf]) -> Result<(), OpsError> {
    if profiles.len() < 2 {
        return Ok(());
    }
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    for path in profiles {
        let name = load(path)?.bundle_name();
        if let Some(other) = seen.insert(name.clone(), path) {
            return Err(OpsError::hinted(
                format!(
                    "`{}` and `{}` both make `{name}`: the second would replace the first",
                    other.display(),
                    path.display()
                ),
                "build them one by one, each with its own --out DIR",
            ));
        }
    }
    Ok(())
}

/// Hashes every byte of the bundle. One that stood there already and is damaged is written anew.
fn sound(
    ctx: &Ctx,
    description: &Description,
    store: &Store,
    target: &Path,
    mut done: Written,
) -> Result<Written, OpsError> {
    let reporter = ctx.reporter.as_ref();
    let mut damaged = Bundle::open(target)?.verify(ctx.jobs, reporter)?;
    if !damaged.is_empty() && done.outcome == Outcome::Unchanged {
        reporter.note(&format!("`{}` is damaged: writing it anew", target.display()));
        fs_err::remove_file(target)?;
        done = write(description, store, target, Options::default(), reporter)?;
        damaged = Bundle::open(target)?.verify(ctx.jobs, reporter)?;
    }
    let Some(first) = damaged.into_iter().next() else { return Ok(done) };
    // It must not stay: the next build would take it for a whole one.
    fs_err::remove_file(target)?;
    match first.path.strip_prefix(BLOBS).and_then(|hex| Digest::from_hex(hex).ok()) {
        Some(digest) => Err(StoreError::BadBlob { digest, why: first.why }.into()),
        None => Err(BundleError::Damaged { path: target.to_owned(), member: first.path, why: first.why }.into()),
    }
}

/// Writes the bundle a second time, beside the first and with another number of threads, and compares. The name is fixed, so
/// that what an interrupted run left is overwritten by the next one.
fn build_again(ctx: &Ctx, description: &Description, store: &Store, target: &Path) -> Result<(), OpsError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let second = atomic::parent(target).join(format!(".{name}.check"));
    remove(&second)?;
    let options = Options { threads: 1, sync: false };
    let compared = write(description, store, &second, options, ctx.reporter.as_ref())
        .map_err(OpsError::from)
        .and_then(|_| compare(target, &second, store));
    remove(&second)?;
    compared
}

fn compare(target: &Path, second: &Path, store: &Store) -> Result<(), OpsError> {
    let Some(at) = first_difference(target, second)? else { return Ok(()) };
    let bundle = Bundle::open(second)?;
    let member = bundle.index().members.iter().rev().find(|m| m.offset <= at);
    let what = member.map_or_else(|| "its index".to_owned(), |m| m.path.clone());
    // Without it the verdict stands all the same.
    let scratch = store.scratch_root();
    let differences = fs_err::create_dir_all(&scratch)
        .ok()
        .and_then(|()| descent::bundles(&Bundle::open(target).ok()?, &bundle, &scratch).ok())
        .unwrap_or_default();
    let lines: String = differences.lines(SHOWN).iter().map(|line| format!("\n  {line}")).collect();
    let what = format!("{what}, at byte {at}{lines}");
    Err(OpsError::NotReproducible { path: target.to_owned(), what, differences: Box::new(differences) })
}

fn remove(path: &Path) -> Result<(), OpsError> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// The first byte in which two files differ; a shorter file differs where it ends.
fn first_difference(a: &Path, b: &Path) -> Result<Option<u64>, OpsError> {
    let (mut a, mut b) = (fs_err::File::open(a)?, fs_err::File::open(b)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        left.clear();
        right.clear();
        a.by_ref().take(1 << 18).read_to_end(&mut left)?;
        b.by_ref().take(1 << 18).read_to_end(&mut right)?;
        if left != right {
            let same = left.iter().zip(&right).take_while(|(x, y)| x == y).count();
            return Ok(Some(at + same as u64));
        }
        if left.is_empty() {
            return Ok(None);
        }
        at += left.len() as u64;
    }
}
