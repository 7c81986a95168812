//! One function per verb: options in, data out. Nothing here prints or knows a terminal.

pub mod allowed;
mod boxes;
pub mod build;
mod carry;
pub mod cat;
pub mod check;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod export;
mod failed;
pub mod fetch;
pub mod graph;
mod image_defs;
pub mod inspect;
pub mod lab;
pub mod local;
pub mod lock;
pub mod ls;
mod make;
mod mixed;
mod places;
pub mod profile;
pub mod schema;
pub mod serve;
pub mod size;
pub mod store;
pub mod toolchain;
mod whose;
pub mod why;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use error::{Kind, OpsError};

use crate::base::report::Reporter;
use crate::build::provision::OnFailure;
use crate::source::Net;
use crate::store::{Access, Store};

/// What every operation needs.
pub struct Ctx {
    /// The store's directory.
    pub store: PathBuf,
    /// The network, which opens nothing before it is used.
    pub net: Net,
    /// Where files that a profile names may come from.
    pub roots: local::LocalRoots,
    /// Who is told of progress.
    pub reporter: Arc<dyn Reporter>,
    /// How many things may run at once.
    pub jobs: usize,
    /// What building may use.
    pub means: Means,
    /// Now, in seconds since 1970: only to judge what expires; nothing made here depends on it.
    pub now: u64,
}

/// What building may use of this machine.
#[derive(Debug, Clone)]
pub struct Means {
    /// Cores.
    pub cores: usize,
    /// Memory in MiB.
    pub memory: u64,
    /// A directory on another file system than the store's, with room: what is built again to be compared is built there.
    pub other_scratch: Option<PathBuf>,
    /// labimg's own program: it runs itself inside sandboxes, and travels in bundles.
    pub program: PathBuf,
    /// Other builds of labimg for bundles to carry: static programs, in place of this one or for another platform.
    pub carry: Vec<PathBuf>,
    /// Told of a machine whose step failed, before it is switched off.
    pub on_failure: Option<OnFailure>,
}

impl Ctx {
    /// Opens the store.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_store(&self, access: Access) -> Result<Arc<Store>, OpsError> {
        Ok(Arc::new(Store::open(&self.store, access)?))
    }
}
