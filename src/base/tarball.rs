//! Deterministic tar archives of directories, files, symbolic and hard links: POSIX ustar headers, with pax extended headers
//! (IEEE 1003.1-2017, pax, "pax Extended Header") only for what ustar has no room for.
//!
//! No user or group names, no devices, no sparse files; the bytes depend on the members alone.

use std::io::{self, Read, Write};

use super::tarfmt::{BLOCK, END, Fields, MAX, OCTAL_MAX, OWNER_MAX, TarError, block, fits, padded, pax_name, record};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Dir,
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link and where it points.
    Symlink(&'a str),
    /// Another name of the member called so, which stands before it.
    Hardlink(&'a str),
}

/// The pax record of a file's capabilities.
pub const CAPABILITY: &str = "SCHILY.xattr.security.capability";

/// One member of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path, without leading or trailing `/`.
    pub path: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
    /// The twelve permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
}

/// The header blocks of a member, extended header included. Directories get their `/`.
///
/// # Errors
/// A path that is empty or holds a NUL, a time beyond 11 octal digits, a size beyond 2^63 - 1.
pub fn headers(member: &Member<'_>) -> Result<Vec<u8>, TarError> {
    headers_with(member, None)
}

/// As [`headers`], of a file with capabilities: the value of its attribute `security.capability`, as star and GNU tar write it
/// (a record `SCHILY.xattr.security.capability`).
///
/// # Errors
/// As [`headers`].
pub fn headers_with(member: &Member<'_>, capability: Option<&[u8]>) -> Result<Vec<u8>, TarError> {
    let (flag, size, link) = match member.kind {
        Kind::File(size) => (b'0', size, ""),
        Kind::Hardlink(target) => (b'1', 0, target),
        Kind::Symlink(target) => (b'2', 0, target),
        Kind::Dir => (b'5', 0, ""),
    };
    let path = if flag == b'5' { format!("{}/", member.path) } else { member.path.to_owned() };
    if member.path.is_empty() || path.contains('\0') || link.contains('\0') {
        return Err(TarError::Path(path));
    }
    if size > MAX {
        return Err(TarError::TooLarge(path));
    }
    let records = records(member, &path, size, link, capability);
    let mut out = Vec::with_capacity(BLOCK as usize);
    if !records.is_empty() {
        let name = pax_name(&plain(member.path));
        out.extend_from_slice(&block(&Fields::file(&name, records.len() as u64, member.mtime, b'x'))?);
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
    }
    out.extend_from_slice(&block(&Fields {
        path: &plain(&path),
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        size: if size > OCTAL_MAX { 0 } else { size },
        mtime: member.mtime,
        kind: flag,
        link: &plain(link),
    })?);
    Ok(out)
}

/// Records for what does not fit, sorted by key; capabilities come last: some readers stumble over a value with line feeds.
fn records(member: &Member<'_>, path: &str, size: u64, link: &str, capability: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut say = |wanted: bool, key: &str, value: &str| {
        if wanted {
            out.extend_from_slice(&record(key, value));
        }
    };
    say(member.gid > OWNER_MAX, "gid", &member.gid.to_string());
    say(!fits(link), "linkpath", link);
    say(!fits(path), "path", path);
    say(size > OCTAL_MAX, "size", &size.to_string());
    say(member.uid > OWNER_MAX, "uid", &member.uid.to_string());
    out.extend(capability.map(|value| record(CAPABILITY, value)).unwrap_or_default());
    out
}

/// What stands in the name field: the name where it fits, else a likeness for readers that know no pax.
fn plain(name: &str) -> String {
    if fits(name) {
        return name.to_owned();
    }
    name.chars()
        .map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '_' })
        .take(super::tarfmt::NAME)
        .collect()
}

/// Writes an archive, member by member.
pub struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// An empty archive on `out`.
    pub fn new(out: W) -> Self {
        Self { out, buffer: vec![0; 256 * 1024] }
    }

    /// Adds a member; `content` is read for regular files only, exactly as many bytes as they have.
    ///
    /// # Errors
    /// Those of the reader and the writer, headers that can not be, and a reader that ends early.
    pub fn put(&mut self, member: &Member<'_>, content: &mut dyn Read) -> io::Result<()> {
        self.put_with(member, None, content)
    }

    /// As [`Self::put`], of a file with capabilities.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_with(
        &mut self,
        member: &Member<'_>,
        capability: Option<&[u8]>,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        self.out.write_all(&headers_with(member, capability).map_err(io::Error::other)?)?;
        let Kind::File(size) = member.kind else { return Ok(()) };
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match content.read(&mut self.buffer[..want]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.out.write_all(&self.buffer[..n])?;
            left -= n as u64;
        }
        let rest = padded(size).unwrap_or(size) - size;
        self.out.write_all(&[0; BLOCK as usize][..rest as usize])
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; END as usize])?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member<'a>(path: &'a str, kind: Kind<'a>) -> Member<'a> {
        Member { path, kind, mode: 0o755, uid: 0, gid: 0, mtime: 7 }
    }

    #[test]
    fn short_members_take_one_block_and_long_ones_three() {
        assert_eq!(headers(&member("usr", Kind::Dir)).unwrap().len(), 512);
        assert_eq!(headers(&member(&"x/".repeat(49), Kind::Dir)).unwrap().len(), 512);
        for path in ["ä", &"x".repeat(101), "a\nb"] {
            assert_eq!(headers(&member(path, Kind::File(1))).unwrap().len(), 3 * 512, "{path}");
        }
        for path in ["", "a\0b"] {
            assert!(headers(&member(path, Kind::Dir)).is_err());
        }
    }

    #[test]
    fn a_reader_that_ends_early_is_an_error() {
        let mut tar = TarWriter::new(Vec::new());
        assert_eq!(
            tar.put(&member("x", Kind::File(3)), &mut &b"ab"[..]).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    proptest! {
        #[test]
        fn members_read_back(
            // No line feeds: this reader parts records at them.
            path in "[a-zäß漢]{1,80}(/[a-z \t]{1,60}){0,4}", target in "[a-zé/.]{1,150}", which in 0..4u8, mode in 0..0o10000u32,
            uid in prop_oneof![0..70_000u64, any::<u32>().prop_map(u64::from)], gid in any::<u32>(),
            mtime in 0..=OCTAL_MAX, data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            let kind = match which {
                0 => Kind::Dir,
                1 => Kind::File(data.len() as u64),
                2 => Kind::Symlink(&target),
                _ => Kind::Hardlink(&target),
            };
            let member = Member { path: &path, kind, mode, uid, gid: u64::from(gid), mtime };
            let mut tar = TarWriter::new(Vec::new());
            tar.put(&member, &mut &data[..]).unwrap();
            let bytes = tar.finish().unwrap();
            prop_assert_eq!(bytes.len() % 512, 0);
            let mut archive = tar::Archive::new(&bytes[..]);
            let mut entries = archive.entries().unwrap();
            let mut entry = entries.next().unwrap().unwrap();
            let found = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            prop_assert_eq!(found.trim_end_matches('/'), path.as_str());
            prop_assert_eq!(found.ends_with('/'), which == 0);
            prop_assert_eq!(entry.header().mode().unwrap(), mode);
            prop_assert_eq!(entry.header().mtime().unwrap(), mtime);
            // The reader applies the records of owners to the header it hands out.
            prop_assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (uid, u64::from(gid)));
            match which {
                1 => {
                    let mut back = Vec::new();
                    entry.read_to_end(&mut back).unwrap();
                    prop_assert_eq!(&back, &data);
                }
                2 | 3 => {
                    let link = entry.link_name_bytes().unwrap().into_owned();
                    prop_assert_eq!(String::from_utf8(link).unwrap(), target);
                }
                _ => {}
            }
            drop(entry);
            prop_assert!(entries.next().is_none());
        }
    }
}
