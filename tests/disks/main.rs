//! Disks and boxes with the toolchain's real programs: the same bytes twice, file systems and images that their own checkers
//! accept, and machines that boot from them under QEMU.
//!
//! They need this machine's package archive (once: `LABIMG_TEST_DISKS` names a folder to keep things in), root for the tree,
//! and QEMU. What is missing is said on standard error, and the test passes.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod base;
mod boot;
mod boxes;
mod bytes;
mod speed;
mod support;
