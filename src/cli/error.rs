//! Errors become a message, a hint and an exit code: here and nowhere else.

use std::io;
use std::process::ExitCode;

use serde::Serialize;

use crate::base::shown;
use crate::build::descent::Report;
use crate::model::lock::Stale;
use crate::ops::{Kind, OpsError};
use crate::source::ErrorKind;

/// How the program ends. The numbers are part of the interface (README, "Exit codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// All went well.
    Ok,
    /// Something the user or the environment can mend.
    User,
    /// A wrong command line.
    Usage,
    /// A stale lock, or a difference found.
    Stale,
    /// A hash that is not what it must be.
    Mismatch,
    /// Our own fault.
    Internal,
    /// Ctrl-C.
    Interrupted,
    /// What a program that was run for somebody ended with.
    Program(u8),
}

impl Status {
    /// The exit code (`sysexits.h` for 70, the shell's 128 + signal for 130).
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::User => 1,
            Self::Usage => 2,
            Self::Stale => 3,
            Self::Mismatch => 4,
            Self::Internal => 70,
            Self::Interrupted => 130,
            Self::Program(code) => code,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// What a verb ends with.
pub type Outcome = Result<Status, CliError>;

/// A verb that failed.
#[derive(Debug)]
pub enum CliError {
    /// The operation failed.
    Ops(OpsError),
    /// Standard output could not be written.
    Output(io::Error),
}

impl<E: Into<OpsError>> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Ops(error.into())
    }
}

/// A failure for machines.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Told<'a> {
    error: &'a str,
    hint: Option<&'a str>,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<&'a [Stale]>,
    /// What two builds differ in, and how much more there is than is listed.
    #[serde(flatten)]
    found: Option<&'a Report>,
}

/// Tells a person what went wrong (and with `json` a machine, on standard output) and gives the status. A reader that
/// went away is no error.
pub fn report(error: &CliError, json: bool) -> Status {
    let (text, hint, status) = match error {
        CliError::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => return Status::Ok,
        CliError::Output(e) => (format!("can not write to standard output: {e}"), None, Status::User),
        CliError::Ops(OpsError::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Status::Ok,
        CliError::Ops(e) => (chain(e), e.hint(), status(e)),
    };
    let text = if status == Status::Internal { format!("{text}; please report") } else { text };
    let red = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let blue = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Cyan.into()));
    super::print::labelled(red, "error:", &text);
    if let Some(hint) = &hint {
        super::print::labelled(blue, "hint:", hint);
    }
    if json {
        let stale = match error {
            CliError::Ops(OpsError::Stale { stale, .. }) => Some(stale.as_slice()),
            _ => None,
        };
        let found = match error {
            CliError::Ops(e) => e.differences(),
            CliError::Output(_) => None,
        };
        // Who reads it may be gone; the text is on standard error already.
        let hint = hint.or_else(|| in_text(error));
        let told =
            Told { error: &shown::message(&text), hint: hint.as_deref(), exit_code: status.code(), stale, found };
        let _ = super::print::json(&told);
    }
    status
}

/// The hints that stand in a message already, where people read them.
fn in_text(error: &CliError) -> Option<String> {
    let CliError::Ops(OpsError::Profile(error)) = error else { return None };
    let hints: Vec<&str> = error.diagnostics.iter().filter_map(|d| d.hint.as_deref()).collect();
    (!hints.is_empty()).then(|| hints.join("\n"))
}

/// The message, and its causes where they say something it does not.
fn chain(error: &OpsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

fn status(error: &OpsError) -> Status {
    if died(error) {
        return Status::Internal;
    }
    match error.kind() {
        Kind::User => Status::User,
        Kind::Stale => Status::Stale,
        Kind::Mismatch => Status::Mismatch,
        Kind::Internal => Status::Internal,
    }
}

/// Whether a task of ours panicked.
fn died(error: &OpsError) -> bool {
    match error {
        OpsError::Input { source, .. } => died(source),
        OpsError::Source(e) => e.kind() == ErrorKind::Internal,
        _ => false,
    }
}
