//! Doors for the fuzz targets (`tests/fuzz`) into parsers of this layer that nobody else needs. Built with `--cfg fuzzing` only.

use std::io::Read;

use url::Url;

use super::chart::fuzzing as chart;
use super::debian::fuzzing as debian;
use super::oci::fuzzing as oci;
use super::wheel::fuzzing as wheel;

/// The versions of a chart in an `index.yaml`.
pub fn index_yaml(data: &[u8]) {
    chart::index(data);
}

/// A packaged chart.
pub fn chart_archive(data: &[u8]) {
    chart::archive(data);
}

/// A Release file of Debian, once its signature was checked.
pub fn release(data: &[u8]) {
    debian::release(data);
}

/// A package index of Debian.
pub fn packages(data: &[u8]) {
    debian::packages(data);
}

/// The manifest or index of an image, as a registry sends it.
pub fn image_manifest(data: &[u8]) {
    oci::manifest(data);
}

/// A project's page on an index of Python packages. Its first byte chooses HTML or JSON.
pub fn wheel_page(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let Ok(base) = Url::parse("https://index.example/simple/x/") else { return };
    wheel::page(if first % 2 == 0 { "text/html" } else { "application/vnd.pypi.simple.v1+json" }, rest, &base);
}

/// The members of an archive, compressed or not: what is looked for in one, and what is unpacked of one.
pub fn archive(data: &[u8]) {
    let Ok(plain) = crate::base::codec::decoder(data) else { return };
    let mut archive = crate::base::untar::Untar::new(crate::base::codec::Capped::new(plain, 64 << 20));
    let Ok(entries) = archive.entries() else { return };
    for entry in entries {
        let Ok(mut entry) = entry else { return };
        let _ = entry.path().ok().and_then(|path| super::archive::entry_name(&path));
        let _ = entry.link_name_bytes();
        let _ = std::io::copy(&mut entry.by_ref().take(1 << 20), &mut std::io::sink());
    }
}
