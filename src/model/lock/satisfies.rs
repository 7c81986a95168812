//! Does a lock answer a profile? Without a network and without the store: by names, versions, platforms and URLs.

use std::collections::{BTreeMap, BTreeSet};

use super::{FileKind, Lock, LockedImage, LockedLocal, LockedSuite};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::profile::{ChartInput, DebianInput, ImageInput, Inputs, RemoteInput};

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
    made(inputs, lock, &mut found);
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

/// Suites, sets of packages, sets of wheels.
fn made(inputs: &Inputs, lock: &Lock, found: &mut Vec<Stale>) {
    // A table no set takes packages from is not asked for.
    let used: BTreeSet<&String> = inputs.package_sets.values().map(|s| &s.debian).collect();
    let wanted = inputs.debian.iter().filter(|(name, _)| used.contains(name)).map(|(n, d)| (n.clone(), d)).collect();
    let mut suites: BTreeMap<&String, Vec<&LockedSuite>> = BTreeMap::new();
    for suite in &lock.suites {
        suites.entry(&suite.debian).or_default().push(suite);
    }
    compare("debian", &wanted, &suites.iter().map(|(k, v)| (*k, v)).collect(), found, |input, locked| {
        debian(input, locked)
    });
    let sets = lock.package_sets.iter().map(|s| (&s.name, s)).collect();
    compare("packages", &inputs.package_sets, &sets, found, |want, have| {
        moved("debian table", &want.debian, &have.debian)
            .or_else(|| moved("list", &want.want.join(" "), &have.want.join(" ")))
            .or_else(|| (want.essential != have.essential).then(|| "`essential` was changed".to_owned()))
    });
    let sets = lock.wheel_sets.iter().map(|s| (&s.name, s)).collect();
    compare("wheels", &inputs.wheel_sets, &sets, found, |(_, want), have| {
        moved("python", &want.python, &have.python)
            .or_else(|| moved("list", &want.requirements.join(", "), &have.requirements.join(", ")))
    });
}

fn debian(input: &DebianInput, locked: &[&LockedSuite]) -> Option<String> {
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all.join(", ")
    };
    let wanted = sorted(input.suites.iter().map(|s| format!("{} of {}", s.suite, s.archive)).collect());
    let have = sorted(locked.iter().map(|s| format!("{} of {}", s.suite, s.archive)).collect());
    let snapshot = |s: &Option<String>| s.clone().unwrap_or_else(|| "none".to_owned());
    moved("suites", &wanted, &have).or_else(|| {
        locked.iter().find_map(|suite| {
            moved("components", &input.components.join(", "), &suite.components.join(", "))
                .or_else(|| moved("snapshot", &snapshot(&input.snapshot), &snapshot(&suite.snapshot)))
        })
    })
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
