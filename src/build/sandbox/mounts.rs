//! Puts the root of a sandbox together and moves into it.

use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use super::refused::{Failure, refused};
use super::{ROOT, Spec};

/// Names at the top that are ours, whatever the tree has there.
const OURS: [&str; 7] = ["in", "out", "tmp", "proc", "dev", "sys", "run"];
/// Devices, the same on every machine.
const DEVICES: [&str; 5] = ["full", "null", "random", "urandom", "zero"];
/// Links in `/dev` that programs expect.
const LINKS: [(&str, &str); 4] = [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
/// Parts of `/proc` that reach beyond the sandbox.
const KERNEL: [&str; 6] = ["acpi", "bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Makes the new root of `spec` and enters it; the old one is gone then.
pub(super) fn enter(spec: &Spec) -> Result<(), Failure> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| refused("make mounts private", e.into()))?;
    let root = spec.scratch.join(ROOT);
    tmpfs(&root, c"mode=0755")?;
    for name in ["in", "out", "tmp", "proc", "dev", "run"] {
        make_dir(&root.join(name))?;
    }
    tree(&spec.tree, &root)?;
    for (name, source) in &spec.inputs {
        bind_into(source, &root.join("in").join(name), true)?;
    }
    bind(&spec.out(), &root.join("out"), false)?;
    bind(&spec.tmp(), &root.join("tmp"), false)?;
    devices(&root.join("dev"), spec.vm)?;
    processes(&root.join("proc"))?;
    read_only(&root, MountFlags::NOSUID | MountFlags::NODEV)?;
    pivot(&root)
}

/// Everything at the top of the toolchain tree.
fn tree(tree: &Path, root: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::plain(format!("the toolchain tree: {e}"));
    let mut names = Vec::new();
    for entry in fs_err::read_dir(tree).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    for name in names.iter().filter(|n| !OURS.iter().any(|ours| *n == ours)) {
        let (from, to) = (tree.join(name), root.join(name));
        let kind = fs_err::symlink_metadata(&from).map_err(failed)?.file_type();
        if kind.is_symlink() {
            let target = fs_err::read_link(&from).map_err(failed)?;
            fs_err::os::unix::fs::symlink(target, to).map_err(failed)?;
        } else if kind.is_dir() || kind.is_file() {
            bind_into(&from, &to, true)?;
        }
    }
    Ok(())
}

/// Binds `from` to `to`, which is made first, as what `from` is.
fn bind_into(from: &Path, to: &Path, read_only: bool) -> Result<(), Failure> {
    let meta = fs_err::metadata(from).map_err(|e| Failure::plain(format!("an input: {e}")))?;
    if meta.is_dir() {
        make_dir(to)?
    } else {
        make_file(to)?
    }
    bind(from, to, read_only)
}

fn bind(from: &Path, to: &Path, only_read: bool) -> Result<(), Failure> {
    let failed = |e: Errno| refused(&format!("bind `{}`", from.display()), e.into());
    match mount_bind(from, to) {
        // Mounts below that may not be looked behind must come along.
        Err(Errno::INVAL) => mount_bind_recursive(from, to).map_err(failed)?,
        other => other.map_err(failed)?,
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    if only_read { read_only(to, flags) } else { remount(to, flags) }
}

fn read_only(at: &Path, flags: MountFlags) -> Result<(), Failure> {
    remount(at, flags | MountFlags::RDONLY)
}

/// Changes the flags of one mount; those it has stay, for in a user namespace they may be locked.
fn remount(at: &Path, flags: MountFlags) -> Result<(), Failure> {
    let failed = |e: Errno| refused(&format!("remount `{}`", at.display()), e.into());
    let has = rustix::fs::statvfs(at).map_err(failed)?.f_flag;
    let keep = [
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
    ];
    let kept = keep.iter().filter(|(theirs, _)| has.contains(*theirs)).fold(flags, |all, (_, flag)| all | *flag);
    mount_remount(at, MountFlags::BIND | kept, "").map_err(failed)
}

/// A `/dev` with what every machine has.
fn devices(dev: &Path, vm: bool) -> Result<(), Failure> {
    tmpfs(dev, c"mode=0755")?;
    let kvm = (vm && Path::new("/dev/kvm").exists()).then_some("kvm");
    for name in DEVICES.into_iter().chain(kvm) {
        let to = dev.join(name);
        make_file(&to)?;
        let from = Path::new("/dev").join(name);
        mount_bind(&from, &to).map_err(|e| refused(&format!("bind `{}`", from.display()), e.into()))?;
    }
    for (name, target) in LINKS {
        let to = dev.join(name);
        fs_err::os::unix::fs::symlink(target, &to).map_err(|e| Failure::plain(e.to_string()))?;
    }
    let shm = dev.join("shm");
    make_dir(&shm)?;
    tmpfs(&shm, c"mode=1777")?;
    read_only(dev, MountFlags::NOSUID)
}

/// A `/proc` of the new process namespace, the kernel's settings read-only (root outside is the same user inside).
fn processes(proc: &Path) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", proc, "proc", flags, None).map_err(|e| refused("mount /proc", e.into()))?;
    for name in KERNEL {
        let at = proc.join(name);
        // Not every kernel has all of them.
        if fs_err::symlink_metadata(&at).is_ok() {
            mount_bind(&at, &at).map_err(|e| refused(&format!("bind /proc/{name}"), e.into()))?;
            read_only(&at, flags)?;
        }
    }
    Ok(())
}

/// Makes `root` the root (pivot_root(2), "pivot_root(\".\", \".\")"): the old one lies over it for a moment.
fn pivot(root: &Path) -> Result<(), Failure> {
    let failed = |e: Errno| refused("change the root", e.into());
    rustix::process::chdir(root).map_err(failed)?;
    rustix::process::pivot_root(".", ".").map_err(failed)?;
    unmount(".", UnmountFlags::DETACH).map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)
}

fn tmpfs(at: &Path, options: &std::ffi::CStr) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", at, "tmpfs", flags, options).map_err(|e| refused("mount a tmpfs", e.into()))
}

fn make_dir(at: &Path) -> Result<(), Failure> {
    fs_err::create_dir(at).map_err(|e| Failure::plain(e.to_string()))
}

fn make_file(at: &Path) -> Result<(), Failure> {
    fs_err::File::create(at).map(drop).map_err(|e| Failure::plain(e.to_string()))
}
