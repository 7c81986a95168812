//! Labs as text for people.

use std::path::Path;

use super::print::table;
use crate::base::shell::word;
use crate::lab::down::Down;
use crate::lab::status::LabStatus;
use crate::lab::up::Up;
use crate::lab::vagrant::import::Imported;
use crate::lab::verify::{Outcome, Report};
use crate::ops::lab::LabImported;

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// A lab that is up: where it answers, and what to type next.
pub(super) fn up(done: &Up) -> String {
    let changed = done.deploys.iter().filter(|d| d.applied).count();
    let what = if done.not_brought_up.is_empty() { "is up" } else { "is up as far as labimg brings it up," };
    let mut out = format!(
        "{} {what} after {}: {} of {} deploys applied\n",
        done.lab,
        seconds(done.milliseconds),
        changed,
        done.deploys.len()
    );
    for idle in &done.not_brought_up {
        out += &format!("  not brought up: {}\n", idle.line());
    }
    for address in &done.addresses {
        out += &format!("  {address}\n");
    }
    if done.checks > 0 {
        out += &format!("labimg verify {}    looks whether it does what it promises\n", done.lab);
    }
    out + &format!("labimg kubectl --lab {0} get pods -A\nlabimg down {0}", done.lab)
}

/// Shell assignments that a POSIX shell evaluates.
pub(super) fn shell(variables: &[(&'static str, String)]) -> String {
    variables.iter().map(|(name, value)| format!("export {name}={}\n", word(Path::new(value)))).collect()
}

/// The card an attendee gets: a line per check, what was seen, and where to look.
pub(super) fn card(report: &Report) -> String {
    if report.checks.is_empty() {
        return format!("{}: no checks: nothing was looked at\n", report.lab);
    }
    let count = |outcome| report.checks.iter().filter(|c| c.outcome == outcome).count();
    let unlooked = match count(Outcome::NotLookedAt) {
        0 => String::new(),
        n => format!(", {n} not looked at"),
    };
    let passed = count(Outcome::Passed);
    let mut out = format!("{}: {passed} of {} checks passed{unlooked}\n\n", report.lab, report.checks.len());
    for check in &report.checks {
        let mark = match check.outcome {
            Outcome::Passed => "ok  ",
            Outcome::Failed => "FAIL",
            Outcome::NotLookedAt => "?   ",
        };
        out += &format!("{mark}  {}  ({:.1} s)\n", check.name, check.seconds);
        if !check.detail.is_empty() {
            out += &format!("      {}\n", check.detail);
        }
        for reason in &check.reasons {
            out += &format!("      {}\n", reason.replace('\n', "\n      "));
        }
        for line in check.chain.iter().flat_map(|c| &c.lines) {
            out += &format!("      {line}\n");
        }
        if let Some(at) = check.at.as_ref().filter(|_| check.outcome != Outcome::Passed) {
            out += &format!("      asked for at {at}\n");
        }
        for open in &check.open {
            let after = open.after.as_ref().map(|a| format!("  (first: {a})")).unwrap_or_default();
            out += &format!("      {}: {}{after}\n", open.what, open.url);
        }
    }
    out
}

/// How a lab is, in a few words.
fn how(lab: &LabStatus) -> &'static str {
    match (lab.is_up(), &lab.unknown) {
        (true, _) if lab.not_looked_at.is_empty() => "up",
        (true, _) => "up as far as labimg brought it up",
        (false, Some(_)) => "not looked at: who runs it does not answer",
        (false, None) if lab.clusters.is_empty() => "not up: labimg made no cluster of it",
        (false, None) => "not whole: `labimg up` goes on, `labimg down` takes it away",
    }
}

/// Labs, their clusters and what stands beside them.
pub(super) fn status(labs: &[LabStatus]) -> String {
    let mut out = String::new();
    for lab in labs {
        out += &format!("{}  {}\n  bundle {}", lab.name, how(lab), lab.bundle.display());
        out += if lab.bundle_there { "\n" } else { "  (it is not there any more)\n" };
        if let Some(why) = &lab.unknown {
            out += &format!("  {why}\n");
        }
        for line in &lab.not_looked_at {
            out += &format!("  not looked at: {line}\n");
        }
        let mut rows = Vec::new();
        for cluster in &lab.clusters {
            let made = match (cluster.made, cluster.engine.is_empty()) {
                (true, _) => "made",
                (false, false) => "half made",
                (false, true) => "not made",
            };
            rows.push(vec![
                format!("  {}", cluster.name),
                cluster.engine.clone(),
                made.to_owned(),
                cluster.ports.join(", "),
            ]);
            for node in cluster.state.iter().flat_map(|s| &s.nodes) {
                rows.push(vec![format!("    {}", node.name), node.role.clone(), node.state.clone()]);
            }
        }
        for container in &lab.containers {
            let (name, role) = (format!("  {}", container.name), container.role.clone());
            rows.push(vec![name, role, container.state.clone(), container.ports.join(", ")]);
        }
        out += &table(&rows, &[]);
    }
    out
}

/// What went away.
pub(super) fn down(done: &Down) -> String {
    let kept = match done.images_kept.len() {
        0 => String::new(),
        n => format!(
            "\n{n} images stay in the engine for the next `up`; `labimg down {} --images` removes them",
            done.lab
        ),
    };
    if done.is_empty() {
        return format!("nothing is left of {}{kept}", done.lab);
    }
    let count = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let parts = [
        count(done.clusters.len(), "clusters"),
        count(done.containers.len(), "containers"),
        count(done.volumes.len(), "volumes"),
        count(done.networks.len(), "networks"),
        count(done.images.len(), "images"),
        done.state.then(|| "its state and secrets".to_owned()),
    ];
    format!("{} is down: {} removed{kept}", done.lab, parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// A box in Vagrant's home.
pub(super) fn imported(done: &LabImported) -> String {
    let line = |b: &Imported| {
        let what = if b.unchanged { "was there already" } else { "is imported" };
        format!("{} {} ({}) {what}: {}\n", b.name, b.version, b.provider, b.directory.display())
    };
    let lines: String = done.boxes.iter().map(line).collect();
    let next = match done.folder.as_path() {
        _ if done.machines.is_empty() => String::new(),
        here if here == Path::new(".") || here == Path::new("") => "now: vagrant up".to_owned(),
        folder => format!("now: cd {} && vagrant up", word(folder)),
    };
    lines + &next
}
