//! dpkg's database as dpkg would leave it (dpkg(1), deb-triggers(5); files under `/var/lib/dpkg`), so that tools which list or
//! check packages see them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::merge::{Diversion, Merged};
use super::unpack::Unpacked;
use crate::build::BuildError;
use crate::build::tree::{Content, Entry, Tree};
use crate::model::guest_path::GuestPath;

/// Order of the fields dpkg writes (dpkg's `fieldinfos`); all others follow as the package has them.
const FIELDS: [&str; 31] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Revision",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
    "Triggers-Pending",
    "Triggers-Awaited",
    "Important",
    "Homepage",
];
/// A file's owner and mode as a rule set them (dpkg-statoverride(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// User, by name.
    pub user: String,
    /// Group, by name.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// The path.
    pub path: GuestPath,
}

/// The text of `status` for these packages, sorted by name.
pub fn status_of(packages: &[&Unpacked]) -> String {
    let mut sorted = packages.to_vec();
    sorted.sort_by_key(|p| (&p.package.name, &p.package.architecture));
    let mut out = String::new();
    for package in sorted {
        stanza(package, &mut out);
        out.push('\n');
    }
    out
}

/// One stanza of `status`.
fn stanza(package: &Unpacked, out: &mut String) {
    let conffiles = conffiles(package);
    for name in FIELDS {
        let value = match name {
            "Status" => Some("install ok installed"),
            "Conffiles" => Some(conffiles.as_str()).filter(|c| !c.is_empty()),
            _ => package.control.stanza.get(name),
        };
        field(name, value, out);
    }
    for (name, value) in &package.control.stanza.fields {
        if !FIELDS.iter().any(|f| f.eq_ignore_ascii_case(name)) {
            field(name, Some(value), out);
        }
    }
}

fn field(name: &str, value: Option<&str>, out: &mut String) {
    if let Some(value) = value {
        let blank = if value.starts_with('\n') || value.is_empty() { "" } else { " " };
        let _ = writeln!(out, "{name}:{blank}{value}");
    }
}

/// The value of `Conffiles`: a line for each, with its MD5.
fn conffiles(package: &Unpacked) -> String {
    let mut out = String::new();
    for path in package.control.conffiles() {
        let sum = GuestPath::parse(&path).ok().and_then(|p| package.md5.get(&p));
        if let Some(sum) = sum {
            let _ = write!(out, "\n /{path} {}", hex(sum));
        }
    }
    out
}

/// Writes the whole database into `merged`'s tree.
///
/// # Errors
/// A package whose name makes no file name.
pub fn write(
    merged: &mut Merged,
    packages: &[&Unpacked],
    architecture: &str,
    diversions: &[Diversion],
    overrides: &[Override],
) -> Result<(), BuildError> {
    let mut db = Db { tree: &mut merged.tree, origin: "dpkg database".into() };
    for dir in ["info", "updates", "parts", "triggers", "alternatives"] {
        db.dir(dir)?;
    }
    db.file("status", status_of(packages).into_bytes())?;
    db.file("available", Vec::new())?;
    db.file("info/format", b"1\n".to_vec())?;
    db.file("cmethopt", b"apt apt\n".to_vec())?;
    db.file("diversions", diversion_text(diversions).into_bytes())?;
    let over = |o: &Override| format!("{} {} {:o} {}\n", o.user, o.group, o.mode, o.path);
    db.file("statoverride", overrides.iter().map(over).collect::<String>().into_bytes())?;
    // dpkg's locks have no content and mode 0640.
    for lock in ["lock", "lock-frontend", "triggers/Lock"] {
        db.file_mode(lock, Vec::new(), 0o640)?;
    }
    db.file("triggers/Unincorp", Vec::new())?;
    let foreign: BTreeSet<&str> = packages.iter().map(|p| p.package.architecture.as_str()).collect();
    if foreign.iter().any(|a| *a != "all" && *a != architecture) {
        let others = foreign.iter().filter(|a| **a != "all" && **a != architecture).map(|a| format!("{a}\n"));
        db.file("arch", std::iter::once(format!("{architecture}\n")).chain(others).collect::<String>().into_bytes())?;
    }
    for (at, package) in packages.iter().enumerate() {
        db.info(package, merged.lost.get(&at))?;
    }
    db.triggers(packages)
}

fn diversion_text(diversions: &[Diversion]) -> String {
    diversions.iter().map(|d| format!("{}\n{}\n{}\n", d.path, d.to, d.by)).collect()
}

/// The name of a package's files in `info`: with the architecture where several may be installed.
fn info_name(package: &Unpacked) -> String {
    match package.control.stanza.text("Multi-Arch") {
        "same" => format!("{}:{}", package.package.name, package.package.architecture),
        _ => package.package.name.clone(),
    }
}

struct Db<'a> {
    tree: &'a mut Tree,
    origin: Arc<str>,
}

impl Db<'_> {
    fn path(name: &str) -> Result<GuestPath, BuildError> {
        Ok(GuestPath::parse(&format!("var/lib/dpkg/{name}"))?)
    }

    fn dir(&mut self, name: &str) -> Result<(), BuildError> {
        let path = Self::path(name)?;
        if self.tree.get(&path).is_none() {
            self.tree.put(path, Entry::dir(&self.origin));
        }
        Ok(())
    }

    fn file(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), BuildError> {
        self.file_mode(name, bytes, 0o644)
    }

    fn file_mode(&mut self, name: &str, bytes: Vec<u8>, mode: u32) -> Result<(), BuildError> {
        self.tree.put(Self::path(name)?, Entry::file(&self.origin, mode, Content::bytes(bytes)));
        Ok(())
    }

    /// A package's files in `info`.
    fn info(&mut self, package: &Unpacked, lost: Option<&BTreeSet<GuestPath>>) -> Result<(), BuildError> {
        let name = info_name(package);
        let mut list = String::from("/.\n");
        for path in &package.order {
            if !lost.is_some_and(|l| l.contains(path)) {
                let _ = writeln!(list, "{path}");
            }
        }
        self.file(&format!("info/{name}.list"), list.into_bytes())?;
        for (kind, bytes) in &package.control.files {
            let script = ["preinst", "postinst", "prerm", "postrm", "config"].contains(&kind.as_str());
            self.file_mode(&format!("info/{name}.{kind}"), bytes.clone(), if script { 0o755 } else { 0o644 })?;
        }
        if !package.control.files.contains_key("md5sums") {
            let sums = md5sums(package);
            if !sums.is_empty() {
                self.file(&format!("info/{name}.md5sums"), sums.into_bytes())?;
            }
        }
        Ok(())
    }

    /// Interests (deb-triggers(5)): `File` for paths, one file for each other name. Nothing is pending: nothing was run.
    fn triggers(&mut self, packages: &[&Unpacked]) -> Result<(), BuildError> {
        let mut files = String::new();
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut sorted = packages.to_vec();
        sorted.sort_by_key(|p| &p.package.name);
        for package in sorted {
            for line in package.control.text("triggers").lines() {
                let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
                let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
                let Some(how) = directive.strip_prefix("interest") else { continue };
                let suffix = if how == "-noawait" { "/noawait" } else { "" };
                let who = format!("{}{suffix}", info_name(package));
                match trigger.starts_with('/') {
                    true => drop(writeln!(files, "{trigger} {who}")),
                    false => named.entry(trigger.to_owned()).or_default().push(who),
                }
            }
        }
        self.file("triggers/File", files.into_bytes())?;
        for (trigger, who) in named {
            let plain = trigger.bytes().all(|b| b.is_ascii_graphic() && b != b'/') && !trigger.starts_with('.');
            if plain {
                self.file(
                    &format!("triggers/{trigger}"),
                    who.iter().map(|w| format!("{w}\n")).collect::<String>().into(),
                )?;
            }
        }
        Ok(())
    }
}

/// `md5sums` as dpkg makes it for a package without one: every file but conffiles.
fn md5sums(package: &Unpacked) -> String {
    let conffiles = package.control.conffiles();
    let files = package.md5.iter().filter(|(path, _)| !conffiles.iter().any(|c| c == path.as_str()));
    files.map(|(path, sum)| format!("{}  {}\n", hex(sum), path.as_str())).collect()
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
