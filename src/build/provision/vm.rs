//! One run of QEMU, of the toolchain, in a sandbox: from power on to power off.
//!
//! The machine is the same everywhere: a versioned type, a named processor, two of them, a clock that starts where we say and
//! counts the machine's own time. Its network has no way out (`restrict=on`) but one port of the loopback interface in, because
//! QEMU forwards from TCP ports alone. The sandbox's process namespace ends with labimg, and QEMU with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::accel::Accel;
use super::agent;
use super::qmp::Qmp;
use crate::build::BuildError;
use crate::build::sandbox::{self, Ended, Ids, Spec, Stop};

/// Memory of the machine, in MiB.
pub(super) const MEMORY: u64 = 1024;
/// Processors of the machine.
pub(super) const CORES: usize = 2;
/// The serial console, in the directory's `out`.
pub(super) const CONSOLE: &str = "console";
/// What the machine's own SSH server says its key is.
pub(super) const HOST_KEY: &str = "host-key";
const SOCKET: &str = "qmp.sock";
/// How long QEMU may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// Units that do something by the clock, whatever the steps are.
const MASKED: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "logrotate.timer",
    "man-db.timer",
    "systemd-tmpfiles-clean.timer",
];

/// What to start.
pub(super) struct Setup<'a> {
    /// labimg itself.
    pub(super) helper: &'a Path,
    /// The toolchain's tree.
    pub(super) programs: &'a Path,
    /// The lock's epoch, seconds since 1970.
    pub(super) epoch: u64,
    /// How instructions are run.
    pub(super) accel: Accel,
    /// The kernel.
    pub(super) kernel: &'a Path,
    /// The initial ramdisk.
    pub(super) initrd: &'a Path,
    /// `root=UUID=…`
    pub(super) root_uuid: &'a str,
    /// The disk and the overlays on it, lowest first; read only.
    pub(super) layers: &'a [PathBuf],
    /// Size of the disk in bytes.
    pub(super) bytes: u64,
    /// The public key that may log in: the second word of its line.
    pub(super) key: &'a str,
    /// What the clock says at power on, seconds since 1970.
    pub(super) clock: u64,
    /// Its network card's address.
    pub(super) mac: &'a str,
}

/// QEMU, running. Stopped when dropped.
pub(super) struct Vm {
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    qemu: Option<JoinHandle<Result<Ended, BuildError>>>,
    qmp: Qmp,
    /// The port of the loopback interface that leads to the machine's SSH server.
    pub(super) port: u16,
    /// The overlay that is written to now: `/out/<top>.qcow2`, node `top<top>`.
    top: usize,
}

impl Vm {
    /// Starts QEMU in `dir`, which is its own. The overlay numbered `top` is made when it is not there.
    ///
    /// # Errors
    /// A sandbox that can not be made, a QEMU that ends at once.
    pub(super) fn start(dir: &Path, setup: &Setup<'_>, top: usize) -> Result<Self, BuildError> {
        let out = dir.join("out");
        fs_err::create_dir_all(&out).map_err(|e| BuildError::io(&out, "create", e))?;
        for name in [SOCKET, CONSOLE, HOST_KEY] {
            let path = out.join(name);
            match fs_err::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(BuildError::io(&path, "remove", e)),
                _ => {}
            }
        }
        let (spec, stop) = (spec(dir, setup, top), Arc::new(AtomicBool::new(false)));
        let (helper, cancel) = (setup.helper.to_owned(), stop.clone());
        // A thread of its own: the sandbox ends with the thread that started it, and this one outlives the step.
        let qemu =
            std::thread::spawn(move || sandbox::run(&helper, &spec, Stop { cancel: Some(&cancel), ..Stop::default() }));
        let mut starting = Starting { stop, qemu: Some(qemu) };
        let mut qmp = starting.connect(&out)?;
        let port = qmp.forwarded(agent::PORT).map_err(|e| BuildError::bad("QEMU", e.to_string()))?;
        let (stop, qemu) = (starting.stop.clone(), starting.qemu.take());
        Ok(Self { dir: dir.to_owned(), stop, qemu, qmp, port, top })
    }

    /// Whether QEMU runs.
    pub(super) fn is_running(&self) -> bool {
        self.qemu.as_ref().is_some_and(|q| !q.is_finished())
    }

    /// Number of the overlay that is written to.
    pub(super) fn top(&self) -> usize {
        self.top
    }

    /// Ends the overlay that is written to, which is given and does not change any more, and goes on with another one.
    ///
    /// # Errors
    /// Whatever QEMU says.
    pub(super) fn snapshot(&mut self) -> Result<PathBuf, BuildError> {
        let (old, new) = (self.top, self.top + 1);
        let arguments = json!({
            "format": "qcow2",
            "node-name": format!("top{old}"),
            "snapshot-file": format!("/out/{new}.qcow2"),
            "snapshot-node-name": format!("top{new}"),
        });
        let done = self.qmp.run("blockdev-snapshot-sync", &arguments);
        done.map_err(|e| BuildError::bad("the snapshot of a machine", e.to_string()))?;
        self.top = new;
        Ok(overlay(&self.dir, old))
    }

    /// Waits until the machine has switched itself off; says whether it has.
    pub(super) fn wait_off(&mut self, within: Duration) -> bool {
        let start = Instant::now();
        while self.is_running() && start.elapsed() < within {
            std::thread::sleep(TICK);
        }
        !self.is_running()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What it says at its end is nobody's business any more.
        let _ = self.qemu.take().map(JoinHandle::join);
    }
}

/// The file of an overlay.
pub(super) fn overlay(dir: &Path, number: usize) -> PathBuf {
    dir.join("out").join(format!("{number}.qcow2"))
}

/// QEMU, about to run: stopped when it does not come so far.
struct Starting {
    stop: Arc<AtomicBool>,
    qemu: Option<JoinHandle<Result<Ended, BuildError>>>,
}

impl Starting {
    fn connect(&mut self, out: &Path) -> Result<Qmp, BuildError> {
        let start = Instant::now();
        loop {
            match Qmp::connect(out, SOCKET) {
                Ok(qmp) => return Ok(qmp),
                Err(e) if start.elapsed() > PATIENCE => {
                    return Err(BuildError::bad("QEMU", format!("it does not answer: {e}")));
                }
                Err(_) => {}
            }
            if let Some(done) = self.qemu.take_if(|q| q.is_finished()) {
                let ended =
                    done.join().unwrap_or_else(|_| Err(BuildError::Internal("QEMU's thread panicked".into())))?;
                let (command, output) = ("`qemu-system-x86_64`".to_owned(), ended.output);
                return Err(BuildError::Program { command, ended: ended.exit.to_string(), output });
            }
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(qemu) = self.qemu.take() {
            self.stop.store(true, Ordering::Relaxed);
            let _ = qemu.join();
        }
    }
}

fn spec(dir: &Path, setup: &Setup<'_>, top: usize) -> Spec {
    let layers = setup.layers.iter().enumerate().map(|(i, path)| (format!("layer{i}"), path.clone()));
    let boot = [("kernel".to_owned(), setup.kernel.to_owned()), ("initrd".to_owned(), setup.initrd.to_owned())];
    let script = "[ -e \"$1\" ] || qemu-img create -q -f qcow2 \"$1\" \"$2\"; shift 2; exec \"$@\"";
    let mut argv = ["/bin/bash", "-eu", "-c", script, "labimg"].map(str::to_owned).to_vec();
    argv.extend([format!("/out/{top}.qcow2"), setup.bytes.to_string()]);
    argv.extend(command(setup, top));
    Spec {
        tree: setup.programs.to_owned(),
        inputs: layers.chain(boot).collect(),
        scratch: dir.to_owned(),
        argv,
        env: [("TMPDIR".to_owned(), "/tmp".to_owned())].into(),
        epoch: setup.epoch,
        cores: CORES,
        ids: Ids::One,
        vm: true,
    }
}

/// QEMU's command line (QEMU, "Invocation").
fn command(setup: &Setup<'_>, top: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut say = |name: &str, value: String| all.extend([name.to_owned(), value]);
    say("-accel", setup.accel.name().to_owned());
    say("-machine", "pc-q35-7.2,usb=off,vmport=off".to_owned());
    say("-cpu", "Westmere".to_owned());
    say("-smp", CORES.to_string());
    say("-m", MEMORY.to_string());
    say("-rtc", format!("base={},clock=vm", utc(setup.clock)));
    say("-kernel", "/in/kernel".to_owned());
    say("-initrd", "/in/initrd".to_owned());
    say("-append", kernel_line(setup));
    for (i, _) in setup.layers.iter().enumerate() {
        say("-blockdev", layer(i).to_string());
    }
    let last = setup.layers.len().checked_sub(1).map(|i| format!("layer{i}"));
    let file = json!({"driver": "file", "filename": format!("/out/{top}.qcow2"), "locking": "off"});
    let cache = json!({"no-flush": true});
    let node = format!("top{top}");
    say(
        "-blockdev",
        json!({"backing": last, "cache": cache, "discard": "unmap", "driver": "qcow2", "file": file, "node-name": node})
            .to_string(),
    );
    say("-device", format!("virtio-blk-pci,drive={node}"));
    say("-netdev", format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:0-:{}", agent::PORT));
    say("-device", format!("virtio-net-pci,netdev=n0,mac={},romfile=", setup.mac));
    say("-device", "virtio-rng-pci".to_owned());
    say("-serial", format!("file:/out/{CONSOLE}"));
    say("-serial", format!("file:/out/{HOST_KEY}"));
    say("-qmp", format!("unix:/out/{SOCKET},server=on,wait=off"));
    say("-display", "none".to_owned());
    let fixed = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned);
    fixed.into_iter().chain(all).collect()
}

/// A read-only image on the one below it.
fn layer(i: usize) -> serde_json::Value {
    // Blobs do not change: nobody has to be kept from writing to them.
    let file = json!({"driver": "file", "filename": format!("/in/layer{i}"), "locking": "off", "read-only": true});
    let below = i.checked_sub(1).map(|b| format!("layer{b}"));
    json!({"backing": below, "driver": "qcow2", "file": file, "node-name": format!("layer{i}"), "read-only": true})
}

fn kernel_line(setup: &Setup<'_>) -> String {
    let masked: String = MASKED.iter().map(|unit| format!(" systemd.mask={unit}")).collect();
    format!(
        "root=UUID={} ro console=ttyS0,115200 net.ifnames=0 loglevel=4 panic=-1 {}={}{masked}",
        setup.root_uuid,
        agent::KEY,
        setup.key
    )
}

/// As `-rtc` takes it: `2026-11-01T00:00:00`.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_qemu_reads_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(utc(1_793_498_521), "2026-11-01T02:02:01");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59");
    }

    #[test]
    fn the_machine_is_the_same_everywhere_and_has_no_way_out() {
        let setup = Setup {
            helper: Path::new("/labimg"),
            programs: Path::new("/tree"),
            epoch: 1,
            accel: Accel::Tcg,
            kernel: Path::new("/k"),
            initrd: Path::new("/i"),
            root_uuid: "u",
            layers: &["/a".into(), "/b".into()],
            bytes: 1 << 30,
            key: "AAAA",
            clock: 0,
            mac: "52:54:00:00:00:01",
        };
        let spec = spec(Path::new("/s"), &setup, 3);
        let line = spec.argv.join(" ");
        for part in [
            "/out/3.qcow2 1073741824 qemu-system-x86_64 ",
            "-accel tcg",
            "pc-q35-7.2",
            "restrict=on,hostfwd=tcp:127.0.0.1:0-:22022",
            "-rtc base=1970-01-01T00:00:00,clock=vm",
            r#""backing":"layer0","driver":"qcow2""#,
            r#"{"backing":"layer1","cache""#,
            "labimg.key=AAAA",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(spec.vm && spec.inputs.len() == 4);
    }
}
