//! Forwards of TCP ports and Unix sockets (RFC 4254, section 7; openssh, PROTOCOL, section 2.4).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::Channel;
use russh::client::Msg;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use super::error::SshError;
use super::session::Session;

/// Where a forward listens, or leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port; 0 lets the listening side choose.
    Tcp(String, u16),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What of the server's channels goes to which forward: by the port or path it listens on.
pub(super) type Backs = Arc<Mutex<HashMap<Door, UnboundedSender<Channel<Msg>>>>>;

/// A listener of the other side. Servers tell the address in words of their own, so it does not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Door {
    /// A TCP port.
    Port(u32),
    /// A Unix socket.
    Path(String),
}

/// A forward; it and its connections end when it is dropped.
pub struct Forward {
    at: Endpoint,
    trouble: Trouble,
    task: AbortHandle,
    undo: Undo,
}

/// The last connection that failed, shared with what makes connections.
type Trouble = Arc<Mutex<Option<String>>>;

enum Undo {
    RemoveSocket(PathBuf),
    Cancel(Session, Backs, Endpoint, Door),
    Nothing,
}

impl Forward {
    /// Where it listens, with the port that was chosen.
    pub fn at(&self) -> &Endpoint {
        &self.at
    }

    /// Why the last connection that failed did, if one did.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
        match std::mem::replace(&mut self.undo, Undo::Nothing) {
            Undo::Nothing => {}
            Undo::RemoveSocket(path) => drop(fs_err::remove_file(path)),
            Undo::Cancel(session, backs, at, door) => {
                forget(&backs, &door);
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                runtime.spawn(async move {
                    let _ = match &at {
                        Endpoint::Tcp(host, port) => {
                            session.handle().cancel_tcpip_forward(host.clone(), u32::from(*port)).await
                        }
                        Endpoint::Unix(path) => session.handle().cancel_streamlocal_forward(text(path)).await,
                    };
                });
            }
        }
    }
}

impl Session {
    /// Listens here; connections come out on the other side and lead to `to`. A Unix socket is for this user only (0600).
    ///
    /// # Errors
    /// When it can not listen. A connection that fails later is closed; [`Forward::trouble`] says why.
    pub async fn forward(&self, listen: &Endpoint, to: &Endpoint) -> Result<Forward, SshError> {
        let cannot = |e: io::Error| SshError::Local { what: format!("can not listen on {listen}"), source: e };
        let (session, to, trouble) = (self.clone(), to.clone(), Trouble::default());
        let heard = Arc::clone(&trouble);
        match listen {
            Endpoint::Tcp(host, port) => {
                let listener = TcpListener::bind((host.as_str(), *port)).await.map_err(cannot)?;
                let port = listener.local_addr().map_err(cannot)?.port();
                let accept = async move || listener.accept().await.map(|(stream, _)| stream);
                let task = tokio::spawn(serve(accept, session, to, heard)).abort_handle();
                Ok(Forward { at: Endpoint::Tcp(host.clone(), port), trouble, task, undo: Undo::Nothing })
            }
            Endpoint::Unix(path) => {
                use std::os::unix::fs::PermissionsExt;
                let listener = UnixListener::bind(path).map_err(cannot)?;
                fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
                let accept = async move || listener.accept().await.map(|(stream, _)| stream);
                let task = tokio::spawn(serve(accept, session, to, heard)).abort_handle();
                Ok(Forward { at: listen.clone(), trouble, task, undo: Undo::RemoveSocket(path.clone()) })
            }
        }
    }

    /// Listens on the other side; connections come out here and lead to `to`.
    ///
    /// # Errors
    /// [`SshError::Denied`] when the server does not listen for us.
    pub async fn forward_back(&self, listen: &Endpoint, to: &Endpoint) -> Result<Forward, SshError> {
        let no = |e: russh::Error| self.failed(&e, &format!("to listen on {listen}"));
        let (sender, receiver) = unbounded_channel();
        let backs = self.backs();
        let know = |door: &Door| {
            backs.lock().unwrap_or_else(PoisonError::into_inner).insert(door.clone(), sender.clone());
        };
        let (at, door) = match listen {
            // Its port is known with the answer: who connects before that is turned away.
            Endpoint::Tcp(host, 0) => {
                let chosen = self.handle().tcpip_forward(host.clone(), 0).await.map_err(no)?;
                let door = Door::Port(chosen);
                know(&door);
                (Endpoint::Tcp(host.clone(), u16::try_from(chosen).unwrap_or(0)), door)
            }
            Endpoint::Tcp(host, port) => {
                let door = Door::Port(u32::from(*port));
                know(&door);
                let asked = self.handle().tcpip_forward(host.clone(), u32::from(*port)).await;
                asked.inspect_err(|_| forget(&backs, &door)).map_err(no)?;
                (listen.clone(), door)
            }
            Endpoint::Unix(path) => {
                let door = Door::Path(text(path));
                know(&door);
                let asked = self.handle().streamlocal_forward(text(path)).await;
                asked.inspect_err(|_| forget(&backs, &door)).map_err(no)?;
                (listen.clone(), door)
            }
        };
        let trouble = Trouble::default();
        let task = tokio::spawn(serve_back(receiver, to.clone(), Arc::clone(&trouble))).abort_handle();
        let undo = Undo::Cancel(self.clone(), backs, at.clone(), door);
        Ok(Forward { at, trouble, task, undo })
    }

    async fn channel_to(&self, to: &Endpoint) -> Result<Channel<Msg>, russh::Error> {
        match to {
            Endpoint::Tcp(host, port) => {
                self.handle().channel_open_direct_tcpip(host.clone(), u32::from(*port), "127.0.0.1", 0).await
            }
            Endpoint::Unix(path) => self.handle().channel_open_direct_streamlocal(text(path)).await,
        }
    }
}

/// Takes connections here until it is aborted, which ends them all.
async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>, session: Session, to: Endpoint, trouble: Trouble)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let mut stream = tokio::select! {
            stream = accept() => match stream {
                Ok(stream) => stream,
                Err(e) => {
                    // Out of file descriptors, or a client that left: others may do better.
                    note(&trouble, e.to_string());
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let (session, to, trouble) = (session.clone(), to.clone(), Arc::clone(&trouble));
        connections.spawn(async move {
            match session.channel_to(&to).await {
                Ok(channel) => drop(copy_bidirectional(&mut stream, &mut channel.into_stream()).await),
                Err(e) => note(&trouble, session.failed(&e, &format!("to connect to {to}")).to_string()),
            }
        });
    }
}

/// Takes the server's channels until it is aborted, which ends them all.
async fn serve_back(mut channels: UnboundedReceiver<Channel<Msg>>, to: Endpoint, trouble: Trouble) {
    let mut connections = JoinSet::new();
    loop {
        let channel = tokio::select! {
            channel = channels.recv() => channel,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some(channel) = channel else { return };
        let (to, trouble) = (to.clone(), Arc::clone(&trouble));
        connections.spawn(async move {
            let mut stream = channel.into_stream();
            let done = match &to {
                Endpoint::Tcp(host, port) => match TcpStream::connect((host.as_str(), *port)).await {
                    Ok(mut local) => copy_bidirectional(&mut stream, &mut local).await.map(drop).or(Ok(())),
                    Err(e) => Err(e),
                },
                Endpoint::Unix(path) => match UnixStream::connect(path).await {
                    Ok(mut local) => copy_bidirectional(&mut stream, &mut local).await.map(drop).or(Ok(())),
                    Err(e) => Err(e),
                },
            };
            if let Err::<(), io::Error>(e) = done {
                note(&trouble, format!("can not connect to {to}: {e}"));
            }
        });
    }
}

fn forget(backs: &Backs, door: &Door) {
    backs.lock().unwrap_or_else(PoisonError::into_inner).remove(door);
}

fn note(trouble: &Trouble, text: String) {
    *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
