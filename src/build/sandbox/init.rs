//! The two helper processes of a sandbox: labimg itself under the names `sandbox-init` and `sandbox-init2`.
//!
//! Both have one thread and do nothing before their namespaces are made (user_namespaces(7), "unshare"; a process with more
//! threads may not). The first stays outside the new process namespace, waits for the second and ends as it; the second is
//! process 1 in there.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior, set_parent_process_death_signal,
};
use serde::{Deserialize, Serialize};

use super::ids::{self, Mapper};
use super::refused::{Failure, refused};
use super::{HOSTNAME, Ids, STATUS, Spec, mounts};

/// The first argument of the outer helper.
pub const OUTER: &str = "sandbox-init";
/// The first argument of process 1.
const INNER: &str = "sandbox-init2";

/// How a sandbox came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// The program's exit code.
    Code(i32),
    /// The signal that killed it.
    Signal(i32),
    /// The sandbox could not be made.
    Failed {
        /// What failed.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// Does the helpers' work when these arguments (the first is the program's name) are theirs. To be called first thing in
/// `main`, before any thread is started.
pub fn init(args: &[OsString]) -> Option<ExitCode> {
    let spec = || args.get(2).map(Path::new);
    match args.get(1)?.to_str()? {
        OUTER => Some(outer(spec()?, args.get(3)?.to_str()?.parse().ok()?)),
        INNER => Some(inner(spec()?)),
        ids::MAPPER => {
            let rest = args.get(2..)?.iter().map(|a| a.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
            Some(ids::mapper(&rest))
        }
        _ => None,
    }
}

/// Makes the namespaces and runs process 1.
fn outer(path: &Path, parent: i32) -> ExitCode {
    close_inherited();
    told(path, || {
        die_with_parent()?;
        // It may have died before we asked to be told; then somebody else is our parent.
        if rustix::process::getppid() != Pid::from_raw(parent) {
            return Ok(ExitCode::FAILURE);
        }
        let file = fs_err::File::open(path).map_err(|e| Failure::plain(e.to_string()))?;
        // Process 1 can not see who its parent is: it sees that somebody holds this lock.
        file.file().lock().map_err(|e| Failure::plain(format!("can not lock `{}`: {e}", path.display())))?;
        let spec: Spec = serde_json::from_reader(&file).map_err(|e| Failure::plain(e.to_string()))?;
        namespaces(&spec)?;
        // Changed credentials may have undone it.
        die_with_parent()?;
        let mut command = Command::new("/proc/self/exe");
        let status = command.arg(INNER).arg(path).env_clear().status();
        let status = status.map_err(|e| Failure::plain(format!("can not run labimg as its own helper: {e}")))?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Everything new but the user, where we are root: a user namespace comes last, in [`lock_mounts`]; it has no power over paths
/// that belong to other users, and root's own may lead through them. Others need it first to be allowed to do the rest.
fn namespaces(spec: &Spec) -> Result<(), Failure> {
    let network = if spec.vm { CloneFlags::empty() } else { CloneFlags::CLONE_NEWNET };
    let rest = network
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        // Groups of the shell that labimg was started from; others can not let go of theirs.
        let _ = rustix::thread::set_thread_groups(&[]);
        if unshare(rest).is_ok() {
            return Ok(());
        }
    }
    let mapper = spec.ids.is_range().then(|| Mapper::start(!uid.is_root())).transpose()?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| refused("make a user namespace", e.into()))?;
    match mapper {
        Some(mapper) => mapper.map()?,
        None => map_ids(uid.as_raw(), gid.as_raw())?,
    }
    unshare(rest).map_err(|e| refused("make namespaces", e.into()))
}

/// Inside, the user is 0 and there is no other.
fn map_ids(uid: u32, gid: u32) -> Result<(), Failure> {
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        fs_err::write(format!("/proc/self/{file}"), text).map_err(|e| refused("map user ids", e))?;
    }
    Ok(())
}

/// Process 1: mounts, locks the mounts, runs the program, and ends with it.
fn inner(path: &Path) -> ExitCode {
    told(path, || {
        die_with_parent()?;
        let file = fs_err::File::open(path).map_err(|e| Failure::plain(e.to_string()))?;
        if file.file().try_lock().is_ok() {
            return Ok(ExitCode::FAILURE);
        }
        let spec: Spec = serde_json::from_reader(&file).map_err(|e| Failure::plain(e.to_string()))?;
        let mut status = fs_err::File::create(spec.scratch.join(STATUS)).map_err(|e| Failure::plain(e.to_string()))?;
        rustix::system::sethostname(HOSTNAME.as_bytes()).map_err(|e| refused("set the hostname", e.into()))?;
        rustix::system::setdomainname(b"(none)").map_err(|e| refused("set the domain name", e.into()))?;
        mounts::enter(&spec)?;
        let ended = lock_mounts(spec.ids).and_then(|()| program(&spec));
        let ended = ended.unwrap_or_else(|failure| failure.status());
        let text = serde_json::to_vec(&ended).unwrap_or_default();
        let written = status.write_all(&text).is_ok();
        Ok(if written { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// One more user and mount namespace: mounts that come from a more powerful one can neither be undone nor made writable in it
/// (mount_namespaces(7), "Restrictions on mount namespaces").
fn lock_mounts(ids: Ids) -> Result<(), Failure> {
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let mapper = ids.is_range().then(|| Mapper::start(false)).transpose()?;
    unshare(namespaces).map_err(|e| refused("make a user namespace", e.into()))?;
    match mapper {
        Some(mapper) => mapper.map()?,
        None => map_ids(0, 0)?,
    }
    die_with_parent()?;
    // The program can not look at process 1: neither its open files nor labimg itself.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| refused("hide process 1", e.into()))
}

fn program(spec: &Spec) -> Result<Status, Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::thread::set_no_new_privs(true).map_err(|e| refused("give up privileges", e.into()))?;
    let (name, args) = spec.argv.split_first().ok_or_else(|| Failure::plain("there is nothing to run".to_owned()))?;
    let spawned = Command::new(name).args(args).env_clear().envs(spec.environment()).current_dir("/tmp").spawn();
    let child = spawned.map_err(|e| Failure::plain(format!("can not run `{name}` of the toolchain: {e}")))?;
    let child = Pid::from_child(&child);
    loop {
        // Orphans come to process 1.
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let code = status.exit_status().map(Status::Code);
                let ended = code.or_else(|| status.terminating_signal().map(Status::Signal));
                if let Some(ended) = ended {
                    return Ok(ended);
                }
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::plain(format!("can not wait for `{name}`: {e}"))),
        }
    }
}

fn die_with_parent() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| refused("ask to die with labimg", e.into()))
}

/// Files that labimg was started with and that do not close by themselves.
fn close_inherited() {
    let number = |e: fs_err::DirEntry| e.file_name().to_str()?.parse::<i32>().ok();
    let listed = fs_err::read_dir("/proc/self/fd");
    // Entries hold the directory open: numbers first, so that it is closed before anything else is.
    let numbers: Vec<i32> =
        listed.map(|d| d.filter_map(Result::ok).filter_map(number).filter(|n| *n > 2).collect()).unwrap_or_default();
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
}

/// Does `work`; its failure goes into the status file.
fn told(spec: &Path, work: impl FnOnce() -> Result<ExitCode, Failure>) -> ExitCode {
    work().unwrap_or_else(|failure| {
        let text = serde_json::to_vec(&failure.status()).unwrap_or_default();
        let status = spec.with_file_name(STATUS);
        let _ = fs_err::write(status, text);
        ExitCode::FAILURE
    })
}
