//! From text to objects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compose::{Document, Mark, Step, documents};
use super::{MAX_BYTES, ManifestError, Remark, decode};

/// A manifest as it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// Its objects, in order.
    pub objects: Vec<Object>,
    /// What is odd about it.
    pub remarks: Vec<Remark>,
}

/// A Kubernetes object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object: a JSON object with a `kind`. (Whether the rest fits that kind is the API server's business.)
    pub value: Value,
    /// Line it starts at, from 1.
    pub line: usize,
    /// Lines of what may be an image, by path.
    pub(super) marks: Vec<Mark>,
}

impl Object {
    /// Its `kind`.
    pub fn kind(&self) -> &str {
        text(&self.value, "kind")
    }

    /// Its `apiVersion`; empty where it says none.
    pub fn api_version(&self) -> &str {
        text(&self.value, "apiVersion")
    }

    /// Its name; empty where only `generateName` is given.
    pub fn name(&self) -> &str {
        self.value.get("metadata").map_or("", |m| text(m, "name"))
    }

    /// Its namespace, where it says one; an empty one is none.
    pub fn namespace(&self) -> Option<&str> {
        self.value.get("metadata")?.get("namespace")?.as_str().filter(|name| !name.is_empty())
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Reads a manifest (rules: [module](super)).
///
/// # Errors
/// What is neither UTF-8 nor UTF-16 text, and as [`parse`].
pub fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let text = decode(bytes)?;
    check_size(text.len())?;
    let (documents, remarks) = documents(&text)?;
    let mut objects = Vec::new();
    for document in documents {
        flatten(document, None, &mut objects)?;
    }
    Ok(Manifest { objects, remarks })
}

/// Reads the objects of a manifest's text.
///
/// # Errors
/// What is not YAML, is over a limit ([`MAX_BYTES`], [`MAX_DEPTH`](super::MAX_DEPTH), [`MAX_NODES`](super::MAX_NODES)), or is
/// no object; with its line and column.
pub fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    read(text.as_bytes()).map(|manifest| manifest.objects)
}

/// Reads YAML of one document that need be no Kubernetes object, such as a chart's values; an empty one is `null`.
///
/// # Errors
/// As [`parse`]; a second document.
pub fn value(text: &str) -> Result<Value, ManifestError> {
    check_size(text.len())?;
    let (documents, _) = documents(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let mut documents = documents.into_iter();
    let first = documents.next().map(|d| d.value).unwrap_or_default();
    match documents.next() {
        None => Ok(first),
        Some(more) => Err(ManifestError { line: more.line, column: 1, what: "a second document".to_owned() }),
    }
}

fn check_size(bytes: usize) -> Result<(), ManifestError> {
    let what = || format!("{bytes} bytes: at most {MAX_BYTES} are read");
    if bytes > MAX_BYTES { Err(ManifestError { line: 0, column: 0, what: what() }) } else { Ok(()) }
}

/// Adds a document's objects: itself, or what it lists. `like` holds `apiVersion` and `kind` for items that have none.
fn flatten(document: Document, like: Option<(&Value, &str)>, objects: &mut Vec<Object>) -> Result<(), ManifestError> {
    let Document { value, line, marks } = document;
    let wrong = |what: &str| ManifestError { line, column: 1, what: format!("no Kubernetes object: {what}") };
    let Value::Object(mut map) = value else {
        return Err(wrong("an object is a mapping with `apiVersion` and `kind`"));
    };
    if let Some((version, kind)) = like.filter(|(_, kind)| !kind.is_empty() && !map.contains_key("kind")) {
        map.insert("apiVersion".to_owned(), version.clone());
        map.insert("kind".to_owned(), kind.into());
    }
    if map.get("kind").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(wrong("it has no `kind`"));
    }
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    let of = kind.strip_suffix("List").map(str::to_owned);
    let Some(of) = of.filter(|_| map.get("items").is_some_and(|items| items.is_array() || items.is_null())) else {
        objects.push(Object { value: Value::Object(map), line, marks });
        return Ok(());
    };
    let version = map.get("apiVersion").cloned().unwrap_or_default();
    // `items:` without any is a list of nothing.
    let Some(Value::Array(items)) = map.remove("items") else { return Ok(()) };
    let mut owned = by_item(marks);
    for (index, value) in items.into_iter().enumerate().filter(|(_, item)| !item.is_null()) {
        let marks = owned.remove(&index).unwrap_or_default();
        let line = marks.iter().find(|m| m.path.is_empty()).map_or(line, |m| m.line);
        flatten(Document { value, line, marks }, Some((&version, &of)), objects)?;
    }
    Ok(())
}

/// The marks of a list's items, by index, their paths from the item on.
fn by_item(marks: Vec<Mark>) -> BTreeMap<usize, Vec<Mark>> {
    let mut found: BTreeMap<usize, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        if let [Step::Key(key), Step::Index(index), rest @ ..] = mark.path.as_slice()
            && key == "items"
        {
            found.entry(*index).or_default().push(Mark { path: rest.to_vec(), line: mark.line });
        }
    }
    found
}
