//! A whole root file system from packages that were taken apart.

use std::collections::BTreeSet;

use super::rules::table::Rules;
use super::rules::{apply, review};
use super::unpack::Unpacked;
use super::{dpkg, ldcache, merge};
use crate::build::BuildError;
use crate::build::tree::{Content, Entry, Tree};
use crate::model::guest_path::GuestPath;

/// What shapes a root file system beside its packages.
#[derive(Debug, Clone, Default)]
pub struct RootOptions {
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// Packages whose scripts may stay undone.
    pub without_scripts: BTreeSet<String>,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Names of the packages of the first tree.
    pub essential_names: BTreeSet<String>,
}

/// A root file system, twice.
#[derive(Debug, Clone, Default)]
pub struct Root {
    /// With the essential packages alone: their users, their dpkg database, their loader cache.
    pub essential: Tree,
    /// With all packages.
    pub full: Tree,
}

/// Makes both trees.
///
/// # Errors
/// Packages whose scripts do what no rule does; a package of another architecture; what [`merge::root_tree`] refuses.
pub fn build_root(unpacked: Vec<Unpacked>, options: &RootOptions) -> Result<Root, BuildError> {
    review::refuse(&unpacked, &options.without_scripts)?;
    let rules = Rules::load()?;
    // Essential packages first: ids given to their users are the same in both trees.
    let mut order: Vec<&Unpacked> = unpacked.iter().collect();
    let essential = |p: &&Unpacked| options.essential_names.contains(&p.package.name);
    order.sort_by_key(|p| (!essential(p), &p.package.name, &p.package.architecture));
    let first: Vec<&Unpacked> = order.iter().copied().filter(|p| essential(p)).collect();
    Ok(Root { essential: tree(&rules, &first, options)?, full: tree(&rules, &order, options)? })
}

fn tree(rules: &Rules, packages: &[&Unpacked], options: &RootOptions) -> Result<Tree, BuildError> {
    if packages.is_empty() {
        return Ok(Tree::default());
    }
    let diversions = apply::diversions(rules, packages)?;
    let mut merged = merge::root_tree(packages, &diversions)?;
    let overrides = apply::apply(rules, packages, options.epoch, &mut merged.tree)?;
    dpkg::write(&mut merged, packages, &options.architecture, &diversions, &overrides)?;
    if let Some(cache) = ldcache::cache(&merged.tree) {
        let entry = Entry::file(&"loader cache".into(), 0o644, Content::bytes(cache));
        merged.tree.put(GuestPath::parse("etc/ld.so.cache")?, entry);
    }
    Ok(merged.tree)
}
