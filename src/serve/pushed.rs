//! The folder of what was pushed.
//!
//! ```text
//! blobs/sha256/<hex>                       blobs and manifests, never changed once there
//! repositories/<name>/_manifests/<hex>     the media type of a manifest of this repository
//! repositories/<name>/_tags/<tag>          the digest a tag means
//! repositories/<name>/_referrers/<hex>/    what is told of each manifest that has the manifest <hex> as its subject
//! uploads/                                 uploads under way; emptied when the server starts
//! ```
//!
//! A component of a repository's name never starts with `_`, so the folders of a name and of its parts do not meet. Every
//! file appears by a rename: it is whole, or not there.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::ServeError;
use super::referrers::Referrer;
use super::reply::{Code, Refusal};
use super::request::Wanted;
use super::source::{Manifest, range_of};
use crate::base::digest::Digest;
use crate::base::{atomic, regular};
use crate::store::bundle::{BlobFiles, FileRange};
use crate::store::error::plain;
use crate::store::{BlobSource, StoreError};

/// What stands in the folder.
const FOLDERS: [&str; 3] = ["blobs/sha256", "repositories", "uploads"];

/// The folder.
pub(super) struct Pushed {
    dir: PathBuf,
    limit: Option<u64>,
    used: AtomicU64,
}

impl Pushed {
    /// Opens the folder, making it when it is not there. Uploads that were under way are forgotten.
    pub(super) fn open(dir: &Path, limit: Option<u64>) -> Result<Self, ServeError> {
        let dir = std::path::absolute(dir).map_err(|e| ServeError::pushes(dir, "resolve", e))?;
        let uploads = dir.join("uploads");
        // The folder a person named; what is in it is the registry's own.
        for folder in FOLDERS {
            regular::refuse_links(&dir, Path::new(folder)).map_err(|e| ServeError::pushes(&dir, "use", e))?;
        }
        match fs_err::remove_dir_all(&uploads) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(ServeError::pushes(&uploads, "empty", e)),
            _ => {}
        }
        for folder in FOLDERS {
            let folder = dir.join(folder);
            fs_err::create_dir_all(&folder).map_err(|e| ServeError::pushes(&folder, "create", e))?;
        }
        let mut used = 0;
        let blobs = dir.join("blobs/sha256");
        for entry in fs_err::read_dir(&blobs).map_err(|e| ServeError::pushes(&blobs, "read", e))? {
            let meta = entry.and_then(|e| e.metadata()).map_err(|e| ServeError::pushes(&blobs, "read", e))?;
            used += meta.len();
        }
        Ok(Self { dir, limit, used: AtomicU64::new(used) })
    }

    /// A file for an upload, which is nowhere to be found by its name.
    pub(super) fn spool(&self) -> io::Result<tempfile::NamedTempFile> {
        use std::os::unix::fs::PermissionsExt;
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(self.dir.join("uploads"))
    }

    /// Takes so many bytes of what the folder may hold.
    ///
    /// # Errors
    /// When they do not fit.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Refusal> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(used) => {
                let message = format!("the registry is full: it may hold {limit} bytes and holds {used}");
                Err(Refusal::new(hyper::StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message))
            }
        }
    }

    /// Gives them back.
    pub(super) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Keeps a file whose bytes have this digest; gives whether it is new. The caller has reserved its size.
    pub(super) fn keep(&self, spool: tempfile::TempPath, file: &File, digest: &Digest) -> io::Result<bool> {
        let path = self.blob_path(digest);
        if path.is_file() {
            return Ok(false);
        }
        file.sync_all()?;
        spool.persist(&path).map_err(|e| e.error)?;
        atomic::sync_dir(atomic::parent(&path))?;
        Ok(true)
    }

    /// Names a manifest that is among the blobs, and tags it.
    pub(super) fn name(&self, repository: &str, manifest: &Manifest, tag: Option<&str>) -> io::Result<()> {
        let manifests = self.repository(repository).join("_manifests");
        self.no_links(&manifests)?;
        fs_err::create_dir_all(&manifests)?;
        atomic::write_file(&manifests.join(manifest.digest.hex()), manifest.media_type.as_bytes())?;
        let Some(tag) = tag else { return Ok(()) };
        let tags = self.repository(repository).join("_tags");
        self.no_links(&tags)?;
        fs_err::create_dir_all(&tags)?;
        atomic::write_file(&tags.join(tag), manifest.digest.to_string().as_bytes())
    }

    /// Notes that a manifest refers to another one.
    pub(super) fn refer(&self, repository: &str, subject: &Digest, referrer: &Referrer) -> io::Result<()> {
        let referrers = self.repository(repository).join("_referrers").join(subject.hex());
        self.no_links(&referrers)?;
        fs_err::create_dir_all(&referrers)?;
        let text = serde_json::to_vec(referrer).map_err(io::Error::other)?;
        atomic::write_file(&referrers.join(referrer.digest.hex()), &text)
    }

    /// The manifests of a repository that refer to this one.
    pub(super) async fn referrers(
        self: &Arc<Self>,
        repository: &str,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, Refusal> {
        let folder = self.repository(repository).join("_referrers").join(subject.hex());
        blocking(move || {
            let mut all = Vec::new();
            for name in names_in(&folder)?.into_iter().filter(|name| !name.starts_with('.')) {
                let Some(text) = text(&folder.join(name))? else { continue };
                all.push(serde_json::from_str(&text).map_err(io::Error::other)?);
            }
            Ok(all)
        })
        .await
    }

    fn no_links(&self, path: &Path) -> io::Result<()> {
        regular::refuse_links(&self.dir, path.strip_prefix(&self.dir).unwrap_or(path))
    }

    /// A manifest that was pushed.
    pub(super) async fn manifest(self: &Arc<Self>, name: &str, wanted: &Wanted) -> Result<Option<Manifest>, Refusal> {
        let (this, name, wanted) = (self.clone(), name.to_owned(), wanted.clone());
        blocking(move || this.find(&name, &wanted)).await
    }

    fn find(&self, name: &str, wanted: &Wanted) -> io::Result<Option<Manifest>> {
        let repository = self.repository(name);
        let digest = match wanted {
            Wanted::Digest(digest) => *digest,
            Wanted::Tag(tag) => match text(&repository.join("_tags").join(tag))? {
                Some(text) => text.parse().map_err(io::Error::other)?,
                None => return Ok(None),
            },
        };
        let media_type = text(&repository.join("_manifests").join(digest.hex()))?;
        Ok(media_type.map(|media_type| Manifest { digest, media_type }))
    }

    /// Whether something was pushed under this name.
    pub(super) async fn has_repository(self: &Arc<Self>, name: &str) -> bool {
        let manifests = self.repository(name).join("_manifests");
        blocking(move || Ok(manifests.is_dir())).await.unwrap_or(false)
    }

    /// The tags of a repository.
    pub(super) async fn tags(self: &Arc<Self>, name: &str) -> Result<Vec<String>, Refusal> {
        let tags = self.repository(name).join("_tags");
        blocking(move || Ok(names_in(&tags)?.into_iter().filter(|n| !n.starts_with('.')).collect())).await
    }

    /// All repositories.
    pub(super) async fn repositories(self: &Arc<Self>) -> Result<Vec<String>, Refusal> {
        let this = self.clone();
        blocking(move || {
            let mut found = Vec::new();
            this.walk("", &mut found)?;
            Ok(found)
        })
        .await
    }

    /// Depth is bounded by the length of a repository's name.
    fn walk(&self, below: &str, found: &mut Vec<String>) -> io::Result<()> {
        for name in names_in(&self.repository(below))? {
            match name.as_str() {
                "_manifests" => found.push(below.to_owned()),
                name if name.starts_with('_') || name.starts_with('.') => {}
                name if below.is_empty() => self.walk(name, found)?,
                name => self.walk(&format!("{below}/{name}"), found)?,
            }
        }
        Ok(())
    }

    /// Whether the blob, or a manifest, was pushed.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_size(digest).is_some()
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.dir.join("repositories").join(name)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }
}

impl BlobSource for Pushed {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs_err::metadata(self.blob_path(digest)).ok().filter(|m| m.is_file()).map(|m| m.len())
    }

    fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, StoreError> {
        let file: File = self.blob_range(digest)?.file;
        Ok(Box::new(file))
    }
}

impl BlobFiles for Pushed {
    fn blob_range(&self, digest: &Digest) -> Result<FileRange, StoreError> {
        let path = self.blob_path(digest);
        range_of(&path).map_err(|e| StoreError::io(&path, "open", e))
    }

    fn location(&self) -> &Path {
        &self.dir
    }
}

/// Work that waits for the disk, on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(failed)
}

/// An I/O error as a refusal: a full disk has a status of its own.
pub(super) fn failed(error: io::Error) -> Refusal {
    let error = plain(error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let status = hyper::StatusCode::INSUFFICIENT_STORAGE;
            Refusal::new(status, Code::Unknown, "no space left on the registry's disk; nothing was kept")
        }
        _ => Refusal::internal(format!("the registry's folder: {error}")),
    }
}

fn text(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
