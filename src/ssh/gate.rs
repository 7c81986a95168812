//! Waiting for `sudo` to let a command in, before anything meant for the command is sent.
//!
//! sudo asks for a password with a prompt that is ours; the command says that it runs before it runs. So the password goes out
//! only when sudo asks, at most once (a wrong one must not lock an account), and never ends up in the command's input.

use std::future::Future;
use std::io;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::client::Msg;
use tokio::sync::watch;

use super::command::{PROMPT, STARTED, Secret, Sudo};
use super::exec::{Sink, tail};

/// What `sudo` may say before the command runs, in bytes.
const LIMIT: usize = 64 * 1024;

/// The state of one command.
pub(super) struct Gate {
    open: watch::Sender<bool>,
    sudo: Option<Sudo>,
    before: Vec<u8>,
    asked: bool,
}

/// What to do about what came.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Wait,
    Answer,
    GiveUp,
    Started(Vec<u8>),
}

impl Gate {
    /// Open at once without sudo.
    pub(super) fn new(sudo: Option<&Sudo>) -> Self {
        let (open, _) = watch::channel(sudo.is_none());
        Self { open, sudo: sudo.cloned(), before: Vec::new(), asked: false }
    }

    /// Whether the command runs.
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Done once the command runs; never, if it does not.
    pub(super) fn opening(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut open = self.open.subscribe();
        async move {
            if open.wait_for(|open| *open).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As whom the command runs.
    pub(super) fn user(&self) -> String {
        self.sudo.as_ref().map(|s| s.user.clone()).unwrap_or_default()
    }

    /// What sudo said, without our own prompt.
    pub(super) fn said(&self) -> String {
        tail(String::from_utf8_lossy(&self.before).replace(PROMPT, "").as_bytes())
    }

    /// Takes standard error: sudo's until the command runs, then the command's.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(super) async fn stderr(
        &mut self,
        bytes: &[u8],
        write: &ChannelWriteHalf<Msg>,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        if self.is_open() {
            return sink.stderr(bytes);
        }
        match self.step(bytes) {
            Step::Wait => {}
            Step::Answer => {
                let password = self.sudo.as_ref().and_then(|s| s.password.as_ref()).map_or("", Secret::expose);
                let _ = write.data_bytes(Bytes::from(format!("{password}\n"))).await;
            }
            Step::GiveUp => {
                let _ = write.eof().await;
            }
            Step::Started(rest) => {
                self.open.send_replace(true);
                if !rest.is_empty() {
                    return sink.stderr(&rest);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        let from = self.before.len();
        self.before.extend_from_slice(bytes);
        let started = format!("{STARTED}\n");
        if let Some(at) = memchr::memmem::find(&self.before, started.as_bytes()) {
            return Step::Started(self.before.split_off(at + started.len()));
        }
        if self.before.len() > LIMIT {
            return Step::GiveUp;
        }
        // A prompt may come in pieces.
        let seen = from.saturating_sub(PROMPT.len() - 1);
        let fresh = self.before.get(seen..).unwrap_or_default();
        match memchr::memmem::find_iter(fresh, PROMPT).count() {
            0 => Step::Wait,
            1 if !self.asked => {
                self.asked = true;
                Step::Answer
            }
            _ => Step::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(Some(&Sudo { user: "root".into(), password: Some(Secret::new("x")) }))
    }

    #[test]
    fn a_password_is_given_once_and_the_rest_is_the_commands() {
        let mut gate = gate();
        assert_eq!(gate.step(b"Lecture.\n[labimg:pass"), Step::Wait);
        assert_eq!(gate.step(b"word]"), Step::Answer);
        assert_eq!(gate.step(b"\n[labimg:started]"), Step::Wait);
        assert_eq!(gate.step(b"\nown"), Step::Started(b"own".to_vec()));
        assert!(gate.said().starts_with("Lecture."));
        assert!(!gate.said().contains("password"));
    }

    #[test]
    fn a_second_question_ends_it() {
        let mut gate = gate();
        assert_eq!(gate.step(PROMPT.as_bytes()), Step::Answer);
        assert_eq!(gate.step(b"Sorry, try again.\n"), Step::Wait);
        assert_eq!(gate.step(PROMPT.as_bytes()), Step::GiveUp);
        assert_eq!(super::Gate::new(None).said(), "it said nothing");
    }

    #[test]
    fn nobody_talks_without_end() {
        assert_eq!(gate().step(&vec![b'x'; LIMIT + 1]), Step::GiveUp);
    }
}
