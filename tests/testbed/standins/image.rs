//! A stand-in image: real layers that unpack, a valid config per platform, an index over them.
//!
//! Formats: OCI image-spec (manifest, index, config) and Docker's image manifest version 2, schema 2.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use crate::archive::{Entry, gzip, tar};
use crate::bytes::{Bytes, digest};

/// Everything to push for one tag, in the order a registry wants it: blobs, then child manifests, then the tag.
pub struct StandIn {
    /// Blobs by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Manifests by digest, children first.
    pub manifests: Vec<Manifest>,
}

/// A manifest or an index.
pub struct Manifest {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// How an image is put.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// An OCI index.
    Oci,
    /// A Docker manifest list.
    Docker,
}

impl Style {
    fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }
    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }
    fn layer(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// A layer as it travels, and the digest of its tar.
struct Layer {
    data: Vec<u8>,
    diff_id: String,
}

/// The image of `name` (repository and tag). `single` gives one plain manifest for linux/amd64 instead of an index.
pub fn stand_in(name: &str, single: bool, scale: u64) -> io::Result<StandIn> {
    let pick = Bytes::of(&format!("style {name}")).next();
    let style = if pick.is_multiple_of(4) { Style::Docker } else { Style::Oci };
    let attested = !single && style == Style::Oci && pick.is_multiple_of(3);
    let mut out = StandIn { blobs: BTreeMap::new(), manifests: Vec::new() };
    let (mut listed, mut about) = (Vec::new(), Vec::new());
    let arches: &[&str] = if single { &["amd64"] } else { &["amd64", "arm64", "s390x"] };
    for arch in arches {
        let descriptor = platform_manifest(&mut out, style, name, arch, scale)?;
        if attested {
            about.push(attestation(&mut out, &descriptor["digest"]));
        }
        listed.push(descriptor);
    }
    listed.extend(about);
    if !single {
        let data = bytes(&json!({ "schemaVersion": 2, "mediaType": style.index(), "manifests": listed }));
        out.manifests.push(Manifest { media_type: style.index(), data });
    }
    Ok(out)
}

/// Adds one platform's manifest with all it refers to; gives its descriptor for the index.
fn platform_manifest(out: &mut StandIn, style: Style, name: &str, arch: &str, scale: u64) -> io::Result<Value> {
    let layers = layers(name, arch, scale)?;
    let mut platform = json!({ "architecture": arch, "os": "linux" });
    if arch == "arm64" {
        platform["variant"] = "v8".into();
    }
    let diff_ids: Vec<&str> = layers.iter().map(|l| l.diff_id.as_str()).collect();
    let history: Vec<Value> =
        layers.iter().map(|_| json!({ "created": "2025-01-01T00:00:00Z", "created_by": "stand-in" })).collect();
    let mut config = json!({
        "created": "2025-01-01T00:00:00Z",
        "config": { "Env": ["PATH=/usr/bin"], "Cmd": ["/usr/bin/stand-in"], "Labels": { "stand-in.for": name } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    for key in ["architecture", "os", "variant"] {
        if let Some(value) = platform.get(key) {
            config[key] = value.clone();
        }
    }
    let config = blob(out, style.config(), bytes(&config));
    let layers: Vec<Value> = layers.into_iter().map(|l| blob(out, style.layer(), l.data)).collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": style.manifest(), "config": config, "layers": layers });
    let mut descriptor = push_manifest(out, style.manifest(), &manifest);
    descriptor["platform"] = platform;
    Ok(descriptor)
}

/// A build attestation, as BuildKit adds one per platform: it looks like an image of the platform `unknown/unknown`.
fn attestation(out: &mut StandIn, about: &Value) -> Value {
    let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "subject": [{ "digest": about }] });
    let config = json!({ "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = blob(out, Style::Oci.config(), bytes(&config));
    let layer = blob(out, "application/vnd.in-toto+json", bytes(&statement));
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": Style::Oci.manifest(), "config": config, "layers": [layer] });
    let mut descriptor = push_manifest(out, Style::Oci.manifest(), &manifest);
    descriptor["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    descriptor["annotations"] =
        json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about });
    descriptor
}

/// A base shared by many images, one big layer, one of middle size, a tiny one; other architectures stay small.
fn layers(name: &str, arch: &str, scale: u64) -> io::Result<Vec<Layer>> {
    let repository = name.split(':').next().unwrap_or(name);
    let mut size = Bytes::of(&format!("sizes {name}"));
    let base = format!("base-{}", size.next() % 4);
    let scale = if arch == "s390x" { 1 } else { scale };
    let small = |bytes: u64| if arch == "s390x" { bytes / 40 } else { bytes };
    Ok(vec![
        layer(&format!("{base}/{arch}"), small(1_500_000) * scale)?,
        layer(&format!("{name}/{arch}/big"), small(size.between(250_000, 1_100_000)) * scale)?,
        layer(&format!("{repository}/{arch}/middle"), small(size.between(20_000, 200_000)) * scale)?,
        layer(&format!("{name}/{arch}/tiny"), 400)?,
    ])
}

fn layer(name: &str, size: u64) -> io::Result<Layer> {
    let mut bytes = Bytes::of(name);
    let folder = format!("usr/share/stand-in/{}", &digest(name.as_bytes())[7..19]);
    let mut entries = vec![
        Entry::Dir("usr/".into()),
        Entry::Dir("usr/share/".into()),
        Entry::Dir("usr/share/stand-in/".into()),
        Entry::Dir(format!("{folder}/")),
        Entry::File(format!("{folder}/name"), 0o644, format!("{name}\n").into_bytes()),
        Entry::File(format!("{folder}/prose.txt"), 0o644, bytes.prose(size / 20)),
    ];
    let (mut left, mut part) = (size, 0);
    while left > 0 {
        let len = left.min(bytes.between(3_000, 400_000));
        entries.push(Entry::File(format!("{folder}/part-{part:04}.bin"), 0o755, bytes.noise(len)));
        (left, part) = (left - len, part + 1);
    }
    entries.push(Entry::Link(format!("{folder}/first"), "part-0000.bin".into()));
    let raw = tar(entries)?;
    Ok(Layer { diff_id: digest(&raw), data: gzip(&raw)? })
}

fn blob(out: &mut StandIn, media_type: &str, data: Vec<u8>) -> Value {
    let descriptor = json!({ "mediaType": media_type, "digest": digest(&data), "size": data.len() });
    out.blobs.insert(digest(&data), data);
    descriptor
}

fn push_manifest(out: &mut StandIn, media_type: &'static str, manifest: &Value) -> Value {
    let data = bytes(manifest);
    let descriptor = json!({ "mediaType": media_type, "digest": digest(&data), "size": data.len() });
    out.manifests.push(Manifest { media_type, data });
    descriptor
}

/// JSON as a registry stores it; the bytes are what the digest is of.
pub fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
