//! Base layer: bytes, files, digests, progress. Knows no word of labimg's domain.

pub mod atomic;
pub mod base64;
pub mod bounded;
pub mod bounds;
pub mod calendar;
pub mod codec;
pub mod digest;
pub mod dirs;
pub mod exe;
pub mod flock;
pub mod gzip;
pub mod null;
pub mod own_dir;
pub mod regular;
pub mod report;
pub mod shell;
pub mod shown;
pub mod size;
pub mod tarball;
pub mod tarfmt;
pub mod untar;
