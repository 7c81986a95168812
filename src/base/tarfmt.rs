//! Deterministic tar headers: POSIX ustar (IEEE 1003.1-2017, pax, "ustar Interchange Format") with pax extended headers only
//! where they are needed. Every member is a regular file of mode 0644, owned by 0:0, without names.
//!
//! Two things ask for an extended header: a size that 11 octal digits can not hold (`size` record), and data that must start
//! on a page boundary (`comment` record of the right length). Both go into one header.

/// Tar's unit: headers take one block, data is padded with zeros to whole blocks.
pub const BLOCK: u64 = 512;
/// Where data of large members starts: a multiple of this, so that file systems can share extents (reflinks).
pub const PAGE: u64 = 4096;
/// Members of at least this many bytes start on a page.
pub const ALIGN_FROM: u64 = 64 * 1024;
/// Two zero blocks end the archive. No blocking factor beyond that.
pub const END: u64 = 2 * BLOCK;
/// The largest size, offset or archive length: what fits in a signed 64-bit file offset.
pub const MAX: u64 = i64::MAX as u64;

/// The largest number in 11 octal digits: sizes of 8 GiB and above need a pax record; so would times after the year 2242.
pub(super) const OCTAL_MAX: u64 = 0o77_777_777_777;
/// The largest owner in 7 octal digits.
pub(super) const OWNER_MAX: u64 = 0o7_777_777;
/// Bytes of the name field and of the link name's.
pub(super) const NAME: usize = 100;
/// What fits behind `PaxHeaders/` in the name field.
const PAX_NAME: usize = 100 - "PaxHeaders/".len();
/// The shortest `comment` record: `12 comment=` and a line feed.
const COMMENT_MIN: usize = 12;

/// What a header can not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// A member's name that the ustar name field can not hold.
    #[error("`{0}` can not be a tar member's name (1 to 100 printable ASCII characters)")]
    Path(String),
    /// A time beyond 11 octal digits.
    #[error("time {0} is too late for a tar header (largest: {OCTAL_MAX})")]
    Time(u64),
    /// Sizes or offsets beyond 2^63 - 1.
    #[error("member `{0}` ends beyond 2^63 bytes")]
    TooLarge(String),
}

/// A ustar header as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The member's name.
    pub path: String,
    /// The size field in bytes (0 where a pax record holds the size).
    pub size: u64,
    /// The type flag: `0` a regular file, `x` a pax extended header.
    pub kind: u8,
}

/// `size` rounded up to whole blocks; `None` beyond [`MAX`].
pub fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK).filter(|n| *n <= MAX)
}

/// How many bytes of headers stand before the data of a member of `size` bytes whose headers start at offset `at`.
pub fn headers_len(size: u64, at: u64) -> u64 {
    match pax_len(size, at) {
        0 => BLOCK,
        pax => 2 * BLOCK + pax,
    }
}

/// Length of the pax records (whole blocks); 0 when no extended header is needed.
fn pax_len(size: u64, at: u64) -> u64 {
    let aligned = size < ALIGN_FROM || (at % PAGE + BLOCK).is_multiple_of(PAGE);
    if aligned && size <= OCTAL_MAX {
        return 0;
    }
    let before = (at % PAGE + 2 * BLOCK) % PAGE;
    match PAGE - before {
        0 => PAGE,
        rest => rest,
    }
}

/// The headers of a regular file whose headers start at offset `at` of the archive (only its place in a page matters).
///
/// # Errors
/// A path, size or time that the format can not hold.
pub fn headers(path: &str, size: u64, mtime: u64, at: u64) -> Result<Vec<u8>, TarError> {
    if size > MAX {
        return Err(TarError::TooLarge(path.to_owned()));
    }
    let pax = pax_len(size, at);
    let mut out = Vec::with_capacity(headers_len(size, at) as usize);
    if pax > 0 {
        out.extend_from_slice(&block(&Fields::file(&pax_name(path), pax, mtime, b'x'))?);
        out.extend_from_slice(&records(size, pax as usize));
    }
    // POSIX lets the record override the field and leaves the field open; 0 is what other writers put there.
    let field = if size > OCTAL_MAX { 0 } else { size };
    out.extend_from_slice(&block(&Fields::file(path, field, mtime, b'0'))?);
    Ok(out)
}

/// What one header block says.
pub(super) struct Fields<'a> {
    pub(super) path: &'a str,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) kind: u8,
    pub(super) link: &'a str,
}

impl<'a> Fields<'a> {
    /// Those of root's files with mode 0644.
    pub(super) fn file(path: &'a str, size: u64, mtime: u64, kind: u8) -> Self {
        Self { path, mode: 0o644, uid: 0, gid: 0, size, mtime, kind, link: "" }
    }
}

/// The name of the extended header before the member `path`.
pub(super) fn pax_name(path: &str) -> String {
    let last: String = path.rsplit('/').next().unwrap_or_default().chars().take(PAX_NAME).collect();
    format!("PaxHeaders/{last}")
}

/// Pax records of exactly `len` bytes: `size` where the header has no room for it, then a comment that fills the rest.
fn records(size: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    if size > OCTAL_MAX {
        out.extend_from_slice(&record("size", size.to_string()));
    }
    let rest = len - out.len();
    debug_assert!(rest >= COMMENT_MIN);
    let fixed = rest.to_string().len() + " comment=\n".len();
    out.extend_from_slice(format!("{rest} comment={}\n", " ".repeat(rest - fixed)).as_bytes());
    out
}

/// One record: its own length in decimal, a blank, `key=value`, a line feed.
pub(super) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len += 1;
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// One header block; what its fields can not hold is the caller's to put into an extended header.
pub(super) fn block(fields: &Fields<'_>) -> Result<[u8; BLOCK as usize], TarError> {
    let Fields { path, mode, uid, gid, size, mtime, kind, link } = *fields;
    if path.is_empty() || !fits(path) || !fits(link) {
        return Err(TarError::Path(path.to_owned()));
    }
    if mtime > OCTAL_MAX {
        return Err(TarError::Time(mtime));
    }
    let mut b = [0u8; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, format!("{:07o}\0", mode & 0o7777).as_bytes());
    put(108, format!("{:07o}\0", uid.min(OWNER_MAX)).as_bytes());
    put(116, format!("{:07o}\0", gid.min(OWNER_MAX)).as_bytes());
    put(124, format!("{:011o}\0", size.min(OCTAL_MAX)).as_bytes());
    put(136, format!("{mtime:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum = checksum(&b);
    b[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(b)
}

/// Whether a name or link name can stand in its field as it is.
pub(super) fn fits(name: &str) -> bool {
    name.len() <= NAME && name.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// The sum of all bytes, the checksum field taken as blanks.
fn checksum(block: &[u8]) -> u32 {
    block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum()
}

/// Reads one ustar header block back; `None` when it is none (wrong magic, checksum or numbers).
pub fn parse(block: &[u8; BLOCK as usize]) -> Option<Header> {
    if &block[257..262] != b"ustar" || octal(&block[148..156])? != u64::from(checksum(block)) {
        return None;
    }
    let end = block[..100].iter().position(|b| *b == 0).unwrap_or(100);
    let path = std::str::from_utf8(&block[..end]).ok()?.to_owned();
    Some(Header { path, size: octal(&block[124..136])?, kind: block[156] })
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// Reads the one member back with an independent reader, its data cut off.
    fn read_back(bytes: &[u8]) -> (String, u64, u64) {
        let mut archive = tar::Archive::new(bytes);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        (path, entry.size(), entry.header().mtime().unwrap())
    }

    #[test]
    fn a_small_member_takes_one_block() {
        let h = headers("oci-layout", 30, 7, 4096).unwrap();
        assert_eq!(h.len(), 512);
        assert_eq!(read_back(&h), ("oci-layout".into(), 30, 7));
        assert_eq!(parse(h[..].try_into().unwrap()), Some(Header { path: "oci-layout".into(), size: 30, kind: b'0' }));
    }

    #[test]
    fn large_sizes_need_a_record() {
        for (size, pax) in [(OCTAL_MAX, false), (OCTAL_MAX + 1, true), (9 << 30, true), (MAX, true)] {
            let h = headers("blobs/x", size, 7, PAGE - BLOCK).unwrap();
            assert_eq!(h.len() > 512, pax, "{size}");
            assert_eq!(read_back(&h), ("blobs/x".into(), size, 7));
        }
        assert!(matches!(headers("x", MAX + 1, 0, 0), Err(TarError::TooLarge(_))));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for path in ["", "a\nb", "ä", &"x".repeat(101)] {
            assert_eq!(headers(path, 1, 0, 0), Err(TarError::Path(path.to_owned())));
        }
        assert!(headers(&"x".repeat(100), ALIGN_FROM, 0, 0).is_ok(), "the extended header's name is cut");
        assert_eq!(headers("x", 1, OCTAL_MAX + 1, 0), Err(TarError::Time(OCTAL_MAX + 1)));
    }

    proptest! {
        #[test]
        fn headers_read_back_and_align(
            path in "[a-z0-9/._-]{1,100}", size in prop_oneof![0..200_000u64, any::<u64>().prop_map(|n| n & MAX)],
            mtime in 0..=OCTAL_MAX, place in 0..64u64,
        ) {
            let at = place * BLOCK;
            let h = headers(&path, size, mtime, at).unwrap();
            prop_assert_eq!(h.len() as u64, headers_len(size, at));
            prop_assert_eq!(h.len() as u64 % BLOCK, 0);
            if size >= ALIGN_FROM {
                prop_assert_eq!((at + h.len() as u64) % PAGE, 0);
            }
            let mut archive = tar::Archive::new(&h[..]);
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(entry.path_bytes().into_owned(), path.clone().into_bytes());
            prop_assert_eq!(entry.size(), size);
            prop_assert_eq!(entry.header().mtime().unwrap(), mtime);
            prop_assert_eq!(entry.read(&mut [0; 1]).unwrap_or(0), 0);
            let last: &[u8; 512] = h[h.len() - 512..].try_into().unwrap();
            prop_assert_eq!(parse(last).unwrap().path, path);
        }
    }
}
