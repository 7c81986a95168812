//! One step on a running machine.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::disk::{DISK, INITRD, KERNEL};
use super::guest::{self, Log};
use super::session::{Session, State};
use super::vm::{CONSOLE, CORES, MEMORY};
use super::{Machine, delta};
use crate::base::report::Task;
use crate::base::shell;
use crate::build::BuildError;
use crate::build::rootfs::compose::Contents;
use crate::build::step::{Action, Cost, Input, Outputs, Run, tree_tar};
use crate::ssh::{Command, Place, Remote, Sudo};

/// Moves whenever the same step could leave other files: another environment, another machine.
const BUILDER: &str = "provision-step/2";
/// The output that is the state after a step.
const STATE: &str = "state";
/// The output that is what a step changed.
const CHANGES: &str = "changes";
/// The label of what a step puts into the machine.
const CONTENT: &str = "content";
/// Where scripts are in the machine; everybody may read them.
const SCRIPTS: &str = "/run/labimg-step";
/// Seconds that a step's clock starts after the one before it: no step takes so long, and no time is ever twice.
const APART: u64 = 86_400;
/// Seconds before it that a machine boots.
const AHEAD: u64 = 3_600;
/// Between two tries of a `wait`.
const PAUSE: Duration = Duration::from_secs(1);
/// How long labimg's own part of a step may take.
const OWN: Duration = Duration::from_secs(900);

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Runs a script by `/bin/sh -eu`.
    Run(String),
    /// Writes a file.
    File {
        /// What is in it.
        contents: Contents,
        /// Absolute path.
        to: String,
        /// Octal permission bits.
        mode: String,
        /// `user`, `user:group`, names or numbers.
        owner: String,
    },
    /// Puts a file, or all that a step left, into a directory.
    Upload {
        /// The file, or the step's output.
        contents: Contents,
        /// A file's name.
        name: Option<String>,
        /// Absolute path of the directory.
        to: String,
    },
    /// Restarts the machine.
    Reboot,
    /// Repeats a command until it succeeds.
    Wait(String),
}

/// One step of a box.
pub struct StepAction {
    /// Its name in the plan: `box m amd64 step packages`.
    pub name: String,
    /// The step that made the disk ([`super::StartDisk`]).
    pub start: String,
    /// The steps before it, in their order.
    pub before: Vec<String>,
    /// What it does.
    pub what: What,
    /// As whom, where not as root.
    pub user: Option<String>,
    /// Environment of scripts and commands.
    pub env: BTreeMap<String, String>,
    /// How long it may take.
    pub timeout: Duration,
    /// The machine.
    pub machine: Arc<Machine>,
}

/// What the step called `name` changed, for [`super::Harvest`].
pub fn after(name: &str) -> Input {
    Input::Step { step: name.to_owned(), output: CHANGES.to_owned() }
}

impl Action for StepAction {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        BUILDER
    }

    fn params(&self) -> serde_json::Value {
        json!({
            "env": self.env,
            "place": self.before.len(),
            "toolchain": self.machine.toolchain.key(),
            "user": self.user,
            "what": self.what,
        })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let of = |step: &str, output: &str| Input::Step { step: step.to_owned(), output: output.to_owned() };
        let mut all: BTreeMap<String, Input> =
            [DISK, KERNEL, INITRD].into_iter().map(|o| (o.to_owned(), of(&self.start, o))).collect();
        all.extend(self.before.iter().enumerate().map(|(i, step)| (layer(i), of(step, STATE))));
        let content = match &self.what {
            What::File { contents, .. } | What::Upload { contents, .. } => contents.input(),
            _ => None,
        };
        all.extend(content.map(|input| (CONTENT.to_owned(), input)));
        all
    }

    fn cost(&self) -> Cost {
        Cost { cores: CORES, memory: MEMORY + 128 }
    }

    fn varies(&self, output: &str) -> bool {
        output == STATE
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let task = Task::begin(run.reporter, &self.name, None);
        let state = self.state(run)?;
        let mut slot = self.machine.running.lock().unwrap_or_else(PoisonError::into_inner);
        let going = slot.take().filter(|session| session.is_at(&state.layers));
        let mut session = match going {
            Some(session) => session,
            None => Session::boot(&self.machine, run, &state, self.clock(run) - AHEAD, &task)?,
        };
        match self.perform(&mut session, run, &task) {
            Ok(made) => {
                *slot = Some(session);
                Ok(made)
            }
            Err(error) => {
                session.keep_console(&run.scratch.join(CONSOLE));
                if let Some(hook) = &self.machine.on_failure {
                    task.say("waits for who looks into it");
                    // That it can not be opened must not hide why the step failed.
                    if let Err(closed) = session.open_to(hook, &self.name, &error.to_string()) {
                        run.reporter.note(&format!("{} can not be opened: {closed}", self.machine.name));
                    }
                }
                Err(error)
            }
        }
    }

    fn look_inside(&self, scratch: &Path) -> Option<String> {
        Some(format!("less {} {}", shell::word(&scratch.join("log")), shell::word(&scratch.join(CONSOLE))))
    }
}

impl StepAction {
    fn state<'r>(&self, run: &'r Run<'_>) -> Result<State<'r>, BuildError> {
        let input = |label: &str| {
            let found = run.inputs.get(label);
            found.ok_or_else(|| BuildError::Internal(format!("{}: no input `{label}`", self.name)))
        };
        let mut layers = vec![input(DISK)?];
        for i in 0..self.before.len() {
            layers.push(input(&layer(i))?);
        }
        Ok(State { layers, kernel: input(KERNEL)?, initrd: input(INITRD)? })
    }

    /// When it starts, by the machine's clock.
    fn clock(&self, run: &Run<'_>) -> u64 {
        run.epoch.saturating_add(APART * (self.before.len() as u64 + 1))
    }

    fn perform(&self, session: &mut Session, run: &Run<'_>, task: &Task<'_>) -> Result<Outputs, BuildError> {
        let clock = self.clock(run);
        session.run(&guest::begin(clock), OWN)?;
        task.say("runs");
        self.act(session, run, clock, task)?;
        task.say("looks for what changed");
        let changes = delta::collect(session, run, clock, self.machine.disk.bytes(), &self.name)?;
        session.run(&guest::tidy(), OWN)?;
        let state = session.snapshot(run)?;
        Ok(Outputs::from([(CHANGES.to_owned(), changes), (STATE.to_owned(), state)]))
    }

    fn act(&self, session: &mut Session, run: &Run<'_>, clock: u64, task: &Task<'_>) -> Result<(), BuildError> {
        match &self.what {
            What::Run(script) => {
                self.send(session, script)?;
                let line = format!("cd ~ 2> /dev/null || cd /; exec /bin/sh -eu {SCRIPTS}/script");
                self.command(session, run, line, &told(script))
            }
            What::Wait(script) => self.wait(session, run, script),
            What::Reboot => {
                session.run(&guest::keep(), OWN)?;
                session.reboot(run, clock + AHEAD, self.timeout, task)?;
                session.run(&guest::kept(), OWN).map(drop)
            }
            What::File { contents, to, mode, owner } => {
                let from = content(contents, run)?;
                self.upload(session, &from, to, Place::Into)?;
                let to = shell::word(Path::new(to));
                let (mode, owner) = (shell::word(Path::new(mode)), shell::word(Path::new(owner)));
                session.run(&format!("set -e; chown -h -- {owner} {to}; chmod -- {mode} {to}"), OWN).map(drop)
            }
            What::Upload { contents, name, to } => {
                let from = content(contents, run)?;
                match name {
                    Some(name) => {
                        self.upload(session, &from, &format!("{}/{name}", to.trim_end_matches('/')), Place::Into)
                    }
                    None => self.upload(session, &from, to, Place::Into),
                }
            }
        }
    }

    /// Puts a script where everybody can read it.
    fn send(&self, session: &Session, script: &str) -> Result<(), BuildError> {
        let line = format!("umask 022; mkdir -p {SCRIPTS} && cat > {SCRIPTS}/script");
        let command = Command::new(line);
        let script = script.to_owned().into_bytes();
        let mut said = crate::ssh::Collect::up_to(4096);
        let sent = session.within(OWN, async |ssh| ssh.exec(&command, Cursor::new(script), &mut said).await)?;
        match sent.map_err(|e| session.broken(&e))? {
            exit if exit.success() => Ok(()),
            exit => Err(session.failed("the script", &exit.to_string(), &String::from_utf8_lossy(&said.stderr))),
        }
    }

    /// A command of the step's, as its user, with its environment.
    fn as_user(&self, line: String, epoch: u64) -> Command {
        let fixed = [("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("DEBIAN_FRONTEND", "noninteractive")];
        let mut command = Command::new(line).env("SOURCE_DATE_EPOCH", epoch.to_string());
        for (name, value) in fixed {
            command = command.env(name, value);
        }
        for (name, value) in &self.env {
            command = command.env(name, value);
        }
        let other = self.user.as_ref().filter(|u| *u != "root");
        command.sudo(other.map(|user| Sudo { user: user.clone(), password: None }))
    }

    fn command(&self, session: &Session, run: &Run<'_>, line: String, told: &str) -> Result<(), BuildError> {
        let mut log = self.log(run)?;
        let command = self.as_user(line, run.epoch);
        let ended = session.within(self.timeout, async |ssh| ssh.exec(&command, tokio::io::empty(), &mut log).await);
        let exit = match ended {
            Ok(ended) => ended.map_err(|e| session.failed(told, &e.to_string(), &log.tail()))?,
            // Out of time.
            Err(BuildError::Program { ended, .. }) => return Err(session.failed(told, &ended, &log.tail())),
            Err(e) => return Err(e),
        };
        if exit.success() { Ok(()) } else { Err(session.failed(told, &exit.to_string(), &log.tail())) }
    }

    fn wait(&self, session: &Session, run: &Run<'_>, script: &str) -> Result<(), BuildError> {
        let start = Instant::now();
        let mut log = self.log(run)?;
        let command = self.as_user(format!("cd /; {script}"), run.epoch);
        loop {
            let left = self.timeout.saturating_sub(start.elapsed()).max(PAUSE);
            let tried = session.within(left, async |ssh| ssh.exec(&command, tokio::io::empty(), &mut log).await);
            let late = |how: &str| {
                let ended = format!("{how}; waited {} s for it", self.timeout.as_secs_f32());
                session.failed(&told(script), &ended, &log.tail())
            };
            let exit = match tried {
                Ok(ended) => ended.map_err(|e| session.broken(&e))?,
                Err(BuildError::Program { .. }) => return Err(late("it did not end")),
                Err(e) => return Err(e),
            };
            if exit.success() {
                return Ok(());
            }
            if start.elapsed() + PAUSE > self.timeout {
                return Err(late(&exit.to_string()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn upload(&self, session: &Session, from: &Path, to: &str, place: Place) -> Result<(), BuildError> {
        let remote = Remote::new(to);
        let done = session.within(self.timeout, async |ssh| ssh.upload(from, &remote, place, None).await)?;
        done.map(drop).map_err(|e| session.broken(&e))
    }

    fn log(&self, run: &Run<'_>) -> Result<Log, BuildError> {
        let path = run.scratch.join("log");
        Log::open(&path).map_err(|e| BuildError::io(&path, "write", e))
    }
}

/// The file or directory that contents are, in the scratch directory.
fn content(contents: &Contents, run: &Run<'_>) -> Result<PathBuf, BuildError> {
    let at = run.scratch.join(CONTENT);
    let input = || {
        let found = run.inputs.get(CONTENT);
        found.ok_or_else(|| BuildError::Internal("a step without its content".to_owned()))
    };
    match contents {
        Contents::Text(text) => fs_err::write(&at, text).map_err(|e| BuildError::io(&at, "write", e))?,
        Contents::Blob { .. } | Contents::Output { .. } => tree_tar::place(run.store, input()?, &at, run.epoch)?,
        Contents::Member { step, path, .. } => {
            tree_tar::unpack(run.store, input()?, &at, run.epoch)?;
            let inside = at.join(path);
            if fs_err::symlink_metadata(&inside).is_err() {
                return Err(BuildError::user(
                    format!("{step} left no `{path}` in /out"),
                    "write `from` as `step:NAME/path`",
                ));
            }
            return Ok(inside);
        }
    }
    Ok(at)
}

/// A script in a message: its first line that is no comment.
fn told(script: &str) -> String {
    let said = |l: &&str| !l.is_empty() && !l.starts_with('#');
    let mut lines = script.lines().map(str::trim).filter(said);
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("`{first} …`") } else { format!("`{first}`") }
}

/// The label of the state after the step at place `i`.
fn layer(i: usize) -> String {
    format!("state {:03}", i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::disk::DiskSpec;
    use crate::build::step::key::KeyDocument;
    use crate::build::toolchain::Toolchain;
    use crate::model::platform::Platform;
    use crate::model::profile::{Boot, Compression, Table};

    fn step(what: What) -> StepAction {
        let disk = DiskSpec {
            size: 2,
            boot: Boot::Bios,
            table: Table::Mbr,
            compression: Compression::None,
            platform: Platform::LinuxAmd64,
            seed: "lab/m".to_owned(),
        };
        let toolchain = Arc::new(Toolchain::new(&[], |_, _| Ok(())));
        StepAction {
            name: "box m step x".to_owned(),
            start: "box m disk".to_owned(),
            before: vec!["box m step a".to_owned()],
            what,
            user: None,
            env: BTreeMap::new(),
            timeout: Duration::from_secs(1),
            machine: Arc::new(Machine::new("box m".to_owned(), disk, toolchain, "labimg".into())),
        }
    }

    #[test]
    fn a_step_is_known_by_what_it_does_and_where_it_stands() {
        let key = |step: &StepAction| KeyDocument::of(step, BTreeMap::new(), 7).key();
        let of = |what: What| key(&step(what));
        let base = of(What::Run("a".to_owned()));
        assert_eq!(key(&StepAction { timeout: OWN, ..step(What::Run("a".to_owned())) }), base, "it makes the same");
        let others = [
            of(What::Run("b".to_owned())),
            of(What::Wait("a".to_owned())),
            of(What::Reboot),
            key(&StepAction { user: Some("ada".to_owned()), ..step(What::Run("a".to_owned())) }),
            key(&StepAction { before: Vec::new(), ..step(What::Run("a".to_owned())) }),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn a_step_reads_the_disk_and_every_state_before_it() {
        let contents = Contents::Member { step: "step made".to_owned(), output: "out".to_owned(), path: String::new() };
        let step = step(What::Upload { contents, name: None, to: "/srv".to_owned() });
        let labels: Vec<String> = step.inputs().into_keys().collect();
        assert_eq!(labels, ["content", "disk", "initrd", "kernel", "state 001"]);
        assert!(step.varies(STATE) && !step.varies(CHANGES));
        assert_eq!(told("# c\n\n first\nsecond"), "`first …`");
    }
}
