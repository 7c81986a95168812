//! `labimg why`: what changed since a step was last built.

use std::path::Path;

use serde::Serialize;

use super::make::{engine_options, plan};
use super::profile::load;
use super::{Ctx, OpsError};
use crate::build::step::{Why, documents, why as ask};
use crate::store::Access;

/// One step and what became of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepWhy {
    /// The step.
    pub step: String,
    /// What changed since it was last built; `None` while a step it reads must be built first.
    pub why: Option<Why>,
}

/// What changed since the steps of the profile at `path` were last built: all of them, or those with `step` in their name.
///
/// # Errors
/// What is wrong with the profile or its lock; no step of that name.
pub fn why(ctx: &Ctx, path: &Path, step: Option<&str>) -> Result<Vec<StepWhy>, OpsError> {
    let disk = load(path)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    let plan = plan(ctx, &store, &disk, &lock)?;
    let documents = documents(&plan, &engine_options(ctx, &store, &lock, false))?;
    let exact = step.filter(|s| documents.contains_key(*s));
    let mut found = Vec::new();
    for (name, document) in &documents {
        let wanted = match (exact, step) {
            (Some(exact), _) => name == exact,
            (None, Some(part)) => name.contains(part),
            (None, None) => true,
        };
        if wanted {
            let why = document.as_ref().map(|d| ask(&store, &lock.name, name, d)).transpose()?;
            found.push(StepWhy { step: name.clone(), why });
        }
    }
    match (found.is_empty(), step) {
        (true, Some(step)) => {
            let names = documents.keys().map(|n| format!("\n  {n}")).collect::<String>();
            let message = match names.is_empty() {
                true => format!("`{}` has no build steps", path.display()),
                false => format!("no step's name holds `{step}`; there are:{names}"),
            };
            Err(OpsError::user(message))
        }
        _ => Ok(found),
    }
}
