//! The step that makes the layer over a node image: blobs, links to them, metadata. One plain tar, as what is in it is
//! compressed already.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use super::base::{Base, CONTENT, Dir, METADATA, OURS, scan};
use super::content::Content;
use super::{bolt, metadata};
use crate::base::digest::{Digest, Hasher};
use crate::base::report::Task;
use crate::base::tarball::{Kind, Member, TarWriter};
use crate::build::BuildError;
use crate::build::image::files_layer::{LAYER, input};
use crate::build::image::manifest::assemble;
use crate::build::layer::DIFF_ID;
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::model::image::ImageRef;
use crate::model::lock::{LockedImage, LockedManifest};
use crate::model::platform::Platform;
use crate::store::image::read_manifest;
use crate::store::{BlobSource, StoreError};

/// The label of the node image's manifest among the inputs.
const BASE: &str = "node image";
/// Directories that a node image may lack, as containerd makes them; all others have 0755.
const PRIVATE: [(&str, u32); 2] =
    [("var/lib/containerd", 0o711), ("var/lib/containerd/io.containerd.metadata.v1.bolt", 0o711)];

/// An image made here, and the steps that make its manifests.
pub(super) struct Made {
    /// Its reference.
    pub(super) reference: ImageRef,
    /// The manifest of each of its platforms.
    pub(super) manifests: BTreeMap<Platform, Input>,
}

/// Makes the layer for one platform: output [`LAYER`] with its diff id.
pub(super) struct NodeLayer {
    /// The reference of the image that is made.
    pub(super) image: String,
    /// Its platform.
    pub(super) platform: Platform,
    /// The node image below.
    pub(super) base: LockedManifest,
    /// Images of the lock.
    pub(super) images: Vec<LockedImage>,
    /// Images made here.
    pub(super) made: Vec<Made>,
}

impl Action for NodeLayer {
    fn name(&self) -> String {
        format!("image {} {} preload", self.image, self.platform)
    }

    fn builder(&self) -> &'static str {
        "node-layer/1"
    }

    fn params(&self) -> Value {
        let types = self.images.iter().map(|i| (i.reference.to_string(), json!(i.media_type)));
        json!({ "media-types": types.collect::<serde_json::Map<_, _>>(), "platform": self.platform })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let blob = |digest, size| Input::Blob { digest, size };
        let mut inputs = BTreeMap::from([(BASE.to_owned(), blob(self.base.digest, self.base.size))]);
        for image in &self.images {
            inputs.insert(format!("image {}", image.reference), blob(image.digest, image.size));
            if let Some(manifest) = image.platforms.get(&self.platform) {
                inputs.insert(made_label(&image.reference, self.platform), blob(manifest.digest, manifest.size));
            }
        }
        for Made { reference, manifests } in &self.made {
            inputs.extend(manifests.iter().map(|(platform, input)| (made_label(reference, *platform), input.clone())));
        }
        inputs
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: 64 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let content = self.content(run)?;
        let layers = read_manifest(run.store.as_ref(), &self.base.digest)?.layers;
        let base = scan(&layers.iter().map(|l| l.digest).collect::<Vec<_>>(), run.store)?;
        let database = database(&base, &content, run.epoch)?;
        let bytes = content.blobs.iter().filter(|(digest, _)| !base.blobs.contains(&digest.hex()));
        let task = Task::begin(run.reporter, &self.name(), Some(bytes.map(|(_, b)| b.size).sum()));
        let writing = |e: io::Error| BuildError::bad(self.name(), e.to_string());
        let (digest, size, ()) = run.store.put_with(|out| {
            let mut tar = TarWriter::new(out);
            for (path, place) in places(&base, &content) {
                put(&mut tar, &path, place, &database, run, &task)?;
            }
            tar.finish().map(drop).map_err(writing)
        })?;
        let facts = BTreeMap::from([(DIFF_ID.to_owned(), digest.to_string())]);
        Ok(BTreeMap::from([(LAYER.to_owned(), Output { digest, size, facts })]))
    }
}

impl NodeLayer {
    /// Everything that goes in.
    fn content(&self, run: &Run<'_>) -> Result<Content, BuildError> {
        let mut content = Content::default();
        for image in &self.images {
            content.add(image, self.platform, run.store)?;
        }
        for Made { reference, manifests } in &self.made {
            let output = |platform: &Platform| Ok((*platform, input(run, &made_label(reference, *platform))?.clone()));
            let outputs: BTreeMap<Platform, Output> =
                manifests.keys().map(output).collect::<Result<_, BuildError>>()?;
            let built = assemble(&outputs, run.store)?;
            let image = LockedImage {
                reference: reference.clone(),
                source: None,
                media_type: built.media_type,
                digest: built.digest,
                size: built.size,
                platforms: built.platforms,
            };
            content.add(&image, self.platform, run.store)?;
        }
        Ok(content)
    }
}

fn made_label(reference: &ImageRef, platform: Platform) -> String {
    format!("image {reference} {platform}")
}

/// The metadata database: the node image's own, with ours.
fn database(base: &Base, content: &Content, epoch: u64) -> Result<Vec<u8>, BuildError> {
    let bad = |why: String| BuildError::bad(format!("`/{METADATA}` of the node image"), why);
    let mut root = match &base.metadata {
        Some(bytes) => bolt::read(bytes).map_err(|e| bad(e.to_string()))?,
        None => bolt::Bucket::default(),
    };
    metadata::add(&mut root, content, epoch).map_err(bad)?;
    bolt::write(&root).map_err(|e| bad(e.to_string()))
}

/// What stands at a path of the layer.
enum Place {
    Dir(Dir),
    Blob(Digest, u64),
    Link(String),
    Database,
}

/// Everything in the layer, by path. What the node image has in its content store already is left where it is.
fn places(base: &Base, content: &Content) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::from([(METADATA.to_owned(), Place::Database)]);
    for leaf in [format!("{OURS}/x"), format!("{CONTENT}/x"), METADATA.to_owned()] {
        for (at, _) in leaf.match_indices('/') {
            let path = leaf.get(..at).unwrap_or_default();
            let mode = PRIVATE.iter().find(|(p, _)| *p == path).map_or(0o755, |(_, mode)| *mode);
            let dir = base.dirs.get(path).copied().unwrap_or(Dir { mode, uid: 0, gid: 0 });
            places.insert(path.to_owned(), Place::Dir(dir));
        }
    }
    let up = "../".repeat(CONTENT.split('/').count());
    for (digest, blob) in content.blobs.iter().filter(|(digest, _)| !base.blobs.contains(&digest.hex())) {
        places.insert(format!("{OURS}/{}", digest.hex()), Place::Blob(*digest, blob.size));
        places.insert(format!("{CONTENT}/{}", digest.hex()), Place::Link(format!("{up}{OURS}/{}", digest.hex())));
    }
    places
}

fn put<W: Write>(
    tar: &mut TarWriter<W>,
    path: &str,
    place: Place,
    database: &[u8],
    run: &Run<'_>,
    task: &Task<'_>,
) -> Result<(), BuildError> {
    let failed = |e: io::Error| BuildError::bad("a node image's layer", format!("`{path}`: {e}"));
    let mut member = Member { path, kind: Kind::Dir, mode: 0o644, uid: 0, gid: 0, mtime: run.epoch };
    match place {
        Place::Dir(Dir { mode, uid, gid }) => {
            (member.mode, member.uid, member.gid) = (mode, uid, gid);
            tar.put(&member, &mut io::empty()).map_err(failed)
        }
        Place::Link(to) => {
            (member.kind, member.mode) = (Kind::Symlink(&to), 0o777);
            tar.put(&member, &mut io::empty()).map_err(failed)
        }
        Place::Database => {
            member.kind = Kind::File(database.len() as u64);
            tar.put(&member, &mut &*database).map_err(failed)
        }
        Place::Blob(digest, size) => {
            (member.kind, member.mode) = (Kind::File(size), 0o444);
            let mut reader = Hashed { inner: run.store.open_blob(&digest)?, hasher: Hasher::new(), task };
            tar.put(&member, &mut reader).map_err(failed)?;
            let found = reader.hasher.finish();
            match found == digest {
                true => Ok(()),
                false => Err(StoreError::BadBlob { digest, why: format!("its bytes have digest {found}") }.into()),
            }
        }
    }
}

/// Hashes what is read: a damaged blob must not go on under a layer's sound digest.
struct Hashed<'a, R> {
    inner: R,
    hasher: Hasher,
    task: &'a Task<'a>,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        self.task.advance(n as u64);
        Ok(n)
    }
}
