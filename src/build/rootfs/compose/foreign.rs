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
/// Units of distributions that make the host keys which are not there.
const KEYGENS: &str = "sshd-keygen@rsa.service sshd-keygen@ecdsa.service sshd-keygen@ed25519.service sshd-keygen.service sshdgenkeys.service";
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

/// The unit that makes host keys before the server starts. The distribution may make some by a unit of its own at the same
/// time: what is there stays, and a server with keys starts whoever made them.
pub(super) fn host_keys(over: &Over<'_>) -> String {
    let server = ssh_unit(over);
    format!(
        "[Unit]
Description=SSH host keys of this machine
Before={server} ssh.socket sshd.socket {KEYGENS}

[Service]
Type=oneshot
ExecStart=-/bin/sh -c 'for t in ecdsa ed25519; do f=/etc/ssh/ssh_host_$${{t}}_key; \
test -s $$f || {{ rm -f $$f $$f.pub; ssh-keygen -q -N \"\" -t $$t -f $$f; }}; done'

[Install]
WantedBy=multi-user.target {server}
"
    )
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

/// A user as the tree can have it: `vagrant` may be there already, and its number may be another's. Whether it is there comes second.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::build::tree::{Content, Entry};
    use crate::model::guest_path::GuestPath;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let origin: Arc<str> = "base".into();
        let mut tree = Tree::default();
        for (path, text) in files {
            let entry = Entry::file(&origin, 0o644, Content::bytes(text.as_bytes()));
            tree.put(GuestPath::parse(path).unwrap(), entry);
        }
        tree
    }

    fn names(tree: &Tree) -> Vec<&str> {
        let files = tree.entries.iter().filter(|(_, e)| !matches!(e.kind, Kind::Dir));
        files.map(|(p, _)| p.as_str()).collect()
    }

    fn foreign() -> Wishes {
        Wishes { foreign: true, ..Wishes::default() }
    }

    #[test]
    fn the_manager_that_is_switched_on_gets_dhcp_and_old_networks_go() {
        let old = [
            (NETWORKD[0], ""),
            ("etc/cloud/cloud.cfg", ""),
            ("etc/netplan/50-cloud-init.yaml", "ens3"),
            ("etc/network/interfaces", "auto eth0\n"),
            ("etc/network/interfaces.d/50-cloud", ""),
            ("etc/systemd/network/10-static.network", ""),
            ("etc/systemd/network/99-default.link", ""),
            ("etc/systemd/system/multi-user.target.wants/wicked.service", ""),
        ];
        let mut by_networkd = tree(&old);
        put(&mut Over::new(&mut by_networkd), &foreign()).unwrap();
        let stays = [
            "etc/cloud/cloud-init.disabled",
            "etc/cloud/cloud.cfg",
            "etc/network/interfaces",
            "etc/systemd/network/99-default.link",
            NETWORKD[0],
        ];
        assert_eq!(names(&by_networkd), stays);
        assert_eq!(inside::text(&by_networkd, "etc/network/interfaces").unwrap(), "auto lo\niface lo inet loopback\n");

        let mut by_manager =
            tree(&[&old[..], &[(MANAGER, ""), ("etc/NetworkManager/system-connections/eth0", "")]].concat());
        let mut over = Over::new(&mut by_manager);
        put(&mut over, &foreign()).unwrap();
        assert!(!networkd(&over, &foreign()) && networkd(&over, &Wishes::default()));
        let own = GuestPath::parse("etc/NetworkManager/system-connections/labimg-dhcp.nmconnection").unwrap();
        assert_eq!(by_manager.get(&own).unwrap().mode, 0o600);
        assert!(!names(&by_manager).iter().any(|n| n.ends_with("/eth0")));

        let error = put(&mut Over::new(&mut tree(&[])), &foreign()).unwrap_err().to_string();
        assert!(error.contains("neither NetworkManager"), "{error}");
    }

    #[test]
    fn vagrant_takes_a_free_number_or_the_name_that_is_there() {
        let found = |passwd: &str, uids: &[u32]| {
            let mut tree = tree(&[("etc/passwd", passwd), ("bin/bash", "")]);
            let over = Over::new(&mut tree);
            let accounts = Accounts::read(&over).unwrap();
            let user_of = |uid: &u32| User { uid: *uid, name: format!("u{uid}"), ..foreign().users().remove(0) };
            let wishes = Wishes { users: uids.iter().map(user_of).collect(), ..foreign() };
            let (user, is_there) = user(wishes.users().remove(0), &accounts, &wishes, &over);
            (user.uid, user.shell, is_there)
        };
        assert_eq!(found("root:x:0:0::/root:/bin/sh\n", &[]), (1000, "/bin/bash".to_owned(), false));
        assert_eq!(found("ubuntu:x:1000:1000::/home/ubuntu:/bin/sh\n", &[1001]).0, 1002);
        assert!(found("vagrant:x:900:900::/home/vagrant:/bin/sh\n", &[]).2);
    }

    #[test]
    fn the_server_is_called_as_the_distribution_calls_it() {
        let of = |units: &[&str]| {
            let paths: Vec<String> = units.iter().map(|u| format!("usr/lib/systemd/system/{u}")).collect();
            let files: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), "")).collect();
            ssh_unit(&Over::new(&mut tree(&files)))
        };
        let keys = host_keys(&Over::new(&mut tree(&[("usr/lib/systemd/system/sshd.service", "")])));
        assert!(
            keys.contains("\nBefore=sshd.service ") && keys.contains("f=/etc/ssh/ssh_host_$${t}_key; test -s $$f "),
            "{keys}"
        );
        assert!(keys.ends_with("WantedBy=multi-user.target sshd.service\n") && keys.contains("-N \"\" "), "{keys}");
        assert_eq!((of(&["sshd.service"]), of(&["ssh.service", "sshd.service"])), ("sshd.service", "ssh.service"));
    }
}
