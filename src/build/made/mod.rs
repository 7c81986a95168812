//! stub
#![allow(missing_docs)]
use super::BuildError;
use super::step::plan::Plan;
use crate::model::lock::{Lock, LockedImage};
use crate::model::profile::{ImageDefs, Inputs, MadeImage, Profile};
use crate::store::Store;
use std::path::Path;
use std::sync::Arc;
pub struct Request<'a> {
    pub profile: &'a Profile,
    pub defs: &'a ImageDefs,
    pub inputs: &'a Inputs,
    pub lock: &'a Lock,
    pub store: &'a Arc<Store>,
    pub program: &'a Path,
    pub path: &'a Path,
}
pub fn plan(_r: &Request<'_>) -> Result<Plan, BuildError> {
    Plan::new(vec![])
}
pub fn built(
    _: &crate::model::image::ImageRef,
    _: &MadeImage,
    _: &std::collections::BTreeMap<String, super::step::engine::Done>,
) -> Result<LockedImage, BuildError> {
    Err(BuildError::Internal("x".into()))
}
pub fn toolchain(_: &Lock, _: &Arc<Store>) -> Result<super::toolchain::Toolchain, BuildError> {
    Err(BuildError::Internal("x".into()))
}
