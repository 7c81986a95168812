//! Whether a disk's tree can become a box, and what of it does not belong into one.

use crate::base::exe::{self, Program};
use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::rootfs::normalise::normalise;
use crate::build::tree::{Content, Kind, Tree};
use crate::model::guest_path::GuestPath;
use crate::model::platform::Platform;

/// Where systemd is.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];
/// Programs a box can not do without, the packages people know them by, what for.
const NEEDED: [(&str, &str); 2] =
    [("usr/sbin/sshd", "SSH server (OpenSSH)"), ("usr/bin/ssh-keygen", "ssh-keygen (OpenSSH)")];
/// Boot loaders' own files: the box has another one. `lost+found` is made with each file system.
const GONE: [&str; 5] = ["boot/efi", "boot/grub", "boot/grub2", "boot/loader", "efi"];
/// apt's sources, which a base keeps: nothing of it came from a lock of packages.
const SOURCES: &str = "etc/apt/sources.list";
/// Whether SELinux refuses what has no label.
const SELINUX: &str = "etc/selinux/config";
/// What stands in it where it does.
const ENFORCING: &str = "SELINUX=enforcing";

/// Whether the tree is a machine's that a box can be made of.
///
/// # Errors
/// Another init than systemd, programs for another architecture, no SSH server.
pub(super) fn machine(tree: &Tree, platform: Platform, what: &str) -> Result<(), BuildError> {
    let Some(Kind::File(init)) = SYSTEMD.iter().find_map(|p| inside::entry(tree, p)).map(|e| &e.kind) else {
        let message = format!("{what} has no systemd");
        return Err(BuildError::user(message, "take a distribution that starts with systemd"));
    };
    let mut head = Vec::new();
    let reader = init.open().map_err(|e| BuildError::bad(what, e.to_string()))?;
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(reader, exe::HEAD as u64), &mut head);
    read.map_err(|e| BuildError::bad(what, format!("systemd can not be read: {e}")))?;
    let program = exe::identify(&head);
    if !matches!(program, Program::Binary { .. }) || !program.runs_on("linux", platform.arch()) {
        return Err(BuildError::user(
            format!("{what} is a disk for another machine: its systemd is {program}, the box is for {platform}"),
            format!("name the image for {}, or the platform of the image", platform.arch()),
        ));
    }
    match NEEDED.iter().find(|(path, _)| inside::entry(tree, path).is_none()) {
        None => Ok(()),
        Some((_, missing)) => {
            let message = format!("{what} has no {missing}, and Vagrant logs in over SSH");
            Err(BuildError::user(message, "take an image for clouds: these are reached over SSH"))
        }
    }
}

/// Whether there is a kernel where the disk's boot loader finds one.
///
/// # Errors
/// A tree without.
pub(super) fn kernel(tree: &Tree, what: &str) -> Result<(), BuildError> {
    let kernels: Vec<String> = inside::list(tree, "boot").into_iter().filter(|n| n.starts_with("vmlinuz-")).collect();
    let is_file = |name: &String| {
        let at = GuestPath::parse(&format!("boot/{name}")).ok();
        at.and_then(|at| tree.get(&at)).is_some_and(|e| matches!(e.kind, Kind::File(_)))
    };
    if kernels.iter().any(is_file) {
        return Ok(());
    }
    let message = match kernels.first() {
        None => format!("{what}: no kernel stands in its /boot (no file `vmlinuz-VERSION`)"),
        Some(link) => format!("{what}: `/boot/{link}` is a link, and the kernel must be a file"),
    };
    Err(BuildError::user(
        message,
        "take an image that boots by GRUB from a kernel in /boot, not by a unified kernel image",
    ))
}

/// Takes out what is not for a box: the boot loader, identities, logs, caches. Labels of SELinux do not come along, so it only
/// warns then; `epoch` in seconds since 1970.
///
/// # Errors
/// Account files that can not be read.
pub(super) fn adapt(tree: &mut Tree, epoch: u64) -> Result<(), BuildError> {
    let below = |path: &GuestPath, dir: &str| path.as_str().strip_prefix(dir).is_some_and(|r| r.starts_with('/'));
    tree.entries.retain(|path, _| !GONE.iter().any(|dir| below(path, dir)));
    let sources = GuestPath::parse(SOURCES)?;
    let kept = tree.get(&sources).cloned();
    normalise(tree, epoch)?;
    match kept {
        Some(entry) => drop(tree.entries.insert(sources, entry)),
        None => drop(tree.entries.remove(&sources)),
    }
    let selinux = GuestPath::parse(SELINUX)?;
    if let Some(text) = inside::text(tree, SELINUX).filter(|t| t.lines().any(|l| l.trim() == ENFORCING)) {
        let text = text.replace(ENFORCING, "# labimg: files of this box have no labels.\nSELINUX=permissive");
        if let Some(entry) = tree.entries.get_mut(&selinux) {
            entry.kind = Kind::File(Content::bytes(text.into_bytes()));
        }
    }
    Ok(())
}
