//! Results as text for people.

use super::print::{bytes, table};
use crate::build::closure::Closure;
use crate::build::export::Exported;
use crate::build::step::why::Why;
use crate::model::lock::Change;
use crate::ops::build::BuildOutcome;
use crate::ops::diff::{Compared, DiffReport, State};
use crate::ops::doctor::{Finding, Verdict};
use crate::ops::fetch::FetchOutcome;
use crate::ops::inspect::InspectReport;
use crate::ops::lock::LockOutcome;
use crate::ops::ls::Entry;
use crate::ops::serve::Listening;
use crate::ops::size::SizeReport;
use crate::ops::store::CheckOutcome;
use crate::ops::why::StepWhy;
use crate::store::gc::{Collected, Usage};

fn plural(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// A name in lower case, as enums serialise.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// What moved in a lock.
pub(super) fn changes(changes: &[Change]) -> String {
    let mut out = String::new();
    for change in changes {
        match (&change.was, &change.is) {
            (None, Some(is)) => out += &format!("+ {}\n    {is}\n", change.input),
            (Some(was), None) => out += &format!("- {}\n    {was}\n", change.input),
            (Some(was), Some(is)) => out += &format!("~ {}\n  - {was}\n  + {is}\n", change.input),
            (None, None) => {}
        }
    }
    out
}

/// What became of a lock.
pub(super) fn locked(done: &LockOutcome) -> String {
    let path = done.path.display();
    match (done.new, done.written) {
        (true, true) => format!("locked {} in {path}", plural(done.inputs, "input")),
        (false, true) => format!("{path}: {} moved", plural(done.changes.len(), "input")),
        _ => format!("{path} is up to date ({})", plural(done.inputs, "input")),
    }
}

/// Where a server listens, and what it serves: one line.
pub(super) fn listening(told: &Listening) -> String {
    let names: Vec<&str> = told.sources.iter().map(|s| s.name.as_str()).collect();
    let role = match (&told.registry, &told.pushes) {
        (Some(host), Some(pushes)) => format!("the registry {host}, pushes in {}", pushes.display()),
        _ => "a mirror".to_owned(),
    };
    let images = plural(told.images, "image");
    format!("http://{} serves {images} of {} as {role}", told.address, names.join(", "))
}

/// What came over the network.
pub(super) fn fetched(done: &FetchOutcome) -> String {
    let all = format!("{}, {}", plural(done.total_blobs, "blob"), bytes(done.total_bytes));
    match done.blobs {
        0 => format!("everything is there ({all})"),
        n => format!("fetched {} ({}); the lab needs {all}", plural(n, "blob"), bytes(done.bytes)),
    }
}

/// What was built; the bundle's path itself goes to standard output.
pub(super) fn built(done: &BuildOutcome) -> String {
    let mut out = String::new();
    if let Some(lock) = &done.locked {
        out += &format!("{}\n", locked(lock));
    }
    if done.fetched.blobs > 0 {
        out += &format!("{}\n", fetched(&done.fetched));
    }
    if done.steps_run > 0 {
        out += &format!("made {} of {}\n", done.steps_run, plural(done.steps, "step"));
    }
    let what = if done.unchanged { "unchanged" } else { "built" };
    out += &format!("{what} {} ({}), identity {}", done.bundle.display(), bytes(done.size), done.identity);
    if let Some(dir) = &done.vagrant {
        out += &format!("\nmachines: cd {} && vagrant up", crate::base::shell::word(dir));
    }
    out
}

/// Why steps would be built.
pub(super) fn why(steps: &[StepWhy]) -> String {
    let mut out = String::new();
    for step in steps {
        out += &format!("{}: {}\n", step.step, verdict(step));
        if let Some(Why::Changes(changes)) = &step.why {
            out.extend(changes.iter().map(|c| format!("  {c}\n")));
        }
    }
    out
}

fn verdict(step: &StepWhy) -> String {
    match (&step.why, step.there) {
        (None, _) => {
            let names: Vec<&str> = step.waits_for.iter().map(String::as_str).collect();
            format!("waits for {}", names.join(", "))
        }
        (Some(Why::NeverBuilt), true) => "never built for this lab, but its output is in the store".to_owned(),
        (Some(Why::NeverBuilt), false) => "never built".to_owned(),
        (Some(Why::Unchanged), true) => "unchanged since the last build".to_owned(),
        (Some(Why::Unchanged), false) => {
            "unchanged since the last build, but its output is not in the store".to_owned()
        }
        (Some(Why::Changes(_)), true) => "changed since the last build; its output is in the store".to_owned(),
        (Some(Why::Changes(_)), false) => "changed since the last build".to_owned(),
    }
}

/// What a bundle is.
pub(super) fn inspect(report: &InspectReport) -> String {
    let c = &report.contents;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("bundle", report.path.display().to_string()),
        row("lab", report.name.clone()),
        row("identity", report.identity.to_string()),
        row("format", report.format.to_string()),
        row("epoch", report.epoch.to_string()),
        row("size", format!("{} ({} bytes)", bytes(report.size), report.size)),
        row("members", report.members.to_string()),
        row("images", c.images.len().to_string()),
        row("charts", c.charts.len().to_string()),
        row("files", (c.files.len() + c.locals.len()).to_string()),
        row("signed", if report.signed { "yes (not checked here)" } else { "no" }.to_owned()),
    ];
    match &report.damaged {
        None => {}
        Some(damaged) if damaged.is_empty() => rows.push(row("verified", "every byte".to_owned())),
        Some(damaged) => rows.extend(damaged.iter().map(|d| row("DAMAGED", format!("{}: {}", d.path, d.why)))),
    }
    table(&rows, &[])
}

/// What a lab's manifests name and whether it is there.
pub(super) fn closure(found: &Closure) -> String {
    let mut out = String::new();
    for broken in &found.broken {
        out += &format!("broken  {}\n", broken.line());
    }
    for missing in &found.missing {
        out += &format!("missing {}\n", missing.line());
    }
    for note in found.notes.iter().map(|n| n.line()).chain(found.remarks.iter().map(|r| r.line())) {
        out += &format!("note    {note}\n");
    }
    let hint = found.hint();
    if !hint.is_empty() {
        out += &format!("{hint}\n");
    }
    let read = format!("{} in {}", plural(found.images, "image"), plural(found.manifests, "manifest"));
    out + &match (found.missing.len(), found.broken.len()) {
        (0, 0) => format!("nothing is missing: {read}\n"),
        (missing, 0) => format!("{missing} missing: {read}\n"),
        (missing, broken) => format!("{missing} missing, {broken} broken: {read}\n"),
    }
}

/// What is in a bundle.
pub(super) fn ls(entries: &[Entry]) -> String {
    let row = |e: &Entry| {
        let platform = e.platform.map(|p| p.to_string()).unwrap_or_default();
        vec![word(&e.kind), platform, bytes(e.size), e.digest.short(), e.name.clone()]
    };
    table(&entries.iter().map(row).collect::<Vec<_>>(), &[2])
}

/// Where the bytes go.
pub(super) fn size(report: &SizeReport) -> String {
    let mut rows = vec![["own", "shared", "kind", "name"].map(str::to_owned).to_vec()];
    rows.extend(report.items.iter().map(|i| vec![bytes(i.own), bytes(i.shared), word(&i.kind), i.name.clone()]));
    let sum = |name: &str, n: u64| vec![bytes(n), String::new(), name.to_owned()];
    rows.push(sum("shared by several", report.shared));
    rows.push(sum("format", report.overhead));
    rows.push(sum("total", report.total));
    table(&rows, &[0, 1])
}

/// Differences inside things that are named.
const INSIDE: usize = 50;

/// What changed between two bundles, boxes or disk images.
pub(super) fn compared(report: &Compared) -> String {
    let lines = |lines: Vec<String>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    match report {
        Compared::Bundles(report) => diff(report) + &lines(report.inside.lines(INSIDE)),
        Compared::Files(report) if report.same => "the same bytes\n".to_owned(),
        Compared::Files(report) => lines(report.found.lines(INSIDE)),
    }
}

fn diff(report: &DiffReport) -> String {
    if report.same {
        return format!("the same bundle: {}", report.new.identity);
    }
    let state = |s: &State| {
        let version = s.version.as_ref().map(|v| format!("{v} ")).unwrap_or_default();
        format!("{version}{} {}", s.digest.short(), bytes(s.size))
    };
    let mut out = String::new();
    for change in &report.changes {
        let platform = change.platform.map(|p| format!(" ({p})")).unwrap_or_default();
        let name = format!("{} {}{platform}", word(&change.kind), change.name);
        out += &match (&change.old, &change.new) {
            (None, Some(new)) => format!("+ {name}: {}\n", state(new)),
            (Some(old), None) => format!("- {name}: {}\n", state(old)),
            (Some(old), Some(new)) => format!("~ {name}: {} -> {}\n", state(old), state(new)),
            (None, None) => String::new(),
        };
    }
    for text in &report.texts {
        out += &format!("~ {text}\n");
    }
    out + &format!(
        "{} new, {} gone, {} kept\n",
        bytes(report.bytes_new),
        bytes(report.bytes_gone),
        bytes(report.bytes_kept)
    )
}

/// What was exported.
pub(super) fn exported(done: &Exported) -> String {
    format!("exported {} for {} ({})", plural(done.images.len(), "image"), done.platform, bytes(done.size))
}

/// What a check of the store found.
pub(super) fn checked(done: &CheckOutcome, repair: bool) -> String {
    let mut out = String::new();
    for bad in &done.bad {
        let labs = if bad.labs.is_empty() { "no lab".to_owned() } else { bad.labs.join(", ") };
        let state = if done.repaired.contains(&bad.digest) { "repaired" } else { "bad" };
        out += &format!("{state} {}: {} (needed by {labs})\n", bad.digest, bad.why);
    }
    for failed in &done.failed {
        out += &format!("lab {} was not mended: {}\n", failed.lab, failed.why);
    }
    let sum = format!("{}, {} hashed", plural(done.blobs, "blob"), bytes(done.bytes));
    out + &match (done.bad.len(), done.remaining.len()) {
        (0, _) => format!("all good: {sum}\n"),
        (n, 0) => format!("{n} bad, all repaired: {sum}\n"),
        (_, n) if repair => {
            let disk = if done.remaining.iter().all(|bad| bad.readable) { "" } else { UNREADABLE };
            format!("{n} bad still: {sum}\n{disk}{HOME_MADE}")
        }
        (_, n) => format!("{n} bad: {sum}\nhint: labimg store check --repair\n"),
    }
}

/// What to do about blobs that nobody serves.
const HOME_MADE: &str =
    "hint: labimg build PROFILE brings back files beside the profile, and makes anew what labimg made\n";

/// What to do about blobs that were not thrown away.
const UNREADABLE: &str =
    "hint: blobs that can not be read were left alone: look at the disk and at who may read them\n";

/// What became of a lab's root.
pub(super) fn forgotten(lab: &str) -> String {
    format!("forgot lab {lab}; labimg store gc frees what only it needed")
}

/// What a collection removed.
pub(super) fn collected(done: &Collected, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut out = format!("{verb} {} ({})", plural(done.blobs.len(), "blob"), bytes(done.blob_bytes));
    if done.parts > 0 {
        out += &format!(" and {} ({})", plural(done.parts, "abandoned download"), bytes(done.part_bytes));
    }
    for (n, what) in
        [(done.realisations, "realisation"), (done.toolchains, "toolchain"), (done.scratch, "scratch directory")]
    {
        if n > 0 {
            out += &format!(", {}", plural(n, what).replace("directorys", "directories"));
        }
    }
    if done.kept_young > 0 {
        out += &format!("; {} unneeded but too young (--grace)", plural(done.kept_young, "blob"));
    }
    out
}

/// Who uses how much of the store.
pub(super) fn usage(usage: &Usage) -> String {
    let mut rows = vec![["bytes", "only its own", "lab"].map(str::to_owned).to_vec()];
    rows.extend(usage.labs.iter().map(|(lab, u)| vec![bytes(u.bytes), bytes(u.own_bytes), lab.clone()]));
    let sum = |name: &str, n: u64| vec![bytes(n), String::new(), name.to_owned()];
    rows.push(sum("(needed by no lab)", usage.unreferenced_bytes));
    rows.push(sum("(downloads under way or abandoned)", usage.part_bytes));
    rows.push(sum(&format!("({} in all)", plural(usage.blobs, "blob")), usage.blob_bytes));
    table(&rows, &[0, 1])
}

/// What the doctor found.
pub(super) fn doctor(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for f in findings {
        let mark = match f.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "BAD",
        };
        let hint = f.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        rows.push(vec![mark.to_owned(), f.what.clone(), format!("{}{hint}", f.seen)]);
    }
    table(&rows, &[])
}
