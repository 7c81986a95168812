//! The network: registries, chart repositories, HTTP files. Everything it brings is verified and put into a store.
//!
//! One [`Net`] per command: one HTTP client with retries, resume, limits and no surprises (no redirects with credentials,
//! no environment). [`oci`], [`chart`], [`debian`] and [`mod@file`] resolve a name to digests, which a lock keeps;
//! [`fetch`] brings what a lock names and the store lacks.

pub mod chart;
pub mod credentials;
pub mod debian;
pub mod error;
pub mod fetch;
pub mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod http;
pub mod oci;
pub mod options;
pub mod wheel;

mod archive;
mod net;
mod tls;

pub use error::{ErrorKind, SourceError};
pub use net::Net;
pub use options::NetOptions;
pub use wheel::WheelError;
