//! Machines that boot from the disks, under QEMU without KVM and with no network but a forwarded port of this machine's own.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use labimg::build::disk::qcow2;
use labimg::build::disk::vmdk::{self, Identity};
use labimg::model::profile::{Boot, Compression, Table};

use crate::support::{bed, has, skipped, spec};

/// How long a machine may take until somebody can log in.
const PATIENCE: Duration = Duration::from_secs(240);
/// Firmware for UEFI, as Debian's `ovmf` and `qemu-efi` have it.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd"];

/// A machine that is stopped when it is dropped.
pub struct Machine {
    qemu: Child,
    console: PathBuf,
    port: u16,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Machine {
    /// Starts one from a disk on `bus`, by UEFI where there is `firmware`.
    pub fn start(disk: &Path, format: &str, dir: &Path, firmware: Option<&str>, bus: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let console = dir.join("console");
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", if bus == "ide" { "pc" } else { "q35" }, "-accel", "tcg,thread=multi"]);
        command.args([
            "-cpu",
            "Nehalem",
            "-smp",
            "2",
            "-m",
            "512",
            "-display",
            "none",
            "-no-reboot",
            "-monitor",
            "none",
        ]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-drive").arg(format!("file={},if={bus},format={format},snapshot=on", disk.display()));
        command.arg("-netdev").arg(format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"));
        command.args(["-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci"]);
        if let Some(firmware) = firmware {
            command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={firmware}"));
        }
        let qemu = command.stdin(Stdio::null()).spawn().unwrap();
        Self { qemu, console, port }
    }

    /// Runs a command over SSH as soon as that is possible.
    pub fn ssh(&mut self, key: &Path, run: &str) -> String {
        let start = Instant::now();
        loop {
            let mut ssh = Command::new("ssh");
            for option in [
                "StrictHostKeyChecking=no",
                "UserKnownHostsFile=/dev/null",
                "IdentitiesOnly=yes",
                "BatchMode=yes",
                "ConnectTimeout=10",
            ] {
                ssh.args(["-o", option]);
            }
            ssh.args(["-F", "/dev/null", "-q", "-p", &self.port.to_string(), "-i"])
                .arg(key)
                .args(["vagrant@127.0.0.1", run]);
            let said = ssh.stdin(Stdio::null()).output().unwrap();
            if said.status.success() {
                println!("in after {:?}", start.elapsed());
                return String::from_utf8(said.stdout).unwrap();
            }
            let ended = self.qemu.try_wait().unwrap();
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{ended:?} {why}\n{}", self.tail());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// The end of what its console says.
    pub fn tail(&self) -> String {
        let mut bytes = Vec::new();
        std::fs::File::open(&self.console).unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..]).into_owned()
    }
}

fn boots(boot: Boot, table: Table, efi: bool) {
    let Some(bed) = bed() else { return };
    if !has("qemu-system-x86_64") || !has("ssh") {
        return;
    }
    let firmware = FIRMWARE.into_iter().find(|f| Path::new(f).exists());
    if efi && firmware.is_none() {
        return skipped("booting by UEFI: no firmware (package ovmf)");
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(boot, table);
    let programs = bed.programs(dir.path());
    bed.disk(&programs, &spec).unwrap();
    let disk = qcow2::convert(&programs, Compression::Zstd, "disk.qcow2").unwrap();
    let mut machine = Machine::start(&disk, "qcow2", dir.path(), firmware.filter(|_| efi), "virtio");
    let said = machine.ssh(
        &bed.key,
        "findmnt -no SOURCE,FSTYPE,OPTIONS /; cat /proc/cmdline; stat -c '%a %U' /usr/bin/sudo /home/vagrant /; \
         test -d /sys/firmware/efi && echo efi; systemctl is-system-running --wait; sudo -n sync; true",
    );
    println!("{boot:?} {table:?} {efi}: {said}");
    assert!(said.contains(&format!("root=UUID={}", spec.root_uuid())), "{said}");
    assert!(said.contains("rw,noatime") && said.contains("4755 root\n755 vagrant\n755 root\n"), "{said}");
    assert_eq!(said.contains("\nefi\n"), efi, "{said}");
    assert!(said.contains("running"), "{said}\n{}", machine.tail());
    assert!(machine.tail().contains(" login:"), "{}", machine.tail());
}

/// VirtualBox's disk, on an IDE controller as its box has it for a kernel that knows no SATA. QEMU stands for VirtualBox.
#[test]
fn a_vmdk_from_ide() {
    let Some(bed) = bed() else { return };
    if !has("qemu-system-x86_64") || !has("ssh") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(Boot::Bios, Table::Gpt);
    let raw = bed.disk(&bed.programs(dir.path()), &spec).unwrap();
    let path = dir.path().join("box.vmdk");
    let out = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let identity = Identity { name: "box.vmdk", cid: 1, uuid: "6c616269-0000-8000-8000-000000000001" };
    vmdk::write(&fs_err::File::open(raw).unwrap(), spec.bytes(), identity, 2, out, &|_| ()).unwrap();
    let mut machine = Machine::start(&path, "vmdk", dir.path(), None, "ide");
    let said = machine.ssh(&bed.key, "findmnt -no SOURCE /; systemctl is-system-running --wait; true");
    assert!(said.starts_with("/dev/sda2\n") && said.contains("running"), "{said}");
}

#[test]
fn by_bios_from_mbr() {
    boots(Boot::Bios, Table::Mbr, false);
}

#[test]
fn by_bios_from_gpt() {
    boots(Boot::Hybrid, Table::Gpt, false);
}

#[test]
fn by_uefi_from_gpt() {
    boots(Boot::Hybrid, Table::Gpt, true);
}

#[test]
fn by_uefi_from_mbr() {
    boots(Boot::Efi, Table::Mbr, true);
}
