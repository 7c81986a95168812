//! `labimg lock`: the only verb that asks a network what a name means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;

use super::profile::{OnDisk, load};
use super::{Ctx, OpsError};
use crate::base::atomic;
use crate::model::image::ImageRef;
use crate::model::lock::{
    Change, DEFAULT_EPOCH, Lock, LockedChart, LockedFile, LockedImage, LockedLocal, Stale, diff, satisfies, wire,
};
use crate::source::chart::ChartRequest;
use crate::source::file::FileRequest;
use crate::source::{chart, file, oci};
use crate::store::{Access, Store};

/// How to lock.
#[derive(Debug, Clone, Default)]
pub struct LockOptions {
    /// Inputs to resolve anew though the lock has them: a name, an image reference, or `epoch`.
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
}

/// An input that must be asked for.
enum Ask {
    Image(ImageRef),
    Chart(String),
    File(FileKey),
}

type FileKey = (crate::model::lock::FileKind, String, Option<crate::model::platform::Platform>);

/// An answer.
enum Answer {
    Image(LockedImage),
    Chart(LockedChart),
    File(LockedFile),
}

/// Locks a profile.
///
/// # Errors
/// What is wrong with the profile, an unknown name in `update`, a lock that would change with `check`, or whatever keeps an
/// input from being resolved. The lock file is then what it was before.
pub async fn lock(ctx: &Ctx, path: &Path, options: &LockOptions) -> Result<LockOutcome, OpsError> {
    let disk = load(path)?;
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
        atomic::write_file(&path, text.as_bytes())?;
    }
    Ok(LockOutcome { path, written: changed, new: old.is_none(), inputs: lock.input_names().len(), changes })
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
    Ok(LockOutcome { path, written: false, new: false, inputs: lock.input_names().len(), changes: Vec::new() })
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
    let moving = moving(disk, old, options, &mut lock)?;
    let asks = keep(disk, old, &moving, &mut lock);
    if !asks.is_empty() {
        let store = ctx.open_store(Access::Shared)?;
        ctx.reporter.phase("locking", None);
        let (net, store) = (&ctx.net, &store);
        let mut answers = futures_util::stream::iter(asks)
            .map(|ask| async move { answer(net, store, disk, ask).await })
            .buffer_unordered(ctx.jobs.max(1));
        while let Some(answer) = answers.next().await {
            match answer? {
                Answer::Image(image) => lock.images.push(image),
                Answer::Chart(chart) => lock.charts.push(chart),
                Answer::File(file) => lock.files.push(file),
            }
        }
    }
    lock.sort();
    let changed = old != Some(&lock);
    Ok((lock, changed))
}

/// The names (as [`Lock::input_names`] gives them) that must be resolved though the old lock may have them.
fn moving(
    disk: &OnDisk,
    old: Option<&Lock>,
    options: &LockOptions,
    lock: &mut Lock,
) -> Result<BTreeSet<String>, OpsError> {
    let stale = old.map(|old| satisfies(&disk.profile.name, &disk.inputs, &disk.locals, old)).unwrap_or_default();
    let mut moving: BTreeSet<String> = stale.into_iter().map(|s| s.input).collect();
    let known = wanted_names(disk);
    if options.update_all {
        moving.extend(known);
        return Ok(moving);
    }
    for name in &options.update {
        if name == "epoch" {
            lock.epoch = DEFAULT_EPOCH;
            continue;
        }
        let before = moving.len();
        moving.extend(known.iter().filter(|k| names(k, name)).cloned());
        if moving.len() == before && !known.iter().any(|k| names(k, name)) {
            return Err(unknown(name, &known));
        }
    }
    Ok(moving)
}

/// Every input of the profile, as [`Lock::input_names`] calls them.
fn wanted_names(disk: &OnDisk) -> Vec<String> {
    let images = disk.inputs.images.keys().map(|r| format!("image {r}"));
    let charts = disk.inputs.charts.keys().map(|c| format!("chart {c}"));
    let files = disk.inputs.files.keys().map(file_name);
    let locals = disk.inputs.locals.iter().map(|l| format!("local {l}"));
    images.chain(charts).chain(files).chain(locals).collect()
}

/// Whether `name`, as a person types it, means the input called `input` ("kind name (platform)").
fn names(input: &str, name: &str) -> bool {
    let Some((kind, rest)) = input.split_once(' ') else { return false };
    let plain = rest.split(" (").next().unwrap_or(rest);
    let full = match kind {
        "image" => name.parse::<ImageRef>().map(|r| r.to_string()).unwrap_or_default(),
        _ => name.to_owned(),
    };
    plain == full || plain == name || input == name
}

fn unknown(name: &str, known: &[String]) -> OpsError {
    let nearest = known
        .iter()
        .map(|k| k.split_once(' ').map_or(k.as_str(), |(_, rest)| rest))
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let message = format!("the profile has no input called `{name}`");
    match nearest {
        Some(nearest) => OpsError::hinted(message, format!("did you mean `{nearest}`?")),
        None => OpsError::user(message),
    }
}

/// Takes over what stays; gives what must be asked for.
fn keep(disk: &OnDisk, old: Option<&Lock>, moving: &BTreeSet<String>, lock: &mut Lock) -> Vec<Ask> {
    let mut asks = Vec::new();
    let stays = |name: String| !moving.contains(&name);
    let images: BTreeMap<_, _> = old.iter().flat_map(|l| &l.images).map(|i| (&i.reference, i)).collect();
    for reference in disk.inputs.images.keys() {
        match images.get(reference).filter(|_| stays(format!("image {reference}"))) {
            Some(image) => lock.images.push((*image).clone()),
            None => asks.push(Ask::Image(reference.clone())),
        }
    }
    let charts: BTreeMap<_, _> = old.iter().flat_map(|l| &l.charts).map(|c| (&c.name, c)).collect();
    for name in disk.inputs.charts.keys() {
        match charts.get(name).filter(|_| stays(format!("chart {name}"))) {
            Some(chart) => lock.charts.push((*chart).clone()),
            None => asks.push(Ask::Chart(name.clone())),
        }
    }
    let files = old.iter().flat_map(|l| &l.files);
    let files: BTreeMap<FileKey, _> = files.map(|f| ((f.kind, f.name.clone(), f.platform), f)).collect();
    for key in disk.inputs.files.keys() {
        match files.get(key).filter(|_| stays(file_name(key))) {
            Some(file) => lock.files.push((*file).clone()),
            None => asks.push(Ask::File(key.clone())),
        }
    }
    asks
}

fn file_name((kind, name, platform): &FileKey) -> String {
    match platform {
        Some(platform) => format!("{} {name} ({platform})", kind.as_str()),
        None => format!("{} {name}", kind.as_str()),
    }
}

async fn answer(net: &crate::source::Net, store: &Arc<Store>, disk: &OnDisk, ask: Ask) -> Result<Answer, OpsError> {
    match ask {
        Ask::Image(reference) => {
            let named = |e: crate::source::SourceError| wrap(format!("image {reference}"), e);
            let input = disk.inputs.images.get(&reference).cloned().unwrap_or_default();
            let platforms: Vec<_> = input.platforms.iter().copied().collect();
            let asked = input.source.as_ref().unwrap_or(&reference);
            let found = oci::resolve(net, store, asked, &platforms).await.map_err(named)?;
            Ok(Answer::Image(LockedImage {
                reference,
                source: input.source,
                media_type: found.media_type,
                digest: found.digest,
                size: found.size,
                platforms: found.platforms,
            }))
        }
        Ask::Chart(name) => {
            let Some(input) = disk.inputs.charts.get(&name) else {
                return Err(OpsError::Internal(format!("chart {name} vanished")));
            };
            let request = ChartRequest {
                name: name.clone(),
                chart: input.chart.clone(),
                repo: input.repo.clone(),
                version: input.version.clone(),
                sha256: input.sha256,
            };
            let named = |e| wrap(format!("chart {name}"), e);
            Ok(Answer::Chart(chart::resolve_chart(net, store, &request).await.map_err(named)?))
        }
        Ask::File(key) => {
            let Some(input) = disk.inputs.files.get(&key) else {
                return Err(OpsError::Internal(format!("{} vanished", file_name(&key))));
            };
            let request = FileRequest {
                kind: key.0,
                name: key.1.clone(),
                platform: key.2,
                version: input.version.clone(),
                url: input.url.clone(),
                sha256: input.sha256,
                member: input.member.clone(),
                executable: input.executable,
            };
            let named = |e| wrap(file_name(&key), e);
            Ok(Answer::File(file::resolve_file(net, store, &request).await.map_err(named)?))
        }
    }
}

fn wrap(input: String, error: crate::source::SourceError) -> OpsError {
    OpsError::Input { input, source: Box::new(error.into()) }
}
