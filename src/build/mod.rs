//! Builders: what goes into a bundle, and the archives made from one. No network here.

pub mod bundle;
pub mod export;
#[cfg(test)]
pub(crate) mod tests;
