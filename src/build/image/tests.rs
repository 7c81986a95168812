//! A small image from definition to manifest: golden digests, the checks, and another program that reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files_layer::{LAYER, LISTING};
use super::manifest::{CONFIG, MANIFEST};
use super::*;
use crate::base::digest::Digest;
use crate::base::report::{Silent, Task};
use crate::build::BuildError;
use crate::build::layer::write_layer;
use crate::build::listing::{self, Listing};
use crate::build::step::{Action, Input, Output, Outputs, Run};
use crate::build::tree::{Content, Entry, Tree};
use crate::model::guest_path::GuestPath;
use crate::model::image_def::ImageDef;
use crate::model::image_def_load::parse;
use crate::model::platform::Platform;
use crate::store::{Access, BlobSource, Store};

const EPOCH: u64 = 1_700_000_000;
const DEF: &str = r#"
schema = 1
user = [{ name = "app", uid = 1000, home = "/srv" }]
dir = [{ path = "/srv/data", mode = "0750", owner = "app" }, { path = "/srv", owner = "app" }]
file = [
  { from = "app", to = "/srv/app", owner = "app:app" },
  { from = "run.sh", to = "/bin/run", mode = "0755" },
  { content = "x", to = "/var/run/x", mode = "0600" },
  { from = "step:ui/dist", to = "/srv/ui" },
]
link = [{ path = "/usr/bin/app", target = "run" }]
[config]
entrypoint = ["app"]
env = { LANG = "C.UTF-8" }
labels = { "org.example.a" = "b" }
exposed-ports = ["8080"]
volumes = ["/srv/data"]
user = "app"
working-dir = "/srv"
stop-signal = "SIGINT"
"#;

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap()
}

fn def(text: &str) -> ImageDef {
    parse("image.toml", text).unwrap().def
}

fn elf(machine: u8) -> Content {
    let mut bytes = b"\x7fELF\x02\x01".to_vec();
    bytes.resize(64, 0);
    bytes[18] = machine;
    Content::bytes(bytes)
}

/// What packages would have brought.
fn base() -> Tree {
    let from: Arc<str> = "package base".into();
    let mut tree = Tree::default();
    for (link, target) in [("bin", "usr/bin"), ("var/run", "/run"), ("usr/bin/sh", "dash")] {
        tree.put(path(link), Entry::symlink(&from, target));
    }
    tree.put(path("run"), Entry { mode: 0o711, ..Entry::dir(&from) });
    tree.put(path("usr/bin/dash"), Entry::file(&from, 0o755, elf(62)));
    tree.put(path("usr/bin/env"), Entry::file(&from, 0o755, elf(62)));
    tree.put(path("usr/bin/arm"), Entry::file(&from, 0o755, elf(183)));
    let files = [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n",
            0o644,
        ),
        ("etc/group", "root:x:0:\nwww-data:x:33:\n", 0o644),
        ("etc/shadow", "root:*:19000:0:99999:7:::\n", 0o640),
    ];
    for (at, text, mode) in files {
        tree.put(path(at), Entry { gid: 42, ..Entry::file(&from, mode, Content::bytes(text.as_bytes())) });
    }
    tree
}

fn origins() -> Origins {
    let mut origins = Origins::default();
    for (at, text) in
        [("app/main.py", "print(1)\n"), ("app/sub/x.py", "x\n"), ("run.sh", "#!/bin/sh\n"), ("apple", "no")]
    {
        origins.locals.insert(at.to_owned(), Content::bytes(text.as_bytes()));
    }
    let from: Arc<str> = "step ui".into();
    let mut ui = Tree::default();
    ui.put(path("dist/index.html"), Entry::file(&from, 0o640, Content::bytes(*b"<html>")));
    origins.steps.insert("ui".to_owned(), ui);
    origins
}

fn view(def: &ImageDef) -> Listing {
    let lower = Listing::of(&base()).unwrap();
    listing::merge(&lower, &Listing::of(&files_tree(def, &origins(), &lower).unwrap()).unwrap())
}

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), Access::Shared).unwrap());
    (dir, store)
}

/// Runs a step whose inputs are all blobs.
fn run(action: &dyn Action, store: &Arc<Store>, facts: &BTreeMap<Digest, Output>) -> Result<Outputs, BuildError> {
    let output = |input: Input| match input {
        Input::Blob { digest, size } => {
            facts.get(&digest).cloned().unwrap_or(Output { digest, size, facts: BTreeMap::new() })
        }
        Input::Step { .. } => unreachable!("only blobs here"),
    };
    let inputs = action.inputs().into_iter().map(|(label, input)| (label, output(input))).collect();
    let scratch = tempfile::tempdir().unwrap();
    action.run(&Run { store, scratch: scratch.path(), inputs: &inputs, epoch: EPOCH, threads: 2, reporter: &Silent })
}

fn blob(store: &Store, bytes: &[u8]) -> Input {
    Input::Blob { digest: store.put(bytes).unwrap(), size: bytes.len() as u64 }
}

fn as_blob(output: &Output) -> Input {
    Input::Blob { digest: output.digest, size: output.size }
}

/// Base layer, files layer, manifest of [`DEF`] for amd64.
fn built(store: &Arc<Store>) -> (Output, Outputs, Outputs) {
    let task = Task::begin(&Silent, "base", None);
    let lower = write_layer(&base(), EPOCH, store, 2, &task).unwrap().output();
    let lower_listing = blob(store, &listing::listing(&base()).unwrap());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(6);
    header.set_mode(0o640);
    tar.append_data(&mut header, "dist/index.html", &b"<html>"[..]).unwrap();
    let ui = blob(store, &tar.into_inner().unwrap());
    let (image, platform) = ("reg.lan/app:1".to_owned(), Platform::LinuxAmd64);
    let locals = origins().locals.iter().map(|(p, c)| (p.clone(), blob(store, &c.read(1000).unwrap()))).collect();
    let steps = BTreeMap::from([("ui".to_owned(), ui)]);
    let files =
        FilesLayer { image: image.clone(), platform, def: def(DEF), locals, steps, lower: vec![lower_listing.clone()] };
    let files = run(&files, store, &BTreeMap::new()).unwrap();
    let layers = vec![
        ("packages".to_owned(), as_blob(&lower), lower_listing),
        ("files".to_owned(), as_blob(&files[LAYER]), as_blob(&files[LISTING])),
    ];
    let facts = [&lower, &files[LAYER]].map(|o| (o.digest, o.clone())).into();
    let manifest = run(&ManifestStep { image, platform, def: def(DEF), layers }, store, &facts).unwrap();
    (lower, files, manifest)
}

#[test]
fn an_image_has_the_same_digests_everywhere() {
    let (_dir, store) = store();
    let (_, files, manifest) = built(&store);
    let one = assemble(&BTreeMap::from([(Platform::LinuxAmd64, manifest[MANIFEST].clone())]), &store).unwrap();
    assert_eq!(one.digest, manifest[MANIFEST].digest);
    let both = [Platform::LinuxAmd64, Platform::LinuxArm64].map(|p| (p, manifest[MANIFEST].clone())).into();
    let index = store.read_blob(&assemble(&both, &store).unwrap().digest, 4096).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"][1]["platform"]["variant"], "v8");
    let config = store.read_blob(&manifest[CONFIG].digest, 4096).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["config"]["Env"][1], format!("PATH={}", config::DEFAULT_PATH));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    assert_eq!(config["config"]["ExposedPorts"], serde_json::json!({ "8080/tcp": {} }));
    assert_eq!(files[LAYER].digest.hex(), "a91848b4eda6a99ac1e90f006ee5447a0c8a55279e39e9a2a1398ad512f82985");
    assert_eq!(one.digest.hex(), "bea68269edee28bf57d5f287f3572551d471d867a7d36cccc02aaf4219f02da5");
}

#[test]
fn the_files_lie_over_what_packages_brought() {
    let lower = Listing::of(&base()).unwrap();
    let tree = files_tree(&def(DEF), &origins(), &lower).unwrap();
    let found: Vec<String> =
        tree.entries.iter().map(|(p, e)| format!("{p} {:o} {}:{}", e.mode, e.uid, e.gid)).collect();
    assert_eq!(
        found,
        [
            "/etc 755 0:0",
            "/etc/group 644 0:42",
            "/etc/passwd 644 0:42",
            "/etc/shadow 640 0:42",
            "/run 711 0:0",
            "/run/x 600 0:0",
            "/srv 755 1000:1000",
            "/srv/app 755 1000:1000",
            "/srv/app/main.py 644 1000:1000",
            "/srv/app/sub 755 1000:1000",
            "/srv/app/sub/x.py 644 1000:1000",
            "/srv/data 750 1000:1000",
            "/srv/ui 755 0:0",
            "/srv/ui/index.html 640 0:0",
            "/usr 755 0:0",
            "/usr/bin 755 0:0",
            "/usr/bin/app 777 0:0",
            "/usr/bin/run 755 0:0",
        ]
    );
    let listing = Listing::of(&tree).unwrap();
    assert!(listing.account("etc/passwd").ends_with("nologin\napp:x:1000:1000::/srv:/usr/sbin/nologin\n"));
    assert!(listing.account("etc/shadow").ends_with(":::\napp:!*:::::::\n"));
    check(&def(DEF), Platform::LinuxAmd64, &view(&def(DEF))).unwrap();
}

#[test]
fn what_does_not_fit_is_refused() {
    let lower = Listing::of(&base()).unwrap();
    for (text, message) in [
        (
            "user = [{ name = \"www-data\", uid = 5 }]",
            "user `www-data` (5) of image.toml clashes with user `www-data` (33)",
        ),
        ("user = [{ name = \"app\", uid = 33 }]", "user `app` (33) of image.toml clashes with user `www-data` (33)"),
        ("dir = [{ path = \"/x\", owner = \"www-dat\" }]", "no user called `www-dat`"),
        ("dir = [{ path = \"/bin\" }]", "is a symbolic link to `usr/bin`"),
        ("file = [{ content = \"\", to = \"/etc\" }]", "is a directory"),
        ("file = [{ content = \"\", to = \"/etc/passwd/x\" }]", "is no directory"),
        ("file = [{ from = \"nope\", to = \"/x\" }]", "nothing is at `nope`"),
        (
            "file = [{ content = \"\", to = \"/bin/x\" }, { content = \"\", to = \"/usr/bin/x\" }]",
            "both have `/usr/bin/x`",
        ),
    ] {
        let def = def(&format!("schema = 1\n{text}\n"));
        let told = files_tree(&def, &origins(), &lower).unwrap_err().to_string();
        assert!(told.contains(message), "{text}: {told}");
    }
}

#[test]
fn an_image_that_can_not_start_is_refused() {
    for (text, message) in [
        ("config.entrypoint = [\"python3\"]", "there is no `python3` in its PATH"),
        ("config.entrypoint = [\"/usr/bin/python3\"]", "there is no `/usr/bin/python3` in it"),
        ("config.cmd = [\"/usr/bin/arm\"]", "is a program for linux/arm64"),
        ("config.cmd = [\"/etc/passwd\"]", "is not executable"),
        ("config.cmd = [\"/etc\"]", "is no file"),
        ("config.user = \"nobody\"", "no user called `nobody`"),
        (
            "file = [{ content = \"#!/usr/bin/env python3\\n\", to = \"/x\", mode = \"0755\" }]\nconfig.cmd = [\"/x\"]",
            "there is no `python3` in its PATH",
        ),
        (
            "file = [{ content = \"#!/bin/sh\\r\\n\", to = \"/x\", mode = \"0755\" }]\nconfig.cmd = [\"/x\"]",
            "carriage return",
        ),
        ("file = [{ content = \"#!/x\\n\", to = \"/x\", mode = \"0755\" }]\nconfig.cmd = [\"/x\"]", "without end"),
        (
            "link = [{ path = \"/x\", target = \"/gone\" }]\nconfig.cmd = [\"/x\"]",
            "leads to `/gone`, which is not there",
        ),
    ] {
        let def = def(&format!("schema = 1\n{text}\n"));
        let told = check(&def, Platform::LinuxAmd64, &view(&def)).unwrap_err().to_string();
        assert!(told.contains(message), "{text}: {told}");
    }
}

#[test]
fn times_are_written_as_rfc_3339() {
    for (seconds, text) in
        [(0, "1970-01-01T00:00:00Z"), (1_709_164_800, "2024-02-29T00:00:00Z"), (4_102_444_799, "2099-12-31T23:59:59Z")]
    {
        assert_eq!(config::rfc3339(seconds), text);
    }
}

/// `skopeo` copies the image, which checks digests and diff ids.
#[test]
fn another_program_reads_it() {
    let (dir, store) = store();
    let (.., manifest) = built(&store);
    let manifest = &manifest[MANIFEST];
    let layout = dir.path().join("layout");
    fs_err::create_dir_all(&layout).unwrap();
    fs_err::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{ "mediaType": crate::store::image::OCI_MANIFEST,
        "digest": manifest.digest, "size": manifest.size, "annotations": { "org.opencontainers.image.ref.name": "x" } }] });
    fs_err::write(layout.join("index.json"), index.to_string()).unwrap();
    std::os::unix::fs::symlink(dir.path().join("blobs"), layout.join("blobs")).unwrap();
    let from = format!("oci:{}:x", layout.display());
    let to = format!("docker-archive:{}:x:1", dir.path().join("x.tar").display());
    for args in [vec!["inspect", &from], vec!["copy", "--insecure-policy", &from, &to]] {
        // Without skopeo on this machine there is nothing to see here.
        if let Ok(out) = std::process::Command::new("skopeo").args(&args).output() {
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
