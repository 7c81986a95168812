//! What a step changed: an archive of the files that are other than before, and whiteouts for those that are gone, as in a layer
//! of an image (OCI image specification, "Image Layer Filesystem Changeset").
//!
//! Found by the time of the last change of status, which no program can set: the machine's clock stands at a known time when a
//! step begins, one that was never before. Only what changed comes over the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fs_err::File;

use super::guest::{self, ToFile};
use super::noise::{is_noise, left_out};
use super::session::Session;
use crate::build::BuildError;
use crate::build::rootfs::{read_tree, write_tree};
use crate::build::step::{Output, Run};
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;
use crate::ssh::Command;

/// How long looking for changes and packing them may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What stands before the name of a file that is gone.
const WHITEOUT: &str = ".wh.";

/// Packs what changed in the machine since `clock` into the store.
///
/// # Errors
/// Names that are not UTF-8, devices, a connection that breaks, files that change while they are read.
pub(super) fn collect(
    session: &Session,
    run: &Run<'_>,
    clock: u64,
    limit: u64,
    what: &str,
) -> Result<Output, BuildError> {
    let list = session.run(&guest::changes(clock), PATIENCE)?;
    let changed = Changed::read(&list, what)?;
    for (dir, count) in &changed.left_out {
        run.reporter
            .note(&format!("{what}: what is below /{dir} belongs to one machine and is left out ({count} paths)"));
    }
    let mut tree = Tree::default();
    if !changed.members.is_empty() {
        let path = run.scratch.join("changes.tar");
        fetch(session, &changed, &path, limit)?;
        tree = read_tree(&path, what)?;
    }
    let origin: Arc<str> = what.into();
    for path in &changed.gone {
        let name = format!("{WHITEOUT}{}", path.name());
        let at = path.parent().unwrap_or_else(GuestPath::root).join(&name)?;
        tree.put(at, Entry::file(&origin, 0o644, Content::bytes(*b"")));
    }
    write_tree(&tree, run.epoch, run.store)
}

/// Puts what a step changed on top of `tree`.
///
/// # Errors
/// Paths that can not be.
pub(super) fn apply(tree: &mut Tree, delta: Tree) -> Result<(), BuildError> {
    for (path, entry) in delta.entries {
        if let Some(name) = path.name().strip_prefix(WHITEOUT) {
            let gone = path.parent().unwrap_or_else(GuestPath::root).join(name)?;
            tree.entries.retain(|at, _| !at.is_within(&gone));
            continue;
        }
        let was_dir = matches!(tree.get(&path).map(|e| &e.kind), Some(Kind::Dir));
        if was_dir && !matches!(entry.kind, Kind::Dir) {
            tree.entries.retain(|at, _| !at.is_within(&path));
        }
        tree.put(path, entry);
    }
    Ok(())
}

/// The lists of what changed.
#[derive(Debug, Default)]
struct Changed {
    /// What is new or other, and all directories above it: their modes must come along.
    members: BTreeSet<GuestPath>,
    /// What is gone, without what was below it.
    gone: BTreeSet<GuestPath>,
    /// How many paths were left out below directories where somebody may miss them.
    left_out: BTreeMap<&'static str, usize>,
}

impl Changed {
    fn read(list: &[u8], what: &str) -> Result<Self, BuildError> {
        let mut all = Self::default();
        let origin: Arc<str> = what.into();
        for record in list.split(|b| *b == 0).filter(|r| !r.is_empty()) {
            let text = std::str::from_utf8(record).map_err(|_| {
                let shown = String::from_utf8_lossy(record);
                BuildError::bad(
                    what,
                    format!("it left a file whose name is not UTF-8: `{}`", shown.get(1..).unwrap_or("")),
                )
            })?;
            let mut chars = text.chars();
            let letter = chars.next().unwrap_or('f');
            let path = GuestPath::parse(chars.as_str())?;
            let kind = if letter == 'd' { Kind::Dir } else { Kind::Symlink(String::new()) };
            if path.is_root() || is_noise(&path, &Entry { kind, ..Entry::dir(&origin) }) {
                if let Some(dir) = left_out(&path).filter(|_| letter != 'g') {
                    *all.left_out.entry(dir).or_default() += 1;
                }
                continue;
            }
            match letter {
                'g' => drop(all.gone.insert(path)),
                'b' | 'c' => return Err(BuildError::bad(what, format!("it left a device, `{path}`"))),
                _ => drop(all.members.insert(path)),
            }
        }
        let above = all.members.iter().chain(&all.gone).flat_map(ancestors).collect::<Vec<_>>();
        let gone = all.gone.clone();
        all.gone.retain(|p| !ancestors(p).iter().any(|a| gone.contains(a)));
        all.members.extend(above.into_iter().filter(|a| !gone.contains(a)));
        Ok(all)
    }

    fn names(&self) -> Vec<u8> {
        self.members.iter().flat_map(|p| [p.as_str().as_bytes(), b"\0"].concat()).collect()
    }
}

fn ancestors(path: &GuestPath) -> Vec<GuestPath> {
    std::iter::successors(path.parent(), GuestPath::parent).filter(|p| !p.is_root()).collect()
}

fn fetch(session: &Session, changed: &Changed, to: &Path, limit: u64) -> Result<(), BuildError> {
    let failed = |e| BuildError::io(to, "write", e);
    let mut sink = ToFile { file: File::create(to).map_err(failed)?, stderr: Vec::new(), limit };
    let command = Command::new(guest::pack());
    let names = changed.names();
    let ended = session.within(PATIENCE, async |ssh| ssh.exec(&command, Cursor::new(names), &mut sink).await)?;
    let exit = ended.map_err(|e| session.broken(&e))?;
    if exit.success() {
        return Ok(());
    }
    let said = guest::printable(&sink.stderr);
    // Exit status 1: "file changed as we read it" (GNU tar, "Status of the tar program").
    let hint = if exit == crate::ssh::Exit::Code(1) { ": let the step stop what writes there" } else { "" };
    Err(session.failed("`tar` of what the step changed", &format!("{exit}{hint}"), &said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).unwrap()
    }

    #[test]
    fn lists_are_read_without_noise_and_with_what_is_above() {
        let list =
            b"detc\0fetc/one\0fetc/machine-id\0fvar/log/x\0fusr/share/a/b\0lhome/l\0gopt/x\0gopt/x/y\0fmnt/a\0gmnt/b\0";
        let all = Changed::read(list, "step").unwrap();
        let names = |set: &BTreeSet<GuestPath>| set.iter().map(GuestPath::as_str).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&all.members), "etc etc/one home home/l opt usr usr/share usr/share/a usr/share/a/b");
        assert_eq!(names(&all.gone), "opt/x");
        assert_eq!(all.left_out, [("mnt", 1)].into());
        assert!(all.names().starts_with(b"etc\0etc/one\0"));
        assert!(Changed::read(b"f\xff\0", "step").unwrap_err().to_string().contains("not UTF-8"));
        assert!(Changed::read(b"cdata/x\0", "step").unwrap_err().to_string().contains("device, `/data/x`"));
    }

    #[test]
    fn changes_are_put_on_top() {
        let origin: Arc<str> = "x".into();
        let file = |text: &str| Entry::file(&origin, 0o644, Content::bytes(text.as_bytes()));
        let mut tree = Tree::default();
        for at in ["a/b/c", "a/d", "e/f"] {
            tree.put(path(at), file("old"));
        }
        let mut delta = Tree::default();
        delta.put(path("a/.wh.b"), file(""));
        delta.put(path("a/d"), file("new"));
        delta.put(path("e"), file("a file now"));
        apply(&mut tree, delta).unwrap();
        let names: Vec<&str> = tree.entries.keys().map(GuestPath::as_str).collect();
        assert_eq!(names, ["a", "a/d", "e"]);
    }
}
