//! All packages a set may be made of: of each name the highest version, and who provides what.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::index::Row;
use super::odd::Odd;
use crate::model::debian::relation::{self, Relation};
use crate::model::debian::version;

/// A package, as the number of its place in the universe.
pub type Id = usize;

/// An index of one suite.
#[derive(Debug)]
pub struct Source {
    /// Position of the suite among those asked for.
    pub suite: usize,
    /// The short form of the index.
    pub text: String,
}

/// Packages of one architecture.
pub struct Universe<'a> {
    packages: Vec<Package<'a>>,
    names: HashMap<&'a str, Id>,
    provided: HashMap<&'a str, Vec<Provided<'a>>>,
    essential: Vec<Id>,
    odd: HashMap<&'a str, Odd<'a>>,
    /// The architecture.
    pub architecture: &'a str,
    /// The suites' names.
    pub suites: &'a [String],
}

struct Package<'a> {
    line: &'a str,
    name: &'a str,
    version: &'a str,
    suite: usize,
}

/// Who provides a name, and as which version.
#[derive(Debug, Clone, Copy)]
pub struct Provided<'a> {
    /// Who.
    pub by: Id,
    /// As which version.
    pub version: Option<&'a str>,
}

impl<'a> Universe<'a> {
    /// Merges indices: the highest version of a name wins, of equal ones that of the first suite.
    pub fn new(sources: &'a [Source], suites: &'a [String], architecture: &'a str) -> Self {
        let count = sources.iter().map(|s| s.text.len() / 300).sum();
        let (mut packages, mut names) = (Vec::with_capacity(count), HashMap::with_capacity(count));
        let mut odd = HashMap::new();
        for source in sources {
            for line in source.text.lines() {
                if let Some(entry) = Odd::parse(line) {
                    odd.entry(entry.name).or_insert(entry);
                    continue;
                }
                let mut fields = line.split('\t');
                let (Some(name), Some(version)) = (fields.next(), fields.next()) else { continue };
                let package = Package { line, name, version, suite: source.suite };
                let id = *names.entry(name).or_insert(packages.len());
                match packages.get_mut(id) {
                    None => packages.push(package),
                    Some(known) if higher(&package, known) => *known = package,
                    Some(_) => {}
                }
            }
        }
        let (provided, essential) = (HashMap::new(), Vec::new());
        let mut all = Self { packages, names, provided, essential, odd, architecture, suites };
        all.look_into();
        all
    }

    /// Finds out who is essential, and who provides what: in order of priority, then of names.
    fn look_into(&mut self) {
        let mut provided: HashMap<&'a str, Vec<(char, Provided<'a>)>> = HashMap::new();
        for (by, package) in self.packages.iter().enumerate() {
            let mut fields = package.line.split('\t').skip(3);
            let mut next = || fields.next().unwrap_or_default();
            let (essential, priority, provides) = (next(), next(), next());
            if essential == "E" {
                self.essential.push(by);
            }
            let parsed = relation::groups(provides).filter_map(|group| relation::parse(group).ok());
            for relation in parsed {
                let version = relation.version.map(|(_, version)| version);
                let rank = priority.chars().next().unwrap_or('5');
                provided.entry(relation.name).or_default().push((rank, Provided { by, version }));
            }
        }
        let name = |id: Id| self.packages.get(id).map_or("", |p| p.name);
        self.essential.sort_by_key(|id| name(*id));
        for list in provided.values_mut() {
            list.sort_by_key(|(rank, p)| (*rank, name(p.by)));
        }
        let plain = |list: Vec<(char, Provided<'a>)>| list.into_iter().map(|(_, p)| p).collect();
        self.provided = provided.into_iter().map(|(name, list)| (name, plain(list))).collect();
    }

    /// The package of that name.
    pub fn named(&self, name: &str) -> Option<Id> {
        self.names.get(name).copied()
    }

    /// The entry of that name that is not as it must be. There may be a right one in another suite.
    pub fn odd(&self, name: &str) -> Option<&Odd<'a>> {
        self.odd.get(name)
    }

    /// Essential packages that nobody can have, as each of their entries is odd; the first by name.
    pub fn essential_odd(&self) -> Option<&Odd<'a>> {
        let lost = self.odd.values().filter(|odd| odd.essential && self.named(odd.name).is_none());
        lost.min_by_key(|odd| odd.name)
    }

    /// Who provides that name.
    pub fn providers(&self, name: &str) -> &[Provided<'a>] {
        self.provided.get(name).map_or(&[], Vec::as_slice)
    }

    /// The essential packages, sorted by name.
    pub fn essential(&self) -> &[Id] {
        &self.essential
    }

    /// Every name there is.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.packages.iter().map(|p| p.name)
    }

    /// A package's name; empty for a number of none.
    pub fn name(&self, id: Id) -> &'a str {
        self.packages.get(id).map_or("", |p| p.name)
    }

    /// A package's version.
    pub fn version(&self, id: Id) -> &'a str {
        self.packages.get(id).map_or("", |p| p.version)
    }

    /// Position of the suite a package is from.
    pub fn suite(&self, id: Id) -> usize {
        self.packages.get(id).map_or(0, |p| p.suite)
    }

    /// All that is known of a package.
    pub fn row(&self, id: Id) -> Option<Row<'a>> {
        Row::parse(self.packages.get(id)?.line)
    }

    /// Whether a relation may mean packages of this universe: it has one architecture, and `all`.
    pub fn concerns(&self, relation: &Relation<'_>) -> bool {
        relation.qualifier.is_none_or(|q| q == "any" || q == "native" || q == self.architecture)
    }

    /// Packages that fit a relation: the real one first, then those that provide it.
    pub fn fitting(&self, relation: &Relation<'_>) -> Vec<Id> {
        if !self.concerns(relation) {
            return Vec::new();
        }
        let real = self.named(relation.name).filter(|id| relation.accepts(Some(self.version(*id))));
        let provided = self.providers(relation.name).iter().filter(|p| relation.accepts(p.version)).map(|p| p.by);
        real.into_iter().chain(provided).collect()
    }
}

fn higher(new: &Package<'_>, known: &Package<'_>) -> bool {
    version::compare(new.version, known.version).then_with(|| known.suite.cmp(&new.suite)) == Ordering::Greater
}
