//! Deploys and links: what they refer to exists, and `after` has no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::ready::{Ready, duration};
use super::types::Profile;
use super::validate::Findings;
use crate::model::source_map::Loc;

pub(super) type Names<'a> = BTreeSet<&'a str>;

pub(super) fn clusters(profile: &Profile) -> Names<'_> {
    profile.cluster.iter().map(|c| c.name.as_str()).collect()
}

/// A `cluster` key must name one, and may be left out only where there is one.
pub(super) fn cluster(given: Option<&Loc<String>>, owner: &Loc<String>, known: &Names<'_>, found: &mut Findings<'_>) {
    match given {
        Some(name) => found.must_exist(name, "cluster", known),
        None if known.len() > 1 => {
            found.add(&owner.span(), format!("`{}` does not say which cluster it is for", **owner)).hint =
                Some(format!("add `cluster = …`; there are {}", some_of(&known.iter().copied().collect::<Vec<_>>())));
        }
        None => {}
    }
}

/// Deploys: one thing each, of things that exist, in an order that exists.
pub(super) fn deploys(profile: &Profile, found: &mut Findings<'_>) {
    let known = clusters(profile);
    let manifests: Names<'_> = profile.manifest.iter().map(|m| m.name.as_str()).collect();
    let charts: Names<'_> = profile.chart.iter().map(|c| c.name.as_str()).collect();
    let names: Names<'_> = profile.deploy.iter().map(|d| d.name.as_str()).collect();
    for deploy in &profile.deploy {
        cluster(deploy.cluster.as_ref(), &deploy.name, &known, found);
        if known.is_empty() {
            found.add(&deploy.name.span(), format!("`{}` has no cluster to go to", *deploy.name));
        }
        let kinds = [deploy.manifest.is_some(), deploy.chart.is_some(), deploy.istio.is_some()];
        if kinds.into_iter().filter(|k| *k).count() != 1 {
            let text = format!("deploy `{}` needs exactly one of `manifest`, `chart` and `istio`", *deploy.name);
            found.add(&deploy.name.span(), text);
        }
        if let Some(name) = &deploy.manifest {
            found.must_exist(name, "manifest", &manifests);
        }
        if let Some(name) = &deploy.chart {
            found.must_exist(name, "chart", &charts);
        }
        for name in &deploy.after {
            found.must_exist(name, "deploy", &names);
        }
        readiness(&deploy.ready, found);
        if let Some(text) = &deploy.timeout {
            is_duration(text, found);
        }
    }
    let waits = profile.deploy.iter().map(|d| (&d.name, d.after.iter().map(|a| (a.as_str(), a.span())).collect()));
    cycles("deploy", waits, found);
    for chart in &profile.chart {
        if let Some(name) = &chart.cluster {
            found.must_exist(name, "cluster", &known);
        }
    }
    for name in profile.manifest.iter().filter_map(|m| m.cluster.as_ref()) {
        found.must_exist(name, "cluster", &known);
    }
}

/// Every text says something that can be waited for.
pub(super) fn readiness(texts: &[Loc<String>], found: &mut Findings<'_>) {
    for text in texts {
        if let Err(why) = text.parse::<Ready>() {
            found.add(&text.span(), why).hint = Some(Ready::WAYS.to_owned());
        }
    }
}

/// The text is a duration.
pub(super) fn is_duration(text: &Loc<String>, found: &mut Findings<'_>) {
    if duration(text).is_none() {
        found.add(&text.span(), format!("`{}` is not a duration", **text)).hint =
            Some("a number and `ms`, `s` or `m`: `60s`".to_owned());
    }
}

/// What one waits for: names, each with the place where that is said.
pub(super) type Waits<'a> = BTreeMap<&'a str, Range<usize>>;

/// Most names of a list that a message repeats.
const MOST_NAMES: usize = 50;

/// Names for a message: the first few of many.
pub(super) fn some_of(names: &[&str]) -> String {
    listed(names, ", ")
}

fn listed(names: &[&str], between: &str) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let listed = names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(between);
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

/// What still waits when everything that waits for nothing was taken away, again and again.
fn stuck<'a>(waiting: &BTreeMap<&'a str, Waits<'a>>) -> Names<'a> {
    // For each, how many it still waits for, and who waits for it.
    let mut left: BTreeMap<&str, usize> = waiting.iter().map(|(name, after)| (*name, after.len())).collect();
    let mut waiters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, after) in waiting {
        after.keys().for_each(|other| waiters.entry(other).or_default().push(name));
    }
    let mut free: Vec<&str> = left.iter().filter(|(_, n)| **n == 0).map(|(name, _)| *name).collect();
    while let Some(name) = free.pop() {
        left.remove(name);
        for waiter in waiters.remove(name).unwrap_or_default() {
            let Some(n) = left.get_mut(waiter) else { continue };
            *n -= 1;
            free.extend((*n == 0).then_some(waiter));
        }
    }
    left.into_keys().collect()
}

/// Takes away what has nothing left to wait for, until nothing moves; what remains waits for itself, or for what does. `waits`
/// holds names and what each waits for; `kind` is what people call them.
pub(super) fn cycles<'a>(
    kind: &str,
    waits: impl Iterator<Item = (&'a Loc<String>, Waits<'a>)>,
    found: &mut Findings<'_>,
) {
    let mut waiting: BTreeMap<&str, Waits<'_>> = waits.map(|(name, after)| (name.as_str(), after)).collect();
    let known: Names<'_> = waiting.keys().copied().collect();
    for after in waiting.values_mut() {
        after.retain(|name, _| known.contains(name));
    }
    let stuck = stuck(&waiting);
    waiting.retain(|name, _| stuck.contains(name));
    for after in waiting.values_mut() {
        after.retain(|name, _| stuck.contains(name));
    }
    // From any of them, what it waits for leads into the circle and around it.
    let mut way: Vec<&str> = waiting.keys().next().copied().into_iter().collect();
    let mut places: BTreeMap<&str, usize> = way.iter().map(|name| (*name, 0)).collect();
    while let Some((next, place)) = way.last().and_then(|name| waiting.get(name)?.first_key_value()) {
        if let Some(start) = places.get(next) {
            let circle = listed(way.get(*start..).unwrap_or_default(), ", which waits for ");
            let text = format!("these {kind}s wait for each other in a circle: {circle}, which waits for {next}");
            found.add(place, text).hint = Some("one of them must go first: take its name out of here".to_owned());
            return;
        }
        places.insert(next, way.len());
        way.push(next);
    }
}

/// Links: between two clusters that exist.
pub(super) fn links(profile: &Profile, found: &mut Findings<'_>) {
    let known = clusters(profile);
    for link in &profile.link {
        found.must_exist(&link.from, "cluster", &known);
        found.must_exist(&link.to, "cluster", &known);
        if *link.from == *link.to {
            found.add(&link.to.span(), "a link leads from one cluster to another");
        }
    }
}
