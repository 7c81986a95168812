//! Which packages a set needs: everything asked for, with all it depends on, and nothing that must not stand beside it.
//!
//! Dependencies that leave no choice are followed first. Of alternatives one that is chosen already will do, else the first
//! that conflicts with nothing chosen is taken; when that leads nowhere, the next one is tried. What is chosen stands on a
//! stack, so that a wrong choice is undone by cutting it.

use std::collections::HashMap;

use super::DebianError;
use super::explain;
use super::universe::{Id, Universe};
use crate::model::debian::relation::{self, Relation};
use crate::model::lock::PackageSet;

/// How many wrong choices are undone before we give up.
const MOST_UNDONE: usize = 10_000;

/// Why a package is chosen.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// The set names it.
    Asked,
    /// It is essential.
    Essential,
    /// That package needs what this group of its dependencies says.
    Needs(Id, &'a str),
}

/// A package that can not stand beside another.
#[derive(Debug, Clone, Copy)]
pub struct Clash<'a> {
    /// Whose relation says so.
    pub owner: Id,
    /// `conflicts with` or `breaks`.
    pub verb: &'static str,
    /// The relation.
    pub relation: Relation<'a>,
    /// The one of the two that is chosen.
    pub chosen: Id,
}

/// What is chosen, and what is still to be looked at.
pub struct Search<'a> {
    all: &'a Universe<'a>,
    chosen: HashMap<Id, By<'a>>,
    order: Vec<Id>,
    bans: HashMap<&'a str, Vec<Clash<'a>>>,
    /// Dependencies that leave no choice, then those that do; and how many of each are done.
    goals: [Vec<Goal<'a>>; 2],
    done: [usize; 2],
    points: Vec<Point<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Goal<'a> {
    owner: Id,
    group: &'a str,
}

/// A choice that can be made otherwise: the lengths of all stacks before it, and the alternative to try next.
struct Point<'a> {
    order: usize,
    goals: [usize; 2],
    done: [usize; 2],
    goal: Goal<'a>,
    next: usize,
}

/// The packages of a set, sorted by name.
///
/// # Errors
/// Names nobody has; a chain of dependencies that can not be satisfied; a conflict.
pub fn resolve<'a>(all: &'a Universe<'a>, set: &'a PackageSet) -> Result<Vec<Id>, DebianError> {
    let mut search = Search {
        all,
        chosen: HashMap::new(),
        order: Vec::new(),
        bans: HashMap::new(),
        goals: [Vec::new(), Vec::new()],
        done: [0, 0],
        points: Vec::new(),
    };
    let asked = set.want.iter().map(|name| Ok((search.wanted(set, name)?, By::Asked)));
    let mut roots = asked.collect::<Result<Vec<_>, DebianError>>()?;
    if set.essential {
        if let Some(odd) = all.essential_odd() {
            return Err(explain::odd(odd));
        }
        roots.extend(all.essential().iter().map(|id| (*id, By::Essential)));
    }
    for (id, by) in roots {
        search.root(id, by).map_err(|why| DebianError::Unsatisfiable { set: set.name.clone(), why })?;
    }
    search.run().map_err(|why| DebianError::Unsatisfiable { set: set.name.clone(), why })?;
    let mut found = search.order;
    found.sort_by_key(|id| all.name(*id));
    Ok(found)
}

impl<'a> Search<'a> {
    /// The packages it is about.
    pub fn universe(&self) -> &'a Universe<'a> {
        self.all
    }

    /// Why a chosen package is chosen.
    pub fn reason(&self, id: Id) -> Option<By<'a>> {
        self.chosen.get(&id).copied()
    }

    /// The package a set's word means: a real one, or the only one that provides it.
    fn wanted(&self, set: &PackageSet, name: &str) -> Result<Id, DebianError> {
        if let Some(id) = self.all.named(name) {
            return Ok(id);
        }
        if let Some(odd) = self.all.odd(name) {
            return Err(explain::odd(odd));
        }
        let mut providers: Vec<Id> = self.all.providers(name).iter().map(|p| p.by).collect();
        providers.dedup();
        match providers.as_slice() {
            [] => Err(explain::unknown(self.all, set, name)),
            [one] => Ok(*one),
            many => {
                let providers = many.iter().take(12).map(|id| self.all.name(*id).to_owned()).collect();
                Err(DebianError::Virtual { set: set.name.clone(), name: name.to_owned(), providers })
            }
        }
    }

    fn root(&mut self, id: Id, by: By<'a>) -> Result<(), String> {
        if self.chosen.contains_key(&id) {
            return Ok(());
        }
        match self.clash(id) {
            Some(clash) => Err(explain::root_clash(self, id, by, &clash)),
            None => {
                self.choose(id, by);
                Ok(())
            }
        }
    }

    /// Follows all dependencies; the first thing that could not be is told when no choice helps.
    fn run(&mut self) -> Result<(), String> {
        let mut first = None;
        let mut undone = 0;
        while let Some(goal) = self.next_goal() {
            let mut solved = self.solve(goal, 0);
            while !solved {
                let why = first.get_or_insert_with(|| explain::unmet(self, goal.owner, goal.group));
                undone += 1;
                match self.points.pop().filter(|_| undone <= MOST_UNDONE) {
                    Some(point) => {
                        self.undo(&point);
                        solved = self.solve(point.goal, point.next);
                    }
                    None => return Err(std::mem::take(why)),
                }
            }
        }
        Ok(())
    }

    fn next_goal(&mut self) -> Option<Goal<'a>> {
        for (goals, done) in self.goals.iter().zip(&mut self.done) {
            if let Some(goal) = goals.get(*done) {
                *done += 1;
                return Some(*goal);
            }
        }
        None
    }

    /// Satisfies a group, looking at its candidates from number `from` on.
    fn solve(&mut self, goal: Goal<'a>, from: usize) -> bool {
        let fitting = self.candidates(goal.group);
        if fitting.iter().any(|id| self.chosen.contains_key(id)) {
            return true;
        }
        let Some(at) = (from..fitting.len()).find(|at| self.clash(fitting[*at]).is_none()) else { return false };
        if at + 1 < fitting.len() {
            let goals = [self.goals[0].len(), self.goals[1].len()];
            self.points.push(Point { order: self.order.len(), goals, done: self.done, goal, next: at + 1 });
        }
        self.choose(fitting[at], By::Needs(goal.owner, goal.group));
        true
    }

    /// Packages that satisfy a group, each once, in order of preference.
    fn candidates(&self, group: &str) -> Vec<Id> {
        let mut found = Vec::new();
        for relation in relation::alternatives(group).filter_map(Result::ok) {
            for id in self.all.fitting(&relation) {
                if !found.contains(&id) {
                    found.push(id);
                }
            }
        }
        found
    }

    /// What keeps a package from standing beside the chosen ones.
    pub fn clash(&self, id: Id) -> Option<Clash<'a>> {
        let row = self.all.row(id)?;
        self.clash_with_chosen(id, row.name, Some(row.version))
            .or_else(|| {
                let provided = relation::groups(row.provides).filter_map(|g| relation::parse(g).ok());
                provided.into_iter().find_map(|p| self.clash_with_chosen(id, p.name, p.version.map(|(_, v)| v)))
            })
            .or_else(|| {
                let mut own = negative(row.conflicts, row.breaks);
                own.find_map(|(verb, relation)| {
                    let others = self.all.fitting(&relation);
                    let chosen = others.into_iter().find(|other| *other != id && self.chosen.contains_key(other))?;
                    Some(Clash { owner: id, verb, relation, chosen })
                })
            })
    }

    /// Whether a chosen package wants no package `id` of that name and version.
    fn clash_with_chosen(&self, id: Id, name: &str, version: Option<&str>) -> Option<Clash<'a>> {
        let bans = self.bans.get(name)?;
        bans.iter().find(|ban| ban.owner != id && ban.relation.accepts(version)).copied()
    }

    fn choose(&mut self, id: Id, by: By<'a>) {
        self.chosen.insert(id, by);
        self.order.push(id);
        let Some(row) = self.all.row(id) else { return };
        for (verb, relation) in negative(row.conflicts, row.breaks).filter(|(_, r)| self.all.concerns(r)) {
            self.bans.entry(relation.name).or_default().push(Clash { owner: id, verb, relation, chosen: id });
        }
        for group in relation::groups(row.depends) {
            let choice = self.candidates(group).len() > 1;
            self.goals[usize::from(choice)].push(Goal { owner: id, group });
        }
    }

    fn undo(&mut self, point: &Point<'a>) {
        for id in self.order.split_off(point.order) {
            self.chosen.remove(&id);
            let Some(row) = self.all.row(id) else { continue };
            for (_, relation) in negative(row.conflicts, row.breaks) {
                if let Some(bans) = self.bans.get_mut(relation.name) {
                    bans.retain(|ban| ban.owner != id);
                }
            }
        }
        for (goals, length) in self.goals.iter_mut().zip(point.goals) {
            goals.truncate(length);
        }
        self.done = point.done;
    }
}

/// What must not stand beside a package, and how it says so.
fn negative<'a>(conflicts: &'a str, breaks: &'a str) -> impl Iterator<Item = (&'static str, Relation<'a>)> {
    let parsed = |field| relation::groups(field).filter_map(|group| relation::parse(group).ok());
    parsed(conflicts).map(|r| ("conflicts with", r)).chain(parsed(breaks).map(|r| ("breaks", r)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::debian::universe::Source;

    /// One line of the short form: `name version`, then fields by their first letter: `d:` depends, `p:` provides,
    /// `c:` conflicts, `b:` breaks, `e` essential.
    fn line(text: &str) -> String {
        if let Some(name) = text.strip_prefix("! ") {
            let essential = if name == "base" { "E" } else { "" };
            return format!("!\t{name}\t{essential}\t7\thttp://h/Packages\tits size is `x`\n");
        }
        let mut parts = text.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let (mut depends, mut provides, mut conflicts, mut breaks, mut essential, mut priority) =
            ("", "", "", "", "", "3");
        for part in parts {
            match part.split_once(':') {
                Some(("d", value)) => depends = value,
                Some(("p", value)) => provides = value,
                Some(("c", value)) => conflicts = value,
                Some(("b", value)) => breaks = value,
                Some(("rank", value)) => priority = value,
                _ => essential = "E",
            }
        }
        format!(
            "{name}\t{version}\tamd64\t{essential}\t{priority}\t{provides}\t1\t00\tpool/x\t{depends}\t{conflicts}\t{breaks}\t\n"
        )
    }

    fn closure_of(suites: &[&[&str]], want: &[&str], essential: bool) -> Result<Vec<String>, String> {
        let source =
            |(suite, lines): (usize, &&[&str])| Source { suite, text: lines.iter().map(|l| line(l)).collect() };
        let sources: Vec<Source> = suites.iter().enumerate().map(source).collect();
        let names = ["stable".to_owned(), "updates".to_owned()];
        let all = Universe::new(&sources, &names[..suites.len()], "amd64");
        let set = PackageSet {
            name: "image x".to_owned(),
            want: want.iter().map(|w| (*w).to_owned()).collect(),
            essential,
            ..PackageSet::default()
        };
        let found = resolve(&all, &set).map_err(|e| e.to_string())?;
        Ok(found.iter().map(|id| format!("{} {}", all.name(*id), all.version(*id))).collect())
    }

    fn closure(lines: &[&str], want: &[&str]) -> Result<Vec<String>, String> {
        closure_of(&[lines], want, false)
    }

    #[test]
    fn dependencies_and_essential_packages_come_along() {
        let lines = ["a 1;d:b (>= 1), c", "b 1;d:d", "c 1;d:a", "d 1", "bash 5;e;d:libc", "libc 2", "z 1"];
        assert_eq!(closure(&lines, &["a"]).unwrap(), ["a 1", "b 1", "c 1", "d 1"]);
        assert_eq!(closure_of(&[&lines], &["z"], true).unwrap(), ["bash 5", "libc 2", "z 1"]);
    }

    #[test]
    fn the_highest_version_wins_and_the_first_suite_of_equal_ones() {
        let stable = ["a 1", "b 2;d:a", "c 1:1"];
        let updates = ["a 1+deb1", "b 2", "c 2"];
        assert_eq!(closure_of(&[&stable, &updates], &["a", "b", "c"], false).unwrap(), ["a 1+deb1", "b 2", "c 1:1"]);
        assert_eq!(closure_of(&[&stable, &updates], &["b"], false).unwrap(), ["a 1+deb1", "b 2"]);
        assert_eq!(closure_of(&[&updates, &stable], &["b"], false).unwrap(), ["b 2"]);
    }

    #[test]
    fn alternatives_and_providers_have_an_order() {
        let lines =
            ["a 1;d:x | y", "b 1;d:y", "x 1", "y 1", "v 1;d:mta", "e 1;p:mta", "m 1;p:mta;rank:1", "q 1;d:mta (>= 2)"];
        assert_eq!(closure(&lines, &["a"]).unwrap(), ["a 1", "x 1"]);
        assert_eq!(closure(&lines, &["a", "b"]).unwrap(), ["a 1", "b 1", "y 1"], "what is there already will do");
        assert_eq!(closure(&lines, &["v"]).unwrap(), ["m 1", "v 1"], "the higher priority");
        assert!(closure(&lines, &["q"]).unwrap_err().contains("provided only without a version"));
        let versioned = ["q 1;d:mta (>= 2)", "old 1;p:mta (= 1)", "new 1;p:mta (= 2)", "mta 1"];
        assert_eq!(closure(&versioned, &["q"]).unwrap(), ["new 1", "q 1"]);
        let real = ["v 1;d:mta", "a 1;p:mta", "mta 1"];
        assert_eq!(closure(&real, &["v"]).unwrap(), ["mta 1", "v 1"], "the real one first");
    }

    #[test]
    fn a_choice_that_leads_nowhere_is_undone() {
        let conflict = ["a 1;d:x | y", "b 1;c:x", "x 1", "y 1"];
        assert_eq!(closure(&conflict, &["a", "b"]).unwrap(), ["a 1", "b 1", "y 1"]);
        let deep = ["a 1;d:x | y", "x 1;d:x2", "x2 1;d:gone", "y 1;d:z", "z 1"];
        assert_eq!(closure(&deep, &["a"]).unwrap(), ["a 1", "y 1", "z 1"]);
        let late = ["a 1;d:x | y, p | q", "p 1;b:x", "x 1;b:q", "y 1", "q 1"];
        assert_eq!(closure(&late, &["a"]).unwrap(), ["a 1", "p 1", "y 1"]);
        let own = ["a 1;p:v;c:v", "b 1;d:v"];
        assert_eq!(closure(&own, &["b"]).unwrap(), ["a 1", "b 1"], "nobody conflicts with itself");
    }

    #[test]
    fn what_can_not_be_is_told_as_a_chain() {
        let lines =
            ["app 1;d:mid", "mid 1;d:libfoo (>= 2) | other", "libfoo 1.9", "w 1;d:gone:any", "i 1;d:libfoo:i386"];
        assert_eq!(
            closure(&lines, &["app"]).unwrap_err(),
            "image x: app needs mid, and mid needs libfoo (>= 2) | other, but stable has libfoo 1.9 and nothing called other"
        );
        assert_eq!(
            closure(&lines, &["w"]).unwrap_err(),
            "image x: w needs gone:any, but stable has nothing called gone"
        );
        assert!(closure(&lines, &["i"]).unwrap_err().contains("libfoo:i386 is of another architecture than amd64"));
    }

    #[test]
    fn conflicts_are_told_from_both_ends() {
        let lines = ["app 1;d:mid", "mid 1;d:new (>= 2)", "new 2;b:old (<< 2)", "old 1", "tool 1;d:old"];
        assert_eq!(
            closure(&lines, &["app", "tool"]).unwrap_err(),
            "image x: app needs mid, and mid needs new (>= 2), but new 2 breaks old (<< 2), and old is chosen: tool needs old"
        );
        assert_eq!(
            closure(&["a 1;c:b", "b 1"], &["a", "b"]).unwrap_err(),
            "image x: b was asked for, but a 1 conflicts with b, and a was asked for"
        );
    }

    #[test]
    fn odd_entries_are_judged_where_they_are_wanted() {
        let lines = ["a 1", "app 1;d:odd", "either 1;d:odd | a", "p 1;p:odd2", "! odd", "! odd2"];
        assert_eq!(closure(&lines, &["a"]).unwrap(), ["a 1"]);
        assert_eq!(closure(&lines, &["either"]).unwrap(), ["a 1", "either 1"]);
        for name in ["odd", "odd2"] {
            let error = closure(&lines, &[name]).unwrap_err();
            assert_eq!(error, format!("`http://h/Packages`, line 7, package {name}: its size is `x`"));
        }
        let error = closure(&lines, &["app"]).unwrap_err();
        assert!(error.contains("no odd that can be read (`http://h/Packages`, line 7: its size is `x`)"), "{error}");
        assert_eq!(closure_of(&[&lines, &["odd 2"]], &["app"], false).unwrap(), ["app 1", "odd 2"]);
        let base = ["a 1", "! base"];
        assert!(closure_of(&[&base], &["a"], true).unwrap_err().contains("package base: its size"));
        assert!(closure_of(&[&base], &["a"], false).is_ok());
        assert!(closure_of(&[&base, &["base 1;e"]], &["a"], true).is_ok());
    }

    #[test]
    fn unknown_and_virtual_names_are_told() {
        let lines = ["redis-server 7", "redis-tools 7", "exim 1;p:mta", "postfix 1;p:mta", "gawk 1;p:awk"];
        assert_eq!(
            closure(&lines, &["redis-sever"]).unwrap_err(),
            "image x: no package of stable (amd64) is called `redis-sever`"
        );
        assert_eq!(closure(&lines, &["mta"]).unwrap_err(), "image x: `mta` is a virtual package");
        assert_eq!(closure(&lines, &["awk"]).unwrap(), ["gawk 1"], "the only one");
    }
}
