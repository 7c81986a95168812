//! What is known to make a path or a field differ between two builds.

/// Ends of paths (a `*` at the end stands for anything in that name) and what makes them differ. The first that fits counts.
const PATHS: [(&str, &str); 18] = [
    ("etc/ssh/ssh_host_*", "host keys are made when the package is installed: remove them, make them at first boot"),
    ("etc/machine-id", "a random number of each installation: ship an empty file"),
    ("var/lib/dbus/machine-id", "a random number of each installation: ship a link to /etc/machine-id"),
    ("random-seed", "a seed of random numbers: remove it"),
    ("etc/shadow", "it holds the day of the last change of a password, and salts"),
    ("etc/shadow-", "it holds the day of the last change of a password, and salts"),
    ("var/cache/ldconfig/aux-cache", "it holds inode numbers and times: remove it"),
    ("etc/ld.so.cache", "its order follows the directories' on the disk"),
    ("index.db", "the index of manual pages holds times: remove it"),
    ("lastlog", "it holds the time of a login: empty it"),
    ("wtmp", "it holds the times of logins: empty it"),
    ("boot/initrd.img*", "update-initramfs ran without SOURCE_DATE_EPOCH"),
    ("boot/grub/grubenv", "the boot loader's state"),
    ("etc/fstab", "it may name a file system by a random UUID"),
    ("ssl-cert-snakeoil.key", "a key made when the package is installed: remove it"),
    ("ssl-cert-snakeoil.pem", "a certificate made when the package is installed: remove it"),
    ("etc/resolv.conf", "a copy of the build machine's"),
    ("etc/hostname", "a copy of the build machine's"),
];

/// Directories whose files differ for one reason.
const BELOW: [(&str, &str); 3] = [
    ("var/log/", "logs hold times: remove them"),
    ("var/lib/apt/lists/", "lists of packages are fetched: remove them"),
    ("var/cache/", "a cache: remove it"),
];

/// Fields and structures that no file shows.
const FIELDS: [(&str, &str); 12] = [
    ("disk identifier", "give the partition table a fixed label-id"),
    ("disk GUID", "give the partition table a fixed label-id"),
    ("unique GUID", "give each partition a fixed UUID"),
    ("hash seed", "mke2fs chose it: give -E hash_seed"),
    ("UUID", "mke2fs chose it: give -U"),
    ("time of creation", "mke2fs took the clock: set E2FSPROGS_FAKE_TIME or SOURCE_DATE_EPOCH"),
    ("time of the last write", "the file system was written to after it was made, or the clock was used"),
    ("time of the last mount", "the file system was mounted: never ship a disk that was"),
    ("mounts", "the file system was mounted: never ship a disk that was"),
    ("time of the last check", "mke2fs took the clock: set E2FSPROGS_FAKE_TIME or SOURCE_DATE_EPOCH"),
    ("inode ctime", "only times that no archive shows: mke2fs took the clock"),
    ("journal", "the file system was mounted, or its journal was not cleared"),
];

/// What is known to make this path's content differ.
pub fn of_path(path: &str) -> Option<&'static str> {
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let fits = |end: &str| {
        let (name, open) = end.strip_suffix('*').map_or((end, false), |n| (n, true));
        let tail = match open {
            true => path.rfind(name).and_then(|at| path.get(at..)).filter(|t| !t.contains('/') || name.contains('/')),
            false => path.ends_with(name).then_some(name),
        };
        tail.is_some_and(|t| {
            let before = path.strip_suffix(t).unwrap_or_default();
            (before.is_empty() || before.ends_with('/')) && !t.strip_prefix(name).unwrap_or_default().contains('/')
        })
    };
    let known = PATHS.iter().find(|(end, _)| fits(end)).map(|(_, cause)| *cause);
    let compiled =
        || (path.ends_with(".pyc")).then_some("Python's compiled files hold their source's time: remove them");
    known.or_else(compiled).or_else(|| BELOW.iter().find(|(dir, _)| path.starts_with(dir)).map(|(_, cause)| *cause))
}

/// What is known to make this field differ.
pub fn of_field(name: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(field, _)| name.starts_with(field) || name.ends_with(field)).map(|(_, cause)| *cause)
}

/// What a difference of times alone means.
pub const ONLY_MTIME: &str = "its time was not set to the epoch";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths_have_causes() {
        for path in [
            "/etc/ssh/ssh_host_rsa_key",
            "etc/machine-id",
            "./var/log/apt/term.log",
            "/usr/lib/python3/x.pyc",
            "/boot/initrd.img-6.1",
            "/var/lib/systemd/random-seed",
            "/var/cache/man/index.db",
        ] {
            assert!(of_path(path).is_some(), "{path}");
        }
        for path in ["/etc/ssh/sshd_config", "/usr/bin/ls", "/opt/not-etc/shadows", "/home/xetc/machine-id", ""] {
            assert!(of_path(path).is_none(), "{path}");
        }
        assert!(of_field("hash seed").is_some() && of_field("label").is_none());
    }
}
