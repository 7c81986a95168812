//! Drives the SSH client from a shell, for `benches/ssh`; labimg has no such verbs.
//!
//! ```text
//! sshdrive upload  --port P --key FILE --known FILE FROM TO
//! sshdrive command --port P --key FILE --known FILE --hosts N LINE
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use labimg::base::report::Silent;
use labimg::ssh::{Command, Hop, HostKeys, Identity, Place, Remote, Target, Timeouts, connect, run_on_all};

/// Drives the SSH client.
#[derive(Parser)]
enum Verb {
    /// Sends a tree to a path where nothing is yet.
    Upload {
        #[command(flatten)]
        at: At,
        /// The tree.
        from: PathBuf,
        /// The path.
        to: String,
    },
    /// Runs a command on the same server under many names, at once.
    Command {
        #[command(flatten)]
        at: At,
        /// How many.
        #[arg(long)]
        hosts: usize,
        /// What `sh -c` gets.
        line: String,
    },
}

/// A server on loopback.
#[derive(Args)]
struct At {
    /// Its port.
    #[arg(long)]
    port: u16,
    /// Who logs in.
    #[arg(long)]
    user: String,
    /// A private key.
    #[arg(long)]
    key: PathBuf,
    /// A `known_hosts` file.
    #[arg(long)]
    known: PathBuf,
}

impl At {
    fn target(&self, name: String) -> Target {
        let hop = Hop {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: self.user.clone(),
            host_keys: HostKeys::KnownHosts(self.known.clone()),
            identities: vec![Identity::File { path: self.key.clone(), passphrase: None }],
        };
        Target { name, hop, jumps: Vec::new(), timeouts: Timeouts::default() }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Verb::parse() {
        Verb::Upload { at, from, to } => {
            let session = connect(&at.target("bench".to_owned())).await?;
            let moved = session.upload(&from, &Remote::new(to), Place::New, None).await?;
            println!("{} bytes", moved.bytes);
        }
        Verb::Command { at, hosts, line } => {
            let targets: Vec<Target> = (0..hosts).map(|n| at.target(format!("host-{n}"))).collect();
            let out = |line: &labimg::ssh::Line<'_>| println!("{}", line.text());
            let within = Duration::from_secs(60);
            for host in run_on_all(&targets, &Command::new(line), hosts, within, &Silent, &out).await {
                host.result?;
            }
        }
    }
    Ok(())
}
