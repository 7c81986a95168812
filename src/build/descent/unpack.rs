//! Compressed streams, unpacked into nameless sparse files so that any place of them can be read.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

use super::bytes::{FileBytes, Shared, Stream, damaged, read_vec};
use crate::base::codec;

/// The most that is unpacked of one stream, in bytes.
const MOST: u64 = 64 << 30;
/// Written, or left out, at a time.
const STEP: usize = 64 * 1024;

/// What is in a compressed stream; for another one, itself.
///
/// # Errors
/// A damaged stream, one of more than 64 GiB, and a scratch directory that can not be written.
pub fn unpacked(bytes: &Shared, scratch: &Path) -> io::Result<Shared> {
    let head = read_vec(bytes.as_ref(), 0, bytes.size().min(6) as usize)?;
    if codec::Codec::sniff(&head) == codec::Codec::Plain {
        return Ok(Rc::clone(bytes));
    }
    spooled(codec::decoder(Stream::new(bytes))?, scratch)
}

/// Everything that a reader gives, in a nameless file.
///
/// # Errors
/// Those of the reader, more than 64 GiB, and a scratch directory that can not be written.
pub fn spooled(mut inside: impl Read, scratch: &Path) -> io::Result<Shared> {
    let mut file = tempfile::tempfile_in(scratch)?;
    let mut step = Vec::with_capacity(STEP);
    let mut size = 0;
    loop {
        step.clear();
        let n = inside.by_ref().take(STEP as u64).read_to_end(&mut step)? as u64;
        size += n;
        if size > MOST {
            return Err(damaged("it holds more than 64 GiB"));
        }
        if n == 0 {
            break;
        }
        match step.iter().all(|b| *b == 0) {
            true => drop(file.seek(SeekFrom::Current(n.cast_signed()))?),
            false => file.write_all(&step)?,
        }
    }
    file.set_len(size)?;
    Ok(Rc::new(FileBytes::new(file)?))
}

/// How two streams with the same content differ.
pub fn how((a, x): (&Shared, &str), (b, y): (&Shared, &str)) -> String {
    if x != y {
        return format!("the first is {x}, the second {y}: they differ");
    }
    // RFC 1952, 2.3: flags, time, extra flags (the level), system.
    let head = |bytes: &Shared| read_vec(bytes.as_ref(), 0, 10).unwrap_or_default();
    let (first, second) = (head(a), head(b));
    let time = x == "gzip" && first.get(4..8) != second.get(4..8);
    let why = if time { " (gzip's header has another time)" } else { "" };
    format!("it is compressed differently{why}")
}
