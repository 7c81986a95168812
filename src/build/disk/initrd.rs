//! Names of the files in an initial ramdisk: cpio archives of the "new ASCII" format (linux,
//! `Documentation/driver-api/early-userspace/buffer-format.rst`), one after the other, the last usually compressed.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use crate::base::codec;

/// Bytes of a member's header.
const HEADER: usize = 110;
/// Longest name of a member.
const NAME: u64 = 4096;
/// Members of all archives.
const MEMBERS: usize = 200_000;
/// Bytes of all archives, uncompressed.
const BYTES: u64 = 4 << 30;
/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// The last part of every member's path.
///
/// # Errors
/// Bytes that are no such archive; more of them than any ramdisk has.
pub fn file_names(reader: impl Read) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut plain = BufReader::with_capacity(64 * 1024, reader.take(BYTES));
    if archives(&mut plain, &mut names)? {
        let packed = codec::decoder(plain)?.take(BYTES);
        let mut inner = BufReader::with_capacity(64 * 1024, packed);
        // Only one layer of compression: what is in there must be archives.
        if archives(&mut inner, &mut names)? {
            return Err(bad(
                "it is no cpio archive of the new ASCII format, plain or compressed with gzip, xz or zstd",
            ));
        }
    }
    Ok(names)
}

/// Reads archives; whether something else follows.
fn archives(reader: &mut impl BufRead, names: &mut BTreeSet<String>) -> io::Result<bool> {
    loop {
        // Zeros fill up between archives.
        loop {
            let buffer = reader.fill_buf()?;
            let zeros = buffer.iter().take_while(|b| **b == 0).count();
            let (end, all) = (buffer.is_empty(), zeros == buffer.len());
            reader.consume(zeros);
            if end {
                return Ok(false);
            }
            if !all {
                break;
            }
        }
        if reader.fill_buf()?.first() != Some(&b'0') {
            return Ok(true);
        }
        while member(reader, names)? {}
    }
}

/// Reads one member; false for the one that ends the archive.
fn member(reader: &mut impl BufRead, names: &mut BTreeSet<String>) -> io::Result<bool> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    if !matches!(&header[..6], b"070701" | b"070702") || names.len() >= MEMBERS {
        return Err(bad("a member of its cpio archive has no header"));
    }
    let field = |at: usize| {
        let digits = header.get(at..at + 8).and_then(|d| std::str::from_utf8(d).ok());
        let number = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
        number.map(u64::from).ok_or_else(|| bad("a header in its cpio archive has a bad number"))
    };
    let (size, name_size) = (field(54)?, field(94)?);
    if name_size > NAME {
        return Err(bad("a name in its cpio archive is too long"));
    }
    let mut name = vec![0; name_size as usize];
    reader.read_exact(&mut name)?;
    skip(reader, (HEADER as u64 + name_size).next_multiple_of(4) - HEADER as u64 - name_size)?;
    skip(reader, size.next_multiple_of(4))?;
    let name = name.strip_suffix(b"\0").unwrap_or(&name);
    if name == TRAILER {
        return Ok(false);
    }
    let last = name.rsplit(|b| *b == b'/').next().unwrap_or_default();
    names.insert(String::from_utf8_lossy(last).into_owned());
    Ok(true)
}

fn skip(reader: &mut impl BufRead, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(super) fn cpio(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files.iter().chain(&[("TRAILER!!!", "")]) {
        let fields = [1, 0o100644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        out.extend_from_slice(b"070701");
        out.extend(fields.iter().flat_map(|f| format!("{f:08x}").into_bytes()));
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(content.as_bytes());
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microcode_first_and_modules_compressed() {
        let early = cpio(&[("kernel/x86/microcode/x.bin", "abc")]);
        let late = cpio(&[("usr/lib/modules/1/kernel/virtio_blk.ko.xz", "x"), ("init", "#!")]);
        let packed = zstd::encode_all(&late[..], 1).unwrap();
        for bytes in [[&early[..], &late[..]].concat(), [&early[..], &packed[..]].concat(), late.clone(), packed] {
            let names = file_names(&bytes[..]).unwrap();
            assert!(names.contains("virtio_blk.ko.xz") && names.contains("init"), "{names:?}");
        }
        assert!(file_names(&b""[..]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_ramdisk_is_refused() {
        let whole = cpio(&[("init", "#!/bin/sh")]);
        let mut long = whole.clone();
        long[94..102].copy_from_slice(b"ffffffff");
        let twice = zstd::encode_all(&zstd::encode_all(&whole[..], 1).unwrap()[..], 1).unwrap();
        for bytes in [&b"hello"[..], b"070", b"0707", &whole[..130], &long, &[0x28, 0xb5, 0x2f, 0xfd, 9], &twice] {
            assert!(file_names(bytes).is_err(), "{:?}", &bytes[..bytes.len().min(9)]);
        }
    }
}
