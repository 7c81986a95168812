//! A folder, a home and an environment that nothing of this machine leaks into.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use super::Upstream;

/// How the note starts that a program with libraries is not carried.
pub const NOT_CARRIED: &str = "labimg itself is not carried";

/// What a run of labimg gave. Paths of the world stand as `$DIR`, the server's address as `$SERVER`.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// The same run, which must have ended with `code`.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self
    }

    /// The same run, whose standard error must hold each of `texts`.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "`{text}` is not in\n{}", self.err);
        }
        self
    }
}

/// A scratch folder with a profile folder `lab`, where every command runs.
pub struct World {
    dir: tempfile::TempDir,
    server: Option<String>,
}

impl World {
    /// Without any server: whatever asks the network fails at once.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self { dir, server: None };
        for name in ["lab", "home", "config/labimg", "data"] {
            std::fs::create_dir_all(world.dir.path().join(name)).unwrap();
        }
        world.settings("tries = 1\n");
        world
    }

    /// With every registry and the two hosts of the examples mirrored by `upstream`.
    pub fn with(upstream: &Upstream) -> Self {
        let mut world = Self::new();
        world.server = Some(upstream.base.clone());
        let base = &upstream.base;
        world.settings(&format!(
            "tries = 1\n[mirror]\n\"*\" = \"{base}\"\n\"https://charts.example.org\" = \"{base}/charts.example.org\"\n\
             \"https://dl.example.org\" = \"{base}/dl.example.org\"\n"
        ));
        world
    }

    /// Replaces the user's settings file.
    pub fn settings(&self, text: &str) {
        std::fs::write(self.dir.path().join("config/labimg/settings.toml"), text).unwrap();
    }

    /// A path in the folder where commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("lab").join(name)
    }

    /// The store all commands of this world use.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("data/labimg/store")
    }

    /// Where the store keeps a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.store().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Forgets everything that was fetched.
    pub fn empty_store(&self) {
        std::fs::remove_dir_all(self.store()).unwrap();
    }

    /// Writes a file beside the profile.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Reads a file beside the profile.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The text of a file beside the profile.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Changes the text of a file beside the profile; `from` must be in it.
    #[track_caller]
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        assert!(text.contains(from), "`{from}` is not in\n{text}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// Makes a file an hour old, so that any write to it shows.
    pub fn age(&self, name: &str) -> SystemTime {
        let old = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().append(true).open(self.path(name)).unwrap().set_modified(old).unwrap();
        self.modified(name)
    }

    /// When a file was last written.
    pub fn modified(&self, name: &str) -> SystemTime {
        std::fs::metadata(self.path(name)).unwrap().modified().unwrap()
    }

    /// labimg, ready to run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_labimg"));
        self.hermetic(&mut command).args(args);
        command
    }

    /// Gives a command this world's folder and environment, and nothing else.
    pub fn hermetic<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let dir = |name: &str| self.dir.path().join(name);
        command
            .env_clear()
            .current_dir(dir("lab"))
            .env("HOME", dir("home"))
            .env("XDG_CONFIG_HOME", dir("config"))
            .env("XDG_DATA_HOME", dir("data"))
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
    }

    /// Runs labimg.
    pub fn run(&self, args: &[&str]) -> Run {
        self.seen(&self.command(args).output().unwrap())
    }

    /// What a process said, with this world's names taken out.
    pub fn seen(&self, output: &Output) -> Run {
        let text = |bytes: &[u8]| self.filter(&String::from_utf8_lossy(bytes));
        Run { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn filter(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir.path().display().to_string(), "$DIR");
        if let Some(server) = &self.server {
            text = text.replace(server, "$SERVER").replace(server.trim_start_matches("http://"), "$SERVER");
        }
        // Every new lock of a development build says so, which is not what these tests are about.
        if let Some(at) = text.find(NOT_CARRIED) {
            let end = text[at..].find('\n').map_or(text.len(), |line| at + line + 1);
            text.replace_range(at..end, "");
        }
        text
    }
}

/// Copies a folder with everything in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
