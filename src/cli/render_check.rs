//! What `labimg check` found, as text for people.

use std::collections::BTreeMap;

use super::render::plural;
use crate::build::closure::{Closure, UnseenKind};
use crate::build::complete;
use crate::ops::check::Checked;

/// What is missing and what was not looked at, line by line; then what to do; then the verdict.
pub(super) fn checked(found: &Checked) -> String {
    let closure = &found.closure;
    let mut out = String::new();
    for broken in &closure.broken {
        out += &format!("broken  {}\n", broken.line());
    }
    for missing in &closure.missing {
        out += &format!("missing {}\n", missing.line());
    }
    for lack in &found.lacking {
        out += &format!("{} {}\n", if lack.needed { "missing" } else { "wanted " }, lack.line());
    }
    for note in closure.notes.iter().map(|n| n.line()).chain(closure.remarks.iter().map(|r| r.line())) {
        out += &format!("note    {note}\n");
    }
    for place in &closure.unresolved {
        out += &format!("unknown {}\n", place.line());
    }
    for hint in [closure.hint(), complete::advice(&found.lacking)].iter().filter(|hint| !hint.is_empty()) {
        out += &format!("{hint}\n");
    }
    out + &verdict(found) + &unseen(closure)
}

fn verdict(found: &Checked) -> String {
    let closure = &found.closure;
    let read = format!("{} in {}", plural(closure.images, "image"), plural(closure.manifests, "manifest"));
    let parts = found.lacking.iter().filter(|l| l.needed).count();
    let mut against = Vec::new();
    for (n, what) in [(closure.missing.len(), "missing"), (closure.broken.len(), "broken")] {
        if n > 0 {
            against.push(format!("{n} {what}"));
        }
    }
    if parts > 0 {
        against.push(format!("{} lacking for the lab to come up", plural(parts, "part")));
    }
    match (against.is_empty(), closure.is_whole()) {
        (true, true) => format!("nothing is missing: {read}\n"),
        (true, false) => format!("nothing is missing where was looked: {read}\n"),
        (false, _) => format!("{}: {read}\n", against.join(", ")),
    }
}

/// What was not looked into: a line for each kind of thing.
fn unseen(closure: &Closure) -> String {
    let mut kinds: BTreeMap<UnseenKind, Vec<(&str, usize)>> = BTreeMap::new();
    for part in &closure.not_looked_into {
        kinds.entry(part.kind).or_default().push((&part.name, part.count));
    }
    let mut out = String::new();
    for (kind, parts) in kinds {
        let n = parts.iter().map(|(_, n)| n).sum();
        let named = |(name, n): &(&str, usize)| if *n > 1 { format!("{n} {name}") } else { (*name).to_owned() };
        let names: Vec<String> = parts.iter().map(named).collect();
        let was = if n == 1 { "was" } else { "were" };
        out += &format!("{} {was} not looked into: {}\n", kind.counted(n), names.join(", "));
    }
    match closure.unresolved.len() {
        0 => out,
        1 => out + "1 image is a placeholder and was not resolved\n",
        n => out + &format!("{n} images are placeholders and were not resolved\n"),
    }
}
