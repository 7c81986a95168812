//! One error for all operations: what failed, what to do, and how the program should end.

use std::io;
use std::path::{Path, PathBuf};

use super::export::ExportFailure;
use super::mixed;
use crate::base::shell::word;
use crate::build::BuildError;
use crate::build::descent::Report;
use crate::lab::{LabError, LabKind};
use crate::model::image::ImageRefError;
use crate::model::lock::Stale;
use crate::model::lock::wire::LockReadError;
use crate::model::profile::ProfileError;
use crate::model::source_map::Location;
use crate::serve::ServeError;
use crate::source::{ErrorKind, SourceError};
use crate::store::StoreError;
use crate::store::bundle::BundleError;

/// How the program should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something the user or the environment can mend.
    User,
    /// The lock does not answer its profile, or a comparison found a difference.
    Stale,
    /// Bytes that are not what they must be.
    Mismatch,
    /// Our own fault.
    Internal,
}

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The profile is wrong.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The lock can not be used.
    #[error("{}", in_lock(.path, .source))]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What is wrong with it.
        source: LockReadError,
    },
    /// There is no lock.
    #[error("`{0}` has no lock yet")]
    NoLock(PathBuf),
    /// The lock does not answer its profile.
    #[error("the lock `{path}` does not answer its profile:{}", list(.stale))]
    Stale {
        /// The lock file.
        path: PathBuf,
        /// In which way.
        stale: Vec<Stale>,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network, or what came from it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// An export.
    #[error(transparent)]
    Export(#[from] ExportFailure),
    /// An input failed; says which and where the profile names it.
    #[error("{}{input}: {source}{note}", at(.place.as_deref()))]
    Input {
        /// The input as people call it.
        input: String,
        /// Where the profile, or an `image.toml`, names it; `None` for what nobody wrote.
        place: Option<Box<Location>>,
        /// What is to be said after the failure, from `; ` on; empty for nothing.
        note: String,
        /// What to do.
        hint: Option<String>,
        /// What happened.
        source: Box<OpsError>,
    },
    /// Not an image reference.
    #[error(transparent)]
    Reference(#[from] ImageRefError),
    /// Something the user asked for that is not there or makes no sense.
    #[error("{message}")]
    User {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A lab that does not come up, answer, or go away.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Two builds of one lock gave different bytes.
    #[error("built again, `{path}` is different: {what}")]
    NotReproducible {
        /// The bundle.
        path: PathBuf,
        /// The first member that differs, and what differs inside.
        what: String,
        /// The latter for machines.
        differences: Box<Report>,
    },
    /// Our own fault.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What is wrong with a lock, after the place where it is known.
fn in_lock(path: &Path, source: &LockReadError) -> String {
    let path = path.display();
    match source {
        LockReadError::Syntax { line, column, message } => format!("{path}:{line}:{column}: {message}"),
        LockReadError::Conflict { line } => format!("{path}:{line}:1: {source}"),
        other => format!("{path}: {other}"),
    }
}

fn at(place: Option<&Location>) -> String {
    place.map(|at| format!("{at}: ")).unwrap_or_default()
}

/// What to do about a bundle whose bytes are not what they were.
pub const COPY_AGAIN: &str = "copy it again from where it came, or delete it and build again";

fn list(stale: &[Stale]) -> String {
    const SHOWN: usize = 20;
    let mut text: String = stale.iter().take(SHOWN).map(|s| format!("\n  {}: {}", s.input, s.why)).collect();
    if stale.len() > SHOWN {
        text += &format!("\n  and {} more", stale.len() - SHOWN);
    }
    text
}

impl OpsError {
    /// Something wrong with what the user asked for.
    pub fn user(message: impl Into<String>) -> Self {
        Self::User { message: message.into(), hint: None }
    }

    /// The same with a way out.
    pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::User { message: message.into(), hint: Some(hint.into()) }
    }

    /// How the program should end.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stale { .. } | Self::NotReproducible { .. } => Kind::Stale,
            Self::Store(e) | Self::Source(SourceError::Store(e)) if e.is_integrity() => Kind::Mismatch,
            Self::Source(e) if e.kind() == ErrorKind::Mismatch => Kind::Mismatch,
            Self::Bundle(e) | Self::Export(ExportFailure::Bundle(e)) if e.is_integrity() => Kind::Mismatch,
            Self::Serve(ServeError::Store(e)) if e.is_integrity() => Kind::Mismatch,
            Self::Build(e) => build_kind(e),
            Self::Lab(e) => lab_kind(e),
            Self::Export(ExportFailure::Damaged { .. }) => Kind::Mismatch,
            Self::Input { source, .. } => source.kind(),
            Self::Internal(_) => Kind::Internal,
            _ => Kind::User,
        }
    }

    /// What two builds differ in, down to the path, where that is what went wrong.
    pub fn differences(&self) -> Option<&Report> {
        match self {
            Self::NotReproducible { differences, .. }
            | Self::Build(BuildError::NotReproducible { differences, .. }) => Some(differences),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoLock(path) => Some(format!("labimg lock {}", word(path))),
            Self::Stale { path, .. } => Some(format!("labimg lock {}", word(&path.with_extension("toml")))),
            Self::Lock { path, source } => Some(lock_hint(path, source)),
            Self::Store(e) => store_hint(e),
            Self::Source(SourceError::Store(e)) => store_hint(e),
            Self::Source(e) => e.hint(),
            Self::Bundle(e) | Self::Export(ExportFailure::Bundle(e)) => bundle_hint(e),
            Self::Export(ExportFailure::Damaged { .. }) => Some(COPY_AGAIN.to_owned()),
            Self::Build(e) => build_hint(e),
            Self::Lab(LabError::Bundle(e)) => bundle_hint(e),
            Self::Lab(e) => e.advice().map(str::to_owned),
            Self::Serve(ServeError::Store(e)) => store_hint(e),
            Self::Serve(e) => e.hint(),
            Self::Input { hint, .. } => hint.clone(),
            Self::User { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}

fn lock_hint(path: &Path, source: &LockReadError) -> String {
    let again = format!("labimg lock {}", word(&path.with_extension("toml")));
    match source {
        LockReadError::Version { .. } => format!("use the labimg that wrote it, or delete it and run: {again}"),
        LockReadError::Conflict { .. } => format!(
            "take one of the two whole (git checkout --ours {0}, or --theirs), merge the profile, then run: {again}",
            word(path)
        ),
        _ => format!("locks are not edited by hand: restore it, or delete it and run: {again}"),
    }
}

fn lab_kind(error: &LabError) -> Kind {
    match error.kind() {
        LabKind::User => Kind::User,
        LabKind::Check => Kind::Stale,
        LabKind::Mismatch => Kind::Mismatch,
        LabKind::Internal => Kind::Internal,
    }
}

fn build_kind(error: &BuildError) -> Kind {
    match error {
        BuildError::NotReproducible { .. } => Kind::Stale,
        BuildError::Mismatch { .. } => Kind::Mismatch,
        BuildError::Store(e) if e.is_integrity() => Kind::Mismatch,
        BuildError::StepFailed { source, .. } => build_kind(source),
        BuildError::Internal(_) => Kind::Internal,
        _ => Kind::User,
    }
}

fn build_hint(error: &BuildError) -> Option<String> {
    match error {
        BuildError::Store(e) => store_hint(e),
        BuildError::StepFailed { source, hint: None, .. } => build_hint(source),
        _ => error.hint(),
    }
}

fn bundle_hint(error: &BundleError) -> Option<String> {
    Some(match error {
        BundleError::Store(StoreError::Io { path, verb, source }) if is_output(path, verb) && is_refused(source) => {
            "you may not write there: give another place with -o".to_owned()
        }
        BundleError::Store(StoreError::Io { path, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return mixed::bundle_beside(path);
        }
        BundleError::Store(e) => return store_hint(e),
        BundleError::NoRoom { .. } => "make room, or write elsewhere with -o".to_owned(),
        BundleError::NotABundle { path, .. } => return mixed::not_a_bundle(path),
        BundleError::Truncated { .. } | BundleError::Damaged { .. } => COPY_AGAIN.to_owned(),
        BundleError::Format { .. } => "use the labimg that wrote it".to_owned(),
        BundleError::BlobSize { .. } => "labimg store check --repair".to_owned(),
        BundleError::NotFound { path, .. } => format!("labimg ls {}", word(path)),
        _ => return None,
    })
}

fn store_hint(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::Full { .. } => {
            "make room (`labimg store gc`) and run the same command again: what is there is kept".to_owned()
        }
        StoreError::Format { .. } => "give this labimg a store of its own: --store DIR".to_owned(),
        StoreError::NoStore { .. } => "`labimg fetch PROFILE` makes it; or name another: --store DIR".to_owned(),
        StoreError::NotAStore { .. } => "give an empty or new directory: --store DIR".to_owned(),
        StoreError::Mismatch { .. } | StoreError::BadBlob { .. } => "labimg store check --repair".to_owned(),
        StoreError::Missing { .. } => "labimg fetch PROFILE".to_owned(),
        StoreError::Damaged { path, .. } if path.components().any(|c| c.as_os_str() == "blobs") => {
            "labimg store check --repair".to_owned()
        }
        StoreError::Damaged { .. } => "remove that file and run `labimg fetch PROFILE` again".to_owned(),
        StoreError::Lock(_) => "wait for it to end, or give another store: --store DIR".to_owned(),
        StoreError::Io { source, .. } if is_refused(source) => "give a store you may write to: --store DIR".to_owned(),
        _ => return None,
    })
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// Whether this was about the file to be written, and not about what it is made from: a bundle grows in a part beside it.
fn is_output(path: &Path, verb: &str) -> bool {
    let part = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with('.') && n.ends_with(".part"));
    part || matches!(verb, "write" | "replace")
}
