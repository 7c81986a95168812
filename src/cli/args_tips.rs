//! Verbs that people of other tools type, and what they are called here.

use std::ffi::OsString;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What a verb of another tool is here. What clap finds by likeness (`list` for `ls`) needs no line.
const TIPS: [(&[&str], &str); 16] = [
    (
        &["init", "new", "create"],
        "a lab starts as a profile: README.md and docs/ show some; `labimg lock PROFILE` pins its inputs",
    ),
    (
        &["add"],
        "inputs are written into the profile (`[[image]]`, `[[chart]]`, `[tool.NAME]`); then `labimg lock PROFILE`",
    ),
    (&["update", "upgrade"], "`labimg lock PROFILE --update NAME` moves one input, `--update-all` every one"),
    (&["start", "run", "apply", "deploy", "install"], "`labimg up BUNDLE` brings a lab up"),
    (&["stop", "destroy", "delete", "remove"], "`labimg down LAB` takes a lab away; `labimg store rm LAB` forgets it"),
    (&["clean", "prune", "gc"], "`labimg store gc` frees what no lab needs; `labimg down LAB` takes a lab away"),
    (&["rm"], "`labimg store rm LAB` forgets a lab; `labimg down LAB` takes it away"),
    (&["validate", "lint"], "`labimg lock PROFILE --check` reads profile and lock without a network"),
    (
        &["test"],
        "`labimg verify` runs the checks of a lab that is up; `labimg check BUNDLE` looks whether every image is carried",
    ),
    (&["version"], "`labimg --version`"),
    (&["tree", "images", "list"], "`labimg ls BUNDLE` lists what a bundle holds; `labimg graph PROFILE` draws it"),
    (
        &["extract", "unpack"],
        "`labimg cat BUNDLE WHAT` writes one thing out; `labimg export BUNDLE --docker -o FILE` its images",
    ),
    (&["show", "info"], "`labimg inspect BUNDLE` shows what a bundle is"),
    (&["pull", "download"], "`labimg fetch PROFILE` brings what a lock names"),
    (&["ps"], "`labimg status` shows the labs of this machine"),
    (&["pack", "make", "package"], "`labimg build PROFILE` writes the bundle"),
];

/// The error with a tip where clap has none, or guesses by likeness alone.
pub fn told(mut error: Error, args: &[OsString]) -> Error {
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand => verb(&error),
        ErrorKind::MissingRequiredArgument => update_without_profile(&error, args),
        _ => None,
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The tip for a verb of another tool.
fn verb(error: &Error) -> Option<String> {
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let (_, tip) = TIPS.iter().find(|(verbs, _)| verbs.contains(&verb.as_str()))?;
    Some((*tip).to_owned())
}

/// `--update PROFILE`, and no profile: what follows `--update` is a name, so the profile is missing.
fn update_without_profile(error: &Error, args: &[OsString]) -> Option<String> {
    let of_lock = error.get(ContextKind::Usage)?.to_string().contains("labimg lock");
    let last = args.iter().rev().filter_map(|a| a.to_str()).find(|a| a.ends_with(".toml"));
    let profile = last.filter(|_| of_lock)?.trim_start_matches("--update=");
    Some(format!(
        "a NAME follows `--update`: `labimg lock {profile} --update NAME` moves one input, `labimg lock {profile} --update-all` \
         every one"
    ))
}
