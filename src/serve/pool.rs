//! Buffers that are used again: a chunk that was sent is filled with the next one while it is warm in the cache.

use std::sync::{Arc, Mutex, PoisonError};

/// Length of a buffer in bytes: large enough that system calls do not count, small enough to stay in a core's cache.
pub(super) const CHUNK: usize = 64 * 1024;
/// How many unused buffers are kept.
const KEPT: usize = 64;

/// The buffers that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer on loan. Its length is what was filled.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: Arc<Pool>,
}

impl Pool {
    /// A buffer of [`CHUNK`] bytes, with whatever stood in it before.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: free.unwrap_or_else(|| vec![0; CHUNK]), filled: 0, pool: self.clone() }
    }
}

impl Buffer {
    /// Room for the first `length` bytes (at most [`CHUNK`]).
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.bytes.len());
        self.bytes.get_mut(..length).unwrap_or_default()
    }

    /// Says how much of it holds data.
    pub(super) fn fill(&mut self, length: usize) {
        self.filled = length.min(self.bytes.len());
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
