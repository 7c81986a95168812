//! Reads tar archives of others: the `tar` library with a bound on what it holds in memory, and errors in plain words.
//!
//! Names and pax records are read into memory before a member is given out, and nothing in the format bounds them: an archive
//! of 400 KB can have a name of 400 MB. Here everything before one member's data has [`TAR_HEADER`] bytes at most.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::bounds::{TAR_HEADER, TAR_NAMES};
use super::tarfmt::{BLOCK, padded};
use super::{bounds, shown};

/// A tar archive. Nothing is unpacked by it.
pub struct Untar<R: Read> {
    archive: tar::Archive<Meter<R>>,
    state: Rc<State>,
    names: u64,
}

/// What the meter and who sets it share.
struct State {
    /// Bytes from the archive's start to where the next read starts.
    at: Cell<u64>,
    /// How far it may be read for now.
    until: Cell<u64>,
    /// Whether the reader below, or the meter, failed: then that is the reason, not what the library makes of it.
    failed: Cell<bool>,
}

/// The members of an archive, in its order.
pub struct Entries<'a, R: Read> {
    entries: tar::Entries<'a, Meter<R>>,
    state: Rc<State>,
    /// Bytes of names that may still come.
    names: u64,
}

/// What a member's content is read through.
pub type Entry<'a, R> = tar::Entry<'a, Meter<R>>;

/// A reader that stops where the next member's headers grow beyond their bound.
pub struct Meter<R> {
    inner: R,
    state: Rc<State>,
}

impl<R: Read> Untar<R> {
    /// The archive that `reader` gives.
    pub fn new(reader: R) -> Self {
        let state = Rc::new(State { at: Cell::new(0), until: Cell::new(TAR_HEADER), failed: Cell::new(false) });
        Self { archive: tar::Archive::new(Meter { inner: reader, state: Rc::clone(&state) }), state, names: TAR_NAMES }
    }

    /// Lets the names of all members have `most` bytes together, instead of [`TAR_NAMES`].
    pub fn with_names(mut self, most: u64) -> Self {
        self.names = most;
        self
    }

    /// Its members; what is not read of one is read over.
    ///
    /// # Errors
    /// When it is not at its start.
    pub fn entries(&mut self) -> io::Result<Entries<'_, R>> {
        Ok(Entries { entries: self.archive.entries()?, state: Rc::clone(&self.state), names: self.names })
    }

    /// What is left of it: the meter no longer counts.
    pub fn into_inner(self) -> R {
        self.archive.into_inner().inner
    }
}

impl<R: Read + Seek> Untar<R> {
    /// Its members; what is not read of one is leapt over.
    ///
    /// # Errors
    /// As [`Untar::entries`].
    pub fn entries_with_seek(&mut self) -> io::Result<Entries<'_, R>> {
        Ok(Entries { entries: self.archive.entries_with_seek()?, state: Rc::clone(&self.state), names: self.names })
    }
}

impl<'a, R: Read> Iterator for Entries<'a, R> {
    type Item = io::Result<Entry<'a, R>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.entries.next()?;
        let bounded = found.and_then(|mut entry| {
            let size = stored_size(&mut entry)?;
            let data = padded(size).unwrap_or(size);
            self.state.until.set(self.state.at.get().saturating_add(data).saturating_add(TAR_HEADER));
            let left = self.names.checked_sub(kept_size(&mut entry)?);
            self.names =
                left.ok_or_else(|| io::Error::other("the names of its members have too many bytes together"))?;
            Ok(entry)
        });
        Some(bounded.map_err(|e| {
            if self.state.failed.get() { e } else { in_words(&e, self.state.at.get().saturating_sub(BLOCK)) }
        }))
    }
}

/// The bytes a member takes in the archive: of a sparse file that is not its size.
fn stored_size<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<u64> {
    if !entry.header().entry_type().is_gnu_sparse() {
        return Ok(entry.size());
    }
    let own = entry.header().entry_size()?;
    let records = entry.pax_extensions()?.into_iter().flatten().flatten();
    let said = records.filter(|r| r.key() == Ok("size")).find_map(|r| r.value().ok()?.parse().ok());
    Ok(said.unwrap_or(own))
}

/// Bytes of a member that whoever lists it keeps.
fn kept_size<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<u64> {
    let names = entry.path_bytes().len() + entry.link_name_bytes().map_or(0, |l| l.len());
    // Records that are none are the business of who wants them.
    let records = entry.pax_extensions()?.into_iter().flatten().flatten();
    let attributes = records.filter(|r| r.key_bytes().windows(7).any(|w| w == b".xattr."));
    Ok((names + attributes.map(|r| r.key_bytes().len() + r.value_bytes().len()).sum::<usize>()) as u64)
}

/// The library's errors repeat bytes of the header, which are no text where it is none.
fn in_words(error: &io::Error, at: u64) -> io::Error {
    let said = error.to_string();
    let why = match said.as_str() {
        _ if said.contains("cksum") || said.contains("checksum") => {
            "no header of a tar archive stands there".to_owned()
        }
        _ if said.contains("numeric field") => "a number in a header is none".to_owned(),
        _ if said.contains("EOF") || said.contains("entire block") || error.kind() == io::ErrorKind::UnexpectedEof => {
            return io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off");
        }
        _ => shown::name(&said),
    };
    io::Error::new(error.kind(), format!("at byte {at}: {why}"))
}

/// An error of [`tar::Entry`] or its header as people read it.
pub fn told(error: &io::Error) -> String {
    match error.to_string() {
        said if said.contains("numeric field") => "a number in its header is none".to_owned(),
        said => shown::name(&said),
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer).inspect_err(|_| self.state.failed.set(true))?;
        let at = self.state.at.get().saturating_add(got as u64);
        self.state.at.set(at);
        if at > self.state.until.get() {
            self.state.failed.set(true);
            let most = bounds::TAR_HEADER >> 20;
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a header in it has more than {most} MiB")));
        }
        Ok(got)
    }
}

impl<R: Seek> Seek for Meter<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.inner.seek(to).inspect_err(|_| self.state.failed.set(true))?;
        // The library goes from where it is; the reader need not have been at its own start when the archive began.
        self.state.at.set(match to {
            SeekFrom::Current(by) => self.state.at.get().saturating_add_signed(by),
            _ => at,
        });
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of this kind for so many bytes.
    fn header(kind: u8, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn member(kind: u8, data: &[u8]) -> Vec<u8> {
        let mut out = header(kind, data.len() as u64);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length = (1..).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
        format!("{length} {key}={value}\n").into_bytes()
    }

    /// Paths and contents, or what is wrong.
    fn read(bytes: impl Read) -> Result<Vec<(String, usize)>, String> {
        let mut archive = Untar::new(bytes);
        let mut found = Vec::new();
        for entry in archive.entries().map_err(|e| e.to_string())? {
            let mut entry = entry.map_err(|e| e.to_string())?;
            let mut data = Vec::new();
            // Every second one is read over.
            if found.len() % 2 == 0 {
                entry.read_to_end(&mut data).map_err(|e| e.to_string())?;
            }
            found.push((String::from_utf8_lossy(&entry.path_bytes()).into_owned(), data.len()));
        }
        Ok(found)
    }

    #[test]
    fn large_members_pass_and_large_headers_do_not() {
        let large = vec![7; 3 << 20];
        let name = "n".repeat(2000);
        let pax = record("path", &name);
        let end = vec![0; 1024];
        let sound = [member(b'0', &large), member(b'0', &large), member(b'x', &pax), member(b'0', &large), end.clone()];
        let found = read(&sound.concat()[..]).unwrap();
        assert_eq!(found, [("x".into(), large.len()), ("x".into(), 0), (name, large.len())]);
        for kind in [b'x', b'L', b'K'] {
            // Its data never ends: what is not bounded never comes back.
            let endless = io::Cursor::new(header(kind, 1 << 40)).chain(io::repeat(b'a'));
            assert_eq!(read(endless).unwrap_err(), "a header in it has more than 1 MiB", "{}", char::from(kind));
            let later = [member(b'0', &large), header(kind, 1 << 40)].concat();
            let later = io::Cursor::new(later).chain(io::repeat(b'a'));
            assert_eq!(read(later).unwrap_err(), "a header in it has more than 1 MiB", "{}", char::from(kind));
        }
    }

    #[test]
    fn names_are_bounded_together() {
        let name = record("path", &"n".repeat(1 << 19));
        let one = [member(b'x', &name), member(b'0', b"")].concat();
        let many = 1 + usize::try_from(TAR_NAMES >> 19).unwrap();
        assert_eq!(read(&one.repeat(many - 1)[..]).unwrap().len(), many - 1);
        assert!(read(&one.repeat(many)[..]).unwrap_err().contains("together"));
    }

    #[test]
    fn errors_are_words() {
        let mut rubbish: Vec<u8> = (0..2048u32).map(|i| (i * 7 % 251) as u8 | 0x80).collect();
        rubbish[148..156].copy_from_slice(b"\xff\x1b[2J\xfe\x80\x81");
        let mut sound = member(b'0', b"x");
        for (bytes, why) in [
            (rubbish.clone(), "at byte 0: no header of a tar archive stands there"),
            ([sound.clone(), rubbish].concat(), "at byte 1024: no header of a tar archive stands there"),
            (sound[..700].to_vec(), "the archive is cut off"),
            (sound[..100].to_vec(), "the archive is cut off"),
        ] {
            let error = read(&bytes[..]).unwrap_err();
            assert_eq!(error, why);
        }
        sound[124..136].copy_from_slice(b"\x7f\xc3\x1b34567890\0");
        let sum: u32 = sound[..148].iter().chain(&sound[156..512]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        sound[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(read(&sound[..]).unwrap_err(), "at byte 0: a number in a header is none");
    }

    #[test]
    fn sparse_members_count_as_they_are_stored() {
        // What GNU tar calls old sparse: two blocks of data in a file of a gigabyte.
        let mut header = tar::Header::new_gnu();
        header.set_path("s").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(512);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00000000000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.sparse[1].offset.copy_from_slice(b"10000000000\0");
        gnu.sparse[1].numbytes.copy_from_slice(b"00000000000\0");
        gnu.realsize.copy_from_slice(b"10000000000\0");
        header.set_cksum();
        let sparse = [header.as_bytes().to_vec(), vec![1; 512]].concat();
        let bomb = io::Cursor::new([sparse.clone(), self::header(b'x', 1 << 30)].concat()).chain(io::repeat(b'a'));
        let mut archive = Untar::new(bomb);
        let mut entries = archive.entries().unwrap();
        assert_eq!(entries.next().unwrap().unwrap().size(), 1 << 30);
        assert!(entries.next().unwrap().err().unwrap().to_string().contains("1 MiB"));
    }
}
