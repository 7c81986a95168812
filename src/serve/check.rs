//! Checks blobs: each once, on first use, while its first reader is being sent the beginning of it. A file that was
//! written to since has to be checked again.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Semaphore, watch};

use super::alarm::Alarm;
use super::source::{OpenBlob, Stamp};
use crate::base::digest::{Digest, hash_reader};

/// How many blobs are hashed at a time.
const AT_A_TIME: usize = 4;

/// What is known of the blobs that were asked for.
pub(super) struct Checker {
    known: Mutex<HashMap<Digest, Known>>,
    turns: Arc<Semaphore>,
    alarm: Arc<Alarm>,
    stopping: Arc<AtomicBool>,
}

struct Known {
    stamp: Stamp,
    verdict: watch::Receiver<Verdict>,
}

#[derive(Debug, Clone)]
enum Verdict {
    Pending,
    Good,
    Bad(Arc<str>),
}

impl Checker {
    /// Damage raises the alarm.
    pub(super) fn new(alarm: Arc<Alarm>) -> Self {
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        Self { known: Mutex::default(), turns, alarm, stopping: Arc::default() }
    }

    /// Whether the blob was found to be right, and its file was not written to since.
    pub(super) fn is_good(&self, blob: &OpenBlob) -> bool {
        let Ok(stamp) = blob.stamp() else { return false };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&blob.digest).is_some_and(|k| k.stamp == stamp && matches!(*k.verdict.borrow(), Verdict::Good))
    }

    /// Starts to check it, unless that was done.
    ///
    /// # Errors
    /// When it is known to be wrong, or its file was cut off.
    pub(super) fn start(self: &Arc<Self>, blob: &Arc<OpenBlob>) -> io::Result<()> {
        let verdict = self.verdict(blob)?;
        let known = verdict.borrow().clone();
        match known {
            Verdict::Bad(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why.to_string())),
            Verdict::Good | Verdict::Pending => Ok(()),
        }
    }

    /// Waits until it is known to be right.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub(super) async fn ensure(self: Arc<Self>, blob: Arc<OpenBlob>) -> io::Result<()> {
        loop {
            let mut verdict = self.verdict(&blob)?;
            let settled = verdict.wait_for(|v| !matches!(v, Verdict::Pending)).await;
            match settled.map(|v| v.clone()) {
                Ok(Verdict::Good) => return Ok(()),
                Ok(Verdict::Bad(why)) => return Err(io::Error::new(io::ErrorKind::InvalidData, why.to_string())),
                // Whoever it was started for went away before its turn came.
                Ok(Verdict::Pending) | Err(_) if !self.stopping.load(Ordering::Relaxed) => {}
                Ok(Verdict::Pending) | Err(_) => return Err(io::Error::other("its check did not end")),
            }
        }
    }

    /// Ends the checks under way.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn verdict(self: &Arc<Self>, blob: &Arc<OpenBlob>) -> io::Result<watch::Receiver<Verdict>> {
        let stamp = blob.stamp()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(k) = known.get(&blob.digest).filter(|k| k.stamp == stamp && !k.is_given_up()) {
            return Ok(k.verdict.clone());
        }
        let (tell, verdict) = watch::channel(Verdict::Pending);
        known.insert(blob.digest, Known { stamp, verdict: verdict.clone() });
        tokio::spawn(self.clone().judge(Arc::downgrade(blob), stamp, tell));
        Ok(verdict)
    }

    /// Hashes it. What could not be read is tried anew by the next who asks; wrong bytes are not, until they change. While it
    /// waits for its turn it keeps no file open: when its client has gone by then, it is given up.
    async fn judge(self: Arc<Self>, blob: Weak<OpenBlob>, stamp: Stamp, tell: watch::Sender<Verdict>) {
        let _turn = self.turns.acquire().await;
        let Some(blob) = blob.upgrade() else { return };
        let (digest, from, stopping) = (blob.digest, blob.from.clone(), self.stopping.clone());
        let hashed = tokio::task::spawn_blocking(move || {
            let (found, _) = hash_reader(Stoppable { reader: blob.reader(), stopping })?;
            if blob.stamp()? != stamp {
                return Err(io::Error::other("the file that holds it changed while it was read"));
            }
            Ok(found)
        });
        let verdict = match hashed.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(found) if found == digest => Verdict::Good,
            Ok(found) => Verdict::Bad(format!("blob {digest} is damaged: its bytes have digest {found}").into()),
            Err(e) => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.get(&digest).is_some_and(|k| k.stamp == stamp) {
                    known.remove(&digest);
                }
                Verdict::Bad(format!("blob {digest} cannot be read: {e}").into())
            }
        };
        if let Verdict::Bad(why) = &verdict
            && !self.stopping.load(Ordering::Relaxed)
        {
            self.alarm.damaged(&digest, &from, why);
        }
        let _ = tell.send(verdict);
    }
}

impl Known {
    /// Whether its check ended without a verdict.
    fn is_given_up(&self) -> bool {
        matches!(*self.verdict.borrow(), Verdict::Pending) && self.verdict.has_changed().is_err()
    }
}

/// Ends with an error when the server stops: nobody waits for gigabytes to be hashed then.
struct Stoppable<R> {
    reader: R,
    stopping: Arc<AtomicBool>,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the server stops"));
        }
        self.reader.read(buffer)
    }
}
