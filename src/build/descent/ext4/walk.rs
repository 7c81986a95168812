//! Every path of a file system (Documentation/filesystems/ext4, directory.rst). Hash trees of directories are made so that
//! they read as plain lists, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::super::bytes::{damaged, le16, le32, read_vec};
use super::superblock::Fs;

/// The root directory's inode.
pub const ROOT: u32 = 2;
/// Paths a file system may have to be looked into.
const PATHS: usize = 2_000_000;
/// Bytes of all of them: all paths of two file systems are in memory.
const PATH_BYTES: usize = 128 << 20;
/// Bytes of one directory.
const DIRECTORY: u64 = 128 << 20;
/// The longest path, in bytes (Linux, `PATH_MAX`).
const PATH: usize = 4096;

/// Each path from the root, `/` itself included, and its inode.
///
/// # Errors
/// Damaged directories, and more than is looked into.
pub fn paths(fs: &Fs) -> io::Result<BTreeMap<Vec<u8>, u32>> {
    paths_of(fs, PATH_BYTES)
}

/// As [`paths`], of at most `most` bytes.
fn paths_of(fs: &Fs, most: usize) -> io::Result<BTreeMap<Vec<u8>, u32>> {
    let mut found = BTreeMap::from([(b"/".to_vec(), ROOT)]);
    let mut seen = BTreeSet::from([ROOT]);
    let mut open = vec![(Vec::new(), ROOT)];
    let mut bytes = 0;
    while let Some((path, number)) = open.pop() {
        for (name, inode) in entries(fs, number)? {
            let len = path.len() + 1 + name.len();
            bytes += len;
            if len > PATH {
                return Err(damaged(format!("a path of more than {PATH} bytes")));
            }
            if bytes > most || found.len() >= PATHS {
                return Err(damaged(format!("more than {PATHS} paths, or {} MiB of them", most >> 20)));
            }
            let below = [path.as_slice(), b"/", name.as_slice()].concat();
            if fs.inode(inode)?.is_dir() {
                if !seen.insert(inode) {
                    return Err(damaged(format!("the directory {inode} has two names")));
                }
                open.push((below.clone(), inode));
            }
            if found.insert(below, inode).is_some() {
                return Err(damaged(format!("the directory {number} has a name twice")));
            }
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
                if found.len() >= PATHS {
                    return Err(damaged(format!("the directory {number} has more than {PATHS} names")));
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::build::descent::bytes::FileBytes;
    use crate::build::descent::tests::filesystems::{Bench, SEED};

    fn open(path: &std::path::Path) -> Fs {
        let file = fs_err::File::open(path).unwrap().into_parts().0;
        Fs::open(&(Rc::new(FileBytes::new(file).unwrap()) as _)).unwrap()
    }

    #[test]
    fn paths_that_are_too_long_or_too_much_end_the_walk() {
        let Some(bench) = Bench::new() else { return };
        let base = bench.make("base", SEED);
        let fs = open(&base);
        let all = paths(&fs).unwrap();
        let bytes: usize = all.keys().map(Vec::len).sum::<usize>() - 1;
        assert_eq!(paths_of(&fs, bytes).unwrap(), all);
        let error = paths_of(&fs, bytes - 1).unwrap_err().to_string();
        assert!(error.starts_with("more than"), "{error}");

        let name = "n".repeat(255);
        let below = |levels: usize| format!("mkdir {name}\ncd {name}\n").repeat(levels);
        let fits = open(&bench.changed(&base, &below(16)));
        assert_eq!(paths(&fits).unwrap().keys().map(Vec::len).max(), Some(4096));
        let deep = open(&bench.changed(&base, &below(17)));
        let error = paths(&deep).unwrap_err().to_string();
        assert_eq!(error, "a path of more than 4096 bytes");
    }

    #[test]
    fn a_name_that_stands_twice_is_damage() {
        let Some(bench) = Bench::new() else { return };
        let base = bench.make("base", SEED);
        let mut bytes = fs_err::read(&base).unwrap();
        let at = memchr::memmem::find(&bytes, b"a-rather-long-name-107").unwrap();
        bytes[at..at + 22].copy_from_slice(b"a-rather-long-name-108");
        fs_err::write(&base, bytes).unwrap();
        let error = paths(&open(&base)).unwrap_err().to_string();
        assert!(error.ends_with("has a name twice"), "{error}");
    }
}
