//! Two things that should be the same, compared down to the path that is not: bundle, box, disk image, partition, file system,
//! archive, file.
//!
//! Each level is compared as bytes first; what differs is looked into, and where that can not be done (another format, damage),
//! the level above has the verdict. Nothing is held in memory but tables; compressed streams are unpacked into nameless files.

mod archive;
mod bundle;
pub(in crate::build) mod bytes;
mod cache;
mod causes;
mod disk;
pub(in crate::build) mod ext4;
pub(in crate::build) mod qcow2;
pub(in crate::build) mod table;
#[cfg(test)]
mod tests;
mod unpack;
mod verdict;
pub(in crate::build) mod vmdk;

use std::io;
use std::path::Path;
use std::rc::Rc;

pub use bundle::bundles;
pub use verdict::{Difference, Report, What};

use self::bytes::{FileBytes, Shared, array, first_difference, read_vec};
use crate::base::codec::Codec;
use crate::base::digest::Digest;
use crate::build::BuildError;
use crate::store::Store;

/// Archives in disks in archives: no deeper than this.
const DEPTH: usize = 12;
/// What is read of something to tell what it is.
const HEAD: usize = 2048;

/// Compares two blobs of a store; nothing is found when they are the same. Unpacks into the store's own directory for that.
///
/// # Errors
/// Blobs that are not there or can not be read.
pub fn blobs(store: &Store, first: &Digest, second: &Digest) -> Result<Report, BuildError> {
    if first == second {
        return Ok(Report::default());
    }
    let open = |digest: &Digest| -> Result<Shared, BuildError> {
        let (file, path) = store.blob_file(digest)?.into_parts();
        Ok(Rc::new(FileBytes::new(file).map_err(|e| BuildError::io(&path, "read", e))?))
    };
    let (a, b) = (open(first)?, open(second)?);
    let scratch = store.path().join("tmp");
    compare(&a, &b, &scratch).map_err(|e| BuildError::io(&store.blob_path(first), "compare", e))
}

/// Compares two files: boxes, disk images, archives, anything else. Unpacks into `scratch`.
///
/// # Errors
/// Files that can not be read.
pub fn files(first: &Path, second: &Path, scratch: &Path) -> Result<Report, BuildError> {
    let open = |path: &Path| -> Result<Shared, BuildError> {
        let failed = |e| BuildError::io(path, "open", e);
        // Opening a FIFO would wait for somebody to write into it.
        if !fs_err::metadata(path).map_err(failed)?.is_file() {
            return Err(BuildError::bad(format!("`{}`", path.display()), "it is no regular file"));
        }
        let file = fs_err::File::open(path).map_err(failed)?.into_parts().0;
        Ok(Rc::new(FileBytes::new(file).map_err(failed)?))
    };
    let (a, b) = (open(first)?, open(second)?);
    compare(&a, &b, scratch).map_err(|e| BuildError::io(first, "compare", e))
}

/// The format of a file that [`files`] looks into: a disk image or an archive; nothing of any other.
pub fn format_of(path: &Path) -> Option<&'static str> {
    let head = || -> Option<Kind> {
        let file = fs_err::metadata(path).ok()?.is_file().then(|| fs_err::File::open(path).ok()).flatten()?;
        let bytes: Shared = Rc::new(FileBytes::new(file.into_parts().0).ok()?);
        kind_of(&bytes).ok()
    };
    head().filter(|kind| *kind != Kind::Other).map(Kind::word)
}

fn compare(a: &Shared, b: &Shared, scratch: &Path) -> io::Result<Report> {
    let mut walk = Walk { scratch, report: Report::default(), at: Vec::new(), depth: 0 };
    walk.pair(a, b)?;
    Ok(walk.report)
}

/// Compares two things in memory: a door for the fuzz targets.
#[cfg(fuzzing)]
pub(in crate::build) fn compared(a: &Shared, b: &Shared, scratch: &Path) -> io::Result<Report> {
    compare(a, b, scratch)
}

/// A comparison under way.
struct Walk<'a> {
    scratch: &'a Path,
    report: Report,
    at: Vec<String>,
    /// Things within things, here.
    depth: usize,
}

/// What became of a look inside.
enum Looked {
    /// What differs was told.
    Told,
    /// Everything inside is the same; how the outside differs.
    Same(String),
    /// There is nothing to look into; where one would think so, why.
    Opaque(Option<String>),
}

/// What something is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Packed(Codec),
    Tar,
    Qcow2,
    Vmdk,
    Disk,
    Ext4,
    Fat,
    Other,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Packed(Codec::Gzip) => "gzip",
            Self::Packed(Codec::Zstd) => "zstd",
            Self::Packed(_) => "xz",
            Self::Tar => "tar",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "VMDK",
            Self::Disk => "a disk",
            Self::Ext4 => "ext4",
            Self::Fat => "FAT",
            Self::Other => "unknown",
        }
    }
}

fn kind_of(bytes: &Shared) -> io::Result<Kind> {
    let len = usize::try_from(bytes.size()).unwrap_or(HEAD).min(HEAD);
    let head = read_vec(bytes.as_ref(), 0, len)?;
    let codec = Codec::sniff(&head);
    Ok(match head.as_slice() {
        _ if codec != Codec::Plain => Kind::Packed(codec),
        h if h.starts_with(qcow2::MAGIC) => Kind::Qcow2,
        h if h.starts_with(vmdk::MAGIC) => Kind::Vmdk,
        h if h.get(257..262) == Some(b"ustar") => Kind::Tar,
        h if array(h, 510) == Some([0x55, 0xaa])
            && (h.get(54..57) == Some(b"FAT") || h.get(82..85) == Some(b"FAT")) =>
        {
            Kind::Fat
        }
        h if table::is_table(h, bytes.size()) => Kind::Disk,
        h if ext4::is_ext4(h) => Kind::Ext4,
        _ => Kind::Other,
    })
}

impl Walk<'_> {
    /// Compares two things at the place that the walk is at.
    ///
    /// # Errors
    /// When they can not be read, not even as bytes.
    fn pair(&mut self, a: &Shared, b: &Shared) -> io::Result<()> {
        let Some(byte) = first_difference(a.as_ref(), b.as_ref())? else { return Ok(()) };
        let mark = self.report.mark();
        let deep = self.at.len();
        self.depth += 1;
        let looked = match self.report.is_full() || self.depth > DEPTH {
            true => Ok(Looked::Opaque(None)),
            false => self.look(a, b),
        };
        self.depth -= 1;
        self.at.truncate(deep);
        let opaque = match looked {
            Ok(Looked::Told) => return Ok(()),
            Ok(Looked::Same(how)) => {
                self.tell(What::Container { how, byte }, None);
                return Ok(());
            }
            Ok(Looked::Opaque(why)) => why,
            Err(e) => {
                // What a damaged thing seemed to say is worth nothing.
                self.report.reset(mark);
                Some(e.to_string())
            }
        };
        let cause = self.at.last().and_then(|path| causes::of_path(path));
        self.tell(What::Content { byte, first_size: a.size(), second_size: b.size(), opaque }, cause);
        Ok(())
    }

    fn look(&mut self, a: &Shared, b: &Shared) -> io::Result<Looked> {
        let (x, y) = (kind_of(a)?, kind_of(b)?);
        let mark = self.report.mark();
        let same = match (x, y) {
            (Kind::Packed(_), _) | (_, Kind::Packed(_)) => return self.unpacked((a, x), (b, y)),
            (Kind::Qcow2 | Kind::Vmdk, Kind::Qcow2 | Kind::Vmdk | Kind::Disk | Kind::Ext4)
            | (Kind::Disk | Kind::Ext4, Kind::Qcow2 | Kind::Vmdk) => return self.images((a, x), (b, y)),
            (Kind::Tar, Kind::Tar) => self.archives(a, b)?,
            (Kind::Disk, Kind::Disk) => self.tables(a, b)?,
            (Kind::Ext4, Kind::Ext4) => self.ext4(a, b)?,
            (Kind::Fat, Kind::Fat) => return Ok(Looked::Opaque(Some("FAT file systems are not".to_owned()))),
            (x, y) if x == y => return Ok(Looked::Opaque(None)),
            (x, y) => return Ok(Looked::Opaque(Some(format!("the first is {}, the second {}", x.word(), y.word())))),
        };
        Ok(if self.report.mark() == mark { Looked::Same(same) } else { Looked::Told })
    }

    /// At least one of the two is a compressed stream.
    fn unpacked(&mut self, (a, x): (&Shared, Kind), (b, y): (&Shared, Kind)) -> io::Result<Looked> {
        let (inner_a, inner_b) = (unpack::unpacked(a, self.scratch)?, unpack::unpacked(b, self.scratch)?);
        let mark = self.report.mark();
        self.pair(&inner_a, &inner_b)?;
        let told = self.report.mark() != mark;
        Ok(if told { Looked::Told } else { Looked::Same(unpack::how((a, x.word()), (b, y.word()))) })
    }

    /// Goes on at a place below.
    fn below(&mut self, name: &str, a: &Shared, b: &Shared) -> io::Result<()> {
        self.at.push(name.to_owned());
        let done = self.pair(a, b);
        self.at.pop();
        done
    }

    /// Tells of something at the place that the walk is at.
    fn tell(&mut self, what: What, cause: Option<&'static str>) {
        self.report.push(Difference { at: self.at.clone(), what, cause });
    }

    /// Tells of something below.
    fn tell_at(&mut self, name: &str, what: What, cause: Option<&'static str>) {
        self.at.push(name.to_owned());
        self.tell(what, cause);
        self.at.pop();
    }

    /// Tells of two values where they differ.
    fn property(&mut self, at: &str, name: &str, first: impl ToString, second: impl ToString) {
        let (first, second) = (first.to_string(), second.to_string());
        if first != second {
            let cause = if name == "mtime" { Some(causes::ONLY_MTIME) } else { causes::of_field(name) };
            self.tell_at(at, What::Property { name: name.to_owned(), first, second }, cause);
        }
    }
}
