//! Alternatives (update-alternatives(1)): read from literal commands in scripts, set up as the highest priority says, and
//! written down as update-alternatives does in `/var/lib/dpkg/alternatives`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::build::debian::inside;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// One `--install`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// The generic link: `/usr/bin/awk`.
    pub link: String,
    /// The group's name: `awk`.
    pub name: String,
    /// The choice: `/usr/bin/mawk`.
    pub path: String,
    /// The highest wins.
    pub priority: i64,
    /// What goes with it: name to link and path.
    pub slaves: BTreeMap<String, (String, String)>,
}

/// Reads a command line that starts with `update-alternatives`; `None` when it installs nothing or is not literal.
pub fn parse(command: &str) -> Option<Alternative> {
    let plain = |w: &&str| !matches!(*w, "||" | "&&" | ";" | "|") && !w.starts_with('>') && !w.starts_with("2>");
    let words: Vec<&str> = command.split_whitespace().take_while(plain).collect();
    if words.iter().any(|w| w.contains(['$', '`', '(', '*', '"', '\'', '{'])) {
        return None;
    }
    let mut words = words.into_iter().map(|w| w.trim_end_matches(';')).skip_while(|w| *w != "--install");
    words.next()?;
    let mut next = || words.next();
    let (link, name, path, priority) = (next()?, next()?, next()?, next()?.parse().ok()?);
    let mut found =
        Alternative { link: link.into(), name: name.into(), path: path.into(), priority, slaves: BTreeMap::new() };
    while let Some(word) = next() {
        if word != "--slave" {
            return None;
        }
        let (link, name, path) = (next()?, next()?, next()?);
        found.slaves.insert(name.to_owned(), (link.to_owned(), path.to_owned()));
    }
    let safe = |n: &str| !n.is_empty() && !n.starts_with('.') && !n.contains('/');
    (safe(&found.name) && found.slaves.keys().all(|n| safe(n))).then_some(found)
}

/// Sets up all alternatives whose choices are in the tree.
pub fn apply(tree: &mut Tree, all: &[Alternative]) {
    let mut groups: BTreeMap<&str, BTreeMap<&str, &Alternative>> = BTreeMap::new();
    for one in all.iter().filter(|a| inside::entry(tree, &a.path).is_some()) {
        groups.entry(&one.name).or_default().insert(&one.path, one);
    }
    let origin: Arc<str> = "alternatives".into();
    for (name, choices) in groups {
        let Some(best) = choices.values().rev().max_by_key(|c| c.priority) else { continue };
        link(tree, &origin, &best.link, name, &best.path);
        for (slave, (at, path)) in &best.slaves {
            if inside::entry(tree, path).is_some() {
                link(tree, &origin, at, slave, path);
            }
        }
        if let Ok(path) = GuestPath::parse(&format!("var/lib/dpkg/alternatives/{name}")) {
            tree.put(path, Entry::file(&origin, 0o644, Content::bytes(record(&best.link, &choices).into_bytes())));
        }
    }
}

/// `LINK -> /etc/alternatives/NAME -> PATH`; a file that is no link is left alone, as update-alternatives does.
fn link(tree: &mut Tree, origin: &Arc<str>, link: &str, name: &str, path: &str) {
    let Some(at) = inside::place(tree, link, false) else { return };
    if tree.get(&at).is_some_and(|e| !matches!(e.kind, Kind::Symlink(_))) {
        return;
    }
    let Ok(middle) = GuestPath::parse(&format!("etc/alternatives/{name}")) else { return };
    tree.put(middle, Entry::symlink(origin, path));
    tree.put(at, Entry::symlink(origin, format!("/etc/alternatives/{name}")));
}

/// The group's file: state, link, slaves, and each choice with its slaves' paths.
fn record(link: &str, choices: &BTreeMap<&str, &Alternative>) -> String {
    let slaves: BTreeMap<&String, &String> =
        choices.values().flat_map(|c| c.slaves.iter().map(|(name, (link, _))| (name, link))).collect();
    let mut out = format!("auto\n{link}\n");
    for (name, link) in &slaves {
        out.push_str(&format!("{name}\n{link}\n"));
    }
    out.push('\n');
    for (path, choice) in choices {
        out.push_str(&format!("{path}\n{}\n", choice.priority));
        for name in slaves.keys() {
            out.push_str(choice.slaves.get(*name).map_or("", |(_, path)| path));
            out.push('\n');
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literal_commands_are_read() {
        let text = "update-alternatives --quiet --install /bin/nc nc /bin/nc.openbsd 50 --slave /a/b b /c || true";
        let one = parse(text).unwrap();
        assert_eq!((one.link.as_str(), one.path.as_str(), one.priority), ("/bin/nc", "/bin/nc.openbsd", 50));
        assert_eq!(one.slaves["b"], ("/a/b".to_owned(), "/c".to_owned()));
        for text in [
            "update-alternatives --install $x nc /bin/nc 50",
            "update-alternatives --remove nc /bin/nc",
            "update-alternatives --install /bin/nc ../nc /bin/nc 50",
            "update-alternatives --install /bin/nc nc /bin/nc",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
