//! An API server without nodes (`tests/testbed/apiserver`), and labs made of texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use labimg::base::report::{Reporter, TaskId};
use labimg::lab::deploy::{DeployReport, Options, deploy};
use labimg::lab::kube::{Api, connect};
use labimg::lab::secret::Secrets;
use labimg::lab::{LabError, Machine, Session};
use labimg::model::lock::{Lock, LockedChart, LockedLocal, wire};
use labimg::store::bundle::{self, Contents, Description};
use labimg::store::layout::OCI_LAYOUT;
use labimg::store::{Access, Store};
use serde_json::Value;

/// A running API server; ends with the last test that uses it.
pub struct Server {
    dir: tempfile::TempDir,
    parts: PathBuf,
    pub kubeconfig: PathBuf,
}

fn script(parts: &Path, verb: &str, dir: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/apiserver");
    let out = Command::new(script).arg(verb).arg(dir).env("LABIMG_PARTS", parts).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Server {
    /// One of its own; `None`, said aloud, where the parts are not there.
    #[allow(clippy::disallowed_methods)] // a test may read where its parts are
    pub fn start() -> Option<Arc<Self>> {
        let parts = std::env::var_os("LABIMG_PARTS").map(PathBuf::from);
        let Some(parts) = parts.filter(|p| p.join("kube-apiserver").is_file()) else {
            eprintln!("NOT RUN: LABIMG_PARTS has no kube-apiserver");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = script(&parts, "start", dir.path()).into();
        Some(Arc::new(Self { dir, parts, kubeconfig }))
    }

    /// The one all tests share.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Self::start()?;
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    pub fn restart(&self) {
        script(&self.parts, "restart", self.dir.path());
    }

    pub fn kubectl(&self, args: &[&str]) -> String {
        let program = Command::new(self.parts.join("kubectl"))
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.kubeconfig.with_file_name("cache"))
            .output();
        let out = program.unwrap();
        assert!(out.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Sets the status of an object, as a controller or kubelet would.
    pub fn status(&self, namespace: &str, object: &str, status: &Value) {
        let patch = serde_json::json!({ "status": status }).to_string();
        self.kubectl(&["-n", namespace, "patch", object, "--subresource=status", "--type=merge", "-p", &patch]);
    }

    /// Sets the status once the object is there.
    pub fn status_soon(self: &Arc<Self>, namespace: &str, object: &str, status: Value) -> std::thread::JoinHandle<()> {
        let (server, namespace, object) = (Arc::clone(self), namespace.to_owned(), object.to_owned());
        std::thread::spawn(move || {
            for _ in 0..100 {
                let got = Command::new(server.parts.join("kubectl"))
                    .args(["-n", &namespace, "get", &object])
                    .env("KUBECONFIG", &server.kubeconfig)
                    .env("KUBECACHEDIR", server.kubeconfig.with_file_name("cache"))
                    .output()
                    .unwrap();
                if got.status.success() {
                    return server.status(&namespace, &object, &status);
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            panic!("{object} never came");
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script(&self.parts, "stop", self.dir.path());
    }
}

/// Keeps what was said.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl Reporter for Heard {
    fn say(&self, _: TaskId, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// A lab whose bundle is made here.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub session: Session,
    pub heard: Arc<Heard>,
    apis: BTreeMap<String, Api>,
}

impl Lab {
    /// A lab of this profile (behind its head) and these files beside it; `*.tgz` are charts of that name.
    pub async fn new(server: &Server, name: &str, profile: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bundle = write(dir.path(), name, profile, files);
        let heard = Arc::new(Heard::default());
        let machine = Machine {
            state_root: dir.path().join("state"),
            path: vec![server.parts.clone(), "/usr/bin".into(), "/bin".into()],
            tools_from_path: true,
            now: 1_800_000_000,
            jobs: 4,
            ..Machine::default()
        };
        let session = Session::open(&bundle, machine, heard.clone()).unwrap();
        session.state.folder("kubeconfig").unwrap();
        fs_err::copy(&server.kubeconfig, session.state.kubeconfig("c")).unwrap();
        let api = connect("c", &session.state.kubeconfig("c"), None).await.unwrap();
        Self { dir, session, heard, apis: BTreeMap::from([("c".to_owned(), api)]) }
    }

    pub async fn up(&self) -> Vec<DeployReport> {
        self.up_with(&Options::default()).await.unwrap()
    }

    pub async fn up_with(&self, options: &Options) -> Result<Vec<DeployReport>, LabError> {
        let secrets = Secrets::open(&self.session.state, &self.session.profile, &self.session.machine)?;
        deploy(&self.session, &self.apis, &secrets, options).await
    }
}

fn write(dir: &Path, name: &str, profile: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let store = Store::open(&dir.join("store"), Access::Shared).unwrap();
    let mut lock = Lock { name: name.to_owned(), ..Lock::default() };
    let mut description = Description { name: name.to_owned(), epoch: lock.epoch, ..Description::default() };
    for (path, bytes) in files {
        let digest = store.put(bytes).unwrap();
        let size = bytes.len() as u64;
        description.blobs.insert(digest, size);
        match path.strip_suffix(".tgz") {
            Some(chart) => lock.charts.push(LockedChart {
                name: chart.to_owned(),
                chart: chart.to_owned(),
                repo: "https://charts.example.org".to_owned(),
                version: "1.0.0".to_owned(),
                url: format!("https://charts.example.org/{chart}-1.0.0.tgz"),
                digest,
                size,
                dependencies: Vec::new(),
            }),
            None => lock.locals.push(LockedLocal { path: (*path).to_owned(), digest, size }),
        }
    }
    description.contents = Contents::of(&lock);
    let head = format!(
        "schema = 1\nname = \"{name}\"\n[[cluster]]\nname = \"c\"\nengine = \"existing\"\ncontext = \"test\"\n"
    );
    let index = String::from_utf8(description.contents.oci_index()).unwrap();
    let texts = [
        (bundle::OCI_LAYOUT_PATH, OCI_LAYOUT.to_owned()),
        (bundle::OCI_INDEX_PATH, index),
        (bundle::PROFILE_PATH, format!("{head}{profile}")),
        (bundle::LOCK_PATH, wire::to_text(&lock).unwrap()),
    ];
    description.texts = texts.into_iter().map(|(path, text)| (path.to_owned(), text.into_bytes())).collect();
    let target = dir.join("lab.labimg");
    let options = bundle::Options { threads: 1, sync: false };
    bundle::write(&description, &store, &target, options, &labimg::base::report::Silent).unwrap();
    target
}

/// `name=outcome` of every report.
pub fn outcomes(reports: &[DeployReport]) -> Vec<String> {
    use labimg::lab::deploy::Outcome;
    let one = |r: &DeployReport| match &r.outcome {
        Outcome::Ready { objects } => format!("{}=ready {objects}", r.name),
        Outcome::Unchanged => format!("{}=unchanged", r.name),
        Outcome::Failed(error) => format!("{}=failed {error}", r.name),
        Outcome::Skipped { after } => format!("{}=skipped {after}", r.name),
    };
    reports.iter().map(one).collect()
}
