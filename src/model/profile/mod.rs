//! The profile: one lab as its author describes it.
//!
//! [`parse`] reads the root file and its imports into one [`Profile`]: the files' TOML trees are merged by name, then read
//! into the types below in one go, so that every error and every value knows the file, line and column it comes from.

mod boxes;
mod expand;
mod inputs;
mod inputs_made;
mod lab;
pub(in crate::model) mod load;
mod made;
mod merge;
mod paths;
mod preload;
mod ready;
mod toml_hints;
mod types;
pub(in crate::model) mod validate;
mod validate_box;
mod validate_deploy;
mod validate_lab;
mod validate_machine;
mod validate_made;

pub use boxes::*;
pub use inputs::{ChartInput, ImageInput, Inputs, RemoteInput};
pub use inputs_made::{DebianInput, DefOnDisk, ImageDefs, MadeImage, SuiteInput};
pub use lab::*;
pub use load::{LoadedProfile, ProfileError, parse, parse_from};
pub use made::*;
pub use paths::join as join_path;
pub use ready::{Ready, ReadyKind, duration};
pub(in crate::model) use toml_hints::conflict_line;
pub use types::*;
pub use validate::is_name;
pub use validate_box::gibibytes;
pub use validate_made::check_def;
