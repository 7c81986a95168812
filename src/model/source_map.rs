//! Where a piece of a profile stands: several files in one space of byte offsets, so that a span alone names file and line.

use std::fmt;
use std::ops::{Deref, Range};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::url_policy::masked;
use crate::base::bounds::FINDING_CHARS;
use crate::base::shown;

/// Characters of a line that a finding shows.
const LINE_CHARS: usize = 400;

/// A value with the place it was written at. Reads, compares and serialises as the value.
#[derive(Clone, Default)]
pub struct Loc<T> {
    value: T,
    span: Range<usize>,
}

impl<T> Loc<T> {
    /// A value nobody wrote: a default. Its span is empty and at the start of the root file.
    pub fn made(value: T) -> Self {
        Self { value, span: 0..0 }
    }

    /// A value with its span in a [`SourceMap`].
    pub fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// The bytes it stands at.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Replaces the value; the place stays.
    pub fn set(&mut self, value: T) {
        self.value = value;
    }

    /// The value alone.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Loc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Loc<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Loc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize> Serialize for Loc<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Loc<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Self { value: spanned.into_inner(), span })
    }
}

impl<T: JsonSchema> JsonSchema for Loc<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// One file of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The name people know it by: the path as given, or an import's path seen from there.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Offset of its first byte in the map.
    pub base: usize,
    /// Span of the import that brought it; `None` for the root.
    pub imported_at: Option<Range<usize>>,
}

/// The files of a profile; the first is the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceMap {
    files: Vec<SourceFile>,
    /// The folder people are in: names below it are shown without it.
    cwd: String,
}

/// A place for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// File name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text, without what is secret in it; of a long line what stands around the place.
    pub text: String,
    /// How many characters of the line stand before that text.
    pub skipped: usize,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl SourceMap {
    /// An empty map for people in the folder `cwd` (absolute, with `/`; empty when names are to be shown as they are).
    pub fn seen_from(cwd: &str) -> Self {
        Self { files: Vec::new(), cwd: cwd.to_owned() }
    }

    /// A file's name as people in that folder would write it.
    pub fn shown<'a>(&self, name: &'a str) -> &'a str {
        let below = name.strip_prefix(&self.cwd).and_then(|rest| rest.strip_prefix('/'));
        below.filter(|_| !self.cwd.is_empty()).unwrap_or(name)
    }

    /// Takes a file in; gives its base offset.
    pub fn add(&mut self, name: &str, text: &str, imported_at: Option<Range<usize>>) -> usize {
        let base = self.files.last().map_or(0, |f| f.base + f.text.len() + 1);
        self.files.push(SourceFile { name: name.to_owned(), text: text.to_owned(), base, imported_at });
        base
    }

    /// The file an offset lies in.
    pub fn file_at(&self, offset: usize) -> Option<&SourceFile> {
        self.files.iter().rev().find(|f| f.base <= offset)
    }

    /// All files, the root first.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// File, line and column of a span's start.
    pub fn locate(&self, span: &Range<usize>) -> Option<Location> {
        let file = self.file_at(span.start)?;
        let start = floor(&file.text, (span.start - file.base).min(file.text.len()));
        let end = floor(&file.text, (span.end.max(span.start) - file.base).min(file.text.len()));
        let line_start = file.text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = file.text[start..].find('\n').map_or(file.text.len(), |i| start + i);
        let width = file.text[start..end.min(line_end).max(start)].chars().count().max(1);
        let column = file.text[line_start..start].chars().count() + 1;
        // Masked whole: half of a URL would not be known for one.
        let line = masked(file.text[line_start..line_end].trim_end_matches('\r'));
        let skipped = if column > LINE_CHARS / 2 { column - LINE_CHARS / 4 } else { 0 };
        Some(Location {
            file: self.shown(&file.name).to_owned(),
            line: file.text[..start].matches('\n').count() + 1,
            column,
            text: line.chars().skip(skipped).take(LINE_CHARS).collect(),
            skipped,
            width: width.min(LINE_CHARS),
        })
    }

    /// The imports that brought the file at `offset`, the nearest first.
    pub fn import_chain(&self, offset: usize) -> Vec<Location> {
        let mut chain = Vec::new();
        let mut at = self.file_at(offset).and_then(|f| f.imported_at.clone());
        while let Some(span) = at {
            chain.extend(self.locate(&span));
            at = self.file_at(span.start).and_then(|f| f.imported_at.clone());
        }
        chain
    }
}

fn floor(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// Something wrong with a profile, with the place and a way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub at: Option<Location>,
    /// Other places that matter, each with a word on why.
    pub related: Vec<(String, Location)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A diagnostic at a span; the imports that brought the file stand below it.
    pub fn new(map: &SourceMap, span: &Range<usize>, message: impl Into<String>) -> Self {
        let related = map.import_chain(span.start).into_iter().map(|at| ("imported here".to_owned(), at)).collect();
        // A message may quote a value of the profile.
        let message = masked(&message.into());
        Self { message: shown::cut(&message, FINDING_CHARS).into_owned(), at: map.locate(span), related, hint: None }
    }

    /// Adds a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds another place, before the imports.
    #[must_use]
    pub fn also(mut self, map: &SourceMap, span: &Range<usize>, why: &str) -> Self {
        let at = map.locate(span);
        self.related.splice(0..0, at.map(|at| (why.to_owned(), at)));
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(at) = &self.at {
            excerpt(f, "-->", at, None)?;
        }
        for (why, at) in &self.related {
            excerpt(f, ":::", at, Some(why))?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The line with a caret under what is meant.
fn excerpt(f: &mut fmt::Formatter<'_>, arrow: &str, at: &Location, why: Option<&str>) -> fmt::Result {
    let number = at.line.to_string();
    let gutter = " ".repeat(number.len());
    let indent: String =
        at.text.chars().take(at.column - 1 - at.skipped).map(|c| if c == '\t' { c } else { ' ' }).collect();
    let carets = "^".repeat(at.width);
    let why = why.map(|w| format!(" {w}")).unwrap_or_default();
    write!(f, "\n{gutter}{arrow} {at}\n{gutter} |\n{number} | {}\n{gutter} | {indent}{carets}{why}", at.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_names_its_file_and_line() {
        let mut map = SourceMap::default();
        map.add("a.toml", "x = 1\ny = 2\n", None);
        let base = map.add("b.toml", "z = \"ü\"\nw = 3\n", Some(4..5));
        let at = map.locate(&(base + 9..base + 10)).unwrap();
        assert_eq!((at.file.as_str(), at.line, at.column), ("b.toml", 2, 1));
        assert_eq!(map.import_chain(base)[0].to_string(), "a.toml:1:5");
        assert!(map.locate(&(base + 1000..base + 1001)).is_some());
    }

    #[test]
    fn of_long_lines_and_messages_a_part_is_shown() {
        let mut map = SourceMap::default();
        let text = format!("x = [{}\"here\"{}]", "1, ".repeat(500_000), ", 2".repeat(500_000));
        map.add("a.toml", &text, None);
        let at = text.find("here").unwrap();
        let found = Diagnostic::new(&map, &(at..at + 4), "m".repeat(1 << 20)).to_string();
        assert!(found.len() < 5000, "{}", found.len());
        let lines: Vec<&str> = found.lines().collect();
        let caret = lines.last().unwrap().find("^^^^").unwrap();
        assert!(lines[lines.len() - 2][caret..].starts_with("here"), "{found}");
    }
}
