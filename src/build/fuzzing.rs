//! Doors for the fuzz targets (`tests/fuzz`) into parsers of this layer that nobody else needs. Built with `--cfg fuzzing` only.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::descent;
use super::descent::bytes::{Bytes, Shared, read_vec};
use super::descent::ext4::superblock::Fs;
use super::descent::ext4::{walk, xattr};
use super::descent::qcow2::Qcow2;
use super::descent::vmdk::Vmdk;
use crate::base::digest::Digest;
use crate::model::guest_path::GuestPath;
use crate::model::lock::{LockedPackage, LockedWheel};
use crate::model::platform::Platform;

/// Most bytes that are read of one thing: a small image may say that it is large.
const MOST: u64 = 1 << 20;

/// Bytes in memory.
struct Memory(Vec<u8>);

impl Bytes for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.0.get(at..at.checked_add(buffer.len())?));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn shared(data: &[u8]) -> Shared {
    Rc::new(Memory(data.to_vec()))
}

/// Reads what there is from the start to [`MOST`], over holes, as a comparison does.
fn read_through(bytes: &dyn Bytes) {
    let (mut at, mut steps) = (0, 0);
    while at < bytes.size() && steps < 64 {
        steps += 1;
        let Ok(hole) = bytes.hole(at) else { return };
        let len = bytes.size().saturating_sub(at).min(MOST / 16);
        let step = if hole > 0 { hole } else { len };
        if hole == 0 && read_vec(bytes, at, len as usize).is_err() {
            return;
        }
        at = at.saturating_add(step);
    }
}

/// A package of Debian that calls itself hello 2.10-3 for amd64; contents go to `scratch`.
pub fn deb(data: &[u8], scratch: &Path) {
    let expect = LockedPackage {
        debian: "d".to_owned(),
        name: "hello".to_owned(),
        version: "2.10-3".to_owned(),
        architecture: "amd64".to_owned(),
        suite: "bookworm".to_owned(),
        archive: "https://archive.example/debian".to_owned(),
        path: "pool/main/h/hello/hello_2.10-3_amd64.deb".to_owned(),
        digest: Digest::of(data),
        size: data.len() as u64,
        sets: Vec::new(),
    };
    let _ = super::debian::unpack(&mut &data[..], &expect, scratch);
}

/// A wheel called `foo_bar-1.0-py3-none-any.whl`, for Python 3.11.
pub fn wheel(data: &[u8], scratch: &Path) {
    let path = scratch.join("foo_bar-1.0-py3-none-any.whl");
    if fs_err::write(&path, data).is_err() {
        return;
    }
    let locked = LockedWheel {
        file: "foo_bar-1.0-py3-none-any.whl".to_owned(),
        project: "foo-bar".to_owned(),
        version: "1.0".to_owned(),
        digest: Digest::of(data),
        size: data.len() as u64,
        sets: Vec::new(),
    };
    let Ok(to) = GuestPath::parse("/usr/lib/python3/dist-packages") else { return };
    let _ = super::wheel::wheel_tree(&[(locked, path)], &to, "3.11", Platform::LinuxAmd64, scratch);
}

/// A file system: every path, and what stands there.
pub fn ext4(data: &[u8]) {
    let Ok(fs) = Fs::open(&shared(data)) else { return };
    let _ = (fs.fields(), fs.uuid(), fs.label());
    let Ok(paths) = walk::paths(&fs) else { return };
    for number in paths.values().take(256) {
        let Ok(inode) = fs.inode(*number) else { continue };
        let _ = (inode.kind(), inode.mtime(), inode.device());
        let _ = xattr::read(&fs, &inode);
        let _ = fs.target(&inode);
        if let Ok(content) = fs.content(&inode) {
            read_through(content.as_ref());
        }
    }
}

/// A disk image of QEMU.
pub fn qcow2(data: &[u8]) {
    let Ok(image) = Qcow2::open(&shared(data)) else { return };
    let _ = image.check_whole();
    read_through(&image);
}

/// A disk image of VMware.
pub fn vmdk(data: &[u8]) {
    let Ok(image) = Vmdk::open(&shared(data)) else { return };
    let _ = (image.descriptor(), image.layout());
    read_through(&image);
}

/// containerd's metadata; what was read comes back when it is written and read again.
pub fn bolt(data: &[u8]) {
    use super::node_image::bolt::{read, write};
    let Ok(root) = read(data) else { return };
    if let Ok(written) = write(&root) {
        assert!(read(&written).is_ok_and(|again| again == root), "it is not what was written");
    }
}

/// Two things that are compared, down to the path: the first two bytes say how long the first one is.
pub fn compared(data: &[u8], scratch: &Path) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let _ = descent::compared(&shared(first), &shared(second), scratch);
}
