//! What a machine writes because it runs, whatever its steps do: identities, logs, caches, leases, states of daemons. None of it
//! comes into what is made.

use crate::build::rootfs::normalise::{FIXED, goes};
use crate::build::tree::Entry;
use crate::model::guest_path::GuestPath;

use super::agent;

/// Directories of which nothing is taken. What an engine or a cluster keeps there has keys, tokens and random names in it, and
/// belongs to one machine: it is made at the first start.
const NOTHING_BELOW: [&str; 22] = [
    "etc/cni/net.d",
    "etc/kubernetes/pki",
    "etc/rancher/node",
    "media",
    "mnt",
    "root/.ansible",
    "var/backups",
    "var/lib/NetworkManager",
    "var/lib/containerd",
    "var/lib/dbus",
    "var/lib/dhcpcd",
    "var/lib/docker",
    "var/lib/kubelet",
    "var/lib/logrotate",
    "var/lib/private",
    "var/lib/rancher/k3s/server/cred",
    "var/lib/rancher/k3s/server/db",
    "var/lib/rancher/k3s/server/tls",
    "var/lib/upower",
    "var/spool/anacron",
    "var/spool/postfix",
    "root/.config/procps",
];
/// Files of which nothing is taken.
const NOT_TAKEN: [&str; 6] = [
    "etc/adjtime",
    "etc/rancher/k3s/k3s.yaml",
    "etc/udev/hwdb.bin",
    "root/.lesshst",
    "root/.ssh/known_hosts",
    "var/lib/rancher/k3s/server/token",
];
/// What is taken of `/var/lib/systemd`: which units the packages' scripts have enabled, and who has units of their own.
const OF_SYSTEMD: [&str; 3] = ["deb-systemd-helper-enabled", "deb-systemd-helper-masked", "linger"];
/// What is taken of `/var/cache`: answers to the packages' questions.
const OF_CACHE: [&str; 1] = ["debconf"];
/// Files of homes.
const OF_HOMES: [&str; 4] = [".bash_history", ".cache", ".lesshst", ".viminfo"];

/// Whether an entry says more of the run than of the steps.
pub(super) fn is_noise(path: &GuestPath, entry: &Entry) -> bool {
    let text = path.as_str();
    goes(path, entry)
        || agent::is_ours(text)
        || FIXED.iter().any(|(fixed, ..)| *fixed == text && !STEPS_SET.contains(fixed))
        || NOT_TAKEN.contains(&text)
        || NOTHING_BELOW.iter().any(|dir| below(text, dir).is_some())
        || below(text, "var/lib/systemd").is_some_and(|rest| !first_is(rest, &OF_SYSTEMD))
        || below(text, "var/cache").is_some_and(|rest| !first_is(rest, &OF_CACHE))
        || below(text, "home").and_then(|rest| rest.split_once('/')).is_some_and(|(_, rest)| first_is(rest, &OF_HOMES))
}

/// Directories of [`NOTHING_BELOW`] in which a step may well have wanted to leave something: people are told.
const TOLD: [&str; 7] = [
    "etc/kubernetes/pki",
    "media",
    "mnt",
    "var/lib/containerd",
    "var/lib/docker",
    "var/lib/kubelet",
    "var/lib/rancher/k3s/server/db",
];

/// The directory whose content is left out although a step may have meant to leave it.
pub(super) fn left_out(path: &GuestPath) -> Option<&'static str> {
    TOLD.into_iter().find(|dir| below(path.as_str(), dir).is_some())
}

/// Files that every tree has the same, until a step says otherwise.
const STEPS_SET: [&str; 2] = ["etc/hostname", "etc/hosts"];

fn below<'t>(path: &'t str, dir: &str) -> Option<&'t str> {
    path.strip_prefix(dir)?.strip_prefix('/')
}

fn first_is(path: &str, names: &[&str]) -> bool {
    names.contains(&path.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_from_steps() {
        let noise = |path: &str| is_noise(&GuestPath::parse(path).unwrap(), &Entry::file(&"x".into(), 0, empty()));
        for path in [
            "etc/machine-id",
            "etc/resolv.conf",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/labimg-provision",
            "home/ada/.bash_history",
            "home/ada/.cache/x",
            "root/.ssh/known_hosts",
            "run/x",
            "tmp/x",
            "var/cache/man/index.db",
            "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
            "var/lib/rancher/k3s/server/tls/server-ca.key",
            "var/lib/systemd/timers/stamp-x",
            "var/log/journal/1/system.journal",
        ] {
            assert!(noise(path), "{path}");
        }
        for path in [
            "etc/hosts",
            "etc/hostname",
            "etc/passwd",
            "home/ada/x",
            "home/.cache",
            "root/.ssh/authorized_keys",
            "srv/x",
            "var/cache/debconf/config.dat",
            "var/lib/app/x",
            "var/lib/dpkg/status",
            "var/lib/rancher/k3s/agent/images/x.tar",
            "var/lib/systemd/deb-systemd-helper-enabled/x.dsh-also",
        ] {
            assert!(!noise(path), "{path}");
        }
    }

    #[test]
    fn who_works_below_mnt_is_told() {
        let of = |path: &str| left_out(&GuestPath::parse(path).unwrap());
        assert_eq!(of("mnt/data/x"), Some("mnt"));
        assert_eq!((of("mnt"), of("var/log/x"), of("srv/x")), (None, None, None));
        assert!(TOLD.iter().all(|dir| NOTHING_BELOW.contains(dir)));
    }

    fn empty() -> crate::build::tree::Content {
        crate::build::tree::Content::bytes(*b"")
    }
}
