//! Paths resolved inside a tree: links are followed as a process would whose root is the tree's.

use crate::build::tree::{Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// Linux's limit of links on one path (`MAXSYMLINKS`, linux/namei.h).
const MAX_LINKS: usize = 40;

/// Follows links above `path`, and `path` itself when `last`; `link` gives a link's text.
///
/// # Errors
/// Why it can not be followed: a link leads above the root or in a circle.
pub fn resolve<'a>(
    link: impl Fn(&GuestPath) -> Option<&'a str>,
    path: &GuestPath,
    last: bool,
) -> Result<GuestPath, &'static str> {
    let mut todo: Vec<String> = path.as_str().split('/').rev().map(str::to_owned).collect();
    let (mut done, mut followed) = (GuestPath::root(), 0);
    while let Some(part) = todo.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => done = done.parent().ok_or("is under a link that leads out of the tree")?,
            _ => done = done.join(&part).map_err(|e| e.why)?,
        }
        let Some(target) = link(&done).filter(|_| !todo.is_empty() || last) else { continue };
        followed += 1;
        if followed > MAX_LINKS {
            return Err("is under links that lead in a circle");
        }
        todo.extend(target.split('/').rev().map(str::to_owned));
        done = if target.starts_with('/') { GuestPath::root() } else { done.parent().unwrap_or_default() };
    }
    Ok(done)
}

/// The place of `path` in `tree`, links above it followed; as it is where they can not be.
pub fn place(tree: &Tree, path: &str, last: bool) -> Option<GuestPath> {
    let path = GuestPath::parse(path).ok()?;
    let link = |at: &GuestPath| match tree.get(at).map(|e| &e.kind) {
        Some(Kind::Symlink(target)) => Some(target.as_str()),
        _ => None,
    };
    resolve(link, &path, last).ok()
}

/// The entry that `path` leads to, every link followed, and hard links, too.
pub fn entry<'a>(tree: &'a Tree, path: &str) -> Option<&'a Entry> {
    let found = tree.get(&place(tree, path, true)?)?;
    match &found.kind {
        Kind::Hardlink(first) => tree.get(first),
        _ => Some(found),
    }
}

/// A small file as text; `None` when it is not there or has more than 16 MiB.
pub fn text(tree: &Tree, path: &str) -> Option<String> {
    match &entry(tree, path)?.kind {
        Kind::File(content) => content.read(16 << 20).ok().map(|b| String::from_utf8_lossy(&b).into_owned()),
        _ => None,
    }
}

/// Names of the entries right in a directory, sorted; empty when it is none.
pub fn list(tree: &Tree, dir: &str) -> Vec<String> {
    let Some(dir) = place(tree, dir, true) else { return Vec::new() };
    let under = tree.entries.range(dir.clone()..).skip_while(|(p, _)| **p == dir);
    // `a-b` sorts between `a` and `a/b`: the end is where even the text no longer starts alike.
    let alike = under.take_while(|(p, _)| p.as_str().starts_with(dir.as_str()));
    alike.filter(|(p, _)| p.parent().as_ref() == Some(&dir)).map(|(p, _)| p.name().to_owned()).collect()
}
