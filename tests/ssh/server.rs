//! A real OpenSSH server per test: own process, own folder, own host key, a free port on loopback.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use labimg::ssh::{Hop, HostKeys, Identity, Session, Target, Timeouts};
use tempfile::TempDir;

/// A running server; stopped when dropped.
pub struct Server {
    pub dir: TempDir,
    pub port: u16,
    pub host_key: String,
    child: Child,
}

impl Server {
    /// Starts one; `None`, said loudly, where it can not be.
    pub fn start() -> Option<Self> {
        Self::start_with("", "ed25519", None)
    }

    /// With more lines of `sshd_config`, a host key of that type, and a file system of that size at `tiny` (needs root).
    pub fn start_with(more: &str, key_type: &str, tiny: Option<&str>) -> Option<Self> {
        let Some(sshd) = sshd() else {
            eprintln!("NOT RUN: sshd is missing (package openssh-server)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        keygen(&at("host"), key_type, "");
        keygen(&at("user"), "ed25519", "");
        std::fs::copy(at("user.pub"), at("authorized_keys")).unwrap();
        if user() == "root" {
            // Privilege separation wants it; the system's own service makes it at boot.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let here = dir.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {here}/host\nPidFile {here}/pid\nAuthorizedKeysFile {here}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             MaxStartups 100\nMaxSessions 100\nLogLevel VERBOSE\nPrintMotd no\n{more}\n"
        );
        std::fs::write(at("config"), config).unwrap();
        let mut command = Command::new(if tiny.is_some() { "unshare" } else { sshd });
        if let Some(size) = tiny {
            std::fs::create_dir(at("tiny")).unwrap();
            let mount = "mount -t tmpfs -o size=\"$1\" tmpfs \"$2\" && shift 2 && exec \"$@\"";
            command.args(["-m", "sh", "-c", mount, "sh", size]).arg(at("tiny")).arg(sshd);
        }
        command.args(["-D", "-e", "-f"]).arg(at("config")).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let host_key = std::fs::read_to_string(at("host.pub")).unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "sshd did not start");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self { dir, port, host_key, child })
    }

    /// A path in the server's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn identity(&self) -> Identity {
        Identity::File { path: self.path("user"), passphrase: None }
    }

    pub fn hop(&self) -> Hop {
        Hop {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: user(),
            host_keys: HostKeys::Pinned(vec![self.host_key.clone()]),
            identities: vec![self.identity()],
        }
    }

    pub fn target(&self) -> Target {
        Target { name: "web".to_owned(), hop: self.hop(), jumps: Vec::new(), timeouts: Timeouts::default() }
    }

    pub async fn session(&self) -> Session {
        labimg::ssh::connect(&self.target()).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key pair at `path`.
pub fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-C", "test key", "-t", kind, "-N", passphrase, "-f"]).arg(path);
    assert!(command.status().unwrap().success(), "ssh-keygen");
}

/// Who runs the tests.
pub fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Puts an executable file there.
pub fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn sshd() -> Option<&'static str> {
    // It must be started by its absolute path.
    ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists())
}

/// A tree of `files` files with `size` bytes each, two folders, a link and modes.
pub fn make_tree(dir: &Path, files: usize, size: usize) {
    std::fs::create_dir_all(dir.join("sub/empty")).unwrap();
    let mut state = 1u64;
    for n in 0..files {
        let bytes: Vec<u8> = (0..size)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        std::fs::write(dir.join(if n % 2 == 0 { format!("{n}") } else { format!("sub/{n} ä") }), bytes).unwrap();
    }
    script(&dir.join("run"), "#!/bin/sh\n");
    std::os::unix::fs::symlink("../nowhere", dir.join("link")).unwrap();
    std::fs::set_permissions(dir.join("sub"), std::fs::Permissions::from_mode(0o750)).unwrap();
}

/// A way to `port` that breaks after so many bytes up or down (0: never).
pub async fn cut_after(port: u16, up: u64, down: u64) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let limit = |n: u64| if n == 0 { u64::MAX } else { n };
        let (from_client, mut to_client) = client.split();
        let (from_server, mut to_server) = server.split();
        let (mut ups, mut downs) = (from_client.take(limit(up)), from_server.take(limit(down)));
        tokio::select! {
            _ = copy(&mut ups, &mut to_server) => {}
            _ = copy(&mut downs, &mut to_client) => {}
        }
        let _ = to_client.shutdown().await;
    });
    own
}

/// Waits for something to become true, for as long as a busy machine may take.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen");
}
