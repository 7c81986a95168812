//! Bolt databases (bbolt's file format, version 2), as far as containerd's metadata needs them: whole files read into memory
//! as nested maps, and written again by the maps alone, so that equal maps are equal bytes.
//!
//! Format, all integers little-endian: pages of one size; a page is a header of 16 bytes (id `u64`, flags `u16`, count `u16`,
//! overflow `u32`) and elements. Pages 0 and 1 are the meta pages, of which the valid one with the higher transaction counts.
//! A leaf element is flags, position, key size, value size (`u32` each, the position counted from the element itself), a
//! branch element position, key size (`u32`) and page (`u64`). A bucket is a leaf element with flag 1 whose value is the page
//! of its root and a sequence (`u64` each); root 0 means that the root page follows right there ("inline").

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

pub use read::read;
pub use write::write;

/// Bytes of a page's header.
const HEADER: usize = 16;
/// Bytes of a leaf's or a branch's element.
const ELEMENT: usize = 16;
/// Bytes of a bucket's value before an inline page.
const BUCKET: usize = 16;
/// Bytes of a meta page's content that its checksum covers; the checksum (`u64`) follows.
const META: usize = 56;

const BRANCH_PAGE: u16 = 0x01;
const LEAF_PAGE: u16 = 0x02;
const META_PAGE: u16 = 0x04;
const FREE_PAGE: u16 = 0x10;
/// The flag of a leaf element that is a bucket.
const IS_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
/// Longest key (bbolt, `MaxKeySize`).
const MAX_KEY: usize = 32_768;
/// Deepest nesting of buckets, and of pages in one bucket. containerd's buckets nest six deep.
const MAX_DEPTH: usize = 32;

/// What is wrong with a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoltError {
    /// Bytes that are no database.
    #[error("not a bolt database: {0}")]
    NotOne(&'static str),
    /// A page or element that contradicts the format.
    #[error("page {page}: {why}")]
    Page {
        /// The page.
        page: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// What the format, or this writer, has no room for.
    #[error("can not be written: {0}")]
    Write(&'static str),
}

/// A bucket: keys to values and to other buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Its counter; containerd uses none.
    pub sequence: u64,
    /// What is in it.
    pub items: BTreeMap<Vec<u8>, Item>,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Bytes.
    Value(Vec<u8>),
    /// A bucket inside.
    Bucket(Bucket),
}

impl Bucket {
    /// Changes the bucket at `key`; it is made when it is not there, and a value there is replaced.
    pub fn edit<T>(&mut self, key: &str, edit: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut inner = match self.items.remove(key.as_bytes()) {
            Some(Item::Bucket(bucket)) => bucket,
            _ => Self::default(),
        };
        let done = edit(&mut inner);
        self.items.insert(key.as_bytes().to_vec(), Item::Bucket(inner));
        done
    }

    /// The bucket at `key`.
    pub fn get_bucket(&self, key: &str) -> Option<&Bucket> {
        match self.items.get(key.as_bytes()) {
            Some(Item::Bucket(bucket)) => Some(bucket),
            _ => None,
        }
    }

    /// The value at `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        match self.items.get(key.as_bytes()) {
            Some(Item::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// Puts a value at `key`.
    pub fn put(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.items.insert(key.as_bytes().to_vec(), Item::Value(value.into()));
    }
}

/// The FNV-1a hash of 64 bits (draft-eastlake-fnv), which meta pages are checked by.
fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
