//! Package indices: fetched by the digest the Release file gives, and kept in a short form that is quick to read again.
//!
//! The short form has one package a line, its fields between tabs, in the order [`Row::parse`] reads them. It lies in the store as a blob,
//! remembered by the digest of the index it was made from. A package whose entry is not as it must be has a line of another kind
//! ([`Odd`](super::odd::Odd)): it is no package anybody can have, and whoever wants that very one is told why.

use std::sync::Arc;

use url::Url;

use super::mirror::{Bases, ask};
use super::odd::remark;
use super::release::Release;
use super::shorten::shorten;
use super::{DebianError, ahead};
use crate::base::digest::Digest;
use crate::source::file::blocking;
use crate::source::http::{Download, download};
use crate::source::{ErrorKind, Net, SourceError};
use crate::store::{BlobSource, Store};

/// What the store's cache calls the short form; another form needs another name.
const KIND: &str = "debian-index-2";

/// The most bytes an index may have when it is no longer compressed; Debian's have 60 MB.
pub(super) const LIMIT: u64 = 1 << 30;

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
    let text = short_form(net, store, bases, release, place).await?;
    if let Some(remark) = remark(&text) {
        net.reporter().note(&remark);
    }
    Ok(text)
}

async fn short_form(
    net: &Net,
    store: &Arc<Store>,
    bases: &Bases,
    release: &Release,
    place: &Place,
) -> Result<String, SourceError> {
    let dir = format!("{}/binary-{}", place.component, place.architecture);
    let mut listed: Vec<(String, Digest, u64)> = Vec::new();
    let mut wrong = None;
    for path in [".xz", ".gz", ""].map(|end| format!("{dir}/Packages{end}")) {
        match release.indices.get(&path) {
            Some(Ok((digest, size))) => listed.push((path, *digest, *size)),
            Some(Err(why)) => wrong = Some(why.clone()),
            None => {}
        }
    }
    if let Some(why) = wrong.filter(|_| listed.is_empty()) {
        return Err(DebianError::Release { url: release.url.clone(), why }.into());
    }
    for (_, digest, _) in &listed {
        if let Some(made) = store.remembered(KIND, digest)
            && let Some(text) = blocking(store, move |store| Ok(stored(store, &made))).await?
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
fn stored(store: &Store, made: &Digest) -> Option<String> {
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
