//! Images and bodies as registries and proxies really give them: indexes without platforms and in each other, documents of
//! `null`s, bodies that came compressed.

#[path = "support/fault.rs"]
#[allow(dead_code)]
mod fault;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fault::{Fault, Hit, good, with};
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::build::bundle::describe;
use labimg::build::export::{Format, Selection, export};
use labimg::model::lock::{Lock, LockedImage};
use labimg::model::platform::Platform;
use labimg::source::fetch::{fetch_lock, missing};
use labimg::source::http::{Download, download};
use labimg::source::{ErrorKind, Net, NetOptions, SourceError, oci};
use labimg::store::image::{OCI_INDEX, OCI_MANIFEST, image_blobs};
use labimg::store::{Access, BlobSource, Store};
use serde_json::{Value, json};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const BOTH: [Platform; 2] = [Platform::LinuxAmd64, Platform::LinuxArm64];

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, Access::Shared).unwrap())
}

fn quick(registry: &Fault) -> Net {
    let mirrors = [("docker.io".to_owned(), vec![registry.base.clone()])].into();
    let pause = Duration::from_millis(5);
    Net::new(NetOptions { registry_mirrors: mirrors, pause, ..NetOptions::default() }, Arc::new(Silent))
}

/// What a registry holds.
#[derive(Default)]
struct Content(BTreeMap<String, Vec<u8>>);

impl Content {
    fn put(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Value {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.0.insert(digest.to_string(), bytes);
        descriptor
    }

    fn json(&mut self, media_type: &str, document: &Value) -> Value {
        self.put(media_type, document.to_string())
    }

    /// A manifest for `arch`.
    fn manifest(&mut self, arch: &str) -> Value {
        let config = self.json(CONFIG, &json!({"os": "linux", "architecture": arch}));
        let layer = self.put("application/vnd.oci.image.layer.v1.tar", format!("layer of {arch}"));
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer], "annotations": null});
        self.json(OCI_MANIFEST, &manifest)
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        self.json(OCI_INDEX, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}))
    }

    /// Names it by the tag `1`.
    fn tag(&mut self, descriptor: &Value) {
        let bytes = self.0[descriptor["digest"].as_str().unwrap()].clone();
        self.0.insert("1".to_owned(), bytes);
    }

    async fn serve(self) -> Fault {
        Fault::start(move |hit: &Hit| match self.0.get(hit.path.rsplit('/').next().unwrap()) {
            Some(bytes) => good(hit, bytes),
            None => with(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        })
        .await
    }
}

/// An entry of an index, for a platform.
fn of(mut descriptor: Value, arch: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": arch});
    descriptor
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

async fn resolve(content: Content, top: &Value, platforms: &[Platform]) -> Result<(LockedImage, Fault), SourceError> {
    let mut content = content;
    content.tag(top);
    let registry = content.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let image = "a/b:1".parse().unwrap();
    let found = oci::resolve(&quick(&registry), &store(dir.path()), &image, platforms).await?;
    let (media_type, platforms) = (found.media_type, found.platforms);
    let locked =
        LockedImage { reference: image, source: None, media_type, digest: found.digest, size: found.size, platforms };
    Ok((locked, registry))
}

/// Fetches a lock of this image into an empty store; gives the store and the blobs of the bundle.
async fn fetched(image: &LockedImage, registry: &Fault, dir: &Path) -> (Arc<Store>, BTreeSet<Digest>) {
    let store = store(dir);
    let lock = Lock { name: "lab".into(), images: vec![image.clone()], ..Lock::default() };
    fetch_lock(&quick(registry), &store, &lock).await.unwrap();
    assert_eq!(missing(&store, &lock).unwrap(), None);
    let blobs = describe("", "", &lock, &[], store.as_ref()).unwrap().blobs;
    (store, blobs.into_keys().collect())
}

#[tokio::test]
async fn an_index_in_an_index_travels_with_its_image() {
    let mut content = Content::default();
    let (amd, arm) = (content.manifest("amd64"), content.manifest("arm64"));
    let unknown = content.json(OCI_MANIFEST, &json!({"schemaVersion": 2, "layers": []}));
    let attested = |content: &mut Content, manifest: &Value, arch: &str| {
        let mut attestation = unknown.clone();
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        content.index(&[of(manifest.clone(), arch), attestation])
    };
    let (in_amd, in_arm) = (attested(&mut content, &amd, "amd64"), attested(&mut content, &arm, "arm64"));
    let top = content.index(&[of(in_amd.clone(), "amd64"), of(in_arm.clone(), "arm64")]);
    let (image, registry) = resolve(content, &top, &BOTH).await.unwrap();
    assert_eq!(image.platforms[&Platform::LinuxAmd64].digest, digest(&amd));
    assert_eq!(image.platforms[&Platform::LinuxArm64].digest, digest(&arm));

    let dir = tempfile::tempdir().unwrap();
    let (store, blobs) = fetched(&image, &registry, dir.path()).await;
    assert!([&top, &in_amd, &in_arm, &amd, &arm].iter().all(|d| blobs.contains(&digest(d))));
    assert!(!blobs.contains(&digest(&unknown)), "attestations stay behind");
    for format in [Format::Oci, Format::Docker] {
        let selection = Selection { format, platform: Some(Platform::LinuxArm64), images: Vec::new() };
        let done =
            export(store.as_ref(), std::slice::from_ref(&image), 0, &selection, &mut Vec::new(), &Silent).unwrap();
        assert_eq!(done.images, ["docker.io/a/b:1"]);
    }

    // An index on the way that is lost is missed, and brought again alone.
    let lock = Lock { name: "lab".into(), images: vec![image], ..Lock::default() };
    fs_err::remove_file(store.blob_path(&digest(&in_arm))).unwrap();
    assert_eq!(missing(&store, &lock).unwrap().unwrap().digest, digest(&in_arm));
    let before = registry.hits().len();
    fetch_lock(&quick(&registry), &store, &lock).await.unwrap();
    let asked: Vec<String> = registry.hits()[before..].iter().map(|hit| hit.path.clone()).collect();
    assert_eq!(asked, [format!("/v2/a/b/manifests/{}", digest(&in_arm))]);
}

#[tokio::test]
async fn one_platform_takes_what_may_lead_to_it_and_no_more() {
    let mut content = Content::default();
    let (amd, arm) = (content.manifest("amd64"), content.manifest("arm64"));
    let in_amd = content.index(&[of(amd.clone(), "amd64")]);
    let in_arm = content.index(&[of(arm, "arm64")]);
    // The first says nothing of platforms, so that every client looks into it.
    let top = content.index(&[in_amd.clone(), of(in_arm.clone(), "arm64")]);
    let (image, registry) = resolve(content, &top, &[Platform::LinuxAmd64]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (_, blobs) = fetched(&image, &registry, dir.path()).await;
    assert!(blobs.contains(&digest(&in_amd)) && !blobs.contains(&digest(&in_arm)));
    assert_eq!(blobs.len(), 5, "two indexes, manifest, configuration, layer");
}

#[tokio::test]
async fn an_ordinary_index_is_not_walked() {
    let mut content = Content::default();
    let (amd, inner) = (content.manifest("amd64"), content.manifest("arm64"));
    let aside = content.index(&[of(inner, "arm64")]);
    let top = content.index(&[of(amd.clone(), "amd64"), aside.clone()]);
    let (image, registry) = resolve(content, &top, &[Platform::LinuxAmd64]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = fetched(&image, &registry, dir.path()).await;
    let blobs = image_blobs(store.as_ref(), &image).unwrap();
    assert_eq!(blobs[..2].iter().map(|b| b.digest).collect::<Vec<_>>(), [digest(&top), digest(&amd)]);
    assert!(!registry.hits().iter().any(|hit| hit.path.ends_with(&digest(&aside).to_string())));
}

#[tokio::test]
async fn indexes_that_never_end_do() {
    let mut content = Content::default();
    let mut top = content.manifest("amd64");
    for _ in 0..7 {
        top = content.index(&[top]);
    }
    let error = resolve(content, &top, &[Platform::LinuxAmd64]).await.err().unwrap().to_string();
    assert!(error.contains("more than 4 deep"), "{error}");

    let mut content = Content::default();
    let many: Vec<Value> =
        (0..70).map(|n| content.json(OCI_INDEX, &json!({"mediaType": OCI_INDEX, "manifests": [], "n": n}))).collect();
    let top = content.index(&many);
    let error = resolve(content, &top, &[Platform::LinuxAmd64]).await.err().unwrap().to_string();
    assert!(error.contains("more than 64 indexes"), "{error}");
}

#[tokio::test]
async fn an_entry_without_a_platform_is_asked() {
    let mut content = Content::default();
    let (amd, arm) = (content.manifest("amd64"), content.manifest("arm64"));
    let mut silent = arm.clone();
    silent["platform"] = json!({"os": null, "architecture": ""});
    let odd = content.json(OCI_MANIFEST, &json!({"schemaVersion": 2, "artifactType": "x/y", "config": null}));
    let top = content.index(&[odd, amd.clone(), silent]);
    let (image, _registry) = resolve(content, &top, &BOTH).await.unwrap();
    assert_eq!(image.platforms[&Platform::LinuxAmd64].digest, digest(&amd));
    assert_eq!(image.platforms[&Platform::LinuxArm64].digest, digest(&arm));

    let mut content = Content::default();
    let arm = content.manifest("arm64");
    let top = content.index(&[arm]);
    let error = resolve(content, &top, &[Platform::LinuxAmd64]).await.err().unwrap().to_string();
    assert_eq!(error, "image `docker.io/a/b:1` is not for linux/amd64: it is for linux/arm64");
}

#[tokio::test]
async fn a_neighbour_that_can_not_be_read_is_nobody_s_business() {
    let other = |arch: &str| of(json!({"mediaType": OCI_MANIFEST, "digest": "sha512:00", "size": 5}), arch);
    let mut content = Content::default();
    let amd = content.manifest("amd64");
    let neighbours = [
        other("riscv64"),
        json!({"mediaType": "x/y"}),
        json!(null),
        of(json!({"mediaType": "x/y", "digest": digest(&amd), "size": 1}), "s390x"),
    ];
    let mut entries = neighbours.to_vec();
    entries.push(of(amd.clone(), "amd64"));
    let top = content.index(&entries);
    let (image, _registry) = resolve(content, &top, &[Platform::LinuxAmd64]).await.unwrap();
    assert_eq!(image.platforms[&Platform::LinuxAmd64].digest, digest(&amd));

    let mut content = Content::default();
    let amd = content.manifest("amd64");
    let top = content.index(&[of(amd, "amd64"), other("arm64")]);
    let error = resolve(content, &top, &BOTH).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("linux/arm64") && text.contains("sha512:00") && text.contains("SHA-256 only"), "{text}");
}

#[tokio::test]
async fn an_artifact_is_refused_with_what_to_write_instead() {
    for (kind, instead) in
        [("application/vnd.example.model", "[[file]]"), ("application/vnd.cncf.helm.config.v1+json", "[[chart]]")]
    {
        let mut content = Content::default();
        let empty = content.json(kind, &json!({}));
        let weights = content.put("application/vnd.example.weights", "weights");
        let top = content.json(OCI_MANIFEST, &json!({"schemaVersion": 2, "config": empty, "layers": [weights]}));
        let error = resolve(content, &top, &[Platform::LinuxAmd64]).await.err().unwrap();
        let text = error.to_string();
        assert!(text.contains(kind) && text.contains(instead), "{text}");
        assert_eq!(error.kind(), ErrorKind::Content);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn a_manifest_that_came_compressed_is_the_manifest() {
    for named in [true, false] {
        let mut content = Content::default();
        let amd = content.manifest("amd64");
        let all = content.0.clone();
        let (plain, name) = (all[amd["digest"].as_str().unwrap()].clone(), digest(&amd).to_string());
        let registry = Fault::start(move |hit| {
            let wanted = hit.path.rsplit('/').next().unwrap();
            if wanted != "1" {
                return good(hit, &all[wanted]);
            }
            let mut headers = vec![("content-type", OCI_MANIFEST), ("content-encoding", "gzip")];
            headers.extend(named.then_some(("docker-content-digest", name.as_str())));
            with(200, &headers, gzip(&plain))
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let image = "a/b:1".parse().unwrap();
        let found = oci::resolve(&quick(&registry), &store(dir.path()), &image, &BOTH[..1]).await.unwrap();
        assert_eq!(found.digest, digest(&amd));
    }
}

/// Downloads what the server gives as `sent`, declared to be coded; `expected` is the digest that is known.
async fn coded(
    sent: Vec<u8>,
    coding: &'static str,
    path: &str,
    expected: Option<&[u8]>,
) -> Result<Vec<u8>, SourceError> {
    let first = Mutex::new(true);
    let server = Fault::start(move |hit| {
        let mut answer = match std::mem::take(&mut *first.lock().unwrap()) && sent.len() > 100_000 {
            true => fault::short(&sent, 60_000),
            false => good(hit, &sent),
        };
        answer.headers_mut().insert("content-encoding", coding.parse().unwrap());
        answer
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let url = server.url(path).parse().unwrap();
    let (digest, size) = (expected.map(Digest::of), expected.map(|bytes| bytes.len() as u64));
    let job = Download { url: &url, key: path, label: "x", expected: digest, size, auth: None };
    let (found, size) = download(&quick(&server), &store, &job).await?;
    let left = fs_err::read_dir(dir.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "no part stays");
    Ok(store.read_blob(&found, size).unwrap())
}

#[tokio::test]
async fn a_blob_that_came_compressed_is_undone_when_its_digest_says_so() {
    let noise: Vec<u8> =
        (0..400_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ (i >> 9) as u8).collect();
    for plain in [&noise[..], b"small", b""] {
        let packed = gzip(plain);
        let zstd = zstd::encode_all(plain, 1).unwrap();
        assert_eq!(coded(packed.clone(), "gzip", "/x", Some(plain)).await.unwrap(), plain);
        assert_eq!(coded(packed.clone(), "x-gzip", "/x", Some(plain)).await.unwrap(), plain);
        assert_eq!(coded(zstd, "zstd", "/x", Some(plain)).await.unwrap(), plain);
        // The bytes themselves are what is wanted, whatever the header says of them.
        assert_eq!(coded(packed.clone(), "gzip", "/x", Some(&packed)).await.unwrap(), packed);
        assert_eq!(coded(plain.to_vec(), "gzip", "/x", Some(plain)).await.unwrap(), plain);
    }
    let error = coded(gzip(b"other"), "gzip", "/x", Some(b"right")).await.unwrap_err();
    assert!(matches!(error, SourceError::Mismatch { found, .. } if found == Digest::of(&gzip(b"other"))), "{error}");
    let bomb = gzip(&vec![0; 10_000_000]);
    assert!(coded(bomb, "gzip", "/x", Some(b"right")).await.is_err());
}

#[tokio::test]
async fn a_file_that_nobody_knows_is_taken_as_it_is_meant() {
    let text = b"kind: Deployment";
    assert_eq!(coded(gzip(text), "gzip", "/x.yaml", None).await.unwrap(), text);
    assert_eq!(coded(gzip(text), "gzip", "/x.tgz?a=1", None).await.unwrap(), gzip(text), "its name says gzip, too");
    assert_eq!(
        coded(gzip(&gzip(text)), "gzip", "/x.gz", None).await.unwrap(),
        gzip(text),
        "packed once more on the way"
    );
    assert_eq!(coded(text.to_vec(), "gzip", "/x.yaml", None).await.unwrap(), text);
}
