//! An author's files and links, and contents that come from blobs and steps.

use std::collections::BTreeMap;

use super::accounts::Accounts;
use super::over::Over;
use super::wishes::{Contents, File, Wishes};
use crate::build::BuildError;
use crate::build::rootfs::read_tree;
use crate::build::step::Output;
use crate::build::tree::{Content, Entry, Kind, Source, Tree};
use crate::model::guest_path::GuestPath;
use crate::store::Store;

/// How many files of a step a hint names.
const SHOWN: usize = 12;

/// Where contents are.
pub(super) struct Sources<'a> {
    /// The store.
    pub(super) store: &'a Store,
    /// Inputs by label.
    pub(super) inputs: &'a BTreeMap<String, Output>,
}

impl Sources<'_> {
    /// The content of one file; `label` is what it is called among the inputs.
    ///
    /// # Errors
    /// A member of a step's output that is not there, or is no file.
    pub(super) fn content(&self, contents: &Contents, label: &str) -> Result<Content, BuildError> {
        match contents {
            Contents::Text(text) => Ok(Content::bytes(text.as_bytes())),
            Contents::Blob { .. } | Contents::Output { .. } => {
                let output = self.output(label)?;
                let source = Source::Path(self.store.blob_path(&output.digest).into());
                Ok(Content { size: output.size, source })
            }
            Contents::Member { step, path, .. } => {
                let tree = self.tree(label, step)?;
                let path = GuestPath::parse(path)?;
                match tree.get(&path).map(|e| &e.kind) {
                    Some(Kind::File(content)) => Ok(content.clone()),
                    _ => Err(no_member(&tree, step, &path)),
                }
            }
        }
    }

    fn output(&self, label: &str) -> Result<&Output, BuildError> {
        self.inputs.get(label).ok_or_else(|| BuildError::Internal(format!("no input `{label}`")))
    }

    fn tree(&self, label: &str, step: &str) -> Result<Tree, BuildError> {
        read_tree(&self.store.blob_path(&self.output(label)?.digest), step)
    }
}

/// Puts files and links.
///
/// # Errors
/// Owners the box does not have, files that nobody brings, paths that are no place for a file.
pub(super) fn put(
    over: &mut Over<'_>,
    wishes: &Wishes,
    sources: &Sources<'_>,
    accounts: &Accounts,
) -> Result<(), BuildError> {
    for file in &wishes.files {
        let owner = accounts.owner(file.owner.as_deref(), &format!("file `{}`", file.to))?;
        match &file.contents {
            Contents::Member { step, path, .. } => {
                member(over, file, owner, &sources.tree(&file.to, step)?, step, &GuestPath::parse(path)?)?;
            }
            plain => {
                let content = sources.content(plain, &file.to)?;
                let entry = Entry::file(over.origin(), file.mode.unwrap_or(0o644), content);
                over.put(&file.to, Entry { uid: owner.0, gid: owner.1, ..entry })?;
            }
        }
    }
    wishes.links.iter().try_for_each(|(path, target)| over.link(path, target))
}

/// A file of a step's output, or everything below a folder of it.
fn member(
    over: &mut Over<'_>,
    file: &File,
    (uid, gid): (u32, u32),
    tree: &Tree,
    step: &str,
    path: &GuestPath,
) -> Result<(), BuildError> {
    let mut found = false;
    for (at, entry) in tree.entries.iter().filter(|(at, _)| at.is_within(path)) {
        found = true;
        let below = at.as_str().get(path.as_str().len()..).unwrap_or_default();
        let entry = match &entry.kind {
            // Names change on the way: each gets the content.
            Kind::Hardlink(to) => tree.get(to).unwrap_or(entry),
            _ => entry,
        };
        let mode = match entry.kind {
            Kind::File(_) => file.mode.unwrap_or(entry.mode),
            _ => entry.mode,
        };
        let to = format!("{}/{below}", file.to.trim_end_matches('/'));
        over.put(&to, Entry { uid, gid, mode, capability: None, origin: over.origin().clone(), ..entry.clone() })?;
    }
    if found { Ok(()) } else { Err(no_member(tree, step, path)) }
}

fn no_member(tree: &Tree, step: &str, path: &GuestPath) -> BuildError {
    let names: Vec<&str> = tree.entries.keys().map(GuestPath::as_str).take(SHOWN).collect();
    let hint = if names.is_empty() { "it left nothing".to_owned() } else { format!("it left: {}", names.join(", ")) };
    BuildError::user(format!("{step} left no `{}` in /out", path.as_str()), hint)
}
