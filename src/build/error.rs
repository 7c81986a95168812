//! What can go wrong while building.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::build::descent::Report;
use crate::model::guest_path::{GuestPath, GuestPathError};
use crate::store::StoreError;
use crate::store::error::plain;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading or writing failed.
    #[error("can not {action} `{path}`: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Bytes that are not what they should be: a package, a wheel.
    #[error("{what}: {why}")]
    Bad {
        /// The thing, for people: `package hello 1.0 amd64`.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two parts of a tree want one path.
    #[error("{one} and {other} both have `{path}`")]
    Clash {
        /// The path.
        path: GuestPath,
        /// Who has it.
        one: String,
        /// Who wants it, too.
        other: String,
    },
    /// Something a person must change.
    #[error("{message}")]
    User {
        /// What is wrong.
        message: String,
        /// What to type or write next.
        hint: String,
    },
    /// A step that could not be built.
    #[error("{step} failed: {source}")]
    StepFailed {
        /// The step.
        step: String,
        /// Why.
        source: Box<BuildError>,
        /// What it left, where that was kept.
        scratch: Option<PathBuf>,
        /// How to look into it.
        hint: Option<String>,
    },
    /// A program of a step that ended badly.
    #[error("{command}: {ended}{}", tail(.output))]
    Program {
        /// What was run.
        command: String,
        /// How it ended: `exit code 2`, `signal 9`, `no end after 60 s`.
        ended: String,
        /// The end of what it said.
        output: String,
    },
    /// An SSH host key or a digest on the way to a machine that is not what it must be.
    #[error("{what}: {why}")]
    Mismatch {
        /// The machine.
        what: String,
        /// Both keys or digests.
        why: String,
    },
    /// A step whose outputs were others when it was built again.
    #[error("built again, {step} is different:{}", lines(.what))]
    NotReproducible {
        /// The step.
        step: String,
        /// What differs, output by output, the first differences only.
        what: Vec<String>,
        /// The same for machines.
        differences: Box<Report>,
    },
    /// A path that leads out of a tree.
    #[error(transparent)]
    Path(#[from] GuestPathError),
    /// A defect of labimg.
    #[error("{0}")]
    Internal(String),
}

/// Lines of a program's output that a message shows.
const SHOWN: usize = 30;
/// Characters of each.
const SHOWN_CHARS: usize = 300;

fn tail(output: &str) -> String {
    let all: Vec<&str> = output.trim_end().lines().collect();
    let shown = all.get(all.len().saturating_sub(SHOWN)..).unwrap_or_default();
    let cut = if shown.len() < all.len() { "\n  | …" } else { "" };
    // What moves a terminal's cursor is not for people.
    let plain = |l: &&str| l.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect::<String>();
    format!("{cut}{}", shown.iter().map(|l| format!("\n  | {}", plain(l))).collect::<String>())
}

fn lines(what: &[String]) -> String {
    what.iter().map(|w| format!("\n  {w}")).collect()
}

impl BuildError {
    /// What to do about it, where something can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::User { hint, .. } => Some(hint.clone()),
            Self::Clash { .. } => Some("leave one of them out, or give it another path".to_owned()),
            Self::StepFailed { source, hint, .. } => match (source.hint(), hint) {
                (Some(first), Some(then)) => Some(format!("{first}; {then}")),
                (first, then) => first.or_else(|| then.clone()),
            },
            _ => None,
        }
    }

    /// An I/O error at `path` while trying to `action` (a verb). A full disk is told as the store's.
    pub fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        let source = plain(source);
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path: path.to_owned() }.into(),
            _ => Self::Io { path: path.to_owned(), action, source },
        }
    }

    /// Whether what a step left tells something about this error. Where the step never ran, or the disk is full, it is only
    /// in the way.
    pub fn can_be_looked_into(&self) -> bool {
        !matches!(self, Self::User { .. } | Self::Store(_) | Self::Internal(_))
    }

    /// Bytes that are not what they should be.
    pub fn bad(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), why: why.into() }
    }

    /// Something a person must change, and how.
    pub fn user(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::User { message: message.into(), hint: hint.into() }
    }
}
