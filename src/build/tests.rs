//! Descriptions and exports of small hand-made images.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

use super::bundle::describe;
use super::export::{ExportError, Format, Selection, export};
use crate::base::digest::Digest;
use crate::base::report::{Reporter, Silent};
use crate::model::lock::{
    FileKind, Lock, LockedChart, LockedFile, LockedImage, LockedLocal, LockedManifest, LockedMember, wire,
};
use crate::model::platform::Platform;
use crate::store::bundle::{Bundle, BundleError, Options, Written, write};
use crate::store::{Access, Store, StoreError};

/// A store, and a lock over what is in it.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) lock: Lock,
}

impl Lab {
    /// A lab without anything.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Access::Shared).unwrap();
        let (charts, files, locals) = (Vec::new(), Vec::new(), Vec::new());
        let lock = Lock { name: "lab".into(), epoch: 1_700_000_000, charts, files, locals, ..Lock::default() };
        Self { dir, store, lock }
    }

    /// Two images of two platforms that share a layer, one of one platform, a chart, a tool of two platforms, a local file.
    pub(crate) fn full() -> Self {
        let both = [Platform::LinuxAmd64, Platform::LinuxArm64];
        let mut lab = Self::new();
        lab.image("registry:3", &both, &["base", "registry"]);
        lab.image("quay.io/a/b:2.0", &both, &["base", "b", "base"]);
        let (digest, size) = lab.put("chart");
        let url = "https://charts.example.org/c-1.0.0.tgz".to_owned();
        let (name, repo, version) = ("c".to_owned(), "https://charts.example.org".to_owned(), "1.0.0".to_owned());
        let chart = LockedChart { chart: name.clone(), name, repo, version, url, digest, size, dependencies: vec![] };
        lab.lock.charts.push(chart);
        for platform in both {
            let (digest, size) = lab.put(&format!("tool for {platform}"));
            let member = Some(LockedMember { path: "tool".into(), digest, size });
            lab.lock.files.push(LockedFile {
                kind: FileKind::Tool,
                name: "tool".into(),
                platform: Some(platform),
                version: Some("v1".into()),
                url: "https://example.org/tool.tar.gz".into(),
                digest: Digest::of(b"an archive that stays out of the bundle"),
                size: 999,
                member,
            });
        }
        let (digest, size) = lab.put("objects");
        lab.lock.locals.push(LockedLocal { path: "otel.yaml".into(), digest, size });
        lab
    }

    /// Stores a blob.
    pub(crate) fn put(&self, text: &str) -> (Digest, u64) {
        (self.store.put(text.as_bytes()).unwrap(), text.len() as u64)
    }

    /// Adds an image with an index that also names a platform nobody locked.
    pub(crate) fn image(&mut self, name: &str, platforms: &[Platform], layers: &[&str]) {
        let manifests: BTreeMap<Platform, LockedManifest> =
            platforms.iter().map(|p| (*p, self.manifest(&p.to_string(), layers))).collect();
        let listed: Vec<String> = manifests.values().map(|m| format!(r#"{{"digest":"{}"}}"#, m.digest)).collect();
        let gone = Digest::of(b"s390x");
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{},{{"digest":"{gone}"}}]}}"#, listed.join(","));
        let (digest, size) = self.put(&index);
        let media_type = "application/vnd.oci.image.index.v1+json".to_owned();
        let reference = name.parse().unwrap();
        self.lock.images.push(LockedImage { reference, source: None, media_type, digest, size, platforms: manifests });
        self.lock.images.sort_by(|a, b| a.reference.cmp(&b.reference));
    }

    fn manifest(&self, platform: &str, layers: &[&str]) -> LockedManifest {
        let blob = |text: &str, kind: &str| {
            let (digest, size) = self.put(text);
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let config = blob(&format!("config {platform} {layers:?}"), "config.v1+json");
        let layers: Vec<String> =
            layers.iter().map(|l| blob(&format!("{l} {platform}"), "layer.v1.tar+gzip")).collect();
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
        let (digest, size) = self.put(&text);
        LockedManifest { media_type: "application/vnd.oci.image.manifest.v1+json".into(), digest, size }
    }

    /// Writes the bundle.
    /// The lock as a bundle carries it.
    pub(crate) fn lock_text(&self) -> String {
        let mut sorted = self.lock.clone();
        sorted.sort();
        wire::to_text(&sorted).unwrap()
    }

    pub(crate) fn bundle(&self, name: &str) -> PathBuf {
        self.try_bundle(name).unwrap();
        self.dir.path().join(name)
    }

    fn try_bundle(&self, name: &str) -> Result<Written, BundleError> {
        let description = describe("name = \"lab\"\n", &self.lock_text(), &self.lock, &[], &self.store)?;
        let options = Options { threads: 2, sync: false };
        write(&description, &self.store, &self.dir.path().join(name), options, &Silent)
    }
}

fn run(bundle: &Bundle, selection: &Selection) -> Result<Vec<u8>, ExportError> {
    let mut out = Vec::new();
    export(bundle, &bundle.images(), 1_700_000_000, selection, &mut out, &Silent)?;
    Ok(out)
}

fn amd64(format: Format) -> Selection {
    Selection { format, platform: Some(Platform::LinuxAmd64), images: Vec::new() }
}

/// Members of a tar by path.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        (entry.path().unwrap().display().to_string(), data)
    };
    archive.entries().unwrap().map(read).collect()
}

fn json(members: &[(String, Vec<u8>)], path: &str) -> serde_json::Value {
    serde_json::from_slice(&members.iter().find(|(p, _)| p == path).unwrap().1).unwrap()
}

#[test]
fn a_bundle_holds_the_closure_of_its_lock_each_blob_once() {
    let lab = Lab::full();
    let bundle = Bundle::open(&lab.bundle("lab.labimg")).unwrap();
    assert_eq!(bundle.verify(2, &Silent).unwrap(), []);
    // 2 indexes; 2 x 2 manifests and configs; base, registry and b for two platforms; chart, two tools, local.
    let blobs = bundle.index().members.iter().filter(|m| m.path.starts_with("blobs/")).count();
    assert_eq!(blobs, 2 + 8 + 6 + 4);
    assert_eq!(bundle.images(), lab.lock.images);
    assert!(bundle.blob(&lab.lock.files[0].digest).is_none(), "the archive a member was taken from stays out");
    let index: serde_json::Value = serde_json::from_str(&bundle.text("index.json", 1 << 20).unwrap()).unwrap();
    let listed = index["manifests"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for annotation in ["org.opencontainers.image.ref.name", "io.containerd.image.name"] {
        assert_eq!(listed[0]["annotations"][annotation], "docker.io/library/registry:3");
    }
    assert_eq!(listed[0]["digest"], lab.lock.images[0].digest.to_string());
}

#[test]
fn the_order_of_the_lock_changes_nothing() {
    let mut lab = Lab::full();
    let one = fs_err::read(lab.bundle("one.labimg")).unwrap();
    lab.lock.files.reverse();
    lab.lock.images.reverse();
    let two = lab.bundle("two.labimg");
    let sorted = Bundle::open(&two).unwrap();
    assert_eq!(sorted.identity(), Bundle::open(&lab.dir.path().join("one.labimg")).unwrap().identity());
    assert!(fs_err::read(two).unwrap() == one);
}

#[test]
fn a_lock_that_contradicts_a_manifest_is_refused() {
    let mut lab = Lab::full();
    lab.lock.charts[0].digest = lab.lock.images[0].digest;
    assert!(matches!(lab.try_bundle("x.labimg"), Err(BundleError::TwoSizes { .. })));
    let mut lab = Lab::full();
    fs_err::remove_file(lab.store.blob_path(&lab.lock.images[0].platforms[&Platform::LinuxArm64].digest)).unwrap();
    assert!(matches!(lab.try_bundle("x.labimg"), Err(BundleError::Store(StoreError::Missing { .. }))));
    lab.lock.images[0].platforms.remove(&Platform::LinuxArm64);
    assert!(lab.try_bundle("x.labimg").is_ok());
}

#[test]
fn an_oci_export_lists_manifests_of_one_platform() {
    let lab = Lab::full();
    let bundle = Bundle::open(&lab.bundle("lab.labimg")).unwrap();
    let bytes = run(&bundle, &amd64(Format::Oci)).unwrap();
    assert_eq!(bytes, run(&bundle, &amd64(Format::Oci)).unwrap());
    let members = members(&bytes);
    assert_eq!(members[0].0, "oci-layout");
    let index = json(&members, "index.json");
    for (listed, image) in index["manifests"].as_array().unwrap().iter().zip(&lab.lock.images) {
        assert_eq!(listed["digest"], image.platforms[&Platform::LinuxAmd64].digest.to_string());
        assert_eq!(listed["annotations"]["io.containerd.image.name"], image.reference.tagged());
    }
    let (dirs, blobs): (Vec<_>, Vec<_>) =
        members.iter().filter(|(p, _)| p.starts_with("blobs/")).partition(|(p, _)| p.ends_with('/'));
    assert_eq!(dirs.len(), 2);
    assert_eq!(blobs.len(), 2 + 2 + 3, "manifests, configs, layers: nothing twice, nothing of arm64, no index");
    assert!(blobs.iter().all(|(path, data)| path.ends_with(&Digest::of(data).hex())));
}

#[test]
fn a_docker_export_has_a_manifest_json_as_well() {
    let mut lab = Lab::full();
    lab.image("registry:latest", &[Platform::LinuxAmd64, Platform::LinuxArm64], &["base", "registry"]);
    let bundle = Bundle::open(&lab.bundle("lab.labimg")).unwrap();
    let members = members(&run(&bundle, &amd64(Format::Docker)).unwrap());
    let entries = json(&members, "manifest.json");
    assert_eq!(entries.as_array().unwrap().len(), 2, "one content, two tags: one entry");
    assert_eq!(
        entries[0]["RepoTags"],
        serde_json::json!(["docker.io/library/registry:3", "docker.io/library/registry:latest"])
    );
    assert_eq!(entries[1]["Layers"].as_array().unwrap().len(), 3, "a layer may stand twice in an image");
    for path in
        entries.as_array().unwrap().iter().flat_map(|e| e["Layers"].as_array().unwrap()).chain([&entries[0]["Config"]])
    {
        assert!(members.iter().any(|(p, _)| path == p), "{path}");
    }
    assert!(members.iter().any(|(p, _)| p == "oci-layout"), "with it, containerd keeps the digests");
}

#[test]
fn what_can_not_be_exported_is_said() {
    let mut lab = Lab::full();
    lab.image("only/arm:1", &[Platform::LinuxArm64], &["arm"]);
    let bundle = Bundle::open(&lab.bundle("lab.labimg")).unwrap();
    let select = |platform, images: &[&str]| {
        let images = images.iter().map(|i| i.parse().unwrap()).collect();
        run(&bundle, &Selection { format: Format::Oci, platform, images })
    };
    let error = select(Some(Platform::LinuxAmd64), &[]).unwrap_err().to_string();
    assert!(error.contains("docker.io/only/arm:1") && error.contains("linux/arm64"), "{error}");
    assert!(select(Some(Platform::LinuxAmd64), &["registry:3"]).is_ok());
    assert!(select(None, &["only/arm:1"]).is_ok(), "the only platform is the default");
    assert!(matches!(select(None, &["gone:1"]), Err(ExportError::NoImage { .. })));
    let empty = export(&lab.store, &[], 0, &amd64(Format::Oci), &mut Vec::new(), &Silent);
    assert!(matches!(empty, Err(ExportError::Empty)));
}

#[test]
fn wrong_bytes_are_not_exported_quietly() {
    use std::os::unix::fs::FileExt;
    let lab = Lab::full();
    let path = lab.bundle("lab.labimg");
    let bundle = Bundle::open(&path).unwrap();
    let member = bundle.blob(&Digest::of(b"base linux/amd64")).unwrap();
    fs_err::OpenOptions::new().write(true).open(&path).unwrap().file().write_all_at(b"B", member.offset).unwrap();
    let error = run(&bundle, &amd64(Format::Oci)).unwrap_err();
    assert!(
        matches!(&error, ExportError::Store(StoreError::Mismatch { .. }))
            && error.to_string().contains(&member.digest.hex())
    );
}

#[test]
fn zstd_layers_are_warned_of() {
    #[derive(Default)]
    struct Warnings(Mutex<Vec<String>>);
    impl Reporter for Warnings {
        fn warn(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
    let mut lab = Lab::new();
    let zstd = String::from_utf8_lossy(&[0x28]).into_owned() + "not zstd";
    lab.image("plain:1", &[Platform::LinuxAmd64], &[&zstd]);
    let layer = lab.store.put(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0]).unwrap();
    let config = lab.store.put(b"{}").unwrap();
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":2}},"layers":[{{"mediaType":"l","digest":"{layer}","size":6}}]}}"#
    );
    let (digest, size) = lab.put(&text);
    let manifest = LockedManifest { media_type: "m".into(), digest, size };
    let platforms = BTreeMap::from([(Platform::LinuxAmd64, manifest)]);
    let reference = "zstd:1".parse().unwrap();
    lab.lock.images.push(LockedImage { reference, source: None, media_type: "m".into(), digest, size, platforms });
    let warnings = Warnings::default();
    export(&lab.store, &lab.lock.images, 0, &amd64(Format::Docker), &mut Vec::new(), &warnings).unwrap();
    let warnings = warnings.0.into_inner().unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("docker.io/library/zstd:1"));
}
