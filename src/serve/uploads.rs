//! Uploads under way: hashed while they are written, one request at a time each, forgotten when nobody goes on with them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;

use super::pushed::{Pushed, blocking, failed};
use super::reply::{Code, Refusal};
use crate::base::digest::{Digest, Hasher};

/// How many uploads there are at a time.
const AT_A_TIME: usize = 256;
/// How long an upload waits for its next chunk.
const IDLE: Duration = Duration::from_secs(3600);
/// How long a client may send nothing within a request.
const STALL: Duration = Duration::from_secs(60);
/// How much is written at once, in bytes.
const BATCH: usize = 1 << 20;

/// All uploads.
pub(super) struct Uploads {
    pushed: Arc<Pushed>,
    open: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    upload: Arc<tokio::sync::Mutex<Upload>>,
    since: Instant,
}

/// One upload. Dropped before it was kept, it leaves nothing.
pub(super) struct Upload {
    pushed: Arc<Pushed>,
    file: Option<tempfile::NamedTempFile>,
    hasher: Hasher,
    /// Bytes so far.
    pub(super) size: u64,
}

impl Uploads {
    pub(super) fn new(pushed: Arc<Pushed>) -> Self {
        Self { pushed, open: Mutex::default() }
    }

    /// An upload that has no name yet.
    pub(super) async fn fresh(&self) -> Result<Upload, Refusal> {
        let pushed = self.pushed.clone();
        let file = blocking({
            let pushed = pushed.clone();
            move || pushed.spool()
        });
        Ok(Upload { pushed, file: Some(file.await?), hasher: Hasher::new(), size: 0 })
    }

    /// Names an upload, so that later requests can go on with it.
    pub(super) fn register(&self, upload: Upload) -> Result<String, Refusal> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| Refusal::internal(e.to_string()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, waiting| waiting.since.elapsed() < IDLE);
        if open.len() >= AT_A_TIME {
            let message = format!("there are {AT_A_TIME} uploads already");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, Code::Toomanyrequests, message));
        }
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        open.insert(id.clone(), Waiting { upload, since: Instant::now() });
        Ok(id)
    }

    /// An upload by its name.
    pub(super) fn get(&self, id: &str) -> Result<Arc<tokio::sync::Mutex<Upload>>, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = open.get_mut(id).ok_or_else(unknown)?;
        waiting.since = Instant::now();
        Ok(waiting.upload.clone())
    }

    /// Forgets an upload.
    pub(super) fn forget(&self, id: &str) -> Result<(), Refusal> {
        let gone = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        gone.map(drop).ok_or_else(unknown)
    }
}

fn unknown() -> Refusal {
    Refusal::missing(Code::BlobUploadUnknown, "there is no such upload: it ended, or the server was started anew")
}

impl Upload {
    /// Takes the body of a request. What came before a client went away is kept, so that it can go on from there.
    pub(super) async fn append(&mut self, body: &mut Incoming) -> Result<(), Refusal> {
        let mut batch = Vec::new();
        loop {
            let stalled =
                || Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, "nothing came for long");
            let frame = match tokio::time::timeout(STALL, body.frame()).await {
                Err(_) => return Err(stalled()),
                Ok(None) => return self.write(batch).await,
                Ok(Some(Err(e))) => {
                    self.write(batch).await?;
                    return Err(Refusal::bad(Code::BlobUploadInvalid, format!("the body ended early: {e}")));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            batch.extend_from_slice(&data);
            if batch.len() >= BATCH {
                self.write(std::mem::take(&mut batch)).await?;
            }
        }
    }

    async fn write(&mut self, batch: Vec<u8>) -> Result<(), Refusal> {
        let gone = || Refusal::missing(Code::BlobUploadUnknown, "this upload failed before");
        if batch.is_empty() {
            return self.file.as_ref().map(drop).ok_or_else(gone);
        }
        let length = batch.len() as u64;
        let mut file = self.file.take().ok_or_else(gone)?;
        self.pushed.reserve(length)?;
        self.size += length;
        let mut hasher = std::mem::take(&mut self.hasher);
        let written = tokio::task::spawn_blocking(move || {
            file.write_all(&batch)?;
            hasher.update(&batch);
            Ok((file, hasher))
        });
        // After an error the file is gone, and with it the upload: half a chunk can not be gone on from.
        let (file, hasher) = written.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(failed)?;
        (self.file, self.hasher) = (Some(file), hasher);
        Ok(())
    }

    /// Whether it can be gone on with.
    pub(super) fn is_sound(&self) -> bool {
        self.file.is_some()
    }

    /// Keeps the blob, if its bytes have this digest. The upload has ended either way.
    pub(super) async fn finish(&mut self, digest: Digest) -> Result<(), Refusal> {
        let file = self.file.take().ok_or_else(unknown)?;
        let found = std::mem::take(&mut self.hasher).finish();
        if found != digest {
            let message = format!("what was pushed has digest {found}, not {digest}");
            return Err(Refusal::bad(Code::DigestInvalid, message));
        }
        let pushed = self.pushed.clone();
        if blocking(move || pushed.keep(file, &digest)).await? {
            // Its bytes belong to the folder now.
            self.size = 0;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.pushed.release(self.size);
    }
}
