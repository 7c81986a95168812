//! A `.deb` taken apart: its control files in memory, its contents appended to a spool, its entries in a list.
//!
//! Nothing is written under a name the package chose, so no path of it can lead anywhere. What dpkg would write through a link
//! is refused here or resolved inside the tree by [`super::merge`].

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use tar::EntryType;

use super::ar;
use super::control::Control;
use crate::base::untar::{self, Untar};
use crate::base::{codec, shown};
use crate::build::BuildError;
use crate::build::spool::Spool;
use crate::build::tree::{Content, Entry, Kind};
use crate::model::guest_path::GuestPath;
use crate::model::lock::LockedPackage;

/// No package unpacks to more bytes than this, whatever it says of itself.
const MAX_BYTES: u64 = 4 << 30;
/// What a package may hold beyond what it says (`Installed-Size` is an estimate, deb-control(5)).
const SLACK: u64 = 64 << 20;
/// The most entries of a package.
const MAX_ENTRIES: usize = 250_000;
/// The most bytes of their names: 250,000 of them have about this, and each is kept three times.
const MAX_NAMES: u64 = 16 << 20;
/// The longest text of a symbolic link (`PATH_MAX`, linux/limits.h).
const MAX_LINK: usize = 4095;

/// A package taken apart.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// Its entry in the lock.
    pub package: LockedPackage,
    /// Its control files.
    pub control: Control,
    /// Its entries under the paths it ships them at.
    pub entries: BTreeMap<GuestPath, Entry>,
    /// Those paths in the archive's order.
    pub order: Vec<GuestPath>,
    /// MD5 of each regular file.
    pub md5: BTreeMap<GuestPath, [u8; 16]>,
}

/// Takes one package apart; contents go to a file without a name in `scratch`.
///
/// # Errors
/// [`BuildError::Bad`] naming package, path and reason; I/O errors.
pub fn unpack(deb: &mut dyn Read, expect: &LockedPackage, scratch: &Path) -> Result<Unpacked, BuildError> {
    unpack_into(deb, expect, &mut Spool::new(scratch)?)
}

/// Takes one package apart; contents go to the end of `spool`.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_into(deb: &mut dyn Read, expect: &LockedPackage, spool: &mut Spool) -> Result<Unpacked, BuildError> {
    let what = format!("package {}", expect.label());
    let bad = |why: String| BuildError::bad(what.clone(), why);
    let mut deb = Deb::open(deb).map_err(|e| bad(e.to_string()))?;
    let control = deb.control().map_err(|e| bad(e.to_string()))?;
    control.check(expect).map_err(bad)?;
    let mut unpacked = Unpacked {
        package: expect.clone(),
        control,
        entries: BTreeMap::new(),
        order: Vec::new(),
        md5: BTreeMap::new(),
    };
    let result = deb.data(&mut unpacked, spool).and_then(|()| deb.end());
    result.map_err(|e| match e {
        DataError::Build(e) => e,
        DataError::Bytes(e) => bad(untar::told(&e)),
        DataError::Entry(path, why) => bad(format!("`{}` {why}", shown::name(&path))),
    })?;
    spool.flush()?;
    Ok(unpacked)
}

/// The control files of a package alone.
///
/// # Errors
/// As [`unpack`].
pub fn control(deb: &mut dyn Read, expect: &LockedPackage) -> Result<Control, BuildError> {
    let bad = |why: String| BuildError::bad(format!("package {}", expect.label()), why);
    let control = Deb::open(deb).and_then(|mut deb| deb.control()).map_err(|e| bad(e.to_string()))?;
    control.check(expect).map_err(bad)?;
    Ok(control)
}

/// What can be wrong with the data member.
enum DataError {
    /// Ours: the spool.
    Build(BuildError),
    /// The archive's bytes.
    Bytes(io::Error),
    /// One entry: its path, and why.
    Entry(String, String),
}

impl From<io::Error> for DataError {
    fn from(e: io::Error) -> Self {
        Self::Bytes(e)
    }
}

/// An archive whose `debian-binary` was read.
struct Deb<'a> {
    archive: ar::Archive<&'a mut dyn Read>,
}

impl<'a> Deb<'a> {
    /// Reads the format's version (deb(5): `2.0`; later minor numbers are compatible).
    fn open(reader: &'a mut dyn Read) -> io::Result<Self> {
        let mut archive = ar::Archive::new(reader)?;
        let first = archive.next_member()?.filter(|m| m.name == "debian-binary" && m.size <= 64);
        first.ok_or_else(|| wrong("its first member is not `debian-binary`"))?;
        let mut version = String::new();
        archive.read_to_string(&mut version)?;
        if !version.starts_with("2.") {
            return Err(wrong(&format!("it is of format `{}`, not 2.x", shown::name(version.trim_end()))));
        }
        Ok(Self { archive })
    }

    /// Goes to the member `stem` (`control.tar`), compressed in a way we know.
    fn member(&mut self, stem: &str) -> io::Result<()> {
        loop {
            let member = self.archive.next_member()?.ok_or_else(|| wrong(&format!("it has no member `{stem}`")))?;
            match member.name.strip_prefix(stem) {
                Some("" | ".gz" | ".xz" | ".zst") => return Ok(()),
                Some(_) => {
                    return Err(wrong(&format!(
                        "its member `{}` is compressed in an unknown way",
                        shown::name(&member.name)
                    )));
                }
                // deb(5): members whose name starts with `_` are to be ignored.
                None if member.name.starts_with('_') => {}
                None => return Err(wrong(&format!("it has an unknown member `{}`", shown::name(&member.name)))),
            }
        }
    }

    fn control(&mut self) -> io::Result<Control> {
        self.member("control.tar")?;
        Control::read(codec::decoder(&mut self.archive)?)
    }

    /// Reads the data member: entries into `unpacked`, contents into `spool`.
    fn data(&mut self, unpacked: &mut Unpacked, spool: &mut Spool) -> Result<(), DataError> {
        self.member("data.tar")?;
        let allowed = allowance(&unpacked.control);
        let meter = Meter { inner: codec::decoder(&mut self.archive)?, left: allowed, allowed };
        let mut archive = Untar::new(meter).with_names(MAX_NAMES);
        let origin: Arc<str> = format!("package {}", unpacked.package.name).into();
        for entry in archive.entries()? {
            let mut entry = entry?;
            take(&mut entry, unpacked, spool, &origin)?;
        }
        // What follows the end of the archive is padding; reading it lets the decoder check its sums.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), DataError> {
        while let Some(member) = self.archive.next_member()? {
            if !member.name.starts_with('_') {
                return Err(wrong(&format!("it has an unknown member `{}`", shown::name(&member.name))).into());
            }
        }
        Ok(())
    }
}

/// How many bytes the data member may have: what the package says, generously, and never more than [`MAX_BYTES`].
fn allowance(control: &Control) -> u64 {
    let kib = control.stanza.text("Installed-Size").trim().parse::<u64>().unwrap_or(0);
    kib.saturating_mul(4 * 1024).saturating_add(SLACK).min(MAX_BYTES)
}

/// Stops bombs: counts the bytes of the whole member.
struct Meter<R> {
    inner: R,
    left: u64,
    allowed: u64,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(got as u64).ok_or_else(|| {
            let allowed = self.allowed >> 20;
            wrong(&format!("its contents have more than {allowed} MiB, far beyond its `Installed-Size`"))
        })?;
        Ok(got)
    }
}

/// Takes one entry in.
fn take<R: Read>(
    entry: &mut untar::Entry<'_, R>,
    unpacked: &mut Unpacked,
    spool: &mut Spool,
    origin: &Arc<str>,
) -> Result<(), DataError> {
    let path = path_of(&entry.path_bytes())?;
    let refuse = |why: &str| DataError::Entry(path.to_string(), why.to_owned());
    if unpacked.entries.len() >= MAX_ENTRIES {
        return Err(refuse(&format!("is one of more than {MAX_ENTRIES} entries")));
    }
    let header = entry.header();
    let (mode, kind) = (header.mode()? & 0o7777, header.entry_type());
    let id = |n: u64| u32::try_from(n).map_err(|_| refuse("has an owner beyond 32 bits"));
    let (uid, gid) = (id(header.uid()?)?, id(header.gid()?)?);
    let kind = match kind {
        EntryType::Directory => Kind::Dir,
        EntryType::Regular | EntryType::Continuous => {
            let (content, md5) = store(entry, spool)?;
            unpacked.md5.insert(path.clone(), md5);
            Kind::File(content)
        }
        EntryType::Symlink => Kind::Symlink(link_text(entry, &path)?),
        EntryType::Link => Kind::Hardlink(hard_link(entry, &path, unpacked)?),
        EntryType::Char | EntryType::Block => return Err(refuse("is a device: nothing made here has any")),
        EntryType::Fifo => return Err(refuse("is a named pipe: nothing made here has any")),
        other => return Err(refuse(&format!("is of an unknown kind ({:?})", char::from(other.as_byte())))),
    };
    record(path, Entry { kind, mode, uid, gid, capability: None, origin: origin.clone() }, unpacked)
}

/// Adds an entry; the root is only listed.
fn record(path: GuestPath, entry: Entry, unpacked: &mut Unpacked) -> Result<(), DataError> {
    let refuse = |why: String| DataError::Entry(path.to_string(), why);
    let is_dir = matches!(entry.kind, Kind::Dir);
    if path.is_root() {
        return if is_dir { Ok(()) } else { Err(refuse("is not a directory".into())) };
    }
    let mut above = path.parent();
    while let Some(dir) = above.filter(|d| !d.is_root()) {
        match unpacked.entries.get(&dir).map(|e| &e.kind) {
            None | Some(Kind::Dir) => {}
            Some(Kind::Symlink(to)) => {
                return Err(refuse(format!("would be unpacked through the link `{dir}` to `{to}`")));
            }
            Some(_) => return Err(refuse(format!("is under `{dir}`, which is a file"))),
        }
        above = dir.parent();
    }
    match unpacked.entries.get(&path).map(|e| &e.kind) {
        None => {}
        Some(Kind::Dir) if is_dir => return Ok(()),
        Some(_) => return Err(refuse("is in the package twice".into())),
    }
    unpacked.order.push(path.clone());
    unpacked.entries.insert(path, entry);
    Ok(())
}

/// A member's path: relative, UTF-8, without `..`.
fn path_of(bytes: &[u8]) -> Result<GuestPath, DataError> {
    let lossy = || shown::bytes(bytes);
    let text =
        std::str::from_utf8(bytes).map_err(|_| DataError::Entry(lossy(), "is a name that is not UTF-8".into()))?;
    if text.starts_with('/') {
        return Err(DataError::Entry(lossy(), "is an absolute path".into()));
    }
    // dpkg's list files have one path per line.
    if text.chars().any(char::is_control) {
        return Err(DataError::Entry(lossy(), "is a name with control characters".into()));
    }
    GuestPath::parse(text).map_err(|e| DataError::Entry(lossy(), format!("is refused: {}", e.why)))
}

/// Copies a file's content to the spool.
fn store<R: Read>(entry: &mut untar::Entry<'_, R>, spool: &mut Spool) -> Result<(Content, [u8; 16]), DataError> {
    let offset = spool.position();
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = entry.size();
    while left > 0 {
        let got = match entry.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its contents are cut off").into()),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        let bytes = &buffer[..got];
        md5.update(bytes);
        spool.append(bytes).map_err(DataError::Build)?;
        left = left.saturating_sub(got as u64);
    }
    Ok((spool.since(offset), md5.finalize().into()))
}

/// The text of a symbolic link, which may say anything.
fn link_text<R: Read>(entry: &untar::Entry<'_, R>, path: &GuestPath) -> Result<String, DataError> {
    let refuse = |why: &str| DataError::Entry(path.to_string(), why.to_owned());
    let bytes = entry.link_name_bytes().unwrap_or_default();
    let text = std::str::from_utf8(&bytes).map_err(|_| refuse("is a link to a name that is not UTF-8"))?;
    match text {
        "" => Err(refuse("is a link to nothing")),
        _ if text.len() > MAX_LINK || text.contains('\0') => Err(refuse("is a link to an impossible name")),
        _ => Ok(text.to_owned()),
    }
}

/// The file that a hard link names: one that came before it in the same package.
fn hard_link<R: Read>(
    entry: &untar::Entry<'_, R>,
    path: &GuestPath,
    unpacked: &mut Unpacked,
) -> Result<GuestPath, DataError> {
    let refuse = |why: String| DataError::Entry(path.to_string(), why);
    let target = path_of(&entry.link_name_bytes().unwrap_or_default())
        .map_err(|_| refuse("is a hard link to a path outside the package".into()))?;
    let first = match unpacked.entries.get(&target).map(|e| &e.kind) {
        Some(Kind::File(_)) => target,
        Some(Kind::Hardlink(first)) => first.clone(),
        _ => return Err(refuse(format!("is a hard link to `{target}`, which is no file before it"))),
    };
    if let Some(md5) = unpacked.md5.get(&first).copied() {
        unpacked.md5.insert(path.clone(), md5);
    }
    Ok(first)
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
