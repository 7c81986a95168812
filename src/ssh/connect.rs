//! Reaching a machine: directly or over jump hosts, once or until it has booted.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::{Handle, connect_stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::client::{Client, ClientError, config, words};
use super::error::SshError;
use super::forward::Backs;
use super::host_key::Trust;
use super::session::{Link, Session};
use super::{Hop, Target, Timeouts, auth};
use crate::base::report::Task;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Connects once, within `target.timeouts.connect`.
///
/// # Errors
/// Host keys, refused logins, unreachable hosts.
pub async fn connect(target: &Target) -> Result<Session, SshError> {
    let limit = target.timeouts.connect;
    match tokio::time::timeout(limit, all_hops(target)).await {
        Ok(result) => result,
        Err(_) => Err(SshError::Connect {
            host: target.name.clone(),
            address: target.hop.address(),
            why: format!("no answer within {} s", limit.as_secs_f32()),
        }),
    }
}

/// Connects, again and again while the machine boots, for at most `within`. A login that is refused is tried again for
/// `target.timeouts.refused`; a wrong host key is not. `task` is told what is waited for.
///
/// # Errors
/// [`SshError::NotReached`] with the last attempt's error; what waiting can not mend at once.
pub async fn connect_within(target: &Target, within: Duration, task: Option<&Task<'_>>) -> Result<Session, SshError> {
    let start = Instant::now();
    let (mut attempts, mut refused_since) = (0, None);
    loop {
        attempts += 1;
        let left = within.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        let mut attempt = target.clone();
        attempt.timeouts.connect = target.timeouts.connect.min(left);
        let error = match connect(&attempt).await {
            Ok(session) => return Ok(session.meant_for(target)),
            Err(error) => error,
        };
        let passing = match &error {
            SshError::Refused { .. } => {
                refused_since.get_or_insert_with(Instant::now).elapsed() < target.timeouts.refused
            }
            other => other.may_pass(),
        };
        if !passing {
            return Err(error);
        }
        if start.elapsed() + PAUSE >= within {
            return Err(not_reached(target, within, attempts, error));
        }
        if let Some(task) = task {
            task.say(&format!("waits for SSH on {}", target.hop.address()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn not_reached(target: &Target, within: Duration, attempts: u32, last: SshError) -> SshError {
    SshError::NotReached {
        host: target.name.clone(),
        address: target.hop.address(),
        seconds: within.as_secs(),
        attempts,
        last: Box::new(last),
    }
}

async fn all_hops(target: &Target) -> Result<Session, SshError> {
    let mut via: Vec<Link> = Vec::new();
    for hop in &target.jumps {
        let label = format!("the jump host of {}", target.name);
        via.push(one_hop(via.last(), hop, &label, &target.timeouts).await?);
    }
    let link = one_hop(via.last(), &target.hop, &target.name, &target.timeouts).await?;
    Ok(Session::new(target.clone(), link, via))
}

async fn one_hop(before: Option<&Link>, hop: &Hop, label: &str, timeouts: &Timeouts) -> Result<Link, SshError> {
    let failed = |why: String| SshError::Connect { host: label.to_owned(), address: hop.address(), why };
    match before {
        None => {
            let stream = TcpStream::connect((hop.host.as_str(), hop.port)).await;
            let stream = stream.map_err(|e| failed(io_words(&e)))?;
            stream.set_nodelay(true).map_err(|e| failed(io_words(&e)))?;
            over(stream, hop, label, timeouts).await
        }
        Some(jump) => {
            let opened = jump.handle.channel_open_direct_tcpip(hop.host.clone(), hop.port.into(), "127.0.0.1", 0).await;
            let channel =
                opened.map_err(|e| failed(format!("the jump host could not connect to it: {}", words(&e))))?;
            over(channel.into_stream(), hop, label, timeouts).await
        }
    }
}

async fn over<S>(stream: S, hop: &Hop, label: &str, timeouts: &Timeouts) -> Result<Link, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let trust = Trust::load(hop, label)?;
    let settings = config(&trust, timeouts);
    let (ended, ending) = watch::channel(None);
    let backs = Backs::default();
    let connected = connect_stream(settings, stream, Client { trust, ended, backs: Arc::clone(&backs) }).await;
    let mut handle: Handle<Client> = connected.map_err(|e| explain(e, hop, label))?;
    auth::login(&mut handle, hop, label, &ending).await?;
    Ok(Link { handle, ending, backs })
}

fn explain(error: ClientError, hop: &Hop, label: &str) -> SshError {
    let (host, address) = (label.to_owned(), hop.address());
    match error {
        ClientError::Trust(error) => error,
        ClientError::Protocol(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. }) => {
            SshError::UnknownHost {
                host,
                address,
                why: format!("it has host keys of kinds that are not taken: {}", theirs.join(", ")),
                hint: "make it an ed25519 host key: `ssh-keygen -A` on the machine, then restart its sshd".to_owned(),
            }
        }
        ClientError::Protocol(e @ russh::Error::NoCommonAlgo { .. }) => {
            SshError::Denied { host, what: "the key exchange".to_owned(), why: words(&e) }
        }
        ClientError::Protocol(russh::Error::IO(e)) => SshError::Connect { host, address, why: io_words(&e) },
        ClientError::Protocol(e) => SshError::Connect { host, address, why: words(&e) },
    }
}

fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused (nothing listens there)".to_owned(),
        io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_owned(),
        _ => error.to_string(),
    }
}
