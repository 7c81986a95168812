//! Build steps in real sandboxes: labimg's own binary as the helper, trees of real programs.
//!
//! As root every test runs a second time as an ordinary user (`user`).
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod debs;
mod sandbox;
mod steps;
mod support;
mod user;
