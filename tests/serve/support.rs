//! A bundle of small images, a server over it, and a client that shows exactly what came over the wire.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use labimg::base::digest::Digest;
use labimg::base::report::{Reporter, Silent};
use labimg::build::bundle::describe;
use labimg::model::lock::{Lock, LockedImage, LockedLocal, LockedManifest};
use labimg::model::platform::Platform;
use labimg::serve::{Options, Registry, Server, Source, from_bundle};
use labimg::store::bundle::{self, Bundle};
use labimg::store::image::{OCI_INDEX, OCI_MANIFEST};
use labimg::store::{Access, Store};
use serde_json::{Value, json};

/// A layer that takes many chunks.
pub const LARGE: usize = 3_000_001;

pub struct Lab {
    pub dir: tempfile::TempDir,
    pub store: Arc<Store>,
    lock: Lock,
}

/// Bytes that are not the same for two seeds.
pub fn bytes(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 5) as u8 ^ seed).collect()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store"), Access::Shared).unwrap());
        Self { dir, store, lock: Lock { name: "lab".into(), ..Lock::default() } }
    }

    /// A manifest with a config and these layers, all in the store.
    fn manifest(&self, layers: &[Vec<u8>]) -> LockedManifest {
        let config = json!({"architecture": "amd64", "os": "linux", "n": layers.len()}).to_string();
        self.store.put(config.as_bytes()).unwrap();
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                self.store.put(layer).unwrap();
                descriptor("application/vnd.oci.image.layer.v1.tar", layer)
            })
            .collect();
        let config = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let text = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        let text = text.to_string();
        let digest = self.store.put(text.as_bytes()).unwrap();
        LockedManifest { media_type: OCI_MANIFEST.into(), digest, size: text.len() as u64 }
    }

    /// An image of one platform; gives the digest of its manifest.
    pub fn image(&mut self, reference: &str, layers: &[Vec<u8>]) -> Digest {
        let m = self.manifest(layers);
        self.lock.images.push(LockedImage {
            reference: reference.parse().unwrap(),
            source: None,
            media_type: m.media_type.clone(),
            digest: m.digest,
            size: m.size,
            platforms: [(Platform::LinuxAmd64, m.clone())].into(),
        });
        m.digest
    }

    /// An index of two platforms, of which one is carried; gives the index, the one that is there and the one that is not.
    pub fn partial(&mut self, reference: &str, layers: &[Vec<u8>]) -> (Digest, Digest, Digest) {
        let here = self.manifest(layers);
        let absent = Digest::of(reference.as_bytes());
        let entry = |digest: Digest, size: u64, arch: &str| {
            let platform = json!({"os": "linux", "architecture": arch});
            json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size, "platform": platform})
        };
        let manifests = [entry(here.digest, here.size, "amd64"), entry(absent, 5, "arm64")];
        let text = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
        let digest = self.store.put(text.as_bytes()).unwrap();
        self.lock.images.push(LockedImage {
            reference: reference.parse().unwrap(),
            source: None,
            media_type: OCI_INDEX.into(),
            digest,
            size: text.len() as u64,
            platforms: [(Platform::LinuxAmd64, here.clone())].into(),
        });
        (digest, here.digest, absent)
    }

    /// An index of two indexes of one platform each, of which one is carried: gives the outer one, the inner one, the manifest
    /// in that, and the manifest that is not carried.
    pub fn nested(&mut self, reference: &str, layers: &[Vec<u8>]) -> [Digest; 4] {
        let here = self.manifest(layers);
        let absent = Digest::of(reference.as_bytes());
        let put = |entries: Vec<Value>| {
            let text = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
            (self.store.put(text.as_bytes()).unwrap(), text.len() as u64)
        };
        let entry = |media_type: &str, (digest, size): (Digest, u64), arch: &str| {
            let platform = json!({"os": "linux", "architecture": arch});
            json!({"mediaType": media_type, "digest": digest, "size": size, "platform": platform})
        };
        let inner = put(vec![
            entry(OCI_MANIFEST, (here.digest, here.size), "amd64"),
            entry(OCI_MANIFEST, (absent, 5), "arm64"),
        ]);
        let other = put(vec![entry(OCI_MANIFEST, (absent, 5), "arm64")]);
        let (digest, size) = put(vec![entry(OCI_INDEX, inner, "amd64"), entry(OCI_INDEX, other, "arm64")]);
        self.lock.images.push(LockedImage {
            reference: reference.parse().unwrap(),
            source: None,
            media_type: OCI_INDEX.into(),
            digest,
            size,
            platforms: [(Platform::LinuxAmd64, here.clone())].into(),
        });
        [digest, inner.0, here.digest, absent]
    }

    /// A file from beside the profile: it travels with the lab, and is no image.
    pub fn local(&mut self, path: &str, bytes: &[u8]) -> Digest {
        let digest = self.store.put(bytes).unwrap();
        self.lock.locals.push(LockedLocal { path: path.into(), digest, size: bytes.len() as u64 });
        digest
    }

    /// An image that says which other one it is about.
    pub fn about(&mut self, reference: &str, subject: &Digest) -> Digest {
        let config = json!({"architecture": "amd64", "os": "linux"}).to_string();
        self.store.put(config.as_bytes()).unwrap();
        let config = descriptor("application/vnd.example.signature", config.as_bytes());
        let subject = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
        let text =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "subject": subject});
        let text = text.to_string();
        let digest = self.store.put(text.as_bytes()).unwrap();
        let m = LockedManifest { media_type: OCI_MANIFEST.into(), digest, size: text.len() as u64 };
        self.lock.images.push(LockedImage {
            reference: reference.parse().unwrap(),
            source: None,
            media_type: OCI_MANIFEST.into(),
            digest,
            size: m.size,
            platforms: [(Platform::LinuxAmd64, m)].into(),
        });
        digest
    }

    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// All blobs with their sizes.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        describe("", "", &self.lock, &[], self.store.as_ref()).unwrap().blobs
    }

    /// Writes the bundle.
    pub fn bundle(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let description = describe("", "", &self.lock, &[], self.store.as_ref()).unwrap();
        let options = bundle::Options { threads: 1, sync: false };
        bundle::write(&description, self.store.as_ref(), &path, options, &Silent).unwrap();
        path
    }
}

pub struct Running {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A server of these bundles on a port of its own.
pub fn mirror(bundles: &[&Path]) -> Running {
    start(bundles.iter().map(|b| from_bundle(Bundle::open(b).unwrap())).collect(), None)
}

/// The writable registry `localhost:5001`.
pub fn registry(bundle: &Path, pushes: &Path, limit: Option<u64>) -> Running {
    let registry = Registry { host: "localhost:5001".into(), pushes: pushes.to_owned(), limit };
    start(vec![from_bundle(Bundle::open(bundle).unwrap())], Some(registry))
}

pub fn start(sources: Vec<Source>, registry: Option<Registry>) -> Running {
    start_telling(sources, registry, Arc::new(Silent))
}

/// As `start`; damage is told to this reporter.
pub fn start_telling(sources: Vec<Source>, registry: Option<Registry>, reporter: Arc<dyn Reporter>) -> Running {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let options = Options { listen: "127.0.0.1:0".parse().unwrap(), registry };
            let server = Server::bind(options, sources).await.unwrap();
            server.report_to(reporter);
            tell.send(server.address()).unwrap();
            server.run(async { drop(stopped.await) }).await;
        });
    });
    Running { address: told.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the server panicked");
    }
}

/// An answer as it came; the body may be shorter than its `Content-Length`.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and error code, which every refusal has.
    #[track_caller]
    pub fn refused(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap().to_owned())
    }

    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}

impl Running {
    /// A request with its headers and body, over a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "PUT" || method == "POST" || method == "PATCH" {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        self.raw(&[text.as_bytes(), body].concat())
    }

    /// These very bytes.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut got = self.raw_bytes(request);
        let end = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {got:?}"));
        let head = String::from_utf8(got[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Answer { status, headers, body: got.split_off(end + 4) }
    }

    /// Whatever comes back, until the connection ends.
    pub fn raw_bytes(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(request);
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        got
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn head(&self, path: &str) -> Answer {
        self.ask("HEAD", path, &[], b"")
    }
}

/// Changes one byte in the middle of a blob of the bundle.
pub fn spoil(bundle: &Path, digest: &Digest) {
    let member = Bundle::open(bundle).unwrap().blob(digest).unwrap().clone();
    let at = member.offset + member.size / 2;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(bundle).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
