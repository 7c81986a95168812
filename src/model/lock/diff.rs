//! What moved between two locks, for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Lock;

/// One input that is not the same in two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// The input, as people call it.
    pub input: String,
    /// What it was: digest and facts; `None` when it is new.
    pub was: Option<String>,
    /// What it is; `None` when it is gone.
    pub is: Option<String>,
}

/// What moved from `old` to `new`, sorted by input.
pub fn diff(old: &Lock, new: &Lock) -> Vec<Change> {
    let (old, new) = (facts(old), facts(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let changes = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changes
        .map(|name| Change { input: name.clone(), was: old.get(name).cloned(), is: new.get(name).cloned() })
        .collect()
}

fn facts(lock: &Lock) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("epoch".to_owned(), lock.epoch.to_string())]);
    for image in &lock.images {
        let platforms: Vec<String> = image.platforms.iter().map(|(p, m)| format!("{p} {}", m.digest.short())).collect();
        let source = image.source.as_ref().map(|s| format!(" from {s}")).unwrap_or_default();
        let text = format!("{}{source} ({})", image.digest, platforms.join(", "));
        all.insert(format!("image {}", image.reference), text);
    }
    for chart in &lock.charts {
        all.insert(format!("chart {}", chart.name), format!("{} {} {}", chart.version, chart.digest, chart.url));
    }
    for file in &lock.files {
        let platform = file.platform.map(|p| format!(" ({p})")).unwrap_or_default();
        let version = file.version.as_ref().map(|v| format!("{v} ")).unwrap_or_default();
        let member = file.member.as_ref().map(|m| format!(" {} {}", m.path, m.digest.short())).unwrap_or_default();
        let text = format!("{version}{} {}{member}", file.digest, file.url);
        all.insert(format!("{} {}{platform}", file.kind.as_str(), file.name), text);
    }
    for suite in &lock.suites {
        let text = format!("{} {}", suite.date, suite.digest.short());
        all.insert(format!("debian {} {}", suite.debian, suite.suite), text);
    }
    for package in &lock.packages {
        let text = format!("{} {}", package.version, package.digest.short());
        let name = format!("package {} ({} {})", package.name, package.debian, package.architecture);
        let both = all.get(&name).map(|other| format!("{other}, {text}"));
        all.insert(name, both.unwrap_or(text));
    }
    for set in &lock.package_sets {
        all.insert(format!("packages {}", set.name), set.want.join(" "));
    }
    for wheel in &lock.wheels {
        all.insert(format!("wheel {}", wheel.file), wheel.digest.short());
    }
    for program in &lock.carried {
        all.insert(program.label(), format!("{} {}", program.version, program.digest.short()));
    }
    for local in &lock.locals {
        all.insert(format!("local {}", local.path), local.digest.to_string());
    }
    all
}
