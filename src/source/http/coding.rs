//! Content codings (RFC 9110, section 8.4): bodies that a server or proxy compressed though we asked it not to.
//!
//! Requests say `Accept-Encoding: identity`, yet some proxies compress whatever looks like text, and some servers call a
//! file `gzip` that is a gzip file by itself. So a declared coding is a hint and nothing more: where a digest is known, it
//! decides; elsewhere the coding is undone once.

use std::io::{self, BufRead, BufReader, Read};

use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use super::sink::{ScratchSink, Sink};
use crate::store::{Store, StoreError};

/// A coding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, and its old name `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format (RFC 1950), which many a server confuses with bare deflate (RFC 1951).
    Deflate,
    /// `zstd` (RFC 8878).
    Zstd,
}

impl Coding {
    /// The coding a response declares; `None` for several in a row, and for those labimg does not know.
    pub fn declared(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let names = texts.flat_map(|text| text.split(',')).map(|name| name.trim().to_ascii_lowercase());
        let mut names = names.filter(|name| !name.is_empty() && name != "identity");
        let coding = match names.next()?.as_str() {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => return None,
        };
        names.next().is_none().then_some(coding)
    }

    /// The most bytes that a body of `size` bytes has when it is coded: what can not be compressed grows a little.
    pub fn grown(size: u64) -> u64 {
        size.saturating_add(size / 128).saturating_add(64 * 1024)
    }

    /// Undoes the coding of what `raw` gives.
    ///
    /// # Errors
    /// Those of `raw`, at once or while reading; bytes that are not coded so.
    pub fn reader<'a>(self, raw: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let mut raw = BufReader::with_capacity(64 * 1024, raw);
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(raw)?),
            // RFC 1950, section 2.2: the method is 8, and the first two bytes are a multiple of 31.
            Self::Deflate => match raw.fill_buf()? {
                [cmf, flg, ..] if cmf & 15 == 8 && u16::from_be_bytes([*cmf, *flg]).is_multiple_of(31) => {
                    Box::new(flate2::bufread::ZlibDecoder::new(raw))
                }
                _ => Box::new(flate2::bufread::DeflateDecoder::new(raw)),
            },
        })
    }

    /// Whether a file of this name is compressed in this way by itself, so that the coding may only tell so.
    pub fn is_in_name(self, name: &str) -> bool {
        let name = name.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        let endings: &[&str] = match self {
            Self::Gzip => &[".gz", ".tgz", ".svgz"],
            Self::Zstd => &[".zst", ".tzst"],
            Self::Deflate => &[],
        };
        endings.iter().any(|ending| name.ends_with(ending))
    }
}

/// What became of undoing a coding.
pub enum Undone<T> {
    /// The plain bytes.
    Plain(T),
    /// The bytes are not coded so: they are meant as they are.
    NotCoded,
    /// The plain bytes are more than the limit.
    TooLarge,
}

/// Undoes `coding` in memory, up to `limit` bytes.
pub fn undo(coding: Coding, bytes: &[u8], limit: u64) -> Undone<Vec<u8>> {
    let mut plain = Vec::new();
    let read = coding.reader(bytes).and_then(|reader| reader.take(limit.saturating_add(1)).read_to_end(&mut plain));
    match read {
        Err(_) => Undone::NotCoded,
        Ok(_) if plain.len() as u64 > limit => Undone::TooLarge,
        Ok(_) => Undone::Plain(plain),
    }
}

/// Undoes `coding` of what `raw` gives into a nameless file of the store, up to `limit` bytes.
///
/// # Errors
/// When the file can not be written.
pub fn undo_file(store: &Store, coding: Coding, raw: impl Read, limit: u64) -> Result<Undone<ScratchSink>, StoreError> {
    let mut sink = ScratchSink::new(store)?;
    let Ok(mut plain) = coding.reader(raw) else { return Ok(Undone::NotCoded) };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => return Ok(Undone::Plain(sink)),
            Ok(n) => sink.write(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(Undone::NotCoded),
        }
        if sink.len() > limit {
            return Ok(Undone::TooLarge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    const TEXT: &[u8] = br#"{"schemaVersion":2,"x":"the same bytes the same bytes the same bytes"}"#;

    fn declared(values: &[&str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        Coding::declared(&headers)
    }

    fn plain(coding: Coding, bytes: &[u8]) -> Option<Vec<u8>> {
        match undo(coding, bytes, 1000) {
            Undone::Plain(plain) => Some(plain),
            _ => None,
        }
    }

    #[test]
    fn one_known_coding_is_told() {
        for (values, coding) in [
            (&["gzip"][..], Some(Coding::Gzip)),
            (&["X-Gzip"], Some(Coding::Gzip)),
            (&["identity, gzip"], Some(Coding::Gzip)),
            (&["deflate"], Some(Coding::Deflate)),
            (&["zstd"], Some(Coding::Zstd)),
            (&["identity"], None),
            (&[""], None),
            (&["br"], None),
            (&["gzip, gzip"], None),
            (&["gzip", "br"], None),
            (&[], None),
        ] {
            assert_eq!(declared(values), coding, "{values:?}");
        }
    }

    #[test]
    fn each_coding_is_undone_once() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(TEXT).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(TEXT).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(TEXT).unwrap();
        assert_eq!(plain(Coding::Gzip, &gzip).unwrap(), TEXT);
        assert_eq!(plain(Coding::Deflate, &zlib.finish().unwrap()).unwrap(), TEXT);
        assert_eq!(plain(Coding::Deflate, &bare.finish().unwrap()).unwrap(), TEXT);
        assert_eq!(plain(Coding::Zstd, &zstd::encode_all(TEXT, 1).unwrap()).unwrap(), TEXT);
        let mut twice = GzEncoder::new(Vec::new(), Compression::fast());
        twice.write_all(&gzip).unwrap();
        assert_eq!(plain(Coding::Gzip, &twice.finish().unwrap()).unwrap(), gzip);
    }

    #[test]
    fn what_is_not_coded_stays_and_what_grows_too_large_is_told() {
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            assert!(matches!(undo(coding, TEXT, 1000), Undone::NotCoded), "{coding:?}");
        }
        let zeros = zstd::encode_all(&vec![0; 5000][..], 1).unwrap();
        assert!(matches!(undo(Coding::Zstd, &zeros, 4999), Undone::TooLarge));
        assert!(matches!(undo(Coding::Zstd, &zeros, 5000), Undone::Plain(_)));
        assert!(matches!(undo(Coding::Gzip, &[0x1f, 0x8b, 8, 0], 1000), Undone::NotCoded), "cut off");
    }

    #[test]
    fn names_that_say_compressed() {
        assert!(Coding::Gzip.is_in_name("https://h.example/a/x.TGZ?y=1"));
        assert!(!Coding::Gzip.is_in_name("https://h.example/index.yaml"));
        assert!(!Coding::Zstd.is_in_name("https://h.example/x.gz"));
    }
}
