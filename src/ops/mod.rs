//! One function per verb: options in, data out. Rendering is `cli`'s business.

pub mod cat;
pub mod diff;
pub mod export;
pub mod inspect;
pub mod ls;
pub mod size;
#[cfg(test)]
mod tests;
