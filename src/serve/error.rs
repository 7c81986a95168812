//! Why a server does not start. (What a request can do wrong is in `reply`.)

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;
use crate::store::StoreError;

/// A server that can not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not this machine's.
    #[error("can not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Two sources pin one tag to different bytes: whichever was served would be wrong for the other.
    #[error("`{}` is {} in {} and {} in {}", .0.image, .0.one.0, .0.one.1, .0.other.0, .0.other.1)]
    Disagree(Box<Disagreement>),
    /// The folder for pushes.
    #[error("can not {verb} `{path}`: {source}")]
    Pushes {
        /// The path.
        path: PathBuf,
        /// What we tried.
        verb: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A tag that is different bytes in two sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The image.
    pub image: String,
    /// Its digest in one source, and that source.
    pub one: (Digest, String),
    /// The same of the other.
    pub other: (Digest, String),
}

impl ServeError {
    /// A failure around the folder for pushes.
    pub(super) fn pushes(path: &Path, verb: &'static str, source: io::Error) -> Self {
        Self::Pushes { path: path.to_owned(), verb, source: crate::store::error::plain(source) }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "choose another port: --listen 127.0.0.1:5005 (port 0 lets the system choose)".to_owned()
            }
            Self::Listen { .. } => "--listen takes an address of this machine; 0.0.0.0:PORT is all of them".to_owned(),
            Self::Disagree(_) => "serve them apart, each on a port of its own: --listen ADDR:PORT".to_owned(),
            Self::Pushes { .. } => "--pushes takes a folder that may be written".to_owned(),
            Self::Store(_) => return None,
        })
    }
}
