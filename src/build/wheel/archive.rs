//! A wheel's zip file, read with suspicion: everything is checked before the first byte is unpacked.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use crate::build::BuildError;
use crate::model::guest_path::GuestPath;

/// The most members of a wheel.
const MOST_MEMBERS: usize = 200_000;

/// The most bytes a wheel unpacks to.
const MOST_BYTES: u64 = 8 << 30;

/// Bits of a Unix mode that say what a file is, and what they are for a regular file (stat.h).
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// An open wheel.
pub struct Archive<'a> {
    what: &'a str,
    zip: ZipArchive<BufReader<fs_err::File>>,
    /// Its files by name; directories are left out.
    pub members: BTreeMap<String, Member>,
}

/// A file in it.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    index: usize,
    /// Bytes, unpacked.
    pub size: u64,
    /// Whether anybody may execute it.
    pub executable: bool,
}

impl<'a> Archive<'a> {
    /// Opens the wheel at `path` and looks at every member's name and kind.
    ///
    /// # Errors
    /// No zip file, one that readers would understand differently, too much in it, and members that are no plain files
    /// with plain names.
    pub fn open(what: &'a str, path: &Path) -> Result<Self, BuildError> {
        let bad = |why: String| BuildError::bad(what, why);
        let file = fs_err::File::open(path).map_err(|e| BuildError::io(path, "open", e))?;
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|e| bad(format!("it is no zip file: {e}")))?;
        if zip.len() > MOST_MEMBERS {
            return Err(bad(format!("it has {} members, more than {MOST_MEMBERS}", zip.len())));
        }
        if zip.has_duplicate_names() {
            return Err(bad("two of its members have one name".to_owned()));
        }
        let mut members = BTreeMap::new();
        let mut total: u64 = 0;
        for index in 0..zip.len() {
            let entry = zip.by_index_data(index).map_err(|e| bad(format!("damaged: {e}")))?;
            let raw = entry.name_raw();
            let name = std::str::from_utf8(raw).map_err(|_| bad("a member's name is not UTF-8".to_owned()))?;
            if raw.ends_with(b"/") && entry.size() == 0 {
                plain_name(name.trim_end_matches('/')).map_err(|why| bad(format!("member `{name}`: {why}")))?;
                continue;
            }
            plain_name(name).map_err(|why| bad(format!("member `{name}`: {why}")))?;
            let mode = entry.unix_mode().unwrap_or(REGULAR);
            if ![0, REGULAR].contains(&(mode & TYPE)) {
                return Err(bad(format!("member `{name}` is a link or a device, not a file")));
            }
            if entry.encrypted() {
                return Err(bad(format!("member `{name}` is encrypted")));
            }
            if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
                return Err(bad(format!("member `{name}` is compressed with {}", entry.compression())));
            }
            total = total.saturating_add(entry.size());
            if total > MOST_BYTES {
                return Err(bad(format!("it unpacks to more than {MOST_BYTES} bytes")));
            }
            members.insert(name.to_owned(), Member { index, size: entry.size(), executable: mode & 0o111 != 0 });
        }
        zip.validate_header_consistency().map_err(|e| bad(format!("its headers contradict each other: {e}")))?;
        Ok(Self { what, zip, members })
    }

    /// A whole small member.
    ///
    /// # Errors
    /// A missing or damaged one, and one of more than `limit` bytes.
    pub fn small(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, BuildError> {
        let member = self.members.get(name).copied();
        let member = member.ok_or_else(|| BuildError::bad(self.what, format!("it has no `{name}`")))?;
        if member.size > limit {
            let why = format!("`{name}` has {} bytes, more than {limit}", member.size);
            return Err(BuildError::bad(self.what, why));
        }
        let mut bytes = Vec::new();
        self.each_chunk(name, member, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Gives the member's bytes to `take`, in order; the first chunk is short only where the member is.
    ///
    /// # Errors
    /// A damaged member or one of another size than it says, and those of `take`.
    pub fn each_chunk(
        &mut self,
        name: &str,
        member: Member,
        mut take: impl FnMut(&[u8]) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let what = self.what;
        let damaged = |e: &dyn std::fmt::Display| BuildError::bad(what, format!("member `{name}` is damaged: {e}"));
        let reader = self.zip.by_index(member.index).map_err(|e| damaged(&e))?;
        // One byte more than it says: a member that lies is found by it.
        let mut reader = reader.take(member.size.saturating_add(1));
        let mut buffer = vec![0; 64 * 1024];
        let mut seen = 0;
        loop {
            let n = fill(&mut reader, &mut buffer).map_err(|e| damaged(&e))?;
            if n == 0 {
                break;
            }
            seen += n as u64;
            if seen > member.size {
                return Err(damaged(&format!("it has more bytes than the {} it says", member.size)));
            }
            take(buffer.get(..n).unwrap_or_default())?;
        }
        if seen < member.size {
            return Err(damaged(&format!("it ends after {seen} of {} bytes", member.size)));
        }
        Ok(())
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// Whether a name is a relative path whose every part is a plain name.
fn plain_name(name: &str) -> Result<(), String> {
    if name.starts_with('/') {
        return Err("an absolute path".to_owned());
    }
    if name.contains(|c: char| c == '\\' || c.is_control()) {
        return Err("it holds a backslash or a control character".to_owned());
    }
    if name.split('/').any(|part| part == "..") {
        return Err("it leads out of the wheel".to_owned());
    }
    if name.split('/').any(|part| part.is_empty() || part == ".") {
        return Err("an empty part".to_owned());
    }
    GuestPath::parse(name).map(|_| ()).map_err(|e| e.why.to_owned())
}
