//! Scripts that run in the machine for labimg, and what is made of what they say.

use std::io::{self, Write};
use std::path::Path;

use super::agent::DIR;
use crate::ssh::Sink;

/// Most that a command of labimg's own may say, in bytes: lists of the files of a machine.
pub(super) const LIMIT: usize = 256 << 20;
/// Bytes of a step's output that are kept for an error; all of it is in its log.
const TAIL: usize = 64 * 1024;
/// Longest log of a step.
const LOG_LIMIT: u64 = 64 << 20;
/// Where a list is over a reboot.
const KEPT: &str = "/var/tmp/labimg-before";

/// The root file system without what is mounted over it, at `/run/labimg/root`.
fn bind() -> String {
    format!(
        "export LC_ALL=C; cd {DIR}; if ! mountpoint -q root; then mkdir -p root; mount --bind / root; mount --make-private root; fi; cd root; "
    )
}

/// Every path with its type and inode, `f123/etc/x`. A directory that moves takes along what is in it, whose own times stay as they
/// are: other paths, or other inodes at the same paths.
const LIST: &str = "find . -xdev -mindepth 1 -printf '%y%i/%P\\0' | sort -z";

/// Sets the clock and remembers which files there are.
pub(super) fn begin(clock: u64) -> String {
    format!("set -e; date -u -s @{clock} > /dev/null; {}{LIST} > ../before", bind())
}

/// Lists what changed since `clock`: a letter (`g`: gone, else as `find -printf %y` has it) and a path, ended by NUL.
pub(super) fn changes(clock: u64) -> String {
    format!(
        "set -e; sync; {}{LIST} > ../after; \
         for list in before after; do sed -z 's,^[^/]*/,,' ../$list | sort -z > ../$list.paths; done; \
         comm -z -23 ../before.paths ../after.paths | sed -z 's/^/g/'; \
         comm -z -13 ../before ../after | sed -z '/^[sp]/d; s,^\\(.\\)[0-9]*/,\\1,'; \
         find . -xdev -mindepth 1 -newerct @{clock} ! -type s ! -type p -printf '%y%P\\0'",
        bind()
    )
}

/// Packs the members whose names come in, ended by NUL.
pub(super) fn pack() -> String {
    format!(
        "{}exec tar --create --format=posix --numeric-owner --xattrs --xattrs-include=security.capability --no-recursion \
         --null --verbatim-files-from --files-from=- --file=-",
        bind()
    )
}

/// What no step may leave to the next one: a build that goes on from a snapshot would not have it.
pub(super) fn tidy() -> String {
    "find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' -exec rm -rf {} +; sync".to_owned()
}

/// Keeps the list of [`begin`] over a reboot.
pub(super) fn keep() -> String {
    format!("cp {DIR}/before {KEPT} && sync")
}

/// Takes it back.
pub(super) fn kept() -> String {
    format!("mv {KEPT} {DIR}/before")
}

/// Takes what a step says: the end of it in memory, as much as is sane in the log.
pub(super) struct Log {
    file: io::BufWriter<fs_err::File>,
    written: u64,
    tail: Vec<u8>,
}

impl Log {
    /// Goes on with the log at `path`.
    ///
    /// # Errors
    /// I/O errors.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: io::BufWriter::new(file), written: 0, tail: Vec::new() })
    }

    /// The end of what was said.
    pub(super) fn tail(&self) -> String {
        printable(&self.tail)
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written < LOG_LIMIT {
            self.file.write_all(bytes)?;
            self.written += bytes.len() as u64;
        }
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(())
    }
}

impl Sink for Log {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes)
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes)
    }
}

/// Writes standard output to a file of at most `limit` bytes.
pub(super) struct ToFile {
    /// The file.
    pub(super) file: fs_err::File,
    /// The end of standard error.
    pub(super) stderr: Vec<u8>,
    /// Bytes that may still come.
    pub(super) limit: u64,
}

impl Sink for ToFile {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.limit.checked_sub(bytes.len() as u64) else {
            return Err(io::Error::other("more came than the machine's disk holds"));
        };
        self.limit = left;
        self.file.write_all(bytes)
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stderr.extend_from_slice(bytes);
        self.stderr.drain(..self.stderr.len().saturating_sub(TAIL));
        Ok(())
    }
}

/// Any bytes as text without what moves a terminal's cursor (ECMA-48, "Control sequences").
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.next_if_eq(&'[').is_some() => {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// The last lines of a text, empty ones left out.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    all.get(all.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// What a console shows of how it ended: its last lines, or where its kernel gave up, which stands above a long trace.
pub(super) fn last_words(console: &str, count: usize) -> String {
    const PANIC: &str = "Kernel panic";
    let Some(at) = console.find(PANIC) else { return last_lines(console, count) };
    // The line before says who died.
    let start = console.get(..at).and_then(|before| before.rmatch_indices('\n').nth(1)).map_or(0, |(i, _)| i + 1);
    let lines = console.get(start..).unwrap_or_default().lines().map(str::trim_end).filter(|l| !l.is_empty());
    lines.take(count).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_gave_up_is_shown_where_it_did() {
        let console = "[ 1] a\n[ 2] b\n[ 3] Kernel panic - not syncing: no init\n[ 4] c\n[ 5] d\n[ 6] e\n";
        assert_eq!(last_words(console, 3), "[ 2] b\n[ 3] Kernel panic - not syncing: no init\n[ 4] c");
        assert_eq!(last_words("Kernel panic", 3), "Kernel panic");
        assert_eq!(last_words("x\ny\n", 1), "y");
    }

    #[test]
    fn what_machines_say_is_shown_as_plain_text() {
        assert_eq!(printable(b"\x1b[0;32m  OK  \x1b[0m] x\r\n\xff\x07"), "  OK  ] x\n\u{fffd}");
        assert_eq!(printable(b"\x1b["), "");
        assert_eq!(last_lines("a\n\nb\n c \n", 2), "b\n c");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn what_a_moved_directory_took_along_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("root");
        for folder in ["a/deep", "b", "old"] {
            fs_err::create_dir_all(at.join(folder)).unwrap();
        }
        for (file, text) in [("a/deep/x", "1"), ("a/same", "1"), ("b/same", "2"), ("old/y", "3"), ("still", "4")] {
            fs_err::write(at.join(file), text).unwrap();
        }
        // As in a machine, without its clock and its mounts.
        let script = |text: &str| {
            let line = text.replace(&bind(), &format!("export LC_ALL=C; cd {}; ", at.display()));
            let line = line.replace("date -u -s @99999999999 > /dev/null; ", "");
            let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        script(&begin(99_999_999_999));
        for (from, to) in [("old", "new"), ("a", "t"), ("b", "a"), ("t", "b")] {
            fs_err::rename(at.join(from), at.join(to)).unwrap();
        }
        let said = script(&changes(99_999_999_999));
        let mut said: Vec<&str> = said.split('\0').filter(|s| !s.is_empty()).collect();
        said.sort_unstable();
        assert_eq!(
            said,
            [
                "da",
                "db",
                "db/deep",
                "dnew",
                "fa/same",
                "fb/deep/x",
                "fb/same",
                "fnew/y",
                "ga/deep",
                "ga/deep/x",
                "gold",
                "gold/y"
            ]
        );
    }

    #[test]
    fn a_log_keeps_all_and_a_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for _ in 0..2 {
            let mut log = Log::open(&path).unwrap();
            log.stdout(&vec![b'x'; TAIL]).unwrap();
            log.stderr(b"end\xff").unwrap();
            assert!(log.tail().ends_with("end\u{fffd}") && log.tail.len() == TAIL);
        }
        assert_eq!(fs_err::metadata(&path).unwrap().len(), 2 * (TAIL as u64 + 4));
        let file = fs_err::File::create(dir.path().join("out")).unwrap();
        let mut out = ToFile { file, stderr: Vec::new(), limit: 3 };
        out.stdout(b"abc").unwrap();
        assert!(out.stdout(b"d").is_err());
    }
}
