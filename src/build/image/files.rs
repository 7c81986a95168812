//! The tree of what image.toml itself brings: users, directories, files, links. It lies over the layers below, whose symbolic
//! links (merged `/usr`) and directories it respects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::accounts::Accounts;
use crate::build::BuildError;
use crate::build::listing::{ItemKind, Listing};
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;
use crate::model::image_def::{ImageDef, ImageFile};
use crate::model::image_def_load::octal;
use crate::model::source_map::Loc;

/// How many files of a step a hint names.
const SHOWN: usize = 12;

/// Where contents come from.
#[derive(Default)]
pub struct Origins {
    /// Local files, by their path relative to image.toml: as `from` says it, or below a folder that `from` names.
    pub locals: BTreeMap<String, Content>,
    /// Outputs of steps, by the step's name.
    pub steps: BTreeMap<String, Tree>,
}

/// The tree of `def` over the layers in `lower`.
///
/// # Errors
/// Users that clash, owners that the image does not have, files that nobody brings, two files at one path, and paths through
/// something that is no directory.
pub fn files_tree(def: &ImageDef, origins: &Origins, lower: &Listing) -> Result<Tree, BuildError> {
    let accounts = Accounts::of(lower).with(&def.user)?;
    let mut layer = Over { lower, tree: Tree::default(), implied: BTreeSet::new(), origin: "image.toml".into() };
    if !def.user.is_empty() {
        layer.put_accounts(&accounts)?;
    }
    for dir in &def.dir {
        let (uid, gid) = accounts.owner(text(dir.owner.as_ref()), &format!("directory `{}`", *dir.path))?;
        let mode = mode(dir.mode.as_ref())?.unwrap_or(0o755);
        layer.put(
            &dir.path,
            Entry { kind: Kind::Dir, mode, uid, gid, capability: None, origin: layer.origin.clone() },
        )?;
    }
    for file in &def.file {
        let owner = accounts.owner(text(file.owner.as_ref()), &format!("file `{}`", *file.to))?;
        put_file(&mut layer, file, owner, origins)?;
    }
    for link in &def.link {
        layer.put(&link.path, Entry::symlink(&layer.origin, link.target.as_str()))?;
    }
    if let Some(dir) = &def.config.working_dir {
        layer.need_dir(dir)?;
    }
    Ok(layer.tree)
}

fn text(value: Option<&Loc<String>>) -> Option<&str> {
    value.map(|v| v.as_str())
}

fn mode(value: Option<&Loc<String>>) -> Result<Option<u32>, BuildError> {
    let bad = |m: &str| BuildError::user(format!("`{m}` is not an octal mode"), "as `0644` or `0755`");
    value.map(|m| octal(m).ok_or_else(|| bad(m))).transpose()
}

/// A folder's mode beside files of `mode`: `x` wherever they have `r`.
fn folder_mode(mode: u32) -> u32 {
    mode | (mode & 0o444) >> 2
}

fn put_file(
    layer: &mut Over<'_>,
    file: &ImageFile,
    (uid, gid): (u32, u32),
    origins: &Origins,
) -> Result<(), BuildError> {
    let wanted = mode(file.mode.as_ref())?;
    let origin = layer.origin.clone();
    let own = |kind, mode| Entry { kind, mode, uid, gid, capability: None, origin: origin.clone() };
    let from = match (&file.from, &file.content) {
        (_, Some(text)) => {
            let content = Content::bytes(text.as_bytes());
            return layer.put(&file.to, own(Kind::File(content), wanted.unwrap_or(0o644)));
        }
        (Some(from), None) => from.as_str(),
        (None, None) => return Err(BuildError::Internal(format!("file `{}` has no origin", *file.to))),
    };
    let found: Vec<(String, Entry)> = match from.strip_prefix("step:") {
        Some(rest) => from_step(rest, origins)?
            .into_iter()
            .map(|(path, entry)| {
                let mode = match &entry.kind {
                    Kind::Dir => wanted.map_or(entry.mode, folder_mode),
                    _ => wanted.unwrap_or(entry.mode),
                };
                (path, own(entry.kind, mode))
            })
            .collect(),
        None => from_locals(from, origins)
            .into_iter()
            .map(|(path, content)| (path, own(Kind::File(content), wanted.unwrap_or(0o644))))
            .collect(),
    };
    if found.is_empty() {
        let message = format!("nothing is at `{from}`, which file `{}` is to come from", *file.to);
        return Err(BuildError::user(message, missing(from, origins)));
    }
    let folders = folder_mode(wanted.unwrap_or(0o644));
    for (path, entry) in found {
        layer.put_below(&file.to, &path, entry, own(Kind::Dir, folders))?;
    }
    Ok(())
}

/// What to do where nothing is at `from`.
fn missing(from: &str, origins: &Origins) -> String {
    let Some(rest) = from.strip_prefix("step:") else {
        return "paths are relative to image.toml; lock again when files have come".to_owned();
    };
    const SAID: &str = "`step:NAME/path` is what the step leaves at `/out/path`";
    let name = rest.split('/').next().unwrap_or_default();
    let files = origins.steps.get(name).into_iter().flat_map(|tree| &tree.entries);
    let files: Vec<String> = files
        .filter(|(_, e)| !matches!(e.kind, Kind::Dir))
        .take(SHOWN)
        .map(|(p, _)| format!("`{}`", p.as_str()))
        .collect();
    match files.is_empty() {
        true => SAID.to_owned(),
        false => format!("{SAID}; {name} left {}", files.join(", ")),
    }
}

/// Local files at or below `from`; the path of a single file is empty.
fn from_locals(from: &str, origins: &Origins) -> Vec<(String, Content)> {
    let from = from.trim_end_matches('/').trim_start_matches("./");
    let below = |path: &str| match from {
        "" | "." => Some(path.to_owned()),
        _ if path == from => Some(String::new()),
        _ => path.strip_prefix(from)?.strip_prefix('/').map(str::to_owned),
    };
    origins.locals.iter().filter_map(|(path, content)| Some((below(path)?, content.clone()))).collect()
}

/// What a step left at or below `NAME/path`. Hard links become files of their own: their other names may not come along.
fn from_step(rest: &str, origins: &Origins) -> Result<Vec<(String, Entry)>, BuildError> {
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let tree = origins.steps.get(name).ok_or_else(|| BuildError::Internal(format!("no output of step {name}")))?;
    let root = GuestPath::parse(path)?;
    let mut found = Vec::new();
    for (at, entry) in tree.entries.iter().filter(|(at, _)| at.is_within(&root)) {
        let below = at.as_str().strip_prefix(root.as_str()).unwrap_or_default().trim_start_matches('/').to_owned();
        let entry = match &entry.kind {
            Kind::Hardlink(target) => match tree.get(target) {
                Some(file @ Entry { kind: Kind::File(_), .. }) => file.clone(),
                _ => return Err(BuildError::bad(&*entry.origin, format!("`{at}` is a hard link to no file"))),
            },
            _ => entry.clone(),
        };
        found.push((below, entry));
    }
    Ok(found)
}

/// A tree being made over others.
struct Over<'a> {
    lower: &'a Listing,
    tree: Tree,
    /// Directories that are there only because something lies in them.
    implied: BTreeSet<GuestPath>,
    origin: Arc<str>,
}

impl Over<'_> {
    fn put_accounts(&mut self, accounts: &Accounts) -> Result<(), BuildError> {
        let files = [
            ("/etc/passwd", Some(&accounts.passwd), 0o644),
            ("/etc/group", Some(&accounts.group), 0o644),
            ("/etc/shadow", accounts.shadow.as_ref(), 0o640),
            ("/etc/gshadow", accounts.gshadow.as_ref(), 0o640),
        ];
        for (path, text, mode) in files {
            let Some(text) = text else { continue };
            let mut entry = Entry::file(&self.origin, mode, Content::bytes(text.as_bytes()));
            if let Some(item) = self.lower.entries.get(&GuestPath::parse(path)?) {
                (entry.mode, entry.uid, entry.gid) = (item.mode, item.uid, item.gid);
            }
            self.put(path, entry)?;
        }
        Ok(())
    }

    /// Puts `entry` at `base/path`; folders between get `folder` where nobody has them yet.
    fn put_below(&mut self, base: &str, path: &str, entry: Entry, folder: Entry) -> Result<(), BuildError> {
        let mut at = base.trim_end_matches('/').to_owned();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let known = self.place(&at, true)?;
            if !self.lower.is_dir(&known) && self.tree.get(&known).is_none() {
                self.put(&at, folder.clone())?;
            }
            at = format!("{at}/{part}");
        }
        let place = self.place(&at, false)?;
        let both_dirs = matches!(entry.kind, Kind::Dir)
            && (self.lower.is_dir(&place) || self.tree.get(&place).is_some_and(|e| matches!(e.kind, Kind::Dir)));
        if both_dirs { Ok(()) } else { self.put(&at, entry) }
    }

    /// Puts an entry where `path` leads through the links of the layers below.
    fn put(&mut self, path: &str, entry: Entry) -> Result<(), BuildError> {
        let place = self.place(path, false)?;
        if place.is_root() || place.name().starts_with(crate::build::layer::WHITEOUT) {
            return Err(BuildError::bad("image.toml", format!("`{path}` can not be in a layer")));
        }
        let is_dir = matches!(entry.kind, Kind::Dir);
        let implied = is_dir && self.implied.remove(&place);
        if let Some(there) = self.tree.get(&place).filter(|_| !implied) {
            let (one, other) = (there.origin.to_string(), format!("another part of {}", entry.origin));
            return Err(BuildError::Clash { path: place, one, other });
        }
        match self.lower.entries.get(&place).map(|i| &i.kind) {
            Some(ItemKind::Dir) if !is_dir => return Err(in_the_way(path, &place, "a directory")),
            Some(ItemKind::Symlink(to)) if is_dir => {
                return Err(in_the_way(path, &place, &format!("a symbolic link to `{to}`")));
            }
            Some(ItemKind::File(_)) if is_dir => return Err(in_the_way(path, &place, "a file")),
            _ => {}
        }
        self.parents(path, &place)?;
        self.tree.entries.insert(place, entry);
        Ok(())
    }

    /// Makes a directory at `path` unless one is there.
    fn need_dir(&mut self, path: &str) -> Result<(), BuildError> {
        let place = self.place(path, true)?;
        let made = self.tree.get(&place).is_some_and(|e| matches!(e.kind, Kind::Dir));
        if self.lower.is_dir(&place) || made {
            return Ok(());
        }
        self.put(&place.to_string(), Entry::dir(&self.origin.clone()))
    }

    fn place(&self, path: &str, last_too: bool) -> Result<GuestPath, BuildError> {
        let found = if last_too { self.lower.resolve(path) } else { self.lower.resolve_parent(path) };
        found.ok_or_else(|| BuildError::bad("image.toml", format!("`{path}` leads through a loop of symbolic links")))
    }

    /// The directories above `place`, as the layers below have them.
    fn parents(&mut self, path: &str, place: &GuestPath) -> Result<(), BuildError> {
        let mut at = place.parent();
        while let Some(dir) = at.filter(|d| !d.is_root()) {
            at = dir.parent();
            if let Some(there) = self.tree.get(&dir) {
                match there.kind {
                    Kind::Dir => break,
                    _ => return Err(in_the_way(path, &dir, "no directory")),
                }
            }
            let mut entry = Entry::dir(&self.origin);
            match self.lower.entries.get(&dir) {
                Some(item) if item.kind == ItemKind::Dir => {
                    (entry.mode, entry.uid, entry.gid) = (item.mode, item.uid, item.gid);
                }
                Some(_) => return Err(in_the_way(path, &dir, "no directory")),
                None => {}
            }
            self.implied.insert(dir.clone());
            self.tree.entries.insert(dir, entry);
        }
        Ok(())
    }
}

fn in_the_way(path: &str, place: &GuestPath, what: &str) -> BuildError {
    BuildError::user(
        format!("image.toml can not put `{path}` into the image: `{place}` is {what}"),
        "choose another path, or leave the package that brings it",
    )
}
