//! The few words of QEMU's machine protocol that are needed here (QEMU, "QMP Reference Manual"): lines of JSON on a socket.

use crate::base::bounded;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// How long QEMU may take to answer: it writes to the disk meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest answer, in bytes.
const LINE: u64 = 1 << 20;

/// A connection to one QEMU.
pub(super) struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects to the socket `name` in `dir` and says hello.
    ///
    /// # Errors
    /// No socket there, or nobody who answers.
    pub(super) fn connect(dir: &Path, name: &str) -> io::Result<Self> {
        // A socket's path has room for 107 bytes (unix(7)), a store's may be longer.
        let dir = fs_err::File::open(dir)?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.line()?;
        qmp.run("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and gives what it returns.
    ///
    /// # Errors
    /// What QEMU says against it; a QEMU that is gone.
    pub(super) fn run(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let mut text = json!({"execute": command, "arguments": arguments}).to_string();
        text.push('\n');
        self.0.get_mut().write_all(text.as_bytes())?;
        loop {
            let answer = self.line()?;
            if let Some(done) = answer.get("return") {
                return Ok(done.clone());
            }
            if let Some(error) = answer.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("it says not why");
                return Err(io::Error::other(format!("QEMU refused `{command}`: {why}")));
            }
            // Anything else is an event.
        }
    }

    /// The port of the loopback interface that leads to `guest` in the machine: QEMU chose a free one.
    ///
    /// # Errors
    /// No such port.
    pub(super) fn forwarded(&mut self, guest: u16) -> io::Result<u16> {
        let said = self.run("human-monitor-command", &json!({"command-line": "info usernet"}))?;
        let text = said.as_str().unwrap_or_default();
        host_port(text, guest).ok_or_else(|| io::Error::other(format!("QEMU forwards no port to {guest}: {text}")))
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.0.by_ref().take(LINE).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU is gone"));
        }
        bounded::from_json(line.as_bytes()).map_err(io::Error::other)
    }
}

/// Lines are `TCP[HOST_FORWARD] FD 127.0.0.1 PORT 10.0.2.15 PORT …` (libslirp, `slirp_connection_info`).
fn host_port(text: &str, guest: u16) -> Option<u16> {
    let guest = guest.to_string();
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let fits = fields.first()?.starts_with("TCP[HOST_FORWARD]") && *fields.get(5)? == guest;
        fits.then(|| fields.get(3)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read() {
        let text = "Hub -1 (n0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  12       127.0.0.1 40123       10.0.2.15 22022     0     0\r\n";
        assert_eq!(host_port(text, 22022), Some(40123));
        assert_eq!(host_port(text, 22), None);
        assert_eq!(host_port("", 22), None);
    }

    #[test]
    fn answers_errors_and_events_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("q")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            let answers: [&str; 3] = [
                "{\"return\": {}}\n",
                "{\"event\": \"RTC_CHANGE\"}\n{\"return\": 7}\n",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no room\"}}\n",
            ];
            for answer in answers {
                lines.next().unwrap().unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut qmp = Qmp::connect(dir.path(), "q").unwrap();
        assert_eq!(qmp.run("a", &json!({})).unwrap(), json!(7));
        assert!(qmp.run("b", &json!({})).unwrap_err().to_string().contains("`b`: no room"));
        server.join().unwrap();
        assert!(qmp.run("c", &json!({})).is_err());
    }
}
