//! Build keys: the SHA-256 of a canonical JSON document over everything that shapes a step's output.
//!
//! Canonical: object members sorted by name, no white space, numbers and texts as `serde_json` writes them (RFC 8785 without
//! its rules for floating-point numbers, of which there are none).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Action;
use crate::base::digest::Digest;

/// What a build key is the digest of.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyDocument {
    /// The builder and its version.
    pub builder: String,
    /// Its parameters.
    pub params: Value,
    /// Inputs by label: what they are, not where they came from.
    pub inputs: BTreeMap<String, Digest>,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
}

impl KeyDocument {
    /// The document of `action` with these inputs.
    pub fn of(action: &dyn Action, inputs: BTreeMap<String, Digest>, epoch: u64) -> Self {
        Self { builder: action.builder().to_owned(), params: action.params(), inputs, epoch }
    }

    /// The build key.
    pub fn key(&self) -> Digest {
        let mut text = String::new();
        canonical(&self.to_value(), &mut text);
        Digest::of(text.as_bytes())
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        let inputs: serde_json::Map<_, _> =
            self.inputs.iter().map(|(l, d)| (l.clone(), json!(d.to_string()))).collect();
        json!({"builder": self.builder, "epoch": self.epoch, "inputs": inputs, "params": self.params})
    }

    /// Reads [`Self::to_value`] back; `None` for anything else.
    pub fn from_value(value: &Value) -> Option<Self> {
        let inputs = value.get("inputs")?.as_object()?.iter();
        Some(Self {
            builder: value.get("builder")?.as_str()?.to_owned(),
            params: value.get("params")?.clone(),
            inputs: inputs.map(|(l, d)| Some((l.clone(), d.as_str()?.parse().ok()?))).collect::<Option<_>>()?,
            epoch: value.get("epoch")?.as_u64()?,
        })
    }
}

/// Writes `value` in its canonical form, whatever order its maps keep.
fn canonical(value: &Value, out: &mut String) {
    let mut list = |open: char, close: char, parts: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
        out.push(open);
        for (i, (name, value)) in parts.enumerate() {
            if i > 0 {
                out.push(',');
            }
            if let Some(name) = name {
                out.push_str(&json!(name).to_string());
                out.push(':');
            }
            canonical(value, out);
        }
        out.push(close);
    };
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            list('{', '}', &mut sorted.into_iter().map(|(k, v)| (Some(k), v)));
        }
        Value::Array(items) => list('[', ']', &mut items.iter().map(|v| (None, v))),
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> KeyDocument {
        let inputs = BTreeMap::from([("app.py".to_owned(), Digest::of(b"app"))]);
        KeyDocument {
            builder: "run/1".into(),
            params: json!({"b": [1, "x"], "a": {"z": null, "y": true}}),
            inputs,
            epoch: 7,
        }
    }

    #[test]
    fn the_canonical_form_is_what_it_is() {
        let mut text = String::new();
        canonical(&document().to_value(), &mut text);
        let app = Digest::of(b"app");
        let want = format!(
            r#"{{"builder":"run/1","epoch":7,"inputs":{{"app.py":"{app}"}},"params":{{"a":{{"y":true,"z":null}},"b":[1,"x"]}}}}"#
        );
        assert_eq!(text, want);
        // As `printf %s '{…}' | sha256sum` has it: stores of other machines know the step by this.
        let golden = "sha256:4d1351cfd15473e74b5944ff37b8d1cbc808d6a86ec1a505054f1d6279bb94e3";
        assert_eq!(document().key().to_string(), golden);
        assert_eq!(KeyDocument::from_value(&serde_json::from_str(&text).unwrap()), Some(document()));
    }

    #[test]
    fn whatever_is_in_it_moves_the_key() {
        let base = document();
        let mut others = vec![base.clone(); 4];
        others[0].builder = "run/2".into();
        others[1].params["b"][0] = json!(2);
        others[2].inputs.insert("app.py".into(), Digest::of(b"other"));
        others[3].epoch = 8;
        let keys: std::collections::BTreeSet<Digest> = others.iter().chain([&base]).map(KeyDocument::key).collect();
        assert_eq!(keys.len(), 5);
    }
}
