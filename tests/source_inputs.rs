//! Charts, files and whole locks from a loopback server, through mirrors.

#[path = "support/fault.rs"]
// One module for several test binaries, each of which uses a part of it.
#[allow(dead_code)]
mod fault;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fault::{Fault, good, status, with};
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::model::lock::{FileKind, Lock, LockedImage};
use labimg::model::platform::Platform;
use labimg::source::chart::{ChartRequest, resolve_chart};
use labimg::source::fetch::{fetch_lock, missing};
use labimg::source::file::{FileRequest, resolve_file};
use labimg::source::{ErrorKind, Net, NetOptions, oci};
use labimg::store::{Access, Store};

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

fn elf(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0; 1000];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes
}

fn chart() -> Vec<u8> {
    tgz(&[
        ("web/Chart.yaml", b"name: web\nversion: 1.2.3+b\n"),
        ("web/charts/db/Chart.yaml", b"name: db\nversion: 0.1.0\n"),
    ])
}

fn json(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
}

/// Everything a lab needs, at the paths where upstream has it.
struct Upstream {
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Upstream {
    fn new() -> Self {
        let mut blobs = BTreeMap::new();
        let mut put = |path: &str, bytes: Vec<u8>| blobs.insert(path.to_owned(), bytes);
        let digest = Digest::of(&chart()).hex();
        let index = format!(
            "entries:\n  web:\n  - version: 1.2.3+b\n    digest: {digest}\n    urls: [web.tgz]\n  moved:\n  - {{version: 1.2.3+b, urls: ['oci://quay.io/charts/web:1.2.3_b']}}\n"
        );
        put("/charts.example.org/repo/index.yaml", index.into_bytes());
        put("/charts.example.org/repo/web.tgz", chart());
        let tool = tgz(&[("linux-amd64/README", b"x"), ("linux-amd64/helm", &elf(62))]);
        put("/dl.example.org/helm.tar.gz", tool);

        let config = br#"{"os":"linux","architecture":"amd64"}"#.to_vec();
        for (name, layers) in [("one", [&b"shared"[..], b"first"]), ("two", [b"shared", b"second"])] {
            let all: Vec<String> = layers.iter().map(|l| json("application/vnd.oci.image.layer.v1.tar", l)).collect();
            let config = json("application/vnd.oci.image.config.v1+json", &config);
            let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, all.join(","));
            put(&format!("/v2/lab/{name}/manifests/1"), manifest.clone().into_bytes());
            put(&Digest::of(manifest.as_bytes()).to_string(), manifest.into_bytes());
            layers.iter().for_each(|l| drop(put(&Digest::of(l).to_string(), l.to_vec())));
        }
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            json("application/vnd.cncf.helm.config.v1+json", b"{}"),
            json("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &chart())
        );
        put("/v2/charts/web/manifests/1.2.3_b", manifest.into_bytes());
        put(&Digest::of(&config).to_string(), config);
        put(&Digest::of(&chart()).to_string(), chart());
        Self { blobs }
    }

    async fn serve(self) -> Fault {
        Fault::start(move |hit| {
            let last = hit.path.rsplit('/').next().unwrap_or_default();
            match self.blobs.get(&hit.path).or_else(|| self.blobs.get(last)) {
                Some(bytes) => good(hit, bytes),
                None => status(404),
            }
        })
        .await
    }
}

fn net(server: &Fault) -> Net {
    let url_mirrors = ["charts.example.org", "dl.example.org"]
        .map(|host| (format!("https://{host}"), format!("{}/{host}", server.base)))
        .to_vec();
    let registry_mirrors = [("*".to_owned(), vec![server.base.clone()])].into();
    let pause = Duration::from_millis(5);
    Net::new(NetOptions { url_mirrors, registry_mirrors, pause, ..NetOptions::default() }, Arc::new(Silent))
}

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, Access::Shared).unwrap())
}

fn web(repo: &str) -> ChartRequest {
    let (name, chart, version) = ("web".to_owned(), "web".to_owned(), "1.2.3+b".to_owned());
    ChartRequest { name, chart, repo: repo.to_owned(), version, sha256: None }
}

fn helm() -> FileRequest {
    FileRequest {
        kind: FileKind::Tool,
        name: "helm".to_owned(),
        platform: Some(Platform::LinuxAmd64),
        version: Some("v3".to_owned()),
        url: "https://dl.example.org/helm.tar.gz".to_owned(),
        sha256: None,
        member: Some("linux-amd64/helm".to_owned()),
        executable: false,
    }
}

#[tokio::test]
async fn a_chart_is_the_same_from_either_kind_of_repository() {
    let server = Upstream::new().serve().await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net(&server), open(dir.path()));
    let http = resolve_chart(&net, &store, &web("https://charts.example.org/repo")).await.unwrap();
    assert_eq!(http.url, "https://charts.example.org/repo/web.tgz", "the lock never names a mirror");
    assert_eq!((http.digest, http.version.as_str()), (Digest::of(&chart()), "1.2.3+b"));
    assert_eq!(http.dependencies, ["db@0.1.0"]);
    let oci = resolve_chart(&net, &store, &web("oci://quay.io/charts")).await.unwrap();
    assert_eq!(oci.url, "oci://quay.io/charts/web:1.2.3_b");
    assert_eq!((oci.digest, oci.size), (http.digest, http.size));
    let moved = ChartRequest { chart: "moved".to_owned(), ..web("https://charts.example.org/repo") };
    let error = resolve_chart(&net, &store, &moved).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "`oci://quay.io/charts/web:1.2.3_b`: it is chart `web` version 1.2.3+b, not `moved` version 1.2.3+b"
    );
    let pinned = ChartRequest { sha256: Some(Digest::of(b"other")), ..web("https://charts.example.org/repo") };
    assert_eq!(resolve_chart(&net, &store, &pinned).await.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn a_query_of_a_repository_goes_along() {
    let index = "entries:\n  web:\n  -\n  - {version: 1.2.3+b, urls: [null, charts/web.tgz], digest: null}\n";
    let server = Fault::start(move |hit| match (hit.query.as_str(), hit.path.as_str()) {
        ("channel=stable", "/charts.example.org/repo/index.yaml") => good(hit, index.as_bytes()),
        ("channel=stable", "/charts.example.org/repo/charts/web.tgz") => good(hit, &chart()),
        _ => status(403),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net(&server), open(dir.path()));
    let locked = resolve_chart(&net, &store, &web("https://charts.example.org/repo?channel=stable")).await.unwrap();
    assert_eq!(locked.url, "https://charts.example.org/repo/charts/web.tgz?channel=stable");
    assert_eq!(locked.repo, "https://charts.example.org/repo?channel=stable");
}

#[tokio::test]
async fn charts_of_a_registry_are_taken_as_helm_takes_them() {
    let other = tgz(&[("web\\Chart.yaml", b"name: web\nversion: v1.2.3+b\n"), ("web\\values.yaml", b"")]);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{},{}]}}"#,
        json("application/vnd.cncf.helm.config.v1+json", b"{}"),
        json("application/vnd.cncf.helm.chart.provenance.v1.prov", b"signed"),
        json("application/tar+gzip", &other)
    );
    let (blob, digest) = (other.clone(), Digest::of(&other));
    let server = Fault::start(move |hit| match hit.path.as_str() {
        "/v2/charts/web-chart/manifests/v1.2.3_b" => good(hit, manifest.as_bytes()),
        path if path.ends_with(&digest.to_string()) => good(hit, &blob),
        _ => status(404),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net(&server), open(dir.path()));
    let request = ChartRequest { chart: "web-chart".to_owned(), ..web("oci://quay.io/charts") };
    let locked = resolve_chart(&net, &store, &request).await.unwrap();
    assert_eq!((locked.chart.as_str(), locked.digest), ("web-chart", digest));
    assert_eq!(locked.url, "oci://quay.io/charts/web-chart:v1.2.3_b");
    let absent = ChartRequest { version: "9.9.9".to_owned(), ..request };
    let error = resolve_chart(&net, &store, &absent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("9.9.9") && !error.to_string().contains("v9.9.9"), "{error}");
}

#[tokio::test]
async fn a_tool_is_held_to_its_platform() {
    let server = Upstream::new().serve().await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net(&server), open(dir.path()));
    let locked = resolve_file(&net, &store, &helm()).await.unwrap();
    assert_eq!(locked.url, "https://dl.example.org/helm.tar.gz");
    assert_eq!(locked.content(), (Digest::of(&elf(62)), 1000));
    let arm = FileRequest { platform: Some(Platform::LinuxArm64), ..helm() };
    let error = resolve_file(&net, &store, &arm).await.unwrap_err().to_string();
    assert_eq!(error, "tool helm is not for linux/arm64: it is a program for linux/amd64");
    let whole = FileRequest { member: None, ..helm() };
    let error = resolve_file(&net, &store, &whole).await.unwrap_err().to_string();
    assert!(error.contains("a gzip file; name the program inside it with `member`"), "{error}");
    let signed = FileRequest { url: "https://dl.example.org/x?X-Amz-Signature=hunter2".to_owned(), ..helm() };
    let error = resolve_file(&net, &store, &signed).await.unwrap_err().to_string();
    assert!(error.contains("X-Amz-Signature") && !error.contains("hunter2"), "{error}");
}

async fn lock(net: &Net, store: &Arc<Store>) -> Lock {
    let mut images = Vec::new();
    for name in ["quay.io/lab/one:1", "ghcr.io/lab/two:1"] {
        let reference = name.parse().unwrap();
        let found = oci::resolve(net, store, &reference, &[Platform::LinuxAmd64]).await.unwrap();
        let (media_type, digest, size, platforms) = (found.media_type, found.digest, found.size, found.platforms);
        images.push(LockedImage { reference, source: None, media_type, digest, size, platforms });
    }
    let charts = vec![resolve_chart(net, store, &web("oci://quay.io/charts")).await.unwrap()];
    let files = vec![resolve_file(net, store, &helm()).await.unwrap()];
    Lock { name: "lab".to_owned(), epoch: 0, images, charts, files, ..Default::default() }
}

#[tokio::test]
async fn a_lock_fills_an_empty_store() {
    let server = Upstream::new().serve().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = net(&server);
    let lock = lock(&net, &open(first.path())).await;
    let store = open(second.path());
    let lacks = missing(&store, &lock).unwrap().unwrap();
    assert_eq!(lacks.what, "image quay.io/lab/one:1");
    let before = server.hits().len();
    let done = fetch_lock(&net, &store, &lock).await.unwrap();
    // Configuration, the shared layer once, two layers, chart, tool; the manifests were brought before.
    assert_eq!((done.blobs, done.already), (6, 2));
    assert_eq!(missing(&store, &lock).unwrap(), None);
    let layer = Digest::of(b"shared").to_string();
    assert_eq!(server.hits()[before..].iter().filter(|hit| hit.path.ends_with(&layer)).count(), 1);
    assert!(store.has(&Digest::of(&elf(62)), 1000));

    let hits = server.hits().len();
    let again = fetch_lock(&net, &store, &lock).await.unwrap();
    assert_eq!((again.blobs, again.already), (0, 8));
    assert_eq!(server.hits().len(), hits, "nothing to do, nothing asked");
}

#[tokio::test]
async fn the_lock_wins_over_a_moved_tag_and_a_vanished_digest_is_named() {
    let server = Upstream::new().serve().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lock = lock(&net(&server), &open(first.path())).await;
    let mut moved = Upstream::new();
    let digest = moved.blobs.remove("/v2/lab/one/manifests/1").map(|bytes| Digest::of(&bytes)).unwrap();
    let moved = moved.serve().await;
    fetch_lock(&net(&moved), &open(second.path()), &lock).await.unwrap();

    let mut gone = Upstream::new();
    gone.blobs.remove("/v2/lab/one/manifests/1");
    gone.blobs.remove(&digest.to_string());
    let gone = gone.serve().await;
    let third = tempfile::tempdir().unwrap();
    let error = fetch_lock(&net(&gone), &open(third.path()), &lock).await.unwrap_err();
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&gone.base) && hint.contains("labimg lock PROFILE --update quay.io/lab/one:1"), "{hint}");
}

#[tokio::test]
async fn a_lock_edited_by_hand_is_a_mismatch() {
    let server = Upstream::new().serve().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut lock = lock(&net(&server), &open(first.path())).await;
    lock.files[0].digest = Digest::of(b"other");
    let error = fetch_lock(&net(&server), &open(second.path()), &lock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");

    let liar = Fault::start(|_| with(200, &[], r#"{"schemaVersion":2}"#)).await;
    let third = tempfile::tempdir().unwrap();
    let error = fetch_lock(&net(&liar), &open(third.path()), &lock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}
