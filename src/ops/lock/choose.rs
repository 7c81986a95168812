//! What of an old lock stays, and what must be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::LockOptions;
use super::ask::Ask;
use crate::base::shell::word;
use crate::base::shown;
use crate::model::image::ImageRef;
use crate::model::lock::{LABIMG, Lock, LockedWheel, satisfies};
use crate::ops::OpsError;
use crate::ops::failed::{FileKey, file_name};
use crate::ops::profile::OnDisk;

/// The names (as [`Lock::input_names`] gives them) that must be resolved though the old lock may have them.
pub(super) fn moving(disk: &OnDisk, old: Option<&Lock>, options: &LockOptions) -> Result<BTreeSet<String>, OpsError> {
    let stale = old.map(|old| satisfies(&disk.profile.name, &disk.inputs, &disk.locals, old)).unwrap_or_default();
    let mut moving: BTreeSet<String> = stale.into_iter().map(|s| s.input).collect();
    // Packages of one table are one choice: a set that moves takes the table along.
    let tables = disk.inputs.package_sets.values().map(|s| (&s.name, &s.debian));
    let locked = old.iter().flat_map(|l| &l.package_sets).map(|s| (&s.name, &s.debian));
    let taken: Vec<String> = tables
        .chain(locked)
        .filter(|(set, _)| moving.contains(&format!("packages {set}")))
        .map(|(_, debian)| format!("debian {debian}"))
        .collect();
    moving.extend(taken);
    let known = wanted_names(disk);
    if options.update_all {
        moving.extend(known);
        return Ok(moving);
    }
    for name in options.update.iter().filter(|name| *name != "epoch" && *name != LABIMG) {
        let before = moving.len();
        moving.extend(known.iter().filter(|k| names(k, name)).cloned());
        if moving.len() == before && !known.iter().any(|k| names(k, name)) {
            return Err(no_input(disk, old, name).unwrap_or_else(|| unknown(name, &known)));
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
    let debians = used_debians(disk).into_iter().map(|d| format!("debian {d}"));
    let wheels = disk.inputs.wheel_sets.keys().map(|w| format!("wheels {w}"));
    images.chain(charts).chain(files).chain(locals).chain(debians).chain(wheels).collect()
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

/// Names that people take for inputs: a package's, whose table chooses all packages together, and an image's that is made here.
fn no_input(disk: &OnDisk, old: Option<&Lock>, name: &str) -> Option<OpsError> {
    let update = |what: &str| format!("labimg lock {} --update {}", word(&disk.path), word(Path::new(what)));
    if let Some(package) = old.and_then(|l| l.packages.iter().find(|p| p.name == name)) {
        let table = &package.debian;
        let message = format!("packages move together: `{name}` is one of [debian.{table}]");
        return Some(OpsError::hinted(message, update(table)));
    }
    let image = disk.inputs.made.get(&name.parse::<ImageRef>().ok()?)?;
    let def = &disk.defs.get(&image.def)?.def;
    let message = format!("`{name}` is made here: only what it is made of can move");
    Some(match def.debian.iter().chain(&def.wheels).next() {
        Some(input) => OpsError::hinted(message, update(input)),
        None => OpsError::user(message),
    })
}

fn unknown(name: &str, known: &[String]) -> OpsError {
    let names = known.iter().map(|k| k.split_once(' ').map_or(k.as_str(), |(_, rest)| rest));
    let nearest = shown::nearest(name, names);
    let message = format!("the profile has no input called `{name}`");
    match nearest {
        Some(nearest) => OpsError::hinted(message, format!("did you mean `{nearest}`?")),
        None => OpsError::user(message),
    }
}

/// Takes over what stays; gives what must be asked for.
pub(super) fn keep(disk: &OnDisk, old: Option<&Lock>, moving: &BTreeSet<String>, lock: &mut Lock) -> Vec<Ask> {
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
    keep_made(disk, old, &stays, lock, &mut asks);
    asks
}

/// Debian tables and sets of wheels: each stays as a whole, or is asked for as a whole.
fn keep_made(disk: &OnDisk, old: Option<&Lock>, stays: &impl Fn(String) -> bool, lock: &mut Lock, asks: &mut Vec<Ask>) {
    for name in used_debians(disk) {
        let suites = old.iter().flat_map(|l| &l.suites).filter(|s| s.debian == name).cloned();
        let suites: Vec<_> = suites.filter(|_| stays(format!("debian {name}"))).collect();
        if suites.is_empty() {
            asks.push(Ask::Debian(name));
            continue;
        }
        lock.suites.extend(suites);
        lock.packages.extend(old.iter().flat_map(|l| &l.packages).filter(|p| p.debian == name).cloned());
    }
    for name in disk.inputs.wheel_sets.keys() {
        let known = old.is_some_and(|l| l.wheel_sets.iter().any(|s| s.name == *name));
        if !known || !stays(format!("wheels {name}")) {
            asks.push(Ask::Wheels(name.clone()));
            continue;
        }
        for wheel in old.iter().flat_map(|l| l.wheels_of(name)) {
            enter_wheel(lock, LockedWheel { sets: vec![name.clone()], ..wheel.clone() });
        }
    }
}

/// Puts a wheel of one set into the lock, or adds the set to the wheel that is there.
pub(super) fn enter_wheel(lock: &mut Lock, wheel: LockedWheel) {
    match lock.wheels.iter_mut().find(|w| w.file == wheel.file && w.digest == wheel.digest) {
        Some(known) => {
            known.sets.extend(wheel.sets);
            known.sets.sort();
            known.sets.dedup();
        }
        None => lock.wheels.push(wheel),
    }
}

/// What was asked for, as the lock keeps it.
pub(super) fn sets(disk: &OnDisk, lock: &mut Lock) {
    lock.package_sets = disk.inputs.package_sets.values().cloned().collect();
    lock.wheel_sets = disk.inputs.wheel_sets.values().map(|(_, set)| set.clone()).collect();
}

/// The Debian tables that sets take packages from.
fn used_debians(disk: &OnDisk) -> BTreeSet<String> {
    disk.inputs.package_sets.values().map(|s| s.debian.clone()).collect()
}
