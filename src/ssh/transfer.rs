//! Files to and from another machine as a tar stream through a command (no SFTP), with a SHA-256 taken on both sides.
//!
//! The other side needs a POSIX shell and tar, tee, mkfifo, mktemp and sha256sum (or openssl), of coreutils or busybox: the
//! stream goes through `tee` to `tar` and, over a named pipe, to `sha256sum`, so that what was hashed is what tar got. A transfer is done
//! when tar ended well there and both digests are the same; what is written at a place of its own gets its name only then.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::command::Sudo;
use super::error::SshError;
use super::exec::{Exit, Sink, tail};
use super::session::Session;
use crate::base::digest::{Digest, Hasher};

/// How much of what the other side's programs say is kept, in bytes.
const SAID: usize = 64 * 1024;
/// What tar and others say when a file system is full (`LC_ALL=C`, errno ENOSPC).
const FULL: &str = "No space left on device";
/// What stands before the digest that the other side sends on stderr with a download.
pub(super) const DIGEST_MARK: &str = "[labimg:sha256] ";

/// What went over, as a tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Digest of the stream, the same on both sides.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A remote path, and as whom to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// An absolute path.
    pub path: String,
    /// `None`: as who logged in.
    pub sudo: Option<Sudo>,
}

impl Remote {
    /// As who logged in.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), sudo: None }
    }

    /// Folder and name; the path must be absolute, without `.` and `..`.
    pub(super) fn parts(&self, host: &str) -> Result<(String, String), SshError> {
        let bad = |why: &str| {
            Err(SshError::Input { host: host.to_owned(), why: format!("the remote path `{}` {why}", self.path) })
        };
        let path = self.path.trim_end_matches('/');
        if !self.path.starts_with('/') || self.path.contains(['\0', '\n']) {
            return bad("must be absolute, on one line");
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            return bad("must not go through `.` or `..`");
        }
        match path.rsplit_once('/') {
            Some((dir, name)) => Ok((if dir.is_empty() { "/".to_owned() } else { dir.to_owned() }, name.to_owned())),
            None => Ok(("/".to_owned(), String::new())),
        }
    }
}

/// Checks for the programs, and a named pipe `$t/f` that goes away with the shell.
///
/// `sum` takes the digest: by OpenSSL where it works, which uses the processor's instructions for it (coreutils 9.1: 260 MB/s).
pub(super) const PRELUDE: &str = r#"export LC_ALL=C
if openssl dgst -sha256 -r < /dev/null > /dev/null 2>&1; then
  sum() { openssl dgst -sha256 -r; }
  h=openssl
else
  sum() { sha256sum; }
  h=sha256sum
fi
for p in tar tee mkfifo mktemp "$h"; do
  command -v "$p" > /dev/null || { echo "this machine has no $p" >&2; exit 127; }
done
t=$(mktemp -d "${TMPDIR:-/tmp}/labimg.XXXXXX") || exit 1
trap 'rm -rf "$t"' EXIT
trap 'exit 143' HUP INT TERM
mkfifo "$t/f" || exit 1
"#;

/// Takes what the other side says during a transfer; hashes standard output or keeps it.
pub(super) struct Listener<'a> {
    /// Standard output, when it is short.
    pub(super) stdout: Vec<u8>,
    /// Standard error, the first of it.
    pub(super) stderr: Vec<u8>,
    /// Set once the other side's disk is full.
    pub(super) full: &'a AtomicBool,
    /// Set for downloads: standard output is data.
    pub(super) data: Option<Data<'a>>,
}

/// Data under way to this side.
pub(super) struct Data<'a> {
    /// Its hash so far.
    pub(super) hasher: Hasher,
    /// Its length so far.
    pub(super) bytes: u64,
    /// Longest allowed.
    pub(super) limit: u64,
    /// Where it goes, when it goes nowhere else.
    pub(super) out: Option<&'a mut (dyn Write + Send)>,
    /// Told of progress.
    pub(super) seen: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Listener<'a> {
    /// One that has heard nothing.
    pub(super) fn new(full: &'a AtomicBool, data: Option<Data<'a>>) -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), full, data }
    }

    /// What a failed transfer means.
    pub(super) fn failure(&self, session: &Session, what: &str, exit: &Exit) -> SshError {
        let (host, what) = (session.name().to_owned(), what.to_owned());
        let said = tail(&self.stderr);
        match self.full.load(Ordering::Relaxed) {
            true => SshError::DiskFull { host, what, said: first_full(&self.stderr).unwrap_or(said) },
            false => SshError::Transfer { host, what, why: format!("{exit}; it said: {said}") },
        }
    }
}

impl Sink for Listener<'_> {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(data) = &mut self.data else {
            keep(&mut self.stdout, bytes);
            return Ok(());
        };
        data.hasher.update(bytes);
        data.bytes += bytes.len() as u64;
        if data.bytes > data.limit {
            return Err(io::Error::other(format!("more than the {} bytes that are allowed", data.limit)));
        }
        (data.seen)(bytes.len() as u64);
        match &mut data.out {
            Some(out) => out.write_all(bytes),
            None => Ok(()),
        }
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        let from = self.stderr.len().saturating_sub(FULL.len());
        keep(&mut self.stderr, bytes);
        if memchr::memmem::find(self.stderr.get(from..).unwrap_or_default(), FULL.as_bytes()).is_some() {
            self.full.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Keeps the first half and the last bytes that fit: tar says what went wrong early and goes on for long.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    if kept.len() > SAID {
        let cut = kept.len() - SAID / 2;
        kept.drain(SAID / 2..cut);
    }
}

fn first_full(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    text.lines().find(|line| line.contains(FULL)).map(|line| line.trim().to_owned())
}

/// The hex digits in what `sha256sum` wrote.
pub(super) fn digest_in(text: &str) -> Option<Digest> {
    text.split_whitespace().find_map(|word| Digest::from_hex(word).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_paths_are_absolute_and_plain() {
        let parts = |path: &str| Remote::new(path).parts("web").ok();
        assert_eq!(parts("/srv/a b/"), Some(("/srv".into(), "a b".into())));
        assert_eq!(parts("/x"), Some(("/".into(), "x".into())));
        assert_eq!(parts("/"), Some(("/".into(), String::new())));
        for bad in ["", "x", "/a/../b", "/a/.", "/a\nb", "/a\0"] {
            assert_eq!(parts(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_full_disk_is_noticed_in_pieces() {
        let full = AtomicBool::new(false);
        let mut listener = Listener::new(&full, None);
        listener.stderr(b"tar: a: Cannot write: No space le").unwrap();
        assert!(!full.load(Ordering::Relaxed));
        listener.stderr(b"ft on device\ntar: b: x\n").unwrap();
        assert!(full.load(Ordering::Relaxed));
        assert_eq!(first_full(&listener.stderr).unwrap(), "tar: a: Cannot write: No space left on device");
        for _ in 0..1000 {
            listener.stderr(&[b'x'; 1000]).unwrap();
        }
        assert!(listener.stderr.len() <= SAID && first_full(&listener.stderr).is_some());
    }
}
