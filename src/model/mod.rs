//! The domain as pure data, parsed from text: no I/O, no clock, no environment.

pub mod box_packages;
pub mod debian;
pub mod guest_path;
pub mod image;
pub mod image_def;
pub mod image_def_load;
pub mod lock;
pub mod manifest;
pub mod pep440;
pub mod platform;
pub mod profile;
pub mod source_map;
pub mod url_policy;
pub mod wheel;
