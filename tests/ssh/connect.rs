//! Reaching a machine: host keys, keys to log in with, jump hosts, machines that are not up yet.

use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use labimg::base::report::{Silent, Task};
use labimg::ssh::{Command, HostKeys, Identity, Secret, SshError, SshKind, Target, connect, connect_within};

use crate::server::{Server, keygen, user};

async fn works(target: &Target) {
    let session = connect(target).await.unwrap();
    assert_eq!(session.run(&Command::new("echo in"), 100).await.unwrap().stdout, b"in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_host_key_shows_both_fingerprints() {
    let Some(server) = Server::start() else { return };
    keygen(&server.path("other"), "ed25519", "");
    let pinned = std::fs::read_to_string(server.path("other.pub")).unwrap();
    let mut target = server.target();
    target.hop.host_keys = HostKeys::Pinned(vec![pinned]);
    let error = connect_within(&target, Duration::from_secs(60), None).await.err().unwrap();
    assert_eq!(error.kind(), SshKind::Mismatch, "{error}");
    for name in ["other.pub", "host.pub"] {
        let out = Process::new("ssh-keygen").arg("-lf").arg(server.path(name)).output().unwrap().stdout;
        let print = String::from_utf8(out).unwrap().split(' ').nth(1).unwrap().to_owned();
        assert!(print.starts_with("SHA256:") && error.to_string().contains(&print), "{error}");
    }
    target.hop.host_keys = HostKeys::Pinned(vec!["rubbish".into()]);
    assert!(connect(&target).await.err().unwrap().to_string().contains("`rubbish` is not a public key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn known_hosts_and_first_use() {
    let Some(server) = Server::start() else { return };
    let mut target = server.target();
    let known = server.path("known");
    target.hop.host_keys = HostKeys::KnownHosts(known.clone());
    let error = connect(&target).await.err().unwrap();
    assert!(matches!(error, SshError::UnknownHost { .. }), "{error}");
    assert!(error.hint().unwrap().contains(&format!("ssh-keyscan -t ed25519,ecdsa -p {} 127.0.0.1", server.port)));
    std::fs::write(&known, format!("[127.0.0.1]:{} {}", server.port, server.host_key)).unwrap();
    works(&target).await;
    // As ssh-keygen hashes it.
    assert!(Process::new("ssh-keygen").arg("-qHf").arg(&known).stderr(Stdio::null()).status().unwrap().success());
    assert!(std::fs::read_to_string(&known).unwrap().starts_with("|1|"));
    works(&target).await;

    let first = server.path("first");
    target.hop.host_keys = HostKeys::FirstUse(first.clone());
    works(&target).await;
    works(&target).await;
    let kept = std::fs::read_to_string(&first).unwrap();
    assert_eq!(kept.lines().count(), 1);
    keygen(&server.path("other"), "ed25519", "");
    let other = std::fs::read_to_string(server.path("other.pub")).unwrap();
    std::fs::write(&first, format!("[127.0.0.1]:{} {other}", server.port)).unwrap();
    assert_eq!(connect(&target).await.err().unwrap().kind(), SshKind::Mismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_says_what_was_offered_and_what_is_taken() {
    let Some(server) = Server::start() else { return };
    keygen(&server.path("stranger"), "ed25519", "");
    let mut target = server.target();
    target.hop.identities = vec![Identity::File { path: server.path("stranger"), passphrase: None }];
    let error = connect(&target).await.err().unwrap().to_string();
    assert!(error.contains("ssh-ed25519 SHA256:") && error.contains("stranger"), "{error}");
    assert!(error.contains("the server takes: publickey"), "{error}");
    target.hop.identities.clear();
    target.timeouts.refused = Duration::ZERO;
    let error = connect_within(&target, Duration::from_secs(60), None).await.err().unwrap().to_string();
    assert!(error.contains("nothing (no key was given)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_kinds() {
    let Some(server) = Server::start_with("", "ecdsa", None) else { return };
    let mut target = server.target();
    works(&target).await;
    keygen(&server.path("ecdsa"), "ecdsa", "open sesame");
    keygen(&server.path("rsa"), "rsa", "");
    let public = std::fs::read_to_string(server.path("ecdsa.pub")).unwrap();
    std::fs::write(server.path("authorized_keys"), public).unwrap();
    let with = |passphrase: Option<&str>| {
        vec![Identity::File { path: server.path("ecdsa"), passphrase: passphrase.map(Secret::new) }]
    };
    target.hop.identities = with(Some("open sesame"));
    works(&target).await;
    for (passphrase, why) in [(None, "no passphrase was given"), (Some("x"), "the passphrase does not open it")] {
        target.hop.identities = with(passphrase);
        let error = connect(&target).await.err().unwrap().to_string();
        assert!(error.contains(why) && !error.contains("sesame"), "{error}");
    }
    target.hop.identities = vec![Identity::File { path: server.path("rsa"), passphrase: None }];
    let error = connect(&target).await.err().unwrap().to_string();
    assert!(error.contains("RSA keys are not taken") && error.contains("ed25519 or ECDSA"), "{error}");

    let Some(rsa) = Server::start_with("", "rsa", None) else { return };
    let mut target = rsa.target();
    target.hop.host_keys = HostKeys::FirstUse(rsa.path("first"));
    let error = connect(&target).await.err().unwrap();
    assert!(error.to_string().contains("rsa-sha2-512") && error.hint().unwrap().contains("ed25519"), "{error}");
}

/// An agent of its own; stopped when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_an_agent() {
    let Some(server) = Server::start() else { return };
    let socket = server.path("agent");
    let _agent =
        Agent(Process::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap());
    crate::server::eventually("the agent's socket", || socket.exists()).await;
    keygen(&server.path("rsa"), "rsa", "");
    keygen(&server.path("stranger"), "ed25519", "");
    let add = |name: &str| {
        let mut add = Process::new("ssh-add");
        assert!(add.arg("-q").arg(server.path(name)).env("SSH_AUTH_SOCK", &socket).status().unwrap().success());
    };
    let mut target = server.target();
    target.hop.identities = vec![Identity::Agent(socket.clone())];
    assert!(connect(&target).await.err().unwrap().to_string().contains("it holds no key"));
    add("rsa");
    add("stranger");
    let error = connect(&target).await.err().unwrap().to_string();
    assert!(error.contains("RSA keys are not taken") && error.contains("agent: test key"), "{error}");
    add("user");
    works(&target).await;
    target.hop.identities = vec![Identity::Agent(server.path("nothing"))];
    assert!(connect(&target).await.err().unwrap().to_string().contains("the agent at"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_jump_host() {
    let (Some(jump), Some(server)) = (Server::start(), Server::start()) else { return };
    let mut target = server.target();
    target.jumps = vec![jump.hop()];
    works(&target).await;
    // Seen from the machine, the jump host is the client.
    let session = connect(&target).await.unwrap();
    let seen = session.run(&Command::new("echo $SSH_CLIENT"), 100).await.unwrap().stdout;
    assert!(String::from_utf8(seen).unwrap().starts_with("127.0.0.1 "));
    target.jumps[0].host_keys = HostKeys::Pinned(vec![server.host_key.clone()]);
    let error = connect(&target).await.err().unwrap();
    assert!(error.kind() == SshKind::Mismatch && error.to_string().contains("the jump host of web"), "{error}");
    target.jumps = vec![jump.hop()];
    target.hop.port = 1;
    let error = connect(&target).await.err().unwrap().to_string();
    assert!(error.contains("the jump host could not connect"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_are_not_up_yet_are_waited_for() {
    let Some(server) = Server::start() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut target = server.target();
    target.hop.port = free;
    let task = Task::begin(&Silent, "web", None);
    let error = connect_within(&target, Duration::from_secs(1), Some(&task)).await.err().unwrap();
    assert!(
        error.to_string().contains(&format!("web (127.0.0.1:{free}) did not answer over SSH within 1 s")),
        "{error}"
    );
    assert!(error.to_string().contains("connection refused"), "{error}");
    // Something that takes connections and says nothing, as a forwarded port of a machine that boots.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    target.hop.port = silent.local_addr().unwrap().port();
    target.timeouts.connect = Duration::from_millis(300);
    let error = connect_within(&target, Duration::from_secs(1), None).await.err().unwrap().to_string();
    assert!(error.contains("no answer within"), "{error}");
    // And then it is up.
    target.timeouts = Default::default();
    let port = server.port;
    tokio::spawn(async move {
        for _ in 0..2 {
            drop(silent.accept().await);
        }
        loop {
            let (mut client, _) = silent.accept().await.unwrap();
            let mut up = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut up).await });
        }
    });
    let session = connect_within(&target, Duration::from_secs(60), None).await.unwrap();
    assert_eq!(session.run(&Command::new("id -un"), 100).await.unwrap().stdout, format!("{}\n", user()).as_bytes());
}
