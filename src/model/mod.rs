//! The domain as pure data, parsed from text: no I/O, no clock, no environment.

pub mod image;
pub mod lock;
pub mod platform;
pub mod url_policy;
