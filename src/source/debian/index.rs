//! Package indices: fetched by the digest the Release file gives, and kept in a short form that is quick to read again.
//!
//! The short form has one package a line, its fields between tabs, in the order [`Row::parse`] reads them. It lies in the store as a blob,
//! remembered by the digest of the index it was made from.

use std::io::Read;
use std::sync::Arc;

use memchr::{memchr_iter, memmem};
use url::Url;

use super::mirror::{Bases, ask};
use super::release::Release;
use super::{DebianError, ahead};
use crate::base::digest::Digest;
use crate::model::debian::deb822::{self, Stanza};
use crate::model::debian::{relation, version};
use crate::source::file::blocking;
use crate::source::http::{Download, download};
use crate::source::{ErrorKind, Net, SourceError};
use crate::store::{BlobSource, Store};

/// What the store's cache calls the short form; another form needs another name.
const KIND: &str = "debian-index-1";

/// The most bytes an index may have when it is no longer compressed; Debian's have 60 MB.
const LIMIT: u64 = 1 << 30;

/// The most bytes one package's entry may have.
const STANZA_LIMIT: usize = 4 << 20;

/// How much is decompressed at a time.
const CHUNK: usize = 1 << 20;

/// A package as the short form has it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Architecture.
    pub architecture: &'a str,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// Hex of its SHA-256.
    pub sha256: &'a str,
    /// Its path below the archive's root.
    pub path: &'a str,
    /// `Provides`.
    pub provides: &'a str,
    /// `Pre-Depends` and `Depends`.
    pub depends: &'a str,
    /// `Conflicts`.
    pub conflicts: &'a str,
    /// `Breaks`.
    pub breaks: &'a str,
}

impl<'a> Row<'a> {
    /// Reads a line of the short form; `None` for what is none.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        Some(Self {
            name: next()?,
            version: next()?,
            architecture: next()?,
            // Who is essential, and the priority, interest only who sees all packages: the universe.
            provides: {
                let (_, _) = (next()?, next()?);
                next()?
            },
            size: next()?.parse().ok()?,
            sha256: next()?,
            path: next()?,
            depends: next()?,
            conflicts: next()?,
            breaks: next()?,
        })
    }
}

/// The short form of one suite's index for a component and an architecture, from the store or the network.
///
/// # Errors
/// An index that can not be had, has another digest than the Release file says, or is malformed.
pub async fn load(
    net: &Net,
    store: &Arc<Store>,
    bases: &Bases,
    release: &Release,
    place: &Place,
) -> Result<String, SourceError> {
    let dir = format!("{}/binary-{}", place.component, place.architecture);
    let listed: Vec<(String, Digest, u64)> = [".xz", ".gz", ""]
        .iter()
        .map(|end| format!("{dir}/Packages{end}"))
        .filter_map(|path| release.indices.get(&path).map(|(digest, size)| (path.clone(), *digest, *size)))
        .collect();
    for (_, digest, _) in &listed {
        if let Some(made) = store.remembered(KIND, digest)
            && let Some(text) = blocking(store, move |store| Ok(short_form(store, &made))).await?
        {
            return Ok(text);
        }
    }
    let (url, digest) = bring(net, store, bases, release, place, &listed).await?;
    let architecture = place.architecture.clone();
    blocking(store, move |store| make(store, &digest, &url, &architecture)).await
}

/// Which index of a suite.
#[derive(Debug, Clone)]
pub struct Place {
    /// The suite.
    pub suite: String,
    /// The component.
    pub component: String,
    /// The architecture.
    pub architecture: String,
}

/// The short form in the store, if it is what it must be.
fn short_form(store: &Store, made: &Digest) -> Option<String> {
    String::from_utf8(store.read_blob(made, LIMIT).ok()?).ok()
}

/// Brings the index into the store; gives where it was found, and its digest. The first form that is there is taken.
async fn bring(
    net: &Net,
    store: &Arc<Store>,
    bases: &Bases,
    release: &Release,
    place: &Place,
    listed: &[(String, Digest, u64)],
) -> Result<(String, Digest), SourceError> {
    let mut failed = None;
    for (path, digest, size) in listed {
        let label = format!("index {} {} {}", place.suite, place.component, place.architecture);
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let by_hash = format!("dists/{}/{dir}/by-hash/SHA256/{}", place.suite, digest.hex());
        let plain = format!("dists/{}/{path}", place.suite);
        for path in [release.by_hash.then_some(by_hash), Some(plain)].into_iter().flatten() {
            let (expected, size, label) = (Some(*digest), Some(*size), &label);
            let get = |url: Url| async move {
                let job = Download { url: &url, key: url.as_str(), label, expected, size, auth: None };
                download(net, store, &job).await
            };
            let got = ask(net, bases, &path, get).await;
            match got {
                Ok((_, url)) => return Ok((url, *digest)),
                Err(error) if error.kind() == ErrorKind::NotFound => failed = Some(failed.unwrap_or(error)),
                Err(error) => return Err(error),
            }
        }
    }
    let none = || {
        let why = format!("it lists no index of {} for {}", place.component, place.architecture);
        DebianError::Release { url: release.url.clone(), why }.into()
    };
    Err(failed.unwrap_or_else(none))
}

/// Makes the short form of the index `digest` and puts it into the store.
fn make(store: &Store, digest: &Digest, url: &str, architecture: &str) -> Result<String, SourceError> {
    let text = ahead::decompressed(store.blob_file(digest)?, |reader| shorten(reader, url, architecture))?;
    let made = store.put(text.as_bytes())?;
    store.remember(KIND, digest, &made)?;
    Ok(text)
}

/// Reads an index in pieces, and gives its short form.
pub(super) fn shorten(mut reader: impl Read, url: &str, architecture: &str) -> Result<String, SourceError> {
    let bad = |line: usize, package: &str, why: String| DebianError::Stanza {
        url: url.to_owned(),
        line,
        package: package.to_owned(),
        why,
    };
    let (mut out, mut buffer) = (String::new(), Vec::with_capacity(2 * CHUNK));
    let (mut lines, mut total) = (0, 0);
    loop {
        let read = reader.by_ref().take(CHUNK as u64).read_to_end(&mut buffer);
        let read = read.map_err(|e| bad(lines + 1, "?", format!("it can not be decompressed: {e}")))?;
        total += read as u64;
        let end = if read == 0 { Some(buffer.len()) } else { memmem::rfind(&buffer, b"\n\n").map(|at| at + 2) };
        if total > LIMIT || end.is_none() && buffer.len() > STANZA_LIMIT {
            return Err(bad(lines + 1, "?", "it is too large".to_owned()).into());
        }
        let whole = buffer.get(..end.unwrap_or(0)).unwrap_or_default();
        let text = std::str::from_utf8(whole).map_err(|e| {
            let before = whole.get(..e.valid_up_to()).unwrap_or_default();
            bad(lines + memchr_iter(b'\n', before).count() + 1, "?", "it is no UTF-8 text".to_owned())
        })?;
        for stanza in deb822::stanzas(text) {
            push(&mut out, &stanza, architecture).map_err(|(offset, why)| {
                let line = lines + deb822::line_at(text, stanza.offset + offset);
                bad(line, stanza.get("Package").unwrap_or("?"), why)
            })?;
        }
        lines += memchr_iter(b'\n', whole).count();
        if read == 0 {
            return Ok(out);
        }
        buffer.drain(..end.unwrap_or(0));
    }
}

/// The fields of a package that are looked at.
#[derive(Default)]
struct Entry<'a> {
    package: &'a str,
    version: &'a str,
    architecture: &'a str,
    essential: bool,
    priority: u8,
    size: &'a str,
    sha256: &'a str,
    filename: &'a str,
    /// `Provides`, `Pre-Depends`, `Depends`, `Conflicts`, `Breaks`.
    relations: [&'a str; 5],
}

/// Appends one package; an error says where in the stanza, and what is wrong.
fn push(out: &mut String, stanza: &Stanza<'_>, architecture: &str) -> Result<(), (usize, String)> {
    let mut entry = Entry { priority: 5, ..Entry::default() };
    for field in stanza.fields() {
        let field = field.map_err(|e| (e.offset, e.to_string()))?;
        let mut relations = |at: usize| {
            relation::check(field.value).map_err(|e| (field.offset, format!("{}: {e}", field.name)))?;
            entry.relations[at] = field.value;
            Ok(())
        };
        match field.name {
            "Package" => entry.package = field.value,
            "Version" => entry.version = field.value,
            "Architecture" => entry.architecture = field.value,
            "Essential" => entry.essential = field.value == "yes",
            "Priority" => entry.priority = priority(field.value),
            "Size" => entry.size = field.value,
            "SHA256" => entry.sha256 = field.value,
            "Filename" => entry.filename = field.value.trim_start_matches("./"),
            "Provides" => relations(0)?,
            "Pre-Depends" => relations(1)?,
            "Depends" => relations(2)?,
            "Conflicts" => relations(3)?,
            "Breaks" => relations(4)?,
            _ => {}
        }
    }
    entry.check(architecture).map_err(|why| (0, why))?;
    entry.append(out);
    Ok(())
}

fn priority(text: &str) -> u8 {
    let known = ["required", "important", "standard", "optional", "extra"];
    known.iter().position(|p| *p == text).map_or(5, |at| at as u8)
}

impl Entry<'_> {
    fn check(&self, architecture: &str) -> Result<(), String> {
        if !relation::is_package_name(self.package) {
            return Err("it has no name".to_owned());
        }
        version::check(self.version).map_err(|e| e.to_string())?;
        if self.architecture != architecture && self.architecture != "all" {
            return Err(format!("its architecture is `{}`, not {architecture} or all", self.architecture));
        }
        if !self.size.bytes().all(|c| c.is_ascii_digit()) || self.size.parse::<u64>().is_err() {
            return Err(format!("its size is `{}`", self.size));
        }
        Digest::from_hex(self.sha256).map_err(|_| "it has no SHA256 digest".to_owned())?;
        let steps = |path: &str| path.split('/').all(|step| !matches!(step, "" | "." | ".."));
        if !steps(self.filename) || self.filename.contains(['?', '#', '\\', '%']) || has_control(self.filename) {
            return Err(format!("its file is `{}`, which is no path in an archive", self.filename));
        }
        Ok(())
    }

    fn append(&self, out: &mut String) {
        let Self { package, version, architecture, size, sha256, filename, .. } = self;
        let essential = if self.essential { "E" } else { "" };
        let [provides, pre, depends, conflicts, breaks] = self.relations;
        let priority = char::from(b'0' + self.priority);
        for field in [package, version, architecture, essential] {
            out.push_str(field);
            out.push('\t');
        }
        out.push(priority);
        out.push('\t');
        push_relation(out, provides);
        for field in [size, sha256, filename] {
            out.push('\t');
            out.push_str(field);
        }
        out.push('\t');
        push_relation(out, pre);
        if !pre.is_empty() && !depends.is_empty() {
            out.push_str(", ");
        }
        for field in [depends, conflicts, breaks] {
            push_relation(out, field);
            out.push('\t');
        }
        out.push('\n');
    }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|c| c.is_ascii_control())
}

/// On one line, without tabs.
fn push_relation(out: &mut String, value: &str) {
    if has_control(value) {
        out.push_str(&deb822::unfolded(value).replace('\t', " "));
    } else {
        out.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, more: &str) -> String {
        let sha256 = Digest::of(name.as_bytes()).hex();
        format!(
            "Package: {name}\nVersion: 1.0-1\nArchitecture: amd64\nFilename: ./pool/{name}.deb\nSize: 7\nSHA256: {sha256}\n{more}\n"
        )
    }

    fn short(text: &str) -> Result<String, String> {
        shorten(text.as_bytes(), "u", "amd64").map_err(|e| e.to_string())
    }

    #[test]
    fn a_package_comes_back() {
        let more = "Essential: yes\nPriority: required\nPre-Depends: libc6 (>= 2.36)\nDepends: b,\n\tc | d\nProvides: v (= 2)\nBreaks: x\n";
        let text = short(&(stanza("a", more) + &stanza("b", ""))).unwrap();
        let rows: Vec<Row> = text.lines().map(|l| Row::parse(l).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        let a = rows[0];
        assert_eq!((a.name, a.version, a.architecture), ("a", "1.0-1", "amd64"));
        assert!(text.starts_with("a\t1.0-1\tamd64\tE\t0\tv (= 2)\t7\t"), "{text}");
        assert_eq!((a.size, a.path, a.provides), (7, "pool/a.deb", "v (= 2)"));
        assert_eq!((a.depends, a.conflicts, a.breaks), ("libc6 (>= 2.36), b, c | d", "", "x"));
        assert_eq!((rows[1].name, rows[1].depends), ("b", ""));
    }

    #[test]
    fn malformed_entries_name_package_and_line() {
        let good = stanza("a", "");
        for (text, line, package, why) in [
            (format!("{good}{}", stanza("b", "").replace("1.0-1", "1 0")), 8, "b", "no version"),
            (format!("{good}{}", stanza("b", "").replace("Size: 7", "Size: -7")), 8, "b", "size"),
            (format!("{good}{}", stanza("b", "").replace("./pool/", "../../")), 8, "b", "path"),
            (format!("{good}{}", stanza("b", "").replace("amd64", "i386")), 8, "b", "`i386`"),
            (stanza("a", "Depends: b (>= )\n"), 7, "a", "Depends: `b (>= )`"),
            (stanza("a", "nonsense\n"), 7, "a", "`nonsense` is no field"),
            ("Version: 1\n".to_owned(), 1, "?", "no name"),
        ] {
            let error = short(&text).unwrap_err();
            assert!(error.starts_with(&format!("`u`, line {line}, package {package}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        let mut bytes = good.into_bytes();
        bytes.extend(b"Package: b\n\xff\n");
        assert!(shorten(&bytes[..], "u", "amd64").unwrap_err().to_string().contains("line 9"), "UTF-8");
        assert_eq!(short("\n\n").unwrap(), "");
    }

    #[test]
    fn pieces_make_no_difference() {
        let text: String = (0..20_000).map(|n| stanza(&format!("p{n}"), "Depends: libc6\n")).collect();
        assert!(text.len() > 3 * CHUNK);
        assert_eq!(short(&text).unwrap().lines().count(), 20_000);
        let wrong = text.clone() + &stanza("last", "").replace("7", "x");
        assert!(short(&wrong).unwrap_err().contains("line 160001, package last"), "{}", short(&wrong).unwrap_err());
    }
}
