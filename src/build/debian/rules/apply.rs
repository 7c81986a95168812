//! Rules put into effect on a merged tree.

use std::sync::Arc;

use super::accounts::Done;
use super::alternatives::{self, Alternative};
use super::table::{Put, Rule, Rules};
use super::users::Users;
use super::{certificates, scripts};
use crate::build::BuildError;
use crate::build::debian::dpkg::Override;
use crate::build::debian::inside;
use crate::build::debian::merge::Diversion;
use crate::build::debian::unpack::Unpacked;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// The largest file that a rule copies.
const MAX_COPY: u64 = 16 << 20;

/// Diversions that the rules of these packages declare.
///
/// # Errors
/// [`BuildError::Internal`] for a rule whose path is none.
pub fn diversions(rules: &Rules, packages: &[&Unpacked]) -> Result<Vec<Diversion>, BuildError> {
    let mut found = Vec::new();
    for package in packages {
        let by = &package.package.name;
        for want in rules.of(by).flat_map(|r| &r.diversions) {
            let (path, to) = (path(&want.path)?, path(&want.to)?);
            found.push(Diversion { path, to, by: by.clone() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Puts all rules into effect; `packages` in the order that ids are given out. Gives what dpkg is told of owners.
///
/// # Errors
/// [`BuildError::Internal`] for a rule whose path or mode is none.
pub fn apply(rules: &Rules, packages: &[&Unpacked], epoch: u64, tree: &mut Tree) -> Result<Vec<Override>, BuildError> {
    let users = users(rules, packages, tree);
    let mut overrides = Vec::new();
    let mut choices: Vec<Alternative> = Vec::new();
    let mut certs = false;
    for package in packages {
        let origin: Arc<str> = format!("rule for {}", package.package.name).into();
        for rule in rules.of(&package.package.name) {
            Apply { tree, users: &users, origin: &origin }.rule(rule, &mut overrides)?;
            choices.extend(rule.alternatives.iter().filter_map(|c| alternatives::parse(c)));
            certs |= rule.certificates;
        }
        choices.extend(scripts::of(package, "postinst").alternatives);
        let mut script = read_of(rules, package);
        for put in &mut script.own {
            // chown(1) and chmod(1) follow links.
            put.path = inside::place(tree, &put.path, true).map_or_else(|| put.path.clone(), |p| p.to_string());
        }
        Apply { tree, users: &users, origin: &origin }.rule(&script, &mut overrides)?;
    }
    alternatives::apply(tree, &choices);
    if certs {
        certificates::apply(tree);
    }
    if !users.is_root_alone() {
        users.write(tree, epoch);
    }
    overrides.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(overrides)
}

/// Users and groups of all packages, in their order.
fn users(rules: &Rules, packages: &[&Unpacked], tree: &Tree) -> Users {
    let mut users = Users::base(tree);
    for package in packages {
        for path in package.entries.keys().filter(|p| p.as_str().starts_with("usr/lib/sysusers.d/")) {
            if let Some(text) = inside::text(tree, path.as_str()) {
                users.sysusers(&text);
            }
        }
        for rule in rules.of(&package.package.name) {
            for group in &rule.groups {
                users.group(&group.name, group.gid);
            }
            for user in &rule.users {
                users.add(user);
            }
        }
        let script = read_of(rules, package);
        for group in &script.groups {
            users.group(&group.name, group.gid);
        }
        for user in &script.users {
            users.add(user);
        }
    }
    users
}

/// What was read from a package's scripts, as a rule; nothing for a package with a written one, which says all.
///
/// Of scripts that are not wholly understood, only users and groups are taken: owners could be of some that are not known.
fn read_of(rules: &Rules, package: &Unpacked) -> Rule {
    let mut rule = Rule::default();
    if rules.of(&package.package.name).next().is_some() {
        return rule;
    }
    let read: Vec<scripts::Read> = scripts::NAMES.iter().map(|name| scripts::of(package, name)).collect();
    let whole = package_is_whole(package, &read);
    for done in read.into_iter().flat_map(|r| r.done) {
        match done {
            Done::Group(group) => rule.groups.push(group),
            Done::User { user, home } => {
                rule.users.push(user);
                rule.dirs.extend(home.filter(|_| whole));
            }
            Done::Dir(put) if whole => rule.dirs.push(put),
            Done::Own(put) if whole => rule.own.push(put),
            Done::Dir(_) | Done::Own(_) => {}
        }
    }
    rule
}

/// Whether all that its scripts do was read.
fn package_is_whole(package: &Unpacked, read: &[scripts::Read]) -> bool {
    let there = |name: &&str| package.control.files.contains_key(*name);
    scripts::NAMES.iter().zip(read).filter(|(name, _)| there(name)).all(|(_, r)| r.rest.is_empty())
}

fn path(text: &str) -> Result<GuestPath, BuildError> {
    GuestPath::parse(text).map_err(|e| BuildError::Internal(format!("data/debian/rules.toml: {e}")))
}

struct Apply<'a> {
    tree: &'a mut Tree,
    users: &'a Users,
    origin: &'a Arc<str>,
}

impl Apply<'_> {
    fn rule(&mut self, rule: &Rule, overrides: &mut Vec<Override>) -> Result<(), BuildError> {
        for dir in &rule.dirs {
            let at = self.place(&dir.path)?;
            if self.tree.get(&at).is_none() {
                let entry = self.owned(Entry::dir(self.origin), dir)?;
                self.tree.put(at, entry);
            }
        }
        for file in &rule.files {
            self.file(file)?;
        }
        for link in &rule.links {
            let at = self.place(&link.path)?;
            if self.replaceable(&at) {
                self.tree.put(at, Entry::symlink(self.origin, link.target.as_str()));
            }
        }
        for own in &rule.own {
            self.own(own, overrides)?;
        }
        Ok(())
    }

    /// Whether a link may stand here: nothing is, or a directory without anything in it.
    fn replaceable(&self, at: &GuestPath) -> bool {
        match self.tree.get(at).map(|e| &e.kind) {
            None => true,
            Some(Kind::Dir) => inside::list(self.tree, at.as_str()).is_empty(),
            Some(_) => false,
        }
    }

    fn file(&mut self, put: &Put) -> Result<(), BuildError> {
        let at = self.place(&put.path)?;
        if self.tree.get(&at).is_some() {
            return Ok(());
        }
        let (content, mode) = match (&put.from, &put.content) {
            (_, Some(text)) => (Content::bytes(text.clone().into_bytes()), 0o644),
            (Some(from), None) => match inside::entry(self.tree, from) {
                Some(Entry { kind: Kind::File(content), mode, .. }) => (content.clone(), *mode),
                _ => return Ok(()),
            },
            (None, None) => (Content::bytes(Vec::new()), 0o644),
        };
        let content = if put.replace.is_empty() { content } else { replaced(&content, put)? };
        let entry = self.owned(Entry::file(self.origin, mode, content), put)?;
        self.tree.put(at, entry);
        Ok(())
    }

    /// Sets owner and mode of what is there.
    fn own(&mut self, put: &Put, overrides: &mut Vec<Override>) -> Result<(), BuildError> {
        let at = self.place(&put.path)?;
        let Some(entry) = self.tree.get(&at).cloned() else { return Ok(()) };
        let entry = self.owned(entry, put)?;
        if put.statoverride {
            let name = |n: &Option<String>| n.clone().unwrap_or_else(|| "root".into());
            let path = path(&put.path)?;
            overrides.push(Override { user: name(&put.user), group: name(&put.group), mode: entry.mode, path });
        }
        self.tree.put(at, entry);
        Ok(())
    }

    fn owned(&self, entry: Entry, put: &Put) -> Result<Entry, BuildError> {
        let wrong = |what: &str| BuildError::Internal(format!("data/debian/rules.toml: `{}`: {what}", put.path));
        let mode = put.mode.as_deref().map(|m| u32::from_str_radix(m, 8)).transpose().map_err(|_| wrong("no mode"))?;
        let nobody = |kind: &str, name: &str| {
            BuildError::user(
                format!("`{}` must belong to the {kind} `{name}`, and no package here makes that {kind}", put.path),
                "add the package that does (most are of `base-passwd`), or take the essential packages: `essential = true`",
            )
        };
        let user = put.user.as_deref().map(|u| self.users.uid(u).ok_or_else(|| nobody("user", u))).transpose()?;
        let group = put.group.as_deref().map(|g| self.users.gid(g).ok_or_else(|| nobody("group", g))).transpose()?;
        let (mode, uid, gid) = (mode.unwrap_or(entry.mode), user.unwrap_or(entry.uid), group.unwrap_or(entry.gid));
        Ok(Entry { mode, uid, gid, ..entry })
    }

    fn place(&self, text: &str) -> Result<GuestPath, BuildError> {
        let plain = path(text)?;
        Ok(inside::place(self.tree, text, false).unwrap_or(plain))
    }
}

/// The content with texts replaced.
fn replaced(content: &Content, put: &Put) -> Result<Content, BuildError> {
    let bytes = content.read(MAX_COPY).map_err(|e| BuildError::io(std::path::Path::new(&put.path), "copy", e))?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    for (from, to) in &put.replace {
        text = text.replace(from.as_str(), to);
    }
    Ok(Content::bytes(text.into_bytes()))
}
