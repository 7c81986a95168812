//! `labimg check`: does a lab carry what its manifests name?

use std::path::Path;

use super::fetch::put_locals;
use super::profile::load;
use super::{Ctx, OpsError};
use crate::base::bounds::{LOCK_BYTES, PROFILE_BYTES};
use crate::build::closure::{self, Closure};
use crate::model::lock::wire;
use crate::model::profile::{Profile, parse};
use crate::store::Access;
use crate::store::bundle::{Bundle, BundleError, LOCK_PATH, PROFILE_PATH};

/// Looks at a profile (its name ends in `.toml`), whose manifests must have been fetched, or at a bundle, in place. No network.
///
/// # Errors
/// A profile without a lock that answers it, manifests that are not in the store, a bundle that can not be read. What is
/// missing from the lab is no error but the result.
pub fn check(ctx: &Ctx, path: &Path) -> Result<Closure, OpsError> {
    if path.extension().is_some_and(|end| end == "toml") { of_profile(ctx, path) } else { of_bundle(path) }
}

fn of_profile(ctx: &Ctx, path: &Path) -> Result<Closure, OpsError> {
    let disk = load(path)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    put_locals(&store, &disk, &lock)?;
    Ok(closure::check(&disk.profile, &lock, store.as_ref())?)
}

fn of_bundle(path: &Path) -> Result<Closure, OpsError> {
    let bundle = Bundle::open(path)?;
    let profile = profile_in(&bundle)?;
    let text = bundle.text(LOCK_PATH, LOCK_BYTES)?;
    let lock = wire::parse(&text).map_err(|e| damaged(&bundle, LOCK_PATH, e.to_string()))?;
    Ok(closure::check(&profile, &lock, &bundle)?)
}

/// The profile that a bundle carries.
///
/// # Errors
/// A member that is damaged or says what no profile says.
pub(super) fn profile_in(bundle: &Bundle) -> Result<Profile, BundleError> {
    let text = bundle.text(PROFILE_PATH, PROFILE_BYTES)?;
    let mut none = |_: &str| Err("a bundle's profile has no imports".to_owned());
    let loaded = parse(PROFILE_PATH, &text, &mut none).map_err(|e| damaged(bundle, PROFILE_PATH, e.to_string()))?;
    Ok(loaded.profile)
}

fn damaged(bundle: &Bundle, member: &str, why: String) -> BundleError {
    BundleError::Damaged { path: bundle.path().to_owned(), member: member.to_owned(), why }
}
