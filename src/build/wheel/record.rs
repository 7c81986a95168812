//! `RECORD`: every installed file with its hash and size.
//!
//! Format: "Recording installed projects" (PyPA specifications): CSV as Python's `csv` writes it, hashes as
//! `sha256=` and base64 with `-` and `_`, without padding.

use std::collections::BTreeMap;

use crate::base::digest::Digest;

/// Reads it: hashes by path, `None` for files that carry none.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<BTreeMap<String, Option<String>>, String> {
    let mut found = BTreeMap::new();
    for row in rows(text)? {
        let mut fields = row.into_iter();
        let (Some(path), Some(hash)) = (fields.next(), fields.next()) else {
            return Err("a line of it has fewer than two fields".to_owned());
        };
        if found.insert(path.clone(), Some(hash).filter(|hash| !hash.is_empty())).is_some() {
            return Err(format!("it lists `{path}` twice"));
        }
    }
    Ok(found)
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
    let text = crate::base::base64::encode(&bytes).replace('+', "-").replace('/', "_");
    format!("sha256={}", text.trim_end_matches('='))
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
    fn broken_records_are_told() {
        for text in ["a\n", "\"a,b,c\n", "a,x,1\na,y,1\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
