//! What can go wrong between a requirement and a wheel, in the words of whoever wrote the requirement.

use crate::source::ErrorKind;

/// Wheels that can not be had.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// There is no Python that runs.
    #[error("`python3` does not run: {why}")]
    NoPython {
        /// What happened.
        why: String,
    },
    /// Python has no pip.
    #[error("`python3` of this machine has no pip")]
    NoPip,
    /// Its pip is too old.
    #[error("`python3` of this machine has a pip without installation reports")]
    OldPip,
    /// Nothing says where wheels come from.
    #[error("no package index is known: {why}")]
    NoIndex {
        /// Why not.
        why: String,
    },
    /// A Python or a platform that wheels can not be locked for.
    #[error("{why}")]
    Request {
        /// What is wrong with it.
        why: String,
    },
    /// A requirement labimg does not pass on, or pip does not understand.
    #[error("requirement `{text}`: {why}")]
    Requirement {
        /// The requirement.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// No index knows the project.
    #[error("no index has a project `{project}` (asked {asked})")]
    NoProject {
        /// The project.
        project: String,
        /// The indexes asked.
        asked: String,
    },
    /// There is source code, but no wheel.
    #[error("`{requirement}` has no wheel, only source ({file}); labimg does not build from source")]
    SourceOnly {
        /// The requirement.
        requirement: String,
        /// A file that is there.
        file: String,
    },
    /// There are wheels, but for other Pythons or platforms.
    #[error("`{requirement}` has no wheel for {wanted}; there are wheels for {there}")]
    Unfit {
        /// The requirement.
        requirement: String,
        /// Python and platform asked for.
        wanted: String,
        /// Tags that are there.
        there: String,
    },
    /// There are fitting wheels, but of other versions.
    #[error("no version of `{project}` satisfies `{requirement}`; with wheels that fit there are {there}{more}")]
    Version {
        /// The project.
        project: String,
        /// The requirement.
        requirement: String,
        /// Versions with fitting wheels.
        there: String,
        /// What pip adds.
        more: String,
    },
    /// Requirements that exclude each other.
    #[error("the requirements exclude each other: {why}")]
    Conflict {
        /// Who wants what.
        why: String,
    },
    /// A digest that pip misses, or that is another one.
    #[error("the hashes of the requirements do not hold: {why}")]
    Hashes {
        /// What pip says.
        why: String,
        /// Whether bytes differ; else a digest or an exact version is missing.
        differ: bool,
    },
    /// pip can not reach its index.
    #[error("pip can not reach {index}: {why}")]
    Unreachable {
        /// The indexes.
        index: String,
        /// What pip says.
        why: String,
    },
    /// Anything else pip fails with.
    #[error("pip can not resolve it: {said}")]
    Pip {
        /// What it says.
        said: String,
    },
    /// A locked file that is not on any index any more.
    #[error("`{file}` of {project} is not on {asked} any more")]
    Gone {
        /// File name.
        file: String,
        /// The project.
        project: String,
        /// The pages asked.
        asked: String,
    },
}

impl WheelError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPython { .. } | Self::NoPip | Self::OldPip | Self::NoIndex { .. } => ErrorKind::Local,
            Self::NoProject { .. } | Self::Gone { .. } => ErrorKind::NotFound,
            Self::Hashes { differ: true, .. } => ErrorKind::Mismatch,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            _ => ErrorKind::Content,
        }
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoPython { .. } | Self::NoPip => "install it: apt-get install python3 python3-pip",
            Self::OldPip => "labimg needs pip 22.2 or newer; Debian 12 has one: apt-get install python3-pip",
            Self::NoIndex { .. } => "name one: --mirror pypi=URL, or pip config set global.index-url URL",
            Self::Request { .. } => "want python = \"3.11\" (one minor version), and linux/amd64 or linux/arm64",
            Self::Requirement { .. } => {
                "write it as `flask==3.0.*`; digests stand behind it: `flask==3.0.3 --hash=sha256:…`"
            }
            Self::NoProject { .. } => {
                "is the name right? The index is the one pip is configured with, or --mirror pypi=URL"
            }
            Self::SourceOnly { .. } => {
                "ask for a version that has wheels, take the Debian package of it, or put a wheel you built on an index of \
                 your own"
            }
            Self::Unfit { .. } => "ask for another version, or leave the platform out of the set's `platforms`",
            Self::Version { .. } => "ask for one of these versions",
            Self::Conflict { .. } => {
                "loosen one of them; where they look compatible, name the very versions you want: pip gives up on some sets it could solve"
            }
            Self::Hashes { differ: true, .. } => {
                "the file was replaced on the index or altered on the way; if the change is wanted, write its new digest"
            }
            Self::Hashes { .. } => {
                "with one `--hash` every requirement, and what it depends on, must be written with `==` and a `--hash`"
            }
            Self::Unreachable { .. } => "is the network up? Another index can be named: --mirror pypi=URL",
            Self::Pip { .. } => return None,
            Self::Gone { .. } => {
                "it was removed upstream: ask another index (--mirror pypi=URL), take it from a bundle or store that has it, \
                 or choose anew: labimg lock PROFILE --update NAME"
            }
        };
        Some(hint.to_owned())
    }
}
