//! The guest's bytes of a VMDK with one sparse extent (VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extents" and
//! "Stream-Optimized Compressed Sparse Extents"): `streamOptimized` and `monolithicSparse`.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use super::bytes::{Bytes, Shared, damaged, le16, le32, le64, read, read_vec, within};
use super::cache::Cache;

/// The first bytes of a sparse extent.
pub const MAGIC: &[u8] = b"KDMV";
const SECTOR: u64 = 512;
/// The directory's place stands in the footer.
const AT_END: u64 = u64::MAX;
/// Grains are deflated.
const PACKED: u32 = 1 << 16;
/// A grain of zeros, in images that say so.
const ZERO: u32 = 1;
/// The longest descriptor that is looked at, in sectors.
const DESCRIPTOR_MAX: u64 = 128;

/// An open image.
pub struct Vmdk {
    file: Shared,
    size: u64,
    grain: u64,
    /// Entries of a grain table.
    entries: u64,
    directory: u64,
    packed: bool,
    descriptor: Vec<u8>,
    cache: RefCell<Cache>,
}

impl Vmdk {
    /// Reads the header, the footer and the descriptor.
    ///
    /// # Errors
    /// Another format, and numbers that can not be.
    pub fn open(file: &Shared) -> io::Result<Self> {
        let head: [u8; 512] = read(file.as_ref(), 0)?;
        let flags = le32(&head, 8);
        let (capacity, grain, entries) = (le64(&head, 12), le64(&head, 20), u64::from(le32(&head, 44)));
        let packed = flags & PACKED != 0 && le16(&head, 77) == 1;
        let sound = head.starts_with(MAGIC) && grain.is_power_of_two() && (8..=2048).contains(&grain);
        if !sound || !(1..=65536).contains(&entries) || (flags & PACKED != 0) != packed {
            return Err(damaged("not a sparse VMDK that is read here"));
        }
        let size = capacity.checked_mul(SECTOR).ok_or_else(|| damaged("a disk that is too large"))?;
        let mut directory = le64(&head, 56);
        if directory == AT_END {
            // Footer and end-of-stream marker are the last two sectors.
            let footer: [u8; 512] = read(file.as_ref(), file.size().saturating_sub(2 * SECTOR))?;
            if !footer.starts_with(MAGIC) {
                return Err(damaged("it has no footer"));
            }
            directory = le64(&footer, 56);
        }
        let text = (le64(&head, 28), le64(&head, 36).min(DESCRIPTOR_MAX));
        let descriptor = match text.0 {
            0 => Vec::new(),
            at => read_vec(file.as_ref(), at.saturating_mul(SECTOR), (text.1 * SECTOR) as usize)?,
        };
        let directory = directory.checked_mul(SECTOR).ok_or_else(|| damaged("a directory beyond the file"))?;
        let (grain, cache) = (grain * SECTOR, RefCell::new(Cache::new(64)));
        Ok(Self { file: Rc::clone(file), size, grain, entries, directory, packed, descriptor, cache })
    }

    /// The lines of its descriptor.
    pub fn descriptor(&self) -> Vec<String> {
        let text: Vec<u8> = self.descriptor.iter().copied().take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// How it is stored.
    pub fn layout(&self) -> String {
        let packing = if self.packed { "deflated" } else { "plain" };
        format!("VMDK, {packing} grains of {} bytes", self.grain)
    }

    /// The sector of the grain that holds `at`; 0 where there is none.
    fn place(&self, at: u64) -> io::Result<u32> {
        let grain = at / self.grain;
        let entry = |table: u64, n: u64| -> io::Result<u32> {
            let place = table.checked_add(n * 4).ok_or_else(|| damaged("a table beyond the file"))?;
            Ok(u32::from_le_bytes(read(self.file.as_ref(), place)?))
        };
        match entry(self.directory, grain / self.entries)? {
            0 => Ok(0),
            table => entry(u64::from(table) * SECTOR, grain % self.entries),
        }
    }

    fn grain_at(&self, sector: u32) -> io::Result<Rc<Vec<u8>>> {
        let at = u64::from(sector) * SECTOR;
        self.cache.borrow_mut().get(at, || {
            let whole = self.grain as usize;
            if !self.packed {
                return read_vec(self.file.as_ref(), at, whole);
            }
            let head: [u8; 12] = read(self.file.as_ref(), at)?;
            let len = le32(&head, 8) as usize;
            if len > 2 * whole + 1024 {
                return Err(damaged("a grain that is too long"));
            }
            let packed = read_vec(self.file.as_ref(), at + 12, len)?;
            let mut out = Vec::with_capacity(whole);
            flate2::bufread::ZlibDecoder::new(&packed[..]).take(self.grain).read_to_end(&mut out)?;
            // The last grain of a disk may be a short one.
            out.resize(whole, 0);
            Ok(out)
        })
    }
}

impl Bytes for Vmdk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        within(self, at, buffer.len())?;
        while !buffer.is_empty() {
            let inside = at % self.grain;
            let n = usize::try_from(self.grain - inside).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(n);
            match self.place(at)? {
                0 | ZERO => now.fill(0),
                sector => {
                    let grain = self.grain_at(sector)?;
                    let from = grain.get(inside as usize..).and_then(|g| g.get(..n));
                    now.copy_from_slice(from.ok_or_else(|| damaged("a short grain"))?);
                }
            }
            at += n as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn hole(&self, at: u64) -> io::Result<u64> {
        let mut end = at;
        for _ in 0..1024 {
            if end >= self.size || self.place(end)? > ZERO {
                break;
            }
            end = (end / self.grain + 1).saturating_mul(self.grain);
        }
        Ok(end.min(self.size).saturating_sub(at))
    }
}
