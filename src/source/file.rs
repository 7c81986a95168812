//! Files by URL: tools, manifests, whatever else a lab needs; whole, or one member of an archive.

use std::io::Read;
use std::sync::Arc;

use url::Url;

use super::http::{Download, download};
use super::{Net, SourceError, archive};
use crate::base::digest::Digest;
use crate::base::exe;
use crate::model::lock::{FileKind, LockedFile, LockedMember};
use crate::model::platform::Platform;
use crate::model::url_policy::check_url;
use crate::store::{BlobSource, Store};

/// A file a profile asks for, for one platform, variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// What it is for.
    pub kind: FileKind,
    /// The profile's name for it.
    pub name: String,
    /// The platform it is for, where that matters.
    pub platform: Option<Platform>,
    /// Version, as the profile states it.
    pub version: Option<String>,
    /// Where it is.
    pub url: String,
    /// Digest of what the URL serves, where the author pinned it.
    pub sha256: Option<Digest>,
    /// The one member of that archive which is wanted.
    pub member: Option<String>,
    /// Whether it must be a program (a tool always must).
    pub executable: bool,
}

/// Downloads the file and says what it is, by digest.
///
/// # Errors
/// A file that can not be had, has another digest than the author pinned, lacks the member, or is no program for the
/// platform it claims.
pub async fn resolve_file(net: &Net, store: &Arc<Store>, request: &FileRequest) -> Result<LockedFile, SourceError> {
    let label = label(request.kind, &request.name, request.platform);
    let (digest, size) = get(net, store, &request.url, &label, request.sha256, None).await?;
    let (url, wanted) = (request.url.clone(), request.member.clone());
    let program = (request.kind == FileKind::Tool || request.executable).then_some(request.platform).flatten();
    let look = move |store: &Store| {
        let member = wanted.map(|path| self::member(store, &digest, &url, path)).transpose()?;
        if let Some(platform) = program {
            let what = shown(&url, member.as_ref());
            check_program(store, &member.as_ref().map_or(digest, |m| m.digest), &what, platform)?;
        }
        Ok(member)
    };
    let member = blocking(store, look).await?;
    Ok(LockedFile {
        kind: request.kind,
        name: request.name.clone(),
        platform: request.platform,
        version: request.version.clone(),
        url: request.url.clone(),
        digest,
        size,
        member,
    })
}

/// Brings what a lock names, unless the store has what the lab gets of it: the archive around a member is not kept for
/// its own sake.
///
/// # Errors
/// As [`resolve_file`]; bytes other than the locked ones.
pub async fn fetch_file(net: &Net, store: &Arc<Store>, file: &LockedFile) -> Result<(), SourceError> {
    let (digest, size) = file.content();
    if store.has(&digest, size) {
        return Ok(());
    }
    let label = label(file.kind, &file.name, file.platform);
    get(net, store, &file.url, &label, Some(file.digest), Some(file.size)).await?;
    let Some(locked) = file.member.clone() else { return Ok(()) };
    let (archive, url) = (file.digest, file.url.clone());
    blocking(store, move |store| {
        let found = member(store, &archive, &url, locked.path.clone())?;
        if (found.digest, found.size) == (locked.digest, locked.size) {
            return Ok(());
        }
        let url = format!("{url} ({})", locked.path);
        Err(SourceError::Mismatch { url, expected: locked.digest, found: found.digest })
    })
    .await
}

/// Downloads `url`, or asks its mirrors in order; the first that has it wins.
///
/// # Errors
/// A URL that must not be written down, and what the last one asked failed with.
pub(super) async fn get(
    net: &Net,
    store: &Arc<Store>,
    url: &str,
    label: &str,
    expected: Option<Digest>,
    size: Option<u64>,
) -> Result<(Digest, u64), SourceError> {
    let upstream = checked(url)?;
    let mut failed = None;
    for asked in net.options().mirrored(upstream.as_str()) {
        let asked = checked(&asked)?;
        let job = Download { url: &asked, key: url, label, expected, size, auth: None };
        match download(net, store, &job).await {
            Err(error) if error.ask_another() => {
                let mirrored = asked != upstream;
                failed = Some(failed.unwrap_or(if mirrored { error.by_mirror_of(url) } else { error }));
            }
            done => return done,
        }
    }
    Err(failed.unwrap_or_else(|| SourceError::Internal("no URL to ask".to_owned())))
}

pub(super) fn checked(url: &str) -> Result<Url, SourceError> {
    check_url(url).map_err(|e| SourceError::Setting { what: "URL".to_owned(), why: e.to_string() })
}

/// Runs blocking work on the store away from the downloads.
pub(super) async fn blocking<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|e| SourceError::Internal(e.to_string()))?
}

fn label(kind: FileKind, name: &str, platform: Option<Platform>) -> String {
    match platform {
        Some(platform) => format!("{} {name} {platform}", kind.as_str()),
        None => format!("{} {name}", kind.as_str()),
    }
}

fn member(store: &Store, archive: &Digest, url: &str, path: String) -> Result<LockedMember, SourceError> {
    let (digest, size) = archive::extract_member(store, archive, url, &path)?;
    Ok(LockedMember { path, digest, size })
}

/// What of a URL is meant, for people.
fn shown(url: &str, member: Option<&LockedMember>) -> String {
    let url = crate::model::url_policy::shown(url);
    match member {
        Some(member) => format!("`{}` of `{url}`", member.path),
        None => format!("`{url}`"),
    }
}

/// Whether what the lab gets of a locked file is a program for the platform it claims.
///
/// # Errors
/// When it is none, is for another platform, or is not in the store.
pub fn check_executable(store: &Store, file: &LockedFile) -> Result<(), SourceError> {
    match file.platform {
        Some(platform) => check_program(store, &file.content().0, &shown(&file.url, file.member.as_ref()), platform),
        None => Ok(()),
    }
}

/// Whether the blob is a program for `platform`, by its header.
fn check_program(store: &Store, digest: &Digest, what: &str, platform: Platform) -> Result<(), SourceError> {
    let mut head = Vec::new();
    let failed = |source| SourceError::Io { path: store.blob_path(digest), source };
    store.open_blob(digest)?.take(exe::HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    let program = exe::identify(&head);
    if program.runs_on(platform.os(), platform.arch()) {
        return Ok(());
    }
    let more = match program {
        exe::Program::Other(it) if it.contains("archive") || it.contains(" file") => {
            "; name the program inside it with `member`"
        }
        exe::Program::Other(it) if it.contains("HTML") => "; the URL leads to a page, not to the file itself",
        _ => "",
    };
    let there = format!("it is {program}{more}");
    Err(SourceError::Platform { what: what.to_owned(), wanted: platform.to_string(), there })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    #[test]
    fn programs_are_held_to_their_platform() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let check = |bytes: &[u8]| {
            let digest = store.put(bytes).unwrap();
            check_program(&store, &digest, "`https://x.org/kind`", Platform::LinuxArm64).map_err(|e| e.to_string())
        };
        assert!(check(b"#!/bin/sh\n").is_ok());
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        let error = check(&elf).unwrap_err();
        assert_eq!(error, "`https://x.org/kind` is not for linux/arm64: it is a program for linux/amd64");
        assert!(check(b"\x1f\x8b\x08").unwrap_err().contains("`member`"));
        assert!(check(b"<html>").unwrap_err().contains("HTML"));
    }
}
