//! The archive that is a box: the small members sorted, then the large one; root's, with the epoch as their time; no compression
//! around them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use fs_err::File;
use serde_json::json;

use crate::base::tarball::{Kind, Member, TarWriter};
use crate::build::BuildError;
use crate::build::disk::DiskSpec;
use crate::build::step::Output;
use crate::model::profile::Provider;
use crate::store::Store;

/// `metadata.json` of a box (Vagrant's documentation, "Box File Format"; vagrant-libvirt's, "Version 1").
pub fn metadata(provider: Provider, spec: &DiskSpec) -> String {
    let architecture = spec.platform.arch();
    let value = match super::box_of(provider) {
        Provider::Virtualbox => json!({"architecture": architecture, "provider": "virtualbox"}),
        _ => {
            json!({"architecture": architecture, "format": "qcow2", "provider": "libvirt", "virtual_size": spec.size})
        }
    };
    format!("{value}\n")
}

/// Stores a box of these small texts and one large file, hashed on its way; `advance` hears of bytes of that.
///
/// # Errors
/// I/O errors, and those of the store.
pub fn pack(
    store: &Store,
    texts: &[(&str, &str)],
    (name, path): (&str, &Path),
    epoch: u64,
    advance: &dyn Fn(u64),
) -> Result<Output, BuildError> {
    let failed = |e| BuildError::io(path, "pack", e);
    let mut large = Counted { file: File::open(path).map_err(failed)?, advance };
    let size = large.file.metadata().map_err(failed)?.len();
    let texts = aligned(texts);
    let small = texts.iter().map(|(name, text)| (*name, Some(text.as_str())));
    let (digest, size, ()) = store.put_with(|out| {
        let mut tar = TarWriter::new(out);
        for (name, text) in small.chain([(name, None)]) {
            let bytes = text.map_or(size, |t| t.len() as u64);
            let member = Member { path: name, kind: Kind::File(bytes), mode: 0o644, uid: 0, gid: 0, mtime: epoch };
            let put = match text {
                Some(text) => tar.put(&member, &mut text.as_bytes()),
                None => tar.put(&member, &mut large),
            };
            put.map_err(failed)?;
        }
        tar.finish().map(drop).map_err(failed)
    })?;
    Ok(Output { digest, size, facts: BTreeMap::new() })
}

/// A tar's blocks (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK: usize = 512;
/// What file systems share extents in, in bytes.
const PAGE: usize = 4096;

/// The small texts, sorted. The first, which is the Vagrantfile, gets as many lines of comment as put what comes after all of them
/// on a page of its own: whoever takes it out of the box can then share it with the box instead of copying it.
fn aligned<'t>(texts: &[(&'t str, &str)]) -> Vec<(&'t str, String)> {
    let mut all: Vec<(&str, String)> = texts.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    all.sort_unstable();
    let taken: usize = all.iter().map(|(_, text)| BLOCK + text.len().next_multiple_of(BLOCK)).sum::<usize>() + BLOCK;
    let lacks = taken.next_multiple_of(PAGE) - taken;
    if let Some((_, text)) = all.first_mut().filter(|(name, _)| *name == "Vagrantfile" && lacks > 0) {
        let line = format!("#{}\n", " ".repeat(62));
        text.push_str(&line.repeat(lacks / line.len()));
    }
    all
}

/// Tells of what is read.
struct Counted<'a> {
    file: File,
    advance: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        (self.advance)(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_starts_on_a_page() {
        for length in [0, 1, 511, 512, 513, 3000, 4096, 9000] {
            let text = "x".repeat(length);
            let all = aligned(&[("metadata.json", "{}"), ("Vagrantfile", text.as_str())]);
            let before: usize = all.iter().map(|(_, t)| BLOCK + t.len().next_multiple_of(BLOCK)).sum();
            assert_eq!((before + BLOCK) % PAGE, 0, "{length}");
            assert!(all[0].0 == "Vagrantfile" && all[0].1.starts_with(&text));
        }
    }
}
