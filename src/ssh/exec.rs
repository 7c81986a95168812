//! Running a command on another machine (RFC 4254, section 6).

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::Sender;

use super::command::Command;
use super::error::SshError;
use super::gate::Gate;
use super::session::Session;

/// Bytes of stdin that are read at once.
const CHUNK: usize = 256 * 1024;
/// What of an output goes into errors, in bytes.
const TAIL: usize = 2048;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this exit status.
    Code(u32),
    /// By a signal, named without `SIG`.
    Signal {
        /// `KILL`
        name: String,
        /// Whether it left a core.
        core: bool,
    },
}

impl Exit {
    /// Exit status 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { name, core } => write!(f, "signal {name}{}", if *core { " (core dumped)" } else { "" }),
        }
    }
}

/// Takes what a command writes, as it comes. An error stops the command.
pub trait Sink: Send {
    /// Bytes of standard output, cut anywhere.
    ///
    /// # Errors
    /// When they can not be taken.
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes of standard error, cut anywhere.
    ///
    /// # Errors
    /// When they can not be taken.
    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Where a command's output goes.
pub(super) enum Drain<'a> {
    /// All of it to a sink.
    Sink(&'a mut dyn Sink),
    /// Standard output to a queue that may be slow, the rest to a sink.
    Queue(Sender<Bytes>, &'a mut dyn Sink),
}

impl Drain<'_> {
    async fn stdout(&mut self, data: Bytes) -> io::Result<()> {
        match self {
            Self::Sink(sink) => sink.stdout(&data),
            Self::Queue(queue, sink) => {
                sink.stdout(&data)?;
                queue.send(data).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match self {
            Self::Sink(sink) | Self::Queue(_, sink) => *sink,
        }
    }
}

/// Keeps output up to a limit; what comes after it is an error.
#[derive(Debug, Default)]
pub struct Collect {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    limit: usize,
}

impl Collect {
    /// Keeps at most `limit` bytes of each.
    pub fn up_to(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn add(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) -> io::Result<()> {
        if kept.len() + bytes.len() > limit {
            return Err(io::Error::other(format!("the command wrote more than {limit} bytes")));
        }
        kept.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sink for Collect {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        Self::add(&mut self.stdout, bytes, self.limit)
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        Self::add(&mut self.stderr, bytes, self.limit)
    }
}

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Session {
    /// Runs a command, feeding `stdin` to it and its output to `sink` as it comes. Dropping the future sends SIGTERM and
    /// closes the channel; OpenSSH does not signal commands of root, which end when they next write.
    ///
    /// # Errors
    /// [`SshError::Lost`] when the connection goes away in the middle; errors of `stdin` and `sink`; [`SshError::Sudo`]. A
    /// command that fails is no error but an [`Exit`].
    pub async fn exec(
        &self,
        command: &Command,
        stdin: impl AsyncRead + Send + Unpin,
        sink: &mut dyn Sink,
    ) -> Result<Exit, SshError> {
        let chunks = stream::try_unfold((stdin, BytesMut::new()), |(mut from, mut buffer)| async move {
            buffer.reserve(CHUNK);
            let n = from.read_buf(&mut buffer).await?;
            Ok::<_, io::Error>((n > 0).then(|| (buffer.split().freeze(), (from, buffer))))
        });
        self.drive(command, &format!("`{}`", command.line()), chunks, Drain::Sink(sink)).await
    }

    /// Runs a command without input and keeps its output, at most `limit` bytes of each stream.
    ///
    /// # Errors
    /// Those of [`Session::exec`].
    pub async fn run(&self, command: &Command, limit: usize) -> Result<Output, SshError> {
        let mut kept = Collect::up_to(limit);
        let exit = self.exec(command, tokio::io::empty(), &mut kept).await?;
        Ok(Output { exit, stdout: kept.stdout, stderr: kept.stderr })
    }

    /// Runs a command that is called `during` in messages.
    pub(super) async fn drive(
        &self,
        command: &Command,
        during: &str,
        stdin: impl Stream<Item = io::Result<Bytes>> + Send,
        mut drain: Drain<'_>,
    ) -> Result<Exit, SshError> {
        let host = || self.name().to_owned();
        let line = command.remote().map_err(|why| SshError::Input { host: host(), why })?;
        let opened = self.handle().channel_open_session().await;
        let (mut read, write) = opened.map_err(|e| self.failed(&e, &format!("to run {during}")))?.split();
        let write = Arc::new(write);
        let mut running = Running { half: Arc::clone(&write), over: false };
        write.exec(true, line).await.map_err(|e| self.failed(&e, &format!("to run {during}")))?;
        let mut gate = Gate::new(command.as_user());
        let end = self.pump(&mut read, &write, &mut gate, stdin, &mut drain, during).await?;
        running.over = true;
        if !gate.is_open() {
            let why = gate.said();
            let user = command.as_user().map(|s| s.user.clone()).unwrap_or_default();
            return Err(SshError::Sudo { host: host(), login: self.target().hop.user.clone(), user, why });
        }
        Ok(end)
    }

    /// Moves bytes both ways until the command's channel is closed.
    async fn pump(
        &self,
        read: &mut ChannelReadHalf,
        write: &Arc<ChannelWriteHalf<Msg>>,
        gate: &mut Gate,
        stdin: impl Stream<Item = io::Result<Bytes>> + Send,
        drain: &mut Drain<'_>,
        during: &str,
    ) -> Result<Exit, SshError> {
        let local = |source| SshError::Local { what: during.to_owned(), source };
        let opening = gate.opening();
        let mut feed = pin!(async move {
            opening.await;
            let mut stdin = pin!(stdin);
            while let Some(chunk) = stdin.next().await {
                // Fails when the command or the connection is gone: the other half says which.
                if write.data_bytes(chunk?).await.is_err() {
                    return Ok(());
                }
            }
            let _ = write.eof().await;
            Ok::<(), io::Error>(())
        });
        let late = tokio::time::sleep(self.target().timeouts.connect);
        let mut late = pin!(late);
        let (mut fed, mut exit) = (false, None);
        loop {
            let message = tokio::select! {
                message = read.wait() => message,
                done = &mut feed, if !fed => {
                    done.map_err(local)?;
                    fed = true;
                    continue;
                }
                () = &mut late, if !gate.is_open() => return Err(self.sudo_is_late(gate)),
            };
            match message {
                Some(ChannelMsg::Data { data }) => drain.stdout(data).await.map_err(local)?,
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                    gate.stderr(&data, write, drain.sink()).await.map_err(local)?;
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => exit = Some(Exit::Code(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, core_dumped, .. }) => {
                    exit = Some(Exit::Signal { name: signal(&signal_name), core: core_dumped });
                }
                Some(ChannelMsg::Failure) => {
                    return Err(SshError::Denied {
                        host: self.name().to_owned(),
                        what: format!("to run {during}"),
                        why: "the server does not let this user run commands".to_owned(),
                    });
                }
                Some(ChannelMsg::Close) | None => return exit.ok_or_else(|| self.lost(during)),
                Some(_) => {}
            }
        }
    }

    fn sudo_is_late(&self, gate: &Gate) -> SshError {
        let seconds = self.target().timeouts.connect.as_secs();
        SshError::Sudo {
            host: self.name().to_owned(),
            login: self.target().hop.user.clone(),
            user: gate.user(),
            why: format!("it did not start the command within {seconds} s; it said: {}", gate.said()),
        }
    }
}

/// A command under way; ends it when dropped before it is over.
struct Running {
    half: Arc<ChannelWriteHalf<Msg>>,
    over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.over {
            return;
        }
        let half = Arc::clone(&self.half);
        runtime.spawn(async move {
            let _ = half.signal(Sig::TERM).await;
            let _ = half.close().await;
        });
    }
}

fn signal(sig: &Sig) -> String {
    match sig {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}

/// The end of what a program said, for an error: one to a few lines, any bytes.
pub(super) fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(TAIL);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).trim().to_owned();
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}
