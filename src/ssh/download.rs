//! Files and directories from another machine.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;

use futures_util::stream;
use tar::EntryType;

use super::command::{Command, quote};
use super::error::SshError;
use super::exec::{Drain, Exit};
use super::pipe::PipeReader;
use super::session::Session;
use super::transfer::{DIGEST_MARK, Data, Listener, Moved, PRELUDE, Remote, digest_in};
use crate::base::atomic;
use crate::base::digest::Hasher;
use crate::base::report::Task;
use crate::base::shown;
use crate::base::untar::Untar;

/// Most members of an archive that is unpacked.
const MEMBERS: u64 = 5_000_000;

impl Session {
    /// Fetches a file or a directory to `to`, where nothing may be yet: written beside it and renamed when all of it is there
    /// and the digests agree. Members that would leave `to`, devices and the like are refused; owners and set-user bits are
    /// not kept. `limit` is the most that may come, in bytes.
    ///
    /// # Errors
    /// [`SshError::Exists`], [`SshError::Lost`], [`SshError::Transfer`], [`SshError::Digest`], local I/O errors, and
    /// [`SshError::Local`] for archives that are refused.
    pub async fn download(
        &self,
        from: &Remote,
        to: &Path,
        limit: u64,
        task: Option<&Task<'_>>,
    ) -> Result<Moved, SshError> {
        if fs_err::symlink_metadata(to).is_ok() {
            return Err(SshError::Exists(to.to_owned()));
        }
        let stage = tempfile::Builder::new().prefix(".labimg-part.").tempdir_in(atomic::parent(to))?;
        let what = format!("the download of {}", from.path);
        let (queue, reader) = PipeReader::new();
        let inside = stage.path().join("x");
        let unpacking = tokio::task::spawn_blocking(move || unpack(reader, inside, limit));
        let full = AtomicBool::new(false);
        let seen = |n| task.into_iter().for_each(|t| t.advance(n));
        let data = Data { hasher: Hasher::new(), bytes: 0, limit, out: None, seen: &seen };
        let mut listener = Listener::new(&full, Some(data));
        let ended = self.send_back(from, &what, Drain::Queue(queue, &mut listener)).await;
        let unpacked = unpacking.await.map_err(io::Error::other)?;
        // When unpacking stops, the stream breaks: the first cause counts.
        let (exit, root) = match (ended, unpacked) {
            (Ok(exit), Ok(root)) => (exit, root),
            (Ok(exit), Err(_)) if !exit.success() => return Err(listener.failure(self, &what, &exit)),
            (Err(e), Ok(_)) => return Err(e),
            (Err(e), Err(source)) if !broken(&e) || source.kind() == io::ErrorKind::UnexpectedEof => return Err(e),
            (_, Err(source)) => return Err(SshError::Local { what, source }),
        };
        let moved = self.agreed(listener, &what, &exit)?;
        fs_err::rename(root, to)?;
        atomic::sync_dir(atomic::parent(to))?;
        Ok(moved)
    }

    /// Fetches a file or a directory as a tar archive into `out`, which has taken bytes also when this fails.
    ///
    /// # Errors
    /// Those of [`Session::download`] and of `out`.
    pub async fn download_tar(
        &self,
        from: &Remote,
        out: &mut (dyn Write + Send),
        limit: u64,
        task: Option<&Task<'_>>,
    ) -> Result<Moved, SshError> {
        let what = format!("the download of {}", from.path);
        let full = AtomicBool::new(false);
        let seen = |n| task.into_iter().for_each(|t| t.advance(n));
        let data = Data { hasher: Hasher::new(), bytes: 0, limit, out: Some(out), seen: &seen };
        let mut listener = Listener::new(&full, Some(data));
        let exit = self.send_back(from, &what, Drain::Sink(&mut listener)).await?;
        self.agreed(listener, &what, &exit)
    }

    async fn send_back(&self, from: &Remote, what: &str, drain: Drain<'_>) -> Result<Exit, SshError> {
        let (dir, name) = from.parts(self.name())?;
        let command = Command::new(send(&from.path, &dir, &name)).sudo(from.sudo.clone());
        self.drive(&command, what, stream::empty(), drain).await
    }

    /// Whether tar ended well and both sides have the same digest.
    fn agreed(&self, mut listener: Listener<'_>, what: &str, exit: &Exit) -> Result<Moved, SshError> {
        let said = String::from_utf8_lossy(&listener.stderr).into_owned();
        let there = said.lines().rev().find_map(|line| line.strip_prefix(DIGEST_MARK)).and_then(digest_in);
        if !exit.success() {
            listener.stderr =
                said.lines().filter(|l| !l.starts_with(DIGEST_MARK)).collect::<Vec<_>>().join("\n").into();
            return Err(listener.failure(self, what, exit));
        }
        let (here, bytes) = listener.data.map(|d| (d.hasher.finish(), d.bytes)).unwrap_or((Hasher::new().finish(), 0));
        if there != Some(here) {
            let there = there.map_or_else(|| "none".to_owned(), |d| d.to_string());
            let (host, what) = (self.name().to_owned(), what.to_owned());
            return Err(SshError::Digest { host, what, here: here.to_string(), there });
        }
        Ok(Moved { digest: here, bytes })
    }
}

fn broken(error: &SshError) -> bool {
    matches!(error, SshError::Local { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

/// The script that packs: a directory from inside it, anything else by its name.
fn send(path: &str, dir: &str, name: &str) -> String {
    format!(
        "{PRELUDE}if [ -d {path} ]; then cd {path} && set -- .; else cd {dir} && set -- {name}; fi || exit 1\n\
         exec 3>&1\n{{ tar -c -f - \"$@\"; echo $? > \"$t/r\"; }} | tee \"$t/f\" >&3 3>&- &\n\
         p=$!\ns=$(sum < \"$t/f\")\nwait $p || exit 1\nr=$(cat \"$t/r\")\n\
         echo {mark}\"$s\" >&2\nexit \"$r\"\n",
        path = quote(path),
        dir = quote(dir),
        name = quote(&format!("./{name}")),
        mark = quote(DIGEST_MARK),
    )
}

/// Unpacks into `dir` (made here); gives the path of what was asked for: `dir` itself, or the one file in it.
fn unpack(mut reader: PipeReader, dir: PathBuf, limit: u64) -> io::Result<PathBuf> {
    fs_err::create_dir(&dir)?;
    let root = unpack_members(&mut reader, &dir, limit);
    // An archive that ends early has no more to come; the other side says why. One that is refused is to stop.
    if root.as_ref().err().is_none_or(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
        io::copy(&mut reader, &mut io::sink())?;
    }
    root
}

fn unpack_members(reader: &mut dyn Read, dir: &Path, limit: u64) -> io::Result<PathBuf> {
    let mut archive = Untar::new(reader);
    let (mut members, mut bytes, mut root) = (0u64, 0u64, None);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let refused = |why: &str| {
            io::Error::other(format!(
                "the member `{}` is refused: {why}",
                shown::bytes(path.as_os_str().as_encoded_bytes())
            ))
        };
        members += 1;
        bytes = bytes.saturating_add(entry.size());
        if members > MEMBERS || bytes > limit {
            return Err(refused(&format!("more than {MEMBERS} members or {limit} bytes")));
        }
        if !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(refused("its path leads elsewhere"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {}
            EntryType::Directory | EntryType::Symlink | EntryType::Link => {}
            _ => return Err(refused("it is no file, directory or link")),
        }
        let first =
            if path.components().any(|c| matches!(c, Component::Normal(_))) { dir.join(&path) } else { dir.to_owned() };
        root.get_or_insert(first);
        if !entry.unpack_in(dir)? {
            return Err(refused("its path leads elsewhere"));
        }
    }
    root.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(path: &str, kind: EntryType, link: Option<&str>) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn unpacked(members: &[Vec<u8>]) -> Result<PathBuf, String> {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("x");
        fs_err::create_dir(&inside).unwrap();
        let bytes = [members.concat(), vec![0; 1024]].concat();
        unpack_members(&mut &bytes[..], &inside, 1 << 20).map_err(|e| e.to_string())
    }

    #[test]
    fn members_that_lead_elsewhere_are_refused() {
        assert!(unpacked(&[archive("./a", EntryType::Regular, None)]).unwrap().ends_with("x/a"));
        for path in ["/etc/x", "../x", "a/../../x"] {
            assert!(unpacked(&[archive(path, EntryType::Regular, None)]).unwrap_err().contains("elsewhere"), "{path}");
        }
        assert!(unpacked(&[archive("d", EntryType::Block, None)]).unwrap_err().contains("no file"));
        let through = [archive("l", EntryType::Symlink, Some("/tmp")), archive("l/x", EntryType::Regular, None)];
        assert!(unpacked(&through).is_err());
        assert!(unpacked(&[archive("h", EntryType::Link, Some("/etc/passwd"))]).is_err());
        assert!(unpacked(&[]).unwrap_err().contains("empty"));
    }
}
