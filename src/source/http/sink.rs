//! Where a body goes while it arrives.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::store::{Partial, Store, StoreError};

/// Takes a body's bytes in order. One that remembers a validator can be resumed.
pub trait Sink: Send {
    /// How many bytes are there.
    fn len(&self) -> u64;
    /// The validator of the response they came from.
    fn validator(&self) -> Option<String>;
    /// Remembers the validator.
    fn set_validator(&mut self, validator: Option<&str>) -> Result<(), StoreError>;
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Forgets all bytes.
    fn restart(&mut self) -> Result<(), StoreError>;
}

impl Sink for Partial {
    fn len(&self) -> u64 {
        Partial::len(self)
    }
    fn validator(&self) -> Option<String> {
        Partial::validator(self)
    }
    fn set_validator(&mut self, validator: Option<&str>) -> Result<(), StoreError> {
        Partial::set_validator(self, validator)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        Partial::write(self, bytes)
    }
    fn restart(&mut self) -> Result<(), StoreError> {
        Partial::restart(self)
    }
}

impl Sink for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
    fn validator(&self) -> Option<String> {
        None
    }
    fn set_validator(&mut self, _: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
    fn restart(&mut self) -> Result<(), StoreError> {
        self.clear();
        Ok(())
    }
}

/// A nameless file beside the store's parts.
pub struct ScratchSink {
    file: std::fs::File,
    len: u64,
}

impl ScratchSink {
    /// An empty one.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn new(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { file: store.scratch()?, len: 0 })
    }

    /// A file that has `len` bytes, wherever it was read to.
    pub fn of(file: std::fs::File, len: u64) -> Self {
        Self { file, len }
    }

    /// The file, to be read from its start.
    ///
    /// # Errors
    /// When it can not be rewound.
    pub fn rewound(mut self) -> Result<std::fs::File, StoreError> {
        self.file.seek(SeekFrom::Start(0)).map_err(|e| failed("seek", e))?;
        Ok(self.file)
    }
}

fn failed(verb: &'static str, error: std::io::Error) -> StoreError {
    StoreError::io(Path::new("a scratch file of the store"), verb, error)
}

impl Sink for ScratchSink {
    fn len(&self) -> u64 {
        self.len
    }
    fn validator(&self) -> Option<String> {
        None
    }
    fn set_validator(&mut self, _: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(|e| failed("write", e))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
    fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(|e| failed("cut", e))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|e| failed("seek", e))?;
        self.len = 0;
        Ok(())
    }
}
