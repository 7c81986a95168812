//! `labimg check`: does a lab carry what its manifests name, and what it needs to come up?

use std::path::Path;

use serde::Serialize;

use super::fetch::put_locals;
use super::profile::load;
use super::{Ctx, OpsError};
use crate::base::bounds::{LOCK_BYTES, PROFILE_BYTES};
use crate::build::closure::{self, Closure};
use crate::build::complete::{self, Lack};
use crate::model::lock::wire;
use crate::model::profile::{LoadedProfile, Profile, parse};
use crate::store::Access;
use crate::store::bundle::{Bundle, BundleError, LOCK_PATH, PROFILE_PATH};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// What the manifests name and whether it is there.
    #[serde(flatten)]
    pub closure: Closure,
    /// What the lab lacks to come up.
    pub lacking: Vec<Lack>,
}

impl Checked {
    /// Whether nothing that `labimg up` needs is missing, as far as was looked.
    pub fn is_closed(&self) -> bool {
        self.closure.is_closed() && !self.lacking.iter().any(|l| l.needed)
    }

    /// Whether besides nothing was left out of the look and nothing lacks at all.
    pub fn is_whole(&self) -> bool {
        self.closure.is_whole() && self.lacking.is_empty()
    }
}

/// Looks at a profile (its name ends in `.toml`), whose manifests must have been fetched, or at a bundle, in place. No network.
///
/// # Errors
/// A profile without a lock that answers it, manifests that are not in the store, a bundle that can not be read. What is
/// missing from the lab is no error but the result.
pub fn check(ctx: &Ctx, path: &Path) -> Result<Checked, OpsError> {
    if path.extension().is_some_and(|end| end == "toml") { of_profile(ctx, path) } else { of_bundle(path) }
}

fn of_profile(ctx: &Ctx, path: &Path) -> Result<Checked, OpsError> {
    let disk = load(path, &ctx.roots)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    put_locals(&store, &disk, &lock)?;
    let closure = closure::check(&disk.profile, &lock, store.as_ref())?;
    Ok(Checked { closure, lacking: complete::lacks_at(&disk.profile, &lock, &disk.sources) })
}

fn of_bundle(path: &Path) -> Result<Checked, OpsError> {
    let bundle = Bundle::open_checked(path)?;
    let loaded = loaded_in(&bundle)?;
    let text = bundle.text(LOCK_PATH, LOCK_BYTES)?;
    let lock = wire::parse(&text).map_err(|e| damaged(&bundle, LOCK_PATH, e.to_string()))?;
    let closure = closure::check(&loaded.profile, &lock, &bundle)?;
    Ok(Checked { closure, lacking: complete::lacks_at(&loaded.profile, &lock, &loaded.sources) })
}

/// The profile that a bundle carries.
///
/// # Errors
/// A member that is damaged or says what no profile says.
pub(super) fn profile_in(bundle: &Bundle) -> Result<Profile, BundleError> {
    loaded_in(bundle).map(|loaded| loaded.profile)
}

fn loaded_in(bundle: &Bundle) -> Result<LoadedProfile, BundleError> {
    let text = bundle.text(PROFILE_PATH, PROFILE_BYTES)?;
    let mut none = |_: &str| Err("a bundle's profile has no imports".to_owned());
    parse(PROFILE_PATH, &text, &mut none).map_err(|e| damaged(bundle, PROFILE_PATH, e.to_string()))
}

fn damaged(bundle: &Bundle, member: &str, why: String) -> BundleError {
    BundleError::Damaged { path: bundle.path().to_owned(), member: member.to_owned(), why }
}
