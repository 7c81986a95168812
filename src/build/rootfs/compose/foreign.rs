//! A tree of another distribution's disk: which programs its network and its logins are up to, and what must not wait for a cloud.
//!
//! Its own network configuration is for the machine that the image was made on or for a cloud, so all interfaces get their
//! addresses by DHCP, by the manager that is switched on in it: NetworkManager, else systemd-networkd.

use super::accounts::Accounts;
use super::over::Over;
use super::wishes::{User, Wishes};
use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::tree::{Kind, Tree};

/// NetworkManager, where its package switched it on.
const MANAGER: &str = "etc/systemd/system/multi-user.target.wants/NetworkManager.service";
/// Where its connections are.
const CONNECTIONS: &str = "etc/NetworkManager/system-connections";
/// Any wired interface (nm-settings-keyfile(5)); Vagrant's own connections have a higher priority.
const CONNECTION: &str = "[connection]
id=labimg-dhcp
uuid=6c616269-6d67-4d68-8063-700000000001
type=ethernet
autoconnect-priority=-100
multi-connect=3

[ipv4]
method=auto
may-fail=true

[ipv6]
method=disabled
";
/// systemd-networkd's unit.
const NETWORKD: [&str; 2] =
    ["usr/lib/systemd/system/systemd-networkd.service", "lib/systemd/system/systemd-networkd.service"];
/// Configuration of a network that is not the lab's: what is in these, by its ending.
const NETWORKS: [(&str, &str); 5] = [
    ("etc/netplan", ".yaml"),
    ("etc/network/interfaces.d", ""),
    ("etc/sysconfig/network-scripts", ""),
    ("etc/systemd/network", ".network"),
    (CONNECTIONS, ""),
];
/// Others that would ask for addresses on the same interfaces.
const RIVALS: [&str; 4] = ["dhcpcd.service", "networking.service", "wicked.service", "wickedd.service"];
/// cloud-init does nothing where this is (cloud-init documentation, "How to disable cloud-init").
const NO_CLOUD: &str = "etc/cloud/cloud-init.disabled";

/// Whether systemd-networkd is what brings the network up.
pub(super) fn networkd(over: &Over<'_>, wishes: &Wishes) -> bool {
    !wishes.foreign || inside::place(over.tree, MANAGER, false).is_none_or(|at| over.tree.get(&at).is_none())
}

/// The unit of the SSH server.
pub(super) fn ssh_unit(over: &Over<'_>) -> &'static str {
    let has = |unit: &str| over.has(&format!("usr/lib/systemd/system/{unit}"));
    if !has("ssh.service") && has("sshd.service") { "sshd.service" } else { "ssh.service" }
}

/// Makes such a tree ready: no cloud-init, no network but by DHCP.
///
/// # Errors
/// A tree without a network manager that is known here.
pub(super) fn put(over: &mut Over<'_>, wishes: &Wishes) -> Result<(), BuildError> {
    if !wishes.foreign {
        return Ok(());
    }
    if over.has("etc/cloud") {
        over.file(NO_CLOUD, 0o644, "")?;
    }
    let by_networkd = networkd(over, wishes);
    if by_networkd && !NETWORKD.iter().any(|unit| over.has(unit)) {
        return Err(BuildError::user(
            "the base has neither NetworkManager switched on nor systemd-networkd: nothing would give it an address",
            "take an image with one of them",
        ));
    }
    clear(over.tree);
    if over.has("etc/network/interfaces") {
        over.rewrite("etc/network/interfaces", 0o644, "auto lo\niface lo inet loopback\n".to_owned())?;
    }
    match by_networkd {
        true => Ok(()),
        false => over.file(&format!("{CONNECTIONS}/labimg-dhcp.nmconnection"), 0o600, CONNECTION),
    }
}

/// Takes away what configures the network, and what links start managers beside the one.
fn clear(tree: &mut Tree) {
    let wanted = |dir: &str| dir.starts_with("etc/systemd/system/") && dir.ends_with(".wants");
    tree.entries.retain(|path, entry| {
        let dir = path.parent().unwrap_or_default();
        let configures = NETWORKS.iter().any(|(of, ending)| dir.as_str() == *of && path.name().ends_with(ending));
        let rival = wanted(dir.as_str()) && RIVALS.contains(&path.name());
        !(configures && !matches!(entry.kind, Kind::Dir) || rival)
    });
}

/// A user as the tree can have it: `vagrant` may be there already, and its number may be another's. `None` when it is there.
pub(super) fn user(user: User, accounts: &Accounts, wishes: &Wishes, over: &Over<'_>) -> (User, bool) {
    let vagrants = wishes.foreign && user.name == super::base::VAGRANT.0;
    if !vagrants {
        return (user, false);
    }
    if accounts.has_user(&user.name) {
        return (user, true);
    }
    let taken = |uid: u32| accounts.has_id(uid) || wishes.users.iter().any(|u| u.uid == uid);
    let uid = (user.uid..60_000).find(|uid| !taken(*uid)).unwrap_or(user.uid);
    let shell = if over.has(user.shell.trim_start_matches('/')) { user.shell } else { "/bin/sh".to_owned() };
    (User { uid, shell, ..user }, false)
}
