//! Extended attributes, in the inode and in a block of their own (Documentation/filesystems/ext4, attributes.rst).

use std::collections::BTreeMap;
use std::io;

use super::super::bytes::{damaged, le16, le32};
use super::inode::Inode;
use super::superblock::Fs;

const MAGIC: u32 = 0xea02_0000;
/// An entry without its name.
const ENTRY: usize = 16;

/// The attributes of an inode by name.
///
/// # Errors
/// Damaged ones.
pub fn read(fs: &Fs, inode: &Inode) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let inside = inode.raw().get(128 + inode.extra()..).unwrap_or_default();
    if inode.extra() > 0 && le32(inside, 0) == MAGIC {
        let area = inside.get(4..).unwrap_or_default();
        list(area, area, &mut found)?;
    }
    if inode.attributes() != 0 {
        let block = fs.read_block(inode.attributes())?;
        if le32(&block, 0) != MAGIC {
            return Err(damaged("a block of attributes that is none"));
        }
        list(block.get(32..).unwrap_or_default(), &block, &mut found)?;
    }
    Ok(found)
}

/// Reads entries; values are counted from the start of `area`.
fn list(mut entries: &[u8], area: &[u8], found: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let wrong = || damaged("extended attributes that can not be");
    // Four zero bytes end the list.
    while entries.len() >= ENTRY && le32(entries, 0) != 0 {
        let len = usize::from(entries.first().copied().unwrap_or(0));
        let prefix = prefix(entries.get(1).copied().unwrap_or(0));
        let name = entries.get(ENTRY..ENTRY + len).ok_or_else(wrong)?;
        let (at, size, elsewhere) = (usize::from(le16(entries, 2)), le32(entries, 8) as usize, le32(entries, 4));
        let value = match elsewhere {
            0 => at.checked_add(size).and_then(|end| area.get(at..end)).ok_or_else(wrong)?.to_vec(),
            inode => format!("{size} bytes in inode {inode}").into_bytes(),
        };
        found.insert(format!("{prefix}{}", String::from_utf8_lossy(name)), value);
        entries = entries.get((ENTRY + len).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn prefix(index: u8) -> &'static str {
    match index {
        1 => "user.",
        2 => "system.posix_acl_access",
        3 => "system.posix_acl_default",
        4 => "trusted.",
        6 => "security.",
        7 => "system.",
        8 => "system.richacl",
        _ => "",
    }
}
