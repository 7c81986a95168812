//! `labimg settings`: what a folder's settings are, and whether they count.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{FolderArgs, SettingsVerb};
use super::commands::out;
use super::error::{Outcome, Status};
use super::local_settings::{self, Key, LOCAL_FILE, Local};
use super::print;
use super::settings::{self, Env};
use crate::ops::OpsError;
use crate::ops::allowed::{self, Standing};

/// What is said of a folder's settings.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown {
    /// The person's own file, where it is there.
    user: Option<PathBuf>,
    /// The folder's file, where it is there.
    local: Option<PathBuf>,
    /// Whether all of it counts.
    in_force: bool,
    /// In a word: `harmless`, `allowed`, `not-allowed` or `changed`.
    standing: Option<&'static str>,
    /// What it sets.
    keys: Vec<Key>,
}

/// Runs the verb; needs no settings, so that none can keep it from running.
pub(super) fn run(env: &Env, verb: &SettingsVerb, json: bool, quiet: bool) -> Outcome {
    let say = |text: &str| match quiet || json {
        true => {}
        false => print::to_stderr(text),
    };
    match verb {
        SettingsVerb::Allow(args) => {
            let dir = folder(args);
            let local = there(&dir)?;
            if local.sensitive().next().is_none() {
                say(&format!("`{}` counts as it is: nothing in it needs to be allowed", local.path.display()));
            } else {
                local.allow(env)?;
                let keys: Vec<String> = local.sensitive().map(|k| format!("`{}`", k.key)).collect();
                say(&format!("allowed as it is now: `{}`, which sets {}", local.path.display(), keys.join(", ")));
            }
            told(json, &shown(env, &dir)?)
        }
        SettingsVerb::Revoke(args) => {
            let dir = folder(args);
            let record = local_settings::record(env).ok_or_else(local_settings::no_record)?;
            let file = dir.join(LOCAL_FILE);
            match allowed::revoke(&record, &file)? {
                true => say(&format!("no longer allowed: `{}`", file.display())),
                false => say(&format!("`{}` was not allowed", file.display())),
            }
            Ok(Status::Ok)
        }
        SettingsVerb::Show(args) => {
            let shown = shown(env, &folder(args))?;
            if json { told(true, &shown) } else { out(print::to_stdout(&words(&shown))) }
        }
    }
}

fn told(json: bool, shown: &Shown) -> Outcome {
    if json { out(print::json(shown)) } else { Ok(Status::Ok) }
}

fn folder(args: &FolderArgs) -> PathBuf {
    match args.dir.is_file() {
        true => crate::base::atomic::parent(&args.dir).to_owned(),
        false => args.dir.clone(),
    }
}

fn there(dir: &Path) -> Result<Local, OpsError> {
    Local::read(dir)?.ok_or_else(|| OpsError::user(format!("there is no file `{}`", dir.join(LOCAL_FILE).display())))
}

fn shown(env: &Env, dir: &Path) -> Result<Shown, OpsError> {
    let user = settings::user_file(env).filter(|path| path.is_file());
    let Some(local) = Local::read(dir)? else {
        return Ok(Shown { user, local: None, in_force: false, standing: None, keys: Vec::new() });
    };
    let standing = match (local.sensitive().next().is_none(), local.standing(env)?) {
        (true, _) => "harmless",
        (false, Standing::Allowed) => "allowed",
        (false, Standing::New) => "not-allowed",
        (false, Standing::Changed(_)) => "changed",
    };
    let in_force = matches!(standing, "harmless" | "allowed");
    Ok(Shown { user, in_force, standing: Some(standing), keys: local.keys, local: Some(local.path) })
}

fn words(shown: &Shown) -> String {
    let place = |path: &Option<PathBuf>| path.as_ref().map_or("none".to_owned(), |p| p.display().to_string());
    let standing = match shown.standing {
        None => "",
        Some("harmless") => " (counts: nothing in it needs to be allowed)",
        Some("allowed") => " (counts: you allowed it)",
        Some("changed") => " (does not count: it changed since you allowed it)",
        Some(_) => " (does not count: you have not allowed it)",
    };
    let mut text = format!("your own: {}\nthis folder's: {}{standing}\n", place(&shown.user), place(&shown.local));
    for key in &shown.keys {
        let needs = if key.needs_permission { "to be allowed" } else { "harmless" };
        text += &format!("  {}:{}: {}: {needs}: {}\n", key.line, key.column, key.key, key.why);
    }
    text
}
