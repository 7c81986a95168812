//! The same bytes whoever installs the packages, and what is said when it does not work.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debs;
use crate::job::{DEBS, DIR, HELPER, SAYS};
use labimg::build::rootfs::{PROGRAMS, base_packages};

/// An ordinary user with a range of ids, made by the test.
const USER: &str = "labimg-rootfs";

/// Folder `box` and `tool` with packages; `None` without a mirror.
fn packages(dir: &Path) -> Option<PathBuf> {
    let mut want = base_packages("amd64", None);
    // Capabilities of a file, compiled Python, a script that asks questions.
    want.extend(["iputils-ping", "libcap2-bin", "python3-minimal", "tzdata"].map(str::to_owned));
    let tools: Vec<String> = PROGRAMS.iter().map(|p| (*p).to_owned()).collect();
    let (machine, tool) = (debs::fetch(dir, "bookworm", &want)?, debs::fetch(dir, "trixie", &tools)?);
    let debs = dir.join("debs");
    for (name, from) in [("box", machine), ("tool", tool)] {
        let to = debs.join(name);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    open(dir);
    Some(debs)
}

fn open(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// What a job said after `SAYS[which]`.
fn said(output: &str, which: usize) -> Option<String> {
    let at = output.find(SAYS[which])? + SAYS[which].len();
    let rest = &output[at..];
    let end = if which == 1 { rest.find(SAYS[2]).unwrap_or(rest.len()) } else { rest.find('\n').unwrap_or(rest.len()) };
    Some(rest[..end].trim_end().to_owned())
}

/// Runs a job; `before` is what starts it.
fn job(before: &[&str], dir: &Path, debs: &Path, helper: &Path, tests: &Path, env: &[(&str, &str)]) -> String {
    let mut argv = before.to_vec();
    let tests = tests.to_str().unwrap();
    argv.extend([tests, "--exact", "job::job", "--nocapture", "--test-threads=1"]);
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).env(DIR, dir).env(DEBS, debs).env(HELPER, helper).env("TMPDIR", dir);
    let out = command.envs(env.iter().copied()).current_dir(dir).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("--- {before:?}\n{text}");
    text
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes the user and its range; `None`, and a loud word, where that does not work.
fn user() -> Option<()> {
    let known = Command::new("id").arg(USER).output().is_ok_and(|o| o.status.success());
    let made = known || Command::new("useradd").args(["--no-create-home", USER]).status().is_ok_and(|s| s.success());
    let has = |path: &str| std::fs::read_to_string(path).unwrap_or_default().contains(&format!("{USER}:"));
    let range = (has("/etc/subuid") && has("/etc/subgid"))
        || Command::new("usermod")
            .args(["--add-subuids", "1700000-1765535", "--add-subgids", "1700000-1765535", USER])
            .status()
            .is_ok_and(|s| s.success());
    let helper = Path::new("/usr/bin/newuidmap").is_file();
    if !made || !range || !helper {
        eprintln!("NOT TESTED as an ordinary user: user {made}, range {range}, newuidmap (package uidmap) {helper}");
        return None;
    }
    Some(())
}

/// A folder of the ordinary user's.
fn own(dir: &Path, name: &str) -> PathBuf {
    let at = dir.join(name);
    std::fs::create_dir_all(&at).unwrap();
    assert!(Command::new("chown").arg(USER).arg(&at).status().unwrap().success());
    at
}

#[test]
#[ignore = "needs a Debian mirror and some minutes"]
fn the_same_bytes_whoever_installs() {
    let dir = tempfile::tempdir().unwrap();
    let Some(debs) = packages(dir.path()) else { return };
    let (tests, helper) = (dir.path().join("tests"), dir.path().join("labimg"));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_labimg"), &helper).unwrap();
    let mut digests = Vec::new();
    let mut first = None;
    let mut go = |before: &[&str], at: &Path, env: &[(&str, &str)]| {
        let output = job(before, at, &debs, &helper, &tests, env);
        let Some(found) = said(&output, 0) else { panic!("{output}") };
        let (digest, path) = found.split_once(' ').unwrap();
        digests.push((format!("{before:?}"), digest.to_owned()));
        differences(first.get_or_insert_with(|| PathBuf::from(path)), Path::new(path));
    };
    let one = dir.path().join("one");
    std::fs::create_dir(&one).unwrap();
    go(
        &["sh", "-c", "umask 077; exec \"$@\"", "-"],
        &one,
        &[("TZ", "Asia/Tokyo"), ("LC_ALL", "C"), ("LANG", "tr_TR.UTF-8")],
    );
    if is_root() && user().is_some() {
        let as_user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"];
        let home = own(dir.path(), "a folder of another name");
        go(&as_user, &home, &[("TZ", "America/Lima"), ("USER", USER)]);
        let home = own(dir.path(), "three");
        go(&[&as_user[..], &["unshare", "--map-root-user", "--map-auto"]].concat(), &home, &[]);
    } else {
        println!("NOT TESTED as others: this is not root");
    }
    println!("{digests:#?}");
    assert!(digests.windows(2).all(|pair| pair[0].1 == pair[1].1), "{digests:#?}");
    looks_right(first.as_ref().unwrap());
    crate::compose::on_top(&one.join("store"), &digests[0].1, dir.path());
}

/// Says what differs between two trees.
fn differences(one: &Path, other: &Path) {
    let list = |path: &Path| {
        let tree = labimg::build::rootfs::read_tree(path, "tree").unwrap();
        let line = |(path, entry): (&labimg::model::guest_path::GuestPath, &labimg::build::tree::Entry)| {
            use labimg::build::tree::Kind;
            let what = match &entry.kind {
                Kind::File(content) => {
                    labimg::base::digest::hash_reader(content.open().unwrap()).unwrap().0.to_string()
                }
                other => format!("{other:?}"),
            };
            format!("{path} {:o} {}:{} {:?} {what}", entry.mode, entry.uid, entry.gid, entry.capability)
        };
        tree.entries.iter().map(line).collect::<std::collections::BTreeSet<_>>()
    };
    if one != other && one.file_name() != other.file_name() {
        let (a, b) = (list(one), list(other));
        println!("DIFFER: {:#?}", a.symmetric_difference(&b).collect::<Vec<_>>());
    }
}

/// The tree, read back.
fn looks_right(tar: &Path) {
    use labimg::build::debian::inside;
    let tree = labimg::build::rootfs::read_tree(tar, "the tree").unwrap();
    println!("{} entries, {} bytes", tree.entries.len(), tar.metadata().unwrap().len());
    assert_eq!(inside::text(&tree, "etc/machine-id").unwrap(), "");
    assert_eq!(inside::list(&tree, "dev"), Vec::<String>::new());
    assert!(inside::list(&tree, "boot").iter().any(|n| n.starts_with("initrd.img-")));
    assert!(inside::list(&tree, "etc/ssh").iter().all(|n| !n.starts_with("ssh_host_")));
    let ping = inside::entry(&tree, "usr/bin/ping").unwrap();
    assert!(
        ping.capability.as_ref().is_some_and(|c| c.len() == 20),
        "{:?}: version 2, for every machine",
        ping.capability
    );
}

#[test]
#[ignore = "needs a Debian mirror and some minutes"]
fn a_package_that_fails_to_configure_shows_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let Some(debs) = packages(dir.path()) else { return };
    // Little else: this is about what is said.
    let essential = dir.path().join("small");
    std::fs::create_dir_all(essential.join("box")).unwrap();
    std::os::unix::fs::symlink(debs.join("tool"), essential.join("tool")).unwrap();
    let closure = small(&debs.join("box"));
    for deb in closure {
        std::fs::copy(&deb, essential.join("box").join(deb.file_name().unwrap())).unwrap();
    }
    let script = "#!/bin/sh\necho looking for the answer\necho there is none >&2\nexit 7\n";
    let deb = debs::make(dir.path(), "sorrow", script);
    std::fs::copy(deb, essential.join("box/sorrow.deb")).unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let helper = Path::new(env!("CARGO_BIN_EXE_labimg"));
    let output = job(&["env"], &work, &essential, helper, &std::env::current_exe().unwrap(), &[]);
    let error = said(&output, 1).unwrap();
    assert!(error.starts_with("installing package sorrow"), "{error}");
    for line in ["looking for the answer", "there is none", "exit status 7"] {
        assert!(error.contains(line), "{line}: {error}");
    }
}

/// The essential packages of a folder and all they need.
fn small(dir: &Path) -> Vec<PathBuf> {
    use std::collections::{BTreeMap, BTreeSet};
    let mut known = BTreeMap::new();
    let mut todo = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        let out = Command::new("dpkg-deb").arg("-f").arg(&path).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let field = |name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
        };
        if field("Essential") == "yes" {
            todo.push(field("Package"));
        }
        let names = format!("{},{}", field("Package"), field("Provides"));
        let depends = format!("{},{}", field("Depends"), field("Pre-Depends"));
        for name in names.split(',').map(|n| n.trim().split(' ').next().unwrap().to_owned()) {
            known.insert(name, (path.clone(), depends.clone()));
        }
    }
    let mut found = BTreeSet::new();
    while let Some(name) = todo.pop() {
        let Some((_, depends)) = known.get(&name) else { continue };
        if found.insert(name) {
            todo.extend(depends.split([',', '|']).map(|d| d.trim().split([' ', '(', ':']).next().unwrap().to_owned()));
        }
    }
    found.iter().map(|name| known[name].0.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn without_a_range_it_says_what_is_missing() {
    if !is_root() {
        println!("NOT TESTED: this is not root");
        return;
    }
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    open(dir.path());
    let helper = dir.path().join("labimg");
    std::fs::copy(env!("CARGO_BIN_EXE_labimg"), &helper).unwrap();
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    std::os::unix::fs::chown(&scratch, Some(65534), Some(65534)).unwrap();
    let spec = format!(
        r#"{{"tree":"/nonexistent","inputs":{{}},"scratch":"{}","argv":["x"],"env":{{}},"epoch":0,"cores":1,"ids":"range"}}"#,
        scratch.display()
    );
    let file = scratch.join("sandbox.json");
    std::fs::write(&file, spec).unwrap();
    let pid = std::process::id().to_string();
    let run = |command: &mut Command| {
        let _ = command.args(["sandbox-init".as_ref(), file.as_os_str(), pid.as_ref()]).status().unwrap();
        let path = scratch.join("status.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        text
    };
    let text = run(Command::new(&helper).uid(65534).gid(65534));
    println!("{text}");
    let wanted =
        if Path::new("/usr/bin/newuidmap").is_file() { "usermod --add-subuids" } else { "apt-get install uidmap" };
    assert!(text.contains(wanted), "{text}");
}
