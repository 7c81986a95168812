//! A composed machine, looked at by its own programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use labimg::base::report::Silent;
use labimg::build::rootfs::compose::{Contents, File, K3s, K3sRole, Manifest, User, Wishes};
use labimg::build::rootfs::{Compose, TREE};
use labimg::build::step::{Action, Input, Output, Run};
use labimg::store::{Access, BlobSource, Store};

use crate::job::EPOCH;

/// Something of everything.
fn wishes() -> Wishes {
    let text = |t: &str| Contents::Text(t.to_owned());
    Wishes {
        hostname: "cloud-1".into(),
        users: vec![User {
            name: "ada".into(),
            uid: 1001,
            groups: vec!["sudo".into(), "adm".into()],
            shell: "/bin/bash".into(),
            sudo: true,
            authorized_keys: vec![],
        }],
        files: vec![File {
            to: "/etc/systemd/system/web.service".into(),
            contents: text(
                "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
            ),
            mode: None,
            owner: None,
        }],
        links: BTreeMap::from([("/usr/local/bin/sky".to_owned(), "/bin/true".to_owned())]),
        enable: vec!["web.service".into()],
        disable: vec!["dpkg-db-backup.timer".into()],
        mask: vec!["fstrim.timer".into()],
        k3s: Some(K3s {
            role: K3sRole::Server,
            program: text("#!/bin/sh\nexec sleep infinity\n"),
            airgap: None,
            registries: Some(Contents::Text("mirrors: {}\n".into())),
            manifests: vec![Manifest { name: "otel".into(), contents: text("kind: List\n") }],
            args: vec!["--disable=traefik".into()],
        }),
        grow_root: true,
        ..Wishes::default()
    }
}

/// Composes the tree `digest` of the store at `store`, twice, and asks its own programs.
pub fn on_top(store: &Path, digest: &str, dir: &Path) {
    let store = Arc::new(Store::open(store, Access::Shared).unwrap());
    let digest = digest.parse().unwrap();
    let size = store.blob_size(&digest).unwrap();
    let inputs = BTreeMap::from([("tree".to_owned(), Output { digest, size, facts: BTreeMap::new() })]);
    let action = Compose { name: "box test tree".into(), tree: Input::Blob { digest, size }, wishes: wishes() };
    let scratch = dir.join("compose");
    let run = Run { store: &store, scratch: &scratch, inputs: &inputs, epoch: EPOCH, threads: 2, reporter: &Silent };
    let started = std::time::Instant::now();
    let out = action.run(&run).unwrap();
    println!("composed in {:?}: {}", started.elapsed(), out[TREE].digest);
    assert_eq!(out, action.run(&run).unwrap());
    let tar = store.blob_path(&out[TREE].digest);
    if let Some(keep) = std::env::var_os("LABIMG_TEST_KEEP") {
        std::fs::copy(&tar, keep).unwrap();
    }
    if !crate::bootstrap::is_root() {
        println!("NOT TESTED: its own programs run in it as root only");
        return;
    }
    let root = dir.join("root");
    std::fs::create_dir(&root).unwrap();
    let tar =
        Command::new("tar").args(["--xattrs", "--xattrs-include=*", "-C"]).arg(&root).arg("-xpf").arg(&tar).status();
    assert!(tar.unwrap().success());
    // No device: a file is enough for what is asked here.
    std::fs::write(root.join("dev/null"), "").unwrap();
    let asks = |argv: &[&str], wanted: &str| {
        let out = Command::new("chroot").arg(&root).args(argv).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && text.contains(wanted), "{argv:?}: {} {text}", out.status);
    };
    asks(&["dpkg", "--audit"], "");
    asks(&["grpck", "-r"], "");
    asks(&["id", "ada"], "27(sudo)");
    asks(&["sh", "-c", "pwck -rq || test $? = 2"], "");
    asks(&["visudo", "-c"], "parsed OK");
    asks(&["getcap", "/usr/bin/ping"], "cap_net_raw=ep");
    // Compiled files fit their sources, or Python would compile them again.
    asks(&["python3", "-v", "-c", "import functools"], "functools.cpython-311.pyc matches");
    asks(&["sh", "-c", "ssh-keygen -q -N '' -t ed25519 -f /run/key && mkdir -p /run/sshd && sshd -t -h /run/key"], "");
    for (unit, state) in [
        ("ssh.service", "enabled"),
        ("systemd-networkd.service", "enabled"),
        ("labimg-host-keys.service", "enabled"),
        ("labimg-grow-root.service", "enabled"),
        ("k3s.service", "enabled"),
        ("web.service", "enabled"),
    ] {
        asks(&["systemctl", "is-enabled", unit], state);
    }
    let masked =
        Command::new("chroot").arg(&root).args(["systemctl", "is-enabled", "apt-daily.timer"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&masked.stdout).trim(), "masked");
    let units = ["labimg-host-keys", "labimg-default-route", "labimg-grow-root", "k3s"].map(|u| format!("{u}.service"));
    let mut verify = vec!["systemd-analyze", "verify", "--man=no"];
    verify.extend(units.iter().map(String::as_str));
    let out = Command::new("chroot").arg(&root).args(&verify).output().unwrap();
    println!("systemd-analyze verify: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!text.lines().any(|l| l.contains("labimg-") || l.contains("k3s.service:")), "{text}");
}
