//! Does a lock answer a profile? Without a network and without the store: by names, versions, platforms and URLs.

use std::collections::{BTreeMap, BTreeSet};

use super::{FileKind, Lock, LockedImage, LockedLocal};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::profile::{ChartInput, ImageInput, Inputs, RemoteInput};

/// One way in which a lock does not answer its profile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stale {
    /// The input, as people call it: `image docker.io/library/registry:3`.
    pub input: String,
    /// What is the matter with it.
    pub why: String,
}

/// Everything that keeps `lock` from answering `inputs` of the profile called `name`; empty when it does.
/// `locals` holds digest and size of the files beside the profile.
pub fn satisfies(name: &str, inputs: &Inputs, locals: &BTreeMap<String, (Digest, u64)>, lock: &Lock) -> Vec<Stale> {
    let mut found = Vec::new();
    if lock.name != name {
        let why = format!("the lock is for `{}`, not `{name}`", lock.name);
        found.push(Stale { input: "profile".to_owned(), why });
    }
    let images: BTreeMap<&ImageRef, &LockedImage> = lock.images.iter().map(|i| (&i.reference, i)).collect();
    compare("image", &inputs.images, &images, &mut found, image);
    let charts = lock.charts.iter().map(|c| (&c.name, c)).collect();
    compare("chart", &inputs.charts, &charts, &mut found, chart);
    files(inputs, lock, &mut found);
    let wanted: BTreeMap<&String, ()> = inputs.locals.iter().map(|p| (p, ())).collect();
    let have: BTreeMap<&String, &LockedLocal> = lock.locals.iter().map(|l| (&l.path, l)).collect();
    compare("local", &wanted, &have.iter().map(|(k, v)| (k, *v)).collect(), &mut found, |(), locked| {
        match locals.get(&locked.path) {
            Some((digest, size)) if *digest == locked.digest && *size == locked.size => None,
            Some(_) => Some("the file was edited".to_owned()),
            None => Some("the file is not there".to_owned()),
        }
    });
    found
}

/// Names on both sides, then what `check` says of each pair.
fn compare<K: Ord + std::fmt::Display, W, L>(
    kind: &str,
    wanted: &BTreeMap<K, W>,
    locked: &BTreeMap<&K, &L>,
    found: &mut Vec<Stale>,
    check: impl Fn(&W, &L) -> Option<String>,
) {
    for (key, input) in wanted {
        let why = match locked.get(key) {
            Some(locked) => check(input, locked),
            None => Some("not in the lock".to_owned()),
        };
        found.extend(why.map(|why| Stale { input: format!("{kind} {key}"), why }));
    }
    for key in locked.keys().filter(|k| !wanted.contains_key(**k)) {
        found.push(Stale { input: format!("{kind} {key}"), why: "no longer in the profile".to_owned() });
    }
}

fn image(input: &ImageInput, locked: &LockedImage) -> Option<String> {
    if input.source != locked.source {
        return Some(match &input.source {
            Some(source) => format!("now taken from {source}"),
            None => "no longer rewritten".to_owned(),
        });
    }
    let have: BTreeSet<Platform> = locked.platforms.keys().copied().collect();
    (have != input.platforms).then(|| format!("locked for {}, wanted for {}", list(&have), list(&input.platforms)))
}

fn list(platforms: &BTreeSet<Platform>) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn chart(input: &ChartInput, locked: &super::LockedChart) -> Option<String> {
    moved("chart", &input.chart, &locked.chart)
        .or_else(|| moved("repo", &input.repo, &locked.repo))
        .or_else(|| moved("version", plain(&input.version), plain(&locked.version)))
        .or_else(|| pinned(input.sha256, locked.digest))
}

/// Chart repositories write versions with and without `v`; both mean the same chart.
fn plain(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

fn moved(field: &str, wanted: &str, locked: &str) -> Option<String> {
    (wanted != locked).then(|| format!("{field} was {locked}, is {wanted}"))
}

fn pinned(wanted: Option<Digest>, locked: Digest) -> Option<String> {
    wanted.filter(|d| *d != locked).map(|d| format!("the profile says {d}, the lock {locked}"))
}

fn files(inputs: &Inputs, lock: &Lock, found: &mut Vec<Stale>) {
    for (wanted_kind, label) in [(FileKind::File, "file"), (FileKind::Manifest, "manifest"), (FileKind::Tool, "tool")] {
        let key = |name: &str, platform: &Option<Platform>| match platform {
            Some(platform) => format!("{name} ({platform})"),
            None => name.to_owned(),
        };
        let wanted: BTreeMap<String, &RemoteInput> = inputs
            .files
            .iter()
            .filter(|((kind, ..), _)| *kind == wanted_kind)
            .map(|((_, name, platform), input)| (key(name, platform), input))
            .collect();
        let names: Vec<(String, &super::LockedFile)> =
            lock.files.iter().filter(|f| f.kind == wanted_kind).map(|f| (key(&f.name, &f.platform), f)).collect();
        let locked = names.iter().map(|(k, f)| (k, *f)).collect();
        compare(label, &wanted, &locked, found, |input, locked| file(input, locked));
    }
}

fn file(input: &RemoteInput, locked: &super::LockedFile) -> Option<String> {
    let version = |v: &Option<String>| v.clone().unwrap_or_else(|| "none".to_owned());
    let member = |m: Option<&str>| m.unwrap_or("the whole file").to_owned();
    moved("version", &version(&input.version), &version(&locked.version))
        .or_else(|| moved("url", &input.url, &locked.url))
        .or_else(|| {
            moved("member", &member(input.member.as_deref()), &member(locked.member.as_ref().map(|m| m.path.as_str())))
        })
        .or_else(|| pinned(input.sha256, locked.digest))
}
