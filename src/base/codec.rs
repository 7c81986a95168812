//! Compressed streams, recognised by their first bytes and never by a name or media type.

use std::io::{self, BufReader, Cursor, Read};

use super::bounds::XZ_MEMORY;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all, as far as we can tell.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz (tukaani.org xz file format, 2.1.1.1).
    Xz,
}

impl Codec {
    /// Recognises a codec by the magic number at the start of `head`.
    pub fn sniff(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// Decompresses `reader`, whatever it holds; an uncompressed stream passes through.
///
/// # Errors
/// I/O errors of the reader, and a decoder that can not be made.
pub fn decoder<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    reader.by_ref().take(6).read_to_end(&mut head)?;
    let codec = Codec::sniff(&head);
    let source = BufReader::with_capacity(64 * 1024, Cursor::new(head).chain(reader));
    Ok(match codec {
        Codec::Plain => Box::new(source),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Codec::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
    })
}

/// A reader that fails, rather than ends, after so many bytes: what a small stream unpacks to has no bound of its own.
pub struct Capped<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R> Capped<R> {
    /// Lets `most` bytes through.
    pub fn new(inner: R, most: u64) -> Self {
        Self { inner, left: most, most }
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {} MiB", self.most >> 20)))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_codec_comes_back_plain() {
        let text = b"the same bytes".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let packed =
            [text.clone(), gzip.finish().unwrap(), zstd::encode_all(&text[..], 1).unwrap(), xz.finish().unwrap()];
        for bytes in packed {
            let mut out = Vec::new();
            decoder(&bytes[..]).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn a_capped_reader_fails_at_its_cap() {
        assert!(io::copy(&mut Capped::new(&[0; 10][..], 10), &mut io::sink()).is_ok());
        assert!(io::copy(&mut Capped::new(&[0; 11][..], 10), &mut io::sink()).is_err());
    }
}
