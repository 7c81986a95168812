//! Looking into a packaged chart (Helm documentation, "Charts"): its name and version, and the sub-charts it carries.

use std::collections::BTreeSet;
use std::io::{self, Read};

use serde::Deserialize;

use crate::base::codec;
use crate::model::manifest;
use crate::source::archive::{Capped, entry_name};

/// The most bytes a chart may unpack to (Helm itself stops at 100 MiB).
const UNPACKED_LIMIT: u64 = 1 << 30;

/// The most bytes of one `Chart.yaml`.
const META_LIMIT: u64 = 1 << 20;

/// How deep charts packed inside charts are followed.
const DEPTH: usize = 4;

/// What a chart says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Charts inside it, at any depth, as `name@version`.
    pub inner: BTreeSet<String>,
}

/// What is read of a `Chart.yaml`.
#[derive(Deserialize)]
struct Meta {
    name: Option<String>,
    version: Option<String>,
}

/// Reads a `.tgz` as a stream.
///
/// # Errors
/// What is wrong with it: no gzip, no tar, no `Chart.yaml`, too large.
pub fn look_into(reader: impl Read) -> Result<Contents, String> {
    look(reader, DEPTH)
}

fn look<'a>(reader: impl Read + 'a, depth: usize) -> Result<Contents, String> {
    let damaged = |e: io::Error| format!("no chart archive, or a damaged one: {e}");
    // Boxed as a trait object, so that charts in charts do not make types in types.
    let stream: Box<dyn Read + 'a> = Box::new(Capped::new(codec::decoder(reader).map_err(damaged)?, UNPACKED_LIMIT));
    let mut archive = tar::Archive::new(stream);
    let mut own = None;
    let mut inner = BTreeSet::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        // Helm 3.0 and 3.1 on Windows wrote its separators.
        let slashed = |path: &std::path::Path| Some(path.to_str()?.replace('\\', "/"));
        let path = entry.path().ok().and_then(|path| entry_name(slashed(&path)?.as_ref()));
        let Some(path) = path else { continue };
        match place(&path) {
            Place::Own => own = Some((meta(&mut entry, &path)?, path)),
            Place::Inner => {
                // Helm minds no sub-chart that does not say what it is.
                if let Meta { name: Some(name), version: Some(version) } = meta(&mut entry, &path)? {
                    inner.insert(format!("{name}@{version}"));
                }
            }
            Place::Packed if depth > 0 => {
                let packed: &mut dyn Read = &mut entry;
                let contents = look(packed, depth - 1).map_err(|why| format!("`{path}`: {why}"))?;
                inner.insert(format!("{}@{}", contents.name, contents.version));
                inner.extend(contents.inner);
            }
            Place::Packed => return Err(format!("`{path}`: charts packed more than {DEPTH} deep")),
            Place::Other => {}
        }
    }
    let (Meta { name, version }, path) = own.ok_or("it holds no `Chart.yaml`")?;
    let lacks = |what: &str| format!("`{path}` has no `{what}`");
    Ok(Contents { name: name.ok_or_else(|| lacks("name"))?, version: version.ok_or_else(|| lacks("version"))?, inner })
}

/// What a path in a chart is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// `x/Chart.yaml`
    Own,
    /// `x/charts/y/Chart.yaml`, at any depth.
    Inner,
    /// `x/charts/y.tgz`, at any depth.
    Packed,
    /// Anything else.
    Other,
}

fn place(path: &str) -> Place {
    let parts: Vec<&str> = path.split('/').collect();
    // x, then any number of (charts, y), then the rest.
    let mut rest = &parts[1..];
    let mut deep = false;
    // Helm passes over what starts with `.` or `_`.
    while let ["charts", name, more @ ..] = rest
        && !more.is_empty()
        && !name.starts_with(['.', '_'])
    {
        (rest, deep) = (more, true);
    }
    match rest {
        ["Chart.yaml"] if deep => Place::Inner,
        ["Chart.yaml"] => Place::Own,
        ["charts", name] if name.ends_with(".tgz") && !name.starts_with(['.', '_']) => Place::Packed,
        _ => Place::Other,
    }
}

fn meta(reader: &mut impl Read, path: &str) -> Result<Meta, String> {
    let mut bytes = Vec::new();
    reader.take(META_LIMIT).read_to_end(&mut bytes).map_err(|e| format!("`{path}`: {e}"))?;
    let text = manifest::decode(&bytes).map_err(|e| format!("`{path}`: {e}"))?;
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    serde_saphyr::from_str_with_options(&text, options).map_err(|e| format!("`{path}`: {e}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A chart's archive of these files.
    pub fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn chart(name: &str, version: &str) -> Vec<u8> {
        format!("apiVersion: v2\nname: {name}\nversion: {version}\n").into_bytes()
    }

    #[test]
    fn sub_charts_are_listed_unpacked_and_packed() {
        let deep = pack(&[("deep/Chart.yaml", &chart("deep", "0.3.0"))]);
        let packed = pack(&[("redis/Chart.yaml", &chart("redis", "2.0.0")), ("redis/charts/deep-0.3.0.tgz", &deep)]);
        let tgz = pack(&[
            ("jenkins/Chart.yaml", &chart("jenkins", "5.0.0")),
            ("jenkins/templates/Chart.yaml", b"not: a chart"),
            ("jenkins/charts/common/Chart.yaml", &chart("common", "1.0.0")),
            ("jenkins/charts/common/charts/lib/Chart.yaml", &chart("lib", "1.1.0")),
            ("jenkins/charts/redis-2.0.0.tgz", &packed),
        ]);
        let found = look_into(&tgz[..]).unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str()), ("jenkins", "5.0.0"));
        let inner: Vec<&str> = found.inner.iter().map(String::as_str).collect();
        assert_eq!(inner, ["common@1.0.0", "deep@0.3.0", "lib@1.1.0", "redis@2.0.0"]);
    }

    #[test]
    fn charts_as_other_tools_pack_them_are_read() {
        let find = |files: &[(&str, &[u8])]| look_into(&pack(files)[..]).unwrap();
        let own = chart("web", "1.0.0");
        let windows = find(&[("web\\Chart.yaml", &own), ("web\\charts\\db\\Chart.yaml", &chart("db", "2.0.0"))]);
        assert_eq!((windows.name.as_str(), windows.inner.len()), ("web", 1));
        let nameless: &[u8] = b"description: null\nversion: null\n";
        let odd: &[u8] =
            b"\xef\xbb\xbfname: web\nversion: 0.9\nversion: 1.0.0\ndescription: \"one\ntwo\"\nkeywords: null\n";
        let found = find(&[
            ("web/charts/lib/Chart.yaml", nameless),
            ("web/charts/_off/Chart.yaml", b"x: ["),
            ("./web/Chart.yaml", odd),
        ]);
        assert_eq!((found.version.as_str(), found.inner.len()), ("1.0.0", 0));
        let error = look_into(&pack(&[("web/Chart.yaml", nameless)])[..]).unwrap_err();
        assert_eq!(error, "`web/Chart.yaml` has no `name`");
    }

    #[test]
    fn what_is_no_chart_says_so() {
        assert!(look_into(&pack(&[("x/values.yaml", b"a: 1")])[..]).unwrap_err().contains("Chart.yaml"));
        assert!(look_into(&b"<html></html>"[..]).is_err());
        assert!(look_into(&pack(&[("x/Chart.yaml", b"name: [")])[..]).unwrap_err().contains("x/Chart.yaml"));
    }
}
