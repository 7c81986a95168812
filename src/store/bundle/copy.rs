//! Copies a range of one file into another, in the way that suits the file systems.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::BundleError;
use crate::base::digest::Digest;

/// What one call into the kernel copies at most: short enough for a progress bar to move.
const STEP: u64 = 8 << 20;

/// What `copy_file_range` is good for between two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// It shares extents: no bytes move and no room is taken.
    Shares,
    /// It spares the network both ways.
    OnServer,
    /// Nothing: it moves the bytes through a pipe in small steps, while reading and writing in larger ones lets one thread
    /// read as another one writes (writers of one file take turns). Measured on ext4: a third faster.
    Plain,
}

/// What can be had between an open file and the place `other`.
pub(super) fn copying(file: &File, other: &Path) -> Copying {
    use std::os::unix::fs::MetadataExt;
    const BTRFS: u64 = 0x9123_683E;
    const XFS: u64 = 0x5846_5342;
    const BCACHEFS: u64 = 0xCA45_1A4E;
    const NFS: u64 = 0x6969;
    const SMB2: u64 = 0xFE53_4D42;
    let same = matches!((file.metadata(), fs_err::metadata(other)), (Ok(a), Ok(b)) if a.dev() == b.dev());
    match rustix::fs::fstatfs(file).map(|s| s.f_type as u64 & 0xFFFF_FFFF) {
        Ok(BTRFS | XFS | BCACHEFS) if same => Copying::Shares,
        Ok(NFS | SMB2) if same => Copying::OnServer,
        _ => Copying::Plain,
    }
}

/// Which side of a copy failed.
pub(super) enum CopyError {
    /// The source.
    Read(io::Error),
    /// The target.
    Write(io::Error),
}

impl CopyError {
    pub(super) fn into_error(self, blob: &Digest, target: &Path) -> BundleError {
        match self {
            Self::Read(e) => BundleError::io(Path::new(&blob.to_string()), "read", e),
            Self::Write(e) => BundleError::io(target, "write", e),
        }
    }
}

/// Copies some of `len` bytes between two places (file, offset); says how many. 0 is the end of the source.
pub(super) fn some(
    how: Copying,
    from: (&File, u64),
    to: (&File, u64),
    len: u64,
    buffer: &mut [u8],
) -> Result<u64, CopyError> {
    match how {
        Copying::Plain => by_hand(from, to, len, buffer),
        Copying::Shares | Copying::OnServer => match in_kernel(from, to, len)? {
            // Some file systems answer 0 for what they do not do; the end of the file is 0 by hand, too.
            None | Some(0) => by_hand(from, to, len, buffer),
            Some(n) => Ok(n),
        },
    }
}

/// `None` when the kernel does not do it between these two.
fn in_kernel(from: (&File, u64), to: (&File, u64), len: u64) -> Result<Option<u64>, CopyError> {
    use rustix::io::Errno;
    let (mut from_at, mut to_at) = (from.1, to.1);
    loop {
        match rustix::fs::copy_file_range(from.0, Some(&mut from_at), to.0, Some(&mut to_at), len.min(STEP) as usize) {
            Ok(n) => return Ok(Some(n as u64)),
            Err(Errno::INTR) => {}
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(CopyError::Write(e.into())),
            // Two file systems, an old kernel, an odd mount; or an I/O error, and by hand we learn on which side.
            Err(_) => return Ok(None),
        }
    }
}

fn by_hand(from: (&File, u64), to: (&File, u64), len: u64, buffer: &mut [u8]) -> Result<u64, CopyError> {
    let want = len.min(buffer.len() as u64) as usize;
    let n = loop {
        match from.0.read_at(&mut buffer[..want], from.1) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => break other.map_err(CopyError::Read)?,
        }
    };
    to.0.write_all_at(&buffer[..n], to.1).map_err(CopyError::Write)?;
    Ok(n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_way_copies_the_same_bytes() {
        let (mut from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(b"0123456789").unwrap();
        for how in [Copying::Plain, Copying::Shares, Copying::OnServer] {
            to.set_len(0).unwrap();
            let n = some(how, (&from, 2), (&to, 3), 5, &mut [0; 16]).ok().unwrap();
            let mut found = [9; 8];
            to.read_exact_at(&mut found[..3 + n as usize], 0).unwrap();
            assert_eq!(&found[..3 + n as usize], &b"\0\0\x0023456"[..3 + n as usize]);
            assert!(n > 0 && some(how, (&from, 10), (&to, 3), 5, &mut [0; 16]).ok() == Some(0));
        }
    }

    #[test]
    fn what_the_kernel_does_not_copy_is_copied_by_hand() {
        // procfs answers 0 or an error to copy_file_range.
        let from = fs_err::File::open("/proc/version").unwrap().into_parts().0;
        let to = tempfile::tempfile().unwrap();
        assert!(some(Copying::Shares, (&from, 0), (&to, 0), 5, &mut [0; 16]).ok() == Some(5));
    }
}
