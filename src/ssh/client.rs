//! What the protocol library is told, and asks: algorithms, windows, whether a host key is trusted, where channels go that
//! the server opens.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use russh::client::{ChannelOpenHandle, Config, DisconnectReason, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, Preferred, cipher, compression};
use tokio::sync::watch;

use super::Timeouts;
use super::error::SshError;
use super::forward::{Backs, Door};
use super::host_key::Trust;

/// How many bytes the server may send ahead on a channel: enough for 1 Gbit/s at 60 ms.
const WINDOW: u32 = 8 << 20;
/// The largest packet to take, as in OpenSSH (channels.h, `CHAN_SES_PACKET_DEFAULT`).
const PACKET: u32 = 32 * 1024;
/// Messages of a channel that wait for their reader before the connection is no longer read.
const BUFFERED: usize = 256;
/// Unanswered keepalives after which a connection is lost.
const KEEPALIVES: usize = 3;

/// What can go wrong while the library talks.
#[derive(Debug)]
pub(super) enum ClientError {
    /// The library's own errors.
    Protocol(russh::Error),
    /// A host key that is not trusted.
    Trust(SshError),
}

impl From<russh::Error> for ClientError {
    fn from(error: russh::Error) -> Self {
        Self::Protocol(error)
    }
}

/// Answers the library's questions about one connection.
pub(super) struct Client {
    /// What is known of the host.
    pub(super) trust: Trust,
    /// Where it is said why the connection ended.
    pub(super) ended: watch::Sender<Option<String>>,
    /// Who takes the channels that the server opens.
    pub(super) backs: Backs,
}

impl Client {
    /// Hands a channel to the forward that listens at `door`; refuses it when there is none.
    async fn take(&self, door: Door, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let taker = self.backs.lock().unwrap_or_else(PoisonError::into_inner).get(&door).cloned();
        match taker {
            Some(taker) => {
                reply.accept().await;
                let _ = taker.send(channel);
            }
            None => drop(reply),
        }
    }
}

impl Handler for Client {
    type Error = ClientError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, ClientError> {
        let (trust, key) = (self.trust.clone(), offered.public_key());
        // May wait for a file lock.
        let checked = tokio::task::spawn_blocking(move || trust.check(&key)).await;
        match checked {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(ClientError::Trust(error)),
            Err(_) => Ok(false),
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _address: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        self.take(Door::Port(port), channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        self.take(Door::Path(path.to_owned()), channel, reply).await;
        Ok(())
    }

    // What nobody asked for is refused: the library takes all of these unless told otherwise.

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _to: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _from: &str,
        _from_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<ClientError>) -> Result<(), ClientError> {
        let why = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the server said: {}", info.message.trim()),
            DisconnectReason::Error(ClientError::Protocol(error)) => words(error),
            DisconnectReason::Error(ClientError::Trust(error)) => error.to_string(),
        };
        self.ended.send_replace(Some(why));
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

/// The library's settings for one connection.
pub(super) fn config(trust: &Trust, timeouts: &Timeouts) -> Arc<Config> {
    // AES-GCM runs in hardware on both sides; the library's list leaves the 128 bit form out.
    let ciphers = vec![
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    Arc::new(Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: BUFFERED,
        preferred: Preferred {
            key: Cow::Owned(trust.algorithms()),
            cipher: Cow::Owned(ciphers),
            compression: Cow::Owned(vec![compression::NONE]),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(timeouts.keepalive),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        ..Config::default()
    })
}

/// What the library says, for people.
pub(super) fn words(error: &russh::Error) -> String {
    match error {
        russh::Error::HUP | russh::Error::Disconnect | russh::Error::SendError | russh::Error::RecvError => {
            "the other side closed the connection".to_owned()
        }
        russh::Error::KeepaliveTimeout => "the other side no longer answers keepalives".to_owned(),
        russh::Error::Version => "what answers there does not speak SSH 2".to_owned(),
        russh::Error::IO(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the other side closed the connection".to_owned()
        }
        russh::Error::NoCommonAlgo { kind, ours, theirs } => {
            format!("no common {kind:?} algorithm; here: {}; there: {}", ours.join(", "), theirs.join(", "))
        }
        other => other.to_string(),
    }
}
