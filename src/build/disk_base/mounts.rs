//! Which partition is mounted where: the root file system, and what its own `/etc/fstab` puts below it (fstab(5)).

use std::io::{self, Read};

use super::partitions::{Part, Parts};
use crate::build::BuildError;
use crate::build::descent::bytes::Stream;
use crate::build::descent::ext4::superblock::Fs;
use crate::build::descent::ext4::walk::{ROOT, entries};
use crate::model::guest_path::GuestPath;

/// Longest `/etc/fstab`.
const FSTAB: u64 = 1 << 20;
/// Kinds of file systems that are on disks and hold files.
const ON_DISK: [&str; 9] = ["auto", "btrfs", "ext2", "ext3", "ext4", "f2fs", "vfat", "xfs", "erofs"];

/// A file system and where it is mounted.
pub(super) struct Mount {
    /// Where.
    pub at: GuestPath,
    /// The file system.
    pub fs: Fs,
}

/// The partition with the root file system: the one whose type says so, or the largest that has an `/etc/passwd`.
///
/// # Errors
/// A disk with no such partition: all it has are named.
pub(super) fn root<'a>(parts: &'a Parts, what: &str) -> Result<&'a Part, BuildError> {
    let mut fitting = Vec::new();
    for part in parts.all.iter().filter(|p| p.holds == "ext4") {
        let Some(fs) = part.ext4(what)? else { continue };
        if find(&fs, &["etc", "passwd"]).map_err(|e| damaged(part, what, &e))?.is_some() {
            fitting.push(part);
        }
    }
    // Of two of one size the first, whatever the order of the table.
    let best = fitting.into_iter().max_by_key(|p| (p.is_root(), p.bytes.size(), std::cmp::Reverse(p.number)));
    best.ok_or_else(|| {
        let message = format!("{what} has no root file system that is ext4; its partitions: {}", parts.list());
        BuildError::user(
            message,
            "take an image of the distribution whose root is plain ext4, neither encrypted nor on LVM, or make one",
        )
    })
}

/// The file systems that make the machine's tree, the root first, each before those below it.
///
/// # Errors
/// File systems the machine needs that are not on the disk, or are no ext4.
pub(super) fn all(parts: &Parts, root: &Part, what: &str) -> Result<Vec<Mount>, BuildError> {
    let lost = || BuildError::Internal(format!("{what}: its root is no ext4"));
    let fs = root.ext4(what)?.ok_or_else(lost)?;
    let text = fstab(&fs).map_err(|e| damaged(root, what, &e))?;
    let mut found: Vec<Mount> = Vec::new();
    for line in text.lines().filter_map(Line::read) {
        let at = GuestPath::parse(line.at)?;
        let Some(part) = line.part(parts, &at, what)?.filter(|p| p.number != root.number) else { continue };
        if found.iter().all(|m| m.at != at) {
            found.push(Mount { at, fs: line.ext4(part, what)? });
        }
    }
    let boot = GuestPath::parse("boot")?;
    if found.iter().all(|m| m.at != boot) {
        // Where systemd finds /boot by its type, no line says it.
        for part in parts.all.iter().filter(|p| p.is_boot() && p.number != root.number).take(1) {
            found.extend(part.ext4(what)?.map(|fs| Mount { at: boot.clone(), fs }));
        }
    }
    found.sort_by(|a, b| a.at.cmp(&b.at));
    found.insert(0, Mount { at: GuestPath::root(), fs });
    Ok(found)
}

/// A line of `/etc/fstab`.
struct Line<'a> {
    device: &'a str,
    at: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Line<'a> {
    /// A line that mounts a file system on a disk below the root.
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let line = Self { device, at, kind, options: fields.next().unwrap_or_default() };
        let bind = line.options.split(',').any(|o| matches!(o, "bind" | "rbind"));
        let counts = !device.starts_with('#') && at.starts_with('/') && at != "/";
        (counts && !bind && kind.split(',').any(|k| ON_DISK.contains(&k))).then_some(line)
    }

    /// Whether a machine starts without it.
    fn is_optional(&self) -> bool {
        self.options.split(',').any(|o| matches!(o, "noauto" | "nofail"))
    }

    /// The partition it mounts; nothing where the machine does without.
    fn part<'p>(&self, parts: &'p Parts, at: &GuestPath, what: &str) -> Result<Option<&'p Part>, BuildError> {
        // An EFI system partition holds a boot loader; the box has its own.
        if matches!(at.as_str(), "boot/efi" | "efi") {
            return Ok(None);
        }
        match parts.all.iter().find(|p| self.names(p, what)) {
            Some(part) => Ok(Some(part)),
            None if self.is_optional() => Ok(None),
            // FAT's labels and numbers are not read: it is a partition for firmware wherever it is mounted.
            None if self.kind == "vfat" && at.as_str() != "boot" => Ok(None),
            None => Err(self.refuse(what, &format!("which is not on the disk; it has: {}", parts.list()))),
        }
    }

    /// Whether the line means this partition.
    fn names(&self, part: &Part, what: &str) -> bool {
        let by = |tag: &str, dir: &str| {
            let tagged = self.device.strip_prefix(tag).map(|v| v.trim_matches('"'));
            tagged.or_else(|| self.device.strip_prefix("/dev/disk/").and_then(|d| d.strip_prefix(dir)))
        };
        let fs = || part.ext4(what).ok().flatten();
        if let Some(uuid) = by("UUID=", "by-uuid/") {
            return fs().is_some_and(|fs| fs.uuid().eq_ignore_ascii_case(uuid));
        }
        if let Some(label) = by("LABEL=", "by-label/") {
            return fs().is_some_and(|fs| fs.label() == label);
        }
        if let Some(guid) = by("PARTUUID=", "by-partuuid/") {
            return !part.guid.is_empty() && part.guid.eq_ignore_ascii_case(guid);
        }
        if let Some(name) = by("PARTLABEL=", "by-partlabel/") {
            return !part.name.is_empty() && part.name == name;
        }
        number(self.device) == Some(part.number)
    }

    fn ext4(&self, part: &Part, what: &str) -> Result<Fs, BuildError> {
        part.ext4(what)?.ok_or_else(|| self.refuse(what, &format!("which is {}, and only ext4 is read", part.holds)))
    }

    fn refuse(&self, what: &str, why: &str) -> BuildError {
        let Self { device, at, .. } = self;
        BuildError::user(
            format!("{what}: its /etc/fstab mounts `{device}` at `{at}`, {why}"),
            "take an image of the distribution that has all in one ext4 file system, or with an ext4 `/boot`",
        )
    }
}

/// The number of a partition of the first disk: `/dev/sda2`, `/dev/vda2`, `/dev/nvme0n1p2`.
fn number(device: &str) -> Option<u32> {
    let name = device.strip_prefix("/dev/")?;
    let disks = ["sda", "vda", "xvda", "hda", "nvme0n1p", "mmcblk0p"];
    disks.into_iter().find_map(|disk| name.strip_prefix(disk)).and_then(|n| n.parse().ok())
}

/// The text of `/etc/fstab`; empty where there is none.
fn fstab(fs: &Fs) -> io::Result<String> {
    let Some(number) = find(fs, &["etc", "fstab"])? else { return Ok(String::new()) };
    let inode = fs.inode(number)?;
    if !inode.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    Stream::new(&fs.content(&inode)?).take(FSTAB).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The inode of a path whose parts above the last are directories; links are not followed.
fn find(fs: &Fs, path: &[&str]) -> io::Result<Option<u32>> {
    let mut at = ROOT;
    for name in path {
        if !fs.inode(at)?.is_dir() {
            return Ok(None);
        }
        match entries(fs, at)?.into_iter().find(|(n, _)| n == name.as_bytes()) {
            Some((_, inode)) => at = inode,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn damaged(part: &Part, what: &str, error: &io::Error) -> BuildError {
    BuildError::bad(what, format!("the file system of partition {} can not be read: {error}", part.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_mount_disks_are_told_from_others() {
        let read = |l| Line::read(l).map(|l| (l.device, l.at, l.is_optional()));
        assert_eq!(read("LABEL=BOOT\t/boot\text4\tdefaults,nofail 0 2"), Some(("LABEL=BOOT", "/boot", true)));
        assert_eq!(read("/dev/sda3 /home ext3,ext4"), Some(("/dev/sda3", "/home", false)));
        for other in [
            "# /dev/sda1 /boot ext4",
            "",
            "UUID=x / ext4 defaults 0 1",
            "UUID=x none swap sw 0 0",
            "tmpfs /tmp tmpfs x",
            "/a /b ext4 bind",
            "x",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
        let numbers = ["/dev/sda2", "/dev/nvme0n1p15", "/dev/vda", "/dev/sdb1", "/dev/mapper/x-1"].map(number);
        assert_eq!(numbers, [Some(2), Some(15), None, None, None]);
    }
}
