//! Images from registries (OCI distribution-spec 1.1), on top of [`http`](super::http).
//!
//! | file | holds |
//! |---|---|
//! | `endpoint` | which servers to ask for a registry: itself or its mirrors |
//! | `auth` | basic and bearer authentication, tokens |
//! | `client` | manifests and blobs from those servers |
//! | `resolve` | reference + platforms -> digests |
//! | `pick` | the manifest of each platform out of an index, and of the indexes in it |
//! | `tags` | the tags of a repository, for hints |
//! | `check` | what makes a manifest usable |

pub(super) mod auth;
mod check;
mod client;
mod endpoint;
mod pick;
mod resolve;
mod tags;

pub use client::{fetch_blob, fetch_manifest};
pub use resolve::{Resolved, fetch_image_manifests, resolve};
pub use tags::{Tags, tags};

/// Doors of `source::fuzzing`.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    pub(in crate::source) fn manifest(data: &[u8]) {
        let _ = super::check::parse(data, "application/vnd.oci.image.index.v1+json", "x");
    }
}
