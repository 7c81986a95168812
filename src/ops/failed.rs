//! What is told of an input that fails: its place in the profile, whose fault it may be, and the command that helps.

use std::path::Path;

use super::OpsError;
use super::places::{self, Part};
use super::profile::OnDisk;
use crate::base::digest::Digest;
use crate::base::shell;
use crate::model::lock::FileKind;
use crate::model::platform::Platform;
use crate::model::source_map::Location;
use crate::source::debian::DebianError;
use crate::source::oci::Tags;
use crate::source::{ErrorKind, SourceError, WheelError};

/// How an input that is a file is known.
pub(super) type FileKey = (FileKind, String, Option<Platform>);

/// What a lock calls it.
pub(super) fn file_name((kind, name, platform): &FileKey) -> String {
    match platform {
        Some(platform) => format!("{} {name} ({platform})", kind.as_str()),
        None => format!("{} {name}", kind.as_str()),
    }
}

/// How many names a hint lists.
const MOST_NAMES: usize = 8;

/// What was done when an input failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Its name was looked up: no lock has a say.
    Locking,
    /// What a lock names was fetched.
    Fetching,
}

/// The error for the input called `input` (as locks call it): with its place, and a hint whose command runs.
pub(super) fn input(disk: &OnDisk, input: &str, doing: Doing, error: SourceError) -> OpsError {
    let place = places::of(disk, input, part(input, &error));
    let hint = hint(disk, input, doing, place.as_ref(), &error);
    let note = upstream(disk, input, &error);
    OpsError::Input { input: input.to_owned(), place: place.map(Box::new), note, hint, source: Box::new(error.into()) }
}

/// The same for an image whose tag a registry lacks, once that registry was asked which tags it has.
pub(super) fn image(disk: &OnDisk, name: &str, untagged: bool, tags: &Tags, error: SourceError) -> OpsError {
    let mut told = input(disk, name, Doing::Locking, error);
    let OpsError::Input { note, hint, .. } = &mut told else { return told };
    let write = "write the tag you want";
    match tags {
        Tags::NoRepository => {
            *note += "; the registry has no such repository";
            *hint = Some("is the name right: registry, folder, image?".to_owned());
        }
        Tags::There { tags, more } if !tags.is_empty() => {
            let listed = listed(tags.iter().map(String::as_str));
            let more = if *more { ", and more" } else { "" };
            *hint = Some(format!("{write}; the repository has {listed}{more}"));
        }
        _ if untagged => *hint = Some(format!("{write}: ref = \"NAME:TAG\"")),
        _ => {}
    }
    if untagged {
        *note += "; the profile writes no tag, so `latest` was asked for";
    }
    told
}

/// The newest of some names, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = names.collect();
    all.sort_by(|a, b| crate::model::version::newest_first(a, b));
    let more = all.len().saturating_sub(MOST_NAMES);
    all.truncate(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all.join(", "))
}

/// What of the input the error is about.
fn part<'a>(input: &str, error: &'a SourceError) -> Part<'a> {
    match error {
        SourceError::Debian(error) => match error.as_ref() {
            DebianError::Unknown { name, .. } | DebianError::Virtual { name, .. } => Part::Name(name),
            DebianError::Package { package, .. } | DebianError::Vanished { package, .. } => {
                Part::Name(package.split(' ').next().unwrap_or(package))
            }
            _ => Part::Source,
        },
        SourceError::Wheel(error) => match error {
            WheelError::Requirement { text, .. } => Part::Name(text),
            WheelError::NoProject { project, .. } | WheelError::Gone { project, .. } => Part::Name(project),
            WheelError::SourceOnly { requirement, .. }
            | WheelError::Unfit { requirement, .. }
            | WheelError::Version { requirement, .. } => Part::Name(requirement),
            _ => Part::Source,
        },
        _ if error.kind() == ErrorKind::Mismatch => Part::Digest,
        SourceError::Archive { .. } if input.starts_with("chart ") => Part::Version,
        SourceError::Image { .. } if input.starts_with("chart ") && error.kind() == ErrorKind::NotFound => {
            Part::Version
        }
        SourceError::Archive { .. } | SourceError::Platform { .. } => Part::Member,
        _ => Part::Source,
    }
}

/// Whom the server that was asked stands for, where the error does not say it.
fn upstream(disk: &OnDisk, input: &str, error: &SourceError) -> String {
    let (SourceError::NotFound { url, .. } | SourceError::Unauthorized { url, .. } | SourceError::Status { url, .. }) =
        error
    else {
        return String::new();
    };
    let written = written_url(disk, input);
    match written.filter(|written| !url.starts_with(written.as_str())) {
        Some(written) => format!("; it was asked for `{}`", crate::model::url_policy::shown(&written)),
        None => String::new(),
    }
}

/// The URL or repository that the profile writes for a chart or file.
fn written_url(disk: &OnDisk, input: &str) -> Option<String> {
    match input.strip_prefix("chart ") {
        Some(chart) => disk.inputs.charts.get(chart).map(|c| c.repo.clone()),
        None => disk.inputs.files.iter().find(|(key, _)| file_name(key) == input).map(|(_, file)| file.url.clone()),
    }
}

/// What the profile says that its bytes are.
fn pinned(disk: &OnDisk, input: &str) -> Option<Digest> {
    match input.strip_prefix("chart ") {
        Some(chart) => disk.inputs.charts.get(chart)?.sha256,
        None => disk.inputs.files.iter().find(|(key, _)| file_name(key) == input)?.1.sha256,
    }
}

fn hint(disk: &OnDisk, input: &str, doing: Doing, place: Option<&Location>, error: &SourceError) -> Option<String> {
    let own = match doing {
        Doing::Locking => while_locking(disk, input, error),
        Doing::Fetching => while_fetching(input, error),
    };
    let text = own.or_else(|| error.hint())?;
    // The image's own name is where it is taken from: a rewritten one is another input's, or nobody's.
    let text = match error {
        SourceError::Image { image, .. } => text.replace(&format!("--update {}", image.tagged()), "--update NAME"),
        _ => text,
    };
    let text = match input.strip_prefix("debian ") {
        Some(table) => text.replace("[debian.NAME]", &format!("[debian.{table}]")),
        None => text,
    };
    let text = text.replace("--update NAME", &format!("--update {}", shell::word(Path::new(update_name(input)))));
    let text = text.replace("PROFILE", &shell::word(&disk.path));
    // Where the place is an import's, the hint still names the profile that is locked.
    Some(match place {
        Some(at) if text.contains("in the profile") => text.replace("in the profile", &format!("in {}", at.file)),
        _ => text,
    })
}

/// What helps before there is a lock, where the error's own hint speaks of one.
fn while_locking(disk: &OnDisk, input: &str, error: &SourceError) -> Option<String> {
    match error {
        SourceError::Image { image, by_digest: true, .. } if error.kind() == ErrorKind::NotFound => {
            let pinned = image.digest.is_some_and(|d| error.to_string().contains(&d.to_string()));
            Some(match pinned {
                true => format!(
                    "the digest is the one written in the profile: is it copied whole, and of this repository? Without `@sha256:…`, \
                     the tag's own is locked: {}",
                    image.tagged()
                ),
                false => "the registry names it and does not have it: its upload may not be whole".to_owned(),
            })
        }
        SourceError::Mismatch { expected, found, .. } => Some(match pinned(disk, input) == Some(*expected) {
            true => wrong_pin(found),
            false => {
                "the repository itself says what it must be, so it, or a mirror or proxy before it, is at fault: try again, or ask \
                 another"
                    .to_owned()
            }
        }),
        SourceError::Size { .. } => {
            Some("what the server says of it does not agree: try again, or ask another mirror".to_owned())
        }
        _ => None,
    }
}

/// What helps where a lock would not change though it were made anew.
fn while_fetching(input: &str, error: &SourceError) -> Option<String> {
    if error.kind() == ErrorKind::Mismatch {
        return Some(
            "lock and server do not agree: the file was replaced there, a mirror or proxy gives another, or the lock was edited; \
             if the change is wanted: labimg lock PROFILE --update NAME"
                .to_owned(),
        );
    }
    let pinned = input.starts_with("image ") && input.contains('@');
    (pinned && error.kind() == ErrorKind::NotFound).then(|| {
        "the digest is one that is written in the profile: write another there, then run `labimg lock PROFILE`"
            .to_owned()
    })
}

fn wrong_pin(found: &Digest) -> String {
    format!(
        "`sha256` in the profile is of other bytes: look at what upstream publishes; if these are the ones you want, write \
         sha256 = \"{}\"",
        found.hex()
    )
}

/// The name that `labimg lock --update` takes for the input.
fn update_name(input: &str) -> &str {
    let rest = input.split_once(' ').map_or(input, |(_, rest)| rest);
    rest.split(" (").next().unwrap_or(rest)
}
