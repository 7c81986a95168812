//! The bundle: everything a lab needs offline in one file, an OCI image layout in an uncompressed, deterministic tar whose
//! first member is an index of all others. The format is specified in `docs/bundle.md`.
//!
//! **Guarantees.** The same description gives the same bytes, whatever the number of threads. A bundle stands under its name
//! only when it is whole. A reader believes nothing: it checks the whole index before it hands out a byte, and `verify`
//! accounts for every byte of the file, headers and padding too.

mod copy;
mod derive;
pub mod error;
pub mod index;
pub mod part;
pub mod plan;
pub mod read;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod write;

pub use error::BundleError;
pub use index::{ChartEntry, Contents, FileEntry, ImageEntry, Index, LocalEntry, ManifestEntry, Member};
pub use plan::{Description, Plan, plan};
pub use read::Bundle;
pub use verify::Damaged;
pub use write::{BlobFiles, FileRange, Options, Outcome, Written, write};

/// The bundle format written and read here. Another number is refused.
pub const FORMAT: u32 = 1;
/// The largest index a reader accepts, in bytes.
pub const INDEX_LIMIT: u64 = crate::base::bounds::INDEX_BYTES;
/// The index: the tar's first member.
pub const INDEX_PATH: &str = "labimg/index.json";
/// The profile as canonical text.
pub const PROFILE_PATH: &str = "labimg/profile.toml";
/// The lock as canonical text.
pub const LOCK_PATH: &str = "labimg/lock.toml";
/// The OCI image layout's marker (image-spec, "Image Layout").
pub const OCI_LAYOUT_PATH: &str = "oci-layout";
/// The OCI image layout's index: images only.
pub const OCI_INDEX_PATH: &str = "index.json";
/// What stands before a blob's hex digits.
pub const BLOBS: &str = "blobs/sha256/";
/// Members reserved for signatures, after all others; neither in the index nor part of the identity.
pub const SIGNATURES: &str = "labimg/signatures/";
