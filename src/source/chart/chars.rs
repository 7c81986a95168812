//! Characters of a stream of bytes, for a parser that wants to read no more than it must.

use std::io::{self, Read};

use granit_parser::ErrorKind;

use crate::model::manifest::{self, MAX_BYTES};

/// How many bytes are read at a time.
const PIECE: usize = 256 * 1024;

/// A stream's characters.
pub type Chars<'a> = Box<dyn Iterator<Item = Result<char, ErrorKind>> + 'a>;

/// The characters of `reader`, a byte-order mark left out. UTF-8, in which what is none becomes U+FFFD; UTF-16 where a mark says so,
/// which is read as a whole and has a limit.
///
/// # Errors
/// A stream that can not be read, and UTF-16 that is none or is too much.
pub fn chars<'a>(mut reader: impl Read + 'a) -> Result<Chars<'a>, String> {
    let mut head = Vec::new();
    reader.by_ref().take(3).read_to_end(&mut head).map_err(|e| e.to_string())?;
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        reader.take(MAX_BYTES as u64).read_to_end(&mut head).map_err(|e| e.to_string())?;
        if head.len() > MAX_BYTES {
            return Err(format!("more than {MAX_BYTES} bytes of UTF-16"));
        }
        let text = manifest::decode(&head).map_err(|e| e.to_string())?.into_owned();
        return Ok(Box::new(Utf8::new(io::Cursor::new(text.into_bytes()))));
    }
    let rest = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).to_vec();
    Ok(Box::new(Utf8::new(io::Cursor::new(rest).chain(reader))))
}

struct Utf8<R> {
    reader: R,
    /// Bytes that are no whole character yet.
    bytes: Vec<u8>,
    /// Characters that were not given out yet, from `at` on.
    text: String,
    at: usize,
}

impl<R: Read> Utf8<R> {
    fn new(reader: R) -> Self {
        Self { reader, bytes: Vec::new(), text: String::new(), at: 0 }
    }

    /// Reads the next piece; whether there was one.
    fn fill(&mut self) -> io::Result<bool> {
        self.text.clear();
        self.at = 0;
        while self.text.is_empty() {
            let read = self.reader.by_ref().take(PIECE as u64).read_to_end(&mut self.bytes)?;
            let last = read == 0;
            let mut used = 0;
            for chunk in self.bytes.utf8_chunks() {
                used += chunk.valid().len();
                self.text.push_str(chunk.valid());
                let invalid = chunk.invalid();
                // What stands at the end may be the first half of a character.
                if invalid.is_empty() || !last && used + invalid.len() == self.bytes.len() && invalid.len() < 4 {
                    break;
                }
                used += invalid.len();
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
            self.bytes.drain(..used);
            if last {
                break;
            }
        }
        Ok(!self.text.is_empty())
    }
}

impl<R: Read> Iterator for Utf8<R> {
    type Item = Result<char, ErrorKind>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.text.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(ErrorKind::InputIo { error: error.into() })),
            }
        }
        let next = self.text.get(self.at..)?.chars().next()?;
        self.at += next.len_utf8();
        Some(Ok(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(1);
            self.0.read(&mut buffer[..n])
        }
    }

    #[test]
    fn characters_may_stand_anywhere() {
        let long = format!("{}ü😀", "a".repeat(PIECE - 1)).repeat(3);
        for bytes in [long.as_bytes(), "ü".as_bytes(), b"", b"a\xffb\xf0\x9f", b"\xef\xbb\xbfx"] {
            let text: String = chars(Slow(bytes)).unwrap().map(Result::unwrap).collect();
            let want = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
            assert_eq!(text.replace("\u{fffd}\u{fffd}", "\u{fffd}"), want.replace("\u{fffd}\u{fffd}", "\u{fffd}"));
        }
    }
}
