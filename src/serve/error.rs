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
    #[error("`{image}` is {one} in {one_from} and {other} in {other_from}")]
    Disagree {
        /// The image.
        image: String,
        /// Its digest in one source.
        one: Digest,
        /// That source.
        one_from: String,
        /// Its digest in the other source.
        other: Digest,
        /// The other source.
        other_from: String,
    },
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
            Self::Disagree { .. } => "serve them apart, each on a port of its own: --listen ADDR:PORT".to_owned(),
            Self::Pushes { .. } => "--pushes takes a folder that may be written".to_owned(),
            Self::Store(_) => return None,
        })
    }
}
