//! Root file systems from packages of this machine's own mirror, looked at by dpkg and ldconfig. Not part of the golden tests:
//! what a mirror has changes. Without a mirror, or without the tools, the test says so and passes.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use labimg::base::report::Silent;
use labimg::build::debian::{RootOptions, Unpacked, build_root, review, unpack_all, write_tree};
use labimg::build::tree::Tree;
use labimg::model::lock::LockedPackage;
use labimg::store::{Access, Store};

/// What the rules must cover beside the essential packages.
const WANT: &str = "python3 redis-server ca-certificates curl procps iproute2 netcat-openbsd less openssh-client git jq nginx-light \
    tzdata libxml2 e2fsprogs qemu-utils mmdebstrap grub-pc-bin grub-common mtools dosfstools fdisk cpio zstd xz-utils gpgv diffutils \
    dpkg-dev apt nginx";

#[test]
#[ignore = "needs the machine's Debian mirror"]
fn bookworm_is_what_dpkg_would_leave() {
    check("bookworm", "amd64", &format!("{WANT} libarchive13"));
}

#[test]
#[ignore = "needs the machine's Debian mirror"]
fn trixie_is_what_dpkg_would_leave() {
    check("trixie", "amd64", &format!("{WANT} libarchive13t64"));
}

#[test]
#[ignore = "needs the machine's Debian mirror"]
fn another_architecture_needs_nothing_run() {
    check("bookworm", "arm64", "redis-server python3 curl ca-certificates");
}

fn check(suite: &str, architecture: &str, want: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(debs) = download(dir.path(), suite, architecture, want) else {
        return println!("no mirror: {suite} is not tested");
    };
    let store = Store::open(&dir.path().join("store"), Access::Shared).unwrap();
    let packages: Vec<LockedPackage> = debs.iter().map(|deb| locked(&store, deb)).collect();
    let started = Instant::now();
    let unpacked = unpack_all(&store, &packages, dir.path(), 2, &Silent).unwrap();
    println!("{} packages of {suite} unpacked in {:?}", unpacked.len(), started.elapsed());
    beside_dpkg_deb(dir.path(), &debs);
    let open: Vec<String> =
        review(&unpacked).unwrap().into_iter().map(|u| format!("{} {}", u.package, u.hint)).collect();
    assert!(open.is_empty(), "scripts without a rule:\n{}", open.join("\n"));
    let essential_names = closure(&unpacked);
    let options =
        RootOptions { epoch: 1_750_000_000, architecture: architecture.into(), essential_names, ..Default::default() };
    let started = Instant::now();
    let root = build_root(unpacked, &options).unwrap();
    println!(
        "both trees made in {:?}: {} and {} entries",
        started.elapsed(),
        root.essential.entries.len(),
        root.full.entries.len()
    );
    for (name, tree) in [("essential", &root.essential), ("full", &root.full)] {
        let at = dir.path().join(name);
        std::fs::create_dir(&at).unwrap();
        write_tree(tree, &at, options.epoch).unwrap();
        links_lead_somewhere(tree, &at);
        if architecture != "amd64" {
            cache_is_of_arm64(&at);
            continue;
        }
        dpkg_is_content(&at);
        cache_is_ldconfigs(&at);
        runs(&at, &["/bin/sh", "-c", "id -u; command -v awk sed; exit 0"]);
    }
    if architecture != "amd64" {
        return;
    }
    let at = dir.path().join("full");
    // No device: a file is enough for what runs here.
    std::fs::write(at.join("dev/null"), "").unwrap();
    for command in [
        &[
            "/usr/bin/python3",
            "-c",
            "import ssl,json; assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 100",
        ][..],
        &["/usr/bin/redis-server", "--version"],
        &["/usr/sbin/nginx", "-t"],
        &["/usr/bin/git", "--version"],
        &["/usr/bin/nc", "-h"],
        &["/usr/bin/update-alternatives", "--query", "awk"],
        &["/usr/sbin/pwck", "-rq"],
        &["/usr/sbin/grpck", "-r"],
    ] {
        runs(&at, command);
    }
}

/// What plain extraction takes, two at once.
fn beside_dpkg_deb(dir: &Path, debs: &[PathBuf]) {
    let at = dir.join("plain");
    std::fs::create_dir(&at).unwrap();
    let started = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(deb) = debs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    // Not all go into one tree: `/bin` is a directory here and a link there.
                    let into = at.join(deb.file_stem().unwrap());
                    assert!(Command::new("dpkg-deb").arg("-x").arg(deb).arg(into).status().unwrap().success());
                }
            });
        }
    });
    println!("dpkg-deb -x of the same: {:?}", started.elapsed());
    std::fs::remove_dir_all(&at).unwrap();
}

/// Runs a command in the tree (as root only).
fn runs(root: &Path, command: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let out = Command::new("chroot").arg(root).args(command).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{command:?}: {} {text}", out.status);
    // pwck tells of home directories that are made later: 2 is a warning.
    let fine = out.status.success() || command[0].ends_with("pwck");
    assert!(fine, "{command:?}: {text}");
}

/// dpkg finds nothing to complain of: packages are installed, files have their sums.
fn dpkg_is_content(root: &Path) {
    let arg = format!("--root={}", root.display());
    for verb in [&["--audit"][..], &["--verify"]] {
        let out = Command::new("dpkg").arg(&arg).args(verb).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && text.is_empty(), "dpkg {verb:?}: {text}");
    }
    let admin = format!("--admindir={}/var/lib/dpkg", root.display());
    let out = Command::new("dpkg-query").args([&admin, "-W", "-f", "${Package} ${Status}\n"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.lines().count() > 20 && text.lines().all(|l| l.ends_with(" install ok installed")), "{text}");
}

/// ldconfig's own cache of the same tree lists the same.
fn cache_is_ldconfigs(root: &Path) {
    let ldconfig = "/sbin/ldconfig";
    let print = |cache: &Path| {
        let out = Command::new(ldconfig).arg("-p").arg("-C").arg(cache).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().filter(|l| l.starts_with('\t') && !l.contains("hwcap")).map(str::to_owned).collect::<Vec<_>>()
    };
    let theirs = root.join("theirs.cache");
    let made = Command::new(ldconfig).arg("-X").arg("-r").arg(root).args(["-C", "/theirs.cache"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (ours, other) = (print(&root.join("etc/ld.so.cache")), print(&theirs));
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (ours.iter().collect(), other.iter().collect());
    assert_eq!(a.difference(&b).collect::<Vec<_>>(), Vec::<&&String>::new(), "only ours");
    assert_eq!(b.difference(&a).collect::<Vec<_>>(), Vec::<&&String>::new(), "only ldconfig's");
    assert_eq!(ours, other, "the order is ldconfig's");
}

/// Without that architecture's ldconfig: the C library is listed as what it is, and files have their sums.
fn cache_is_of_arm64(root: &Path) {
    let out = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(root.join("etc/ld.so.cache")).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("\tlibc.so.6 (libc6,AArch64) => /lib/aarch64-linux-gnu/libc.so.6\n"), "{text}");
    let out = Command::new("dpkg").arg(format!("--root={}", root.display())).arg("--verify").output().unwrap();
    assert!(out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// Every link of our own making leads to something.
fn links_lead_somewhere(tree: &Tree, root: &Path) {
    let alternatives = tree.entries.iter().filter(|(_, e)| &*e.origin == "alternatives");
    let lost: Vec<_> = alternatives
        .filter(|(p, _)| !p.as_str().starts_with("var/lib"))
        .filter(|(p, _)| labimg::build::debian::inside::entry(tree, p.as_str()).is_none())
        .collect();
    assert!(lost.is_empty(), "{lost:?} under {}", root.display());
}

/// Essential packages and all they need, by the plain names in their fields.
fn closure(packages: &[Unpacked]) -> BTreeSet<String> {
    let by_name: BTreeMap<&str, &Unpacked> = packages.iter().map(|p| (p.package.name.as_str(), p)).collect();
    let mut todo: Vec<&str> = packages
        .iter()
        .filter(|p| p.control.stanza.text("Essential") == "yes")
        .map(|p| p.package.name.as_str())
        .collect();
    let mut found = BTreeSet::new();
    while let Some(name) = todo.pop() {
        let Some(package) = by_name.get(name) else { continue };
        if found.insert(name.to_owned()) {
            for field in ["Depends", "Pre-Depends"] {
                let text = package.control.stanza.text(field);
                todo.extend(text.split([',', '|']).map(|d| d.trim().split([' ', '(', ':']).next().unwrap_or_default()));
            }
        }
    }
    found
}

/// A package file in the store, and its entry.
fn locked(store: &Store, deb: &Path) -> LockedPackage {
    let digest = store.put(&std::fs::read(deb).unwrap()).unwrap();
    let out =
        Command::new("dpkg-deb").arg("-f").arg(deb).args(["Package", "Version", "Architecture"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    LockedPackage {
        debian: "debian".into(),
        name: field("Package:"),
        version: field("Version:"),
        architecture: field("Architecture:"),
        suite: "suite".into(),
        archive: "debian".into(),
        path: "pool".into(),
        digest,
        size: deb.metadata().unwrap().len(),
        sets: Vec::new(),
    }
}

/// Downloads packages with apt into a place of its own, from the mirror the machine is configured for.
fn download(dir: &Path, suite: &str, architecture: &str, want: &str) -> Option<Vec<PathBuf>> {
    let at = dir.join("apt");
    for name in ["etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(at.join(name)).unwrap();
    }
    let archives = match std::env::var_os("LABIMG_TEST_DEBS") {
        Some(kept) => PathBuf::from(kept).join(format!("{suite}-{architecture}")),
        None => {
            std::fs::write(at.join("status"), "").unwrap();
            let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
            std::fs::write(at.join("etc/sources.list"), format!("deb [signed-by={keys}] {} {suite} main\n", mirror()?))
                .unwrap();
            let wants: Vec<&str> = want.split_whitespace().chain(["?essential"]).collect();
            let done = apt(&at, architecture, &["update"])
                && apt(&at, architecture, &[&["-y", "--download-only", "install"], &wants[..]].concat());
            done.then_some(())?;
            at.join("cache/archives")
        }
    };
    let mut debs: Vec<PathBuf> = std::fs::read_dir(archives).ok()?.map(|e| e.unwrap().path()).collect();
    debs.retain(|p| p.extension().is_some_and(|e| e == "deb"));
    debs.sort();
    Some(debs)
}

/// The mirror of this machine's own sources.
fn mirror() -> Option<String> {
    let out = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.lines().find(|l| l.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

fn apt(at: &Path, architecture: &str, args: &[&str]) -> bool {
    let set = |name: &str, path: &str| format!("{name}={}", at.join(path).display());
    let options = [
        set("Dir::Etc", "etc"),
        set("Dir::Etc::sourcelist", "etc/sources.list"),
        set("Dir::Etc::sourceparts", "etc/none"),
        set("Dir::State", "state"),
        set("Dir::State::status", "status"),
        set("Dir::Cache", "cache"),
        "APT::Sandbox::User=".into(),
        "Acquire::Languages=none".into(),
        "APT::Install-Recommends=false".into(),
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures={architecture}"),
    ];
    let options = options.iter().flat_map(|o| ["-o", o.as_str()]);
    Command::new("apt-get").args(options).args(args).output().is_ok_and(|o| o.status.success())
}
