//! From text to objects.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Options, Spanned};

use super::{MAX_BYTES, MAX_DEPTH, MAX_NODES, ManifestError};

/// A Kubernetes object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object: a JSON object with `apiVersion` and `kind`.
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

    /// Its `apiVersion`.
    pub fn api_version(&self) -> &str {
        text(&self.value, "apiVersion")
    }

    /// Its name; empty where only `generateName` is given.
    pub fn name(&self) -> &str {
        self.value.get("metadata").map_or("", |m| text(m, "name"))
    }

    /// Its namespace, where it says one.
    pub fn namespace(&self) -> Option<&str> {
        self.value.get("metadata")?.get("namespace")?.as_str()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// The line of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its path, innermost step first.
    pub(super) path: Vec<Step>,
    /// Its line.
    pub(super) line: usize,
}

/// Reads a manifest (rules: [module](super)).
///
/// # Errors
/// What is not YAML, is over a limit ([`MAX_BYTES`], [`MAX_DEPTH`], [`MAX_NODES`]), has a key twice, or is no object; with
/// its line and column.
pub fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    if text.len() > MAX_BYTES {
        let what = format!("{} bytes: a manifest has at most {MAX_BYTES}", text.len());
        return Err(ManifestError { line: 0, column: 0, what });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents: Vec<Spanned<Node>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| error(text, &e))?;
    let mut objects = Vec::new();
    for document in documents {
        let line = line_of(&document);
        flatten(document.value, line, None, &mut objects)?;
    }
    Ok(objects)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 100_000,
            max_total_scalar_bytes: MAX_BYTES,
            max_recorded_anchor_bytes: MAX_BYTES,
            // Repeated one-line aliases are ordinary in manifests; what they expand to is limited below.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES / 4,
            max_replay_stack_depth: 32,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        legacy_octal_numbers: true,
        strict_booleans: false,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    }
}

fn line_of<T>(spanned: &Spanned<T>) -> usize {
    usize::try_from(spanned.referenced.line()).unwrap_or_default()
}

fn error(text: &str, error: &serde_saphyr::Error) -> ManifestError {
    let at = error.location();
    let number = |n: u64| usize::try_from(n).unwrap_or_default();
    let line = at.map_or(0, |l| number(l.line()));
    let column = at.map_or(0, |l| number(l.column()));
    let message = error.to_string();
    // The place stands in front already.
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.strip_prefix(&format!("line {line} column {column}: ")).unwrap_or(message);
    let indent = text.lines().nth(line.saturating_sub(1)).map_or("", |l| &l[..l.len() - l.trim_start().len()]);
    let what = match indent.contains('\t') {
        true => format!("{message}; the line is indented with a tab, YAML wants spaces"),
        false => message.to_owned(),
    };
    ManifestError { line, column, what }
}

/// Adds a document's objects: itself, or what it lists. `like` holds `apiVersion` and `kind` for items that have none.
fn flatten(
    node: Node,
    line: usize,
    like: Option<(&Value, &str)>,
    objects: &mut Vec<Object>,
) -> Result<(), ManifestError> {
    let wrong = |what: &str| ManifestError { line, column: 0, what: what.to_owned() };
    let Node { value, marks } = node;
    let Value::Object(mut map) = value else {
        return Err(wrong("not a Kubernetes object: an object is a mapping with `apiVersion` and `kind`"));
    };
    if let Some((version, kind)) = like.filter(|(_, kind)| !kind.is_empty() && !map.contains_key("kind")) {
        map.insert("apiVersion".to_owned(), version.clone());
        map.insert("kind".to_owned(), kind.into());
    }
    for key in ["apiVersion", "kind"] {
        if map.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(wrong(&format!("not a Kubernetes object: no `{key}`")));
        }
    }
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    let of = kind.strip_suffix("List").map(str::to_owned);
    let Some(of) = of.filter(|_| map.get("items").is_some_and(Value::is_array)) else {
        objects.push(Object { value: Value::Object(map), line, marks });
        return Ok(());
    };
    let version = map.get("apiVersion").cloned().unwrap_or_default();
    let Some(Value::Array(items)) = map.remove("items") else { return Ok(()) };
    let mut owned = by_item(marks);
    for (index, value) in items.into_iter().enumerate() {
        let marks = owned.remove(&index).unwrap_or_default();
        let line = marks.iter().find(|m| m.path.is_empty()).map_or(line, |m| m.line);
        flatten(Node { value, marks }, line, Some((&version, &of)), objects)?;
    }
    Ok(())
}

/// The marks of a list's items, by index, paths from the item on.
fn by_item(marks: Vec<Mark>) -> BTreeMap<usize, Vec<Mark>> {
    let mut found: BTreeMap<usize, Vec<Mark>> = BTreeMap::new();
    for mut mark in marks {
        let outer = mark.path.pop();
        if let (Some(Step::Key(key)), Some(Step::Index(index))) = (outer, mark.path.pop())
            && key == "items"
        {
            found.entry(index).or_default().push(mark);
        }
    }
    found
}

/// A value, and the lines of what in it may matter later.
#[derive(Debug)]
struct Node {
    value: Value,
    marks: Vec<Mark>,
}

impl Node {
    fn plain(value: impl Into<Value>) -> Self {
        Self { value: value.into(), marks: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::plain(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::plain(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::plain(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::plain(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::plain(value))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value).map(Node::plain).ok_or_else(|| E::custom("a number that JSON has not"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::plain(value))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::plain(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let (mut list, mut marks) = (Vec::new(), Vec::new());
        while let Some(item) = access.next_element::<Spanned<Node>>()? {
            let index = list.len();
            // An item that may be an object of its own.
            let own = item.value.value.get("metadata").or_else(|| item.value.value.get("kind"));
            if own.is_some() {
                marks.push(Mark { path: vec![Step::Index(index)], line: line_of(&item) });
            }
            marks.extend(deeper(item.value.marks, || Step::Index(index)));
            list.push(item.value.value);
        }
        Ok(Node { value: Value::Array(list), marks })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let (mut map, mut marks) = (Map::new(), Vec::new());
        while let Some(key) = access.next_key::<String>()? {
            let node = if matches!(key.as_str(), "image" | "reference") {
                let spanned = access.next_value::<Spanned<Node>>()?;
                if spanned.value.value.is_string() {
                    marks.push(Mark { path: vec![Step::Key(key.clone())], line: line_of(&spanned) });
                }
                spanned.value
            } else {
                access.next_value::<Node>()?
            };
            marks.extend(deeper(node.marks, || Step::Key(key.clone())));
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("key `{key}` twice in one mapping")));
            }
            map.insert(key, node.value);
        }
        Ok(Node { value: Value::Object(map), marks })
    }
}

fn deeper(marks: Vec<Mark>, step: impl Fn() -> Step) -> impl Iterator<Item = Mark> {
    marks.into_iter().map(move |mut mark| {
        mark.path.push(step());
        mark
    })
}
