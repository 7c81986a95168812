//! A disk's bytes as a guest sees them, whatever file they are in; files that are something else, by name.

use std::io;
use std::rc::Rc;

use crate::base::codec::Codec;
use crate::build::BuildError;
use crate::build::descent::bytes::{Shared, read_vec};
use crate::build::descent::qcow2::{MAGIC, Qcow2};
use crate::build::descent::{ext4, table};

/// What is read to tell what a file is.
const HEAD: usize = 2048;
/// Longest name of a backing file (QEMU, docs/interop/qcow2.txt).
const BACKING: usize = 1023;
/// What other files start with: offset, bytes, name.
const OTHERS: [(u64, &[u8], &str); 11] = [
    (0, b"KDMV", "a VMDK image"),
    (0, b"# Disk DescriptorFile", "the descriptor of a VMDK image"),
    (0, b"conectix", "a VHD image"),
    (0, b"vhdxfile", "a VHDX image"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI image"),
    (0, b"QED\0", "a QED image"),
    (0, b"BZh", "compressed by bzip2"),
    (0, b"PK\x03\x04", "a zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"hsqs", "a squashfs file system"),
    (0x8001, b"CD001", "an installation disc (ISO 9660)"),
];

/// Opens a qcow2 or raw image; `what` names it in messages.
///
/// # Errors
/// Files that are neither, overlays, encrypted and truncated images.
pub(super) fn open(file: &Shared, what: &str) -> Result<Shared, BuildError> {
    let bad = |e: io::Error| unreadable(what, &e);
    let head = head(file).map_err(bad)?;
    if head.starts_with(MAGIC) {
        refuse_overlay(file, &head, what)?;
        let image = Qcow2::open(file).map_err(bad)?;
        image.check_whole().map_err(|e| truncated(what, &e.to_string()))?;
        return Ok(Rc::new(image));
    }
    refuse_other(file, &head, what)?;
    if table::is_table(&head, u64::MAX) || ext4::is_ext4(&head) {
        return Ok(Rc::clone(file));
    }
    let message = format!("{what} is no disk: neither a qcow2 image nor a raw one with a partition table or ext4");
    Err(BuildError::user(message, "name a disk image of the distribution, one for QEMU or OpenStack"))
}

/// The start of a file or disk, by which it is known what it is.
pub(super) fn head(bytes: &Shared) -> io::Result<Vec<u8>> {
    read_vec(bytes.as_ref(), 0, usize::try_from(bytes.size()).unwrap_or(HEAD).min(HEAD))
}

/// What can not be read, and why.
pub(super) fn unreadable(what: &str, error: &io::Error) -> BuildError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(what, "it ends in the middle"),
        _ => BuildError::bad(what, format!("the disk can not be read: {error}")),
    }
}

/// What ends before it should.
pub(super) fn truncated(what: &str, why: &str) -> BuildError {
    BuildError::user(
        format!("{what} is truncated: {why}"),
        "compare its size and its sha256 with those its publisher names",
    )
}

fn refuse_overlay(file: &Shared, head: &[u8], what: &str) -> Result<(), BuildError> {
    let number = |at: usize, len: usize| {
        head.get(at..at + len).unwrap_or_default().iter().fold(0u64, |n, b| n << 8 | u64::from(*b))
    };
    let (backing, length, cipher) = (number(8, 8), number(16, 4), number(32, 4));
    if backing != 0 {
        let length = usize::try_from(length).unwrap_or(BACKING).min(BACKING);
        let name = read_vec(file.as_ref(), backing, length).unwrap_or_default();
        let name: String = String::from_utf8_lossy(&name).chars().filter(|c| !c.is_control()).collect();
        return Err(BuildError::user(
            format!("{what} is only what differs from another image, its backing file `{name}`"),
            "join the two: `qemu-img convert -O qcow2 IMAGE WHOLE.qcow2`, and lock that",
        ));
    }
    if cipher != 0 {
        let message = format!("{what} is an encrypted qcow2 image");
        return Err(BuildError::user(message, "lock one that is not encrypted"));
    }
    Ok(())
}

fn refuse_other(file: &Shared, head: &[u8], what: &str) -> Result<(), BuildError> {
    if Codec::sniff(head) != Codec::Plain {
        let message = format!("{what} is compressed as a whole");
        return Err(BuildError::user(message, "unpack it, and lock the disk image itself"));
    }
    let starts = |at: u64, bytes: &[u8]| read_vec(file.as_ref(), at, bytes.len()).is_ok_and(|b| b == bytes);
    match OTHERS.iter().find(|(at, bytes, _)| starts(*at, bytes)) {
        None => Ok(()),
        Some((_, _, kind)) => Err(BuildError::user(
            format!("{what} is {kind}; a base is a qcow2 or raw image of a disk"),
            "take the distribution's qcow2 image, or make one: `qemu-img convert -O qcow2 IMAGE DISK.qcow2`",
        )),
    }
}
