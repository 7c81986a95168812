//! A registry, a chart repository and a file server in one, filled and spoilt by the test that owns it.

#[path = "../../support/fault.rs"]
// One module for several test binaries, each of which uses a part of it.
#[allow(dead_code)]
mod fault;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Response;
use fault::{Fault, good, stalled, status, with};
use labimg::base::digest::Digest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is wrong with an answer.
#[derive(Debug, Clone)]
pub enum Broken {
    /// This status.
    Status(u16),
    /// Credentials are wanted.
    Login,
    /// Other bytes.
    Bytes(Vec<u8>),
    /// The first bytes, and then nothing more.
    Stall(usize),
}

#[derive(Default)]
struct State {
    content: BTreeMap<String, Vec<u8>>,
    broken: BTreeMap<String, Broken>,
}

/// The server; stops when dropped.
pub struct Upstream {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    state: Arc<Mutex<State>>,
    fault: Fault,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// A server that has nothing.
    pub fn empty() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let fault = runtime.block_on(Fault::start(move |hit| answer(&shared.lock().unwrap(), hit)));
        Self { base: fault.base.clone(), state, fault, _runtime: runtime }
    }

    /// A server with everything of [`LAB`](Self::LAB).
    pub fn lab() -> Self {
        let upstream = Self::empty();
        upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &["base", "web one"]);
        upstream.image("team/db:2", &[], &["base", "db two"]);
        upstream.chart("app", "1.0.0", "first");
        upstream.put("/dl.example.org/data.txt", "some data\n");
        let tool = tgz(&[("linux-amd64/tool", &elf(62)), ("linux-amd64/LICENSE", b"free")]);
        upstream.put("/dl.example.org/tool-v1-linux-amd64.tar.gz", tool);
        upstream
    }

    /// A profile with one input of each kind.
    pub const LAB: &str = r#"schema = 1
name = "lab"

[[image]]
ref = "web:1"
platforms = ["linux/amd64", "linux/arm64"]

[[image]]
ref = "quay.io/team/db:2"

[[chart]]
name = "app"
repo = "https://charts.example.org"
version = "1.0.0"
values = "values.yaml"

[tool.tool]
version = "v1"
url = "https://dl.example.org/tool-{version}-{os}-{arch}.tar.gz"
member = "{os}-{arch}/tool"

[[file]]
name = "data"
url = "https://dl.example.org/data.txt"

[[manifest]]
name = "objects"
path = "objects.yaml"
"#;

    /// A world with the profile [`LAB`](Self::LAB) and its files, talking to this server.
    pub fn world(&self) -> super::World {
        let world = super::World::with(self);
        world.write("lab.toml", Self::LAB);
        world.write("values.yaml", "replicas: 2\n");
        world.write("objects.yaml", "kind: Namespace\n");
        world
    }

    /// Serves bytes at a path.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().content.insert(path.to_owned(), bytes.into());
    }

    /// No longer serves a path or a digest.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().content.remove(path).expect("it was served");
    }

    /// Breaks the answer for a path or a digest.
    pub fn spoil(&self, path: &str, how: Broken) {
        self.state.lock().unwrap().broken.insert(path.to_owned(), how);
    }

    /// Answers well again.
    pub fn mend(&self) {
        self.state.lock().unwrap().broken.clear();
    }

    /// How many requests came so far.
    pub fn hits(&self) -> usize {
        self.fault.hits().len()
    }

    /// The paths asked for so far, but for the first `known` ones.
    pub fn asked_since(&self, known: usize) -> Vec<String> {
        self.fault.hits().into_iter().skip(known).map(|hit| hit.path).collect()
    }

    /// Waits until something at this path was asked for.
    pub fn wait_for(&self, end: &str) {
        for _ in 0..2000 {
            if self.fault.hits().iter().any(|hit| hit.path.ends_with(end)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("nobody asked for {end}: {:?}", self.fault.hits());
    }

    /// Serves `repository:tag` with an index over `platforms`, or, without any, with one manifest for linux/amd64.
    /// Gives the digest the tag leads to.
    pub fn image(&self, name: &str, platforms: &[&str], layers: &[&str]) -> Digest {
        let (repository, tag) = name.split_once(':').unwrap();
        let top = match platforms {
            [] => self.manifest("linux/amd64", layers),
            several => {
                let listed: Vec<String> = several.iter().map(|p| self.listed(p, layers)).collect();
                format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, listed.join(","))
            }
        };
        self.put(&format!("/v2/{repository}/manifests/{tag}"), top.clone());
        self.blob(top.as_bytes())
    }

    fn listed(&self, platform: &str, layers: &[&str]) -> String {
        let manifest = self.manifest(platform, layers);
        let (os, arch) = platform.split_once('/').unwrap();
        let (digest, size) = (self.blob(manifest.as_bytes()), manifest.len());
        format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size},"platform":{{"os":"{os}","architecture":"{arch}"}}}}"#
        )
    }

    fn manifest(&self, platform: &str, layers: &[&str]) -> String {
        let (os, arch) = platform.split_once('/').unwrap();
        let config = format!(r#"{{"os":"{os}","architecture":"{arch}","layers":"{}"}}"#, layers.join(","));
        let described = |kind: &str, text: &str| {
            let digest = self.blob(text.as_bytes());
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#, text.len())
        };
        let layers: Vec<String> =
            layers.iter().map(|l| described("layer.v1.tar", &format!("{l} {platform}"))).collect();
        let config = described("config.v1+json", &config);
        let layers = layers.join(",");
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]}}"#)
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.put(&digest.to_string(), bytes);
        digest
    }

    /// Serves the only version of a chart, with `text` inside it.
    pub fn chart(&self, name: &str, version: &str, text: &str) {
        let meta = format!("name: {name}\nversion: {version}\n");
        let archive = tgz(&[
            (&format!("{name}/Chart.yaml"), meta.as_bytes()),
            (&format!("{name}/templates/x.yaml"), text.as_bytes()),
        ]);
        let digest = Digest::of(&archive).hex();
        let index =
            format!("entries:\n  {name}:\n  - version: {version}\n    digest: {digest}\n    urls: [{name}.tgz]\n");
        self.put("/charts.example.org/index.yaml", index);
        self.put(&format!("/charts.example.org/{name}.tgz"), archive);
    }
}

fn answer(state: &State, hit: &fault::Hit) -> Response<Body> {
    let last = hit.path.rsplit('/').next().unwrap_or_default();
    let key = if last.starts_with("sha256:") { last } else { hit.path.as_str() };
    let bytes = state.content.get(key);
    match (state.broken.get(key), bytes) {
        (Some(Broken::Status(code)), _) => status(*code),
        (Some(Broken::Login), _) => with(401, &[("www-authenticate", "Basic realm=\"test\"")], "{}"),
        (Some(Broken::Bytes(other)), _) => good(hit, other),
        (Some(Broken::Stall(n)), Some(bytes)) => stalled(bytes, *n),
        // An index of wheels must say that it is HTML.
        (_, Some(bytes)) if hit.path.starts_with("/simple/") => {
            with(200, &[("content-type", "text/html")], bytes.clone())
        }
        (_, Some(bytes)) => good(hit, bytes),
        _ => status(404),
    }
}

/// A `.tar.gz` of these files.
fn tgz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// The first bytes of an ELF program for `machine` (62: amd64, 183: arm64), which is all that is looked at.
pub fn elf(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0; 1000];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes
}
