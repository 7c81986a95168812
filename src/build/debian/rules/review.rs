//! Which packages have scripts whose effect is neither nothing nor written in a rule.

use std::collections::BTreeSet;

use super::scripts;
use super::table::Rules;
use crate::build::BuildError;
use crate::build::debian::unpack::Unpacked;
use crate::model::image_def::ALL_SCRIPTS;

/// A package that may not work, because its scripts are not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhandled {
    /// The package.
    pub package: String,
    /// Its scripts that do something.
    pub scripts: Vec<String>,
    /// What they do, or why it can not work.
    pub hint: String,
    /// Whether it surely can not work.
    pub impossible: bool,
}

/// All packages that may not work without their scripts, sorted.
///
/// # Errors
/// [`BuildError::Internal`] when the rules are wrong.
pub fn review(packages: &[Unpacked]) -> Result<Vec<Unhandled>, BuildError> {
    let rules = Rules::load()?;
    let mut found: Vec<Unhandled> = packages.iter().filter_map(|p| one(&rules, p)).collect();
    found.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(found)
}

fn one(rules: &Rules, package: &Unpacked) -> Option<Unhandled> {
    let name = package.package.name.as_str();
    let (mut names, mut first) = (Vec::new(), None);
    for script in scripts::NAMES.into_iter().filter(|s| package.control.files.contains_key(*s)) {
        let rest = scripts::of(package, script).rest;
        if let Some(line) = rest.into_iter().next() {
            names.push(script.to_owned());
            first.get_or_insert(line);
        }
    }
    if let Some(why) = rules.impossible(name) {
        return Some(Unhandled { package: name.into(), scripts: names, hint: why.into(), impossible: true });
    }
    let line = first.filter(|_| rules.of(name).next().is_none())?;
    let line: String = line.chars().take(100).collect();
    Some(Unhandled { package: name.into(), scripts: names, hint: format!("`{line}`"), impossible: false })
}

/// Refuses packages that may not work unless they are named in `allowed` (`*` names all); all of them at once.
///
/// # Errors
/// [`BuildError::User`] with the line to write.
pub fn refuse(packages: &[Unpacked], allowed: &BTreeSet<String>) -> Result<(), BuildError> {
    if allowed.contains(ALL_SCRIPTS) {
        return Ok(());
    }
    let open: Vec<Unhandled> = review(packages)?.into_iter().filter(|u| !allowed.contains(&u.package)).collect();
    if open.is_empty() {
        return Ok(());
    }
    let say = |u: &Unhandled| match u.impossible {
        true => format!("\n  {}: cannot work without its scripts: {}", u.package, u.hint),
        false => format!("\n  {}: {} does {}", u.package, u.scripts.join(" and "), u.hint),
    };
    let message = format!(
        "no maintainer scripts are run here, and there is no rule for what those of {} do:{}",
        if open.len() == 1 { "this package" } else { "these packages" },
        open.iter().map(say).collect::<String>()
    );
    let names: BTreeSet<String> =
        allowed.iter().cloned().chain(open.iter().map(|u| u.package.clone())).map(|n| format!("{n:?}")).collect();
    let line = format!("without-scripts = [{}]", names.into_iter().collect::<Vec<_>>().join(", "));
    Err(BuildError::user(message, format!("if they work without, write in image.toml: {line}")))
}
