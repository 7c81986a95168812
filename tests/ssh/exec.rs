//! Commands: output, exit status, signals, input, environment, cancelling, `sudo`, a connection that goes away.

use std::time::Duration;

use labimg::ssh::{Collect, Command, Exit, Place, Remote, Secret, Session, SshError, Sudo};

use crate::server::{Server, eventually, script};

const LIMIT: usize = 1 << 20;

async fn out(session: &Session, line: &str) -> (String, String, Exit) {
    let output = session.run(&Command::new(line), LIMIT).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.exit)
}

#[tokio::test(flavor = "multi_thread")]
async fn output_exit_codes_and_signals_arrive() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    assert_eq!(out(&session, "echo a; echo b >&2; exit 3").await, ("a\n".into(), "b\n".into(), Exit::Code(3)));
    assert_eq!(out(&session, "kill -9 $$").await.2, Exit::Signal { name: "KILL".into(), core: false });
    assert_eq!(out(&session, "does-not-exist").await.2, Exit::Code(127));
    let raw = session.run(&Command::new(r"printf '\377\000\n\200'"), LIMIT).await.unwrap();
    assert_eq!(raw.stdout, b"\xff\0\n\x80");
    let env = Command::new("printf '%s|%s' \"$A\" \"$B\"").env("A", "it's $HOME").env("B", "x\ny");
    assert_eq!(session.run(&env, LIMIT).await.unwrap().stdout, b"it's $HOME|x\ny");
    assert!(matches!(
        session.run(&Command::new("head -c 2000000 /dev/zero"), LIMIT).await,
        Err(SshError::Local { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn input_streams_in_and_output_streams_out() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    let data: Vec<u8> = (0..20_000_000u32).map(|n| (n >> 3) as u8).collect();
    let mut kept = Collect::up_to(data.len());
    let exit = session.exec(&Command::new("cat; echo end >&2"), &data[..], &mut kept).await.unwrap();
    assert!(exit.success() && kept.stdout == data && kept.stderr == b"end\n");
    // A command that reads nothing and ends is not waited for.
    let exit = session.exec(&Command::new("exit 4"), &data[..], &mut Collect::up_to(10)).await.unwrap();
    assert_eq!(exit, Exit::Code(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_given_up_ends() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    let mark = server.path("mark");
    let line = format!("echo $$ > {0}.new; mv {0}.new {0}; while echo on; do sleep 0.1; done", mark.display());
    let command = Command::new(line);
    tokio::select! {
        _ = session.run(&command, LIMIT) => panic!("it does not end by itself"),
        () = eventually("the start", || mark.exists()) => {}
    }
    let pid = std::fs::read_to_string(&mark).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    // Ended, though sshd may not have asked how yet.
    let ended = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
    eventually("its end", ended).await;
    assert_eq!(out(&session, "echo on").await.0, "on\n", "the connection stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_in_the_middle_says_what_ran() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    // Its parent is the server's process of this connection.
    let error = session.run(&Command::new("kill -9 $PPID; sleep 1000"), LIMIT).await.unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error}");
    assert!(error.to_string().contains("`kill -9 $PPID; sleep 1000`"), "{error}");
    assert!(!session.closed().await.is_empty() && session.is_closed());
    assert!(matches!(session.run(&Command::new("true"), LIMIT).await, Err(SshError::Lost { .. })));
    let again = session.reconnect(Duration::from_secs(60), None).await.unwrap();
    assert_eq!(out(&again, "echo back").await.0, "back\n");
}

/// What asks like sudo, takes only `pass word`, up to three times, and writes down how it was called.
const SUDO: &str = r#"#!/bin/sh
here=${0%/*}
echo "$@" >> "$here/args"
ask= prompt=
while [ "$1" != -- ]; do
  case $1 in -S) ask=1 ;; -p) prompt=$2; shift ;; -u) user=$2; shift ;; esac
  shift
done
shift
if [ ! -e "$here/free" ]; then
  [ "$ask" ] || { echo 'sudo: a password is required' >&2; exit 1; }
  echo 'We trust you have received the usual lecture.' >&2
  for try in 1 2 3; do
    printf %s "$prompt" >&2
    read -r given || { echo 'sudo: no password was provided' >&2; exit 1; }
    ps -ef >> "$here/ps" 2>&1 || true
    [ "$given" = 'pass word' ] && break
    echo "$given" >> "$here/wrong"; echo 'Sorry, try again.' >&2
    [ $try -lt 3 ] || exit 1
  done
fi
SUDO_AS=$user exec "$@"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sudo_gets_its_password_and_nobody_else_does() {
    let bin = tempfile::tempdir().unwrap();
    script(&bin.path().join("sudo"), SUDO);
    let path = format!("SetEnv PATH={}:/usr/local/bin:/usr/bin:/bin", bin.path().display());
    let Some(server) = Server::start_with(&path, "ed25519", None) else { return };
    let session = server.session().await;
    let sudo = |password: Option<&str>| Sudo { user: "deploy".into(), password: password.map(Secret::new) };
    let command = |password| {
        Command::new("echo \"$SUDO_AS $A\"; cat; ps -ef >&2; exit 5").env("A", "it's").sudo(Some(sudo(password)))
    };
    let run = async |password| {
        let mut kept = Collect::up_to(LIMIT);
        let exit = session.exec(&command(password), &b"input\n"[..], &mut kept).await;
        (exit, String::from_utf8(kept.stdout).unwrap(), String::from_utf8(kept.stderr).unwrap())
    };
    let (exit, stdout, stderr) = run(Some("pass word")).await;
    assert_eq!((exit.unwrap(), stdout.as_str()), (Exit::Code(5), "deploy it's\ninput\n"));
    let file = |name: &str| std::fs::read_to_string(bin.path().join(name)).unwrap_or_default();
    for (place, text) in [("ps", file("ps")), ("arguments", file("args")), ("output", format!("{stdout}{stderr}"))] {
        assert!(!text.is_empty() && !text.contains("pass word"), "{place}: {text}");
    }

    let (exit, _, _) = run(Some("wrong")).await;
    let error = exit.unwrap_err();
    assert!(matches!(error, SshError::Sudo { .. }) && error.to_string().contains("Sorry, try again"), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    assert_eq!(file("wrong"), "wrong\n", "tried once, and nothing else was taken for a password");

    let (exit, _, _) = run(None).await;
    assert!(exit.unwrap_err().to_string().contains("a password is required"));

    // Nobody asks: the password must not become the command's input.
    std::fs::write(bin.path().join("free"), "").unwrap();
    for password in [Some("pass word"), None] {
        assert_eq!(run(password).await.1, "deploy it's\ninput\n");
    }

    let there = Remote { path: server.path("up").to_str().unwrap().into(), sudo: Some(sudo(Some("pass word"))) };
    std::fs::remove_file(bin.path().join("free")).unwrap();
    session.upload(&server.path("host.pub"), &there, Place::New, None).await.unwrap();
    assert_eq!(std::fs::read_to_string(server.path("up")).unwrap(), server.host_key);
}
