//! `RECORD`: every installed file with its hash and size.
//!
//! Format: "Recording installed projects" (PyPA specifications): CSV as Python's `csv` writes it, hashes as
//! `sha256=` (or stronger) and base64 with `-` and `_`, without padding. Some tools pad them all the same, write paths as Windows
//! does, or a line twice.

use std::collections::BTreeMap;

use sha2::Digest as _;

use crate::base::digest::{Digest, Hasher};

/// Reads it: hashes by path, as [`Hashes`] gives them; `None` for files that carry none.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<BTreeMap<String, Option<String>>, String> {
    let mut found = BTreeMap::new();
    for row in rows(text)? {
        let mut fields = row.into_iter();
        let (path, hash) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let path = path.replace('\\', "/");
        let hash = Some(normal(&hash)).filter(|hash| !hash.is_empty());
        match found.get(&path) {
            Some(Some(known)) if hash.as_ref().is_some_and(|hash| hash != known) => {
                return Err(format!("it lists `{path}` twice, with two hashes"));
            }
            Some(Some(_)) => {}
            _ => {
                found.insert(path, hash);
            }
        }
    }
    Ok(found)
}

/// A hash as the format wants it.
fn normal(hash: &str) -> String {
    let (kind, value) = hash.trim().split_once('=').unwrap_or((hash.trim(), ""));
    let value = value.trim_end_matches('=').replace('+', "-").replace('/', "_");
    if kind.is_empty() { String::new() } else { format!("{}={value}", kind.to_ascii_lowercase()) }
}

/// Splits CSV into rows of fields; fields may be quoted, quotes in them doubled.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let (mut row, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err("a quote in it is not closed".to_owned());
    }
    row.push(field);
    rows.push(row);
    rows.retain(|row| row.iter().any(|field| !field.is_empty()));
    Ok(rows)
}

/// A line of it.
pub fn line(path: &str, content: Option<(&Digest, u64)>) -> String {
    let quote = path.contains([',', '"', '\n']);
    let path = if quote { format!("\"{}\"", path.replace('"', "\"\"")) } else { path.to_owned() };
    match content {
        Some((digest, size)) => format!("{path},{},{size}\n", hash(digest)),
        None => format!("{path},,\n"),
    }
}

/// A digest as it stands there.
pub fn hash(digest: &Digest) -> String {
    let hex = digest.hex();
    let bytes: Vec<u8> =
        (0..hex.len() / 2).filter_map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()).collect();
    written("sha256", &bytes)
}

fn written(kind: &str, bytes: &[u8]) -> String {
    let text = crate::base::base64::encode(bytes).replace('+', "-").replace('/', "_");
    format!("{kind}={}", text.trim_end_matches('='))
}

/// Hashes bytes as a record's line does.
pub enum Hashes {
    /// What nearly every record has.
    Sha256(Hasher),
    /// Stronger.
    Sha384(sha2::Sha384),
    /// Stronger still.
    Sha512(sha2::Sha512),
}

impl Hashes {
    /// For a hash of a record.
    ///
    /// # Errors
    /// The kind of a hash that labimg does not know, or that the format forbids.
    pub fn like(expected: &str) -> Result<Self, String> {
        match expected.split('=').next().unwrap_or_default() {
            "sha256" => Ok(Self::Sha256(Hasher::new())),
            "sha384" => Ok(Self::Sha384(sha2::Sha384::new())),
            "sha512" => Ok(Self::Sha512(sha2::Sha512::new())),
            other => Err(other.to_owned()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash as it stands in a record.
    pub fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hash(&hasher.finish()),
            Self::Sha384(hasher) => written("sha384", &hasher.finalize()),
            Self::Sha512(hasher) => written("sha512", &hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_read_and_written() {
        let digest = Digest::of(b"");
        let text = format!("a.py,{},0\r\n\"b,\"\"c.py\",sha256=x,1\nd/RECORD,,\n\n", hash(&digest));
        let record = read(&text).unwrap();
        assert_eq!(record["a.py"].as_deref(), Some("sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"));
        assert_eq!((record["b,\"c.py"].as_deref(), &record["d/RECORD"]), (Some("sha256=x"), &None));
        assert_eq!(line("b,\"c.py", None), "\"b,\"\"c.py\",,\n");
        assert_eq!(line("a", Some((&digest, 0))), format!("a,{},0\n", hash(&digest)));
    }

    #[test]
    fn records_as_other_tools_write_them_are_read() {
        let text = "a.py,SHA256=a+b/c==,1\na.py,sha256=a-b_c,1\nx\\b.py,sha512=d,2\nx\\RECORD,,\nx/RECORD,,\nc,,\nc,sha256=e,3\n";
        let record = read(text).unwrap();
        let of = |path: &str| record[path].as_deref();
        assert_eq!((of("a.py"), of("x/b.py"), of("x/RECORD")), (Some("sha256=a-b_c"), Some("sha512=d"), None));
        assert_eq!(of("c"), Some("sha256=e"));
        let mut strong = Hashes::like("sha512=").unwrap();
        strong.update(b"");
        assert!(strong.finish().starts_with("sha512=z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg_SpIdNs6c5H0NE8XYXysP-DGNKHfuwv"));
        assert_eq!(Hashes::like("md5=x").err().as_deref(), Some("md5"));
    }

    #[test]
    fn broken_records_are_told() {
        for text in ["\"a,b,c\n", "a,x,1\na,y,1\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
