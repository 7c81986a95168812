//! What the images of a source are made of: these blobs are served, and nothing else that a bundle or a store holds.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::alarm::Alarm;
use super::referrers::{self, Referrer};
use super::source::{Image, Manifest, Source};
use crate::base::digest::Digest;
use crate::store::image::MANIFEST_LIMIT;

/// All that one image is made of.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Its manifests and indexes that are there, also those inside of others.
    pub(super) manifests: Vec<Manifest>,
    /// The same, and all configurations and layers they name.
    pub(super) blobs: HashSet<Digest>,
    /// Those of its manifests that refer to another one, with that one's digest.
    pub(super) referrers: Vec<(Digest, Referrer)>,
}

/// Reads manifests, each once, though many images may have the same.
pub(super) struct Reader<'a> {
    source: &'a Source,
    alarm: &'a Alarm,
    read: HashMap<Digest, Listed>,
}

/// What a manifest lists.
#[derive(Debug, Clone, Default)]
struct Listed {
    manifests: Vec<Manifest>,
    blobs: Vec<Digest>,
    referrer: Option<(Digest, Referrer)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, alarm: &'a Alarm) -> Self {
        Self { source, alarm, read: HashMap::new() }
    }

    /// What the image is made of. Of a manifest that is damaged nothing is believed.
    pub(super) fn closure(&mut self, image: &Image) -> Closure {
        let mut closure = Closure::default();
        let mut todo: Vec<Manifest> = image.platforms.iter().map(|(_, m)| m.clone()).collect();
        todo.push(image.top.clone());
        while let Some(manifest) = todo.pop() {
            if !closure.blobs.insert(manifest.digest) {
                continue;
            }
            let listed = self.listed(&manifest);
            todo.extend(listed.manifests.iter().cloned());
            closure.blobs.extend(&listed.blobs);
            closure.referrers.extend(listed.referrer.clone());
            closure.manifests.push(manifest);
        }
        closure
    }

    fn listed(&mut self, manifest: &Manifest) -> &Listed {
        let Self { source, alarm, read } = self;
        let digest = &manifest.digest;
        read.entry(*digest).or_insert_with(|| {
            // One that is not there was not packed.
            if !source.has(digest) {
                return Listed::default();
            }
            match source.blobs.read_blob(digest, MANIFEST_LIMIT) {
                Ok(bytes) => listed(manifest, &bytes, |digest| source.has(digest)),
                Err(e) => {
                    alarm.damaged(digest, &source.name, &format!("manifest {digest} is damaged: {e}"));
                    Listed::default()
                }
            }
        })
    }
}

/// Reads a manifest or an index as leniently as it can be: what is odd in it names nothing.
fn listed(manifest: &Manifest, bytes: &[u8], is_there: impl Fn(&Digest) -> bool) -> Listed {
    let text: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let list = |key: &str| text.get(key).and_then(Value::as_array).into_iter().flatten();
    let digest = |descriptor: &Value| descriptor.get("digest")?.as_str()?.parse::<Digest>().ok();
    let manifests = list("manifests").filter_map(|child| {
        let media_type = child.get("mediaType").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Manifest { digest: digest(child).filter(&is_there)?, media_type })
    });
    let blobs = text.get("config").into_iter().chain(list("layers")).chain(list("blobs")).filter_map(digest);
    Listed { manifests: manifests.collect(), blobs: blobs.collect(), referrer: referrers::referrer(manifest, bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::image::OCI_INDEX;
    use serde_json::json;

    #[test]
    fn what_is_odd_in_a_manifest_hides_nothing_beside_it() {
        let (here, absent, layer, config) =
            (Digest::of(b"here"), Digest::of(b"absent"), Digest::of(b"layer"), Digest::of(b"config"));
        let manifest = Manifest { digest: Digest::of(b""), media_type: OCI_INDEX.to_owned() };
        let read = |text: &Value| listed(&manifest, text.to_string().as_bytes(), |digest| *digest == here);
        let text = json!({
            "manifests": [{"digest": here, "mediaType": "a/b"}, {"digest": absent}, 3, null, {"digest": "sha512:00"}],
            "config": {"digest": config},
            "layers": [null, {"digest": layer}, {"digest": 5}, {}],
            "blobs": "none",
        });
        let found = read(&text);
        assert_eq!(found.manifests, [Manifest { digest: here, media_type: "a/b".to_owned() }]);
        assert_eq!(found.blobs, [config, layer]);
        for nothing in [json!(null), json!([]), json!({"config": null, "layers": null, "manifests": null})] {
            let found = read(&nothing);
            assert!(found.manifests.is_empty() && found.blobs.is_empty() && found.referrer.is_none(), "{nothing}");
        }
    }
}
