//! What can go wrong on the way to a machine and on it, in words for the person in front of it.

use std::io;
use std::path::PathBuf;

/// How the program should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshKind {
    /// Something the user or the machine can mend.
    User,
    /// A host key or a digest that is not what it must be.
    Mismatch,
}

/// A machine that can not be reached, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The server's key is another one.
    #[error(
        "the SSH host key of {host} ({address}) is not the one that is trusted\n  trusted: {}\n  offered: {offered}\n  trusted by: {source_name}",
        .trusted.join("\n           ")
    )]
    HostKey {
        /// The target's name.
        host: String,
        /// Host and port.
        address: String,
        /// `ssh-ed25519 SHA256:…`, of each key that is trusted.
        trusted: Vec<String>,
        /// The same of the key that came.
        offered: String,
        /// Where the trust comes from: `~/.ssh/known_hosts`, `the pinned keys`.
        source_name: String,
    },
    /// No key of the host is known.
    #[error("the SSH host key of {host} ({address}) is not known: {why}")]
    UnknownHost {
        /// The target's name.
        host: String,
        /// Host and port.
        address: String,
        /// Where it was looked for, and what the server offered.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A key or a file of keys that can not be used.
    #[error("{what}: {why}")]
    Key {
        /// `the key file x`.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server takes none of what was offered.
    #[error("{host} ({address}) refused the login of `{user}`\n  offered: {}\n  the server takes: {takes}", list(.offered))]
    Refused {
        /// The target's name.
        host: String,
        /// Host and port.
        address: String,
        /// Who wanted in.
        user: String,
        /// Keys offered, and those left out, with the reason.
        offered: Vec<String>,
        /// Methods the server takes.
        takes: String,
    },
    /// One attempt failed.
    #[error("can not reach {host} ({address}) over SSH: {why}")]
    Connect {
        /// The target's name.
        host: String,
        /// Host and port.
        address: String,
        /// Why.
        why: String,
    },
    /// All attempts failed.
    #[error("{host} ({address}) did not answer over SSH within {seconds} s ({attempts} attempts); last: {last}")]
    NotReached {
        /// The target's name.
        host: String,
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
        /// How often it was tried.
        attempts: u32,
        /// Why the last attempt failed.
        last: Box<SshError>,
    },
    /// The connection went away in the middle.
    #[error("the connection to {host} was lost during {during}: {why}")]
    Lost {
        /// The target's name.
        host: String,
        /// What ran: a command in backquotes, `the upload of x`.
        during: String,
        /// Why, as far as known.
        why: String,
    },
    /// The server would not do what the protocol was asked for.
    #[error("{host} refused {what}: {why}")]
    Denied {
        /// The target's name.
        host: String,
        /// `to run a command`, `the forward of 127.0.0.1:80`.
        what: String,
        /// Why.
        why: String,
    },
    /// `sudo` did not let the command in.
    #[error("sudo on {host} does not let `{login}` run commands as `{user}`: {why}")]
    Sudo {
        /// The target's name.
        host: String,
        /// Who asked.
        login: String,
        /// As whom.
        user: String,
        /// What sudo said.
        why: String,
    },
    /// A command or a path that can not be sent.
    #[error("can not ask {host} for this: {why}")]
    Input {
        /// The target's name.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// A remote file system has no room left.
    #[error("no space left on {host} for {what}: {said}")]
    DiskFull {
        /// The target's name.
        host: String,
        /// What was being written.
        what: String,
        /// What the remote program said.
        said: String,
    },
    /// A program that a transfer needs failed on the other side.
    #[error("{what} failed on {host}: {why}")]
    Transfer {
        /// The target's name.
        host: String,
        /// `the upload to /x`.
        what: String,
        /// Exit status and what it said.
        why: String,
    },
    /// Bytes changed on the way.
    #[error("{what}: {host} has other bytes than were sent (here {here}, there {there}); nothing was taken for done")]
    Digest {
        /// The target's name.
        host: String,
        /// `the upload to /x`.
        what: String,
        /// Digest on this side.
        here: String,
        /// Digest on the other side.
        there: String,
    },
    /// A local file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A local file, for which a transfer stopped.
    #[error("{what}: {source}")]
    Local {
        /// `the download of /x`.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A destination that is there already.
    #[error("`{}` exists already; a download does not write over it", .0.display())]
    Exists(PathBuf),
}

impl SshError {
    /// How the program should end.
    pub fn kind(&self) -> SshKind {
        match self {
            Self::HostKey { .. } | Self::Digest { .. } => SshKind::Mismatch,
            _ => SshKind::User,
        }
    }

    /// What to type or write next, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::HostKey { source_name, .. } => Some(format!(
                "if the machine was made anew, take its old key out of {source_name}; otherwise somebody may be in between"
            )),
            Self::UnknownHost { hint, .. } => Some(hint.clone()),
            Self::NotReached { last, .. } => last.hint(),
            Self::Refused { .. } => {
                Some("ed25519 and ECDSA keys are taken: `ssh-keygen -t ed25519` makes one".to_owned())
            }
            _ => None,
        }
    }

    /// Whether waiting may help: the machine may still boot.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Lost { .. })
    }
}

fn list(offered: &[String]) -> String {
    if offered.is_empty() { "nothing (no key was given)".to_owned() } else { offered.join("\n           ") }
}
