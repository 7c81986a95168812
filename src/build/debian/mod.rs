//! From `.deb` files to a root file system tree. Nothing of a package is run: what its scripts would do and matters here is
//! done by written rules.

pub mod ar;
pub mod control;
pub mod dpkg;
pub mod merge;
pub mod spool;
pub mod stanza;
pub mod unpack;
pub mod unpack_all;
pub mod version;
pub mod write_tree;
