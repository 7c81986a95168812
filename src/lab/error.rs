//! What can go wrong with a lab, in words for the person in front of it.

use std::io;
use std::path::Path;

use super::finding::Finding;
use crate::store::bundle::BundleError;

/// How the program should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabKind {
    /// Something the user or the machine can mend.
    User,
    /// A check failed.
    Check,
    /// Bytes that are not what they must be.
    Mismatch,
    /// Our own fault.
    Internal,
}

/// A lab that does not come up, answer, or go away.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The bundle can not be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The machine is not fit; nothing was changed.
    #[error("this machine is not ready for the lab:{}", bad(.0))]
    Preflight(Vec<Finding>),
    /// The bundle lacks what the lab needs on a machine like this one; nothing was changed.
    #[error("lab `{lab}` cannot come up from this bundle:{}", bad(.findings))]
    Lacking {
        /// The lab's name.
        lab: String,
        /// What is bad.
        findings: Vec<Finding>,
    },
    /// A program failed.
    #[error("`{line}` ended with {status}:\n{tail}")]
    Command {
        /// The command line, without secrets.
        line: String,
        /// `exit code 1`, `signal 9`.
        status: String,
        /// The end of what it wrote.
        tail: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Something did not become ready.
    #[error("{what} is not ready after {waited}{}:{}", .at.as_deref().map(|at| format!(" ({at})")).unwrap_or_default(), list(.reasons))]
    NotReady {
        /// `deploy jaeger: deployment/jaeger`
        what: String,
        /// `120 s`
        waited: String,
        /// Where the profile asks for it.
        at: Option<String>,
        /// Why: events, waiting containers, log lines; a line each.
        reasons: Vec<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// Anything else: what failed, why, what to do.
    #[error("{what}: {why}")]
    Failed {
        /// What failed, and where.
        what: String,
        /// Why.
        why: String,
        /// What to type next.
        hint: Option<String>,
        /// How the program should end.
        kind: LabKind,
    },
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {}", line.replace('\n', "\n  "))).collect()
}

fn bad(findings: &[Finding]) -> String {
    let lines = findings.iter().filter(|f| f.verdict == super::finding::Verdict::Bad);
    let with_hint = |f: &Finding| match &f.hint {
        Some(hint) => format!("{}: {}\n  {hint}", f.what, f.seen),
        None => format!("{}: {}", f.what, f.seen),
    };
    list(&lines.map(with_hint).collect::<Vec<_>>())
}

impl LabError {
    /// Something a person can mend.
    pub fn failed(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Failed { what: what.into(), why: why.to_string(), hint: None, kind: LabKind::User }
    }

    /// Our own fault.
    pub fn internal(why: impl ToString) -> Self {
        Self::Failed { what: "internal error".to_owned(), why: why.to_string(), hint: None, kind: LabKind::Internal }
    }

    /// Bytes that are not what they must be.
    pub fn mismatch(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Failed { what: what.into(), why: why.to_string(), hint: None, kind: LabKind::Mismatch }
    }

    /// An I/O error at a path.
    pub fn io(path: &Path, verb: &str, source: io::Error) -> Self {
        Self::Io(crate::base::atomic::at(path, verb, source))
    }

    /// The same with a hint; kinds of error that have hints of their own keep those.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Command { hint, .. } | Self::NotReady { hint, .. } | Self::Failed { hint, .. } => {
                hint.get_or_insert(text.into());
            }
            Self::Bundle(_) | Self::Io(_) | Self::Preflight(_) | Self::Lacking { .. } => {}
        }
        self
    }

    /// What to type next, where that is known.
    pub fn advice(&self) -> Option<&str> {
        match self {
            Self::Command { hint, .. } | Self::NotReady { hint, .. } | Self::Failed { hint, .. } => hint.as_deref(),
            Self::Bundle(_) | Self::Io(_) | Self::Preflight(_) | Self::Lacking { .. } => None,
        }
    }

    /// How the program should end.
    pub fn kind(&self) -> LabKind {
        match self {
            Self::Bundle(error) if error.is_integrity() => LabKind::Mismatch,
            Self::Failed { kind, .. } => *kind,
            _ => LabKind::User,
        }
    }
}
