//! How long work tells of itself without knowing a terminal.

use std::sync::atomic::{AtomicU64, Ordering};

/// Names one task of one [`Reporter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Takes word of work under way. Every method may be called from any thread; all have empty default bodies.
pub trait Reporter: Send + Sync {
    /// A phase of many tasks starts: its name, and its total in bytes where known.
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let _ = (name, total_bytes);
    }
    /// A task starts: what a person would call it, and its size in bytes where known.
    fn begin(&self, label: &str, bytes: Option<u64>) -> TaskId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let _ = (label, bytes);
        TaskId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
    /// `bytes` more of the task are done.
    fn advance(&self, task: TaskId, bytes: u64) {
        let _ = (task, bytes);
    }
    /// What the task is doing now, in a few words.
    fn say(&self, task: TaskId, text: &str) {
        let _ = (task, text);
    }
    /// The task is over, well or not.
    fn finish(&self, task: TaskId) {
        let _ = task;
    }
    /// Something a person should know though nothing failed.
    fn warn(&self, text: &str) {
        let _ = text;
    }
    /// Something a person may like to know.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// A reporter that says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {}

/// Ends its task when dropped, so that a failed task leaves no row behind.
pub struct Task<'a> {
    reporter: &'a dyn Reporter,
    id: TaskId,
}

impl<'a> Task<'a> {
    /// Starts a task on `reporter`.
    pub fn begin(reporter: &'a dyn Reporter, label: &str, bytes: Option<u64>) -> Self {
        Self { reporter, id: reporter.begin(label, bytes) }
    }

    /// `bytes` more are done.
    pub fn advance(&self, bytes: u64) {
        self.reporter.advance(self.id, bytes);
    }

    /// What is being done now, in a few words.
    pub fn say(&self, text: &str) {
        self.reporter.say(self.id, text);
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.reporter.finish(self.id);
    }
}
