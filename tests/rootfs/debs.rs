//! Packages: fetched with apt into a place of its own from the mirror this machine is configured for, or made here.

use std::path::{Path, PathBuf};
use std::process::Command;

use labimg::model::lock::LockedPackage;
use labimg::store::Store;

/// Fetches `want`, all it needs and the essential packages of a suite into a folder; `None`, and a loud word, without a mirror.
/// `LABIMG_TEST_DEBS` names a folder that keeps them: `rootfs-<suite>` in it.
pub fn fetch(dir: &Path, suite: &str, want: &[String]) -> Option<PathBuf> {
    let kept = std::env::var_os("LABIMG_TEST_DEBS").map(|kept| PathBuf::from(kept).join(format!("rootfs-{suite}")));
    if let Some(kept) = kept.as_ref().filter(|k| k.is_dir()) {
        return Some(kept.clone());
    }
    let to = kept.unwrap_or_else(|| dir.join(format!("debs-{suite}")));
    let got = download(dir, suite, want, &to);
    if got.is_none() {
        let _ = std::fs::remove_dir_all(&to);
        eprintln!("NOT TESTED: this machine's apt has no archive of {suite} that answers");
    }
    got.map(|()| to)
}

fn download(dir: &Path, suite: &str, want: &[String], to: &Path) -> Option<()> {
    let at = dir.join(format!("apt-{suite}"));
    for name in ["etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache"] {
        std::fs::create_dir_all(at.join(name)).unwrap();
    }
    std::fs::create_dir_all(to.join("partial")).unwrap();
    std::fs::write(at.join("status"), "").unwrap();
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    std::fs::write(at.join("etc/sources.list"), format!("deb [signed-by={keys}] {} {suite} main\n", mirror()?))
        .unwrap();
    let set = |name: &str, path: &str| format!("{name}={}", at.join(path).display());
    let options = [
        set("Dir::Etc", "etc"),
        set("Dir::Etc::sourcelist", "etc/sources.list"),
        set("Dir::Etc::sourceparts", "etc/none"),
        set("Dir::State", "state"),
        set("Dir::State::status", "status"),
        set("Dir::Cache", "cache"),
        format!("Dir::Cache::archives={}", to.display()),
        "APT::Sandbox::User=".into(),
        "Acquire::Languages=none".into(),
        "APT::Install-Recommends=false".into(),
    ];
    let apt = |args: &[&str]| {
        let options = options.iter().flat_map(|o| ["-o", o.as_str()]);
        Command::new("apt-get").args(options).args(args).output().is_ok_and(|o| o.status.success())
    };
    let want = want.iter().map(String::as_str).chain(["?essential"]);
    let install: Vec<&str> = ["-y", "--download-only", "install"].into_iter().chain(want).collect();
    (apt(&["update"]) && apt(&install)).then_some(())
}

/// The mirror of this machine's own sources.
fn mirror() -> Option<String> {
    let out = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.lines().find(|l| l.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

/// Every package of a folder in the store, and its entry in a lock.
pub fn locked(store: &Store, dir: &Path) -> Vec<LockedPackage> {
    let mut debs: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    debs.retain(|p| p.extension().is_some_and(|e| e == "deb"));
    debs.sort();
    debs.iter().map(|deb| package(store, deb)).collect()
}

fn package(store: &Store, deb: &Path) -> LockedPackage {
    let (digest, size) = store.put_reader(std::fs::File::open(deb).unwrap(), None, "a package").unwrap();
    let fields = ["Package", "Version", "Architecture"];
    let out = Command::new("dpkg-deb").arg("-f").arg(deb).args(fields).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let field =
        |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).unwrap().trim().to_owned();
    LockedPackage {
        debian: "debian".into(),
        name: field("Package"),
        version: field("Version"),
        architecture: field("Architecture"),
        suite: "suite".into(),
        archive: "debian".into(),
        path: "pool".into(),
        digest,
        size,
        sets: Vec::new(),
    }
}

/// A package made here, whose script runs when it is configured.
pub fn make(dir: &Path, name: &str, postinst: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let at = dir.join(name);
    std::fs::create_dir_all(at.join("DEBIAN")).unwrap();
    let control =
        format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: Lab <lab@lab.test>\nDescription: x\n");
    std::fs::write(at.join("DEBIAN/control"), control).unwrap();
    std::fs::write(at.join("DEBIAN/postinst"), postinst).unwrap();
    for path in ["", "DEBIAN", "DEBIAN/postinst"] {
        std::fs::set_permissions(at.join(path), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let deb = dir.join(format!("{name}_1_all.deb"));
    let built = Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&at).arg(&deb).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    deb
}
