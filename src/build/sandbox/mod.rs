//! Runs a program with nothing to see but a tree of programs and its inputs: no network, no host files, no other processes.
//!
//! ```text
//! /            tmpfs, read-only; every name at the top of the toolchain tree bound into it, read-only
//! /in/<name>   inputs, read-only
//! /out, /tmp   the scratch directory's `out` and `tmp`, writable
//! /dev, /proc  null, zero, full, random, urandom, shm; of the program's own processes, kernel settings read-only
//! ```
//!
//! Namespaces are made by a process with one thread, as the kernel asks: labimg runs itself as `sandbox-init` (module
//! `init`), which makes them and runs itself again as process 1 of the new process namespace; that one mounts, locks the
//! mounts by one more user namespace, and runs the program as its child. When it ends, whatever is left in there is killed by
//! the kernel; it ends with labimg. Mounts live in a mount namespace of their own: none is ever left behind.
//!
//! The user is 0 inside, as root and as an ordinary user, and no other id exists: what works as one works as the other. What
//! installs packages needs more: [`Ids::Range`].

mod child;
mod ids;
pub mod init;
mod mounts;
mod refused;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::build::BuildError;

/// The one hostname programs see.
pub const HOSTNAME: &str = "labimg";
/// Where programs are looked for in the tree.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The file in a scratch directory that holds what a program said.
pub const LOG: &str = "log";
/// The file in a scratch directory that says what was run.
const SPEC: &str = "sandbox.json";
/// The file that process 1 writes how it ended to.
const STATUS: &str = "status.json";
/// Where the new root is put together.
const ROOT: &str = "root";

/// What to run, and what it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The toolchain tree.
    pub tree: PathBuf,
    /// Files and directories that stand in `/in`, by name.
    pub inputs: BTreeMap<String, PathBuf>,
    /// A directory for `/out`, `/tmp`, the log and this file.
    pub scratch: PathBuf,
    /// Program and arguments; a name without `/` is looked for in [`PATH`].
    pub argv: Vec<String>,
    /// Environment beside the fixed one; it may not replace that.
    pub env: BTreeMap<String, String>,
    /// `SOURCE_DATE_EPOCH`, seconds since 1970.
    pub epoch: u64,
    /// `LABIMG_CORES`.
    pub cores: usize,
    /// User and group ids that exist.
    #[serde(default)]
    pub ids: Ids,
    /// Whether it runs a virtual machine: it has the network of this machine, for a port of the loopback interface leads into
    /// the virtual one, and `/dev/kvm` where that is there.
    #[serde(default)]
    pub vm: bool,
}

/// Which user and group ids exist in a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// 0 alone.
    #[default]
    One,
    /// 0 to 65535: root has them; an ordinary user needs a range in `/etc/subuid` and `/etc/subgid`, and `newuidmap`.
    Range,
}

/// When to stop a program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stop<'a> {
    /// After this time.
    pub timeout: Option<Duration>,
    /// As soon as this is true.
    pub cancel: Option<&'a AtomicBool>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was stopped after this time.
    TimedOut(Duration),
    /// It was stopped because nobody wants it any more.
    Cancelled,
}

/// A program that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// The last 64 KiB of what it said on standard output and standard error; all of it is in [`LOG`] (up to 64 MiB).
    pub output: String,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut(after) => write!(f, "stopped after {after:?}"),
            Self::Cancelled => f.write_str("stopped"),
        }
    }
}

impl Spec {
    /// The directory that is `/out`.
    pub fn out(&self) -> PathBuf {
        self.scratch.join("out")
    }

    /// The directory that is `/tmp`.
    pub fn tmp(&self) -> PathBuf {
        self.scratch.join("tmp")
    }

    /// What was run in a scratch directory that was kept: to run something else with the same inputs.
    ///
    /// # Errors
    /// When nothing was run there, or the file can not be read.
    pub fn load(scratch: &Path) -> Result<Self, BuildError> {
        let path = scratch.join(SPEC);
        let text = fs_err::read_to_string(&path).map_err(|e| BuildError::io(&path, "read", e))?;
        serde_json::from_str(&text).map_err(|e| BuildError::bad(path.display().to_string(), e.to_string()))
    }

    /// The whole environment.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.env.clone();
        let fixed = [("PATH", PATH), ("HOME", "/tmp"), ("TZ", "UTC"), ("LC_ALL", "C.UTF-8")];
        all.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        all.insert("SOURCE_DATE_EPOCH".to_owned(), self.epoch.to_string());
        all.insert("LABIMG_CORES".to_owned(), self.cores.to_string());
        all
    }

    /// Makes the directories and writes the file that the helper reads.
    fn prepare(&self) -> Result<PathBuf, BuildError> {
        self.inputs.keys().try_for_each(|name| check_name(name))?;
        for dir in [self.out(), self.tmp(), self.scratch.join(ROOT)] {
            fs_err::create_dir_all(&dir).map_err(|e| BuildError::io(&dir, "create", e))?;
        }
        let path = self.scratch.join(SPEC);
        let text = serde_json::to_vec(self).map_err(|e| BuildError::Internal(e.to_string()))?;
        fs_err::write(&path, text).map_err(|e| BuildError::io(&path, "write", e))?;
        Ok(path)
    }
}

/// Whether something in `/in` may be called `name`.
///
/// # Errors
/// A name that is no single file name.
pub fn check_name(name: &str) -> Result<(), BuildError> {
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(BuildError::user(
            format!("`{name}` can not be an input's name"),
            "use letters, digits, `.` and `-`",
        ));
    }
    Ok(())
}

/// Runs a program without input; what it says goes to the log. `helper` is labimg itself. The scratch directory's path must
/// be absolute, as all paths in `spec`.
///
/// # Errors
/// A machine that lets nobody make namespaces, a tree or input that is not there, a program that can not be started. A program
/// that ends badly is no error.
pub fn run(helper: &Path, spec: &Spec, stop: Stop<'_>) -> Result<Ended, BuildError> {
    let file = spec.prepare()?;
    let (exit, output) = child::run(helper, &file, &spec.scratch, stop)?;
    Ok(Ended { exit, output })
}

/// Runs a program for a person, who types and sees what it says.
///
/// # Errors
/// As [`run`].
pub fn exec(helper: &Path, spec: &Spec) -> Result<Exit, BuildError> {
    let file = spec.prepare()?;
    let mut child =
        child::command(helper, &file).stdin(Stdio::inherit()).spawn().map_err(|e| BuildError::io(helper, "run", e))?;
    child.wait().map_err(|e| BuildError::io(helper, "wait for", e))?;
    child::exit(&spec.scratch, "")
}
