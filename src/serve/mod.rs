//! A registry over bundle files and the store: the OCI distribution API (distribution-spec 1.1; Docker's registry HTTP API V2
//! where they differ in flavour), in place, without unpacking anything.
//!
//! **Guarantees.** A blob's digest is checked before its last byte leaves; a manifest's before its first. Images are keyed on
//! their upstream host, so two upstreams with one repository name never mix. Only what images are made of is served, each blob
//! under the names of the images that have it; nothing else that a bundle or a store holds. A request cannot make the server
//! read or write outside of its sources and its folder of pushes.
//!
//! **Bounds.** At most 512 connections are served (fewer where the process may open fewer files), and 64 wait; who comes then
//! makes others give way (`guests`). A connection has at most four chunks of 64 KiB in memory: what was read from it (one), and
//! either what it is being sent (two) or what it pushes and was not written yet (three); together that is 128 MiB. Beside
//! that there are at most 16 MiB of manifests that were asked for, 4 manifests of up to 4 MiB that are being pushed, and 64 MiB
//! of long lists. Whatever else comes is written to the folder of pushes first.
//!
//! `docs/serve.md` tells how names resolve and what clients need.

mod alarm;
mod blobs;
mod body;
mod catalog;
mod check;
mod closure;
mod conditions;
mod connection;
mod error;
mod guests;
mod limits;
mod listing;
mod manifests;
mod patient;
mod pool;
mod pushed;
mod pushes;
mod put_manifest;
mod referrers;
mod reply;
mod request;
mod route;
mod source;
mod traffic;
mod upload;
mod uploads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use error::{Disagreement, ServeError};
pub use source::{Source, from_bundle, from_store};
pub use traffic::{Sent, Status};

use crate::base::digest::Digest;
use crate::base::report::Reporter;

use alarm::Alarm;
use catalog::Catalog;
use check::Checker;
use limits::Limits;
use manifests::ManifestCache;
use pool::Pool;
use pushed::Pushed;
use request::{Name, canonical};
use source::Sources;
use traffic::Traffic;
use uploads::Uploads;

/// What a server is to do.
#[derive(Debug)]
pub struct Options {
    /// Where it listens. Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// The lab's writable registry; without it the server is a read-only mirror of all upstreams.
    pub registry: Option<Registry>,
}

/// The writable registry of a lab.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The host, with its port, that images of this registry have in their names: `localhost:5001`.
    pub host: String,
    /// The folder that takes what is pushed; made when it is not there.
    pub pushes: PathBuf,
    /// How many bytes of blobs the folder may hold.
    pub limit: Option<u64>,
}

/// A server that listens. Nothing is answered before [`Server::run`].
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

/// What all requests share.
struct State {
    catalog: Catalog,
    sources: Sources,
    checker: Arc<Checker>,
    pool: Arc<Pool>,
    manifests: ManifestCache,
    traffic: Arc<Traffic>,
    alarm: Arc<Alarm>,
    limits: Limits,
    /// Chunks of memory for long answers.
    large_answers: Arc<Semaphore>,
    writable: Option<Writable>,
}

/// What only the writable registry has.
struct Writable {
    host: String,
    pushed: Arc<Pushed>,
    uploads: Uploads,
    /// Turns for manifests larger than a chunk.
    large: Semaphore,
}

impl State {
    /// Whether the blob is served under this name. The writable registry is one place: its blobs are those of all its
    /// repositories, and of all images of its lab, so that nobody has to push what came with it.
    fn serves(&self, name: &Name, digest: &Digest) -> bool {
        match &self.writable {
            None => self.catalog.has_blob(&name.host, &name.path, digest),
            Some(writable) => self.catalog.any_has_blob(digest) || writable.pushed.has_blob(digest),
        }
    }

    /// The size in bytes of a blob that is served under this name, and is there.
    fn blob_size(&self, name: &Name, digest: &Digest) -> Option<u64> {
        self.sources.size(digest).filter(|_| self.serves(name, digest))
    }
}

impl Server {
    /// Reads what the sources hold and listens.
    ///
    /// # Errors
    /// Sources that disagree about a tag, an address that is taken, a folder for pushes that cannot be written.
    pub async fn bind(options: Options, sources: Vec<Source>) -> Result<Self, ServeError> {
        let limits = Limits::of_process();
        let alarm = Arc::<Alarm>::default();
        let catalog = Catalog::new(&sources, &alarm)?;
        let mut sources = Sources::new(sources);
        let writable = match options.registry {
            Some(registry) => {
                let pushed = Arc::new(Pushed::open(&registry.pushes, registry.limit)?);
                sources.add(&format!("what was pushed to {}", registry.pushes.display()), pushed.clone());
                let uploads = Uploads::new(pushed.clone());
                Some(Writable {
                    host: canonical(&registry.host),
                    pushed,
                    uploads,
                    large: Semaphore::new(put_manifest::LARGE_AT_A_TIME),
                })
            }
            None => None,
        };
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.map_err(|source| ServeError::Listen { address: options.listen, source })?;
        let address = listener.local_addr().map_err(|source| ServeError::Listen { address: options.listen, source })?;
        let state = State {
            catalog,
            sources,
            checker: Arc::new(Checker::new(alarm.clone())),
            pool: Arc::default(),
            manifests: ManifestCache::default(),
            traffic: Arc::default(),
            alarm,
            limits,
            large_answers: Arc::new(Semaphore::new(route::LARGE_ANSWERS as usize)),
            writable,
        };
        Ok(Self { listener, address, state: Arc::new(state) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has this reporter warned of damage: of what was found already, and of what is found while the server runs, each once.
    pub fn report_to(&self, reporter: Arc<dyn Reporter>) {
        self.state.alarm.report_to(reporter);
    }

    /// How many images can be had without a push.
    pub fn images(&self) -> usize {
        self.state.catalog.images(self.state.writable.as_ref().map(|w| w.host.as_str()))
    }

    /// Answers until `stop` is ready; then lets the requests under way end, for ten seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        connection::accept(self.listener, self.state.clone(), stop).await;
        self.state.checker.stop();
    }
}

/// Doors for the fuzz targets (`tests/fuzz`): what a request asks for. Built with `--cfg fuzzing` only.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::request;

    /// Path and `ns` of a request: the first line and the second one.
    pub fn request(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let (path, ns) = text.split_once('\n').unwrap_or((&text, ""));
        let ns = (!ns.is_empty()).then_some(ns);
        let Ok(asked) = request::parse(&hyper::Method::GET, path) else { return };
        use request::Asked::{Blob, Manifest, StartUpload, Tags, Upload};
        if let Tags(name) | Manifest(name, _) | Blob(name, _) | StartUpload(name) | Upload(name, _) = asked {
            let _ = request::resolve(&name, ns, |host| host == "registry.example");
        }
    }
}
