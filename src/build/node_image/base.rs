//! What a node image has already where ours goes: read from its layers, in one pass over each, whiteouts respected
//! (image-spec, "Image Layer Filesystem Changeset").

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use crate::base::codec::{self, Capped};
use crate::base::digest::Digest;
use crate::base::untar::{self, Entry, Untar};
use crate::build::BuildError;
use crate::build::layer::WHITEOUT;
use crate::store::{BlobSource, Store};

/// Where the bytes of ours go.
pub const OURS: &str = "kind/labimg/blobs/sha256";
/// Where containerd looks for content.
pub const CONTENT: &str = "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256";
/// containerd's metadata.
pub const METADATA: &str = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

/// The name that hides everything below its directory.
const OPAQUE: &str = ".wh..wh..opq";
/// Largest metadata database: kind's own have a few hundred KiB.
const MAX_METADATA: u64 = 64 << 20;
/// Most bytes of a layer, unpacked.
const MAX_LAYER: u64 = 64 << 30;
/// Most entries of a layer that matter: a node image has some hundred.
const MAX_NODES: usize = 200_000;

/// Mode and owner of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dir {
    /// The twelve permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
}

/// What a node image has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// The directories above [`OURS`], [`CONTENT`] and [`METADATA`] that it has.
    pub dirs: BTreeMap<String, Dir>,
    /// Names in [`CONTENT`].
    pub blobs: BTreeSet<String>,
    /// What [`METADATA`] holds.
    pub metadata: Option<Vec<u8>>,
}

/// Reads the layers `layers` (lowest first) of a node image.
///
/// # Errors
/// Layers that are not in the store, are damaged or no archives; links where a directory must be; metadata beyond 64 MiB.
pub fn scan(layers: &[Digest], store: &Store) -> Result<Base, BuildError> {
    let mut state = State::default();
    for layer in layers {
        let changes = changes(layer, store)?;
        state.apply(changes);
    }
    state.finish()
}

/// Something that stands at a path.
#[derive(Debug, Clone)]
enum Node {
    Dir(Dir),
    File(Option<Vec<u8>>),
    Link(String),
}

/// What one layer says of the paths that matter.
#[derive(Default)]
struct Changes {
    nodes: BTreeMap<String, Node>,
    removed: Vec<String>,
    opaque: Vec<String>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
}

impl State {
    fn apply(&mut self, changes: Changes) {
        for path in &changes.removed {
            self.nodes.remove(path);
            self.clear(path);
        }
        for path in &changes.opaque {
            self.clear(path);
        }
        for (path, node) in changes.nodes {
            if !matches!(node, Node::Dir(_)) {
                self.clear(&path);
            }
            self.nodes.insert(path, node);
        }
    }

    /// Removes everything below a path; the empty one is the root.
    fn clear(&mut self, path: &str) {
        let start = if path.is_empty() { String::new() } else { format!("{path}/") };
        let all = self.nodes.range(start.clone()..).map(|(at, _)| at).take_while(|at| at.starts_with(&start));
        for at in all.cloned().collect::<Vec<_>>() {
            self.nodes.remove(&at);
        }
    }

    fn finish(self) -> Result<Base, BuildError> {
        let mut base = Base::default();
        for (path, node) in self.nodes {
            match node {
                Node::Dir(dir) if is_above(&path) => drop(base.dirs.insert(path, dir)),
                Node::File(Some(bytes)) => base.metadata = Some(bytes),
                Node::Link(to) if is_above(&path) || path == METADATA => {
                    let why = format!("`/{path}` is a link to `{to}`: only a directory can take the lab's images");
                    return Err(BuildError::bad("the node image", why));
                }
                Node::File(None) if is_above(&path) => {
                    return Err(BuildError::bad("the node image", format!("`/{path}` is no directory")));
                }
                _ => {
                    let name = path.strip_prefix(CONTENT).and_then(|p| p.strip_prefix('/'));
                    base.blobs.extend(name.filter(|n| !n.contains('/')).map(str::to_owned));
                }
            }
        }
        Ok(base)
    }
}

/// Whether `path` is truly below `dir`.
fn below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether `path` is a directory that ours need.
fn is_above(path: &str) -> bool {
    path == OURS || path == CONTENT || [OURS, CONTENT, METADATA].iter().any(|place| below(place, path))
}

/// Whether what stands at `path` matters.
fn matters(path: &str) -> bool {
    is_above(path) || path == METADATA || path.strip_prefix(CONTENT).is_some_and(|rest| rest.starts_with('/'))
}

/// What the layer `digest` says.
fn changes(digest: &Digest, store: &Store) -> Result<Changes, BuildError> {
    let damaged = |e: io::Error| BuildError::bad(format!("layer {digest} of the node image"), untar::told(&e));
    // Hashed first: what a damaged layer says of itself is worth nothing, and the pages are in memory for the second pass.
    store.verify(digest)?;
    let plain = codec::decoder(store.open_blob(digest)?).map_err(damaged)?;
    let mut archive = Untar::new(Capped::new(plain, MAX_LAYER));
    let mut changes = Changes::default();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        take(&mut entry, &mut changes).map_err(damaged)?;
        if changes.nodes.len() + changes.removed.len() + changes.opaque.len() > MAX_NODES {
            return Err(damaged(io::Error::other(format!(
                "it has more than {MAX_NODES} entries in containerd's store"
            ))));
        }
    }
    Ok(changes)
}

fn take<R: Read>(entry: &mut Entry<'_, R>, changes: &mut Changes) -> io::Result<()> {
    let bytes = entry.path_bytes();
    let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
    let parts: Vec<&str> = text.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    let Some((name, dir)) = parts.split_last().filter(|_| !parts.contains(&"..")) else { return Ok(()) };
    let dir = dir.join("/");
    let path = if dir.is_empty() { (*name).to_owned() } else { format!("{dir}/{name}") };
    drop(bytes);
    if path.ends_with(OPAQUE) {
        changes.opaque.extend(Some(dir).filter(|d| d.is_empty() || matters(d)));
        return Ok(());
    }
    if let Some(hidden) = hidden_by(&path) {
        changes.removed.extend(Some(hidden).filter(|p| matters(p)));
        return Ok(());
    }
    if !matters(&path) {
        return Ok(());
    }
    let node = node(entry, &path)?;
    changes.nodes.insert(path, node);
    Ok(())
}

/// The path that a whiteout at `path` removes.
fn hidden_by(path: &str) -> Option<String> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let hidden = name.strip_prefix(WHITEOUT)?;
    Some(if dir.is_empty() { hidden.to_owned() } else { format!("{dir}/{hidden}") })
}

fn node<R: Read>(entry: &mut Entry<'_, R>, path: &str) -> io::Result<Node> {
    let header = entry.header();
    Ok(match header.entry_type() {
        tar::EntryType::Directory => {
            Node::Dir(Dir { mode: header.mode()? & 0o7777, uid: header.uid()?, gid: header.gid()? })
        }
        tar::EntryType::Symlink => {
            Node::Link(String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned())
        }
        tar::EntryType::Link if path == METADATA => {
            Node::Link(String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned())
        }
        _ if path == METADATA => {
            if entry.size() > MAX_METADATA {
                return Err(io::Error::other(format!("`/{path}` has more than {} MiB", MAX_METADATA >> 20)));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Node::File(Some(bytes))
        }
        _ => Node::File(None),
    })
}
