//! Boxes into Vagrant's home, as `vagrant box add` would leave them, but without its copies: it copies a box beside itself,
//! unpacks it, and throws the copy away. Here members are taken out of the box in place, and where the file system can share
//! extents, no byte moves.
//!
//! Layout (Vagrant 2.3, `lib/vagrant/box_collection.rb`): `boxes/<name, "/" as "-VAGRANTSLASH-">/<version>/<provider>/`, and
//! beside the versions `metadata_url`. Vagrant 2.4 reads it, too.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tar::EntryType;

use crate::base::digest::{Digest, Hasher};
use crate::base::report::{Reporter, Task};
use crate::base::{dirs, flock};
use crate::lab::error::LabError;

/// Members a box may have.
const MEMBERS: usize = 64;
/// Held while a box is unpacked, in Vagrant's own folder for such things.
const LOCK: &str = "labimg-box.lock";
/// What is being unpacked, there.
const UNPACKED: &str = "labimg-box";
/// How long another import is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What the kernel is asked to copy at once.
const STEP: usize = 8 << 20;

/// A box to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Vagrant's name: `lab/box`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Provider: `libvirt`, `virtualbox`.
    pub provider: String,
    /// The file that holds the box: itself, or a bundle.
    pub file: PathBuf,
    /// Where in it the box stands, from and how many bytes; all of the file where not given.
    pub part: Option<(u64, u64)>,
    /// What its bytes must be.
    pub digest: Digest,
}

/// A box in Vagrant's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Imported {
    /// Vagrant's name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Provider.
    pub provider: String,
    /// Where it is.
    pub directory: PathBuf,
    /// It was there already.
    pub unchanged: bool,
}

/// Whether a text out of somebody's file is the name of one file or folder, and leads nowhere else.
pub fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

/// Puts a box into Vagrant's home. `catalog` is the URL Vagrant shows as its origin.
///
/// # Errors
/// A name, version or provider that leads out of that home, a box whose bytes are not what its catalog says, that is no plain
/// archive of files, or does not fit on the disk. Nothing is left then.
pub fn import(
    wanted: &Wanted,
    home: &Path,
    catalog: Option<&str>,
    reporter: &dyn Reporter,
) -> Result<Imported, LabError> {
    within(wanted)?;
    let of_name = home.join("boxes").join(wanted.name.replace('/', "-VAGRANTSLASH-"));
    let directory = of_name.join(&wanted.version).join(&wanted.provider);
    let done = |unchanged| Imported {
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        provider: wanted.provider.clone(),
        directory: directory.clone(),
        unchanged,
    };
    // A version says the content: what stands there under it is the same.
    let there = || directory.join("metadata.json").is_file();
    if there() {
        return Ok(done(true));
    }
    // Vagrant takes every folder below a version for a provider's: what is not whole yet stands elsewhere, under a name that
    // the next import knows.
    let temporary = home.join("tmp");
    fs_err::create_dir_all(&temporary).map_err(|e| LabError::io(&temporary, "make", e))?;
    let lock = flock::lock(&temporary.join(LOCK), flock::Mode::Exclusive, PATIENCE);
    let _lock = lock.map_err(|e| LabError::failed("Vagrant's home can not be written to", e))?;
    if there() {
        return Ok(done(true));
    }
    let made = temporary.join(UNPACKED);
    remove(&made)?;
    let placed = unpacked(wanted, &made, reporter).and_then(|()| {
        if let Some(url) = catalog {
            fs_err::create_dir_all(&of_name)?;
            crate::base::atomic::write_file(&of_name.join("metadata_url"), url.as_bytes())?;
        }
        fs_err::create_dir_all(of_name.join(&wanted.version))?;
        Ok(fs_err::rename(&made, &directory)?)
    });
    if placed.is_err() {
        // That it can not be taken away is the next import's business.
        let _ = remove(&made);
    }
    placed.map(|()| done(false))
}

/// That what a catalog says names folders of Vagrant's home: it may be anybody's.
fn within(wanted: &Wanted) -> Result<(), LabError> {
    let names = [
        ("name", &wanted.name, wanted.name.split('/').all(is_plain)),
        ("version", &wanted.version, is_plain(&wanted.version)),
        ("provider", &wanted.provider, is_plain(&wanted.provider)),
    ];
    match names.into_iter().find(|(.., fits)| !fits) {
        None => Ok(()),
        Some((what, text, _)) => {
            let why = format!("its catalog gives it the {what} {text:?}, which is no name of a folder");
            Err(LabError::mismatch("the box can not be imported", why)
                .hint("labimg did not write that catalog so: build the lab again, or import from its bundle"))
        }
    }
}

fn remove(dir: &Path) -> Result<(), LabError> {
    dirs::remove(dir).map_err(|e| LabError::io(dir, "remove", e))
}

/// Takes a box apart into the new folder `dir`, once its bytes are known to be right.
fn unpacked(wanted: &Wanted, dir: &Path, reporter: &dyn Reporter) -> Result<(), LabError> {
    let part = match wanted.part {
        Some(part) => part,
        None => (0, fs_err::metadata(&wanted.file)?.len()),
    };
    let task = Task::begin(reporter, &format!("import {} ({})", wanted.name, wanted.provider), Some(part.1));
    proven(wanted, part, &task)?;
    fs_err::create_dir(dir)?;
    unpack(&wanted.file, part, dir).map_err(|e| match e {
        LabError::Io(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            let (what, at) =
                (format!("box {} ({})", wanted.name, wanted.provider), dir.parent().unwrap_or(dir).display());
            LabError::failed(
                what,
                format!("there is no room for it at `{at}`: it needs {}", crate::base::size::shown(part.1)),
            )
            .hint("make room, or name another home of Vagrant's: VAGRANT_HOME=DIR")
        }
        other => other,
    })?;
    Ok(fs_err::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}

/// Hashes the box.
fn proven(wanted: &Wanted, part: (u64, u64), task: &Task<'_>) -> Result<(), LabError> {
    let mut file = Window::open(&wanted.file, part)?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 18]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        task.advance(n as u64);
    }
    let found = hasher.finish();
    if found == wanted.digest {
        return Ok(());
    }
    let what = format!("box `{}`", wanted.file.display());
    Err(LabError::mismatch(what, format!("it is {found}, its catalog says {}", wanted.digest))
        .hint("copy it again from where it came, or build it again"))
}

fn unpack(from: &Path, part: (u64, u64), dir: &Path) -> Result<(), LabError> {
    let bad = |why: String| LabError::failed(format!("box `{}`", from.display()), why);
    let mut archive = tar::Archive::new(Window::open(from, part)?);
    for (count, entry) in archive.entries_with_seek()?.enumerate() {
        let entry = entry.map_err(|e| bad(format!("it is no box of labimg's: {e}")))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if count >= MEMBERS || !is_plain(&name) || entry.header().entry_type() != EntryType::Regular {
            return Err(bad(format!("`{name}` can not be in a box of labimg's")));
        }
        let to = dir.join(&name);
        copy(from, (part.0 + entry.raw_file_position(), entry.size()), &to)
            .map_err(|e| LabError::io(&to, "write", e))?;
    }
    Ok(())
}

/// A part of a file, read as if it were all of it.
struct Window {
    file: fs_err::File,
    start: u64,
    size: u64,
    at: u64,
}

impl Window {
    fn open(path: &Path, (start, size): (u64, u64)) -> io::Result<Self> {
        let mut file = fs_err::File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, start, size, at: 0 })
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let n = self.file.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        let place = at.and_then(|at| Some((at, self.start.checked_add(at)?)));
        let (at, place) = place.ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(place))?;
        self.at = at;
        Ok(at)
    }
}

/// Copies a range of a file into a file of its own; the kernel shares extents where the file system can.
fn copy(from: &Path, (offset, size): (u64, u64), to: &Path) -> io::Result<()> {
    let mut source = fs_err::File::open(from)?;
    let mut target = fs_err::File::create(to)?;
    let (mut at, end, mut out) = (offset, offset + size, 0);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        match rustix::fs::copy_file_range(source.file(), Some(&mut at), target.file(), Some(&mut out), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) => return Err(e.into()),
            // Two file systems, or one that does not do it.
            Err(_) => {
                source.seek(SeekFrom::Start(at))?;
                target.seek(SeekFrom::Start(at - offset))?;
                if io::copy(&mut source.take(end - at), &mut target)? != end - at {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                break;
            }
        }
    }
    target.flush()?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::report::Silent;

    fn a_box(dir: &Path, name: &str) -> Wanted {
        let file = dir.join("x.box");
        let mut tar = tar::Builder::new(fs_err::File::create(&file).unwrap());
        for (name, text) in [("Vagrantfile", "v"), ("metadata.json", "{}"), (name, "disk")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        let digest = Digest::of(&fs_err::read(&file).unwrap());
        Wanted {
            name: "lab/x".to_owned(),
            version: "1.2.3".to_owned(),
            provider: "libvirt".to_owned(),
            file,
            part: None,
            digest,
        }
    }

    #[test]
    fn a_box_stands_where_vagrant_looks() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = a_box(dir.path(), "box.img");
        let home = dir.path().join("home");
        let done = import(&wanted, &home, Some("file:///x.json"), &Silent).unwrap();
        assert_eq!(done.directory, home.join("boxes/lab-VAGRANTSLASH-x/1.2.3/libvirt"));
        assert_eq!(fs_err::read(done.directory.join("box.img")).unwrap(), b"disk");
        assert_eq!(fs_err::read(home.join("boxes/lab-VAGRANTSLASH-x/metadata_url")).unwrap(), b"file:///x.json");
        assert!(import(&wanted, &home, None, &Silent).unwrap().unchanged);
    }

    #[test]
    fn a_box_in_the_middle_of_a_file_is_the_same_box() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = a_box(dir.path(), "box.img");
        let bytes = fs_err::read(&wanted.file).unwrap();
        let whole = [&[7; 1536][..], &bytes, &[7; 700]].concat();
        fs_err::write(&wanted.file, whole).unwrap();
        let inside = Wanted { part: Some((1536, bytes.len() as u64)), ..wanted };
        let done = import(&inside, &dir.path().join("home"), None, &Silent).unwrap();
        assert_eq!(fs_err::read(done.directory.join("box.img")).unwrap(), b"disk");
        let beside = Wanted { part: Some((1024, bytes.len() as u64)), version: "2".to_owned(), ..inside };
        let error = import(&beside, &dir.path().join("home"), None, &Silent).unwrap_err();
        assert!(error.to_string().contains("its catalog says"), "{error}");
    }

    #[test]
    fn a_name_that_leads_out_of_the_home_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = a_box(dir.path(), "box.img");
        let home = dir.path().join("home");
        let outside = dir.path().join("outside").display().to_string();
        for evil in ["", ".", "..", "../x", "a\\b", "a\n", outside.as_str()] {
            for wanted in [
                Wanted { version: evil.to_owned(), ..good.clone() },
                Wanted { provider: evil.to_owned(), ..good.clone() },
                Wanted { name: format!("lab/{evil}"), ..good.clone() },
                Wanted { name: evil.to_owned(), ..good.clone() },
            ] {
                assert!(import(&wanted, &home, None, &Silent).is_err(), "{evil:?}");
            }
        }
        let left: Vec<_> = fs_err::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["x.box"]);
    }

    #[test]
    fn what_is_no_box_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let evil = a_box(dir.path(), "../box.img");
        assert!(import(&evil, &home, None, &Silent).unwrap_err().to_string().contains("can not be in a box"));
        let other = Wanted { digest: Digest::of(b"other"), ..a_box(dir.path(), "box.img") };
        let error = import(&other, &home, None, &Silent).unwrap_err();
        assert!(error.to_string().contains("its catalog says"), "{error}");
        let left = |dir: &str| fs_err::read_dir(home.join(dir)).map_or(0, |d| d.count());
        assert_eq!((left("boxes"), left("tmp")), (0, 1), "the lock alone");
        // What an import that was killed left is in nobody's way.
        let half = home.join("tmp").join(UNPACKED);
        fs_err::create_dir_all(&half).unwrap();
        fs_err::write(half.join("box.img"), "half").unwrap();
        let done = import(&a_box(dir.path(), "box.img"), &home, None, &Silent).unwrap();
        assert_eq!(fs_err::read(done.directory.join("box.img")).unwrap(), b"disk");
        assert_eq!(left("tmp"), 1);
    }
}
