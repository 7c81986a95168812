//! The same on many machines at once.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

use super::Target;
use super::command::Command;
use super::connect::connect_within;
use super::error::SshError;
use super::exec::{Exit, Sink};
use super::session::Session;
use crate::base::report::{Reporter, Task};

/// Longest line that is kept together, in bytes.
const LONGEST: usize = 64 * 1024;

/// What became of one machine.
#[derive(Debug)]
pub struct HostResult<T> {
    /// The target's name.
    pub host: String,
    /// What the work gave.
    pub result: Result<T, SshError>,
}

/// One line of a machine's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The target's name.
    pub host: &'a str,
    /// Whether it came on standard error.
    pub stderr: bool,
    /// The line without its line feed: any bytes.
    pub bytes: &'a [u8],
}

impl Line<'_> {
    /// `name: line`, fit for a terminal: what is not UTF-8 or would steer the terminal is replaced.
    pub fn text(&self) -> String {
        format!("{}: {}", self.host, self.plain())
    }

    fn plain(&self) -> String {
        let line = self.bytes.strip_suffix(b"\r").unwrap_or(self.bytes);
        let plain = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
        String::from_utf8_lossy(line).chars().map(plain).collect()
    }
}

/// Connects to every target, each for at most `within`, and does `work` there, on at most `at_once` of them at a time. Each has
/// one row of `reporter` while it is under way. Results come in the order of the targets; one that fails stops no other.
pub async fn on_all<'a, T, F, Fut>(
    targets: &'a [Target],
    at_once: usize,
    within: Duration,
    reporter: &'a dyn Reporter,
    work: F,
) -> Vec<HostResult<T>>
where
    T: Send,
    F: Fn(Session, Task<'a>) -> Fut + Sync,
    Fut: Future<Output = Result<T, SshError>> + Send,
{
    let work = &work;
    // Boxed, so that the whole can move between threads whatever `work` borrows.
    let mut all: Vec<BoxFuture<'_, (usize, HostResult<T>)>> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let one = async move {
            let task = Task::begin(reporter, &target.name, None);
            task.say("connects");
            let result = match connect_within(target, within, Some(&task)).await {
                Ok(session) => work(session, task).await,
                Err(error) => Err(error),
            };
            (index, HostResult { host: target.name.clone(), result })
        };
        all.push(one.boxed());
    }
    let mut results: Vec<_> = stream::iter(all).buffer_unordered(at_once.max(1)).collect().await;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs `command` on every target, as [`on_all`] does. `out` gets the output line by line, of all machines in turns; a row shows
/// its machine's last line.
pub async fn run_on_all(
    targets: &[Target],
    command: &Command,
    at_once: usize,
    within: Duration,
    reporter: &dyn Reporter,
    out: &(dyn Fn(&Line<'_>) + Sync),
) -> Vec<HostResult<Exit>> {
    on_all(targets, at_once, within, reporter, |session, task| async move {
        task.say("runs");
        let mut lines = Lines { host: session.name(), out, task: &task, stdout: Vec::new(), stderr: Vec::new() };
        let exit = session.exec(command, tokio::io::empty(), &mut lines).await;
        lines.end();
        exit
    })
    .await
}

/// Cuts output into lines.
struct Lines<'a> {
    host: &'a str,
    out: &'a (dyn Fn(&Line<'_>) + Sync),
    task: &'a Task<'a>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines<'_> {
    fn take(&mut self, stderr: bool, bytes: &[u8]) {
        let mut kept = std::mem::take(if stderr { &mut self.stderr } else { &mut self.stdout });
        kept.extend_from_slice(bytes);
        let mut rest = kept.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(at);
            self.emit(stderr, line);
            rest = after.get(1..).unwrap_or_default();
        }
        if rest.len() > LONGEST {
            self.emit(stderr, rest);
            rest = &[];
        }
        let rest = rest.to_vec();
        *(if stderr { &mut self.stderr } else { &mut self.stdout }) = rest;
    }

    fn emit(&self, stderr: bool, bytes: &[u8]) {
        let line = Line { host: self.host, stderr, bytes };
        self.task.say(&line.plain());
        (self.out)(&line);
    }

    /// What came without a line feed at the end.
    fn end(&mut self) {
        for (stderr, rest) in [(false, std::mem::take(&mut self.stdout)), (true, std::mem::take(&mut self.stderr))] {
            if !rest.is_empty() {
                self.emit(stderr, &rest);
            }
        }
    }
}

impl Sink for Lines<'_> {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(false, bytes);
        Ok(())
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(true, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::report::Silent;
    use std::sync::Mutex;

    #[test]
    fn output_is_cut_into_lines_with_the_hosts_name() {
        let seen = Mutex::new(Vec::new());
        let out = |line: &Line<'_>| seen.lock().unwrap().push((line.stderr, line.text()));
        let task = Task::begin(&Silent, "web", None);
        let mut lines = Lines { host: "web", out: &out, task: &task, stdout: Vec::new(), stderr: Vec::new() };
        lines.stdout(b"a\nb").unwrap();
        lines.stderr(b"e\x1b[2J\xff\n").unwrap();
        lines.stdout(b"c\r\n\nd").unwrap();
        lines.end();
        let want = [(false, "a"), (true, "e\u{fffd}[2J\u{fffd}"), (false, "bc"), (false, ""), (false, "d")];
        let want: Vec<_> = want.into_iter().map(|(stderr, text)| (stderr, format!("web: {text}"))).collect();
        assert_eq!(*seen.lock().unwrap(), want);
    }
}
