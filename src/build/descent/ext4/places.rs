//! Names for blocks that differ though no path does: times of inodes, unused blocks, the journal, checksums.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::super::bytes::differing_blocks;
use super::Side;
use super::inode::Extent;
use super::superblock::Fs;

/// A file system's journal.
const JOURNAL: u32 = 8;
/// Inodes that have no name: bad blocks, quotas, the journal, room for growth.
const NAMELESS: [u32; 5] = [1, 3, 4, 7, JOURNAL];

/// Fields of an inode, as far as no path shows them: name, offset, length.
const FIELDS: [(&str, usize, usize); 14] = [
    ("atime", 0x08, 4),
    ("ctime", 0x0c, 4),
    ("dtime", 0x14, 4),
    ("blocks", 0x1c, 4),
    ("flags", 0x20, 4),
    ("version", 0x24, 4),
    ("place of its content", 0x28, 60),
    ("generation", 0x64, 4),
    ("place of its attributes", 0x68, 4),
    ("ctime", 0x84, 4),
    ("atime", 0x8c, 4),
    ("time of creation", 0x90, 8),
    ("version", 0x98, 4),
    ("project", 0x9c, 4),
];
/// Both halves of an inode's checksum.
const CHECKSUMS: [(usize, usize); 2] = [(0x7c, 2), (0x82, 2)];

/// One kind of place where two file systems differ.
pub struct Place {
    /// What it is.
    pub name: String,
    /// The first byte that differs.
    pub byte: u64,
    /// How many blocks or inodes of its kind differ.
    pub count: u64,
}

/// What a block is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    /// A table that follows from the rest, or is told by its fields.
    Derived(&'static str),
    /// Inodes, from this number on.
    Inodes(u32),
    Journal,
    Directory(Rc<str>),
    /// The content of a file, behind its end.
    File(Rc<str>),
    Attributes,
}

/// Blocks by their first one: how many, and what for.
type Owners = BTreeMap<u64, (u64, Owner)>;

/// Where two file systems without differing paths differ. `explained`: fields of the superblock do, so checksums must.
///
/// # Errors
/// What can not be read.
pub fn differences(first: &Side, second: &Side, explained: bool) -> io::Result<Vec<Place>> {
    let owners = [owners(first)?, owners(second)?];
    let names: BTreeMap<u32, String> =
        first.paths.iter().map(|(path, inode)| (*inode, String::from_utf8_lossy(path).into_owned())).collect();
    let mut found: BTreeMap<String, Place> = BTreeMap::new();
    let mut add = |key: String, example: &str, byte: u64| {
        let new = || Place { name: format!("{key}{example}"), byte, count: 0 };
        found.entry(key.clone()).or_insert_with(new).count += 1;
    };
    let fs = &first.fs;
    differing_blocks(fs.bytes.as_ref(), second.fs.bytes.as_ref(), fs.block as usize, &mut |at, x, y| {
        let block = at / fs.block;
        let byte = at + x.iter().zip(y).position(|(x, y)| x != y).unwrap_or(0) as u64;
        match owners.iter().find_map(|o| owner(o, block)) {
            None if block < fs.first_block.max(1) && byte < 1024 => add("boot sector".to_owned(), "", byte),
            None if block == 0 => {
                if !explained {
                    add("the superblock".to_owned(), "", byte);
                }
            }
            None => add("unused blocks".to_owned(), "", byte),
            Some((_, Owner::Derived(_))) if explained => {}
            Some((_, Owner::Derived(name))) => add((*name).to_owned(), "", byte),
            Some((start, Owner::Inodes(number))) => {
                let per_block = (fs.block / fs.inode_size) as u32;
                let number = number.saturating_add(u32::try_from(block - start).unwrap_or(0).saturating_mul(per_block));
                for (n, byte, fields) in inodes(fs, x, y, at, explained) {
                    let number = number.saturating_add(n);
                    let of = names.get(&number).map_or_else(|| format!(" of inode {number}"), |p| format!(" of {p}"));
                    add(format!("inode {fields}"), &of, byte);
                }
            }
            Some((_, Owner::Journal)) => add("the journal".to_owned(), "", byte),
            Some((_, Owner::Directory(_) | Owner::Attributes)) if explained => {}
            Some((_, Owner::Directory(path))) => {
                add("order or padding in the directory".to_owned(), &format!(" {path}"), byte)
            }
            Some((_, Owner::Attributes)) => add("attribute blocks".to_owned(), "", byte),
            Some((_, Owner::File(path))) => {
                add("bytes behind the end of a file, or its place:".to_owned(), &format!(" {path}"), byte)
            }
        }
        true
    })?;
    Ok(found.into_values().collect())
}

/// Differing inodes of a block: which, the first byte, and the fields.
fn inodes(fs: &Fs, x: &[u8], y: &[u8], at: u64, explained: bool) -> Vec<(u32, u64, String)> {
    let size = fs.inode_size as usize;
    let mut found = Vec::new();
    for (n, (x, y)) in (0u32..).zip(x.chunks(size).zip(y.chunks(size))) {
        let Some(first) = x.iter().zip(y).position(|(x, y)| x != y) else { continue };
        let differs = |(at, len): (usize, usize)| x.get(at..at + len) != y.get(at..at + len);
        let mut names: Vec<&str> = Vec::new();
        for (name, at, len) in FIELDS {
            if differs((at, len)) && !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() && CHECKSUMS.into_iter().any(differs) {
            // It follows from the superblock's fields where those differ.
            if explained {
                continue;
            }
            names.push("checksum");
        }
        let fields = if names.is_empty() { "padding".to_owned() } else { names.join(", ") };
        found.push((n, at + u64::from(n) * fs.inode_size + first as u64, fields));
    }
    found
}

fn owner(owners: &Owners, block: u64) -> Option<(u64, &Owner)> {
    let (start, (len, owner)) = owners.range(..=block).next_back()?;
    (block - start < *len).then_some((*start, owner))
}

fn owners(side: &Side) -> io::Result<Owners> {
    let fs = &side.fs;
    let mut found = Owners::new();
    tables(fs, &mut found);
    for number in NAMELESS {
        let Ok(inode) = fs.inode(number) else { continue };
        if !inode.has_extents() {
            continue;
        }
        if let Ok((extents, tree)) = fs.extents(&inode) {
            put(
                &mut found,
                &extents,
                if number == JOURNAL { Owner::Journal } else { Owner::Derived("reserved blocks") },
            );
            found.extend(tree.into_iter().map(|b| (b, (1, Owner::Derived("extent trees")))));
        }
    }
    for (path, number) in &side.paths {
        let inode = fs.inode(*number)?;
        if inode.attributes() != 0 {
            found.insert(inode.attributes(), (1, Owner::Attributes));
        }
        if inode.size() == 0 || !inode.has_extents() {
            continue;
        }
        let (extents, tree) = fs.extents(&inode)?;
        let name = Rc::from(String::from_utf8_lossy(path));
        put(&mut found, &extents, if inode.is_dir() { Owner::Directory(name) } else { Owner::File(name) });
        found.extend(tree.into_iter().map(|b| (b, (1, Owner::Derived("extent trees")))));
    }
    Ok(found)
}

fn put(owners: &mut Owners, extents: &[Extent], owner: Owner) {
    owners.extend(extents.iter().map(|e| (e.physical, (e.len, owner.clone()))));
}

fn tables(fs: &Fs, found: &mut Owners) {
    let inode_blocks = (u64::from(fs.inodes_per_group) * fs.inode_size).div_ceil(fs.block);
    for (n, group) in (0u64..).zip(&fs.groups) {
        if has_copy(n) {
            let start = fs.first_block + n * u64::from(fs.blocks_per_group);
            // The first superblock shares its block with the boot sector where blocks are large.
            if start > 0 {
                found.insert(start, (1, Owner::Derived("a superblock or its copy")));
            }
            found.insert(start + 1, (fs.descriptors, Owner::Derived("group descriptors")));
        }
        found.insert(group.block_bitmap, (1, Owner::Derived("the bitmap of blocks")));
        found.insert(group.inode_bitmap, (1, Owner::Derived("the bitmap of inodes")));
        let first = u32::try_from(n).unwrap_or(u32::MAX).saturating_mul(fs.inodes_per_group).saturating_add(1);
        found.insert(group.inode_table, (inode_blocks, Owner::Inodes(first)));
    }
}

/// Groups with a copy of the superblock, as mke2fs makes them (`sparse_super`): 0, 1 and powers of 3, 5 and 7.
fn has_copy(group: u64) -> bool {
    let power = |base: u64| {
        std::iter::successors(Some(base), |n| n.checked_mul(base)).take_while(|n| *n <= group).last() == Some(group)
    };
    group <= 1 || [3, 5, 7].into_iter().any(power)
}
