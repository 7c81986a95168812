//! One SSH client (RFC 4251 to 4254) for virtual machines, nodes and edge hosts: host keys, authentication, commands, trees
//! of files as tar streams, forwards. Knows nothing of what it is used for.
//!
//! Start with a [`Target`] and [`connect`] or [`connect_within`]; everything else hangs on the [`Session`].
//! RSA keys are not taken, neither for hosts nor for people: the only implementation at hand has an open advisory
//! (RUSTSEC-2023-0071).

mod auth;
mod client;
mod command;
mod connect;
mod download;
mod error;
mod exec;
mod forward;
mod gate;
mod host_key;
mod identity;
mod many;
mod pack;
mod pipe;
mod session;
mod transfer;
mod upload;

use std::time::Duration;

pub use command::{Command, Secret, Sudo};
pub use connect::{connect, connect_within};
pub use error::{SshError, SshKind};
pub use exec::{Collect, Exit, Output, Sink};
pub use forward::{Endpoint, Forward};
pub use host_key::HostKeys;
pub use identity::Identity;
pub use many::{HostResult, Line, on_all, run_on_all};
pub use session::Session;
pub use transfer::{Moved, Remote};
pub use upload::Place;

/// A machine to reach, and the machines on the way to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// What a person calls it: stands in messages and before lines of output.
    pub name: String,
    /// Where it listens and how to log in.
    pub hop: Hop,
    /// Jump hosts, the first to be reached first.
    pub jumps: Vec<Hop>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// One SSH server and how to log in to it.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Name or address, as the hop before it resolves it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Which host keys are trusted.
    pub host_keys: HostKeys,
    /// Keys to offer, in this order.
    pub identities: Vec<Identity>,
}

impl Hop {
    /// Host and port, as people write them.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt: TCP, key exchange and authentication on all hops; also how long `sudo` may take to let a command in.
    pub connect: Duration,
    /// A keepalive goes out after so long without a word from the server; after three without an answer the connection is
    /// lost.
    pub keepalive: Duration,
    /// How long [`connect_within`] goes on when a machine refuses the login: one that boots may not know its users yet.
    pub refused: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(20), keepalive: seconds(15), refused: seconds(30) }
    }
}
