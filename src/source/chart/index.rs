//! `index.yaml` of a chart repository (Helm documentation, "The Chart Repository Guide"), read as a stream: some are 30 MB
//! and name thousands of charts, of which one is wanted.
//!
//! As Helm does it, what is wrong with one entry costs that entry only: generators write empty items, lists that are null, and
//! versions they forgot. Entries of other charts are not looked at.

use std::collections::HashMap;
use std::io::Read;

use granit_parser::{Event, FallibleBufferedInput, Options, Parser, ScalarStyle, Tag};

use super::chars::{Chars, chars};

/// The most bytes of an index (the largest public ones have 30 MB).
pub const LIMIT: u64 = 512 << 20;

/// Deepest nesting. Real ones have about 10.
const MAX_DEPTH: usize = 160;

/// The most versions of one chart, and the most URLs of one version.
const MOST: usize = 100_000;

/// How many texts with an anchor are kept, how long they may be, and how many bytes aliases of them may stand for together.
const MOST_ANCHORS: usize = 10_000;
const LONGEST_ANCHOR: usize = 256;
const MOST_ALIASED: usize = 16 << 20;

/// One version of a chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// What the chart calls itself.
    pub name: Option<String>,
    /// The version as the repository writes it.
    pub version: String,
    /// Where the `.tgz` is: absolute, or relative to the repository.
    pub urls: Vec<String>,
    /// SHA-256 of the `.tgz` in hex, with or without `sha256:`. Some generators leave it out.
    pub digest: Option<String>,
}

/// What an index says of one chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Its versions, in the order of the index.
    pub entries: Vec<Entry>,
    /// Items that are no version of a chart.
    pub skipped: usize,
}

/// Reads an index and keeps the versions of `chart` only; `None` when the index does not know it.
///
/// # Errors
/// What is wrong with the YAML, with line and column.
pub fn versions_of<'a>(reader: impl Read + 'a, chart: &str) -> Result<Option<Versions>, String> {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.bom_inside_document_as_content = true;
    let parser = Parser::new_from_fallible_iter_with_options(chars(reader)?, options);
    let mut walk = Walk { parser, anchors: HashMap::new(), aliased: 0 };
    let mut found = None;
    let mut entries = false;
    if walk.next()? != Node::Mapping {
        return Err("it is no index of a chart repository".to_owned());
    }
    while let Some(key) = walk.key()? {
        let value = walk.next()?;
        match value {
            Node::Mapping if key == "entries" => {
                entries = true;
                walk.charts(chart, &mut found)?;
            }
            Node::Null if key == "entries" => entries = true,
            _ if key == "entries" => return Err("its `entries` are no charts".to_owned()),
            value => walk.pass(value)?,
        }
    }
    if entries { Ok(found) } else { Err("it has no `entries`".to_owned()) }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Null,
    Text(String),
    /// A list begins.
    List,
    /// A mapping begins.
    Mapping,
    /// A list or a mapping ends.
    End,
}

/// The parser's events, one node at a time.
struct Walk<'a> {
    parser: Parser<'static, FallibleBufferedInput<Chars<'a>>>,
    /// Texts with an anchor; lists and mappings with one are not kept.
    anchors: HashMap<usize, String>,
    /// Bytes that aliases stood for so far.
    aliased: usize,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Node, String> {
        loop {
            let (event, _) = self.parser.next().ok_or("it ends early")?.map_err(|e| e.to_string())?;
            return Ok(match event {
                Event::Scalar(text, style, anchor, tag) => {
                    if anchor != 0 && text.len() <= LONGEST_ANCHOR && self.anchors.len() < MOST_ANCHORS {
                        self.anchors.insert(anchor, text.to_string());
                    }
                    if is_null(&text, style, tag.as_deref()) { Node::Null } else { Node::Text(text.into_owned()) }
                }
                Event::SequenceStart(..) => Node::List,
                Event::MappingStart(..) => Node::Mapping,
                Event::SequenceEnd | Event::MappingEnd | Event::DocumentEnd | Event::StreamEnd => Node::End,
                Event::Alias(id) => match self.anchors.get(&id) {
                    Some(text) => {
                        self.aliased += text.len();
                        if self.aliased > MOST_ALIASED {
                            return Err("its aliases stand for too much".to_owned());
                        }
                        Node::Text(text.clone())
                    }
                    None => Node::Null,
                },
                _ => continue,
            });
        }
    }

    /// The next key of a mapping; nothing at its end. What is no text under a key that is none is passed over.
    fn key(&mut self) -> Result<Option<String>, String> {
        loop {
            match self.next()? {
                Node::End => return Ok(None),
                Node::Text(key) => return Ok(Some(key)),
                node => {
                    self.pass(node)?;
                    let value = self.next()?;
                    self.pass(value)?;
                }
            }
        }
    }

    /// Passes over a node, with all that is in it.
    fn pass(&mut self, node: Node) -> Result<(), String> {
        let mut open = usize::from(matches!(node, Node::List | Node::Mapping));
        while open > 0 {
            match self.next()? {
                Node::List | Node::Mapping => open += 1,
                Node::End => open -= 1,
                Node::Null | Node::Text(_) => {}
            }
        }
        Ok(())
    }

    /// The map of charts: all but the wanted one are passed over.
    fn charts(&mut self, chart: &str, found: &mut Option<Versions>) -> Result<(), String> {
        while let Some(key) = self.key()? {
            let value = self.next()?;
            if key == chart && value == Node::List {
                self.versions(found.get_or_insert_default())?;
            } else {
                self.pass(value)?;
            }
        }
        Ok(())
    }

    fn versions(&mut self, found: &mut Versions) -> Result<(), String> {
        loop {
            let node = self.next()?;
            let entry = match node {
                Node::End => return Ok(()),
                Node::Mapping => self.entry()?,
                node => {
                    self.pass(node)?;
                    None
                }
            };
            match entry.filter(|_| found.entries.len() < MOST) {
                Some(entry) => found.entries.push(entry),
                None => found.skipped += 1,
            }
        }
    }

    /// One version; nothing where it has none.
    fn entry(&mut self) -> Result<Option<Entry>, String> {
        let mut entry = Entry::default();
        while let Some(key) = self.key()? {
            let value = self.next()?;
            match (key.as_str(), value) {
                ("version", Node::Text(text)) => entry.version = text,
                ("name", Node::Text(text)) => entry.name = Some(text),
                ("digest", Node::Text(text)) => entry.digest = Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
                ("urls", Node::Text(text)) => entry.urls = vec![text],
                ("urls", Node::List) => entry.urls = self.texts()?,
                (_, value) => self.pass(value)?,
            }
        }
        entry.urls.retain(|url| !url.trim().is_empty());
        Ok(Some(entry).filter(|entry| !entry.version.trim().is_empty()))
    }

    /// The texts of a list; what else is in it is passed over.
    fn texts(&mut self) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        loop {
            match self.next()? {
                Node::End => return Ok(texts),
                Node::Text(text) if texts.len() < MOST => texts.push(text),
                node => self.pass(node)?,
            }
        }
    }
}

/// YAML's null: bare, or tagged so.
fn is_null(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    match tag {
        Some(tag) => tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == "null",
        None => style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "apiVersion: v1
entries:
  other:
  - {version: 1.0, urls: [x]}
  traefik:
  - name: traefik
    version: 37.1.1
    appVersion: v3
    digest: 00ff
    urls:
    - https://example.org/traefik-37.1.1.tgz
  - version: \"37.1.0\"
    urls: []
generated: \"2020-01-01T00:00:00Z\"
";

    fn read(text: &str, chart: &str) -> Option<Versions> {
        versions_of(text.as_bytes(), chart).unwrap()
    }

    #[test]
    fn only_the_wanted_chart_is_kept() {
        let found = read(INDEX, "traefik").unwrap();
        assert_eq!((found.entries.len(), found.skipped), (2, 0));
        assert_eq!(found.entries[0].version, "37.1.1");
        assert_eq!(found.entries[0].digest.as_deref(), Some("00ff"));
        assert_eq!(read(INDEX, "other").unwrap().entries[0].version, "1.0");
        assert_eq!(read(INDEX, "absent"), None);
    }

    #[test]
    fn what_is_no_index_says_so() {
        for text in ["", "<html>\n", "a: 1\n", "entries: 3\n", "entries: [a]\n", "entries:\n  traefik: {"] {
            assert!(versions_of(text.as_bytes(), "traefik").is_err(), "{text}");
        }
        let deep = format!("entries:\n  other: {}", "[".repeat(100_000));
        assert!(versions_of(deep.as_bytes(), "x").is_err());
        assert_eq!(read("entries:\n", "x"), None);
        assert_eq!(read("entries: {}\n", "x"), None);
    }

    #[test]
    fn one_bad_entry_costs_itself_only() {
        let text = "
entries:
  null: [{version: 9}]
  ? [odd, key]
  : {version: 9}
  broken: 12
  gone: null
  also: [[[{version: {a: [b]}}]]]
  web:
  -
  - null
  - just text
  - [a, list]
  - {name: web}
  - {name: web, version: null}
  - {name: web, version: {major: 1}}
  - name: web
    version: 1.10
    digest: null
    urls: null
    maintainers: [{name: null}, ~]
  - {version: 1.9, urls: [null, '', {a: b}, web-1.9.tgz], digest: {of: what}}
  - {version: 1.8, urls: web-1.8.tgz, digest: ''}
generated: null
";
        let found = read(text, "web").unwrap();
        assert_eq!(found.skipped, 7);
        let short: Vec<_> = found.entries.iter().map(|e| (e.version.as_str(), e.urls.join(" "))).collect();
        assert_eq!(short, [("1.10", String::new()), ("1.9", "web-1.9.tgz".into()), ("1.8", "web-1.8.tgz".into())]);
        assert!(found.entries.iter().all(|e| e.digest.is_none()));
        assert_eq!((read(text, "gone"), read(text, "broken")), (None, None));
        assert_eq!(read(text, "also").unwrap().skipped, 1);
    }

    #[test]
    fn anchors_json_and_other_encodings_are_read() {
        let text = "entries:\n  web:\n  - {version: &v 1.0.0, urls: [a.tgz]}\n  - {version: *v, urls: [b.tgz]}\n";
        let found = read(text, "web").unwrap();
        assert_eq!((found.entries[1].version.as_str(), found.entries.len()), ("1.0.0", 2));
        let json = "{\"apiVersion\":\"v1\",\"entries\":{\"web\":[{\"version\":\"1.0.0\",\"urls\":[\"a.tgz\"]},{\"version\":\"1.0.0\",\"urls\":[\"b.tgz\"]}]}}";
        assert_eq!(read(json, "web").unwrap(), found);
        let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(versions_of(&wide[..], "web").unwrap().unwrap(), found);
        let bomb = format!("a: &a {}\nentries:\n  web:\n  - {{urls: [{}]}}\n", "x".repeat(200), "*a, ".repeat(100_000));
        assert!(versions_of(bomb.as_bytes(), "web").is_err());
        // A description in Latin-1 is nobody's business here.
        let mut latin = b"\xef\xbb\xbfabout: J\xf6rg\n".to_vec();
        latin.extend_from_slice(text.as_bytes());
        assert_eq!(versions_of(&latin[..], "web").unwrap().unwrap(), found);
    }
}
