//! The bounds of everything that is parsed: how many bytes, how many values, how deep, and how much of it a message repeats.
//!
//! A bound is chosen by what a text becomes, not by its length alone: one byte of TOML or JSON may become a hundred in memory.
//! Together they keep a refused input below 256 MiB of memory (measured with a debug build: docs/limits.md).

/// Bytes of one file that people write (a profile, an `image.toml`, settings), and of a profile with all its imports. The
/// largest profile of ours has 10 KiB.
pub const PROFILE_BYTES: u64 = 4 << 20;

/// Bytes of a lock. One package of Debian takes 300, so this is a lock of 25,000 of them.
pub const LOCK_BYTES: u64 = 8 << 20;

/// Values, keys' parts and tables of one TOML text: it is held as a tree with places, at about 500 bytes each.
pub const TOML_VALUES: usize = 250_000;

/// Nesting of TOML: brackets, and parts of a dotted key (the TOML library stops at 80, too).
pub const TOML_DEPTH: usize = 80;

/// Values of one JSON text: as a tree they take about 100 bytes each.
pub const JSON_VALUES: usize = 1_000_000;

/// Nesting of JSON (serde_json's own limit).
pub const JSON_DEPTH: usize = 128;

/// Bytes of JSON in a file of ours or of a tool beside us (state, settings of Docker, the catalog of a box, a root).
pub const JSON_BYTES: u64 = 16 << 20;

/// Bytes of a bundle's index and of the files of the store that labimg itself writes: room for 250,000 blobs.
pub const INDEX_BYTES: u64 = 64 << 20;

/// Bytes of a manifest, an index or a configuration of an image (registries take 4 MiB).
pub const IMAGE_MANIFEST_BYTES: u64 = 4 << 20;

/// Bytes of a manifest of Kubernetes. etcd takes no object over 1.5 MiB; the largest bundles of CRDs have about 10.
pub const YAML_BYTES: usize = 32 << 20;

/// Deepest nesting of YAML. Generated CRDs get to about 60.
pub const YAML_DEPTH: usize = 160;

/// Most scalars, lists and mappings of YAML, what aliases stand for counted every time. 10 MiB of CRDs have 400,000.
pub const YAML_VALUES: usize = 1_000_000;

/// Bytes of a tar archive's headers (long names, pax records) before one member's data. `PATH_MAX` of Linux is 4 KiB; the
/// rest is for extended attributes.
pub const TAR_HEADER: u64 = 1 << 20;

/// Bytes of the names, targets of links and extended attributes of all members of one archive: readers keep them. A root file
/// system of a million files has 60 MiB.
pub const TAR_NAMES: u64 = 64 << 20;

/// Bytes of memory that a stream of xz may ask for: its dictionary. `xz -9` takes 65 MiB. (Streams of Zstandard may ask for
/// 128 MiB, by that library's own limit; those of gzip take 32 KiB.)
pub const XZ_MEMORY: u64 = 128 << 20;

/// Characters of a foreign name or value that a message repeats.
pub const SHOWN_CHARS: usize = 200;

/// Characters of what is wrong at one place of a text: an unknown key may be as long as the text.
pub const FINDING_CHARS: usize = 2000;

/// Characters of a whole message, its causes included. A person reads less; a list of a hundred findings fits.
pub const MESSAGE_CHARS: usize = 64 * 1024;

/// Most names that one is compared with.
pub const MOST_COMPARED: usize = 10_000;

/// Longest name that is compared with others to suggest one (the comparison takes the product of both lengths).
pub const LIKE_CHARS: usize = 512;
