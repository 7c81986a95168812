//! A machine that runs, and what is known of it: from the boot for one step to the end of the last one that follows in the same
//! build.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::OpenOptionsExt;
use tokio::runtime::Runtime;

use super::accel::Accel;
use super::guest::{self, printable};
use super::vm::{CONSOLE, HOST_KEY, Setup, Vm};
use crate::base::digest::Digest;
use crate::base::report::Task;
use crate::build::BuildError;
use crate::build::disk::DiskSpec;
use crate::build::step::{Output, Run};
use crate::build::toolchain::Toolchain;
use crate::ssh::{self, Command, Hop, HostKeys, Identity, SshError, SshKind, Target, Timeouts};

/// How long a machine may take from power on to its SSH server, and to the end of its boot, where a step does not say.
const BOOT: Duration = Duration::from_secs(600);
/// How long it may take to switch itself off.
const OFF: Duration = Duration::from_secs(180);
/// Bytes of the console that an error looks at.
const TAIL: usize = 8192;
const TICK: Duration = Duration::from_millis(50);

/// What all steps of one box have in common, the running machine above all.
pub struct Machine {
    /// What messages call it: `box m`.
    pub name: String,
    /// Its disk.
    pub disk: DiskSpec,
    /// The programs.
    pub toolchain: Arc<Toolchain>,
    /// labimg itself, which makes the sandbox.
    pub helper: PathBuf,
    /// Told of a machine whose step failed, before it is switched off.
    pub on_failure: Option<OnFailure>,
    pub(super) running: Mutex<Option<Session>>,
    accel: OnceLock<Accel>,
}

/// Somebody who wants to look into a machine: it is switched off when this returns.
#[derive(Clone)]
pub struct OnFailure(pub Arc<dyn Fn(&Opened) + Send + Sync>);

impl std::fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFailure(…)")
    }
}

/// A machine that somebody may look into.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The step that failed.
    pub step: String,
    /// Why, for people.
    pub why: String,
    /// The port of the loopback interface where its SSH server is; the user is root.
    pub port: u16,
    /// The private key that may log in, a file for its owner alone.
    pub key: PathBuf,
    /// A `known_hosts` file with its host key.
    pub known_hosts: PathBuf,
    /// What its serial console says.
    pub console: PathBuf,
}

impl Machine {
    /// A machine that does not run yet.
    pub fn new(name: String, disk: DiskSpec, toolchain: Arc<Toolchain>, helper: PathBuf) -> Self {
        let (running, accel) = (Mutex::new(None), OnceLock::new());
        Self { name, disk, toolchain, helper, on_failure: None, running, accel }
    }

    /// Switches it off.
    pub(super) fn off(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn accel(&self, programs: &Path, dir: &Path, run: &Run<'_>) -> Result<Accel, BuildError> {
        if let Some(known) = self.accel.get() {
            return Ok(*known);
        }
        let found = Accel::probe(&self.helper, programs, dir.join("kvm"))?;
        if found == Accel::Tcg {
            run.reporter.note(&format!("{}: KVM runs no guest here; its steps run about ten times slower", self.name));
        }
        Ok(*self.accel.get_or_init(|| found))
    }
}

/// What a machine starts from.
pub(super) struct State<'a> {
    /// The disk and the overlays on it, lowest first.
    pub(super) layers: Vec<&'a Output>,
    /// The kernel.
    pub(super) kernel: &'a Output,
    /// The initial ramdisk.
    pub(super) initrd: &'a Output,
}

/// A machine that runs, and whom we are logged in to.
pub(super) struct Session {
    vm: Option<Vm>,
    pub(super) ssh: Option<ssh::Session>,
    runtime: Option<Runtime>,
    /// What the top overlay stands on.
    layers: Vec<Digest>,
    boot: Boot,
    name: String,
    /// Removed at the end, after QEMU is gone.
    dir: tempfile::TempDir,
}

/// What a machine boots with, for the next time.
struct Boot {
    helper: PathBuf,
    programs: PathBuf,
    epoch: u64,
    accel: Accel,
    kernel: PathBuf,
    initrd: PathBuf,
    root_uuid: String,
    bytes: u64,
    mac: String,
    identity: Identity,
    key: String,
}

impl Session {
    /// Starts a machine from `state`, its clock at `clock`, and logs in.
    ///
    /// # Errors
    /// A QEMU that can not be started, a machine that does not come so far: with the end of its console.
    pub(super) fn boot(
        machine: &Machine,
        run: &Run<'_>,
        state: &State<'_>,
        clock: u64,
        task: &Task<'_>,
    ) -> Result<Self, BuildError> {
        let above = crate::base::atomic::parent(run.scratch);
        let dir = tempfile::Builder::new().prefix("machine-").tempdir_in(above);
        let dir = dir.map_err(|e| BuildError::io(above, "create a directory in", e))?;
        let programs = machine.toolchain.tree(run.store, run.reporter)?;
        let accel = machine.accel(&programs, dir.path(), run)?;
        let (identity, line) = Identity::fresh().map_err(|e| BuildError::Internal(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let boot = Boot {
            helper: machine.helper.clone(),
            programs,
            epoch: run.epoch,
            accel,
            kernel: run.store.blob_path(&state.kernel.digest),
            initrd: run.store.blob_path(&state.initrd.digest),
            root_uuid: machine.disk.root_uuid(),
            bytes: machine.disk.bytes(),
            mac: colons(&machine.disk.seed().mac("steps")),
            identity,
            key: line.split_whitespace().nth(1).unwrap_or_default().to_owned(),
        };
        let mut session = Self {
            vm: None,
            ssh: None,
            runtime: Some(runtime.map_err(|e| BuildError::Internal(format!("no runtime: {e}")))?),
            layers: state.layers.iter().map(|o| o.digest).collect(),
            boot,
            name: machine.name.clone(),
            dir,
        };
        match session.power_on(run, 0, clock, BOOT, task) {
            Ok(()) => Ok(session),
            Err(error) => {
                session.keep_console(&run.scratch.join(CONSOLE));
                Err(error)
            }
        }
    }

    /// Whether it is there and has this state.
    pub(super) fn is_at(&self, layers: &[&Output]) -> bool {
        let alive = self.vm.as_ref().is_some_and(Vm::is_running) && self.ssh.as_ref().is_some_and(|s| !s.is_closed());
        alive && self.layers.iter().eq(layers.iter().map(|o| &o.digest))
    }

    /// Ends the overlay that is written to, stores it, and goes on from there.
    ///
    /// # Errors
    /// QEMU's, and the store's.
    pub(super) fn snapshot(&mut self, run: &Run<'_>) -> Result<Output, BuildError> {
        let vm = self.vm.as_mut().ok_or_else(|| BuildError::Internal("a machine that is off".to_owned()))?;
        let path = vm.snapshot()?;
        let file = fs_err::File::open(&path).map_err(|e| BuildError::io(&path, "open", e))?;
        let made = super::disk::stored(run.store.put_reader(file, None, "a snapshot of a machine")?);
        self.layers.push(made.digest);
        Ok(made)
    }

    /// Has the machine switch itself off, and starts it again with its clock at `clock`; it may take `within` to come back.
    ///
    /// # Errors
    /// A machine that does not go down, or does not come back.
    pub(super) fn reboot(
        &mut self,
        run: &Run<'_>,
        clock: u64,
        within: Duration,
        task: &Task<'_>,
    ) -> Result<(), BuildError> {
        task.say("goes down");
        // The connection breaks in the middle, as it should.
        let _ = self.run("systemctl --no-block reboot", Duration::from_secs(60));
        self.ssh = None;
        let Some(mut vm) = self.vm.take() else { return Ok(()) };
        let top = vm.top();
        if !vm.wait_off(OFF) {
            self.vm = Some(vm);
            return Err(self.failed(
                "the reboot",
                &format!("the machine did not go down within {} s", OFF.as_secs()),
                "",
            ));
        }
        drop(vm);
        self.power_on(run, top, clock, within, task)
    }

    /// Runs a command of ours as root, for at most `within`; what it says.
    ///
    /// # Errors
    /// A connection that breaks, a command that fails.
    pub(super) fn run(&self, line: &str, within: Duration) -> Result<Vec<u8>, BuildError> {
        let command = Command::new(line);
        let ran = self.within(within, async |ssh| ssh.run(&command, guest::LIMIT).await)?;
        let out = ran.map_err(|e| self.broken(&e))?;
        match out.exit.success() {
            true => Ok(out.stdout),
            false => Err(self.failed(
                "a command of labimg's own",
                &out.exit.to_string(),
                &String::from_utf8_lossy(&out.stderr),
            )),
        }
    }

    /// Waits for what `work` does with the connection.
    ///
    /// # Errors
    /// That it took longer than `limit`.
    pub(super) fn within<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&ssh::Session) -> T,
    ) -> Result<T, BuildError> {
        let (Some(runtime), Some(ssh)) = (&self.runtime, &self.ssh) else {
            return Err(BuildError::Internal(format!("{} is off", self.name)));
        };
        let done = runtime.block_on(async { tokio::time::timeout(limit, work(ssh)).await });
        done.map_err(|_| self.failed("the machine", &format!("no end after {} s", limit.as_secs_f32()), ""))
    }

    /// An error with the end of the console.
    pub(super) fn failed(&self, command: &str, ended: &str, said: &str) -> BuildError {
        let console = guest::last_words(&self.console(), 12);
        let said = guest::last_lines(said, 16);
        let between = if said.is_empty() { "" } else { "\n" };
        let output = format!("{said}{between}--- the machine's serial console:\n{console}");
        BuildError::Program { command: command.to_owned(), ended: ended.to_owned(), output }
    }

    /// An error of the connection.
    pub(super) fn broken(&self, error: &SshError) -> BuildError {
        if error.kind() == SshKind::Mismatch {
            return BuildError::Mismatch { what: self.name.clone(), why: error.to_string() };
        }
        self.failed(&self.name, &error.to_string(), "")
    }

    /// The end of what the serial console says.
    pub(super) fn console(&self) -> String {
        let all = fs_err::read(self.out(CONSOLE)).unwrap_or_default();
        printable(all.get(all.len().saturating_sub(TAIL)..).unwrap_or_default())
    }

    /// Copies the whole console to `to`.
    pub(super) fn keep_console(&self, to: &Path) {
        // For people who look into a failed step; that it can not be had changes nothing.
        let _ = fs_err::copy(self.out(CONSOLE), to);
    }

    /// Lets somebody look into it.
    pub(super) fn open_to(&self, hook: &OnFailure, step: &str, why: &str) -> std::io::Result<()> {
        let (Some(vm), Identity::Text(secret)) = (&self.vm, &self.boot.identity) else {
            return Err(std::io::Error::other("it is off"));
        };
        let line = fs_err::read_to_string(self.out(HOST_KEY)).unwrap_or_default();
        if !vm.is_running() || line.trim().is_empty() {
            return Err(std::io::Error::other("its SSH server does not run"));
        }
        let key = self.dir.path().join("key");
        let mut file = fs_err::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&key)?;
        file.write_all(secret.expose().as_bytes())?;
        let known_hosts = self.dir.path().join("known_hosts");
        fs_err::write(&known_hosts, format!("[127.0.0.1]:{} {}\n", vm.port, line.trim()))?;
        let console = self.out(CONSOLE);
        (hook.0)(&Opened { step: step.to_owned(), why: why.to_owned(), port: vm.port, key, known_hosts, console });
        Ok(())
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    fn power_on(
        &mut self,
        run: &Run<'_>,
        top: usize,
        clock: u64,
        within: Duration,
        task: &Task<'_>,
    ) -> Result<(), BuildError> {
        task.say("boots");
        let start = Instant::now();
        let layers: Vec<PathBuf> = self.layers.iter().map(|d| run.store.blob_path(d)).collect();
        let boot = &self.boot;
        let setup = Setup {
            helper: &boot.helper,
            programs: &boot.programs,
            epoch: boot.epoch,
            accel: boot.accel,
            kernel: &boot.kernel,
            initrd: &boot.initrd,
            root_uuid: &boot.root_uuid,
            layers: &layers,
            bytes: boot.bytes,
            key: &boot.key,
            clock,
            mac: &boot.mac,
        };
        let vm = Vm::start(self.dir.path(), &setup, top)?;
        let port = vm.port;
        self.vm = Some(vm);
        let key = self.host_key(start, within)?;
        let target = self.target(port, key);
        let left = within.saturating_sub(start.elapsed());
        let Some(runtime) = &self.runtime else { return Err(BuildError::Internal("no runtime".to_owned())) };
        let ssh = runtime.block_on(ssh::connect_within(&target, left, Some(task))).map_err(|e| self.broken(&e))?;
        self.ssh = Some(ssh);
        // A unit that failed is for the step to find out.
        self.run("systemctl is-system-running --wait || true", within)?;
        Ok(())
    }

    /// The key of the machine's SSH server, from the machine itself.
    fn host_key(&self, start: Instant, within: Duration) -> Result<String, BuildError> {
        let path = self.out(HOST_KEY);
        loop {
            let said = fs_err::read(&path).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if let Some((line, _)) = said.split_once('\n') {
                return Ok(line.trim().to_owned());
            }
            let gone = !self.vm.as_ref().is_some_and(Vm::is_running);
            if gone || start.elapsed() > within {
                let ended = match gone {
                    true => "the machine switched itself off while it booted".to_owned(),
                    false => format!("its SSH server did not start within {} s of power on", within.as_secs_f32()),
                };
                return Err(self.failed(&self.name, &ended, ""));
            }
            std::thread::sleep(TICK);
        }
    }

    fn target(&self, port: u16, key: String) -> Target {
        let seconds = Duration::from_secs;
        Target {
            name: self.name.clone(),
            hop: Hop {
                host: "127.0.0.1".to_owned(),
                port,
                user: "root".to_owned(),
                host_keys: HostKeys::Pinned(vec![key]),
                identities: vec![self.boot.identity.clone()],
            },
            jumps: Vec::new(),
            // Translated instructions take their time.
            timeouts: Timeouts { connect: seconds(90), keepalive: seconds(60), refused: seconds(60) },
        }
    }
}

/// A card's address as QEMU takes it: `0800273706C6` with colons.
fn colons(digits: &str) -> String {
    let pairs = digits.as_bytes().chunks(2).map(String::from_utf8_lossy);
    pairs.collect::<Vec<_>>().join(":")
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ssh = None;
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it is not allowed where another runtime drives us.
            runtime.shutdown_background();
        }
        self.vm = None;
        // Directories of the sandbox may be without the right to write.
        let _ = crate::base::dirs::remove(self.dir.path());
    }
}
