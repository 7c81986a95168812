//! From a parser's events to JSON values, without recursion: anchors, merge keys, limits.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};

use super::scalar::{self, Kind};
use super::{MAX_BYTES, MAX_DEPTH, MAX_NODES, ManifestError, Remark};

/// Most remarks kept of one text: more say nothing new.
const MAX_REMARKS: usize = 20;

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
    /// Its path in the document.
    pub(super) path: Vec<Step>,
    /// Its line.
    pub(super) line: usize,
}

/// One document that is not empty.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    /// Line it starts at.
    pub(super) line: usize,
    /// Lines of texts under `image` and `reference`, and of the mappings in a list `items`.
    pub(super) marks: Vec<Mark>,
}

/// Reads every document that is not empty or null, and says what is odd about them.
pub(super) fn documents(text: &str) -> Result<(Vec<Document>, Vec<Remark>), ManifestError> {
    let mut composer = Composer::default();
    let mut found = Vec::new();
    for event in Parser::new_from_str_with_options(text, options()) {
        let (event, span) = event.map_err(|e| scan_error(text, &e))?;
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let done = composer.event(event, &span).map_err(|what| ManifestError { line, column, what })?;
        found.extend(done.filter(|d| !d.value.is_null()));
    }
    Ok((found, composer.remarks))
}

/// What libyaml, and with it go-yaml and `kubectl`, lets pass; and our limits.
fn options() -> Options {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.bom_inside_document_as_content = true;
    options.block_scalar_eof_without_line_feed = true;
    options
}

fn scan_error(text: &str, error: &granit_parser::ScanError) -> ManifestError {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let tab = at.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let why = error.info();
    let what = if tab { format!("{why} (indented with a tab: YAML wants spaces)") } else { why };
    ManifestError { line, column, what }
}

/// A list or mapping that is not closed yet.
struct Open {
    what: Collection,
    anchor: usize,
    /// Depth of what is inside it, itself included.
    height: usize,
    /// [`Composer::spent`] when it began: nodes and bytes.
    before: (usize, usize),
}

enum Collection {
    List(Vec<Value>),
    Mapping { map: Map<String, Value>, key: Option<Key>, merges: Vec<Value> },
}

struct Key {
    text: String,
    merge: bool,
}

/// What an anchor stands for.
struct Anchored {
    value: Value,
    height: usize,
    nodes: usize,
    bytes: usize,
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    marks: Vec<Mark>,
    line: usize,
    /// Nodes and bytes made so far, copies for aliases counted.
    spent: (usize, usize),
    remarks: Vec<Remark>,
}

impl Composer {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Document>, String> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.marks.clear();
                self.line = 0;
                Ok(None)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.starts(line);
                self.spend(1, text.len())?;
                let kind = kind_of(style, tag.as_deref());
                if self.wants_key() {
                    return self.key(&text, kind, span).map(|()| None);
                }
                let value = scalar::value(&text, kind)?;
                self.mark_image(&value, line);
                self.anchor(anchor, &value, 1, (1, text.len()))?;
                self.put(value, 1)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Collection::List(Vec::new()), anchor, line),
            Event::MappingStart(_, anchor, _) => {
                self.mark_item(line);
                self.begin(Collection::Mapping { map: Map::new(), key: None, merges: Vec::new() }, anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => self.alias(id, span),
            _ => Ok(None),
        }
    }

    fn starts(&mut self, line: usize) {
        if self.open.is_empty() {
            self.line = line;
        }
    }

    fn spend(&mut self, nodes: usize, bytes: usize) -> Result<(), String> {
        self.spent = (self.spent.0.saturating_add(nodes), self.spent.1.saturating_add(bytes));
        match self.spent {
            (nodes, _) if nodes > MAX_NODES => Err(format!("more than {MAX_NODES} values, aliases counted")),
            (_, bytes) if bytes > 2 * MAX_BYTES => Err(format!("more than {} bytes, aliases counted", 2 * MAX_BYTES)),
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { what: Collection::Mapping { key: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, kind: Kind<'_>, span: &Span) -> Result<(), String> {
        let Some(Open { what: Collection::Mapping { map, key, .. }, .. }) = self.open.last_mut() else { return Ok(()) };
        let merge = text == "<<" && matches!(kind, Kind::Plain | Kind::Tagged("merge"));
        if matches!(kind, Kind::Plain) && scalar::value(text, kind).is_ok_and(|v| v.is_null()) {
            return Err("a mapping with a key that is null".to_owned());
        }
        // go-yaml puts each into the same map: the last one stays.
        if !merge && map.contains_key(text) && self.remarks.len() < MAX_REMARKS {
            let shown: String = text.chars().take(60).collect();
            let what = format!("key `{shown}` is twice in one mapping: the last one counts, as with kubectl");
            self.remarks.push(Remark { line: span.start.line(), column: span.start.col() + 1, what });
        }
        *key = Some(Key { text: text.to_owned(), merge });
        Ok(())
    }

    fn begin(&mut self, what: Collection, anchor: usize, line: usize) -> Result<Option<Document>, String> {
        self.starts(line);
        if self.wants_key() {
            return Err("a list or a mapping can not be a key".to_owned());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        let before = self.spent;
        self.spend(1, 0)?;
        self.open.push(Open { what, anchor, height: 1, before });
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Document>, String> {
        let Some(Open { what, anchor, height, before }) = self.open.pop() else { return Ok(None) };
        let value = match what {
            Collection::List(list) => Value::Array(list),
            Collection::Mapping { mut map, merges, .. } => {
                for merged in merges {
                    merge(&mut map, merged)?;
                }
                Value::Object(map)
            }
        };
        let own = (self.spent.0.saturating_sub(before.0), self.spent.1.saturating_sub(before.1));
        self.anchor(anchor, &value, height, own)?;
        self.put(value, height)
    }

    /// Keeps a copy for aliases; the copy counts, else anchors inside anchors would make many for nothing.
    fn anchor(&mut self, id: usize, value: &Value, height: usize, own: (usize, usize)) -> Result<(), String> {
        if id == 0 {
            return Ok(());
        }
        self.spend(own.0, own.1)?;
        self.anchors.insert(id, Anchored { value: value.clone(), height, nodes: own.0, bytes: own.1 });
        Ok(())
    }

    fn alias(&mut self, id: usize, span: &Span) -> Result<Option<Document>, String> {
        let Some(Anchored { height, nodes, bytes, .. }) = self.anchors.get(&id) else {
            return Err("an alias inside of what it stands for".to_owned());
        };
        let (height, nodes, bytes) = (*height, *nodes, *bytes);
        self.spend(nodes, bytes)?;
        if self.open.len() + height > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        let value = self.anchors.get(&id).map(|a| a.value.clone()).unwrap_or_default();
        match value {
            Value::String(text) if self.wants_key() => self.key(&text, Kind::Quoted, span).map(|()| None),
            _ if self.wants_key() => Err("an alias that is no text can not be a key".to_owned()),
            value => self.put(value, height),
        }
    }

    /// Puts a whole value where it belongs; the outermost one is a document.
    fn put(&mut self, value: Value, height: usize) -> Result<Option<Document>, String> {
        let Some(open) = self.open.last_mut() else {
            return Ok(Some(Document { value, line: self.line, marks: std::mem::take(&mut self.marks) }));
        };
        open.height = open.height.max(height + 1);
        match &mut open.what {
            Collection::List(list) => list.push(value),
            Collection::Mapping { map, key, merges } => match key.take() {
                Some(Key { merge: true, .. }) => merges.push(value),
                Some(Key { text, .. }) => {
                    map.insert(text, value);
                }
                None => return Err("a value without a key".to_owned()),
            },
        }
        Ok(None)
    }

    fn mark_image(&mut self, value: &Value, line: usize) {
        let Some(Open { what: Collection::Mapping { key: Some(key), .. }, .. }) = self.open.last() else { return };
        if value.is_string() && matches!(key.text.as_str(), "image" | "reference") {
            self.marks.push(Mark { path: self.path(), line });
        }
    }

    /// A mapping that begins now may be an object of a `List`.
    fn mark_item(&mut self, line: usize) {
        let Some(Open { what: Collection::List(_), .. }) = self.open.last() else { return };
        let Some(outer) = self.open.len().checked_sub(2).and_then(|i| self.open.get(i)) else { return };
        if matches!(&outer.what, Collection::Mapping { key: Some(key), .. } if key.text == "items") {
            self.marks.push(Mark { path: self.path(), line });
        }
    }

    fn path(&self) -> Vec<Step> {
        let steps = self.open.iter().map(|open| match &open.what {
            Collection::List(list) => Step::Index(list.len()),
            Collection::Mapping { key, .. } => Step::Key(key.as_ref().map_or_else(String::new, |k| k.text.clone())),
        });
        steps.collect()
    }
}

/// Adds what `map` has not: what is written in a mapping wins, then the earlier of what is merged.
fn merge(map: &mut Map<String, Value>, merged: Value) -> Result<(), String> {
    match merged {
        Value::Object(other) => {
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) if list.iter().all(Value::is_object) => list.into_iter().try_for_each(|o| merge(map, o)),
        _ => Err("`<<` merges a mapping, or a list of mappings".to_owned()),
    }
}

fn kind_of<'a>(style: ScalarStyle, tag: Option<&'a Tag>) -> Kind<'a> {
    match tag {
        Some(tag) if tag.handle() == "tag:yaml.org,2002:" => Kind::Tagged(tag.suffix()),
        Some(_) => Kind::Quoted,
        None if style == ScalarStyle::Plain => Kind::Plain,
        None => Kind::Quoted,
    }
}
