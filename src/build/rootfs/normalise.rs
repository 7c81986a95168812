//! What varies from one installation to the next, made the same or taken out: identities, logs, caches, backups of earlier states,
//! what came from the machine that built it. Pure: a tree in, a tree out.
//!
//! Times are the writer's: every one is the epoch.

use std::sync::Arc;

use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// Directories whose content goes, subdirectories too.
const EMPTIED: [&str; 14] = [
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/lib/cloud",
    "var/lib/dhcp",
    "var/lib/systemd/coredump",
    "var/lib/systemd/timers",
    "var/log/journal",
    "var/tmp",
    "lost+found",
];
/// Directories whose files go; subdirectories stay, for daemons want theirs.
const WITHOUT_FILES: [&str; 4] = ["var/cache/fontconfig", "var/cache/ldconfig", "var/cache/man", "var/log"];
/// Files and directories that go.
const GONE: [&str; 29] = [
    ".dockerenv",
    "etc/.pwd.lock",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/apt/sources.list.d/0000main.list",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "etc/udev/hwdb.bin-",
    "root/.bash_history",
    "root/.cache",
    "root/.viminfo",
    "root/.wget-hsts",
    "usr/sbin/policy-rc.d",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/apt/periodic",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/lib/urandom/random-seed",
    "boot/efi/loader/random-seed",
];
/// Backups of dpkg's own state.
const DPKG: &str = "var/lib/dpkg";
/// What machines are called until somebody says otherwise.
pub const HOSTNAME: &str = "labimg";
/// Files with the same content in every tree, whatever the packages left.
pub(in crate::build) const FIXED: [(&str, u32, &str); 6] = [
    // Empty, not absent: systemd makes an id at first boot (machine-id(5), "First Boot Semantics").
    ("etc/machine-id", 0o444, ""),
    ("etc/hostname", 0o644, "labimg\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 labimg\n::1 localhost ip6-localhost ip6-loopback\n"),
    ("etc/resolv.conf", 0o644, "# No name server: this machine was made for a lab without a network.\n"),
    // What systemd's ConditionNeedsUpdate= looks at: nothing is to be made anew at first boot.
    ("etc/.updated", 0o644, ""),
    ("var/.updated", 0o644, ""),
];
/// Where apt may look, instead of the folder the packages came from.
const SOURCES: (&str, &str) =
    ("etc/apt/sources.list", "# The packages came from a lock; name an archive here to install others.\n");
/// Fields 2 of these are in days since 1970: when a password was last changed (shadow(5)).
const SHADOW: &str = "etc/shadow";
/// The largest account file.
const SHADOW_LIMIT: u64 = 4 << 20;
/// Seconds of a day.
const DAY: u64 = 86_400;

/// Makes `tree` what every installation of the same packages gives; `epoch` in seconds since 1970.
///
/// # Errors
/// Account files that can not be read; hard links that lead to something else that goes.
pub fn normalise(tree: &mut Tree, epoch: u64) -> Result<(), BuildError> {
    keep_links(tree);
    tree.entries.retain(|path, entry| !goes(path, entry));
    let origin: Arc<str> = "labimg".into();
    for (path, mode, text) in FIXED {
        tree.put(GuestPath::parse(path)?, Entry::file(&origin, mode, Content::bytes(text.as_bytes())));
    }
    if inside::place(tree, "etc/apt", true).is_some_and(|p| tree.get(&p).is_some()) {
        let (path, text) = SOURCES;
        tree.put(GuestPath::parse(path)?, Entry::file(&origin, 0o644, Content::bytes(text.as_bytes())));
    }
    shadow(tree, epoch)
}

/// Whether an entry is one that goes.
pub(in crate::build) fn goes(path: &GuestPath, entry: &Entry) -> bool {
    let text = path.as_str();
    let below = |dir: &str| text.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let is_dir = matches!(entry.kind, Kind::Dir);
    EMPTIED.iter().any(|dir| below(dir))
        || (!is_dir && WITHOUT_FILES.iter().any(|dir| below(dir)))
        || GONE.iter().any(|gone| text == *gone || below(gone))
        || (text.starts_with("etc/ssh/ssh_host_") && path.parent().is_some_and(|p| p.as_str() == "etc/ssh"))
        || (path.parent().is_some_and(|p| p.as_str() == DPKG) && text.ends_with("-old"))
        || (text == "etc/mtab" && !matches!(entry.kind, Kind::Symlink(_)))
}

/// A file whose own name goes, and another stays: the content moves to the one that stays.
fn keep_links(tree: &mut Tree) {
    let lost: Vec<(GuestPath, GuestPath)> = tree
        .entries
        .iter()
        .filter_map(|(path, entry)| match &entry.kind {
            Kind::Hardlink(own) if !goes(path, entry) => Some((own.clone(), path.clone())),
            _ => None,
        })
        .filter(|(own, _)| tree.get(own).is_some_and(|e| goes(own, e)))
        .collect();
    for (own, path) in lost {
        let Some(entry) = tree.get(&own).cloned() else { continue };
        if matches!(entry.kind, Kind::File(_)) {
            let moved = Entry { kind: Kind::Hardlink(path.clone()), ..entry.clone() };
            tree.entries.insert(own, moved);
        }
        // The second name follows where the first one moved the content to.
        tree.entries.insert(path, entry);
    }
}

/// Puts the day of the last change of every password that has one.
///
/// # Errors
/// A file that can not be read.
pub(in crate::build) fn shadow(tree: &mut Tree, epoch: u64) -> Result<(), BuildError> {
    let path = GuestPath::parse(SHADOW)?;
    let Some(entry) = tree.entries.get_mut(&path) else { return Ok(()) };
    let Kind::File(content) = &entry.kind else { return Ok(()) };
    let bytes = content.read(SHADOW_LIMIT).map_err(|e| BuildError::bad(SHADOW, e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| BuildError::bad(SHADOW, "it is not UTF-8"))?;
    entry.kind = Kind::File(Content::bytes(dated(&text, epoch / DAY).into_bytes()));
    Ok(())
}

fn dated(text: &str, day: u64) -> String {
    let line = |line: &str| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if let Some(changed) = fields.get_mut(2).filter(|f| !f.is_empty()) {
            *changed = day.to_string();
        }
        fields.join(":") + "\n"
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for path in paths {
            let entry =
                Entry::file(&"test".into(), 0o600, Content::bytes(*b"root:*:20000:0:99999:7:::\nada:!::::::\n"));
            tree.put(GuestPath::parse(path).unwrap(), entry);
        }
        tree
    }

    fn names(tree: &Tree) -> Vec<&str> {
        tree.entries.keys().map(GuestPath::as_str).collect()
    }

    fn text(tree: &Tree, path: &str) -> String {
        inside::text(tree, path).unwrap()
    }

    #[test]
    fn what_varies_goes_and_what_stands_beside_it_stays() {
        let goes = [
            "dev/null",
            "run/lock/x",
            "tmp/x",
            "var/tmp/x",
            "var/cache/apt/pkgcache.bin",
            "var/lib/apt/lists/x_Packages",
            "var/lib/systemd/random-seed",
            "var/lib/systemd/timers/stamp-x",
            "var/log/journal/0123/system.journal",
            "var/log/apt/term.log",
            "var/log/lastlog",
            "var/cache/ldconfig/aux-cache",
            "var/cache/man/index.db",
            "var/cache/debconf/config.dat-old",
            "var/lib/dpkg/status-old",
            "var/lib/dpkg/lock",
            "var/lib/dpkg/triggers/Lock",
            "var/lib/dbus/machine-id",
            "etc/.pwd.lock",
            "etc/passwd-",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/apt/sources.list.d/0000main.list",
            "etc/mtab",
            "root/.cache/x/y",
            "usr/sbin/policy-rc.d",
        ];
        let stays = [
            "etc/ssh/moduli",
            "var/cache/debconf/config.dat",
            "var/lib/dpkg/status",
            "var/lib/dpkg/info/old-old",
            "var/lib/apt/extended_states",
            "devices/x",
            "etc/passwd",
            "boot/initrd.img-6",
        ];
        let mut all = tree(&[&goes[..], &stays[..]].concat());
        normalise(&mut all, 0).unwrap();
        for path in goes {
            assert!(!names(&all).contains(&path), "{path}");
        }
        for path in
            stays.into_iter().chain(["dev", "tmp", "var/log", "var/log/apt", "var/log/journal", "var/lib/apt/lists"])
        {
            assert!(names(&all).contains(&path), "{path}");
        }
        assert!(!names(&all).contains(&"var/log/journal/0123"), "it is called by a machine's id");
    }

    #[test]
    fn identities_are_fixed_and_passwords_changed_at_the_epoch() {
        let mut all =
            tree(&["etc/machine-id", "etc/hostname", "etc/shadow", "etc/apt/sources.list", "etc/resolv.conf"]);
        normalise(&mut all, 86_400 * 100 + 5).unwrap();
        assert_eq!((text(&all, "etc/machine-id"), text(&all, "etc/hostname")), (String::new(), "labimg\n".to_owned()));
        assert_eq!(text(&all, "etc/shadow"), "root:*:100:0:99999:7:::\nada:!::::::\n");
        assert!(text(&all, "etc/resolv.conf").starts_with('#') && text(&all, "etc/apt/sources.list").starts_with('#'));
        assert!(text(&all, "etc/hosts").contains(HOSTNAME));
        let shadow = all.get(&GuestPath::parse("etc/shadow").unwrap()).unwrap();
        assert_eq!(shadow.mode, 0o600, "the mode stays");
        let again = names(&all).join(" ");
        normalise(&mut all, 86_400 * 100 + 5).unwrap();
        assert_eq!(names(&all).join(" "), again);
        let mut without = tree(&["etc/x"]);
        normalise(&mut without, 0).unwrap();
        assert!(without.get(&GuestPath::parse("etc/apt").unwrap()).is_none(), "no apt, no sources");
    }

    #[test]
    fn a_link_outlives_the_name_that_goes() {
        let mut all = tree(&["tmp/a"]);
        let path = |p: &str| GuestPath::parse(p).unwrap();
        all.put(path("usr/b"), Entry { kind: Kind::Hardlink(path("tmp/a")), ..Entry::dir(&"test".into()) });
        all.put(path("usr/c"), Entry { kind: Kind::Hardlink(path("tmp/a")), ..Entry::dir(&"test".into()) });
        normalise(&mut all, 0).unwrap();
        assert_eq!(text(&all, "usr/b"), text(&all, "usr/c"));
    }
}
