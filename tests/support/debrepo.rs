//! A Debian archive made in a test: packages, indices, and Release files signed by a throw-away key.
#![allow(dead_code)] // each test file takes its part

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use labimg::base::digest::Digest;

/// A key in a home of its own; its agent is stopped when dropped.
pub struct Key {
    home: tempfile::TempDir,
}

impl Key {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("k").permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
        let key = Self { home };
        key.gpg(&["--quick-gen-key", "archive@example.org", "ed25519", "sign", "never"], b"");
        fs_err::write(key.keyring(), key.gpg(&["--export"], b"")).unwrap();
        fs_err::write(key.armoured(), key.gpg(&["--armor", "--export"], b"")).unwrap();
        key
    }

    pub fn keyring(&self) -> PathBuf {
        self.home.path().join("archive.gpg")
    }

    pub fn armoured(&self) -> PathBuf {
        self.home.path().join("archive.asc")
    }

    pub fn sign(&self, text: &str) -> Vec<u8> {
        self.gpg(&["--digest-algo", "SHA256", "--clearsign"], text.as_bytes())
    }

    fn gpg(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir"]);
        command.arg(self.home.path()).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("gpg is needed (apt-get install gnupg)");
        child.stdin.take().unwrap().write_all(input).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "gpg {args:?} failed");
        done.stdout
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
    }
}

/// Files by the path they are served at.
#[derive(Clone, Default)]
pub struct Repo {
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A suite under construction; `fields` go into the Release file, the last of a name counts.
pub struct Suite {
    pub archive: &'static str,
    pub name: &'static str,
    pub fields: Vec<(&'static str, String)>,
    /// By component and architecture: entries of the index.
    indices: BTreeMap<(String, String), String>,
}

/// `2026-07-11 10:16:37 UTC`, the date of suites.
pub const DATE: u64 = 1_783_764_997;

impl Suite {
    pub fn new(archive: &'static str, name: &'static str) -> Self {
        let fields = [
            ("Suite", "stable"),
            ("Codename", name),
            ("Date", "Sat, 11 Jul 2026 10:16:37 UTC"),
            ("Acquire-By-Hash", "yes"),
            ("Architectures", "all amd64 arm64"),
            ("No-Support-for-Architecture-all", "Packages"),
            ("Components", "main"),
        ];
        let mut indices = BTreeMap::new();
        for architecture in ["amd64", "arm64"] {
            indices.insert(("main".to_owned(), architecture.to_owned()), String::new());
        }
        Self { archive, name, fields: fields.map(|(n, v)| (n, v.to_owned())).to_vec(), indices }
    }

    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.retain(|(n, _)| *n != name);
        self.fields.push((name, value.to_owned()));
        self
    }

    /// Adds `name version`, with more fields, for `amd64`, `arm64`, or both (`all`).
    pub fn package(self, repo: &mut Repo, label: &str, architecture: &str, more: &str) -> Self {
        let (name, version) = label.split_once(' ').unwrap();
        let more = if more.is_empty() { String::new() } else { format!("{more}\n") };
        let control =
            format!("Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{more}Description: x\n y\n");
        self.deb(repo, &control, deb(name, version, architecture))
    }

    /// Adds a package by its control stanza and its file.
    pub fn deb(mut self, repo: &mut Repo, control: &str, deb: Vec<u8>) -> Self {
        let field = |name: &str| control.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
        let architecture = field("Architecture:");
        let path = format!("pool/main/{}_{}_{architecture}.deb", field("Package:"), field("Version:"));
        let (size, hex) = (deb.len(), Digest::of(&deb).hex());
        let stanza = format!("{control}Filename: {path}\nSize: {size}\nSHA256: {hex}\n\n");
        for ((_, of), text) in &mut self.indices {
            if architecture == "all" || of == architecture {
                text.push_str(&stanza);
            }
        }
        repo.files.insert(format!("/{}/{path}", self.archive), deb);
        self
    }

    /// Adds text to the index of `main` for amd64 as it is.
    pub fn raw(mut self, text: &str) -> Self {
        self.indices.get_mut(&("main".to_owned(), "amd64".to_owned())).unwrap().push_str(text);
        self
    }

    /// The Release file's text; the indices are put into `repo`, by hash and by name.
    pub fn release(&self, repo: &mut Repo) -> String {
        let mut text: String = self.fields.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
        text += "SHA256:\n";
        for ((component, architecture), index) in &self.indices {
            let dir = format!("{component}/binary-{architecture}");
            let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
            xz.write_all(index.as_bytes()).unwrap();
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(index.as_bytes()).unwrap();
            let forms =
                [("", index.clone().into_bytes()), (".gz", gz.finish().unwrap()), (".xz", xz.finish().unwrap())];
            for (end, bytes) in forms {
                let hex = Digest::of(&bytes).hex();
                text += &format!(" {hex} {:>8} {dir}/Packages{end}\n", bytes.len());
                let root = format!("/{}/dists/{}/{dir}", self.archive, self.name);
                // As on real mirrors, the plain form is listed and not there.
                if !end.is_empty() {
                    repo.files.insert(format!("{root}/by-hash/SHA256/{hex}"), bytes.clone());
                    repo.files.insert(format!("{root}/Packages{end}"), bytes);
                }
            }
        }
        text
    }

    /// Signs it and puts all of it into `repo`.
    pub fn sign(self, repo: &mut Repo, key: &Key) {
        let text = self.release(repo);
        let path = format!("/{}/dists/{}/InRelease", self.archive, self.name);
        repo.files.insert(path, key.sign(&text));
    }
}

/// Something that stands for a package's file: nothing here unpacks it.
pub fn deb(name: &str, version: &str, architecture: &str) -> Vec<u8> {
    format!("!<arch>\n{name} {version} {architecture}\n").repeat(50).into_bytes()
}

/// An apt configuration that knows nothing, so that no test asks the machine's own mirror by accident.
pub fn no_apt(dir: &Path) -> PathBuf {
    dir.join("no-apt")
}
