//! One upload: hashed while it is written, one request at a time. Its file is open only while a request writes to it.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use tempfile::TempPath;

use super::patient::Owed;
use super::pool::CHUNK;
use super::pushed::{Pushed, blocking, failed};
use super::reply::{Code, Refusal};
use super::uploads::{Uploads, unknown};
use crate::base::digest::{Digest, Hasher};

/// How long a client may send nothing within a request.
const STALL: Duration = Duration::from_secs(60);
/// How much is written at once, in bytes: so much of an upload is in memory.
const BATCH: usize = 2 * CHUNK;

/// One upload. Dropped before it was kept, it leaves nothing.
pub(super) struct Upload {
    pushed: Arc<Pushed>,
    spool: Spool,
    hasher: Hasher,
    /// Bytes so far.
    pub(super) size: u64,
}

/// Where the bytes are.
enum Spool {
    /// There are none.
    Empty,
    /// In a file, which may be open.
    File(TempPath, Option<File>),
    /// A write ended in the middle. Half a chunk cannot be gone on from.
    Failed,
}

impl Upload {
    /// An upload without bytes; takes no room on the disk.
    pub(super) fn new(pushed: Arc<Pushed>) -> Self {
        Self { pushed, spool: Spool::Empty, hasher: Hasher::new(), size: 0 }
    }

    /// Takes the body of a request. What came before a client went away is kept, so that it can go on from there.
    pub(super) async fn append(&mut self, uploads: &Uploads, body: &mut Owed) -> Result<(), Refusal> {
        let mut batch = Vec::new();
        loop {
            let stalled =
                || Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, "nothing came for long");
            let frame = match tokio::time::timeout(STALL, body.frame()).await {
                Err(_) => return Err(stalled()),
                Ok(None) => return self.write(uploads, batch).await.map(drop),
                Ok(Some(Err(e))) => {
                    self.write(uploads, batch).await?;
                    return Err(Refusal::bad(Code::BlobUploadInvalid, format!("the body ended early: {e}")));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            batch.extend_from_slice(&data);
            if batch.len() >= BATCH {
                batch = self.write(uploads, batch).await?;
                batch.clear();
            }
        }
    }

    /// Writes these bytes at the end, and gives them back: their memory is used again.
    pub(super) async fn write(&mut self, uploads: &Uploads, batch: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let gone = || Refusal::missing(Code::BlobUploadUnknown, "this upload failed before");
        if batch.is_empty() {
            return if self.is_sound() { Ok(batch) } else { Err(gone()) };
        }
        let length = batch.len() as u64;
        // After an error the file is gone, and with it the upload; likewise when the request is given up meanwhile.
        let spool = match std::mem::replace(&mut self.spool, Spool::Failed) {
            Spool::Failed => return Err(gone()),
            spool => spool,
        };
        uploads.reserve(length)?;
        self.size += length;
        let (mut hasher, pushed) = (std::mem::take(&mut self.hasher), self.pushed.clone());
        let written = tokio::task::spawn_blocking(move || {
            let (path, mut file) = spool.at_end(&pushed)?;
            file.write_all(&batch)?;
            hasher.update(&batch);
            Ok((Spool::File(path, Some(file)), hasher, batch))
        });
        let written = written.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        let (spool, hasher, batch) = written.map_err(|e| {
            uploads.forget_abandoned();
            failed(e)
        })?;
        (self.spool, self.hasher) = (spool, hasher);
        Ok(batch)
    }

    /// Closes the file until there is more to write.
    pub(super) fn rest(&mut self) {
        if let Spool::File(_, file) = &mut self.spool {
            *file = None;
        }
    }

    /// Whether it can be gone on with.
    pub(super) fn is_sound(&self) -> bool {
        !matches!(self.spool, Spool::Failed)
    }

    /// All of it, in memory. The upload has ended.
    pub(super) async fn into_bytes(mut self) -> Result<Vec<u8>, Refusal> {
        let path = match std::mem::replace(&mut self.spool, Spool::Failed) {
            Spool::Failed => return Err(unknown()),
            Spool::Empty => return Ok(Vec::new()),
            Spool::File(path, _) => path,
        };
        blocking(move || fs_err::read(&path)).await
    }

    /// Keeps the blob, if its bytes have this digest. The upload has ended either way.
    pub(super) async fn finish(&mut self, digest: Digest) -> Result<(), Refusal> {
        let spool = match std::mem::replace(&mut self.spool, Spool::Failed) {
            Spool::Failed => return Err(unknown()),
            spool => spool,
        };
        let found = std::mem::take(&mut self.hasher).finish();
        if found != digest {
            let message = format!("what was pushed has digest {found}, not {digest}");
            return Err(Refusal::bad(Code::DigestInvalid, message));
        }
        let pushed = self.pushed.clone();
        let kept = blocking(move || {
            let (path, file) = spool.at_end(&pushed)?;
            pushed.keep(path, &file, &digest)
        });
        if kept.await? {
            // Its bytes belong to the folder now.
            self.size = 0;
        }
        Ok(())
    }
}

impl Spool {
    /// The open file, where more is to be written; made when there is none.
    fn at_end(self, pushed: &Pushed) -> io::Result<(TempPath, File)> {
        let path = match self {
            Self::File(path, Some(file)) => return Ok((path, file)),
            Self::File(path, None) => path,
            Self::Empty | Self::Failed => {
                let (file, path) = pushed.spool()?.into_parts();
                return Ok((path, file));
            }
        };
        let file = fs_err::OpenOptions::new().append(true).open(&path)?;
        Ok((path, file.into_parts().0))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.pushed.release(self.size);
    }
}
