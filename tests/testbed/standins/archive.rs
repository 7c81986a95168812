//! Tar and gzip with nothing in them but what was asked for: sorted by the caller, one time stamp, no owner.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The one time every stand-in has: 2025-01-01.
pub const TIME: u64 = 1_735_689_600;

/// An entry of an archive.
pub enum Entry {
    /// A folder.
    Dir(String),
    /// A file: path, mode, contents.
    File(String, u32, Vec<u8>),
    /// A symbolic link: path, target.
    Link(String, String),
}

/// The entries as an uncompressed tar.
pub fn tar(entries: Vec<Entry>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(TIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match entry {
            Entry::Dir(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                tar.append_data(&mut header, path, io::empty())?;
            }
            Entry::File(path, mode, data) => {
                header.set_size(data.len() as u64);
                header.set_mode(mode);
                tar.append_data(&mut header, path, data.as_slice())?;
            }
            Entry::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}

/// `data` gzipped, quickly.
pub fn gzip(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(data.len()), Compression::fast());
    for chunk in data.chunks(64 << 10) {
        gzip.write_all(chunk)?;
    }
    gzip.finish()
}
