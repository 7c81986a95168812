//! What labimg makes of real wheels, held against what pip itself installs of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use labimg::base::report::Silent;
use labimg::build::tree::{Kind, Tree};
use labimg::build::wheel::wheel_tree;
use labimg::model::guest_path::GuestPath;
use labimg::model::lock::LockedWheel;
use labimg::model::platform::Platform;
use labimg::source::wheel::{WheelRequest, fetch_wheel, resolve};
use labimg::source::{ErrorKind, Net, NetOptions};
use labimg::store::{Access, Store};

/// What both images of the quickstart lab want.
const REQUIREMENTS: [&str; 9] = [
    "flask==3.1.*",
    "waitress==3.0.*",
    "requests==2.*",
    "redis==7.*",
    "opentelemetry-sdk==1.39.1",
    "opentelemetry-distro==0.60b1",
    "opentelemetry-exporter-otlp-proto-http==1.39.1",
    "opentelemetry-instrumentation-flask==0.60b1",
    "opentelemetry-instrumentation-redis==0.60b1",
];

/// Files that say who installed it, when and from where.
const OWN: [&str; 4] = ["RECORD", "INSTALLER", "REQUESTED", "direct_url.json"];

#[tokio::test]
async fn the_same_files_as_pip() {
    let Some(python) = python() else { return println!("SKIPPED: no python3 with pip here") };
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("store"), Access::Shared).unwrap());
    let net = Net::new(NetOptions { tries: 2, ..NetOptions::default() }, Arc::new(Silent));
    let mut wheels = Vec::new();
    for platform in [Platform::LinuxArm64, Platform::LinuxAmd64] {
        let requirements = REQUIREMENTS.map(str::to_owned).to_vec();
        let request = WheelRequest { name: "both".to_owned(), requirements, python: python.clone(), platform };
        let start = Instant::now();
        wheels = match resolve(&net, &store, &request).await {
            Ok(wheels) => wheels,
            Err(e) if matches!(e.kind(), ErrorKind::Unreachable | ErrorKind::Local) => {
                return println!("SKIPPED: no index of wheels can be asked here: {e}");
            }
            Err(e) => panic!("{e}"),
        };
        println!("{platform}: {} wheels resolved in {:?}", wheels.len(), start.elapsed());
        assert!(wheels.len() > 20);
    }
    for wheel in &wheels {
        fetch_wheel(&net, &store, wheel).await.unwrap();
    }
    let files: Vec<(LockedWheel, PathBuf)> =
        wheels.into_iter().map(|wheel| (wheel.clone(), store.blob_path(&wheel.digest))).collect();
    let to = GuestPath::parse("usr/local/lib/python3/dist-packages").unwrap();
    let start = Instant::now();
    let tree = wheel_tree(&files, &to, &python, Platform::LinuxAmd64, dir.path()).unwrap();
    println!("{} entries unpacked in {:?}", tree.entries.len(), start.elapsed());
    if !cfg!(target_arch = "x86_64") {
        return println!("SKIPPED: pip of this machine does not install wheels for amd64");
    }
    let target = installed_by_pip(&files, dir.path());
    compare(&tree, &to, &target);
}

fn python() -> Option<String> {
    let code = "import sys; print('3.%d' % sys.version_info[1])";
    let output = Command::new("python3").args(["-I", "-c", code]).output().ok()?;
    let pip = Command::new("python3").args(["-I", "-m", "pip", "--version"]).output().ok()?;
    pip.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Under their own names, in a folder that becomes what pip leaves.
fn installed_by_pip(files: &[(LockedWheel, PathBuf)], dir: &Path) -> PathBuf {
    let (named, target) = (dir.join("named"), dir.join("target"));
    fs_err::create_dir(&named).unwrap();
    let mut command = Command::new("python3");
    command.args(["-I", "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--no-index", "--target"]);
    command.arg(&target);
    for (wheel, path) in files {
        fs_err::copy(path, named.join(&wheel.file)).unwrap();
        command.arg(named.join(&wheel.file));
    }
    assert!(command.status().unwrap().success());
    target
}

fn compare(tree: &Tree, to: &GuestPath, target: &Path) {
    let bin = GuestPath::parse("usr/local/bin").unwrap();
    let mut ours = BTreeMap::new();
    for (path, entry) in &tree.entries {
        let Kind::File(content) = &entry.kind else { continue };
        let (name, content) = match path.as_str().strip_prefix(&format!("{}/", to.as_str())) {
            Some(name) => (name.to_owned(), content.read(1 << 30).unwrap()),
            None if path.is_within(&bin) => (format!("bin/{}", path.name()), Vec::new()),
            None => panic!("{path} is in no place of pip's"),
        };
        if !OWN.contains(&path.name()) {
            ours.insert(name, (content, entry.mode));
        }
    }
    let mut theirs = BTreeMap::new();
    walk(target, target, &mut theirs);
    let names = |map: &BTreeMap<String, (Vec<u8>, u32)>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (name, content) in &ours {
        assert!(theirs[name] == *content, "{name} differs");
    }
    println!("{} files are the same as pip's", ours.len());
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, (Vec<u8>, u32)>) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs_err::read_dir(dir).unwrap() {
        let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if kind.is_dir() {
            walk(root, &path, found);
        } else if !OWN.contains(&path.file_name().unwrap().to_str().unwrap()) {
            let content = if name.starts_with("bin/") { Vec::new() } else { fs_err::read(&path).unwrap() };
            // umask is the machine's; what counts is who may execute it.
            let executable = fs_err::metadata(&path).unwrap().permissions().mode() & 0o111 != 0;
            found.insert(name, (content, if executable { 0o755 } else { 0o644 }));
        }
    }
}
