//! How a lock looks on disk, version 1: canonical TOML, one field per line, LF.
//!
//! `version` moves when an older labimg could misread the file; `revision` when fields were only added. A lock of another
//! version is refused with a sentence, one of a newer revision is read (unknown fields mean nothing to us).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    FileKind, Lock, LockedChart, LockedFile, LockedImage, LockedLocal, LockedManifest, LockedMember, LockedPackage,
    LockedProgram, LockedSuite, LockedWheel, PackageSet, WheelSetLock, carried, made,
};
use crate::base::digest::Digest;
use crate::base::{bounded, bounds, shown};
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::profile::conflict_line;
use crate::model::url_policy::{UrlError, check_url, masked};

/// The version this labimg reads and writes.
pub const VERSION: u32 = 1;

/// The newest revision this labimg writes: 1 has suites, packages and wheels, 2 labimg itself. A lock says the lowest that holds all of it, so
/// that a newer labimg changes no byte of a lock (and no bundle) that needs nothing new.
pub const REVISION: u32 = 2;

const HEADER: &str =
    "# Written by `labimg lock`; commit it beside the profile. To move an input: labimg lock PROFILE --update NAME\n";

/// A lock that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum LockReadError {
    /// Another version than ours.
    #[error("the lock has version {found}; this labimg reads version {VERSION}")]
    Version {
        /// The version found.
        found: i64,
    },
    /// Not a lock, or a broken one.
    #[error("{line}:{column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// Two versions that were not merged.
    #[error("two versions of the lock were not merged: git left its marks in it")]
    Conflict {
        /// The line of the first mark, from 1.
        line: usize,
    },
    /// A URL that may not stand in a lock.
    #[error("input `{name}`: {source}")]
    Url {
        /// The input.
        name: String,
        /// Why not.
        source: UrlError,
    },
    /// Two entries for one input, or an entry that contradicts itself.
    #[error("{0}")]
    Content(String),
}

#[derive(Deserialize)]
struct Head {
    version: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireLock {
    version: u32,
    #[serde(default)]
    revision: u32,
    name: String,
    epoch: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    image: Vec<WireImage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chart: Vec<WireChart>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    file: Vec<WireFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    local: Vec<WireLocal>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suite: Vec<LockedSuite>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    package_set: Vec<PackageSet>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    package: Vec<LockedPackage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wheel_set: Vec<WheelSetLock>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wheel: Vec<LockedWheel>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labimg: Vec<LockedProgram>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireImage {
    #[serde(rename = "ref")]
    reference: ImageRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<ImageRef>,
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Vec<WireManifest>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireManifest {
    platform: Platform,
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct WireChart {
    name: String,
    chart: String,
    repo: String,
    version: String,
    url: String,
    sha256: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireFile {
    kind: FileKind,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    url: String,
    sha256: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member_sha256: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member_size: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct WireLocal {
    path: String,
    sha256: Digest,
    size: u64,
}

/// The canonical text of a lock.
///
/// # Errors
/// Only if the TOML writer fails, which no lock makes it do.
pub fn to_text(lock: &Lock) -> Result<String, toml::ser::Error> {
    let mut lock = lock.clone();
    lock.sort();
    let wire = WireLock {
        version: VERSION,
        revision: revision(&lock),
        name: lock.name,
        epoch: lock.epoch,
        image: lock.images.into_iter().map(WireImage::from).collect(),
        chart: lock.charts.into_iter().map(WireChart::from).collect(),
        file: lock.files.into_iter().map(WireFile::from).collect(),
        local: lock.locals.into_iter().map(|l| WireLocal { path: l.path, sha256: l.digest, size: l.size }).collect(),
        suite: lock.suites,
        package_set: lock.package_sets,
        package: lock.packages,
        wheel_set: lock.wheel_sets,
        wheel: lock.wheels,
        labimg: lock.carried,
    };
    Ok(format!("{HEADER}{}", toml::to_string(&wire)?))
}

/// The lowest revision that holds all of `lock`.
fn revision(lock: &Lock) -> u32 {
    match (lock.carried.is_empty(), lock.suites.is_empty() && lock.wheel_sets.is_empty()) {
        (false, _) => REVISION,
        (true, false) => 1,
        (true, true) => 0,
    }
}

/// Reads a lock.
///
/// # Errors
/// Another version, broken TOML, URLs that may not be used, contradictions.
pub fn parse(text: &str) -> Result<Lock, LockReadError> {
    let at = |start: usize, message: &str| {
        let before = text.get(..start).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        LockReadError::Syntax {
            line: before.matches('\n').count() + 1,
            column,
            message: shown::shortened(&masked(&message.trim_end().replace('\n', ", ")), bounds::FINDING_CHARS),
        }
    };
    let syntax = |e: toml::de::Error| at(e.span().map_or(0, |s| s.start.min(text.len())), e.message());
    if text.len() as u64 > bounds::LOCK_BYTES {
        return Err(at(0, &format!("a lock has at most {} MiB", bounds::LOCK_BYTES >> 20)));
    }
    bounded::toml(text).map_err(|e| at(e.at, &e.why))?;
    let head: Head = toml::from_str(text).map_err(|e| match conflict_line(text) {
        Some(line) => LockReadError::Conflict { line },
        None => syntax(e),
    })?;
    if head.version != i64::from(VERSION) {
        return Err(LockReadError::Version { found: head.version });
    }
    let wire: WireLock = toml::from_str(text).map_err(syntax)?;
    let mut lock = Lock {
        name: wire.name,
        epoch: wire.epoch,
        images: wire.image.into_iter().map(LockedImage::try_from).collect::<Result<_, _>>()?,
        charts: wire.chart.into_iter().map(LockedChart::from).collect(),
        files: wire.file.into_iter().map(LockedFile::try_from).collect::<Result<_, _>>()?,
        locals: wire.local.into_iter().map(|l| LockedLocal { path: l.path, digest: l.sha256, size: l.size }).collect(),
        suites: wire.suite,
        package_sets: wire.package_set,
        packages: wire.package,
        wheel_sets: wire.wheel_set,
        wheels: wire.wheel,
        carried: wire.labimg,
    };
    lock.sort();
    check(&lock)?;
    Ok(lock)
}

fn check(lock: &Lock) -> Result<(), LockReadError> {
    let mut seen = BTreeSet::new();
    for name in lock.input_names() {
        if !seen.insert(name.clone()) {
            return Err(LockReadError::Content(format!("the lock has two entries for {name}")));
        }
    }
    made::check(lock).and_then(|()| carried::check(lock)).map_err(LockReadError::Content)?;
    let urls = lock.files.iter().map(|f| (&f.name, &f.url)).chain(lock.charts.iter().map(|c| (&c.name, &c.url)));
    for (name, url) in urls.filter(|(_, url)| !url.starts_with("oci://")) {
        check_url(url).map_err(|source| LockReadError::Url { name: name.clone(), source })?;
    }
    Ok(())
}

impl From<LockedImage> for WireImage {
    fn from(image: LockedImage) -> Self {
        let platform = image.platforms.into_iter();
        Self {
            reference: image.reference,
            source: image.source,
            media_type: image.media_type,
            digest: image.digest,
            size: image.size,
            platform: platform
                .map(|(platform, m)| WireManifest {
                    platform,
                    media_type: m.media_type,
                    digest: m.digest,
                    size: m.size,
                })
                .collect(),
        }
    }
}

impl TryFrom<WireImage> for LockedImage {
    type Error = LockReadError;
    fn try_from(wire: WireImage) -> Result<Self, LockReadError> {
        let mut platforms = BTreeMap::new();
        for m in wire.platform {
            let manifest = LockedManifest { media_type: m.media_type, digest: m.digest, size: m.size };
            if platforms.insert(m.platform, manifest).is_some() {
                let text = format!("image {} has {} twice", wire.reference, m.platform);
                return Err(LockReadError::Content(text));
            }
        }
        if platforms.is_empty() {
            return Err(LockReadError::Content(format!("image {} has no platform", wire.reference)));
        }
        Ok(Self {
            reference: wire.reference,
            source: wire.source,
            media_type: wire.media_type,
            digest: wire.digest,
            size: wire.size,
            platforms,
        })
    }
}

impl From<LockedChart> for WireChart {
    fn from(c: LockedChart) -> Self {
        Self {
            name: c.name,
            chart: c.chart,
            repo: c.repo,
            version: c.version,
            url: c.url,
            sha256: c.digest,
            size: c.size,
            dependencies: c.dependencies,
        }
    }
}

impl From<WireChart> for LockedChart {
    fn from(c: WireChart) -> Self {
        Self {
            name: c.name,
            chart: c.chart,
            repo: c.repo,
            version: c.version,
            url: c.url,
            digest: c.sha256,
            size: c.size,
            dependencies: c.dependencies,
        }
    }
}

impl From<LockedFile> for WireFile {
    fn from(f: LockedFile) -> Self {
        let member = f.member;
        Self {
            kind: f.kind,
            name: f.name,
            platform: f.platform,
            version: f.version,
            url: f.url,
            sha256: f.digest,
            size: f.size,
            member_sha256: member.as_ref().map(|m| m.digest),
            member_size: member.as_ref().map(|m| m.size),
            member: member.map(|m| m.path),
        }
    }
}

impl TryFrom<WireFile> for LockedFile {
    type Error = LockReadError;
    fn try_from(f: WireFile) -> Result<Self, LockReadError> {
        let member = match (f.member, f.member_sha256, f.member_size) {
            (Some(path), Some(digest), Some(size)) => Some(LockedMember { path, digest, size }),
            (None, None, None) => None,
            _ => {
                let text = format!("file `{}`: member, member-sha256 and member-size go together", f.name);
                return Err(LockReadError::Content(text));
            }
        };
        Ok(Self {
            kind: f.kind,
            name: f.name,
            platform: f.platform,
            version: f.version,
            url: f.url,
            digest: f.sha256,
            size: f.size,
            member,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_that_grow_are_refused_before_they_are_parsed() {
        let wrong = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(wrong(&"#".repeat(bounds::LOCK_BYTES as usize + 1)), "1:1: a lock has at most 8 MiB");
        let told = wrong(&format!("version = 1\nx = [{}]", "0,".repeat(300_000)));
        assert!(told.starts_with("2:") && told.contains("more than 250000 values"), "{told}");
        assert!(wrong(&format!("version = 1\n{} = 1", "a".repeat(1 << 20))).len() < 2 * bounds::FINDING_CHARS);
    }
}
