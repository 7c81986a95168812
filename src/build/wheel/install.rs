//! One wheel's files, each to its place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::archive::{Archive, Member};
use super::record::Hashes;
use super::{INTERPRETER, MOST_BYTES, PREFIX, metadata, record};
use crate::base::digest::{Digest, Hasher};
use crate::build::BuildError;
use crate::build::spool::Spool;
use crate::build::tree::{Content, Entry};
use crate::model::guest_path::GuestPath;
use crate::model::lock::LockedWheel;
use crate::model::pep440::same_version;
use crate::model::wheel::{PythonVersion, WheelName, normalized};

/// The most bytes of a text of the wheel's own.
const MOST_TEXT: u64 = 32 << 20;

/// Who stands in `INSTALLER`.
const INSTALLER: &[u8] = b"labimg\n";

/// How a script starts that wants the interpreter's path filled in.
const SHEBANG: &[u8] = b"#!python";

/// A wheel, and where it goes.
pub struct Place<'a> {
    /// What it is called in messages.
    pub what: &'a str,
    /// What its file name says.
    pub name: &'a WheelName,
    /// What the lock says.
    pub locked: &'a LockedWheel,
    /// Where libraries go.
    pub to: &'a GuestPath,
    /// The Python they are for.
    pub python: PythonVersion,
}

/// Where a member goes.
struct Goal {
    path: GuestPath,
    script: bool,
}

/// A wheel's entries under way.
struct Installed {
    entries: BTreeMap<GuestPath, Entry>,
    /// Lines of the new `RECORD` by path.
    lines: BTreeMap<String, String>,
    origin: Arc<str>,
}

/// Everything the wheel at `path` installs, contents in `spool`.
///
/// # Errors
/// [`BuildError::Bad`]; I/O errors.
pub fn install(place: &Place<'_>, path: &Path, spool: &mut Spool) -> Result<BTreeMap<GuestPath, Entry>, BuildError> {
    let bad = |why: String| BuildError::bad(place.what, why);
    let mut archive = Archive::open(place.what, path)?;
    let info = info_dir(place, &archive)?;
    metadata::check_format(&headers(&mut archive, &format!("{info}/WHEEL"))?).map_err(bad)?;
    check_metadata(place, &headers(&mut archive, &format!("{info}/METADATA"))?)?;
    let record = record::read(&text(place, &mut archive, &format!("{info}/RECORD"))?)
        .map_err(|why| bad(format!("its RECORD: {why}")))?;
    let points = format!("{info}/entry_points.txt");
    let programs = match archive.members.contains_key(&points) {
        true => metadata::programs(&text(place, &mut archive, &points)?).map_err(bad)?,
        false => Vec::new(),
    };
    let origin = format!("wheel {} {}", place.locked.project, place.locked.version).into();
    let mut installed = Installed { entries: BTreeMap::new(), lines: BTreeMap::new(), origin };
    let ours = ["RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER"].map(|name| format!("{info}/{name}"));
    for (name, member) in archive.members.clone() {
        // What the record and we write ourselves is not the wheel's; but unlisted it is not let in either.
        if !ours.contains(&name) {
            copy(place, &mut archive, (&name, member), &record, spool, &mut installed)?;
        }
    }
    for program in programs {
        let path = GuestPath::parse(&format!("{PREFIX}/bin/{}", program.name))?;
        installed.generated(place, path, 0o755, program.script().into_bytes())?;
    }
    installed.generated(place, place.to.join(&format!("{info}/INSTALLER"))?, 0o644, INSTALLER.to_vec())?;
    installed.record(place, place.to.join(&format!("{info}/RECORD"))?)?;
    Ok(installed.entries)
}

impl Installed {
    fn put(
        &mut self,
        place: &Place<'_>,
        path: GuestPath,
        entry: Entry,
        digest: &Digest,
        size: u64,
    ) -> Result<(), BuildError> {
        let line = record::line(&relative(place.to, &path), Some((digest, size)));
        self.lines.insert(relative(place.to, &path), line);
        match self.entries.insert(path.clone(), entry) {
            None => Ok(()),
            Some(_) => Err(BuildError::bad(place.what, format!("two of its files would be `{path}`"))),
        }
    }

    fn generated(&mut self, place: &Place<'_>, path: GuestPath, mode: u32, bytes: Vec<u8>) -> Result<(), BuildError> {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let entry = Entry::file(&self.origin, mode, Content::bytes(bytes));
        self.put(place, path, entry, &digest, size)
    }

    /// Writes the record of all that is there now, itself included.
    fn record(&mut self, place: &Place<'_>, path: GuestPath) -> Result<(), BuildError> {
        let own = relative(place.to, &path);
        self.lines.insert(own.clone(), record::line(&own, None));
        let text: String = self.lines.values().map(String::as_str).collect();
        let entry = Entry::file(&self.origin, 0o644, Content::bytes(text.into_bytes()));
        match self.entries.insert(path.clone(), entry) {
            None => Ok(()),
            Some(_) => Err(BuildError::bad(place.what, format!("two of its files would be `{path}`"))),
        }
    }
}

/// Copies a member to its place, its hash compared with the record's.
fn copy(
    place: &Place<'_>,
    archive: &mut Archive<'_>,
    (name, member): (&str, Member),
    record: &BTreeMap<String, Option<String>>,
    spool: &mut Spool,
    installed: &mut Installed,
) -> Result<(), BuildError> {
    let bad = |why: String| BuildError::bad(place.what, why);
    // Records need not say anything of what is not installed.
    let Some(goal) = goal(place, name)? else { return Ok(()) };
    let expected = match record.get(name) {
        Some(Some(hash)) => hash.as_str(),
        Some(None) => return Err(bad(format!("its RECORD has no hash of `{name}`"))),
        None => return Err(bad(format!("its RECORD does not list `{name}`"))),
    };
    let mut before = Hashes::like(expected).map_err(|kind| {
        bad(format!("its RECORD has a hash of `{name}` of kind `{kind}`; labimg knows sha256, sha384 and sha512"))
    })?;
    let start = spool.position();
    let mut after = Hasher::new();
    let mut first = goal.script;
    archive.each_chunk(name, member, |chunk| {
        before.update(chunk);
        let rewritten = if std::mem::take(&mut first) { with_interpreter(chunk) } else { None };
        let chunk = rewritten.as_deref().unwrap_or(chunk);
        after.update(chunk);
        if spool.position() + chunk.len() as u64 > MOST_BYTES {
            return Err(BuildError::bad("wheels", format!("together they unpack to more than {MOST_BYTES} bytes")));
        }
        spool.append(chunk)
    })?;
    let found = before.finish();
    if found != expected {
        return Err(bad(format!("`{name}` has hash {found}, its RECORD says {expected}")));
    }
    let mode = if goal.script || member.executable { 0o755 } else { 0o644 };
    let content = spool.since(start);
    let size = content.size;
    let entry = Entry::file(&installed.origin, mode, content);
    installed.put(place, goal.path, entry, &after.finish(), size)
}

/// The first bytes of a script with the interpreter's path, where it asks for that.
fn with_interpreter(chunk: &[u8]) -> Option<Vec<u8>> {
    let rest = chunk.strip_prefix(SHEBANG)?;
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    let line = rest.get(..end)?;
    // `#!pythonw` is for windows without a console; anything else is another interpreter's name.
    let line = line.strip_prefix(b"w").unwrap_or(line);
    let ours = line.is_empty() || line.starts_with(b" ") || line.starts_with(b"\r");
    ours.then(|| [b"#!", INTERPRETER.as_bytes(), rest.get(end..).unwrap_or_default()].concat())
}

/// Where a member goes; `None` for byte-code, which Python makes from what is beside it.
fn goal(place: &Place<'_>, name: &str) -> Result<Option<Goal>, BuildError> {
    if name.ends_with(".pyc") && name.split('/').any(|part| part == "__pycache__") {
        return Ok(None);
    }
    let (top, rest) = name.split_once('/').unwrap_or((name, ""));
    let library = |path: &str| Ok(Some(Goal { path: place.to.join(path)?, script: false }));
    if !top.strip_suffix(".data").is_some_and(|top| names_it(place, top)) {
        return library(name);
    }
    let wrong = || BuildError::bad(place.what, format!("`{name}` is in no place that wheels know"));
    let (kind, path) = rest.split_once('/').ok_or_else(wrong)?;
    let in_prefix =
        |path: String, script| Ok(Some(Goal { path: GuestPath::parse(&format!("{PREFIX}/{path}"))?, script }));
    match kind {
        "purelib" | "platlib" => library(path),
        "scripts" => in_prefix(format!("bin/{path}"), true),
        "headers" => in_prefix(format!("include/python{}/{}/{path}", place.python, place.name.distribution), false),
        "data" => in_prefix(path.to_owned(), false),
        _ => Err(wrong()),
    }
}

/// The wheel's one `.dist-info` directory. As with pip, its name must begin with the project's; which version it is, METADATA says.
fn info_dir(place: &Place<'_>, archive: &Archive<'_>) -> Result<String, BuildError> {
    let tops = archive.members.keys().filter_map(|name| name.split_once('/')).map(|(top, _)| top);
    let mut found: Vec<&str> = tops.filter(|top| top.ends_with(".dist-info")).collect();
    found.dedup();
    match *found.as_slice() {
        [one] if normalized(one).starts_with(&place.locked.project) => Ok(one.to_owned()),
        [] => Err(BuildError::bad(place.what, "it has no .dist-info directory")),
        [one] => Err(BuildError::bad(place.what, format!("its `{one}` is another project's"))),
        _ => {
            Err(BuildError::bad(place.what, format!("it has more than one .dist-info directory: {}", found.join(", "))))
        }
    }
}

/// Whether `name-version` is this wheel's; either may have dashes in it.
fn names_it(place: &Place<'_>, text: &str) -> bool {
    let is_it = |(at, _): (usize, &str)| {
        let (name, version) = (&text[..at], &text[at + 1..]);
        normalized(name) == place.locked.project && same_version(version, &place.name.version)
    };
    text.match_indices('-').any(is_it)
}

fn check_metadata(place: &Place<'_>, text: &str) -> Result<(), BuildError> {
    let (name, version) = (metadata::header(text, "Name"), metadata::header(text, "Version"));
    let right = name.is_some_and(|name| normalized(name) == place.locked.project)
        && version.is_some_and(|version| same_version(version, &place.locked.version));
    let what = format!("{} {}", name.unwrap_or("nothing"), version.unwrap_or_default());
    if right { Ok(()) } else { Err(BuildError::bad(place.what, format!("its METADATA says it is {}", what.trim()))) }
}

/// A text of headers: only those in ASCII are looked at, so it need not be UTF-8.
fn headers(archive: &mut Archive<'_>, name: &str) -> Result<String, BuildError> {
    let bytes = archive.small(name, MOST_TEXT)?;
    Ok(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned())
}

fn text(place: &Place<'_>, archive: &mut Archive<'_>, name: &str) -> Result<String, BuildError> {
    let bytes = archive.small(name, MOST_TEXT)?;
    String::from_utf8(bytes).map_err(|_| BuildError::bad(place.what, format!("`{name}` is not UTF-8")))
}

/// `path` as seen from the directory `from`: `../../../bin/flask`.
fn relative(from: &GuestPath, path: &GuestPath) -> String {
    let split =
        |path: &GuestPath| path.as_str().split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (from, path) = (split(from), split(path));
    let common = from.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let ups = std::iter::repeat_n("..".to_owned(), from.len() - common);
    ups.chain(path.into_iter().skip(common)).collect::<Vec<_>>().join("/")
}
