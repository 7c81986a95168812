//! Files to and from a machine: whole or not at all, whatever goes wrong in the middle.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use labimg::ssh::{Command, Place, Remote, SshError};

use crate::server::{Server, cut_after, eventually, make_tree, script, user};

const LIMIT: u64 = 1 << 30;

/// What is below a directory: paths with modes and contents.
fn listing(dir: &Path) -> BTreeMap<String, String> {
    fn walk(dir: &Path, prefix: &str, all: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            let meta = path.symlink_metadata().unwrap();
            let text = if meta.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else if meta.is_dir() {
                walk(&path, &format!("{name}/"), all);
                format!("{:o}", meta.permissions().mode() & 0o777)
            } else {
                let bytes = std::fs::read(&path).unwrap();
                format!("{:o} {}", meta.permissions().mode() & 0o777, labimg::base::digest::Digest::of(&bytes))
            };
            all.insert(name, text);
        }
    }
    let mut all = BTreeMap::new();
    walk(dir, "", &mut all);
    all
}

fn remote(path: &Path) -> Remote {
    Remote::new(path.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_and_files_go_there_and_back() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    let here = server.path("here");
    make_tree(&here, 40, 100_000);
    let there = server.path("there it's");
    let sent = session.upload(&here, &remote(&there), Place::New, None).await.unwrap();
    assert!(sent.bytes > 4_000_000);
    assert_eq!(listing(&here), listing(&there));
    let again = session.upload(&here, &remote(&there), Place::New, None).await.unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");

    let into = server.path("into");
    std::fs::create_dir(&into).unwrap();
    std::fs::write(into.join("other"), "stays").unwrap();
    let same = session.upload(&here, &remote(&into), Place::Into, None).await.unwrap();
    assert!(same.bytes < sent.bytes, "without the folder itself");
    assert_eq!(listing(&into).len(), listing(&here).len() + 1);

    let back = server.path("back");
    session.download(&remote(&there), &back, LIMIT, None).await.unwrap();
    assert_eq!(listing(&here), listing(&back));
    assert!(matches!(session.download(&remote(&there), &back, LIMIT, None).await, Err(SshError::Exists(_))));

    std::fs::write(server.path("file"), b"\0\xff").unwrap();
    let to = remote(&server.path("deep/down/file 2"));
    session.upload(&server.path("file"), &to, Place::New, None).await.unwrap();
    session.upload(&server.path("file"), &to, Place::New, None).await.unwrap();
    session.download(&to, &server.path("file 3"), LIMIT, None).await.unwrap();
    assert_eq!(std::fs::read(server.path("file 3")).unwrap(), b"\0\xff");
    assert_eq!(listing(&server.path("deep/down")).len(), 1, "no stage is left");

    let mut archive = Vec::new();
    let moved = session.download_tar(&to, &mut archive, LIMIT, None).await.unwrap();
    assert_eq!((moved.bytes, moved.digest), (archive.len() as u64, labimg::base::digest::Digest::of(&archive)));
    let all = moved.bytes + 1;
    assert!(session.download_tar(&to, &mut archive, all - 2, None).await.is_err(), "limit");
    let missing = session.download(&remote(&server.path("nix")), &server.path("x"), LIMIT, None).await.unwrap_err();
    assert!(missing.to_string().contains("nix") && missing.to_string().contains("No such file"), "{missing}");
    assert!(!server.path("x").exists());
    assert!(session.download(&remote(&there), &server.path("x"), 1_000_000, None).await.is_err());
    assert!(!server.path("x").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_fails_leaves_nothing() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    let to = server.path("to");
    let write = |out: &mut dyn Write| {
        // A whole member, so that tar sees no broken archive.
        out.write_all(&labimg::base::tarfmt::headers("x", 0, 0, 0).unwrap())?;
        out.flush()?;
        Err(std::io::Error::other("the source went away"))
    };
    let error = session.upload_tar(write, &remote(&to), Place::New, None).await.unwrap_err();
    assert!(error.to_string().contains("the source went away"), "{error}");
    assert!(!to.exists() && !server.path("to.labimg-part").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_said_and_nothing_is_done() {
    let Some(server) = Server::start() else { return };
    let here = server.path("here");
    make_tree(&here, 20, 1_000_000);
    let mut target = server.target();
    target.hop.port = cut_after(server.port, 3_000_000, 0).await;
    let session = labimg::ssh::connect(&target).await.unwrap();
    let error = session.upload(&here, &remote(&server.path("to")), Place::New, None).await.unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error}");
    assert!(error.to_string().contains("lost during the upload to"), "{error}");
    assert!(!server.path("to").exists());
    assert!(session.is_closed());

    target.hop.port = cut_after(server.port, 0, 3_000_000).await;
    let session = labimg::ssh::connect(&target).await.unwrap();
    let error = session.download(&remote(&here), &server.path("back"), LIMIT, None).await.unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error}");
    assert!(!server.path("back").exists());

    // What is left of the first attempt does not stand in the way.
    let session = server.session().await;
    session.upload(&here, &remote(&server.path("to")), Place::New, None).await.unwrap();
    assert_eq!(listing(&here), listing(&server.path("to")));
    eventually("the cut upload's tar ends", || !server.path("to.labimg-part").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named() {
    if user() != "root" {
        eprintln!("NOT RUN: a remote disk that is full (needs root for a small tmpfs)");
        return;
    }
    let Some(server) = Server::start_with("", "ed25519", Some("4m")) else { return };
    let session = server.session().await;
    let here = server.path("here");
    make_tree(&here, 20, 1_000_000);
    for (path, place) in [("tiny/new", Place::New), ("tiny/into", Place::Into)] {
        let error = session.upload(&here, &remote(&server.path(path)), place, None).await.unwrap_err();
        assert!(matches!(error, SshError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("No space left on device"), "{error}");
    }
    let left = session.run(&Command::new(format!("ls -a {}/tiny", server.dir.path().display())), 4096).await.unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), ".\n..\ninto\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_there_are_a_mismatch() {
    // A hash over one line more stands for a machine that changes what it gets.
    let bin = tempfile::tempdir().unwrap();
    let path = format!("SetEnv PATH={}:/usr/local/bin:/usr/bin:/bin", bin.path().display());
    let Some(server) = Server::start_with(&path, "ed25519", None) else { return };
    script(&bin.path().join("sha256sum"), "#!/bin/sh\n{ cat; echo x; } | /usr/bin/sha256sum\n");
    script(&bin.path().join("openssl"), "#!/bin/sh\nexit 1\n");
    let session = server.session().await;
    let here = server.path("here");
    make_tree(&here, 2, 1000);
    let error = session.upload(&here, &remote(&server.path("to")), Place::New, None).await.unwrap_err();
    assert_eq!(error.kind(), labimg::ssh::SshKind::Mismatch, "{error}");
    let error = session.download(&remote(&here), &server.path("to"), LIMIT, None).await.unwrap_err();
    assert_eq!(error.kind(), labimg::ssh::SshKind::Mismatch, "{error}");
    assert!(!server.path("to").exists() && !server.path("to.labimg-part").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn busybox_is_enough() {
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()) else {
        eprintln!("NOT RUN: transfers with busybox alone (package busybox-static)");
        return;
    };
    let bin = tempfile::tempdir().unwrap();
    for tool in "sh tar tee mkfifo mktemp sha256sum cat rm mkdir mv rmdir".split(' ') {
        std::os::unix::fs::symlink(busybox, bin.path().join(tool)).unwrap();
    }
    let Some(server) = Server::start_with(&format!("SetEnv PATH={}", bin.path().display()), "ed25519", None) else {
        return;
    };
    let session = server.session().await;
    let here = server.path("here");
    make_tree(&here, 20, 200_000);
    session.upload(&here, &remote(&server.path("to")), Place::New, None).await.unwrap();
    assert_eq!(listing(&here), listing(&server.path("to")));
    session.download(&remote(&server.path("to")), &server.path("back"), LIMIT, None).await.unwrap();
    assert_eq!(listing(&here), listing(&server.path("back")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_missing_there_is_named() {
    let bin = tempfile::tempdir().unwrap();
    for tool in "sh tar mkfifo mktemp sha256sum rm".split(' ') {
        let Some(real) = ["/bin", "/usr/bin"].map(|d| Path::new(d).join(tool)).into_iter().find(|p| p.exists()) else {
            panic!("{tool} is missing here");
        };
        std::os::unix::fs::symlink(real, bin.path().join(tool)).unwrap();
    }
    let Some(server) = Server::start_with(&format!("SetEnv PATH={}", bin.path().display()), "ed25519", None) else {
        return;
    };
    let (session, here) = (server.session().await, server.path("host.pub"));
    let error = session.upload(&here, &remote(&server.path("x")), Place::New, None).await.unwrap_err();
    assert!(error.to_string().contains("has no tee"), "{error}");
}
