//! What a root tree's archive holds, as far as its disk must know: the kernel, its drivers, how much room it needs, and which
//! bytes of it go to the file system. Only headers are read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};

use fs_err::File;
use tar::EntryType;

use super::spec::{FSTAB, GRUB_CFG};
use crate::base::shown;
use crate::base::tarfmt::padded;
use crate::base::untar::Untar;
use crate::build::BuildError;
use crate::model::debian::version;

/// Members a tree may have.
const MEMBERS: u64 = 4_000_000;
/// Blocks of the file system.
pub const BLOCK: u64 = 4096;
/// Longest list of built-in modules.
const BUILTIN: u64 = 4 << 20;
/// Where kernels stand.
const KERNELS: &str = "boot/vmlinuz-";
/// What dracut's kernels for emergencies have for a version.
const RESCUE: &str = "0-rescue-";
/// What ramdisks are called around their kernel's version: Debian's way, dracut's, openSUSE's.
const RAMDISKS: [(&str, &str); 3] = [("initrd.img-", ""), ("initramfs-", ".img"), ("initrd-", "")];
/// Where modules stand, behind `lib/` or `usr/lib/`.
const MODULES: &str = "lib/modules/";
/// Where GRUB's own modules stand.
const GRUB: &str = "usr/lib/grub/";

/// A part of the archive: offset and length in bytes.
pub type Part = (u64, u64);

/// What an archive holds.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// What of the archive goes to the file system: all members but those that are replaced, without its end.
    pub parts: Vec<Part>,
    /// Members.
    pub members: u64,
    /// Bytes that data and directories fill, in whole blocks.
    pub data: u64,
    /// The newest kernel's version: `6.12.57-cloud-amd64`.
    pub kernel: String,
    /// Its initial ramdisk.
    pub initrd: Option<Part>,
    /// What the ramdisk is called in `/boot`.
    pub initrd_name: String,
    /// Last parts of the paths of its modules.
    pub modules: BTreeSet<String>,
    /// What is built into it: `modules.builtin`.
    pub builtin: String,
    /// GRUB's files by path below `/usr/lib/grub/`.
    pub grub: BTreeMap<String, Part>,
    /// Directories above the replaced files that are not there, outermost first.
    pub missing_dirs: Vec<&'static str>,
}

impl Contents {
    /// The kernel's absolute path.
    pub fn kernel_path(&self) -> String {
        format!("/{KERNELS}{}", self.kernel)
    }

    /// The initial ramdisk's absolute path.
    pub fn initrd_path(&self) -> Option<String> {
        self.initrd.map(|_| format!("/boot/{}", self.initrd_name))
    }
}

/// Looks through the archive of a root tree; `what` names it in messages.
///
/// # Errors
/// An archive that can not be read, or a tree without a kernel.
pub fn scan(archive: &mut File, what: &str) -> Result<Contents, BuildError> {
    let mut seen = Seen::default();
    let bad = |e: std::io::Error| BuildError::bad(what, format!("its archive can not be read: {e}"));
    let length = archive.metadata().map_err(bad)?.len();
    let mut reader = Untar::new(&mut *archive);
    let mut end = 0;
    for entry in reader.entries_with_seek().map_err(bad)? {
        let entry = entry.map_err(bad)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./").trim_matches('/').to_owned();
        let data = (entry.raw_file_position(), entry.size());
        let kind = entry.header().entry_type();
        let next = data.0 + padded(if kind.is_file() { data.1 } else { 0 }).unwrap_or(u64::MAX / 2);
        if next > length {
            return Err(BuildError::bad(what, format!("its archive ends in the middle of `{}`", shown::name(&path))));
        }
        if kind == EntryType::GNUSparse {
            return Err(BuildError::bad(what, format!("`{}` is a sparse member", shown::name(&path))));
        }
        seen.member(path, kind, data, (end, next));
        end = next;
        if seen.found.members > MEMBERS {
            return Err(BuildError::bad(what, format!("it has more than {MEMBERS} files")));
        }
    }
    let (mut found, builtin) = seen.finish(what)?;
    if let Some(part) = builtin {
        let text = read_part(archive, part, BUILTIN).map_err(bad)?;
        found.builtin = String::from_utf8_lossy(&text).into_owned();
    }
    Ok(found)
}

/// The bytes of a part, at most `limit`.
///
/// # Errors
/// I/O errors, and a part that is longer.
pub fn read_part(archive: &mut File, (at, size): Part, limit: u64) -> std::io::Result<Vec<u8>> {
    if size > limit {
        return Err(std::io::Error::other(format!("{size} bytes where at most {limit} can be")));
    }
    archive.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    archive.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// What was seen so far; kernels' things by version.
#[derive(Default)]
struct Seen {
    found: Contents,
    kernels: BTreeSet<String>,
    /// With the name of the file.
    initrds: BTreeMap<String, (String, Part)>,
    builtins: BTreeMap<String, Part>,
    modules: BTreeMap<String, BTreeSet<String>>,
    dirs: BTreeSet<String>,
}

impl Seen {
    /// Takes note of a member whose headers and data stand at `start..end`, the data at `data`.
    fn member(&mut self, path: String, kind: EntryType, data: Part, (start, end): (u64, u64)) {
        self.found.members += 1;
        if path == FSTAB || path == GRUB_CFG {
            return;
        }
        match self.found.parts.last_mut().filter(|(at, length)| at + length == start) {
            Some((_, length)) => *length += end - start,
            None => self.found.parts.push((start, end - start)),
        }
        if kind.is_file() {
            self.found.data += data.1.div_ceil(BLOCK) * BLOCK;
            self.file(&path, data);
        } else {
            // Long targets of links have a block of their own; a directory has at least one.
            self.found.data += BLOCK;
        }
        if kind.is_dir() {
            self.dirs.insert(path);
        }
    }

    fn file(&mut self, path: &str, data: Part) {
        if let Some(version) = path.strip_prefix(KERNELS).filter(|v| !v.starts_with(RESCUE)) {
            self.kernels.insert(version.to_owned());
        } else if let Some((name, version)) = path.strip_prefix("boot/").and_then(ramdisk) {
            self.initrds.insert(version.to_owned(), (name.to_owned(), data));
        } else if let Some(name) = path.strip_prefix(GRUB) {
            self.found.grub.insert(name.to_owned(), data);
        } else if let Some((version, rest)) =
            path.strip_prefix("usr/").unwrap_or(path).strip_prefix(MODULES).and_then(|p| p.split_once('/'))
        {
            let name = rest.rsplit('/').next().unwrap_or_default();
            if rest == "modules.builtin" {
                self.builtins.insert(version.to_owned(), data);
            } else if name.contains(".ko") {
                self.modules.entry(version.to_owned()).or_default().insert(name.to_owned());
            }
        }
    }

    /// Chooses the kernel; the second is where its list of built-in modules stands.
    fn finish(mut self, what: &str) -> Result<(Contents, Option<Part>), BuildError> {
        let Some(kernel) = self.kernels.iter().max_by(|a, b| version::compare(a, b)).cloned() else {
            let message = format!("{what}: no kernel stands in its /boot (no file `vmlinuz-VERSION`)");
            return Err(BuildError::user(message, "its packages need a kernel: linux-image-cloud-amd64, for one"));
        };
        if let Some((name, part)) = self.initrds.remove(&kernel) {
            (self.found.initrd, self.found.initrd_name) = (Some(part), name);
        }
        self.found.modules = self.modules.remove(&kernel).unwrap_or_default();
        self.found.missing_dirs = ["boot/grub", "etc"].into_iter().filter(|d| !self.dirs.contains(*d)).collect();
        let builtin = self.builtins.remove(&kernel);
        self.found.kernel = kernel;
        Ok((self.found, builtin))
    }
}

/// A ramdisk's name in `/boot`, and the version of its kernel.
fn ramdisk(name: &str) -> Option<(&str, &str)> {
    let version = |(start, end): &(&str, &str)| name.strip_prefix(start)?.strip_suffix(end).filter(|v| !v.is_empty());
    RAMDISKS.iter().find_map(version).map(|v| (name, v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tarball::{Kind, Member, TarWriter};

    /// An archive of these files (directories where the content is `None`).
    fn archive(members: &[(&str, Option<&str>)]) -> File {
        let mut tar = TarWriter::new(Vec::new());
        for (path, content) in members {
            let kind = content.map_or(Kind::Dir, |c| Kind::File(c.len() as u64));
            let member = Member { path, kind, mode: 0o755, uid: 0, gid: 0, mtime: 7 };
            tar.put(&member, &mut content.unwrap_or_default().as_bytes()).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), tar.finish().unwrap()).unwrap();
        File::open(file.path()).unwrap()
    }

    #[test]
    fn the_newest_kernel_and_what_belongs_to_it() {
        let long = format!("usr/share/{}", "ü".repeat(90));
        let mut file = archive(&[
            ("boot", None),
            ("boot/grub", None),
            ("boot/grub/grub.cfg", Some("old")),
            ("boot/initrd.img-6.10.1", Some("ramdisk")),
            ("boot/vmlinuz-6.10.1", Some("new")),
            ("boot/vmlinuz-6.9.2", Some("old")),
            ("etc/fstab", Some("old")),
            ("lib/modules/6.9.2/kernel/old.ko", Some("")),
            ("usr/lib/grub/i386-pc/boot.img", Some("boot")),
            ("usr/lib/modules/6.10.1/kernel/drivers/virtio_blk.ko.xz", Some("x")),
            ("usr/lib/modules/6.10.1/modules.builtin", Some("kernel/fs/ext4/ext4.ko\n")),
            (&long, Some("y")),
        ]);
        let found = scan(&mut file, "a tree").unwrap();
        assert_eq!((found.kernel.as_str(), found.members), ("6.10.1", 12));
        assert_eq!(found.initrd_path().unwrap(), "/boot/initrd.img-6.10.1");
        assert_eq!(read_part(&mut file, found.initrd.unwrap(), 99).unwrap(), b"ramdisk");
        assert_eq!(read_part(&mut file, found.grub["i386-pc/boot.img"], 99).unwrap(), b"boot");
        assert_eq!(found.modules.iter().collect::<Vec<_>>(), ["virtio_blk.ko.xz"]);
        assert_eq!((found.builtin.as_str(), found.missing_dirs), ("kernel/fs/ext4/ext4.ko\n", vec!["etc"]));
        // boot and boot/grub; ramdisk and kernels; the rest, extended header included.
        assert_eq!(found.parts, [(0, 1024), (2048, 3072), (6144, 4096 + 1536)]);
        assert_eq!(found.data, 10 * BLOCK - BLOCK);
    }

    #[test]
    fn a_tree_without_a_kernel_is_refused() {
        let error = scan(&mut archive(&[("boot", None)]), "box a").unwrap_err();
        assert_eq!(error.to_string(), "box a: no kernel stands in its /boot (no file `vmlinuz-VERSION`)");
        let mut cut = archive(&[("a", Some("x"))]);
        cut = {
            let mut bytes = Vec::new();
            cut.read_to_end(&mut bytes).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            fs_err::write(file.path(), &bytes[..700]).unwrap();
            File::open(file.path()).unwrap()
        };
        let error = scan(&mut cut, "box a").unwrap_err().to_string();
        assert_eq!(error, "box a: its archive ends in the middle of `a`");
        assert!(read_part(&mut cut, (0, 100), 99).is_err() && read_part(&mut cut, (0, 9999), 9999).is_err());
    }
}
