//! Every path of a file system (Documentation/filesystems/ext4, directory.rst). Hash trees of directories are made so that
//! they read as plain lists, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::super::bytes::{damaged, le16, le32, read_vec};
use super::superblock::Fs;

/// The root directory's inode.
pub const ROOT: u32 = 2;
/// Paths a file system may have to be looked into.
const PATHS: usize = 4_000_000;
/// Bytes of one directory.
const DIRECTORY: u64 = 1 << 30;
/// The longest path.
const PATH: usize = 64 * 1024;

/// Each path from the root, `/` itself included, and its inode.
///
/// # Errors
/// Damaged directories, and more than is looked into.
pub fn paths(fs: &Fs) -> io::Result<BTreeMap<Vec<u8>, u32>> {
    let mut found = BTreeMap::from([(b"/".to_vec(), ROOT)]);
    let mut seen = BTreeSet::from([ROOT]);
    let mut open = vec![(Vec::new(), ROOT)];
    while let Some((path, number)) = open.pop() {
        for (name, inode) in entries(fs, number)? {
            let below = [path.as_slice(), b"/", name.as_slice()].concat();
            if found.len() >= PATHS || below.len() > PATH {
                return Err(damaged("too many or too long paths"));
            }
            if fs.inode(inode)?.is_dir() {
                if !seen.insert(inode) {
                    return Err(damaged(format!("the directory {inode} has two names")));
                }
                open.push((below.clone(), inode));
            }
            found.insert(below, inode);
        }
    }
    Ok(found)
}

/// Names and inodes of a directory, without `.` and `..`.
///
/// # Errors
/// Damaged ones.
pub fn entries(fs: &Fs, number: u32) -> io::Result<Vec<(Vec<u8>, u32)>> {
    let content = fs.content(&fs.inode(number)?)?;
    if content.size() > DIRECTORY || content.size() % fs.block != 0 {
        return Err(damaged(format!("the directory {number} has a size that can not be")));
    }
    let mut found = Vec::new();
    for block in 0..content.size() / fs.block {
        let all = read_vec(content.as_ref(), block * fs.block, fs.block as usize)?;
        let mut at = 0;
        while at + 8 <= all.len() {
            let (inode, len) = (le32(&all, at), length(le16(&all, at + 4), fs.block));
            let name_len = usize::from(all.get(at + 6).copied().unwrap_or(0));
            let name = all.get(at + 8..at + 8 + name_len).unwrap_or_default();
            if len < 8 || at + len > all.len() || name.len() != name_len || 8 + name_len > len {
                return Err(damaged(format!("the directory {number} is damaged")));
            }
            if inode != 0 && name != b"." && name != b".." {
                if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'/')) {
                    return Err(damaged(format!("the directory {number} has a name that can not be")));
                }
                found.push((name.to_vec(), inode));
            }
            at += len;
        }
    }
    Ok(found)
}

/// The length of an entry; blocks of 64 KiB need a way to say their own size in 16 bits.
fn length(stated: u16, block: u64) -> usize {
    match stated {
        0 | 65535 if block == 65536 => 65536,
        n => usize::from(n),
    }
}
