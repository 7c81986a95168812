//! Why a step is built again: what differs between its key document now and that of its last build.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::key::KeyDocument;
use crate::store::{Store, StoreError};

/// What changed since a step's last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was never built for this lab (or what it was built from can not be read any more).
    NeverBuilt,
    /// Nothing changed.
    Unchanged,
    /// This changed.
    Changes(Vec<Change>),
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What it is, for people: `builder`, `epoch`, `parameter /env/LANG`, `input app.py`.
    pub what: String,
    /// What it was; `None` where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// What it is; `None` where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.was, &self.is) {
            (Some(was), Some(is)) => write!(f, "{}: was {was}, is {is}", self.what),
            (Some(was), None) => write!(f, "{}: was {was}, is gone", self.what),
            (None, Some(is)) => write!(f, "{}: is new, {is}", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

/// Longest value that is shown whole.
const SHOWN: usize = 120;

/// Compares `now` with what `step` was last built from for `lab`.
///
/// # Errors
/// A last build that can not be read.
pub fn why(store: &Store, lab: &str, step: &str, now: &KeyDocument) -> Result<Why, StoreError> {
    let Some(last) = store.last_build(lab, step)? else { return Ok(Why::NeverBuilt) };
    let Some(was) = KeyDocument::from_value(&last.document) else { return Ok(Why::NeverBuilt) };
    let changes = changes(&was, now);
    Ok(if changes.is_empty() { Why::Unchanged } else { Why::Changes(changes) })
}

/// Every difference: the builder's first, then parameters, inputs and the epoch.
pub fn changes(was: &KeyDocument, now: &KeyDocument) -> Vec<Change> {
    let mut found = Vec::new();
    let mut add = |what: String, was: Option<String>, is: Option<String>| {
        if was != is {
            found.push(Change { what, was, is });
        }
    };
    add("builder".to_owned(), Some(was.builder.clone()), Some(now.builder.clone()));
    params("", Some(&was.params), Some(&now.params), &mut add);
    let labels: BTreeSet<&String> = was.inputs.keys().chain(now.inputs.keys()).collect();
    for label in labels {
        let text = |of: &KeyDocument| of.inputs.get(label).map(ToString::to_string);
        add(format!("input {label}"), text(was), text(now));
    }
    add("epoch".to_owned(), Some(was.epoch.to_string()), Some(now.epoch.to_string()));
    found
}

/// Differences of parameters, by JSON pointer (RFC 6901).
fn params(
    at: &str,
    was: Option<&Value>,
    is: Option<&Value>,
    add: &mut impl FnMut(String, Option<String>, Option<String>),
) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match (was, is) {
        (Some(a), Some(b)) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                params(&format!("{at}/{}", escaped(name)), a.get(name), b.get(name), add);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                params(&format!("{at}/{i}"), Some(a), Some(b), add);
            }
        }
        (Some(Value::String(a)), Some(Value::String(b))) if a.len().max(b.len()) > SHOWN => {
            let same = a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count();
            match (a.lines().nth(same).map(shown), b.lines().nth(same).map(shown)) {
                (a, b) if a != b => add(format!("parameter {at}, line {}", same + 1), a, b),
                _ => add(format!("parameter {at}"), Some(format!("{} bytes", a.len())), Some(format!("{b:?}"))),
            }
        }
        _ => add(
            if at.is_empty() { "parameters".to_owned() } else { format!("parameter {at}") },
            was.map(|v| shown(&v.to_string())),
            is.map(|v| shown(&v.to_string())),
        ),
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::store::Access;
    use crate::store::realisation::LastBuild;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn document(params: Value, inputs: &[(&str, &str)]) -> KeyDocument {
        let inputs: BTreeMap<_, _> = inputs.iter().map(|(l, t)| ((*l).to_owned(), Digest::of(t.as_bytes()))).collect();
        KeyDocument { builder: "run/1".to_owned(), params, inputs, epoch: 7 }
    }

    fn told(was: &KeyDocument, is: &KeyDocument) -> Vec<String> {
        changes(was, is).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_change_is_named() {
        let was =
            document(json!({"env": {"A": "1", "a/b": "x"}, "args": ["p", "q"]}), &[("app.py", "1"), ("old", "1")]);
        let mut is =
            document(json!({"env": {"A": "2", "C": "3"}, "args": ["p", "r"]}), &[("app.py", "2"), ("new", "1")]);
        is.builder = "run/2".to_owned();
        is.epoch = 8;
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let want = [
            "builder: was run/1, is run/2".to_owned(),
            "parameter /args/1: was \"q\", is \"r\"".to_owned(),
            "parameter /env/A: was \"1\", is \"2\"".to_owned(),
            "parameter /env/C: is new, \"3\"".to_owned(),
            "parameter /env/a~1b: was \"x\", is gone".to_owned(),
            format!("input app.py: was {one}, is {two}"),
            format!("input new: is new, {one}"),
            format!("input old: was {one}, is gone"),
            "epoch: was 7, is 8".to_owned(),
        ];
        assert_eq!(told(&was, &is), want);
    }

    #[test]
    fn long_scripts_are_compared_by_line() {
        let script = |tail: &str| json!({"run": format!("{}\n{tail}\n", "echo same\n".repeat(40))});
        let found = told(&document(script("echo a"), &[]), &document(script("echo b"), &[]));
        assert_eq!(found, ["parameter /run, line 42: was echo a, is echo b"]);
    }

    #[test]
    fn the_store_remembers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let now = document(json!(1), &[]);
        assert_eq!(why(&store, "lab", "step x", &now).unwrap(), Why::NeverBuilt);
        store.write_last_build(&LastBuild::new("lab", "step x", now.key(), now.to_value())).unwrap();
        assert_eq!(why(&store, "lab", "step x", &now).unwrap(), Why::Unchanged);
        let change = Change { what: "parameters".to_owned(), was: Some("1".to_owned()), is: Some("2".to_owned()) };
        assert_eq!(why(&store, "lab", "step x", &document(json!(2), &[])).unwrap(), Why::Changes(vec![change]));
    }
}
