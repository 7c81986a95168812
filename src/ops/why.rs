//! `labimg why`: what changed since a step was last built.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::make::plan;
use super::profile::load;
use super::{Ctx, OpsError};
use crate::build::step::engine::{Preview, preview};
use crate::build::step::why::{Why, why as ask};
use crate::store::{Access, Store};

/// One step and what became of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepWhy {
    /// The step.
    pub step: String,
    /// What changed since it was last built; `None` while the steps it waits for must be built first.
    pub why: Option<Why>,
    /// Whether the next build takes its output as it is.
    pub there: bool,
    /// Steps that must be built before anything can be said.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub waits_for: BTreeSet<String>,
}

/// What changed since the steps of the profile at `path` were last built: all of them, or those with `step` in their name.
///
/// # Errors
/// What is wrong with the profile or its lock; no step of that name.
pub fn why(ctx: &Ctx, path: &Path, step: Option<&str>) -> Result<Vec<StepWhy>, OpsError> {
    let disk = load(path, &ctx.roots)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    let plan = plan(ctx, &store, &disk, &lock)?;
    let steps = preview(&plan, &store, lock.epoch)?;
    let exact = step.filter(|s| steps.contains_key(*s));
    let mut found = Vec::new();
    for (name, preview) in &steps {
        let wanted = match (exact, step) {
            (Some(exact), _) => name == exact,
            (None, Some(part)) => name.contains(part),
            (None, None) => true,
        };
        if wanted {
            found.push(one(&store, &lock.name, name, preview)?);
        }
    }
    if found.is_empty()
        && let Some(step) = step
    {
        let names = steps.keys().map(|n| format!("\n  {n}")).collect::<String>();
        return Err(OpsError::user(match names.is_empty() {
            true => format!("`{}` has no build steps", path.display()),
            false => format!("no step's name holds `{step}`; there are:{names}"),
        }));
    }
    Ok(found)
}

fn one(store: &Store, lab: &str, name: &str, preview: &Preview) -> Result<StepWhy, OpsError> {
    let step = name.to_owned();
    Ok(match preview {
        Preview::Known { document, outputs } => StepWhy {
            why: Some(ask(store, lab, name, document)?),
            there: outputs.is_some(),
            waits_for: BTreeSet::new(),
            step,
        },
        Preview::Waits(steps) => StepWhy { step, why: None, there: false, waits_for: steps.clone() },
    })
}
