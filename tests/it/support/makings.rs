//! What images are made from: a signed Debian archive and an index of wheels, both of this test, and a profile over them.

#[path = "../../support/deb.rs"]
pub mod deb;
#[path = "../../support/debrepo.rs"]
pub mod debrepo;
#[path = "../../support/wheels.rs"]
pub mod wheels;

use std::collections::BTreeMap;

use labimg::base::digest::Digest;
use serde_json::Value;

use super::upstream::{Upstream, elf};
use super::world::{Run, World};
use deb::{Deb, Pack};
use debrepo::{Key, Repo, Suite};

/// The architectures the archive has.
pub const BOTH: [&str; 2] = ["amd64", "arm64"];

/// A world, the server it talks to, and the packages that server has.
pub struct Makings {
    pub upstream: Upstream,
    pub world: World,
    pub debs: BTreeMap<String, Deb>,
    pub key: Key,
}

/// A profile with one image of every kind of layer.
pub const PROFILE: &str = r#"schema = 1
name = "made"

[debian.bookworm]
keyring = "keys/archive.gpg"

[[wheel]]
name = "web"
requirements = ["top"]
python = "3.11"
platforms = ["linux/amd64", "linux/arm64"]

[[image]]
ref = "made.lab/app:1"
build = "app/image.toml"
platforms = ["linux/amd64", "linux/arm64"]
"#;

/// Its `image.toml`.
pub const IMAGE: &str = r#"schema = 1
debian = "bookworm"
packages = ["app"]
wheels = ["web"]

[[user]]
name = "web"
uid = 1000

[[dir]]
path = "/var/lib/web"
owner = "web"

[[file]]
from = "app.py"
to = "/srv/app.py"
mode = "0755"

[[link]]
path = "/srv/main"
target = "app.py"

[config]
entrypoint = ["/srv/main"]
user = "web"
"#;

impl Makings {
    /// Everything good, and the profile locked by nobody yet.
    pub fn new() -> Self {
        let upstream = Upstream::empty();
        let world = World::with(&upstream);
        let mut made = Self { upstream, world, debs: BTreeMap::new(), key: Key::new() };
        made.settings(&[]);
        for arch in BOTH {
            made.add(base(arch));
            made.add(lib(arch, "1.0"));
        }
        made.add(app("1.0"));
        made.serve();
        made.wheel("top-1.0-py3-none-any.whl", &["mid"]);
        made.wheel("mid-1.0-py3-none-any.whl", &[]);
        made.world.write("made.toml", PROFILE);
        made.world.write("app/image.toml", IMAGE);
        made.world.write("app/app.py", "#!/usr/bin/env -S sh\nprint('one')\n");
        let keyring = std::fs::read(made.key.keyring()).unwrap();
        made.world.write("keys/archive.gpg", keyring);
        made
    }

    /// The same for one platform and without wheels: pip takes its time.
    pub fn small() -> Self {
        let made = Self::new();
        let profile = PROFILE.replace(", \"linux/arm64\"", "");
        let (wheel, image) = (profile.find("[[wheel]]").unwrap(), profile.find("[[image]]").unwrap());
        made.world.write("made.toml", format!("{}{}", &profile[..wheel], &profile[image..]));
        made.world.edit("app/image.toml", "wheels = [\"web\"]\n", "");
        made
    }

    /// [`small`](Self::small) with a lock and a bundle.
    pub fn small_built() -> Self {
        let made = Self::small();
        made.build().ends(0);
        made
    }

    /// Settings with all mirrors, and more lines.
    pub fn settings(&self, more: &[&str]) {
        let base = &self.upstream.base;
        self.world.settings(&format!(
            "tries = 1\n{}\n[mirror]\ndebian = \"{base}/debian\"\ndebian-snapshot = \"{base}/snapshots\"\npypi = \"{base}/simple\"\n",
            more.join("\n")
        ));
    }

    /// Puts a package into the archive, in place of any version of it; [`serve`](Self::serve) tells the world.
    pub fn add(&mut self, deb: Deb) {
        self.debs.insert(format!("{}_{}", field(&deb, "Package"), field(&deb, "Architecture")), deb);
    }

    /// The archive as it is now.
    pub fn serve(&self) {
        self.serve_as(|suite| suite);
    }

    /// The archive with something else about its suite.
    pub fn serve_as(&self, change: impl FnOnce(Suite) -> Suite) {
        let (mut repo, suite) = self.suite();
        change(suite).sign(&mut repo, &self.key);
        self.put(repo);
    }

    /// What [`serve_as`](Self::serve_as) serves, as the snapshot archive has it for a time.
    pub fn keep_as(&self, time: &str, change: impl FnOnce(Suite) -> Suite) {
        let (mut repo, suite) = self.suite();
        change(suite).sign(&mut repo, &self.key);
        let moved = |(path, bytes): (String, _)| (path.replacen("/debian/", &format!("/snapshots/{time}/"), 1), bytes);
        self.put(Repo { files: repo.files.into_iter().map(moved).collect() });
    }

    /// The archive with an `InRelease` of the test's own making.
    pub fn serve_release(&self, in_release: impl FnOnce(&str) -> Vec<u8>) {
        let (mut repo, suite) = self.suite();
        let text = suite.release(&mut repo);
        repo.files.insert("/debian/dists/bookworm/InRelease".to_owned(), in_release(&text));
        self.put(repo);
    }

    /// The archive with other bytes for one package (`name_architecture`), whose control stanza stays.
    pub fn serve_bytes(&self, package: &str, bytes: Vec<u8>) {
        let mut repo = Repo::default();
        let suite = self.debs.iter().fold(Suite::new("debian", "bookworm"), |suite, (name, deb)| {
            let bytes = if name == package { bytes.clone() } else { deb.build() };
            suite.deb(&mut repo, control(deb), bytes)
        });
        suite.sign(&mut repo, &self.key);
        self.put(repo);
    }

    fn suite(&self) -> (Repo, Suite) {
        let mut repo = Repo::default();
        let suite = self
            .debs
            .values()
            .fold(Suite::new("debian", "bookworm"), |suite, deb| suite.deb(&mut repo, control(deb), deb.build()));
        (repo, suite)
    }

    fn put(&self, repo: Repo) {
        for (path, bytes) in repo.files {
            self.upstream.put(&path, bytes);
        }
    }

    /// Puts a wheel into the index.
    pub fn wheel(&self, file: &str, requires: &[&str]) {
        self.project(file, wheels::wheel(file, requires));
    }

    /// Puts any file into the index, the only one of its project.
    pub fn project(&self, file: &str, bytes: Vec<u8>) {
        let project = file.split('-').next().unwrap();
        let link = format!("<a href=\"../../files/{file}#sha256={}\">{file}</a>", Digest::of(&bytes).hex());
        self.upstream.put(&format!("/simple/{project}/"), format!("<!DOCTYPE html><html><body>{link}</body></html>"));
        self.upstream.put(&format!("/files/{file}"), bytes);
    }

    /// Runs labimg.
    pub fn run(&self, args: &[&str]) -> Run {
        self.world.run(args)
    }

    /// `labimg build made.toml`.
    pub fn build(&self) -> Run {
        self.run(&["build", "made.toml"])
    }

    /// `labimg build --json`: steps that ran, steps in all.
    pub fn steps(&self) -> (u64, u64) {
        let built = self.run(&["build", "--json", "made.toml"]).ends(0);
        let built: Value = serde_json::from_str(&built.out).unwrap();
        (built[0]["steps-run"].as_u64().unwrap(), built[0]["steps"].as_u64().unwrap())
    }

    /// One JSON thing out of the bundle.
    pub fn cat(&self, what: &str) -> Value {
        serde_json::from_str(&self.run(&["cat", "made.labimg", what]).ends(0).out).unwrap()
    }

    /// The digests of the image's layers for a platform.
    pub fn layers(&self, architecture: &str) -> Vec<String> {
        let manifest = self.cat(&self.manifest(architecture));
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|l| l["digest"].as_str().unwrap().to_owned()).collect()
    }

    /// The digest of the image's manifest for a platform; an image for one platform is its manifest.
    pub fn manifest(&self, architecture: &str) -> String {
        let index = self.run(&["cat", "made.labimg", "made.lab/app:1"]).ends(0).out;
        let parsed: Value = serde_json::from_str(&index).unwrap();
        let Some(manifests) = parsed["manifests"].as_array() else { return Digest::of(index.as_bytes()).to_string() };
        let found = manifests.iter().find(|m| m["platform"]["architecture"] == architecture).unwrap();
        found["digest"].as_str().unwrap().to_owned()
    }

    /// What lies in the store's folders for things under way, with the names of kept scratch folders.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in ["tmp", "scratch", "partial"] {
            let Ok(entries) = std::fs::read_dir(self.world.store().join(name)) else { continue };
            found.extend(entries.map(|e| format!("{name}/{}", e.unwrap().file_name().display())));
        }
        found.sort();
        found
    }
}

fn control(deb: &Deb) -> &str {
    std::str::from_utf8(&deb.control[0].1).unwrap()
}

/// The value of a control field.
pub fn field<'d>(deb: &'d Deb, name: &str) -> &'d str {
    control(deb).lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap().trim()
}

/// A program of an architecture, as far as anybody looks.
pub fn program(arch: &str) -> Vec<u8> {
    elf(if arch == "arm64" { 183 } else { 62 })
}

/// A whole program for amd64 that ends well and does nothing: its ELF header, one segment (elf(5)), `exit(0)`.
pub fn ends_well() -> Vec<u8> {
    let code = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let (base, size) = (0x40_0000_u64, 0x78 + code.len() as u64);
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [base + 0x78, 0x40, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    for half in [0_u16, 0, 0x40, 0x38, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, base, base, size, size, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&code);
    elf
}

/// The essential package: a shell, `env`, users, a configuration file.
pub fn base(arch: &str) -> Deb {
    base_with(arch, &program(arch))
}

/// The same with this shell.
pub fn base_with(arch: &str, shell: &[u8]) -> Deb {
    let mut deb = Deb::new("base", "12", arch);
    deb.field("Essential: yes").dir("usr/").dir("usr/bin/").dir("etc/").control("conffiles", "/etc/base.conf\n");
    deb.entry("./usr/bin/sh", b'0', 0o755, "", shell).entry("./usr/bin/env", b'0', 0o755, "", &program(arch));
    deb.file("etc/base.conf", "x\n").file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n");
    deb.file("etc/group", "root:x:0:\ndaemon:x:1:\n");
    deb
}

/// A library, compressed in another way.
pub fn lib(arch: &str, version: &str) -> Deb {
    let mut deb = Deb::new("lib", version, arch);
    deb.pack = Pack::Zstd;
    deb.field("Multi-Arch: same").dir("usr/").dir("usr/lib/");
    deb.file("usr/lib/liblib.so.1.0", arch).link("usr/lib/liblib.so.1", "liblib.so.1.0");
    deb
}

/// What the image asks for; it needs the library.
pub fn app(version: &str) -> Deb {
    let mut deb = Deb::new("app", version, "all");
    deb.pack = Pack::Gzip;
    deb.field("Depends: lib (>= 1)").dir("usr/").dir("usr/bin/").dir("usr/share/").dir("usr/share/app/");
    deb.entry("./usr/bin/app", b'0', 0o755, "", b"#!/bin/sh\n");
    deb.file("usr/share/app/version", version).hard("usr/share/app/same", "./usr/share/app/version");
    deb
}
