//! Which user and group ids exist in a sandbox: one, or the 65536 that a Debian system needs (user_namespaces(7), "User and
//! group ID mappings").
//!
//! More than one id can only be mapped by somebody outside the new namespace who has the right to: root, or `newuidmap` and
//! `newgidmap` (their manual pages), which look into `/etc/subuid` and `/etc/subgid` (subuid(5)). The one who makes the namespace
//! has left the outside by then, so a helper that was started before waits for it.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{getegid, geteuid};

use super::Ids;
use super::init::Status;
use super::refused::{Failure, refused};

/// The first argument of the helper.
pub(super) const MAPPER: &str = "sandbox-map";
/// How many ids a sandbox with a range has: 0 to 65535, what Debian policy 9.2.2 hands out and `nobody`.
pub(super) const COUNT: u32 = 65536;
/// Where the two programs are; no environment is read here.
const PLACES: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin", "/run/wrappers/bin"];

/// The helper, waiting.
pub(super) struct Mapper(Child);

impl Mapper {
    /// Starts the helper for this process. `delegated` says that this process is an ordinary user, whose ids come from
    /// `/etc/subuid`; else its own ids are handed on.
    ///
    /// # Errors
    /// When it can not be started, or it is clear already that there is no range.
    pub(super) fn start(delegated: bool) -> Result<Self, Failure> {
        let plan = if delegated { delegated_maps()? } else { own_maps()? };
        let pid = std::process::id().to_string();
        let mut command = Command::new("/proc/self/exe");
        command.args([MAPPER, if delegated { "programs" } else { "files" }, &pid]).args(&plan).env_clear();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        child.map(Self).map_err(|e| Failure::plain(format!("can not run labimg as its own helper: {e}")))
    }

    /// Has the ids mapped: this process is in its new user namespace now.
    ///
    /// # Errors
    /// What the helper says.
    pub(super) fn map(mut self) -> Result<(), Failure> {
        let plain = |e: std::io::Error| Failure::plain(format!("can not map user ids: {e}"));
        // Closing its input is the sign.
        drop(self.0.stdin.take());
        let mut said = String::new();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_string(&mut said).map_err(plain)?;
        }
        self.0.wait().map_err(plain)?;
        match serde_json::from_str(&said) {
            Ok(Status::Code(0)) => {}
            Ok(Status::Failed { what, hint: Some(hint) }) => return Err(Failure::with(what, hint)),
            Ok(Status::Failed { what, hint: None }) => return Err(Failure::plain(what)),
            _ => return Err(Failure::plain("can not map user ids: the helper died".to_owned())),
        }
        // Groups of the one who started labimg mean nothing in here.
        rustix::thread::set_thread_groups(&[]).map_err(|e| refused("leave groups", e.into()))
    }
}

/// The helper's work: `programs|files PID UID-MAP GID-MAP`, each map as the file has it.
pub(super) fn mapper(args: &[String]) -> ExitCode {
    // Its end is the sign.
    let _ = fs_err::read("/proc/self/fd/0");
    let done = match args {
        [how, pid, uids, gids] if how == "programs" => {
            program("newuidmap", pid, uids).and_then(|()| program("newgidmap", pid, gids))
        }
        [_, pid, uids, gids] => file(pid, "uid_map", uids).and_then(|()| file(pid, "gid_map", gids)),
        _ => Err(Failure::plain("the helper was started wrongly".to_owned())),
    };
    let status = done.map_or_else(|failure| failure.status(), |()| Status::Code(0));
    let said = serde_json::to_vec(&status).unwrap_or_default();
    let _ = fs_err::OpenOptions::new().write(true).open("/proc/self/fd/1").and_then(|mut out| out.write_all(&said));
    ExitCode::SUCCESS
}

fn file(pid: &str, name: &str, map: &str) -> Result<(), Failure> {
    fs_err::write(format!("/proc/{pid}/{name}"), map).map_err(|e| refused("map user ids", e))
}

fn program(name: &str, pid: &str, map: &str) -> Result<(), Failure> {
    let path = find(name)?;
    let out = Command::new(&path).arg(pid).args(map.split_whitespace()).env_clear().output();
    let out = out.map_err(|e| Failure::plain(format!("can not run `{}`: {e}", path.display())))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(Failure::with(
        format!("`{}` did not map the ids {}: {said}", path.display(), map.trim().replace('\n', ", ")),
        format!(
            "it must be set-user-id root or have the capability for it (`ls -l {0}`; `apt-get install --reinstall uidmap`), and \
             a container around labimg must allow it",
            path.display()
        ),
    ))
}

fn find(name: &str) -> Result<PathBuf, Failure> {
    let found = PLACES.iter().map(|dir| PathBuf::from(dir).join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::with(
            format!("installing packages as an ordinary user needs `{name}`, and this machine has none"),
            "apt-get install uidmap (dnf install shadow-utils), or run labimg as root".to_owned(),
        )
    })
}

/// The maps of an ordinary user: itself as 0, and its range above.
fn delegated_maps() -> Result<[String; 2], Failure> {
    find("newuidmap")?;
    find("newgidmap")?;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let passwd = fs_err::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid);
    let map = |path: &str, own: u32| {
        let text = fs_err::read_to_string(path).unwrap_or_default();
        let start = range(&text, &name, uid).ok_or_else(|| no_range(path, &name))?;
        Ok(format!("0 {own} 1\n1 {start} {}\n", COUNT - 1))
    };
    Ok([map("/etc/subuid", uid)?, map("/etc/subgid", gid)?])
}

fn no_range(path: &str, name: &str) -> Failure {
    Failure::with(
        format!(
            "installing packages as an ordinary user needs {} further user ids, and `{path}` gives user {name} no such range",
            COUNT - 1
        ),
        format!(
            "ask whoever runs this machine for: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name} (numbers \
             that nobody else has there); or run labimg as root"
        ),
    )
}

/// The login name of a user, or its number.
fn user_name(passwd: &str, uid: u32) -> String {
    let number = uid.to_string();
    let mut lines = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let found = lines.find(|l| l.get(2) == Some(&number.as_str()));
    found.and_then(|l| l.first().map(|n| (*n).to_owned())).unwrap_or(number)
}

/// The start of the first range of a user that is long enough (subuid(5)).
fn range(text: &str, name: &str, uid: u32) -> Option<u32> {
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (start, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        ((owner == name || owner == number) && count >= COUNT - 1).then_some(start)
    })
}

/// The maps of one who is root: what it has itself.
fn own_maps() -> Result<[String; 2], Failure> {
    let map = |name: &str| {
        let path = format!("/proc/self/{name}");
        let text = fs_err::read_to_string(&path).map_err(|e| Failure::plain(e.to_string()))?;
        identity(&text).ok_or_else(|| {
            Failure::with(
                format!("installing packages needs {COUNT} user ids, and root has fewer in this namespace (`cat {path}`)"),
                "run labimg as the user outside it, or make the namespace with more: `unshare --map-root-user --map-auto`"
                    .to_owned(),
            )
        })
    };
    Ok([map("uid_map")?, map("gid_map")?])
}

/// The map that gives 0 to 65535 on as they are. An extent must lie in one extent of the namespace around it, so theirs are
/// repeated.
fn identity(own: &str) -> Option<String> {
    let mut extents = Vec::new();
    for line in own.lines() {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (start, _, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        extents.push((start, start.saturating_add(count).min(COUNT)));
    }
    extents.retain(|(start, end)| start < end);
    extents.sort_unstable();
    let covered = extents.iter().try_fold(0, |at, (start, end)| (*start == at).then_some(*end));
    let lines = || extents.iter().map(|(start, end)| format!("{start} {start} {}\n", end - start)).collect();
    (covered == Some(COUNT)).then(lines)
}

impl Ids {
    /// Whether there is more than one.
    pub(super) fn is_range(self) -> bool {
        self == Self::Range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "# c\nada:100000:65536\nada:300000:10\n1001:200000:65535\nshort:5:100\nbad:x:y\n";
        assert_eq!(range(text, "ada", 1000), Some(100_000));
        assert_eq!(range(text, "eve", 1001), Some(200_000));
        assert_eq!(range(text, "short", 1002), None);
        assert_eq!(range(text, "bad", 1003), None);
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!((user_name(passwd, 1000), user_name(passwd, 7)), ("ada".to_owned(), "7".to_owned()));
        let failure = format!("{:?}", no_range("/etc/subgid", "ada"));
        assert!(failure.contains("/etc/subgid") && failure.contains("usermod --add-subuids"), "{failure}");
    }

    #[test]
    fn a_map_is_handed_on_extent_by_extent() {
        assert_eq!(identity("         0          0 4294967295\n").unwrap(), "0 0 65536\n");
        assert_eq!(identity("0 1000 1\n1 100000 65536\n").unwrap(), "0 0 1\n1 1 65535\n");
        assert_eq!(identity("1 100000 70000\n0 1000 1\n").unwrap(), "0 0 1\n1 1 65535\n");
        for text in ["0 1000 1\n", "", "0 0 65535\n", "0 0 100\n200 200 70000\n", "x"] {
            assert_eq!(identity(text), None, "{text}");
        }
    }
}
