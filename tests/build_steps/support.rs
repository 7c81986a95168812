//! A tree of programs copied from this machine with the libraries they load, and a place to run them in.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use labimg::build::sandbox::{Ended, Spec, Stop, run};

/// What the tree has.
const PROGRAMS: [&str; 25] = [
    "sh", "bash", "cat", "ls", "id", "date", "head", "tail", "tr", "env", "sleep", "touch", "cp", "rm", "mkdir", "ln",
    "uname", "stat", "find", "sort", "chmod", "mkfifo", "wc", "mount", "umount",
];

/// The tree that tests share while any of them runs; the last one removes it.
pub fn tree() -> Arc<tempfile::TempDir> {
    static SHARED: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        make_tree(dir.path());
        *shared = Arc::downgrade(&dir);
        dir
    })
}

/// labimg, which is its own helper.
pub fn helper() -> PathBuf {
    std::env::var("LABIMG_TEST_HELPER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_labimg").to_owned()).into()
}

/// A scratch directory to run programs with.
pub struct Box {
    pub dir: tempfile::TempDir,
    pub spec: Spec,
    _tree: Option<Arc<tempfile::TempDir>>,
}

impl Box {
    pub fn new() -> Self {
        let tree = tree();
        Self { _tree: Some(tree.clone()), ..Self::over(tree.path()) }
    }

    pub fn over(tree: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec {
            tree: tree.to_owned(),
            inputs: BTreeMap::new(),
            scratch: dir.path().join("scratch"),
            argv: Vec::new(),
            env: BTreeMap::new(),
            epoch: 1_700_000_000,
            cores: 3,
            ids: labimg::build::sandbox::Ids::One,
            vm: false,
        };
        std::fs::create_dir(&spec.scratch).unwrap();
        Self { dir, spec, _tree: None }
    }

    /// Runs a script to its end, whatever that is.
    pub fn sh(&mut self, script: &str) -> Ended {
        self.stopped(script, Stop::default())
    }

    pub fn stopped(&mut self, script: &str, stop: Stop<'_>) -> Ended {
        self.spec.argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
        run(&helper(), &self.spec, stop).unwrap()
    }

    /// What a script says that ends well.
    pub fn says(&mut self, script: &str) -> String {
        let ended = self.sh(script);
        assert_eq!(ended.exit, labimg::build::sandbox::Exit::Code(0), "{}", ended.output);
        ended.output
    }
}

fn make_tree(root: &Path) {
    for dir in ["etc", "usr/bin", "usr/lib", "usr/lib64"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, root.join(link)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/tmp:/bin/sh\n").unwrap();
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let from = ["/usr/bin", "/bin"].map(|d| Path::new(d).join(name)).into_iter().find(|p| p.exists()).unwrap();
        std::fs::copy(&from, root.join("usr/bin").join(name)).unwrap();
        let listed = Command::new("ldd").arg(&from).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        libraries.extend(text.split_whitespace().filter(|w| w.starts_with('/')).map(PathBuf::from));
    }
    for from in libraries {
        let dir = std::fs::canonicalize(from.parent().unwrap()).unwrap();
        let to = root.join(dir.strip_prefix("/").unwrap());
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        // The loader is asked for by the name its link has.
        if from.starts_with("/lib64") {
            std::fs::copy(&from, root.join("usr/lib64").join(from.file_name().unwrap())).unwrap();
        }
    }
}
