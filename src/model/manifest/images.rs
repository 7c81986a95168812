//! The images an object names; what counts is said at [`images`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::compose::Step;
use super::read::Object;
use crate::model::image::ImageRef;

/// A place that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The reference, as written.
    pub reference: String,
    /// Where it stands in the object: `spec.template.spec.containers[0].image`.
    pub path: String,
    /// Its line in the manifest, from 1.
    pub line: usize,
    /// `imagePullPolicy` (for volumes `pullPolicy`) beside it.
    pub pull_policy: Option<String>,
}

/// The images an object names, in an order that depends on the object alone.
///
/// What counts:
/// - `image` of what stands in a list `containers`, `initContainers` or `ephemeralContainers`, wherever that list is (built-in
///   kinds, pod templates inside custom resources): any text there is a reference, also one without registry or tag;
/// - `image.reference` of what stands in a list `volumes` (an image as a volume);
/// - any other text under a key `image` that reads as a reference **and** looks like one: it has a `/`, a tag or a digest, and is
///   no URL, no path and no picture file.
///
/// What does not: the schemas of a CustomResourceDefinition (they describe fields, they run nothing); an object's own `status` (it
/// says what was, and nobody applies it; a field of that name further inside counts); `image: auto` of a pod that
/// Istio's injection fills in (an annotation or label that starts with `inject.istio.io/` or `sidecar.istio.io/`); texts inside
/// texts, such as YAML in a ConfigMap, arguments and environment variables.
pub fn images(object: &Object) -> Vec<ImageUse> {
    if object.kind() == "CustomResourceDefinition" {
        return Vec::new();
    }
    let mut walk = Walk { found: Vec::new(), path: Vec::new(), injected: false };
    walk.value(&object.value);
    let mut uses = walk.found;
    if uses.is_empty() {
        return uses;
    }
    let lines: BTreeMap<String, usize> = object.marks.iter().map(|m| (shown(m.path.iter()), m.line)).collect();
    for found in &mut uses {
        found.line = lines.get(&found.path).copied().unwrap_or(object.line);
    }
    uses
}

fn shown<'a>(path: impl Iterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) if plain(key) => {
                text.push_str(if text.is_empty() { "" } else { "." });
                text.push_str(key);
            }
            Step::Key(key) => text.push_str(&format!("['{key}']")),
        }
    }
    text
}

fn plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

struct Walk {
    found: Vec<ImageUse>,
    path: Vec<Step>,
    /// Inside a pod template that Istio's injection fills in.
    injected: bool,
}

impl Walk {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    self.inside(Step::Index(index), |walk| walk.value(item));
                }
            }
            Value::Object(map) => self.mapping(map),
            _ => {}
        }
    }

    fn mapping(&mut self, map: &Map<String, Value>) {
        let outer = self.injected;
        self.injected |= is_injected(map);
        if let Some(Value::String(text)) = map.get("image")
            && self.counts(text)
        {
            self.add("image", text, map.get("imagePullPolicy"));
        }
        if self.in_list("volumes")
            && let Some(Value::Object(volume)) = map.get("image")
            && let Some(Value::String(text)) = volume.get("reference")
        {
            let step = Step::Key("image".to_owned());
            self.inside(step, |walk| walk.add("reference", text, volume.get("pullPolicy")));
        }
        for (key, value) in map {
            let told = self.path.is_empty() && key == "status";
            if !told && (value.is_array() || value.is_object()) {
                self.inside(Step::Key(key.clone()), |walk| walk.value(value));
            }
        }
        self.injected = outer;
    }

    fn counts(&self, text: &str) -> bool {
        if ["containers", "initContainers", "ephemeralContainers"].iter().any(|list| self.in_list(list)) {
            return !(text.is_empty() || self.injected && text == "auto");
        }
        looks_like_a_reference(text)
    }

    /// Whether the mapping we are in is an item of a list of that name.
    fn in_list(&self, name: &str) -> bool {
        matches!(self.path.as_slice(), [.., Step::Key(key), Step::Index(_)] if key == name)
    }

    fn add(&mut self, key: &str, text: &str, policy: Option<&Value>) {
        let last = Step::Key(key.to_owned());
        self.found.push(ImageUse {
            reference: text.to_owned(),
            path: shown(self.path.iter().chain([&last])),
            line: 0,
            pull_policy: policy.and_then(Value::as_str).map(str::to_owned),
        });
    }

    fn inside(&mut self, step: Step, work: impl FnOnce(&mut Self)) {
        self.path.push(step);
        work(self);
        self.path.pop();
    }
}

/// Whether a pod's (or its template's) metadata asks for Istio's injection.
fn is_injected(map: &Map<String, Value>) -> bool {
    let Some(metadata) = map.get("metadata") else { return false };
    let notes = ["annotations", "labels"].into_iter().filter_map(|key| metadata.get(key)?.as_object());
    notes.flat_map(Map::keys).any(|key| key.starts_with("inject.istio.io/") || key.starts_with("sidecar.istio.io/"))
}

const PICTURES: [&str; 8] = [".png", ".svg", ".jpg", ".jpeg", ".gif", ".ico", ".webp", ".bmp"];

fn looks_like_a_reference(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    text.contains(['/', ':', '@'])
        && !text.starts_with(['/', '.'])
        && !text.contains("://")
        && !lower.starts_with("data:")
        && !PICTURES.iter().any(|end| lower.ends_with(end))
        && text.parse::<ImageRef>().is_ok()
}
