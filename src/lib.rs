//! labimg: reproducible, offline VM and cluster workshop images.
//!
//! One-way layers; each folder uses only those above it (enforced by `tests/tidy.rs`):
//!
//! | layer | holds |
//! |---|---|
//! | [`base`] | digests, atomic files, codecs, file locks, the `Reporter` trait |
//! | [`model`] | profile, lock, references: pure data |
//! | [`store`] | blobs, roots, gc, check; the bundle file's reader and writer |
//! | [`source`] | the network: registries, chart repositories, HTTP |
//! | [`ssh`] | one SSH client: exec, tar streams, forwards, host keys |
//! | [`build`] | what goes into a bundle, archives for other tools |
//! | [`lab`] | bring-up of a bundle: engines, deploy graph, secrets, checks |
//! | [`serve`] | the registry server over bundles and the store |
//! | [`ops`] | one function per verb |
//! | [`cli`] | arguments, settings, progress, rendering, exit codes |
#![deny(missing_docs, unsafe_code)]
#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::dbg_macro,
    clippy::unwrap_used,
    clippy::expect_used
)]

pub mod base;
pub mod build;
pub mod cli;

pub mod lab;
pub mod model;
pub mod ops;
pub mod serve;
pub mod source;
pub mod ssh;
pub mod store;
