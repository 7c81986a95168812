//! What types can not say about things made here: suites, the toolchain, wheels, steps, images of our own.

use std::collections::BTreeSet;

use super::StepInput;
use super::types::Profile;
use super::validate::{Findings, NAME_RULE, is_name};
use super::validate_deploy::cycles;
use crate::base::shown;
use crate::model::image_def::ImageDef;
use crate::model::source_map::{Diagnostic, Loc, SourceMap};

/// Everything wrong with the tables for things made here.
pub(super) fn made(profile: &Profile, found: &mut Findings<'_>) {
    debians(profile, found);
    if let Some(toolchain) = &profile.toolchain {
        found.must_exist(&toolchain.debian, "[debian] table", &debian_names(profile));
    }
    wheels(profile, found);
    steps(profile, found);
    for image in profile.image.iter().filter(|i| i.build.is_some()) {
        if image.reference.digest.is_some() || image.reference.tag.is_none() {
            let text = format!("`{}` is made here: it needs a tag and can have no digest", *image.reference);
            found.add(&image.reference.span(), text);
        }
    }
}

fn debian_names(profile: &Profile) -> BTreeSet<&str> {
    profile.debian.keys().map(String::as_str).collect()
}

fn debians(profile: &Profile, found: &mut Findings<'_>) {
    for (name, debian) in &profile.debian {
        let texts = debian.suites.iter().chain(&debian.components).chain(&debian.archive);
        for text in texts.filter(|t| !is_archive_word(t)) {
            found.add(&text.span(), format!("`{}` is no suite, component or archive", **text)).hint =
                Some("letters, digits, `-`, `.`, `_`, `/`, `+` and `~`, without `..`".to_owned());
        }
        if let Some(at) = debian.suites.first().or(debian.snapshot.as_ref()).filter(|_| !is_name(name)) {
            found.add(&at.span(), format!("`{name}` is not a name")).hint = Some(NAME_RULE.to_owned());
        }
        if let Some(snapshot) = debian.snapshot.as_ref().filter(|s| !is_snapshot(s)) {
            found.add(&snapshot.span(), format!("`{}` is no moment of the snapshot archive", **snapshot)).hint =
                Some("write it as 20261101T000000Z".to_owned());
        }
    }
}

/// Part of a path below an archive, safe in a URL.
fn is_archive_word(text: &str) -> bool {
    !text.is_empty()
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/+~".contains(c))
}

fn is_snapshot(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 16
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 => *b == b'T',
            15 => *b == b'Z',
            _ => b.is_ascii_digit(),
        })
}

fn wheels(profile: &Profile, found: &mut Findings<'_>) {
    for set in &profile.wheel {
        let minor = set.python.strip_prefix("3.").filter(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit()));
        if minor.is_none() {
            found.add(&set.python.span(), format!("`{}` is no version of Python", *set.python)).hint =
                Some("write it as 3.11".to_owned());
        }
        if set.requirements.is_empty() {
            found.add(&set.name.span(), format!("wheel set `{}` requires nothing", *set.name));
        }
        // Whatever starts like an option would be one for pip.
        for requirement in
            set.requirements.iter().filter(|r| r.trim_start().starts_with('-') || r.contains(['\n', '\r']))
        {
            found.add(&requirement.span(), format!("`{}` is no requirement", requirement.escape_debug())).hint =
                Some("write it as flask==3.0.3 or flask>=3,<4".to_owned());
        }
    }
}

fn steps(profile: &Profile, found: &mut Findings<'_>) {
    let known = Known {
        steps: profile.step.iter().map(|s| s.name.as_str()).collect(),
        files: profile.file.iter().map(|f| f.name.as_str()).collect(),
        manifests: profile.manifest.iter().map(|m| m.name.as_str()).collect(),
        charts: profile.chart.iter().map(|c| c.name.as_str()).collect(),
    };
    for step in &profile.step {
        if profile.toolchain.is_none() {
            let text = format!("step `{}` has no programs to run with", *step.name);
            found.add(&step.name.span(), text).hint =
                Some("add [toolchain] with debian = \"NAME\" and packages = [\"…\"]".to_owned());
        }
        for (label, input) in &step.inputs {
            if !is_name(label) {
                found.add(&input.span(), format!("`{label}` is not a name")).hint = Some(NAME_RULE.to_owned());
            }
            step_input(&known, input, found);
        }
        if let Some(cores) = step.cores.as_ref().filter(|c| !(1..=1024).contains(&***c)) {
            found.add(&cores.span(), "a step uses 1 to 1024 cores");
        }
        if let Some(memory) = step.memory.as_ref().filter(|m| ***m == 0) {
            found.add(&memory.span(), "a step uses some memory (MiB)");
        }
        for name in step.env.keys().filter(|n| !is_variable(n)) {
            found.add(&step.name.span(), format!("step `{}`: `{name}` is no variable", *step.name));
        }
    }
    let waits = profile.step.iter().map(|s| (&s.name, s.inputs.values().filter_map(step_before).collect()));
    cycles("step", waits, found);
}

/// The step an input comes from, and where that is said.
fn step_before(input: &Loc<String>) -> Option<(&str, std::ops::Range<usize>)> {
    match StepInput::parse(input) {
        Some(StepInput::Step(name)) => Some((name, input.span())),
        _ => None,
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What inputs of steps may name.
struct Known<'a> {
    steps: BTreeSet<&'a str>,
    files: BTreeSet<&'a str>,
    manifests: BTreeSet<&'a str>,
    charts: BTreeSet<&'a str>,
}

fn step_input(known: &Known<'_>, input: &Loc<String>, found: &mut Findings<'_>) {
    let (kind, name, known) = match StepInput::parse(input) {
        Some(StepInput::Path(_)) => return,
        Some(StepInput::Step(name)) => ("step", name, &known.steps),
        Some(StepInput::File(name)) => ("file", name, &known.files),
        Some(StepInput::Manifest(name)) => ("manifest", name, &known.manifests),
        Some(StepInput::Chart(name)) => ("chart", name, &known.charts),
        None => {
            found.add(&input.span(), format!("`{}` is no input of a step", **input)).hint =
                Some("path:FILE, step:NAME, file:NAME, manifest:NAME or chart:NAME".to_owned());
            return;
        }
    };
    if !known.contains(name) {
        let near = if found.is_full() { None } else { shown::nearest(name, known.iter().copied()) };
        let hint = near.map(|n| format!("did you mean `{kind}:{n}`?"));
        found.add(&input.span(), format!("there is no {kind} called `{name}`")).hint = hint;
    }
}

/// Everything in an `image.toml` (its places are in `sources`) that the profile has no answer for.
pub fn check_def(profile: &Profile, def: &ImageDef, sources: &SourceMap) -> Vec<Diagnostic> {
    let mut found = Findings::new(sources);
    if let Some(debian) = &def.debian {
        found.must_exist(debian, "[debian] table in the profile", &debian_names(profile));
    }
    let wheels: BTreeSet<&str> = profile.wheel.iter().map(|w| w.name.as_str()).collect();
    for wheel in &def.wheels {
        found.must_exist(wheel, "[[wheel]] in the profile", &wheels);
    }
    let steps: BTreeSet<&str> = profile.step.iter().map(|s| s.name.as_str()).collect();
    for from in def.file.iter().filter_map(|f| f.from.as_ref()) {
        let Some(name) = from.strip_prefix("step:").map(|rest| rest.split('/').next().unwrap_or_default()) else {
            continue;
        };
        if !steps.contains(name) {
            found.add(&from.span(), format!("there is no [[step]] called `{name}` in the profile"));
        }
    }
    found.list
}
