//! Disks that this machine's mke2fs, debugfs, sfdisk and qemu-img make of small trees.

use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;

use super::*;
use crate::base::report::Silent;
use crate::build::debian::inside;
use crate::build::tree::Kind;
use crate::model::guest_path::GuestPath;
use crate::store::{Access, Store};

#[cfg(test)]
mod refused;

const MIB: u64 = 1 << 20;
/// The size of every partition here.
const PART: u64 = 16 * MIB;
/// A 64-bit ELF for amd64, as far as its header.
const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0";
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// A folder for disks and what they are made of.
struct Bench(tempfile::TempDir);

fn run(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program);
    let mut child = child.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {args:?}");
}

impl Bench {
    /// Nothing where a program lacks, which is said.
    fn new() -> Option<Self> {
        for program in ["mke2fs", "debugfs", "sfdisk", "qemu-img"] {
            if !["/usr/bin", "/usr/sbin"].iter().any(|d| Path::new(d).join(program).exists()) {
                eprintln!("NOT TESTED: {program} is not installed");
                return None;
            }
        }
        let bench = Self(tempfile::tempdir().unwrap());
        bench.file("root/usr/lib/systemd/systemd", ELF);
        for (path, text) in [
            ("root/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            (
                "root/etc/fstab",
                "LABEL=ROOT / ext4 defaults 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\nLABEL=UEFI /boot/efi vfat umask=0077 0 1\nUUID=gone none swap sw 0 0\n",
            ),
            ("root/etc/selinux/config", "# x\nSELINUX=enforcing\n"),
            ("root/etc/apt/sources.list", "deb x y z\n"),
            ("root/etc/ssh/ssh_host_rsa_key", "secret"),
            ("root/usr/sbin/sshd", "x"),
            ("root/usr/bin/ssh-keygen", "x"),
            ("root/usr/bin/ping", "ping"),
            ("root/var/log/syslog", "old"),
            ("root/dev/x", "x"),
            ("root/boot/hidden", "a mounted file system hides it"),
            ("boot/vmlinuz-6.8.0", "kernel"),
            ("boot/initrd.img-6.8.0", "ramdisk"),
            ("boot/grub/grub.cfg", "menu"),
            ("other/data", "no root"),
        ] {
            bench.file(path, text.as_bytes());
        }
        symlink("usr/bin", bench.path("root/bin")).unwrap();
        fs::hard_link(bench.path("root/usr/bin/ping"), bench.path("root/usr/bin/pong")).unwrap();
        let sparse = fs::File::create(bench.path("root/sparse")).unwrap();
        sparse.set_len(5 * MIB).unwrap();
        sparse.file().write_all_at(b"end", 5 * MIB - 3).unwrap();
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A file system of the folder `name`; debugfs changes it.
    fn ext4(&self, name: &str, label: &str, commands: &str) -> Vec<u8> {
        let image = self.path(&format!("{name}.ext4"));
        let _ = fs::remove_file(&image);
        let (tree, to) = (self.path(name), image.to_str().unwrap().to_owned());
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-L", label, "-d", tree.to_str().unwrap(), &to, "16M"], "");
        run("debugfs", &["-w", "-f", "-", &to], commands);
        fs::read(image).unwrap()
    }

    fn root(&self) -> Vec<u8> {
        fs::write(self.path("cap"), [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let cap = self.path("cap");
        let commands = format!(
            "sif /etc/passwd uid 70000\nsif /usr/bin/ping mode 0104755\nea_set -f {} /usr/bin/ping security.capability\ncd /run\nmknod p p\n",
            cap.display()
        );
        self.ext4("root", "ROOT", &commands)
    }

    /// A disk of these partitions, by type and content; a GUID partition table or a master boot record.
    fn disk(&self, label: &str, parts: &[(&str, &[u8])]) -> PathBuf {
        let path = self.path("disk.raw");
        let disk = fs::File::create(&path).unwrap();
        disk.set_len(2 * MIB + PART * parts.len() as u64).unwrap();
        let mut table = format!("label: {label}\n");
        for (n, (kind, bytes)) in (0u64..).zip(parts) {
            let start = MIB + n * PART;
            table += &format!("start={}, size={}, type={kind}\n", start / 512, PART / 512);
            disk.file().write_all_at(bytes, start).unwrap();
        }
        run("sfdisk", &["-q", "--no-reread", path.to_str().unwrap()], &table);
        path
    }

    fn usual(&self) -> PathBuf {
        let (boot, root) = (self.ext4("boot", "BOOT", ""), self.root());
        self.disk("gpt", &[(ESP, b"x"), (LINUX, &boot), (LINUX, &root)])
    }

    fn qcow2(&self, from: &Path, options: &[&str]) -> PathBuf {
        let to = self.path("disk.qcow2");
        let args = [&["convert", "-O", "qcow2"], options, &[from.to_str().unwrap(), to.to_str().unwrap()]].concat();
        run("qemu-img", &args, "");
        to
    }

    fn tree(&self, disk: &Path) -> Result<Tree, BuildError> {
        let base = DiskBase {
            name: "box x amd64 base".to_owned(),
            what: "base `file:x`".to_owned(),
            disk: Input::Step { step: String::new(), output: String::new() },
            platform: Platform::LinuxAmd64,
            limit: 64 * MIB,
        };
        let file: Shared = Rc::new(FileBytes::new(fs::File::open(disk).unwrap().into_parts().0).unwrap());
        base.tree(&file, self.0.path(), 86_400, &Task::begin(&Silent, "x", None))
    }

    fn error(&self, disk: &Path) -> String {
        let error = self.tree(disk).unwrap_err();
        format!("{error} | {}", error.hint().unwrap_or_default())
    }
}

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap()
}

#[test]
fn a_disk_with_its_own_boot_partition_becomes_a_tree() {
    let Some(bench) = Bench::new() else { return };
    let raw = bench.usual();
    let tree = bench.tree(&raw).unwrap();
    let text = |p: &str| inside::text(&tree, p).unwrap();
    assert_eq!((text("boot/vmlinuz-6.8.0"), text("bin/ping")), ("kernel".to_owned(), "ping".to_owned()));
    assert_eq!(text("etc/selinux/config"), "# x\n# labimg: files of this box have no labels.\nSELINUX=permissive\n");
    assert_eq!(text("etc/apt/sources.list"), "deb x y z\n");
    for gone in [
        "boot/hidden",
        "boot/grub/grub.cfg",
        "var/log/syslog",
        "dev/x",
        "etc/ssh/ssh_host_rsa_key",
        "run/p",
        "lost+found",
    ] {
        assert!(tree.get(&path(gone)).is_none(), "{gone}");
    }
    let ping = tree.get(&path("usr/bin/ping")).unwrap();
    assert_eq!((ping.mode, ping.capability.as_deref().map(<[u8]>::len)), (0o4755, Some(20)));
    assert!(
        matches!(&tree.get(&path("usr/bin/pong")).unwrap().kind, Kind::Hardlink(to) if *to == path("usr/bin/ping"))
    );
    assert_eq!(tree.get(&path("etc/passwd")).unwrap().uid, 70_000);
    let Kind::File(sparse) = &tree.get(&path("sparse")).unwrap().kind else { panic!() };
    let bytes = sparse.read(8 * MIB).unwrap();
    assert!(bytes.len() as u64 == 5 * MIB && bytes.ends_with(b"\0end"));

    let store = Store::open(&bench.path("store"), Access::Shared).unwrap();
    let first = write_tree(&tree, 7, &store).unwrap();
    for options in [&[][..], &["-c"], &["-c", "-o", "compression_type=zstd"], &["-o", "compat=0.10"]] {
        let tree = bench.tree(&bench.qcow2(&raw, options)).unwrap();
        assert_eq!(write_tree(&tree, 7, &store).unwrap(), first, "{options:?}");
    }
}

#[test]
fn a_root_without_a_table_and_one_from_an_mbr() {
    let Some(bench) = Bench::new() else { return };
    fs::remove_file(bench.path("root/etc/fstab")).unwrap();
    let none = bench.error(&bench.disk("dos", &[("83", &bench.root()), ("82", b"x")]));
    assert!(
        none.contains("no kernel stands in its /boot (no file `vmlinuz-VERSION`) | take an image that boots"),
        "{none}"
    );
    bench.file("root/boot/vmlinuz-6.8.0", b"kernel");
    let other = bench.ext4("other", "X", "");
    bench.tree(&bench.disk("dos", &[("83", &other), ("83", &bench.root())])).unwrap();
    fs::write(bench.path("plain"), bench.root()).unwrap();
    bench.tree(&bench.path("plain")).unwrap();
}

#[test]
fn boot_is_found_by_its_type_and_by_its_number() {
    let Some(bench) = Bench::new() else { return };
    let boot = bench.ext4("boot", "BOOT", "");
    for (fstab, kind) in [("", "bc13c2ff-59e6-4262-a352-b275fd6f7172"), ("/dev/vda2 /boot auto defaults\n", LINUX)] {
        bench.file("root/etc/fstab", fstab.as_bytes());
        let tree = bench.tree(&bench.disk("gpt", &[(LINUX, &bench.root()), (kind, &boot)])).unwrap();
        assert_eq!(inside::text(&tree, "boot/vmlinuz-6.8.0").as_deref(), Some("kernel"), "{fstab}");
    }
    bench.file("root/etc/fstab", b"UUID=1234 /var ext4\n");
    let error = bench.error(&bench.disk("gpt", &[(LINUX, &bench.root()), (LINUX, &boot)]));
    assert!(
        error.contains("mounts `UUID=1234` at `/var`, which is not on the disk; it has: 1 (16 MiB, ext4), 2 ("),
        "{error}"
    );
}
