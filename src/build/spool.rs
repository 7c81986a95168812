//! A file without a name that contents are appended to, shared by the entries that read from it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::BuildError;
use crate::build::tree::{Content, Source};

/// How much is collected before it is written.
const BUFFER: usize = 256 * 1024;

/// Contents, one after the other.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    buffer: Vec<u8>,
    written: u64,
    dir: PathBuf,
}

impl Spool {
    /// A new, empty spool in `dir`; it is gone when nobody reads it any more.
    ///
    /// # Errors
    /// When it can not be made.
    pub fn new(dir: &Path) -> Result<Self, BuildError> {
        let file = tempfile::tempfile_in(dir).map_err(|e| BuildError::io(dir, "make a file in", e))?;
        Ok(Self { file: Arc::new(file), buffer: Vec::with_capacity(BUFFER), written: 0, dir: dir.to_owned() })
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Everything that was added since `start`; it can be read once that was flushed.
    pub fn since(&self, start: u64) -> Content {
        Content { size: self.position().saturating_sub(start), source: Source::Spool(self.file.clone(), start) }
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When they can not be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds zeros at the end, as a hole.
    ///
    /// # Errors
    /// When the file can not be made longer.
    pub fn skip(&mut self, zeros: u64) -> Result<(), BuildError> {
        self.flush()?;
        let end = self.written.saturating_add(zeros);
        let grown = self.file.set_len(end).and_then(|()| (&*self.file).seek(SeekFrom::Start(end)));
        self.written = grown.map_err(|e| BuildError::io(&self.dir, "write in", e))?;
        Ok(())
    }

    /// Writes what was collected.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn flush(&mut self) -> Result<(), BuildError> {
        (&*self.file).write_all(&self.buffer).map_err(|e| BuildError::io(&self.dir, "write in", e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
