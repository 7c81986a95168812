//! Programs of the host: started with a known environment, their output kept, ended with all they started.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::error::LabError;
use super::machine::Machine;
use crate::base::shell;

/// Lines of output kept for an error.
const TAIL: usize = 40;
/// Most bytes of one line kept.
const LINE: u64 = 4096;
/// Most bytes of standard output kept where the caller wants it, in bytes.
const OUTPUT: u64 = 64 << 20;
/// Variables that programs get from the caller's environment; all others stay behind.
const PASSED: [&str; 15] = [
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "SSH_AUTH_SOCK",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
];

/// A program that is to run.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
    input: Option<Vec<u8>>,
}

/// What a program wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output, whole.
    pub stdout: Vec<u8>,
    /// The last lines of standard error.
    pub tail: Vec<String>,
}

impl Program {
    /// `path`, with the machine's directories of programs and the few variables that programs of the host need.
    pub fn new(machine: &Machine, path: &Path) -> Self {
        let passed = |name: &&str| machine.env.get(*name).map(|value| ((*name).to_owned(), value.clone()));
        let mut env: BTreeMap<String, String> = PASSED.iter().filter_map(passed).collect();
        let folders: Vec<String> = machine.path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        env.insert("PATH".to_owned(), folders.join(":"));
        Self { path: path.to_owned(), arguments: Vec::new(), env, input: None }
    }

    /// Further arguments. They show in errors and to other users: never a secret.
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// A further variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What it reads from its standard input, which is empty otherwise.
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Some(bytes);
        self
    }

    /// Runs it to its end. When the future is dropped, the program and all it started in its process group end.
    ///
    /// # Errors
    /// A program that can not be started, or fails: with the end of what it wrote.
    pub async fn run(&self) -> Result<Output, LabError> {
        let line = self.line();
        let failed = |e: std::io::Error| LabError::failed(format!("can not run `{}`", self.path.display()), e);
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(&self.env).process_group(0);
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::new(command.spawn().map_err(failed)?);
        let child = &mut group.child;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let (Some(mut stdin), Some(bytes)) = (stdin, &self.input) {
                // A program may end without having read all of it.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, bytes).await;
            }
        };
        let (status, (), stdout, tail) = tokio::join!(child.wait(), feed, whole(stdout), last_lines(stderr));
        let status = status.map_err(failed)?;
        group.over = true;
        let output = Output { stdout: stdout.map_err(failed)?, tail };
        if status.success() { Ok(output) } else { Err(ended(line, status, &output)) }
    }

    /// The command line, as a shell would take it.
    pub fn line(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        // A tool of the lab is called `kind-0123456789ab`.
        let name = super::tools::plain_name(&name).to_owned();
        let words = std::iter::once(&name).chain(&self.arguments);
        words.map(|w| shell::word(Path::new(w))).collect::<Vec<_>>().join(" ")
    }
}

/// A child with its process group; ends both when dropped too early.
struct Group {
    child: Child,
    pid: Option<Pid>,
    over: bool,
}

impl Group {
    fn new(child: Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, pid, over: false }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let (false, Some(pid)) = (self.over, self.pid) {
            let _ = kill_process_group(pid, Signal::KILL);
            // What has been killed must not stay a zombie; the kernel is done with it in no time.
            let _ = self.child.start_kill();
        }
    }
}

fn ended(line: String, status: ExitStatus, output: &Output) -> LabError {
    use std::os::unix::process::ExitStatusExt;
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    let tail = match output.tail.is_empty() {
        false => output.tail.join("\n"),
        true => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL)..].iter().map(|l| printable(l)).collect::<Vec<_>>().join("\n")
        }
    };
    LabError::Command { line, status, tail, hint: None }
}

async fn whole(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(OUTPUT).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

async fn last_lines(stream: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut kept = VecDeque::new();
    let Some(stream) = stream else { return Vec::new() };
    let mut reader = BufReader::new(stream);
    loop {
        let mut bytes = Vec::new();
        match (&mut reader).take(LINE).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return kept.into(),
            Ok(_) => {}
        }
        // Progress is drawn over itself: what stood last on the line counts.
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
        if !text.is_empty() {
            kept.push_back(printable(text));
        }
        if kept.len() > TAIL {
            kept.pop_front();
        }
    }
}

/// A line of somebody else's output, so that it can not steer a terminal: without escape sequences and control characters.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                // ECMA-48, 5.4: parameters and intermediates, then one final byte of 0x40 to 0x7e.
                chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

/// A program by name in the machine's directories.
pub fn find(machine: &Machine, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program =
        |path: &PathBuf| fs_err::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    machine.path.iter().map(|folder| folder.join(name)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn machine() -> Machine {
        Machine {
            path: vec!["/usr/bin".into(), "/bin".into()],
            env: [("HOME", "/h"), ("SECRET", "s")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Machine::default()
        }
    }

    fn shell(script: &str) -> Program {
        Program::new(&machine(), Path::new("/bin/sh")).args(["-c", script])
    }

    #[tokio::test]
    async fn a_program_gets_a_known_environment_only() {
        let done = shell("env").env("KIND", "x").run().await.unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(text.contains("HOME=/h") && text.contains("KIND=x") && text.contains("PATH=/usr/bin:/bin"), "{text}");
        assert!(!text.contains("SECRET"), "{text}");
    }

    #[tokio::test]
    async fn what_it_wrote_last_is_in_the_error() {
        let error =
            shell("for i in $(seq 100); do echo line $i >&2; done; exit 3").run().await.unwrap_err().to_string();
        assert!(error.contains("exit code 3") && error.contains("line 100") && !error.contains("line 60\n"), "{error}");
        let error = shell("echo out; exit 1").run().await.unwrap_err().to_string();
        assert!(error.contains("out"), "{error}");
    }

    #[tokio::test]
    async fn input_reaches_it() {
        let done = shell("cat").input(b"hello".to_vec()).run().await.unwrap();
        assert_eq!(done.stdout, b"hello");
    }

    #[tokio::test]
    async fn dropping_it_ends_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        let program = shell(&script);
        let _ = tokio::time::timeout(Duration::from_millis(700), program.run()).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let pid = fs_err::read_to_string(&file).unwrap();
        let status = fs_err::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // Gone, or dead and waiting for whoever inherited it.
        assert!(status.is_err() || status.unwrap().contains(") Z "));
    }

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(printable("\u{1b}[32mok\u{1b}[0m \u{7}x\u{1b}]"), "ok x");
    }
}
