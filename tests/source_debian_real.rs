//! The machine's own Debian mirror: what we choose is what apt chooses.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use labimg::base::report::Silent;
use labimg::model::lock::PackageSet;
use labimg::source::debian::{Resolved, SuiteRequest, mirror, resolve};
use labimg::source::{ErrorKind, Net, NetOptions, SourceError};
use labimg::store::{Access, Store};

const TOOLS: [&str; 15] = [
    "cpio",
    "diffutils",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "gpgv",
    "grub-common",
    "grub-pc-bin",
    "libarchive13t64",
    "libc-bin",
    "mmdebstrap",
    "mtools",
    "qemu-utils",
    "xz-utils",
    "zstd",
];

/// The mirrors apt knows of an archive.
fn known(archive: &str) -> Option<String> {
    let bases = mirror::bases(&NetOptions::default(), archive, None, 0).unwrap();
    bases.origin.contains("apt's configuration").then(|| bases.urls[0].to_string())
}

fn request(suite: &str, sets: Vec<PackageSet>) -> SuiteRequest {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut suites = vec![suite.to_owned(), format!("{suite}-updates")];
    if known("debian-security").is_some() {
        suites.push(format!("{suite}-security"));
    }
    SuiteRequest {
        debian: suite.to_owned(),
        suites,
        components: vec!["main".to_owned()],
        archive: "debian".to_owned(),
        now,
        sets,
        ..SuiteRequest::default()
    }
}

fn set(architecture: &str, want: &[&str], essential: bool) -> PackageSet {
    PackageSet {
        name: format!("image x {architecture}"),
        debian: "x".to_owned(),
        architecture: architecture.to_owned(),
        want: want.iter().map(|w| (*w).to_owned()).collect(),
        essential,
    }
}

/// What apt would unpack on an empty machine, as `name version`.
fn apt(dir: &Path, request: &SuiteRequest, set: &PackageSet) -> Option<BTreeSet<String>> {
    let home = dir.join(format!("{}-{}", request.debian, set.architecture));
    for part in ["etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"] {
        fs_err::create_dir_all(home.join(part)).unwrap();
    }
    let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    let line = |suite: &String| {
        let archive = if suite.ends_with("-security") { "debian-security" } else { "debian" };
        Some(format!("deb {signed} {} {suite} main\n", known(archive)?))
    };
    let list: String = request.suites.iter().filter_map(line).collect();
    fs_err::write(home.join("sources.list"), list).unwrap();
    fs_err::write(home.join("status"), "").unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", "/dev/null").arg("-q");
        for (name, path) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "etc/none"),
            ("Dir::Etc::parts", "etc/apt.conf.d"),
            ("Dir::Etc::preferencesparts", "etc/preferences.d"),
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(format!("{name}={}", home.join(path).display()));
        }
        // The last one: apt counts itself as essential, which nothing in the archive says.
        for option in ["APT::Sandbox::User=", "Acquire::Languages=none", "pkgCacheGen::ForceEssential=,"] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("APT::Architecture={}", set.architecture)]);
        command.args(["-o", &format!("APT::Architectures::={}", set.architecture)]);
        let done = command.args(args).output().ok()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&done.stderr));
        Some(text)
    };
    run(&["update"])?;
    let mut args = vec!["install", "-s", "--no-install-recommends"];
    args.extend(set.want.iter().map(String::as_str));
    if set.essential {
        args.push("?essential");
    }
    let text = run(&args)?;
    // `Inst libc6 (2.36-9+deb12u10 Debian:12.10/oldstable [amd64])`
    let packages = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    let label = |line: &str| {
        let (name, rest) = line.split_once(" (")?;
        Some(format!("{} {}", name.split(':').next()?, rest.split(' ').next()?))
    };
    Some(packages.filter_map(label).collect())
}

fn ours(resolved: &Resolved, set: &PackageSet) -> BTreeSet<String> {
    let mine = resolved.packages.iter().filter(|p| p.sets.contains(&set.name));
    mine.map(|p| format!("{} {}", p.name, p.version)).collect()
}

#[tokio::test]
async fn the_closure_is_the_one_apt_finds() {
    if known("debian").is_none() {
        println!("NOT RUN: apt's configuration on this machine names no mirror of `debian`");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("store"), Access::Shared).unwrap());
    let net = Net::new(NetOptions { tries: 2, ..NetOptions::default() }, Arc::new(Silent));
    let app = ["python3", "redis-server"];
    let requests = [
        request("bookworm", vec![set("amd64", &app, false), set("arm64", &app, true)]),
        request("trixie", vec![set("amd64", &TOOLS, true)]),
    ];
    for request in requests {
        let resolved = match resolve(&net, &store, &request).await {
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                println!("NOT RUN: {error}");
                return;
            }
            other => other.map_err(|e: SourceError| format!("{e}\n{:?}", e.hint())).unwrap(),
        };
        for set in &request.sets {
            let ours = ours(&resolved, set);
            println!("{} {}: {} packages", request.debian, set.architecture, ours.len());
            let Some(theirs) = apt(dir.path(), &request, set) else {
                println!("NOT RUN: there is no apt-get to compare with");
                return;
            };
            let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
            assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (vec![], vec![]), "ours alone, apt's alone");
        }
    }
}
