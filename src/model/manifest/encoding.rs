//! From bytes to text, as libyaml tells encodings apart: by the byte-order mark.

use std::borrow::Cow;

use super::ManifestError;

/// The text of YAML bytes, without a byte-order mark: UTF-8, or UTF-16 of either byte order where a mark says so.
///
/// # Errors
/// Bytes that are not of that encoding, with their line.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ManifestError> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes).map(Cow::Owned),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes).map(Cow::Owned),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        rest => utf8(rest),
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, ManifestError> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|e| {
        let lines = bytes.iter().take(e.valid_up_to()).filter(|b| **b == b'\n').count();
        ManifestError { line: lines + 1, column: 0, what: "not UTF-8 text".to_owned() }
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, ManifestError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    let units = char::decode_utf16(pairs.iter().map(|pair| unit(*pair)));
    // Half a pair at the end is an unpaired unit, too.
    let cut = (!rest.is_empty()).then_some(None);
    for char in units.map(Result::ok).chain(cut) {
        let wrong = || {
            let line = text.matches('\n').count() + 1;
            ManifestError { line, column: 0, what: "not UTF-16 text, though its byte-order mark says so".to_owned() }
        };
        let char = char.ok_or_else(wrong)?;
        text.push(char);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn the_mark_says_the_encoding() {
        let text = "kind: A # ü 😀\n";
        for bytes in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            units(text, u16::to_le_bytes),
            units(text, u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).unwrap(), text);
        }
        assert_eq!(decode(b"").unwrap(), "");
    }

    #[test]
    fn other_bytes_have_a_line() {
        let mut cut = units("a\nb", u16::to_le_bytes);
        cut.pop();
        let mut lone = units("a\n", u16::to_be_bytes);
        lone.extend([0xd8, 0x00]);
        for bytes in [&b"a\n\xff\xfe"[..], &cut, &lone] {
            assert_eq!(decode(bytes).unwrap_err().line, 2, "{bytes:?}");
        }
    }
}
