//! What pip's failure means: its words are for who runs pip, ours for who writes requirements.

use std::collections::BTreeSet;

use super::config::Indexes;
use super::find;
use super::page::PageFile;
use super::pip::name_of;
use super::{Target, WheelError};
use crate::model::pep440::same_version;
use crate::model::url_policy::shown;
use crate::model::wheel::{WheelName, normalized};
use crate::source::SourceError;

/// How many names an error lists.
const MOST_NAMES: usize = 8;

/// The error behind what pip said.
pub async fn explain(indexes: &Indexes, said: &str, target: Target) -> SourceError {
    if let Some(error) = known(said) {
        return error.into();
    }
    let Some(requirement) = after(said, "No matching distribution found for ") else {
        return broken(indexes, said).unwrap_or_else(|| WheelError::Pip { said: clean(&last_lines(said)) }).into();
    };
    let requirement = clean(requirement.split(" (from ").next().unwrap_or_default().trim());
    let project = normalized(name_of(&requirement));
    match find::files(indexes, &project).await {
        // Only when we do not reach it either: pip may have come through at its second try.
        Err(error) => broken(indexes, said).map_or(error, SourceError::from),
        Ok(None) => WheelError::NoProject { project, asked: indexes.shown() }.into(),
        Ok(Some(files)) => missing(&files, requirement, project, said, target).into(),
    }
}

/// Failures that pip tells well enough.
fn known(said: &str) -> Option<WheelError> {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["No module named pip", "No module named 'pip'"]) {
        return Some(WheelError::NoPip);
    }
    if has(&["no such option: --report", "no such option: --dry-run"]) {
        return Some(WheelError::OldPip);
    }
    if let Some(line) = after(said, "Invalid requirement: ") {
        let text = clean(line.trim_matches(|c| c == '\'' || c == '"'));
        return Some(WheelError::Requirement { text, why: "pip does not understand it".to_owned() });
    }
    if has(&["DO NOT MATCH THE HASHES"]) {
        return Some(WheelError::Hashes { why: clean(&hash_lines(said)), differ: true });
    }
    if has(&["--require-hashes"]) {
        let why = said.lines().find(|l| l.contains("--require-hashes")).unwrap_or_default();
        return Some(WheelError::Hashes { why: clean(why.trim_start_matches("ERROR: ")), differ: false });
    }
    if has(&["ResolutionImpossible", "conflicting dependencies"]) {
        return Some(WheelError::Conflict { why: conflict(said) });
    }
    None
}

/// That pip lost or never had its connection, where it says so.
fn broken(indexes: &Indexes, said: &str) -> Option<WheelError> {
    let lines = || said.lines().filter(|l| l.contains("connection broken by") || l.contains("Could not fetch URL"));
    let line = lines().next_back()?;
    Some(WheelError::Unreachable { index: indexes.shown(), why: connection(line) })
}

/// Of a warning that quotes an exception, the exception's last words.
fn connection(line: &str) -> String {
    let said = line.rsplit_once("object at ").map_or(line, |(_, rest)| rest.split_once(':').map_or(rest, |(_, r)| r));
    clean(said.split("')'").next().unwrap_or_default().trim().trim_end_matches(['"', '\'', ')', '(']))
}

/// The lines of pip's that say who wants what.
fn conflict(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).skip_while(|l| !l.starts_with("The conflict is caused by"));
    lines.next();
    let mut seen = BTreeSet::new();
    let who = lines.take_while(|l| !l.is_empty()).filter(|line| seen.insert(*line));
    let who: Vec<&str> = who.take(MOST_NAMES).collect();
    match who.is_empty() {
        false => clean(&who.join("; ")),
        true => clean(after(said, "ERROR: Cannot install ").unwrap_or_else(|| said.trim())),
    }
}

fn hash_lines(said: &str) -> String {
    let lines = said.lines().skip_while(|l| !l.contains("DO NOT MATCH")).skip(1);
    lines.map(str::trim).filter(|l| !l.is_empty()).take(3).collect::<Vec<_>>().join(" ")
}

fn after<'a>(said: &'a str, words: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.split_once(words).map(|(_, rest)| rest))
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let errors: Vec<&str> = lines.iter().copied().filter(|l| l.starts_with("ERROR")).collect();
    let told = if errors.is_empty() { lines } else { errors };
    told.iter().rev().take(3).rev().map(|l| l.trim_start_matches("ERROR: ")).collect::<Vec<_>>().join(" ")
}

/// Why none of `files` will do.
fn missing(files: &[PageFile], requirement: String, project: String, said: &str, target: Target) -> WheelError {
    let exact = exact_version(&requirement);
    let asked = |version: &str| exact.as_deref().is_none_or(|exact| same_version(exact, version));
    let wheels: Vec<WheelName> = files.iter().filter_map(|f| WheelName::parse(&f.name).ok()).collect();
    let of_it: Vec<&WheelName> = wheels.iter().filter(|w| asked(&w.version)).collect();
    let fits = |wheel: &WheelName| wheel.tag.fits(target.python, target.platform);
    if of_it.is_empty() {
        let source = files.iter().find(|f| source_version(&f.name, &project).is_some_and(|v| asked(&v)));
        if let Some(file) = source {
            return WheelError::SourceOnly { requirement, file: file.name.clone() };
        }
    } else if !of_it.iter().any(|w| fits(w)) {
        let there = listed(of_it.iter().map(|w| w.tag.text()));
        return WheelError::Unfit { requirement, wanted: target.to_string(), there };
    }
    let there = listed(wheels.iter().filter(|w| fits(w)).map(|w| w.version.clone()));
    let more = said.lines().find(|l| l.contains("require a different python version"));
    let more = more.map(|l| format!("; {}", clean(l.trim_start_matches("ERROR: ").trim()))).unwrap_or_default();
    WheelError::Version { project, requirement, there: if there.is_empty() { "none".into() } else { there }, more }
}

/// `1.2` of `x==1.2`; not of `x==1.*`.
fn exact_version(requirement: &str) -> Option<String> {
    let version = requirement.split(';').next()?.split_once("==")?.1.trim_start_matches('=').trim();
    (!version.contains(['*', ',', '<', '>', '!', '~'])).then(|| version.to_owned())
}

/// The version of a source distribution of `project`.
fn source_version(file: &str, project: &str) -> Option<String> {
    let stem = [".tar.gz", ".zip", ".tar.bz2"].iter().find_map(|end| file.strip_suffix(end))?;
    let (name, version) = stem.rsplit_once('-')?;
    (normalized(name) == project).then(|| version.to_owned())
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let all: BTreeSet<String> = names.collect();
    let first: Vec<&str> = all.iter().take(MOST_NAMES).map(String::as_str).collect();
    let more = all.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}

/// One line without control characters, with nothing secret in its URLs.
pub fn clean(text: &str) -> String {
    let word = |word: &str| if word.contains("://") { shown(word) } else { word.to_owned() };
    let line = text.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::platform::Platform;
    use crate::model::wheel::PythonVersion;

    fn told(names: &[&str], requirement: &str) -> String {
        let file = |name: &&str| PageFile {
            name: (*name).to_owned(),
            url: "https://h.example/x".parse().unwrap(),
            digest: None,
            size: None,
        };
        let files: Vec<PageFile> = names.iter().map(file).collect();
        let target = Target { python: PythonVersion { minor: 11 }, platform: Platform::LinuxArm64, machine: "aarch64" };
        missing(&files, requirement.to_owned(), "foo".to_owned(), "", target).to_string()
    }

    #[test]
    fn what_is_missing_is_told() {
        let text = told(&["foo-1.tar.gz"], "foo");
        assert!(text.contains("only source (foo-1.tar.gz)"), "{text}");
        let text = told(&["foo-1.0-py3-none-any.whl", "foo-2.0.zip"], "foo==2");
        assert!(text.contains("only source (foo-2.0.zip)"), "{text}");
        let text = told(&["foo-1-cp311-cp311-win_amd64.whl", "foo-1.tar.gz"], "foo==1.0");
        assert!(
            text.contains("no wheel for Python 3.11 on linux/arm64; there are wheels for cp311-cp311-win_amd64"),
            "{text}"
        );
        let text = told(&["foo-1-py3-none-any.whl"], "foo>=2");
        assert!(text.contains("with wheels that fit there are 1"), "{text}");
    }

    #[test]
    fn secrets_are_cut() {
        let text = clean("Looking in https://me:hunter2@h.example/simple?token=x\n\u{1b}[31m");
        assert_eq!(text, "Looking in https://h.example/simple [31m");
    }
}
