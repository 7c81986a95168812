//! The output of a build step, a plain tar, as a tree: its contents stay in the blob.

use std::sync::Arc;

use crate::base::untar::{self, Untar};
use crate::build::BuildError;
use crate::build::tree::{Content, Entry, Kind, Source, Tree};
use crate::model::guest_path::GuestPath;

/// Most entries of one output.
const MAX_ENTRIES: usize = 1_000_000;

/// Reads the tar in `file`; owners are root, `origin` says who made it.
///
/// # Errors
/// Bytes that are no tar, devices, paths that lead out of it, too many entries.
pub(super) fn tree(file: std::fs::File, origin: &str) -> Result<Tree, BuildError> {
    let bad = |why: String| BuildError::bad(origin, why);
    let spool = Arc::new(file.try_clone().map_err(|e| bad(e.to_string()))?);
    let from: Arc<str> = origin.into();
    let mut archive = Untar::new(file);
    let mut tree = Tree::default();
    for entry in archive.entries().map_err(|e| bad(e.to_string()))? {
        let entry = entry.map_err(|e| bad(format!("not a tar archive: {e}")))?;
        if tree.entries.len() >= MAX_ENTRIES {
            return Err(bad(format!("more than {MAX_ENTRIES} entries")));
        }
        let path = GuestPath::parse(&text(&entry.path_bytes(), origin)?)?;
        let link = match entry.link_name_bytes() {
            Some(bytes) => text(&bytes, origin)?,
            None => String::new(),
        };
        let kind = match entry.header().entry_type() {
            tar::EntryType::Directory => Kind::Dir,
            tar::EntryType::Symlink => Kind::Symlink(link),
            tar::EntryType::Link => Kind::Hardlink(GuestPath::parse(&link)?),
            tar::EntryType::Regular => {
                let source = Source::Spool(spool.clone(), entry.raw_file_position());
                Kind::File(Content { size: entry.size(), source })
            }
            other => return Err(bad(format!("`{path}` is neither file, directory nor link ({other:?})"))),
        };
        let mode = entry.header().mode().map_err(|e| bad(format!("`{path}`: {}", untar::told(&e))))? & 0o7777;
        if !path.is_root() {
            tree.put(path, Entry { kind, mode, uid: 0, gid: 0, capability: None, origin: from.clone() });
        }
    }
    Ok(tree)
}

fn text(bytes: &[u8], origin: &str) -> Result<String, BuildError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| BuildError::bad(origin, "a name is not UTF-8"))
}
