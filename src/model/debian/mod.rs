//! Debian's formats as pure data: control files, versions, relations between packages, dates of archives.
//!
//! | file | holds |
//! |---|---|
//! | `deb822` | stanzas and fields of control files (Debian policy 5.1) |
//! | `version` | versions and their order (policy 5.6.12) |
//! | `relation` | `Depends` and its kin (policy 7) |
//! | `date` | dates of Release files, names of snapshots |

pub mod date;
pub mod deb822;
pub mod relation;
pub mod version;
