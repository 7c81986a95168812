//! What several targets need.

use std::path::Path;
use std::sync::OnceLock;

/// A folder for what a parser writes, of this process alone; in memory where there is such a place.
pub fn scratch() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made");
    DIR.get_or_init(made).path()
}
