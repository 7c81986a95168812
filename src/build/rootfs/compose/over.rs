//! A tree that something is laid over: paths lead through the links that are there (`/lib` is a link), and nothing stands where
//! a directory is.

use std::sync::Arc;

use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// A tree in the making.
pub(super) struct Over<'t> {
    pub(super) tree: &'t mut Tree,
    origin: Arc<str>,
}

impl<'t> Over<'t> {
    pub(super) fn new(tree: &'t mut Tree) -> Self {
        Self { tree, origin: "the box".into() }
    }

    /// Who brings what is put.
    pub(super) fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    /// A file's text; `None` when it is not there.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        inside::text(self.tree, path)
    }

    /// Whether something is there, links followed.
    pub(super) fn has(&self, path: &str) -> bool {
        inside::entry(self.tree, path).is_some()
    }

    /// Puts an entry; a link or file that is there goes.
    ///
    /// # Errors
    /// A path that leads out, through a file, or to a directory where `entry` is none.
    pub(super) fn put(&mut self, path: &str, entry: Entry) -> Result<(), BuildError> {
        let at = self.place(path)?;
        let refuse = |why: &str| {
            BuildError::user(format!("`{at}` can not be put into the box: {why}"), "give it another path".to_owned())
        };
        if at.is_root() {
            return Err(refuse("it is the root"));
        }
        let mut above = at.parent();
        while let Some(dir) = above.filter(|d| !d.is_root()) {
            if self.tree.get(&dir).is_some_and(|e| !matches!(e.kind, Kind::Dir)) {
                return Err(refuse(&format!("`{dir}` is no directory")));
            }
            above = dir.parent();
        }
        let is_dir = |e: &Entry| matches!(e.kind, Kind::Dir);
        if self.tree.get(&at).is_some_and(|old| is_dir(old) && !is_dir(&entry)) {
            return Err(refuse("a directory is there"));
        }
        self.unlink(&at);
        self.tree.put(at, entry);
        Ok(())
    }

    /// Before a file with other names is replaced, one of them gets its content.
    pub(super) fn unlink(&mut self, at: &GuestPath) {
        let Some(old) = self.tree.get(at).filter(|e| matches!(e.kind, Kind::File(_))).cloned() else { return };
        let names = |e: &Entry| matches!(&e.kind, Kind::Hardlink(to) if to == at);
        let other: Vec<GuestPath> =
            self.tree.entries.iter().filter(|(_, e)| names(e)).map(|(p, _)| p.clone()).collect();
        let Some((heir, rest)) = other.split_first() else { return };
        self.tree.entries.insert(heir.clone(), old.clone());
        for name in rest {
            let entry = Entry { kind: Kind::Hardlink(heir.clone()), ..old.clone() };
            self.tree.entries.insert(name.clone(), entry);
        }
    }

    /// Puts a text as a file of root's.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn file(&mut self, path: &str, mode: u32, text: impl Into<String>) -> Result<(), BuildError> {
        let content = Content::bytes(text.into().into_bytes());
        let entry = Entry::file(&self.origin, mode, content);
        self.put(path, entry)
    }

    /// Replaces a file's text; its mode and owner stay.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn rewrite(&mut self, path: &str, mode: u32, text: String) -> Result<(), BuildError> {
        let old = self.tree.get(&self.place(path)?).filter(|e| matches!(e.kind, Kind::File(_))).cloned();
        let entry = old.unwrap_or_else(|| Entry::file(&self.origin, mode, Content::bytes([])));
        let kind = Kind::File(Content::bytes(text.into_bytes()));
        self.put(path, Entry { kind, ..entry })
    }

    /// Puts a symbolic link.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<(), BuildError> {
        let entry = Entry::symlink(&self.origin, target);
        self.put(path, entry)
    }

    /// The place of a path, links above it followed.
    ///
    /// # Errors
    /// A path that leads out of the tree.
    pub(super) fn place(&self, path: &str) -> Result<GuestPath, BuildError> {
        let plain = GuestPath::parse(path)?;
        Ok(inside::place(self.tree, path, false).unwrap_or(plain))
    }
}
