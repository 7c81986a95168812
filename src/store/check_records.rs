//! The store's own small files against what they were made from: realisations against the blobs they speak of, a root's files
//! against each other and against its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundle::Contents;
use super::check::BadRecord;
use super::image::{MANIFEST_LIMIT, read_manifest};
use super::realisation::{DIFF_ID, Outputs};
use super::root::{Made, Root};
use super::{BlobSource, Store, StoreError};
use crate::base::codec::decoder;
use crate::base::digest::{Digest, hash_reader};
use crate::model::lock::{Lock, LockedImage, wire};

/// The output of a step that is an image's manifest.
const MANIFEST: &str = "manifest";

/// What an image's configuration says of its layers (image-spec, "Image Configuration").
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Digests of what is inside compressed layers, each worked out once; `None` of what can not be decompressed.
#[derive(Default)]
struct Inside {
    known: BTreeMap<Digest, Option<Digest>>,
    /// The layers that steps made: what upstream says of its own is upstream's.
    made: BTreeSet<Digest>,
}

impl Inside {
    fn of(&mut self, store: &Store, layer: &Digest) -> Option<Digest> {
        *self.known.entry(*layer).or_insert_with(|| {
            let blob = store.blob_file(layer).ok()?;
            Some(hash_reader(decoder(blob).ok()?).ok()?.0)
        })
    }
}

impl Store {
    /// All records that can not be believed, sorted by path. `bad` are blobs that are not what their names say: nothing is compared
    /// with those.
    ///
    /// # Errors
    /// A directory that can not be read.
    pub fn check_records(&self, bad: &BTreeSet<Digest>) -> Result<Vec<BadRecord>, StoreError> {
        let mut found = Vec::new();
        let mut inside = Inside::default();
        let keys = self.realisation_keys()?;
        for made in keys.iter().filter_map(|key| self.realisation(key).ok().flatten()) {
            let layers = made.outputs.values().filter(|o| o.facts.contains_key(DIFF_ID));
            inside.made.extend(layers.map(|o| o.digest));
        }
        for key in keys {
            let why = match self.realisation(&key) {
                Ok(Some(made)) if self.is_realised(&made) => self.contradiction(&made.outputs, bad, &mut inside),
                Ok(_) => None,
                Err(StoreError::Damaged { why, .. }) => Some(why),
                Err(e) => Some(e.to_string()),
            };
            let path = PathBuf::from("realisations").join(key.hex());
            found.extend(why.map(|why| BadRecord { path, why, lab: None, key: Some(key) }));
        }
        for lab in self.labs()? {
            found.extend(self.check_root(&lab));
        }
        found.sort();
        Ok(found)
    }

    /// Writes the root of a lab anew from its lock, which is sound: what it kept and is there it keeps, what `needed` says, too.
    /// Images made for the lab keep their names where `index.json` is sound.
    ///
    /// # Errors
    /// A lock that can not be read, blobs that are not there, I/O errors.
    pub fn mend_root(
        &self,
        lock: &Lock,
        needed: &BTreeMap<Digest, u64>,
        index_is_sound: bool,
    ) -> Result<(), StoreError> {
        let images = if index_is_sound { self.root_names(&lock.name).unwrap_or_default() } else { Vec::new() };
        let made = |i: &LockedImage| !lock.images.iter().any(|l| l.reference.tagged() == i.reference.tagged());
        let made: Vec<LockedImage> = images.into_iter().filter(|i| made(i) && self.has(&i.digest, i.size)).collect();
        let mut blobs = self.listed_blobs(&lock.name);
        blobs.retain(|digest, size| self.has(digest, *size));
        blobs.extend(needed);
        blobs.extend(made.iter().flat_map(|image| self.parts_here(image)));
        self.write_root(lock, Made::These(&made), &blobs)
    }

    /// What an image is made of and is there.
    fn parts_here(&self, image: &LockedImage) -> Vec<(Digest, u64)> {
        let manifests = image.platforms.values().map(|m| m.digest).chain([image.digest]);
        let parts = manifests.filter_map(|digest| read_manifest(self, &digest).ok());
        let parts = parts.flat_map(|m| [m.config].into_iter().chain(m.layers)).map(|d| (d.digest, d.size));
        let own = image.platforms.values().map(|m| (m.digest, m.size)).chain([(image.digest, image.size)]);
        parts.chain(own).filter(|(digest, size)| self.has(digest, *size)).collect()
    }

    /// The blobs that a root lists, as far as that can be read at all: to keep one too many does no harm.
    fn listed_blobs(&self, lab: &str) -> BTreeMap<Digest, u64> {
        if let Ok(Some(root)) = self.root_if_whole(lab) {
            return root.blobs;
        }
        let text = fs_err::read(self.root_dir(lab).join("root.json")).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let listed = value["blobs"].as_object().into_iter().flatten();
        listed.filter_map(|(digest, size)| Some((digest.parse().ok()?, size.as_u64()?))).collect()
    }

    /// What the outputs of a step are remembered as and are not.
    fn contradiction(&self, outputs: &Outputs, bad: &BTreeSet<Digest>, inside: &mut Inside) -> Option<String> {
        for (name, output) in outputs.iter().filter(|(_, o)| !bad.contains(&o.digest)) {
            let Some(stated) = output.facts.get(DIFF_ID) else { continue };
            match inside.of(self, &output.digest) {
                Some(found) if found.to_string() == *stated => {}
                Some(found) => return Some(format!("it says that in `{name}` is {stated}, and there is {found}")),
                None => return Some(format!("it says that `{name}` is a layer, which {} is not", output.digest)),
            }
        }
        let manifest = outputs.get(MANIFEST).filter(|o| !bad.contains(&o.digest))?;
        self.wrong_image(&manifest.digest, bad, inside)
    }

    /// What an image's configuration says of its layers and is not so.
    fn wrong_image(&self, manifest: &Digest, bad: &BTreeSet<Digest>, inside: &mut Inside) -> Option<String> {
        let image = read_manifest(self, manifest).ok()?;
        let here = |digest: &Digest| !bad.contains(digest) && self.blob_size(digest).is_some();
        if !here(&image.config.digest) {
            return None;
        }
        let config = self.read_blob(&image.config.digest, MANIFEST_LIMIT).ok()?;
        let config: Config = serde_json::from_slice(&config).ok()?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            let (ids, layers) = (config.rootfs.diff_ids.len(), image.layers.len());
            return Some(format!("image {manifest} has {layers} layers, its configuration names {ids}"));
        }
        let ours: Vec<_> = image
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .filter(|(layer, _)| here(&layer.digest) && inside.made.contains(&layer.digest))
            .collect();
        ours.into_iter().find_map(|(layer, stated)| match inside.of(self, &layer.digest) {
            Some(found) if found == *stated => None,
            _ => Some(format!("image {manifest} says that in layer {} is {stated}, which is not so", layer.digest)),
        })
    }

    fn check_root(&self, lab: &str) -> Vec<BadRecord> {
        let bad = |file: &str, why: String| {
            let path = Path::new("roots").join(lab).join(file);
            BadRecord { path, why, lab: Some(lab.to_owned()), key: None }
        };
        let root = match self.root_if_whole(lab) {
            Ok(Some(root)) => root,
            // Under construction.
            Ok(None) => return Vec::new(),
            Err(StoreError::Damaged { why, .. }) => return vec![bad("root.json", why)],
            Err(e) => return vec![bad("root.json", e.to_string())],
        };
        let mut found = Vec::new();
        if root.lab != lab {
            found.push(bad("root.json", format!("it is of lab `{}`", root.lab)));
        }
        for (file, digest) in &root.files {
            let text =
                fs_err::read(self.root_dir(lab).join(file)).map_err(|e| StoreError::io(Path::new(file), "read", e));
            match text.map(|text| Digest::of(&text)) {
                Ok(is) if is == *digest => {}
                Ok(is) => found.push(bad(file, format!("its digest is {is}, the root says {digest}"))),
                Err(e) => found.push(bad(file, e.to_string())),
            }
        }
        if found.is_empty() {
            match self.root_lock_of(lab) {
                Ok(lock) => found.extend(self.underived(&root, &lock).into_iter().map(|(file, why)| bad(file, why))),
                Err(why) => found.push(bad("lock.toml", why)),
            }
        }
        found
    }

    /// The lock of a root, as labimg writes it.
    fn root_lock_of(&self, lab: &str) -> Result<Lock, String> {
        let text = fs_err::read_to_string(self.root_dir(lab).join("lock.toml")).map_err(|e| e.to_string())?;
        let lock = wire::parse(&text).map_err(|e| e.to_string())?;
        match lock.name == lab {
            true => Ok(lock),
            false => Err(format!("it is of lab `{}`", lock.name)),
        }
    }

    /// What of a root does not follow from its lock: blobs it does not keep, images it names otherwise.
    fn underived(&self, root: &Root, lock: &Lock) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let gone = Contents::of(lock).blobs().find(|(digest, size)| root.blobs.get(digest) != Some(size));
        if let Some((digest, size)) = gone {
            found.push(("root.json", format!("the lock needs {digest} of {size} bytes, which it does not keep")));
        }
        match self.root_names(&lock.name) {
            Err(e) => found.push(("index.json", e.to_string())),
            Ok(images) => {
                let named = |l: &&LockedImage| {
                    images.iter().any(|i| {
                        i.reference.tagged() == l.reference.tagged()
                            && (i.digest, i.size, &i.media_type) == (l.digest, l.size, &l.media_type)
                    })
                };
                if let Some(gone) = lock.images.iter().find(|l| !named(l)) {
                    found.push((
                        "index.json",
                        format!("the lock has image `{}`, which it does not name so", gone.reference),
                    ));
                }
                if let Some(odd) = images.iter().find(|i| root.blobs.get(&i.digest) != Some(&i.size)) {
                    found.push((
                        "index.json",
                        format!("it names image `{}`, which the root does not keep", odd.reference),
                    ));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::report::Silent;
    use crate::store::Access;
    use crate::store::image::OCI_MANIFEST;
    use crate::store::realisation::{Output, Realisation};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Exclusive).unwrap();
        (dir, store)
    }

    fn output(store: &Store, text: &[u8], fact: Option<Digest>) -> Output {
        let facts = fact.map(|digest| (DIFF_ID.to_owned(), digest.to_string())).into_iter().collect();
        Output { digest: store.put(text).unwrap(), size: text.len() as u64, facts }
    }

    fn remember(store: &Store, step: &str, name: &str, output: Output) -> Digest {
        let key = Digest::of(step.as_bytes());
        store.write_realisation(&Realisation::new(key, step, [(name.to_owned(), output)].into())).unwrap();
        key
    }

    #[test]
    fn facts_are_held_against_the_blobs_they_are_of() {
        let (_dir, store) = store();
        let layer = zstd::encode_all(&b"layer"[..], 1).unwrap();
        let (right, wrong) = (Digest::of(b"layer"), Digest::of(b"other"));
        remember(&store, "right", "layer", output(&store, &layer, Some(right)));
        let key = remember(&store, "wrong", "layer", output(&store, &layer, Some(wrong)));
        let image = |store: &Store, diff_id: Digest| {
            let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [diff_id]}}).to_string();
            let config = output(store, config.as_bytes(), None);
            let of = |o: &Digest, size: usize| serde_json::json!({"mediaType": "x", "digest": o, "size": size});
            let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
                "config": of(&config.digest, 1), "layers": [of(&Digest::of(&layer), layer.len())]});
            output(store, manifest.to_string().as_bytes(), None)
        };
        remember(&store, "image", MANIFEST, image(&store, right));
        let odd = remember(&store, "odd image", MANIFEST, image(&store, wrong));
        let found = store.check(1, &Silent).unwrap();
        assert_eq!(found.bad, []);
        let mut keys: Vec<Digest> = found.records.iter().filter_map(|r| r.key).collect();
        keys.sort();
        let mut want = [key, odd];
        want.sort();
        assert_eq!(keys, want, "{:?}", found.records);
        assert!(found.records.iter().all(|r| r.why.contains(&wrong.to_string())), "{:?}", found.records);
    }

    #[test]
    fn every_file_of_a_root_is_checked_and_mended_from_its_lock() {
        let (dir, store) = store();
        let digest = store.put(b"chart").unwrap();
        let local = crate::model::lock::LockedLocal { path: "a".to_owned(), digest, size: 5 };
        let lock = Lock { name: "lab".to_owned(), locals: vec![local], ..Lock::default() };
        let manifest = store.put(b"{}").unwrap();
        let made = LockedImage {
            reference: "reg.lan/app:1".parse().unwrap(),
            source: None,
            media_type: OCI_MANIFEST.to_owned(),
            digest: manifest,
            size: 2,
            platforms: BTreeMap::new(),
        };
        let needed = BTreeMap::from([(digest, 5), (manifest, 2)]);
        store.write_root(&lock, Made::These(&[made]), &needed).unwrap();
        assert_eq!(store.check_records(&BTreeSet::new()).unwrap(), []);
        let root = dir.path().join("roots/lab");
        let sound = |name: &str| fs_err::read_to_string(root.join(name)).unwrap();
        let all: Vec<(&str, String)> = ["index.json", "lock.toml", "root.json"].map(|n| (n, sound(n))).into();
        for (name, from, to) in [
            ("index.json", "app:1", "app:3"),
            ("lock.toml", "path = \"a\"", "path = \"c\""),
            ("root.json", "\"lab\":\"lab\"", "\"lab\":\"lac\""),
            ("root.json", ":5", ":7"),
            ("root.json", "{", "z"),
        ] {
            fs_err::write(root.join(name), sound(name).replacen(from, to, 1)).unwrap();
            let found = store.check(1, &Silent).unwrap().records;
            let paths: Vec<_> = found.iter().map(|r| (r.path.clone(), r.lab.as_deref())).collect();
            assert_eq!(paths, [(Path::new("roots/lab").join(name), Some("lab"))], "{name}: {from}");
            if name == "lock.toml" {
                fs_err::write(root.join(name), &all[1].1).unwrap();
                continue;
            }
            store.mend_root(&lock, &BTreeMap::from([(digest, 5)]), name != "index.json").unwrap();
            assert_eq!(store.check_records(&BTreeSet::new()).unwrap(), [], "{name}: {from}");
            // What cannot be known from the lock is kept where that file is sound, and else left to the next build.
            if name == "index.json" {
                assert!(!sound(name).contains("reg.lan/app"));
                fs_err::write(root.join(name), &all[0].1).unwrap();
                fs_err::write(root.join("root.json"), &all[2].1).unwrap();
            }
            assert!(all.iter().all(|(name, text)| sound(name) == *text), "{name}: {from}");
        }
    }

    #[test]
    fn a_root_of_before_is_sound_and_says_what_its_lock_says() {
        let (dir, store) = store();
        let digest = store.put(b"chart").unwrap();
        let local = crate::model::lock::LockedLocal { path: "a".to_owned(), digest, size: 5 };
        let lock = Lock { name: "lab".to_owned(), locals: vec![local], ..Lock::default() };
        store.write_root(&lock, Made::These(&[]), &BTreeMap::from([(digest, 5)])).unwrap();
        let path = dir.path().join("roots/lab/root.json");
        let old = |blobs: &str| format!("{{\"format\":1,\"lab\":\"lab\",\"blobs\":{blobs}}}");
        fs_err::write(&path, old(&format!("{{\"{digest}\":5}}"))).unwrap();
        assert_eq!(store.check_records(&BTreeSet::new()).unwrap(), []);
        assert_eq!(store.roots().unwrap().len(), 1);
        fs_err::write(&path, old("{}")).unwrap();
        let found = store.check_records(&BTreeSet::new()).unwrap();
        assert!(found[0].why.contains(&digest.to_string()), "{found:?}");
    }
}
