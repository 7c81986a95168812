//! Logging in with public keys (RFC 4252, section 7), from files or an agent.

use std::path::Path;

use russh::MethodSet;
use russh::client::{AuthResult, Handle};
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use tokio::sync::watch;

use super::Hop;
use super::client::{Client, words};
use super::error::SshError;
use super::identity::{Identity, fingerprint, is_rsa, load};

/// A login under way.
struct Login<'a> {
    handle: &'a mut Handle<Client>,
    hop: &'a Hop,
    label: &'a str,
    ended: &'a watch::Receiver<Option<String>>,
    offered: Vec<String>,
    takes: MethodSet,
    partial: bool,
}

/// Offers the keys of `hop` one after the other until the server takes one.
///
/// # Errors
/// [`SshError::Refused`] with what was offered and what the server takes; [`SshError::Key`] for keys that can not be used.
pub(super) async fn login(
    handle: &mut Handle<Client>,
    hop: &Hop,
    label: &str,
    ended: &watch::Receiver<Option<String>>,
) -> Result<(), SshError> {
    let mut login = Login { handle, hop, label, ended, offered: Vec::new(), takes: MethodSet::empty(), partial: false };
    // Asks what the server takes (RFC 4252, section 5.2); a server without any authentication lets in here.
    let first = login.handle.authenticate_none(hop.user.clone()).await;
    if login.judge(first)? {
        return Ok(());
    }
    for identity in &hop.identities {
        let done = match identity {
            Identity::Agent(socket) => login.with_agent(socket).await?,
            _ => login.with_key(identity).await?,
        };
        if done {
            return Ok(());
        }
    }
    Err(login.refused())
}

impl Login<'_> {
    async fn with_key(&mut self, identity: &Identity) -> Result<bool, SshError> {
        let Some((key, what)) = load(identity)? else { return Ok(false) };
        self.offered.push(format!("{} ({what})", fingerprint(key.public_key())));
        let result =
            self.handle.authenticate_publickey(self.hop.user.clone(), PrivateKeyWithHashAlg::new(key, None)).await;
        self.judge(result)
    }

    async fn with_agent(&mut self, socket: &Path) -> Result<bool, SshError> {
        let bad = |e: russh::keys::Error| SshError::Key {
            what: format!("the agent at `{}`", socket.display()),
            why: e.to_string(),
        };
        let mut agent = AgentClient::connect_uds(socket).await.map_err(bad)?;
        // Agents that know nothing of it say no, which changes nothing.
        if let Some(binding) = self.handle.agent_session_binding() {
            let _ = agent.bind_session(binding, false).await;
        }
        let held = agent.request_identities().await.map_err(bad)?;
        if held.is_empty() {
            self.offered.push(format!("nothing from the agent at `{}`: it holds no key", socket.display()));
        }
        for identity in held {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let what = format!("{} (agent: {comment})", fingerprint(&key));
            if is_rsa(&key) {
                self.offered.push(format!("not {what}: RSA keys are not taken, use ed25519 or ECDSA"));
                continue;
            }
            self.offered.push(what);
            let user = self.hop.user.clone();
            match self.handle.authenticate_publickey_with(user, key, None, &mut agent).await {
                Ok(result) => {
                    if self.judge(Ok(result))? {
                        return Ok(true);
                    }
                }
                Err(e) => self.offered.push(format!("the agent did not sign with it: {e}")),
            }
        }
        Ok(false)
    }

    /// Whether that let us in; errors when there is no use in going on.
    fn judge(&mut self, result: Result<AuthResult, russh::Error>) -> Result<bool, SshError> {
        match result {
            Ok(AuthResult::Success) => return Ok(true),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) if !remaining_methods.is_empty() => {
                self.takes = remaining_methods;
                self.partial = partial_success;
                return Ok(false);
            }
            Ok(AuthResult::Failure { .. }) if !self.handle.is_closed() => return Ok(false),
            Ok(AuthResult::Failure { .. }) => {}
            Err(e) if !self.handle.is_closed() => return Err(self.broken(words(&e))),
            Err(_) => {}
        }
        let why = self.ended.borrow().clone().unwrap_or_else(|| "the other side closed the connection".to_owned());
        match why.contains("authentication failures") {
            true => Err(self.refused()),
            false => Err(self.broken(why)),
        }
    }

    fn broken(&self, why: String) -> SshError {
        SshError::Connect {
            host: self.label.to_owned(),
            address: self.hop.address(),
            why: format!("during the login: {why}"),
        }
    }

    fn refused(&self) -> SshError {
        let mut takes: Vec<&str> = self.takes.iter().map(<&'static str>::from).collect();
        if takes.is_empty() {
            takes.push("nothing it would name");
        }
        let more = if self.partial { ", beside the key that it took" } else { "" };
        let closed = match self.ended.borrow().as_deref() {
            Some(why) => format!(" ({why})"),
            None => String::new(),
        };
        SshError::Refused {
            host: self.label.to_owned(),
            address: self.hop.address(),
            user: self.hop.user.clone(),
            offered: self.offered.clone(),
            takes: format!("{}{more}{closed}", takes.join(", ")),
        }
    }
}
