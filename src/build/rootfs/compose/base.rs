//! What every box has: Vagrant's user, SSH host keys made at first boot, a network by DHCP, nothing that waits for the Internet.

use super::accounts::{Accounts, home};
use super::foreign;
use super::over::Over;
use super::wishes::{User, Wishes};
use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::rootfs::normalise::HOSTNAME;
use crate::build::tree::{Entry, Kind};

/// Vagrant's well-known public key, RSA, as every version of Vagrant has it in `keys/vagrant.pub`. Vagrant replaces it at the
/// first `up`, by the whole line: its comment, too, must be as it is. The newer ed25519 one is left out on purpose: versions
/// before 2.4 would leave it in the machine.
pub const INSECURE_KEY: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key\n";

/// Vagrant's user (Vagrant documentation, "Creating a Base Box").
pub(super) const VAGRANT: (&str, u32) = ("vagrant", 1000);
/// Makes the host keys that the packages' own were taken out for. RSA is left out: it takes long without hardware
/// virtualisation, and every client knows ECDSA.
const HOST_KEYS: &str = "[Unit]
Description=SSH host keys of this machine
Before=ssh.service sshd.service ssh.socket
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -N \"\" -t ecdsa -f /etc/ssh/ssh_host_ecdsa_key'
ExecStart=/usr/bin/ssh-keygen -q -N \"\" -t ed25519 -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
RequiredBy=ssh.service
";
/// Any wired interface; Vagrant's own files for private networks sort before it (systemd.network(5)).
const NETWORK: &str = "[Match]
Name=en* eth*

[Network]
DHCP=ipv4
LinkLocalAddressing=no

[DHCPv4]
ClientIdentifier=mac
";
/// Boot waits for one interface, not for those a lab does not plug in, and not for long.
const WAIT_ONLINE: &str = "[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --any --timeout=30
";
/// The file system; the partition is systemd-repart's (GPT only).
const GROW: &str = "[Unit]
Description=Root file system grows to the size of its partition
After=systemd-repart.service local-fs.target

[Service]
Type=oneshot
ExecStart=/usr/lib/systemd/systemd-growfs /

[Install]
WantedBy=multi-user.target
";
/// Units that do nothing but ask the Internet; those that are there are masked.
pub(super) const ONLINE: [&str; 5] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "fwupd-refresh.timer",
    "motd-news.timer",
    "systemd-timesyncd.service",
];
/// Units every box starts, where their packages are there.
pub(super) const STARTED: [&str; 2] = ["labimg-grow-root.service", "labimg-host-keys.service"];

impl Wishes {
    /// All users: Vagrant's first, unless the author has one of that name.
    pub(super) fn users(&self) -> Vec<User> {
        let mut all = self.users.clone();
        let insecure = INSECURE_KEY.trim_end().to_owned();
        if all.iter().all(|u| u.name != VAGRANT.0) {
            let vagrant = User {
                name: VAGRANT.0.to_owned(),
                uid: VAGRANT.1,
                groups: Vec::new(),
                shell: "/bin/bash".to_owned(),
                sudo: true,
                authorized_keys: vec![insecure],
            };
            all.insert(0, vagrant);
        }
        all
    }
}

/// The files every box has.
///
/// # Errors
/// A tree where they can not stand; a hostname that is none.
pub(super) fn put(over: &mut Over<'_>, wishes: &Wishes) -> Result<(), BuildError> {
    if !wishes.hostname.is_empty() {
        let name = &wishes.hostname;
        let good = name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !good || name.starts_with('-') {
            let message = format!("`{name}` can not be a machine's name");
            return Err(BuildError::user(message, "use letters, digits and `-`"));
        }
        over.file("etc/hostname", 0o644, format!("{name}\n"))?;
        let hosts = over.text("etc/hosts").unwrap_or_default();
        over.rewrite("etc/hosts", 0o644, hosts.replace(&format!(" {HOSTNAME}\n"), &format!(" {name}\n")))?;
    }
    if over.has("usr/bin/ssh-keygen") {
        let keys = if wishes.foreign { foreign::host_keys(over) } else { HOST_KEYS.to_owned() };
        over.file("etc/systemd/system/labimg-host-keys.service", 0o644, keys)?;
        over.file("etc/ssh/sshd_config.d/50-labimg.conf", 0o644, "UseDNS no\n")?;
    }
    if foreign::networkd(over, wishes) {
        over.file("etc/systemd/network/80-labimg-dhcp.network", 0o644, NETWORK)?;
        over.file("etc/systemd/system/systemd-networkd-wait-online.service.d/50-labimg.conf", 0o644, WAIT_ONLINE)?;
    }
    if wishes.grow_root {
        over.file("etc/repart.d/50-root.conf", 0o644, "[Partition]\nType=root\n")?;
        over.file("etc/systemd/system/labimg-grow-root.service", 0o644, GROW)?;
    }
    Ok(())
}

/// A user's home: what `/etc/skel` has, and its keys; its right to use sudo.
///
/// # Errors
/// sudo that is not installed; a tree where the files can not stand.
pub(super) fn user(over: &mut Over<'_>, user: &User, accounts: &Accounts) -> Result<(), BuildError> {
    let owner = accounts.owner(Some(&user.name), "a user")?;
    let home = home(&user.name);
    if user.name != "root" {
        skeleton(over, &home, owner)?;
    }
    if !user.authorized_keys.is_empty() {
        keys(over, user, &home, owner)?;
    }
    if !user.sudo || user.name == "root" {
        return Ok(());
    }
    if !over.has("etc/sudoers") {
        return Err(BuildError::user(
            format!("user `{}` shall use sudo, which the box does not have", user.name),
            "add sudo to the packages, or take a base that has it",
        ));
    }
    over.file(&format!("etc/sudoers.d/{}", user.name), 0o440, format!("{} ALL=(ALL:ALL) NOPASSWD: ALL\n", user.name))
}

fn skeleton(over: &mut Over<'_>, home: &str, (uid, gid): (u32, u32)) -> Result<(), BuildError> {
    let dir = Entry { uid, gid, ..Entry::dir(over.origin()) };
    over.put(home, dir)?;
    for name in inside::list(over.tree, "etc/skel") {
        let Some(entry) = inside::entry(over.tree, &format!("etc/skel/{name}")).cloned() else { continue };
        if matches!(entry.kind, Kind::File(_)) {
            over.put(&format!("{home}/{name}"), Entry { uid, gid, ..entry })?;
        }
    }
    Ok(())
}

fn keys(over: &mut Over<'_>, user: &User, home: &str, (uid, gid): (u32, u32)) -> Result<(), BuildError> {
    let bad = |key: &&String| key.trim().is_empty() || key.contains(['\n', '\r']) || key.contains("PRIVATE KEY");
    if let Some(key) = user.authorized_keys.iter().find(bad) {
        let shown: String = key.chars().take(20).collect();
        return Err(BuildError::user(
            format!("`{shown}…` can not be a key of user `{}`", user.name),
            "give one line of a public key: `ssh-ed25519 AAAA… comment`",
        ));
    }
    let text: String = user.authorized_keys.iter().map(|k| format!("{k}\n")).collect();
    let dir = Entry { uid, gid, mode: 0o700, ..Entry::dir(over.origin()) };
    over.put(&format!("{home}/.ssh"), dir)?;
    let content = crate::build::tree::Content::bytes(text.into_bytes());
    let file = Entry { uid, gid, ..Entry::file(over.origin(), 0o600, content) };
    over.put(&format!("{home}/.ssh/authorized_keys"), file)
}
