//! From `.deb` files to a root file system tree. Nothing of a package is run: what its scripts would do and matters here is
//! done by written rules.

pub mod ar;
pub mod control;
pub mod dpkg;
pub mod inside;
pub mod ldcache;
pub mod merge;
pub mod root;
pub mod rules;
pub mod stanza;
pub mod unpack;
pub mod unpack_all;
pub mod write_tree;

pub use root::{Root, RootOptions, build_root};
pub use rules::review::{Unhandled, review};
pub use unpack::{Unpacked, unpack};
pub use unpack_all::unpack_all;
pub use write_tree::write_tree;
