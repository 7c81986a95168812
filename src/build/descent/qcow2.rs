//! The guest's bytes of a qcow2 image (QEMU, docs/interop/qcow2.txt): plain, deflated and zstd clusters. No backing file, no
//! encryption, no external data file, no extended L2 entries.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use super::bytes::{Bytes, Shared, damaged, read, read_vec, within};
use super::cache::Cache;

/// The first bytes of an image.
pub const MAGIC: &[u8] = b"QFI\xfb";
/// Incompatible features that change nothing for a reader: dirty, corrupt mark, compression type.
const READABLE: u64 = 1 | 1 << 1 | 1 << 3;
/// Bits of an L1 or L2 entry that hold an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The L2 entry is of a compressed cluster.
const COMPRESSED: u64 = 1 << 62;

/// An open image.
pub struct Qcow2 {
    file: Shared,
    size: u64,
    bits: u32,
    l1: u64,
    l1_entries: u64,
    zstd: bool,
    version: u32,
    tables: RefCell<Cache>,
    clusters: RefCell<Cache>,
}

/// Where a cluster's bytes are.
enum Place {
    Hole,
    Plain(u64),
    Packed { at: u64, len: u64 },
}

impl Qcow2 {
    /// Reads the header.
    ///
    /// # Errors
    /// Another format, a feature that is not read here, and numbers that can not be.
    pub fn open(file: &Shared) -> io::Result<Self> {
        let head: [u8; 72] = read(file.as_ref(), 0)?;
        let (version, bits) = (be32(&head, 4), be32(&head, 20));
        if !head.starts_with(MAGIC) || !(2..=3).contains(&version) || !(9..=21).contains(&bits) {
            return Err(damaged("not a qcow2 image of version 2 or 3"));
        }
        let (features, packing) = match version {
            3 => {
                let more: [u8; 33] = read(file.as_ref(), 72)?;
                // The compression type stands behind the header's end in images without it.
                let has_type = be32(&more, 28) > 104;
                (be64(&more, 0), if has_type { more[32] } else { 0 })
            }
            _ => (0, 0),
        };
        if be64(&head, 8) != 0 || be32(&head, 32) != 0 || features & !READABLE != 0 || packing > 1 {
            return Err(damaged("a qcow2 image with a backing file, encryption, or features that are not read here"));
        }
        let (size, l1_entries) = (be64(&head, 24), u64::from(be32(&head, 36)));
        let reach = l1_entries.checked_mul(1 << (2 * bits - 3));
        if reach.is_none_or(|r| r < size) {
            return Err(damaged("its table is too short for its disk"));
        }
        Ok(Self {
            file: Rc::clone(file),
            size,
            bits,
            l1: be64(&head, 40),
            l1_entries,
            zstd: packing == 1,
            version,
            tables: RefCell::new(Cache::new(16)),
            clusters: RefCell::new(Cache::new(32)),
        })
    }

    /// Whether every cluster its tables name is in the file: an image that was cut off reads as zeros where it ends.
    ///
    /// # Errors
    /// The first that is not, by its place in the disk; tables that are beyond the end.
    pub fn check_whole(&self) -> io::Result<()> {
        let mut at = 0;
        while at < self.size {
            let Some(table) = self.table(at)? else {
                at = (at / self.reach() + 1).saturating_mul(self.reach());
                continue;
            };
            let first = at / self.reach() * self.reach();
            for (number, entry) in (0u64..).zip(table.chunks_exact(8)) {
                let gone = match self.place_of(be64(entry, 0)) {
                    Place::Hole => false,
                    Place::Plain(offset) | Place::Packed { at: offset, .. } => offset >= self.file.size(),
                };
                if gone {
                    return Err(damaged(format!("it ends before the disk's byte {}", first + (number << self.bits))));
                }
            }
            at = first.saturating_add(self.reach());
        }
        Ok(())
    }

    /// How it is stored: what two images with the same disk may differ in.
    pub fn layout(&self) -> String {
        let packing = if self.zstd { "zstd" } else { "zlib" };
        format!("qcow2 version {}, clusters of {} bytes, {packing}", self.version, self.cluster())
    }

    fn cluster(&self) -> u64 {
        1 << self.bits
    }

    /// Bytes of the disk that one L2 table covers.
    fn reach(&self) -> u64 {
        1 << (2 * self.bits - 3)
    }

    /// The L2 table that covers `at`; `None` where there is none.
    fn table(&self, at: u64) -> io::Result<Option<Rc<Vec<u8>>>> {
        let entry = at / self.reach();
        if entry >= self.l1_entries {
            return Err(damaged("a place beyond its table"));
        }
        let place = self.l1.checked_add(entry * 8).ok_or_else(|| damaged("a table beyond the file"))?;
        let table = u64::from_be_bytes(read(self.file.as_ref(), place)?) & OFFSET;
        if table == 0 {
            return Ok(None);
        }
        let len = 1usize << self.bits;
        self.tables.borrow_mut().get(table, || read_vec(self.file.as_ref(), table, len)).map(Some)
    }

    fn place(&self, at: u64) -> io::Result<Place> {
        let Some(table) = self.table(at)? else { return Ok(Place::Hole) };
        Ok(self.place_of(be64(&table, ((at % self.reach()) >> self.bits) as usize * 8)))
    }

    /// What an L2 entry says.
    fn place_of(&self, entry: u64) -> Place {
        if entry & COMPRESSED != 0 {
            let x = 62 - (self.bits - 8);
            let offset = entry & ((1 << x) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> x) + 1;
            return Place::Packed { at: offset, len: sectors * 512 - offset % 512 };
        }
        // Bit 0: reads as zeros.
        let zero = self.version == 3 && entry & 1 != 0;
        match entry & OFFSET {
            0 => Place::Hole,
            _ if zero => Place::Hole,
            offset => Place::Plain(offset),
        }
    }

    fn unpacked(&self, at: u64, len: u64) -> io::Result<Rc<Vec<u8>>> {
        self.clusters.borrow_mut().get(at, || {
            // The last one may end with the file.
            let len = len.min(self.file.size().saturating_sub(at));
            let packed = read_vec(self.file.as_ref(), at, usize::try_from(len).unwrap_or(usize::MAX))?;
            let mut out = vec![0; 1 << self.bits];
            match self.zstd {
                true => zstd::stream::read::Decoder::with_buffer(&packed[..])?.single_frame().read_exact(&mut out)?,
                false => flate2::bufread::DeflateDecoder::new(&packed[..]).read_exact(&mut out)?,
            }
            Ok(out)
        })
    }
}

impl Bytes for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        within(self, at, buffer.len())?;
        while !buffer.is_empty() {
            let inside = at % self.cluster();
            let n = usize::try_from(self.cluster() - inside).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(n);
            match self.place(at)? {
                Place::Hole => now.fill(0),
                Place::Plain(offset) => {
                    // An image may end within its last cluster.
                    let from = offset.saturating_add(inside);
                    let there = usize::try_from(self.file.size().saturating_sub(from)).unwrap_or(usize::MAX).min(n);
                    let (there, beyond) = now.split_at_mut(there);
                    self.file.read_at(from, there)?;
                    beyond.fill(0);
                }
                Place::Packed { at: offset, len } => {
                    let cluster = self.unpacked(offset, len)?;
                    let from = cluster.get(inside as usize..).and_then(|c| c.get(..n));
                    now.copy_from_slice(from.ok_or_else(|| damaged("a short cluster"))?);
                }
            }
            at += n as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn hole(&self, at: u64) -> io::Result<u64> {
        let mut end = at;
        // Far enough for one look.
        for _ in 0..1024 {
            if end >= self.size {
                break;
            }
            end = match self.table(end)? {
                None => (end / self.reach() + 1).saturating_mul(self.reach()),
                Some(_) => match self.place(end)? {
                    Place::Hole => (end / self.cluster() + 1).saturating_mul(self.cluster()),
                    _ => break,
                },
            };
        }
        Ok(end.min(self.size).saturating_sub(at))
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    super::bytes::array(bytes, at).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    super::bytes::array(bytes, at).map_or(0, u64::from_be_bytes)
}
