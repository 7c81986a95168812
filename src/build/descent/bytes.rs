//! Bytes that are read at any place: files, windows into them, and what is inside of disk images. Holes are known where they
//! can be, so that a large empty disk costs nothing.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bytes that are compared at a time.
const STEP: usize = 128 * 1024;

/// Bytes that are read at any place.
pub trait Bytes {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `buffer` from the offset `at` on.
    ///
    /// # Errors
    /// What can not be read, and places beyond the end.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// How many bytes from `at` on are known to be zero without being read; 0 when nothing is known.
    ///
    /// # Errors
    /// Tables that can not be read.
    fn hole(&self, at: u64) -> io::Result<u64> {
        let _ = at;
        Ok(0)
    }
}

/// Who is told of a place and what both have there; says whether to go on.
pub type Each<'a> = &'a mut dyn FnMut(u64, &[u8], &[u8]) -> bool;

/// Bytes that several look at.
pub type Shared = Rc<dyn Bytes>;

/// A file.
pub struct FileBytes {
    file: std::fs::File,
    size: u64,
}

impl FileBytes {
    /// The whole of a regular file.
    ///
    /// # Errors
    /// When its length can not be asked.
    pub fn new(file: std::fs::File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl Bytes for FileBytes {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
}

/// A part of other bytes.
pub struct Window {
    of: Shared,
    start: u64,
    size: u64,
}

impl Window {
    /// `size` bytes from `start` on, as far as there are any.
    pub fn of(of: &Shared, start: u64, size: u64) -> Shared {
        let start = start.min(of.size());
        Rc::new(Self { of: Rc::clone(of), start, size: size.min(of.size() - start) })
    }
}

impl Bytes for Window {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        within(self, at, buffer.len())?;
        self.of.read_at(self.start + at, buffer)
    }

    fn hole(&self, at: u64) -> io::Result<u64> {
        match at < self.size {
            true => Ok(self.of.hole(self.start + at)?.min(self.size - at)),
            false => Ok(0),
        }
    }
}

/// Bytes in memory: small ones, and those of tests.
impl Bytes for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        within(self, at, buffer.len())?;
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// That `len` bytes from `at` on are there.
///
/// # Errors
/// When they are not.
pub fn within(bytes: &dyn Bytes, at: u64, len: usize) -> io::Result<()> {
    match at.checked_add(len as u64) {
        Some(end) if end <= bytes.size() => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// `N` bytes at `at`.
///
/// # Errors
/// As [`Bytes::read_at`].
pub fn read<const N: usize>(bytes: &dyn Bytes, at: u64) -> io::Result<[u8; N]> {
    let mut all = [0; N];
    bytes.read_at(at, &mut all)?;
    Ok(all)
}

/// `len` bytes at `at`; the caller has bounded `len`.
///
/// # Errors
/// As [`Bytes::read_at`].
pub fn read_vec(bytes: &dyn Bytes, at: u64, len: usize) -> io::Result<Vec<u8>> {
    within(bytes, at, len)?;
    let mut all = vec![0; len];
    bytes.read_at(at, &mut all)?;
    Ok(all)
}

/// A damaged thing: the error with which its reader gives up.
pub fn damaged(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.into())
}

/// The offset of the first byte that differs (or is there in one only); `None` when all are the same.
///
/// # Errors
/// What can not be read.
pub fn first_difference(a: &dyn Bytes, b: &dyn Bytes) -> io::Result<Option<u64>> {
    let both = a.size().min(b.size());
    let mut found = None;
    runs(a, b, 0, both, &mut |at, x, y| {
        found = x.iter().zip(y).position(|(x, y)| x != y).map(|n| at + n as u64);
        found.is_none()
    })?;
    Ok(found.or((a.size() != b.size()).then_some(both)))
}

/// Calls `each` with the offset of every block of `block` bytes that differs, and both its contents, until it says `false`.
/// Blocks beyond the end of the shorter one are left out.
///
/// # Errors
/// What can not be read.
pub fn differing_blocks(a: &dyn Bytes, b: &dyn Bytes, block: usize, each: Each<'_>) -> io::Result<()> {
    let block = block.clamp(512, STEP);
    runs(a, b, 0, a.size().min(b.size()), &mut |at, x, y| {
        let mut places = x.chunks(block).zip(y.chunks(block)).enumerate();
        places.all(|(n, (x, y))| x == y || each(at + (n * block) as u64, x, y))
    })
}

/// Reads both side by side; `each` is told runs that may differ, and says whether to go on.
fn runs(a: &dyn Bytes, b: &dyn Bytes, from: u64, to: u64, each: Each<'_>) -> io::Result<()> {
    let (mut x, mut y) = (vec![0; STEP], vec![0; STEP]);
    let mut at = from;
    while at < to {
        // Whole steps only: blocks stay where they are.
        let hole = a.hole(at)?.min(b.hole(at)?) / STEP as u64 * STEP as u64;
        if hole > 0 {
            at = at.saturating_add(hole);
            continue;
        }
        let n = usize::try_from(to - at).unwrap_or(STEP).min(STEP);
        let (Some(left), Some(right)) = (x.get_mut(..n), y.get_mut(..n)) else { return Ok(()) };
        a.read_at(at, left)?;
        b.read_at(at, right)?;
        if left != right && !each(at, left, right) {
            return Ok(());
        }
        at += n as u64;
    }
    Ok(())
}

/// Reads bytes from the start to the end, as a stream.
pub struct Stream {
    of: Shared,
    at: u64,
}

impl Stream {
    /// From the first byte on.
    pub fn new(of: &Shared) -> Self {
        Self { of: Rc::clone(of), at: 0 }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.of.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let n = buffer.len().min(left);
        self.of.read_at(self.at, buffer.get_mut(..n).unwrap_or_default())?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Stream {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let wanted = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.of.size().checked_add_signed(by),
        };
        self.at = wanted.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The little-endian number of 2 bytes at `at`; 0 where there are none: fields are checked for sense after they were read.
pub fn le16(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_le_bytes)
}

/// As [`le16`], of 4 bytes.
pub fn le32(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

/// As [`le16`], of 8 bytes.
pub fn le64(bytes: &[u8], at: usize) -> u64 {
    array(bytes, at).map_or(0, u64::from_le_bytes)
}

/// `N` bytes of a slice.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_byte_is_found_at_every_edge() {
        let a = vec![7u8; 2 * STEP + 5];
        for at in [0, 1, STEP - 1, STEP, 2 * STEP + 4] {
            let mut b = a.clone();
            b[at] = 8;
            assert_eq!(first_difference(&a, &b).unwrap(), Some(at as u64));
            let mut blocks = Vec::new();
            differing_blocks(&a, &b, 4096, &mut |at, _, _| {
                blocks.push(at);
                true
            })
            .unwrap();
            assert_eq!(blocks, [at as u64 / 4096 * 4096]);
        }
        assert_eq!(first_difference(&a, &a).unwrap(), None);
        assert_eq!(first_difference(&a, &a[..9].to_vec()).unwrap(), Some(9));
    }

    #[test]
    fn windows_stay_within_what_they_are_of() {
        let all: Shared = Rc::new((0..100u8).collect::<Vec<_>>());
        let window = Window::of(&all, 90, 50);
        assert_eq!((window.size(), read::<2>(window.as_ref(), 8).unwrap()), (10, [98, 99]));
        assert!(read::<2>(window.as_ref(), 9).is_err() && read::<1>(window.as_ref(), u64::MAX).is_err());
        let mut text = Vec::new();
        Stream::new(&window).read_to_end(&mut text).unwrap();
        assert_eq!(text, (90..100).collect::<Vec<u8>>());
    }
}
