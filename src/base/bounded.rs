//! Texts looked over before they are parsed: how many values they have and how deep they nest ([`super::bounds`]). The parsers
//! bound neither, and a short text can become very large in memory.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::bounds::{JSON_DEPTH, JSON_VALUES, TOML_DEPTH, TOML_VALUES};

/// Where a text grows beyond a bound, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMuch {
    /// Offset in bytes.
    pub at: usize,
    /// The bound, for people.
    pub why: String,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for TooMuch {}

/// Looks over a TOML text. What is not TOML passes or not; its parser says so.
///
/// # Errors
/// More than [`TOML_VALUES`] values, keys' parts and tables, or more than [`TOML_DEPTH`] levels.
pub fn toml(text: &str) -> Result<(), TooMuch> {
    let (mut values, mut brackets, mut dots) = (0usize, 0usize, 0usize);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                (values, brackets) = (values + 1, brackets + 1)
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => brackets = brackets.saturating_sub(1),
            TokenKind::Equals | TokenKind::Comma => values += 1,
            TokenKind::Dot => (values, dots) = (values + 1, dots + 1),
            TokenKind::Newline if brackets == 0 => dots = 0,
            _ => {}
        }
        let at = token.span().start();
        if values > TOML_VALUES {
            return Err(TooMuch { at, why: format!("it has more than {TOML_VALUES} values") });
        }
        // A key's dots count for its own line only; inside of lists they are those of numbers, too.
        if brackets > TOML_DEPTH || (brackets <= 2 && dots > TOML_DEPTH && matches!(token.kind(), TokenKind::Equals)) {
            return Err(TooMuch { at, why: format!("it nests more than {TOML_DEPTH} deep") });
        }
    }
    Ok(())
}

/// Looks over a JSON text. What is not JSON passes or not; its parser says so.
///
/// # Errors
/// More than [`JSON_VALUES`] values, or more than [`JSON_DEPTH`] levels.
pub fn json(bytes: &[u8]) -> Result<(), TooMuch> {
    let (mut values, mut depth, mut at) = (0usize, 0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
            b'[' | b'{' => (values, depth) = (values + 1, depth + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if values > JSON_VALUES {
            return Err(TooMuch { at, why: format!("it has more than {JSON_VALUES} values") });
        }
        if depth > JSON_DEPTH {
            return Err(TooMuch { at, why: format!("it nests more than {JSON_DEPTH} deep") });
        }
        at += 1;
    }
    Ok(())
}

/// The offset of the quote that ends the string which `from` is in.
fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(more) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += more;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// Reads JSON within the bounds of [`json`].
///
/// # Errors
/// Those bounds, and what is wrong with the text.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    json(bytes).map_err(|e| serde_json::Error::custom(format!("{e} (at byte {})", e.at)))?;
    serde_json::from_slice(bytes)
}

/// Reads TOML within the bounds of [`toml()`].
///
/// # Errors
/// Those bounds, and what is wrong with the text.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, toml::de::Error> {
    toml(text).map_err(toml::de::Error::custom)?;
    ::toml::from_str(text)
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// Those of the file, and a larger one, of which no more than that is read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(too_large(path, most)),
        false => Ok(bytes),
    }
}

/// [`read`] of text.
///
/// # Errors
/// As [`read`], and text that is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is not UTF-8 text", path.display()));
    String::from_utf8(read(path, most)?).map_err(wrong)
}

fn too_large(path: &Path, most: u64) -> io::Error {
    let bound = if most < 1 << 20 { format!("{} KiB", most >> 10) } else { format!("{} MiB", most >> 20) };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("`{}` has more than {bound}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_is_counted_as_it_is_meant() {
        let lines = |line: &str, n: usize| line.repeat(n);
        assert_eq!(
            toml(&lines("# a = [1,2,3]\nx = 'a,b,[,{'\n", TOML_VALUES + 1)),
            Err(TooMuch {
                at: "# a = [1,2,3]\n".len() * (TOML_VALUES + 1) + "x = 'a,b,[,{'\n".len() * TOML_VALUES + 2,
                why: format!("it has more than {TOML_VALUES} values"),
            })
        );
        assert_eq!(toml(&lines("x = '''\n,,,,[[[[\n''' # ,,[[\n", TOML_VALUES)), Ok(()));
        for wide in [
            format!("a = [{}]", "0,".repeat(TOML_VALUES)),
            format!("a = {{{}}}", "a=0,".repeat(TOML_VALUES)),
            lines("[[a]]\n", TOML_VALUES),
            lines("a.b.c = 1\n", TOML_VALUES / 3 + 1),
        ] {
            assert!(toml(&wide).unwrap_err().why.contains("values"), "{}", &wide[..20]);
        }
        for deep in [format!("a = {}", "[".repeat(81)), "a.".repeat(81) + "b = 1", "a = {b=".repeat(81)] {
            assert!(toml(&deep).unwrap_err().why.contains("deep"), "{deep}");
        }
        // Numbers have dots, too.
        assert_eq!(toml(&format!("a = [{}]\n b.c = 1.5", "1.5, ".repeat(500))), Ok(()));
    }

    #[test]
    fn json_is_counted_as_it_is_meant() {
        assert_eq!(json(format!("[\"{}\\\",,,\"]", "[{,".repeat(JSON_VALUES)).as_bytes()), Ok(()));
        assert_eq!(json(br#"["\\",{"a\"":["#), Ok(()));
        assert!(json(format!("[{}0]", "0,".repeat(JSON_VALUES)).as_bytes()).unwrap_err().why.contains("values"));
        assert!(json("[".repeat(JSON_DEPTH + 1).as_bytes()).unwrap_err().why.contains("deep"));
        let error = from_json::<serde_json::Value>("{\"a\":".repeat(200).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("deep (at byte"), "{error}");
        assert_eq!(from_json::<Vec<u8>>(b"[1,2]").unwrap(), [1, 2]);
        assert!(json(b"\"\\").is_ok() && json(b"\"").is_ok());
    }

    #[test]
    fn files_are_read_to_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs_err::write(&path, "1234").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "1234");
        assert!(read(&path, 3).unwrap_err().to_string().contains("more than 0 KiB"));
        assert!(read(Path::new("/dev/zero"), 1 << 20).unwrap_err().to_string().contains("more than 1 MiB"));
    }
}
