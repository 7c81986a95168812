//! Commands: output, exit status, signals, input, environment, cancelling, `sudo`, a connection that goes away.

use labimg::ssh::{Command, Exit, Session, SshError, Sudo};

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
