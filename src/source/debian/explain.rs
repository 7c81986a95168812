//! Why a set of packages can not be, as a person would tell it.

use super::DebianError;
use super::odd::Odd;
use super::resolve::{By, Clash, Search};
use super::universe::{Id, Universe};
use crate::model::debian::relation::{self, Relation};
use crate::model::lock::PackageSet;

/// How alike two names must be (Jaro-Winkler) for one to be proposed for the other.
const ALIKE: f64 = 0.8;

/// How many links of a chain are told.
const LONGEST: usize = 12;

/// A package is wanted whose entry is not as it must be.
pub fn odd(odd: &Odd<'_>) -> DebianError {
    let (url, line, package, why) = (odd.url.to_owned(), odd.line, odd.name.to_owned(), odd.why.to_owned());
    DebianError::Stanza { url, line, package, why }
}

/// Nobody has a package of that name.
pub fn unknown(all: &Universe<'_>, set: &PackageSet, name: &str) -> DebianError {
    let scored = all.names().map(|known| (strsim::jaro_winkler(name, known), known));
    // Of equally likely ones the first by name, wherever it stands.
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    DebianError::Unknown {
        set: set.name.clone(),
        name: name.to_owned(),
        place: format!("{} ({})", all.suites.join(", "), all.architecture),
        nearest: nearest.filter(|(score, _)| *score >= ALIKE).map(|(_, known)| known.to_owned()),
    }
}

/// A package that must be there can not stand beside a chosen one.
pub fn root_clash(search: &Search<'_>, id: Id, by: By<'_>, clash: &Clash<'_>) -> String {
    let name = search.universe().name(id);
    let why = match by {
        By::Essential => format!("{name} is essential"),
        _ => format!("{name} was asked for"),
    };
    format!("{why}, but {}", clash_text(search, clash))
}

/// A dependency of a chosen package can not be met.
pub fn unmet(search: &Search<'_>, owner: Id, group: &str) -> String {
    let mut links = chain(search, owner);
    links.push(format!("{} needs {group}", search.universe().name(owner)));
    let mut reasons: Vec<String> = Vec::new();
    let mut lacking = Vec::new();
    for relation in relation::alternatives(group).filter_map(Result::ok) {
        match lack(search, &relation) {
            Lack::Nothing => lacking.push(match search.universe().odd(relation.name) {
                Some(odd) => {
                    format!("no {} that can be read (`{}`, line {}: {})", odd.name, odd.url, odd.line, odd.why)
                }
                None => format!("nothing called {}", relation.name),
            }),
            Lack::Has(text) => lacking.push(text),
            Lack::Other(text) => reasons.push(text),
        }
    }
    if !lacking.is_empty() {
        reasons.insert(0, format!("{} has {}", places(search.universe()), lacking.join(" and ")));
    }
    format!("{}, but {}", links.join(", and "), reasons.join("; "))
}

/// Why one alternative will not do.
enum Lack {
    Nothing,
    Has(String),
    Other(String),
}

fn lack(search: &Search<'_>, relation: &Relation<'_>) -> Lack {
    let all = search.universe();
    if !all.concerns(relation) {
        return Lack::Other(format!("{relation} is of another architecture than {}", all.architecture));
    }
    let fitting = all.fitting(relation);
    if let Some(clash) = fitting.iter().find_map(|id| search.clash(*id)) {
        return Lack::Other(clash_text(search, &clash));
    }
    if let Some(id) = fitting.first() {
        return Lack::Other(format!("{} leads nowhere either", all.name(*id)));
    }
    let real = all.named(relation.name).map(|id| format!("{} {}", all.name(id), all.version(id)));
    let provided = all.providers(relation.name).iter().map(|p| match p.version {
        Some(version) => format!("{} {version}, which {} provides", relation.name, all.name(p.by)),
        None => format!("{} provided only without a version (by {})", relation.name, all.name(p.by)),
    });
    let provided: Vec<String> = provided.take(3).collect();
    match real.or_else(|| (!provided.is_empty()).then(|| provided.join(" and "))) {
        Some(text) => Lack::Has(text),
        None => Lack::Nothing,
    }
}

/// `new 2 breaks old (<< 2), and new is chosen: app needs mid, and mid needs new`.
fn clash_text(search: &Search<'_>, clash: &Clash<'_>) -> String {
    let all = search.universe();
    let (owner, chosen) = (clash.owner, clash.chosen);
    let says = format!("{} {} {} {}", all.name(owner), all.version(owner), clash.verb, clash.relation);
    let name = all.name(chosen);
    let links = chain(search, chosen);
    match search.reason(chosen) {
        Some(By::Asked) => format!("{says}, and {name} was asked for"),
        Some(By::Essential) => format!("{says}, and {name} is essential"),
        _ => format!("{says}, and {name} is chosen: {}", links.join(", and ")),
    }
}

/// How a chosen package came to be chosen, from what was asked for on: `app needs mid`, `mid needs libfoo`.
fn chain(search: &Search<'_>, id: Id) -> Vec<String> {
    let mut links = Vec::new();
    let mut at = id;
    while let Some(By::Needs(owner, group)) = search.reason(at) {
        links.push(format!("{} needs {group}", search.universe().name(owner)));
        at = owner;
    }
    links.reverse();
    if links.len() > LONGEST {
        let cut = links.len() - LONGEST;
        links.splice(1..=cut, [format!("so on over {cut} more")]);
    }
    links
}

/// `bookworm`, `bookworm + bookworm-updates`: where was looked.
fn places(all: &Universe<'_>) -> String {
    match all.suites {
        [one] => one.clone(),
        many => many.join(" + "),
    }
}
