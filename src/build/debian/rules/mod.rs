//! Written rules for what maintainer scripts would do: `data/debian/rules.toml`, and what can be read from the scripts.

pub mod accounts;
pub mod alternatives;
pub mod apply;
pub mod certificates;
pub mod review;
pub mod scripts;
pub mod shape;
pub mod table;
pub mod users;
