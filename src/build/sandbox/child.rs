//! labimg's side of a sandbox: starts the helper, takes what the program says, learns how it ended.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::init::Status;
use super::{Exit, LOG, STATUS, Stop};
use crate::build::BuildError;

/// What is kept of a program's words.
const TAIL: usize = 64 * 1024;
/// Longest log.
const LOG_LIMIT: u64 = 64 << 20;
/// How often we look whether to stop a program.
const TICK: Duration = Duration::from_millis(20);

/// The helper that runs what the file at `spec` says.
pub(super) fn command(helper: &Path, spec: &Path) -> Command {
    let mut command = Command::new(helper);
    command.arg(super::init::OUTER).arg(spec).arg(std::process::id().to_string()).env_clear();
    command
}

/// Runs the helper to its end.
pub(super) fn run(helper: &Path, spec: &Path, scratch: &Path, stop: Stop<'_>) -> Result<(Exit, String), BuildError> {
    let pipe = |e| BuildError::io(helper, "make a pipe for", e);
    let (reader, writer) = std::io::pipe().map_err(pipe)?;
    let status = scratch.join(STATUS);
    // An earlier run's end is not this one's.
    fs_err::write(&status, "").map_err(|e| BuildError::io(&status, "write", e))?;
    let mut command = command(helper, spec);
    // Ctrl-C is for labimg alone, which takes the sandbox with it; a program that died of it would look like one that failed.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(pipe)?).stderr(writer);
    let mut child = command.spawn().map_err(|e| BuildError::io(helper, "run", e))?;
    // Our ends of the pipe: while one is open the reader would wait.
    drop(command);
    let path = scratch.join(LOG);
    let log = fs_err::File::create(&path).map_err(|e| BuildError::io(&path, "write", e));
    let (stopped, output) = std::thread::scope(|scope| {
        let words = scope.spawn(|| listen(reader, log?).map_err(|e| BuildError::io(&path, "write", e)));
        let stopped = wait(&mut child, stop).map_err(|e| BuildError::io(helper, "wait for", e));
        let words = words.join().unwrap_or_else(|_| Err(BuildError::Internal("a reader panicked".to_owned())));
        (stopped, words)
    });
    let output = output?;
    match stopped? {
        Some(exit) => Ok((exit, output)),
        None => Ok((exit(scratch, &output)?, output)),
    }
}

/// Waits for the helper; kills it, and with it all that runs in there, when it must stop.
fn wait(child: &mut Child, stop: Stop<'_>) -> std::io::Result<Option<Exit>> {
    if stop.timeout.is_none() && stop.cancel.is_none() {
        return child.wait().map(|_| None);
    }
    let start = Instant::now();
    loop {
        if child.try_wait()?.is_some() {
            return Ok(None);
        }
        let late = stop.timeout.filter(|t| start.elapsed() >= *t).map(Exit::TimedOut);
        let unwanted = stop.cancel.filter(|c| c.load(Ordering::Relaxed)).map(|_| Exit::Cancelled);
        if let Some(exit) = late.or(unwanted) {
            child.kill()?;
            child.wait()?;
            return Ok(Some(exit));
        }
        std::thread::sleep(TICK);
    }
}

/// Takes all a program says until its last process is gone: the end of it in memory, as much as is sane in the log.
fn listen(mut reader: impl Read, mut log: impl Write) -> std::io::Result<String> {
    let mut tail = VecDeque::with_capacity(2 * TAIL);
    let mut buffer = vec![0; 16 * 1024];
    let mut written = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let said = buffer.get(..n).unwrap_or_default();
        if written < LOG_LIMIT {
            log.write_all(said)?;
            written += n as u64;
        }
        tail.extend(said);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    Ok(String::from_utf8_lossy(tail.make_contiguous()).into_owned())
}

/// How the program ended, as process 1 of the sandbox wrote it down.
pub(super) fn exit(scratch: &Path, output: &str) -> Result<Exit, BuildError> {
    let path = scratch.join(STATUS);
    let text = fs_err::read_to_string(&path).map_err(|e| BuildError::io(&path, "read", e))?;
    match serde_json::from_str(&text) {
        Ok(Status::Code(code)) => Ok(Exit::Code(code)),
        Ok(Status::Signal(signal)) => Ok(Exit::Signal(signal)),
        Ok(Status::Failed { what, hint: Some(hint) }) => Err(BuildError::user(what, hint)),
        Ok(Status::Failed { what, hint: None }) => Err(BuildError::bad("the sandbox", what)),
        Err(_) => Err(BuildError::bad("the sandbox", format!("it ended before its time {}", output.trim_end()))),
    }
}
