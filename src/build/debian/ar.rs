//! The outer form of a `.deb`: an ar archive (deb(5), "FORMAT"; the common subset of ar(5), names up to 16 characters).

use std::io::{self, Read};

/// First bytes of an archive.
const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Length of a member's header.
const HEADER: usize = 60;

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, padding and a closing `/` cut off.
    pub name: String,
    /// Bytes of its data.
    pub size: u64,
}

/// Reads an archive from its start to its end; itself a reader of the present member's data.
pub struct Archive<R> {
    inner: R,
    left: u64,
    padded: bool,
}

impl<R: Read> Archive<R> {
    /// Reads the archive's first bytes.
    ///
    /// # Errors
    /// Other first bytes, and those of the reader.
    pub fn new(mut inner: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        inner
            .read_exact(&mut magic)
            .map_err(|e| if is_eof(&e) { bad("it is no Debian package (too short)") } else { e })?;
        if &magic != MAGIC {
            return Err(bad("it is no Debian package (no ar archive)"));
        }
        Ok(Self { inner, left: 0, padded: false })
    }

    /// Goes to the next member; what was not read of the present one is skipped. `None` at the end.
    ///
    /// # Errors
    /// A header that is cut off or wrong, and those of the reader.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let skip = self.left + u64::from(self.padded);
        let skipped = io::copy(&mut self.inner.by_ref().take(skip), &mut io::sink())?;
        (self.left, self.padded) = (0, false);
        let mut header = Vec::with_capacity(HEADER);
        self.inner.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
        // The last member's padding may be missing.
        if header.is_empty() && skipped + 1 >= skip {
            return Ok(None);
        }
        let member = parse(&header).ok_or_else(|| bad("a header of its ar archive is damaged or cut off"))?;
        self.left = member.size;
        self.padded = member.size % 2 == 1;
        Ok(Some(member))
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let got = self.inner.by_ref().take(self.left).read(buffer)?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

fn is_eof(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::UnexpectedEof
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Name (16 bytes), time, owner, group, mode, size (10 decimal digits at 48), and two closing bytes.
fn parse(header: &[u8]) -> Option<Member> {
    let field =
        |from: usize, to: usize| std::str::from_utf8(header.get(from..to)?).ok().map(|t| t.trim_end_matches(' '));
    if header.len() != HEADER || !header.ends_with(b"`\n") {
        return None;
    }
    let name = field(0, 16)?;
    let size = field(48, 58)?;
    if !size.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Member { name: name.strip_suffix('/').unwrap_or(name).to_owned(), size: size.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut out = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).into_bytes();
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(2), b'\n');
        out
    }

    #[test]
    fn members_come_in_order() {
        let bytes = [MAGIC.to_vec(), member("one", b"abc"), member("two/", b"xy"), member("three", b"")].concat();
        let mut archive = Archive::new(&bytes[..]).unwrap();
        let mut text = String::new();
        assert_eq!(archive.next_member().unwrap(), Some(Member { name: "one".into(), size: 3 }));
        archive.by_ref().take(2).read_to_string(&mut text).unwrap();
        assert_eq!(archive.next_member().unwrap(), Some(Member { name: "two".into(), size: 2 }));
        archive.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abxy");
        assert_eq!(archive.next_member().unwrap().unwrap().name, "three");
        assert_eq!(archive.next_member().unwrap(), None);
    }

    #[test]
    fn damage_is_told() {
        assert!(Archive::new(&b"!<arch>"[..]).is_err());
        assert!(Archive::new(&b"PK\x03\x04xxxxxx"[..]).is_err());
        let whole = [MAGIC.to_vec(), member("one", &[7; 100])].concat();
        for len in 9..whole.len() {
            let mut archive = Archive::new(&whole[..len]).unwrap();
            let read = archive.next_member().and_then(|_| io::copy(&mut archive, &mut io::sink()));
            assert!(read.is_err() || len == whole.len(), "{len}");
        }
        let mut wrong = whole;
        wrong[8 + 48] = b'-';
        assert!(Archive::new(&wrong[..]).unwrap().next_member().is_err());
    }
}
