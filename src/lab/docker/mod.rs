//! The Docker engine: a thin layer over its API, with errors in people's words.
//!
//! Everything labimg makes carries [`LAB`] and [`ROLE`], so that `down` finds it without a bundle and leaves alone what is not
//! the lab's.

mod connect;
pub mod container;
pub mod exec;
pub mod image;
pub mod network;

pub use connect::{Docker, default_socket, host_of};

/// Label: the lab something belongs to.
pub const LAB: &str = "labimg.lab";
/// Label: what it is there for: `mirror`, `registry`, `network`.
pub const ROLE: &str = "labimg.role";
/// Label: digest of what a container was made from; another one makes it anew.
pub const SPEC: &str = "labimg.spec";
