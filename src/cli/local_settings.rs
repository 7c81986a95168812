//! Settings out of a folder: whoever made the folder wrote them. What could lead secrets elsewhere or run programs counts
//! only once the person at this machine allowed that very file.

use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::settings::{self, Env, SettingsFile};
use crate::ops::OpsError;
use crate::ops::allowed::{self, Standing};

/// Name of the file beside a profile.
pub const LOCAL_FILE: &str = "labimg.local.toml";

/// What is to happen with a folder's settings (`--local-settings`, LABIMG_LOCAL_SETTINGS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Use what is harmless, and the rest where it was allowed; anything else is an error.
    #[default]
    Ask,
    /// Use them as if they were allowed: for machines whose folders come from nobody else.
    Allow,
    /// Read none.
    Ignore,
}

/// What a key could do in the hands of a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It counts as it is.
    Harmless,
    /// It counts when it was allowed.
    Sensitive,
    /// It counts when it was allowed, unless it is `true`.
    SensitiveUnlessTrue,
}

/// Every key of a settings file, its class, and why.
const KEYS: [(&str, Class, &str); 18] = {
    use Class::{Harmless, Sensitive, SensitiveUnlessTrue};
    [
        ("jobs", Harmless, "how many downloads at a time; `--jobs` says otherwise"),
        ("per-host", Harmless, "how many downloads at a time; `--per-host` says otherwise"),
        ("tries", Harmless, "how often something is tried"),
        ("stall-timeout", Harmless, "how long something is waited for"),
        ("cores", Harmless, "how fast building is; `--cores` says otherwise"),
        ("memory", Harmless, "how much building takes; `--memory` says otherwise"),
        ("offline", SensitiveUnlessTrue, "it turns the network on where your own settings turn it off"),
        ("store", Sensitive, "blobs are written there, and taken from there"),
        ("state", Sensitive, "secrets of labs are kept there, and what is there is believed"),
        ("root", Sensitive, "profiles may take files from there"),
        ("ca", Sensitive, "whoever holds such an authority can read what you send, passwords included"),
        ("credentials", Sensitive, "it says who you are to registries, and may run credential helpers"),
        ("mirror", Sensitive, "your requests, with your passwords, go there"),
        ("plain-http", Sensitive, "your passwords go there unencrypted"),
        ("proxy", Sensitive, "your requests go through it"),
        ("carry", Sensitive, "the program is put into bundles, and runs in labs"),
        ("tools-from-path", Sensitive, "it chooses which programs run"),
        ("engine", Sensitive, "it sets the environment of programs, and what nodes mount"),
    ]
};

/// A key of a folder's settings file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// Its name.
    pub key: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Whether it counts only where the file is allowed.
    pub needs_permission: bool,
    /// Why.
    pub why: &'static str,
}

/// A folder's settings file as it is.
pub struct Local {
    /// The file, as the person would write it.
    pub path: PathBuf,
    /// What it says.
    pub settings: SettingsFile,
    /// Its keys, in their order.
    pub keys: Vec<Key>,
    text: String,
}

impl Local {
    /// Reads the settings file in the folder `dir`, where there is one.
    ///
    /// # Errors
    /// A file that can not be read, or makes no sense.
    pub fn read(dir: &Path) -> Result<Option<Self>, OpsError> {
        let path = dir.join(LOCAL_FILE);
        let Some(text) = settings::read_text(&path)? else { return Ok(None) };
        let settings = settings::parse(&path, &text)?;
        let keys = keys(&text);
        Ok(Some(Self { path, settings, keys, text }))
    }

    /// The keys that count only where the file is allowed.
    pub fn sensitive(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|k| k.needs_permission)
    }

    /// Files it names whose content counts as much as its own.
    fn names(&self) -> Vec<PathBuf> {
        self.settings.ca.iter().chain(&self.settings.carry).cloned().collect()
    }

    /// How it stands with the person at this machine.
    ///
    /// # Errors
    /// A record of what was allowed that can not be read.
    pub fn standing(&self, env: &Env) -> Result<Standing, OpsError> {
        match record(env) {
            Some(record) => allowed::standing(&record, &self.path, &self.text, &self.names()),
            None => Ok(Standing::New),
        }
    }

    /// Allows it as it is now.
    ///
    /// # Errors
    /// No place for the record, files it names that can not be read.
    pub fn allow(&self, env: &Env) -> Result<(), OpsError> {
        let record = record(env).ok_or_else(no_record)?;
        allowed::allow(&record, allowed::Allowed::of(&self.path, &self.text, &self.names())?)
    }

    /// One line for people on what of it is in force.
    pub fn told(&self) -> String {
        let keys: Vec<&str> = self.keys.iter().map(|k| k.key.as_str()).collect();
        format!("settings of this folder: {} ({})", self.path.display(), keys.join(", "))
    }
}

/// The record of what was allowed: beside the person's own settings.
pub fn record(env: &Env) -> Option<PathBuf> {
    env.config_dir().map(|dir| dir.join("allowed-settings.toml"))
}

/// The error of a machine that has no place for the record.
pub fn no_record() -> OpsError {
    OpsError::hinted("no place to remember it: HOME is not set", "give one: XDG_CONFIG_HOME=DIR")
}

/// The settings of the folder `dir` as far as they count; `None` where there are none.
///
/// # Errors
/// Settings that would have to be allowed first, and as [`Local::read`].
pub fn in_force(dir: &Path, policy: Policy, env: &Env) -> Result<Option<Local>, OpsError> {
    if policy == Policy::Ignore {
        return Ok(None);
    }
    let Some(local) = Local::read(dir)? else { return Ok(None) };
    if policy == Policy::Allow || local.sensitive().next().is_none() {
        return Ok(Some(local));
    }
    match local.standing(env)? {
        Standing::Allowed => Ok(Some(local)),
        standing => Err(refused(&local, dir, &standing)),
    }
}

/// Names file, lines, keys and the way out; no value, which may hold a password.
fn refused(local: &Local, dir: &Path, standing: &Standing) -> OpsError {
    let path = local.path.display();
    let keys = local.sensitive().map(|k| format!("\n  {path}:{}:{}: `{}`: {}", k.line, k.column, k.key, k.why));
    let why = match standing {
        Standing::Changed(which) if *which == local.path => "changed since you allowed it".to_owned(),
        Standing::Changed(which) => format!("names `{}`, which changed since you allowed it", which.display()),
        _ => "is not allowed yet".to_owned(),
    };
    let dir = crate::base::shell::word(dir);
    OpsError::hinted(
        format!("settings file `{path}` {why}; these of its keys count only then:{}", keys.collect::<String>()),
        format!(
            "a folder may be somebody else's, so read it; where you trust it: labimg settings allow {dir} (once, and again \
             after each change); to go on without it: --local-settings ignore"
        ),
    )
}

/// The keys of a text that is known to parse.
fn keys(text: &str) -> Vec<Key> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let mut found: Vec<(usize, &str, bool, &'static str)> = Vec::new();
    let table = table.into_inner();
    for (key, value) in &table {
        let known = KEYS.iter().find(|(name, ..)| *name == key.get_ref().as_ref());
        let (class, why) = known.map_or((Class::Sensitive, "this labimg does not know it"), |k| (k.1, k.2));
        let needs = match class {
            Class::Harmless => false,
            Class::Sensitive => true,
            Class::SensitiveUnlessTrue => !matches!(value.get_ref(), DeValue::Boolean(true)),
        };
        found.push((key.span().start, known.map_or("", |k| k.0), needs, why));
    }
    found.sort_by_key(|(at, ..)| *at);
    let place = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    };
    let key = |(at, key, needs_permission, why): (usize, &str, bool, &'static str)| {
        let (line, column) = place(at);
        Key { key: key.to_owned(), line, column, needs_permission, why }
    };
    found.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_class() {
        let said = toml::from_str::<SettingsFile>("no-such-key = 1\n").unwrap_err().to_string();
        let known: Vec<&str> = said.rsplit_once("expected one of").unwrap().1.split('`').skip(1).step_by(2).collect();
        assert!(known.len() > 15, "{said}");
        for key in &known {
            assert!(KEYS.iter().any(|(name, ..)| name == key), "`{key}` has no class");
        }
        assert_eq!(known.len(), KEYS.len());
    }

    #[test]
    fn keys_are_found_where_they_stand() {
        let text = "jobs = 1\noffline = true\nca = [\"x\"]\n[mirror]\n\"a\" = \"b\"\n[proxy]\nhttp = \"x\"\n";
        let found = keys(text);
        let told: Vec<(&str, usize, usize, bool)> =
            found.iter().map(|k| (k.key.as_str(), k.line, k.column, k.needs_permission)).collect();
        assert_eq!(
            told,
            [
                ("jobs", 1, 1, false),
                ("offline", 2, 1, false),
                ("ca", 3, 1, true),
                ("mirror", 4, 2, true),
                ("proxy", 6, 2, true)
            ]
        );
        assert!(keys("offline = false\n")[0].needs_permission, "it could overrule the person's own");
        assert!(keys("proxy.http = \"x\"\n")[0].needs_permission);
        assert!(keys("\"engine\".kind.env = {}\n")[0].needs_permission);
    }
}
