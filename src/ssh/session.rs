//! A connection that is logged in.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use tokio::sync::watch;

use super::Target;
use super::client::{Client, words};
use super::connect::connect_within;
use super::error::SshError;
use super::forward::Backs;
use crate::base::report::Task;

/// One authenticated connection to one hop.
pub(super) struct Link {
    /// The library's end.
    pub(super) handle: Handle<Client>,
    /// Why the connection ended, once it has.
    pub(super) ending: watch::Receiver<Option<String>>,
    /// Who takes the channels that the server opens.
    pub(super) backs: Backs,
}

/// A connection to a machine; clones share it. It ends when the last clone and the last forward are gone.
#[derive(Clone)]
pub struct Session {
    target: Arc<Target>,
    link: Arc<Link>,
    _via: Arc<Vec<Link>>,
}

impl Session {
    pub(super) fn new(target: Target, link: Link, via: Vec<Link>) -> Self {
        Self { target: Arc::new(target), link: Arc::new(link), _via: Arc::new(via) }
    }

    /// The same connection, made for `target`.
    pub(super) fn meant_for(mut self, target: &Target) -> Self {
        self.target = Arc::new(target.clone());
        self
    }

    /// The machine.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What a person calls the machine.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.link.handle.is_closed()
    }

    /// Waits until the connection is gone (the machine reboots) and says why.
    pub async fn closed(&self) -> String {
        let mut ending = self.link.ending.clone();
        let why = ending.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "the connection ended".to_owned())
    }

    /// A new connection to the same machine, as [`connect_within`] makes it.
    ///
    /// # Errors
    /// Those of [`connect_within`].
    pub async fn reconnect(&self, within: Duration, task: Option<&Task<'_>>) -> Result<Self, SshError> {
        connect_within(&self.target, within, task).await
    }

    /// Says goodbye; other clones lose the connection too.
    pub async fn close(self) {
        let _ = self.link.handle.disconnect(russh::Disconnect::ByApplication, "", "en").await;
    }

    pub(super) fn handle(&self) -> &Handle<Client> {
        &self.link.handle
    }

    pub(super) fn backs(&self) -> Backs {
        Arc::clone(&self.link.backs)
    }

    /// The connection went away during `during`.
    pub(super) fn lost(&self, during: &str) -> SshError {
        let why = self.link.ending.borrow().clone();
        SshError::Lost {
            host: self.name().to_owned(),
            during: during.to_owned(),
            why: why.unwrap_or_else(|| "the other side closed the channel without a result".to_owned()),
        }
    }

    /// What a failed request means: the connection is gone, or the server said no.
    pub(super) fn failed(&self, error: &russh::Error, what: &str) -> SshError {
        if self.is_closed() {
            return self.lost(what);
        }
        SshError::Denied { host: self.name().to_owned(), what: what.to_owned(), why: words(error) }
    }
}
