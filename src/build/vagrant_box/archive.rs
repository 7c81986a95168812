//! The archive that is a box: sorted members, root's, with the epoch as their time; no compression around them.

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
    let mut names: Vec<(&str, Option<&str>)> = texts.iter().map(|(name, text)| (*name, Some(*text))).collect();
    names.push((name, None));
    names.sort_unstable();
    let (digest, size, ()) = store.put_with(|out| {
        let mut tar = TarWriter::new(out);
        for (name, text) in names {
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
