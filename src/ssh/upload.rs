//! Files and directories to another machine.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, future};

use super::command::{Command, quote};
use super::error::SshError;
use super::exec::Drain;
use super::pack;
use super::pipe::{pieces, pipe};
use super::session::Session;
use super::transfer::{Listener, Moved, PRELUDE, Remote, digest_in};
use crate::base::digest::Digest;
use crate::base::report::Task;

/// Where a directory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Into a directory that may be there and hold other things. What a transfer that fails has written stays.
    Into,
    /// To a path where nothing is yet: written beside it and renamed when all is there. What is left of one that failed is
    /// called `<path>.labimg-part`, and goes with the next attempt.
    New,
}

/// What to do there with the stream.
enum Landing {
    /// Unpack into this directory.
    Into(String),
    /// Unpack into `stage`, then rename `stage` to `path`.
    Dir { stage: String, path: String },
    /// Unpack into `stage`, then rename the one file in it to `path`.
    File { stage: String, name: String, path: String },
}

impl Session {
    /// Sends a file or a directory. A file replaces `to.path`, whole or not at all; a directory goes where `place` says.
    /// Files belong to who unpacks them (root: 0:0), with their modes and times. `task` advances by bytes of the stream.
    ///
    /// # Errors
    /// Local files that can not be read or packed, [`SshError::DiskFull`], [`SshError::Lost`], [`SshError::Transfer`],
    /// [`SshError::Digest`]. Nothing was taken for done then.
    pub async fn upload(
        &self,
        from: &Path,
        to: &Remote,
        place: Place,
        task: Option<&Task<'_>>,
    ) -> Result<Moved, SshError> {
        let from: PathBuf = from.to_owned();
        if fs_err::metadata(&from)?.is_dir() {
            let root = place == Place::New;
            return self.upload_tar(move |out| pack::directory(&from, root, out), to, place, task).await;
        }
        let (dir, name) = to.parts(self.name())?;
        if name.is_empty() {
            return Err(SshError::Input { host: self.name().to_owned(), why: "a file can not become `/`".to_owned() });
        }
        let stage = format!("{}/.{name}.labimg-part", dir.trim_end_matches('/'));
        let path = to.path.trim_end_matches('/').to_owned();
        let landing = Landing::File { stage, name: name.clone(), path };
        self.land(move |out| pack::file(&from, &name, out), to, &landing, task).await
    }

    /// Sends the tar archive that `write` makes, to be unpacked as `place` says.
    ///
    /// # Errors
    /// Those of [`Session::upload`] and of `write`.
    pub async fn upload_tar(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
        to: &Remote,
        place: Place,
        task: Option<&Task<'_>>,
    ) -> Result<Moved, SshError> {
        let (dir, name) = to.parts(self.name())?;
        let landing = match place {
            Place::Into => Landing::Into(to.path.clone()),
            Place::New => {
                let path = format!("{}/{name}", dir.trim_end_matches('/'));
                Landing::Dir { stage: format!("{path}.labimg-part"), path }
            }
        };
        self.land(write, to, &landing, task).await
    }

    async fn land(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
        to: &Remote,
        landing: &Landing,
        task: Option<&Task<'_>>,
    ) -> Result<Moved, SshError> {
        let what = format!("the upload to {}", to.path);
        let (mut writer, receiver) = pipe();
        let packing = tokio::task::spawn_blocking(move || {
            write(&mut writer)?;
            writer.finish()
        });
        let full = AtomicBool::new(false);
        let mut listener = Listener::new(&full, None);
        let seen = |n| task.into_iter().for_each(|t| t.advance(n));
        // Once the disk is full there, the rest is not sent: tar would go on to the end.
        let stream = pieces(receiver, &seen).take_while(|_| future::ready(!full.load(Ordering::Relaxed)));
        let command = Command::new(landing.receive()).sudo(to.sudo.clone());
        let ended = self.drive(&command, &what, stream, Drain::Sink(&mut listener)).await;
        let packed = packing.await.map_err(io::Error::other)?;
        let exit = ended?;
        let (here, bytes) = match packed {
            Ok(packed) => packed,
            // The other side stopped reading, and says why.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe && !exit.success() => (Digest::of(b""), 0),
            Err(source) => {
                self.discard(to, landing).await;
                return Err(SshError::Local { what, source });
            }
        };
        if !exit.success() || full.load(Ordering::Relaxed) {
            return Err(listener.failure(self, &what, &exit));
        }
        let said = String::from_utf8_lossy(&listener.stdout).into_owned();
        let there = digest_in(&said);
        if there != Some(here) {
            self.discard(to, landing).await;
            let there = there.map_or_else(|| "none".to_owned(), |d| d.to_string());
            return Err(SshError::Digest { host: self.name().to_owned(), what, here: here.to_string(), there });
        }
        self.rename(to, landing, &what).await?;
        Ok(Moved { digest: here, bytes })
    }

    /// Gives what arrived its name.
    async fn rename(&self, to: &Remote, landing: &Landing, what: &str) -> Result<(), SshError> {
        let Some(line) = landing.rename() else { return Ok(()) };
        let full = AtomicBool::new(false);
        let mut listener = Listener::new(&full, None);
        let command = Command::new(line).sudo(to.sudo.clone());
        let exit = self.drive(&command, what, futures_util::stream::empty(), Drain::Sink(&mut listener)).await?;
        if exit.success() { Ok(()) } else { Err(listener.failure(self, what, &exit)) }
    }

    /// Takes away what was not taken for done; that it fails changes nothing.
    async fn discard(&self, to: &Remote, landing: &Landing) {
        if let Some(stage) = landing.stage() {
            let _ = self.run(&Command::new(format!("rm -rf -- {}", quote(stage))).sudo(to.sudo.clone()), 4096).await;
        }
    }
}

impl Landing {
    fn stage(&self) -> Option<&str> {
        match self {
            Self::Into(_) => None,
            Self::Dir { stage, .. } | Self::File { stage, .. } => Some(stage),
        }
    }

    /// The script that takes the stream; it writes the digest to standard output.
    fn receive(&self) -> String {
        let (dir, before) = match self {
            Self::Into(dir) => (dir, String::new()),
            Self::Dir { stage, path } => (stage, format!("{}rm -rf -- \"$d\"\n", absent(path))),
            Self::File { stage, path, .. } => (stage, format!("{}rm -rf -- \"$d\"\n", no_directory(path))),
        };
        let after = if self.stage().is_some() { "[ $r = 0 ] || rm -rf -- \"$d\"\n" } else { "" };
        format!(
            "{PRELUDE}d={}\n{before}mkdir -p -- \"$d\" || exit 1\nexec 3<&0\n\
             tee \"$t/f\" <&3 3<&- | {{ tar -x -p -f - -C \"$d\" && cat > /dev/null; }} &\n\
             p=$!\ns=$(sum < \"$t/f\")\nwait $p; r=$?\n{after}echo \"$s\"\nexit $r\n",
            quote(dir)
        )
    }

    /// The script that gives what arrived its name.
    fn rename(&self) -> Option<String> {
        match self {
            Self::Into(_) => None,
            Self::Dir { stage, path } => {
                Some(format!("export LC_ALL=C\n{}exec mv -- {} {}\n", absent(path), quote(stage), quote(path)))
            }
            Self::File { stage, name, path } => {
                let (from, stage) = (quote(&format!("{stage}/{name}")), quote(stage));
                let to = quote(path);
                Some(format!("export LC_ALL=C\n{}mv -f -- {from} {to} && rmdir -- {stage}\n", no_directory(path)))
            }
        }
    }
}

fn absent(path: &str) -> String {
    let path = quote(path);
    format!("if [ -e {path} ] || [ -L {path} ]; then echo {path} 'is there already' >&2; exit 1; fi\n")
}

fn no_directory(path: &str) -> String {
    let path = quote(path);
    format!("if [ -d {path} ]; then echo {path} 'is a directory' >&2; exit 1; fi\n")
}
