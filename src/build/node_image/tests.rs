//! Node images out of layers made here: what a base has, what the layer over it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use serde_json::json;

use super::base::{Base, CONTENT, Dir, METADATA, OURS, scan};
use super::content::Content;
use super::layer::{Made, NodeLayer};
use super::*;
use crate::base::digest::Digest;
use crate::base::report::Silent;
use crate::base::tarball::{Kind, Member, TarWriter};
use crate::build::step::engine::{EngineOptions, Rebuild, realise};
use crate::build::step::plan::Plan;
use crate::model::lock::LockedManifest;
use crate::store::image::{OCI_INDEX, OCI_MANIFEST};
use crate::store::{Access, BlobSource, Store};

const AMD64: Platform = Platform::LinuxAmd64;

fn store(dir: &tempfile::TempDir) -> Arc<Store> {
    Arc::new(Store::open(dir.path(), Access::Shared).unwrap())
}

/// A plain layer: paths that end in `/` are directories of mode 0750 and owner 7, `a -> b` is a link, all others files that
/// hold their own path.
fn layer(store: &Store, members: &[&str]) -> Digest {
    let mut tar = TarWriter::new(Vec::new());
    for path in members {
        let (path, kind) = match (path.split_once(" -> "), path.strip_suffix('/')) {
            (Some((path, to)), _) => (path, Kind::Symlink(to)),
            (_, Some(dir)) => (dir, Kind::Dir),
            _ => (*path, Kind::File(path.len() as u64)),
        };
        let member = Member { path, kind, mode: 0o750, uid: 7, gid: 8, mtime: 0 };
        tar.put(&member, &mut path.as_bytes()).unwrap();
    }
    store.put(&tar.finish().unwrap()).unwrap()
}

fn base(layers: &[&[&str]]) -> Result<Base, String> {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let layers: Vec<Digest> = layers.iter().map(|members| layer(&store, members)).collect();
    scan(&layers, &store).map_err(|e| e.to_string())
}

fn blob(name: &str) -> String {
    format!("{CONTENT}/{name}")
}

#[test]
fn later_layers_hide_what_is_below() {
    let (a, b, c) = (blob("a"), blob("b"), blob("c"));
    let below: &[&str] = &["var/lib/containerd/", &a, &b, METADATA, "etc/passwd"];
    let names = |base: Base| base.blobs.into_iter().collect::<Vec<_>>();
    let found = base(&[below]).unwrap();
    assert_eq!(found.metadata.as_deref(), Some(METADATA.as_bytes()));
    assert_eq!(found.dirs, BTreeMap::from([("var/lib/containerd".to_owned(), Dir { mode: 0o750, uid: 7, gid: 8 })]));
    assert_eq!(names(found), ["a", "b"]);
    let one = base(&[below, &[&blob(".wh.a"), &c]]).unwrap();
    assert_eq!(names(one), ["b", "c"]);
    let opaque = base(&[below, &[&c, &blob(".wh..wh..opq")]]).unwrap();
    assert_eq!(names(opaque), ["c"], "what stands in the same layer stays");
    for hidden in ["var/.wh.lib", ".wh.var", ".wh..wh..opq", "var/lib/containerd", "./var/lib/.wh.containerd"] {
        let gone = base(&[below, &[hidden]]);
        match hidden.contains(".wh.") {
            true => assert_eq!(gone, Ok(Base::default()), "{hidden}"),
            false => assert!(gone.unwrap_err().contains("`/var/lib/containerd` is no directory")),
        }
    }
    let link = base(&[below, &["var/lib/containerd -> /data"]]).unwrap_err();
    assert!(link.contains("`/var/lib/containerd` is a link to `/data`"), "{link}");
}

#[test]
fn layers_that_are_none_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let garbage = store.put(&[7; 2000]).unwrap();
    assert!(scan(&[garbage], &store).unwrap_err().to_string().contains("of the node image"));
    assert!(scan(&[Digest::of(b"none")], &store).is_err());
    // A header that says its name has a gigabyte, and goes on for ever.
    let mut bomb = tar::Header::new_gnu();
    bomb.set_entry_type(tar::EntryType::GNULongName);
    bomb.set_size(1 << 30);
    bomb.set_cksum();
    let bytes = [bomb.as_bytes().to_vec(), vec![b'x'; 3 << 20]].concat();
    let bomb = store.put(&zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    let told = scan(&[bomb], &store).unwrap_err().to_string();
    assert!(told.contains("a header in it has more than 1 MiB"), "{told}");
}

/// An image of one layer for one platform; with an index of two, of which one is not there.
fn image(store: &Store, reference: &str, layers: &[Digest], indexed: bool) -> LockedImage {
    let put = |value: serde_json::Value| {
        let text = value.to_string();
        (store.put(text.as_bytes()).unwrap(), text.len() as u64)
    };
    let (config, size) = put(json!({"for": reference, "rootfs": {"diff_ids": layers}, "history": []}));
    let sized = |d: &Digest| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": d, "size": store.blob_size(d)});
    let (digest, size) = put(json!({
        "schemaVersion": 2, "config": {"mediaType": "c", "digest": config, "size": size},
        "layers": layers.iter().map(sized).collect::<Vec<_>>(),
    }));
    let manifest = LockedManifest { media_type: OCI_MANIFEST.to_owned(), digest, size };
    let mut image = LockedImage {
        reference: reference.parse().unwrap(),
        source: None,
        media_type: OCI_MANIFEST.to_owned(),
        digest,
        size,
        platforms: [(AMD64, manifest)].into(),
    };
    if indexed {
        (image.digest, image.size) =
            put(json!({"manifests": [{"mediaType": OCI_MANIFEST, "digest": digest, "size": size}]}));
        image.media_type = OCI_INDEX.to_owned();
    }
    image
}

/// Builds the layer over `base`; gives path -> content or link target, and the layer's and the manifest's digest.
fn build(
    store: &Arc<Store>,
    base: &LockedImage,
    images: &[LockedImage],
) -> (BTreeMap<String, Vec<u8>>, Digest, Digest) {
    let layer = NodeLayer {
        image: "labimg.lab/node/l/c:1".to_owned(),
        platform: AMD64,
        base: base.platforms[&AMD64].clone(),
        images: images.to_vec(),
        made: Vec::<Made>::new(),
    };
    let over = Input::Step { step: layer.name(), output: LAYER.to_owned() };
    let (image, below) = (layer.image.clone(), layer.base.clone());
    let manifest = NodeManifest { image, platform: AMD64, base: below, layer: over };
    let (first, second) = (layer.name(), manifest.name());
    let scratch = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        store,
        lab: "l",
        epoch: 1_700_000_000,
        cores: 2,
        memory_mib: 512,
        scratch_root: scratch.path(),
        again_root: None,
        keep_failed: false,
        rebuild: Rebuild::AndCompare,
        reporter: &Silent,
    };
    let done = realise(&Plan::new(vec![Box::new(layer), Box::new(manifest)]).unwrap(), &options).unwrap();
    let (layer, manifest) = (done[&first].outputs[LAYER].digest, done[&second].outputs[MANIFEST].digest);
    let mut archive = tar::Archive::new(store.open_blob(&layer).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut bytes = entry.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default();
        entry.read_to_end(&mut bytes).unwrap();
        found.insert(path, bytes);
    }
    (found, layer, manifest)
}

#[test]
fn a_layer_holds_what_the_base_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let (shared, own) = (store.put(b"shared layer").unwrap(), store.put(b"own layer").unwrap());
    let one = image(&store, "quay.io/a/one:1", &[shared, own], true);
    let two = image(&store, "two:2", &[shared], false);
    let has = layer(&store, &["var/", &blob(&shared.hex())]);
    let base = image(&store, "kindest/node:v1", &[has], false);
    let (found, layer, manifest) = build(&store, &base, &[one.clone(), two.clone()]);
    let files = |dir: &str| -> BTreeSet<String> {
        let below = found.keys().filter_map(|p| p.strip_prefix(dir)?.strip_prefix('/'));
        below.filter(|p| !p.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(files(OURS), files(CONTENT));
    // Two manifests, two configurations, an index, and the layer that the base lacks.
    assert_eq!(files(OURS).len(), 6);
    assert!(files(OURS).contains(&own.hex()) && !files(OURS).contains(&shared.hex()));
    assert_eq!(found[&format!("{OURS}/{}", own.hex())], b"own layer");
    let link = String::from_utf8(found[&blob(&own.hex())].clone()).unwrap();
    assert_eq!(link, format!("../../../../../../{OURS}/{}", own.hex()));

    let root = bolt::read(&found[METADATA]).unwrap();
    let ours = root.get_bucket("v1").unwrap().get_bucket("k8s.io").unwrap();
    let names: Vec<String> =
        ours.get_bucket("images").unwrap().items.keys().map(|k| String::from_utf8(k.clone()).unwrap()).collect();
    assert!(names.contains(&"docker.io/library/two:2".to_owned()), "{names:?}");
    assert!(names.contains(&format!("quay.io/a/one@{}", one.digest)) && names.len() == 6, "{names:?}");
    let blobs = ours.get_bucket("content").unwrap().get_bucket("blob").unwrap();
    assert_eq!(blobs.items.len(), 7, "the one the base brings is told of, too");
    let labels = |digest: &Digest| blobs.get_bucket(&digest.to_string()).unwrap().get_bucket("labels").cloned();
    assert_eq!(labels(&one.digest).unwrap().items.len(), 1, "the platform that is here");
    assert_eq!(labels(&one.platforms[&AMD64].digest).unwrap().items.len(), 3);
    assert_eq!(labels(&own), None);

    let text: serde_json::Value = serde_json::from_slice(&store.read_blob(&manifest, 1 << 20).unwrap()).unwrap();
    assert_eq!(text["layers"][1]["digest"], json!(layer));
    let again = build(&store, &base, &[one, two]);
    assert_eq!((again.1, again.2), (layer, manifest));
}

#[test]
fn indexes_in_each_other_keep_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let put = |entries: serde_json::Value| {
        let text = json!({ "manifests": entries }).to_string();
        (store.put(text.as_bytes()).unwrap(), text.len() as u64)
    };
    let mut one = image(&store, "one:1", &[store.put(b"layer").unwrap()], true);
    let manifest = one.platforms[&AMD64].digest;
    let (inner, size) = (one.digest, one.size);
    (one.digest, one.size) = put(json!([{"mediaType": OCI_INDEX, "digest": inner, "size": size}]));
    let mut content = Content::default();
    content.add(&one, AMD64, &store).unwrap();
    let keeps = |digest: &Digest| content.blobs[digest].labels.clone();
    let label = |digest: &Digest| BTreeMap::from([("containerd.io/gc.ref.content.m.0".to_owned(), digest.to_string())]);
    assert_eq!(keeps(&one.digest), label(&inner));
    assert_eq!(keeps(&inner), label(&manifest));
    assert_eq!(content.names["docker.io/library/one:1"].digest, one.digest);
}

#[test]
fn a_baked_image_can_be_baked_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let one = image(&store, "one:1", &[store.put(b"layer").unwrap()], true);
    let empty = layer(&store, &["etc/"]);
    let base = image(&store, "kindest/node:v1", &[empty], false);
    let (_, first, _) = build(&store, &base, std::slice::from_ref(&one));
    let baked = image(&store, "kindest/node:v2", &[empty, first], false);
    let (found, _, _) = build(&store, &baked, &[one]);
    assert!(!found.keys().any(|p| p.starts_with(&format!("{OURS}/")) && !p.ends_with('/')), "nothing is there twice");
    assert!(bolt::read(&found[METADATA]).is_ok());
}
