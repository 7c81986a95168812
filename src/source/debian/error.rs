//! What can go wrong with a Debian archive, and what a person can do about it.

use std::path::PathBuf;

use crate::model::debian::date;
use crate::source::{ErrorKind, SourceError};

/// A failure of a Debian archive, or of what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// Nothing on this machine checks signatures.
    #[error("neither `gpgv` nor `sqv` is installed, so the signature of {url} can not be checked")]
    NoVerifier {
        /// The Release file.
        url: String,
    },
    /// Nothing says which keys to trust.
    #[error("there is no keyring `{path}`, so the signature of {url} can not be checked")]
    NoKeyring {
        /// The keyring.
        path: PathBuf,
        /// The Release file.
        url: String,
    },
    /// Not one clear-signed text and nothing else.
    #[error("`{url}` is not signed as it must be: {why}")]
    Unsigned {
        /// The Release file.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Signed, but not by a key of the keyring, or not for these bytes.
    #[error("the signature of `{url}` is not good: {why}\n  {command}\n  {said}")]
    BadSignature {
        /// The Release file.
        url: String,
        /// What is wrong with it.
        why: String,
        /// What was run.
        command: String,
        /// What it said last.
        said: String,
    },
    /// A program that could not be run.
    #[error("can not run `{program}`: {source}")]
    Verifier {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// `Valid-Until` is over.
    #[error("{suite} of {url} was valid until {}, and it is {}", date::shown(*.until), date::shown(*.judged))]
    Expired {
        /// The suite.
        suite: String,
        /// The Release file.
        url: String,
        /// When it ended, seconds since 1970.
        until: u64,
        /// The time it was judged at.
        judged: u64,
    },
    /// A snapshot that is younger than itself.
    #[error("{url} is of {}, so it is not the snapshot {snapshot}", date::shown(*.date))]
    NotTheSnapshot {
        /// The Release file.
        url: String,
        /// The snapshot asked for.
        snapshot: String,
        /// The date it has, seconds since 1970.
        date: u64,
    },
    /// A snapshot's name that is no time.
    #[error("`{0}` is not the name of a snapshot")]
    Snapshot(String),
    /// The archive gives another suite.
    #[error("{url} is suite `{found}`, not `{asked}`")]
    OtherSuite {
        /// The Release file.
        url: String,
        /// The suite asked for.
        asked: String,
        /// The one it is.
        found: String,
    },
    /// A component or an architecture that a suite has not.
    #[error("{suite} has no {what} `{name}`; it has {}", .has.join(", "))]
    NotInSuite {
        /// The suite.
        suite: String,
        /// `component` or `architecture`.
        what: &'static str,
        /// The one asked for.
        name: String,
        /// Those it has.
        has: Vec<String>,
    },
    /// A Release file that says not what it must.
    #[error("`{url}`: {why}")]
    Release {
        /// The Release file.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A package's entry of an index that is not as it must be.
    #[error("`{url}`, line {line}, package {package}: {why}")]
    Stanza {
        /// The index.
        url: String,
        /// The line its entry starts at, or the line that is wrong.
        line: usize,
        /// The package, `?` when it does not say.
        package: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody has a package of that name.
    #[error("{set}: no package of {place} is called `{name}`")]
    Unknown {
        /// The set it is for.
        set: String,
        /// The package.
        name: String,
        /// Where it was looked for.
        place: String,
        /// The name that is most like it.
        nearest: Option<String>,
    },
    /// A virtual package, where a real one must be named.
    #[error("{set}: `{name}` is a virtual package")]
    Virtual {
        /// The set it is for.
        set: String,
        /// The package.
        name: String,
        /// Packages that provide it.
        providers: Vec<String>,
    },
    /// No choice of packages satisfies all that is asked.
    #[error("{set}: {why}")]
    Unsatisfiable {
        /// The set.
        set: String,
        /// The chain from what was asked to what can not be.
        why: String,
    },
    /// Nobody answers where the archive should be.
    #[error("can not reach the archive `{archive}`: {source}")]
    Unreachable {
        /// The archive.
        archive: String,
        /// Who says that it is there.
        origin: String,
        /// What `--mirror` calls it.
        setting: String,
        /// What happened.
        source: Box<SourceError>,
    },
    /// A locked package that could not be brought.
    #[error("package {package}: {source}")]
    Package {
        /// The package.
        package: String,
        /// The table it is of.
        debian: String,
        /// What happened.
        source: Box<SourceError>,
    },
    /// A locked package that nobody has any more.
    #[error("package {package} is gone from {asked}; the snapshot {snapshot} of {archive} still has it")]
    Vanished {
        /// The package.
        package: String,
        /// The archive it was of.
        archive: String,
        /// Who was asked.
        asked: String,
        /// The snapshot that has it.
        snapshot: String,
        /// The table it is of.
        debian: String,
    },
    /// A lock that was edited by hand.
    #[error("the lock has no suite `{suite}` of `{debian}`, which package {package} is from")]
    NoSuite {
        /// The package.
        package: String,
        /// The table.
        debian: String,
        /// The suite.
        suite: String,
    },
}

impl DebianError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVerifier { .. } | Self::NoKeyring { .. } | Self::Verifier { .. } => ErrorKind::Local,
            Self::Unsigned { .. } | Self::BadSignature { .. } => ErrorKind::Mismatch,
            Self::Vanished { .. } => ErrorKind::NotFound,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Package { source, .. } => source.kind(),
            _ => ErrorKind::Content,
        }
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoVerifier { .. } => "apt-get install gpgv".to_owned(),
            Self::NoKeyring { .. } => {
                "apt-get install debian-archive-keyring, or name the archive's own: keyring = \"FILE\" in [debian.NAME]"
                    .to_owned()
            }
            Self::Unsigned { .. } => {
                "labimg takes packages of signed archives only (a file InRelease beside Release)".to_owned()
            }
            Self::BadSignature { .. } => {
                "is it the archive you mean, and is its key in the keyring (keyring = \"FILE\" in [debian.NAME])?"
                    .to_owned()
            }
            Self::Expired { until, .. } => format!(
                "the mirror is behind: use another, or lock that state on purpose: snapshot = \"{}\" in [debian.NAME]",
                date::snapshot_name(*until)
            ),
            Self::NotTheSnapshot { .. } => {
                "give a folder of snapshots, each named by its time: --mirror ARCHIVE-snapshot=URL".to_owned()
            }
            Self::Snapshot(_) => "write it as 20261101T000000Z".to_owned(),
            Self::OtherSuite { found, .. } => format!("suites = [\"{found}\"] in [debian.NAME] takes that one"),
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::Unreachable { origin, setting, .. } => {
                format!("that is where {origin} has it; another mirror can be given: --mirror {setting}=URL")
            }
            Self::Virtual { providers, .. } => format!("name one that provides it: {}", providers.join(", ")),
            Self::Package { debian, source, .. } if source.kind() == ErrorKind::Mismatch => format!(
                "the file was replaced upstream or altered on the way; if the change is wanted: labimg lock PROFILE --update {debian}"
            ),
            Self::Package { source, .. } => return source.hint(),
            Self::Vanished { archive, debian, .. } => format!(
                "name a mirror of the snapshots: --mirror {archive}-snapshot=URL; or take what is there now: labimg lock PROFILE --update {debian}"
            ),
            Self::Unsatisfiable { .. } => {
                "leave a package out, or take a suite beside this one that has what is needed: suites = [...] in [debian.NAME]"
                    .to_owned()
            }
            Self::Stanza { .. } => {
                "the archive wrote it so: take the package from another suite or a snapshot, suites = [...] or snapshot = \"…\" in [debian.NAME]"
                    .to_owned()
            }
            Self::NoSuite { .. } => "locks are not edited by hand: restore it, or lock again".to_owned(),
            _ => return None,
        })
    }
}
