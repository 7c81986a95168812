//! Kubernetes manifests: multi-document YAML or JSON, read into objects, and the images those objects name.
//!
//! Texts mean here what they mean to `kubectl`, which turns YAML into JSON with sigs.k8s.io/yaml (go-yaml v2 below it):
//! - plain `yes`, `no`, `on`, `off`, `y` and `n` are booleans (YAML 1.1), so an `enabled: yes` works and a label `on: yes` must
//!   be quoted, as with `kubectl`; keys stay what is written;
//! - `0644` and `0o644` are octal (420), `0x1F` is hexadecimal, whole numbers fit 64 bits and become floats above that;
//! - `.inf` and `.nan` are refused, JSON has none; dates stay strings; `!!binary` is decoded and must be text;
//! - anchors, aliases and merge keys (`<<`) are resolved; of a key that is twice in one mapping the last one counts, and a
//!   [`Remark`] says so;
//! - a quoted text may go on in a line that is indented less than its key, as old generators wrote it;
//! - documents that are empty, `null` or only comments are left out; a `List` (any kind that ends so and has `items`) is
//!   replaced by what it lists, without items that are `null`;
//! - bytes are UTF-8, or UTF-16 with a byte-order mark.

mod compose;
mod encoding;
mod images;
mod read;
mod scalar;
#[cfg(test)]
mod tests;

pub use encoding::decode;
pub use images::{ImageUse, images};
pub use read::{Manifest, Object, parse, read, value};

/// A text that is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct ManifestError {
    /// Line, from 1; 0 where the whole text is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 where a whole line is meant.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// What is odd about a text that is read all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is odd, and how it is read.
    pub what: String,
}

/// Largest manifest, in bytes. etcd takes no object over 1.5 MiB; the largest bundles of CRDs have about 10.
pub const MAX_BYTES: usize = 32 << 20;

/// Deepest nesting. Generated CRDs get to about 60.
pub const MAX_DEPTH: usize = 160;

/// Most scalars, lists and mappings, what aliases stand for counted every time.
pub const MAX_NODES: usize = 4_000_000;
