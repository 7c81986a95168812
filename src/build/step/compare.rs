//! How two blobs differ, in words: tar archives member by member, anything else by its first differing byte.
//!
//! Compressed blobs are looked into. Nothing is held in memory but one line per member.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use crate::base::codec;
use crate::base::digest::{Digest, hash_reader};
use crate::build::BuildError;
use crate::store::{BlobSource, Store};

/// Differences that are named; how many more there are is said.
const SHOWN: usize = 20;
/// Members an archive may have to be looked into.
const MEMBERS: usize = 1_000_000;

/// What is known of one member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    kind: &'static str,
    size: u64,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    link: Option<String>,
    content: Digest,
    /// Its place in the archive.
    place: usize,
}

/// Names the differences between two blobs of the store; none when they are the same.
///
/// # Errors
/// Blobs that are not there or can not be read.
pub fn compare(store: &Store, first: &Digest, second: &Digest) -> Result<Vec<String>, BuildError> {
    if first == second {
        return Ok(Vec::new());
    }
    let members = match (members(store, first)?, members(store, second)?) {
        (Some(a), Some(b)) => Some((a, b)),
        _ => None,
    };
    let mut found = Vec::new();
    if let Some((a, b)) = &members {
        found = of_members(store, (first, a), (second, b))?;
    }
    if found.is_empty() {
        // No archives, or archives whose members are the same.
        found.push(of_bytes(store, first, second, members.is_some())?);
    }
    if found.len() > SHOWN {
        let more = found.len() - SHOWN;
        found.truncate(SHOWN);
        found.push(format!("and {more} more"));
    }
    Ok(found)
}

/// The members of an archive by path; `None` for a blob that is no (whole) tar archive.
fn members(store: &Store, digest: &Digest) -> Result<Option<BTreeMap<String, Member>>, BuildError> {
    let mut head = [0; 512];
    let whole = open(store, digest)?.read_exact(&mut head).is_ok();
    if !whole || head.get(257..262) != Some(b"ustar") {
        return Ok(None);
    }
    let mut archive = tar::Archive::new(open(store, digest)?);
    Ok(read_members(&mut archive).ok())
}

fn read_members(archive: &mut tar::Archive<impl Read>) -> io::Result<BTreeMap<String, Member>> {
    let mut found = BTreeMap::new();
    for (place, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if place >= MEMBERS {
            return Err(io::Error::other("too many members"));
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned());
        let header = entry.header();
        let mut member = Member {
            kind: kind(header.entry_type()),
            size: entry.size(),
            // A field that is no number shows up when the headers are compared byte by byte.
            mode: header.mode().unwrap_or(0),
            owner: (header.uid().unwrap_or(0), header.gid().unwrap_or(0)),
            mtime: header.mtime().unwrap_or(0),
            link,
            content: Digest::of(b""),
            place,
        };
        member.content = hash_reader(&mut entry)?.0;
        found.insert(path, member);
    }
    Ok(found)
}

fn kind(entry: tar::EntryType) -> &'static str {
    match entry {
        tar::EntryType::Regular | tar::EntryType::Continuous => "a file",
        tar::EntryType::Directory => "a directory",
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Char | tar::EntryType::Block => "a device",
        tar::EntryType::Fifo => "a pipe",
        _ => "something else",
    }
}

type Archive<'a> = (&'a Digest, &'a BTreeMap<String, Member>);

fn of_members(store: &Store, first: Archive<'_>, second: Archive<'_>) -> Result<Vec<String>, BuildError> {
    let paths: BTreeSet<&String> = first.1.keys().chain(second.1.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (first.1.get(path), second.1.get(path)) {
            (Some(_), None) => found.push(format!("{path}: only in the first")),
            (None, Some(_)) => found.push(format!("{path}: only in the second")),
            (Some(a), Some(b)) => {
                found.extend(of_headers(a, b).into_iter().map(|what| format!("{path}: {what}")));
                if a.kind == b.kind && a.content != b.content {
                    let at = match found.len() < SHOWN {
                        true => content_at(store, (first.0, a), (second.0, b))?,
                        false => None,
                    };
                    found.push(match at {
                        Some(at) => format!("{path}: content differs at byte {at}"),
                        None => format!("{path}: content differs"),
                    });
                }
            }
            (None, None) => {}
        }
    }
    if found.is_empty() {
        let moved = first.1.iter().find(|(path, a)| second.1.get(*path).is_some_and(|b| a.place != b.place));
        found.extend(moved.map(|(path, a)| {
            let place = second.1.get(path).map_or(0, |b| b.place);
            format!("the order of members: {path} is number {} in the first, {} in the second", a.place + 1, place + 1)
        }));
    }
    Ok(found)
}

fn of_headers(a: &Member, b: &Member) -> Vec<String> {
    if a.kind != b.kind {
        return vec![format!("{} in the first, {} in the second", a.kind, b.kind)];
    }
    let mut found = Vec::new();
    if a.size != b.size {
        found.push(format!("size {} in the first, {} in the second", a.size, b.size));
    }
    if a.mode != b.mode {
        found.push(format!("mode {:04o} in the first, {:04o} in the second", a.mode, b.mode));
    }
    if a.owner != b.owner {
        let (x, y) = (a.owner, b.owner);
        found.push(format!("owner {}:{} in the first, {}:{} in the second", x.0, x.1, y.0, y.1));
    }
    if a.mtime != b.mtime {
        found.push(format!("time {} in the first, {} in the second", a.mtime, b.mtime));
    }
    if a.link != b.link {
        let text = |l: &Option<String>| l.clone().unwrap_or_default();
        found.push(format!("target `{}` in the first, `{}` in the second", text(&a.link), text(&b.link)));
    }
    found
}

/// The first byte of two members that differs.
fn content_at(store: &Store, first: (&Digest, &Member), second: (&Digest, &Member)) -> Result<Option<u64>, BuildError> {
    let (mut a, mut b) = (tar::Archive::new(open(store, first.0)?), tar::Archive::new(open(store, second.0)?));
    let (Some(a), Some(b)) = (nth(&mut a, first.1.place), nth(&mut b, second.1.place)) else { return Ok(None) };
    first_difference(a, b).map_err(|e| BuildError::bad("a member", e.to_string()))
}

fn nth<R: Read>(archive: &mut tar::Archive<R>, place: usize) -> Option<tar::Entry<'_, R>> {
    archive.entries().ok()?.nth(place)?.ok()
}

/// Two blobs as bytes: of what is inside when that differs.
fn of_bytes(store: &Store, first: &Digest, second: &Digest, archives: bool) -> Result<String, BuildError> {
    let failed = |e: io::Error| BuildError::bad(format!("blobs {first} and {second}"), e.to_string());
    // What can not be decompressed is compared as it stands.
    let inside = first_difference(open(store, first)?, open(store, second)?).ok().flatten();
    let raw = first_difference(store.blob_file(first)?, store.blob_file(second)?).map_err(failed)?.unwrap_or(0);
    Ok(match (inside, archives) {
        (Some(at), false) => format!("differs at byte {at}"),
        (Some(at), true) => format!("the members are the same, their headers differ at byte {at}"),
        (None, _) => format!("the content is the same, it is compressed differently from byte {raw} on"),
    })
}

/// The offset of the first byte that differs (or is there in one only); `None` when all are the same.
fn first_difference(mut a: impl Read, mut b: impl Read) -> io::Result<Option<u64>> {
    let (mut x, mut y) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut at = 0;
    loop {
        let (n, m) = (fill(&mut a, &mut x)?, fill(&mut b, &mut y)?);
        let same = x.iter().take(n).zip(y.iter().take(m)).take_while(|(a, b)| a == b).count();
        if same < n.max(m) {
            return Ok(Some(at + same as u64));
        }
        if n == 0 {
            return Ok(None);
        }
        at += n as u64;
    }
}

/// Reads until `buffer` is full or nothing is left.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|r| !r.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn open(store: &Store, digest: &Digest) -> Result<Box<dyn Read>, BuildError> {
    let blob = store.open_blob(digest)?;
    codec::decoder(blob).map_err(|e| BuildError::io(&store.blob_path(digest), "read", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;
    use std::io::Write;

    struct File(&'static str, &'static str, u32, u64, u64);

    fn tar_of(files: &[File], link: Option<&str>) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        for File(path, text, mode, uid, mtime) in files {
            header.set_size(text.len() as u64);
            header.set_mode(*mode);
            header.set_uid(*uid);
            header.set_gid(0);
            header.set_mtime(*mtime);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        if let Some(target) = link {
            header.set_size(0);
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, "link", target).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn told(a: &[u8], b: &[u8]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        compare(&store, &store.put(a).unwrap(), &store.put(b).unwrap()).unwrap()
    }

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let base = || tar_of(&[File("a", "same", 0o644, 0, 7)], None);
        let one = |file: File| told(&base(), &tar_of(&[file], None));
        assert_eq!(one(File("a", "same", 0o644, 0, 7)), Vec::<String>::new());
        assert_eq!(one(File("a", "sAme", 0o644, 0, 7)), ["a: content differs at byte 1"]);
        assert_eq!(
            one(File("a", "same!", 0o644, 0, 7)),
            ["a: size 4 in the first, 5 in the second", "a: content differs at byte 4"]
        );
        assert_eq!(one(File("a", "same", 0o755, 0, 7)), ["a: mode 0644 in the first, 0755 in the second"]);
        assert_eq!(one(File("a", "same", 0o644, 9, 7)), ["a: owner 0:0 in the first, 9:0 in the second"]);
        assert_eq!(one(File("a", "same", 0o644, 0, 8)), ["a: time 7 in the first, 8 in the second"]);
        assert_eq!(one(File("b", "same", 0o644, 0, 7)), ["a: only in the first", "b: only in the second"]);
        let link = |target| tar_of(&[], Some(target));
        assert_eq!(told(&link("x"), &link("y")), ["link: target `x` in the first, `y` in the second"]);
    }

    #[test]
    fn order_and_compression_are_named() {
        let (a, b) = (|| File("a", "1", 0o644, 0, 7), || File("b", "2", 0o644, 0, 7));
        let (ab, ba) = (tar_of(&[a(), b()], None), tar_of(&[b(), a()], None));
        assert_eq!(told(&ab, &ba), ["the order of members: a is number 1 in the first, 2 in the second"]);
        assert_eq!(told(&gzip(&ab, 6), &gzip(&ba, 6)), told(&ab, &ba));
        let zstd = zstd::encode_all(&ba[..], 1).unwrap();
        assert_eq!(told(&gzip(&ab, 6), &zstd), told(&ab, &ba));
        let text = told(&gzip(&ab, 1), &gzip(&ab, 9)).join("");
        assert!(text.starts_with("the content is the same, it is compressed differently from byte "), "{text}");
        let mut longer = ab.clone();
        longer.extend_from_slice(&[0; 512]);
        let want = format!("the members are the same, their headers differ at byte {}", ab.len());
        assert_eq!(told(&ab, &longer), [want]);
    }

    #[test]
    fn other_blobs_are_compared_by_byte() {
        assert_eq!(told(b"one text", b"one test"), ["differs at byte 6"]);
        assert_eq!(told(b"short", b"shorter"), ["differs at byte 5"]);
        assert_eq!(told(&gzip(b"one text", 6), &gzip(b"one test", 6)), ["differs at byte 6"]);
        let broken = [&[0x1f, 0x8b][..], b"nothing"].concat();
        let other = [&[0x1f, 0x8b][..], b"notHing"].concat();
        assert_eq!(told(&broken, &other).len(), 1);
        let many = |text| {
            tar_of(
                &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"].map(|n| File(n, text, 0o644, 0, 7)),
                None,
            )
        };
        let found = told(&many("1"), &many("22"));
        assert_eq!((found.len(), found[SHOWN].as_str()), (SHOWN + 1, "and 4 more"));
    }
}
