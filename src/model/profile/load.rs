//! Reads a profile and its imports into one [`Profile`].

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Profile, expand, merge, paths, toml_hints, validate};
use crate::base::bounds::PROFILE_BYTES;
use crate::base::{bounded, shown};
use crate::model::source_map::{Diagnostic, SourceMap};

/// The only schema this labimg reads.
const SCHEMA: &str = "1";

/// Most files of one profile; a person never gets there, a generator gone wild does.
const MAX_FILES: usize = 256;

/// Most findings that are told at once.
pub(in crate::model) const MOST_FINDINGS: usize = 100;

/// A profile with the files it came from.
#[derive(Debug, Clone)]
pub struct LoadedProfile {
    /// The merged profile; `imports` is empty, local paths are relative to the root file's directory.
    pub profile: Profile,
    /// Its files.
    pub sources: SourceMap,
}

/// Everything wrong with a profile that could be found in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// In the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProfileError {}

impl From<Diagnostic> for ProfileError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

/// Reads the text of an imported file, given its path; says why when it can not.
pub type ImportReader<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// Parses the profile `text`, called `name` (a path with `/`), fetching imports through `read`.
///
/// # Errors
/// Everything wrong with it: syntax, unknown keys, types, conflicts between files, and what does not fit together.
pub fn parse(name: &str, text: &str, read: &mut ImportReader<'_>) -> Result<LoadedProfile, ProfileError> {
    parse_from("", name, text, read)
}

/// [`parse`] for people in the folder `cwd` (absolute). Local paths then mean the same wherever that is, also those of imports
/// that lead out of the profile's folder and back into it.
///
/// # Errors
/// As [`parse`].
pub fn parse_from(
    cwd: &str,
    name: &str,
    text: &str,
    read: &mut ImportReader<'_>,
) -> Result<LoadedProfile, ProfileError> {
    let mut sources = SourceMap::seen_from(cwd);
    collect(&mut sources, &mut Vec::new(), &paths::join(cwd, name), text, None, read)?;
    let mut merged = DeTable::default();
    for file in sources.files() {
        let table = parse_tree(&sources, &file.text, file.base)?;
        merge::reject_duplicates(&sources, &table)?;
        merge::merge(&sources, &mut merged, table)?;
    }
    check_schema(&sources, &merged, "a profile")?;
    let merged: DeTable<'_> = merged.into_iter().filter(|(key, _)| key.get_ref() != "imports").collect();
    let mut profile = Profile::deserialize(toml::de::Deserializer::from(Spanned::new(0..text.len(), merged)))
        .map_err(|e| diagnose(&sources, e.message(), e.span()))?;
    let mut diagnostics = expand::expand(&mut profile, &sources);
    diagnostics.extend(paths::resolve(&mut profile, &sources));
    diagnostics.extend(validate::validate(&profile, &sources));
    if let Some(more) = diagnostics.len().checked_sub(MOST_FINDINGS).filter(|more| *more > 0) {
        diagnostics.truncate(MOST_FINDINGS);
        diagnostics.push(Diagnostic::new(&sources, &(0..0), format!("and {more} more things are wrong with it")));
    }
    if diagnostics.is_empty() { Ok(LoadedProfile { profile, sources }) } else { Err(ProfileError { diagnostics }) }
}

/// Takes a file into the map, then its imports. `open` holds the files we are inside of.
fn collect(
    sources: &mut SourceMap,
    open: &mut Vec<String>,
    name: &str,
    text: &str,
    imported_at: Option<Range<usize>>,
    read: &mut ImportReader<'_>,
) -> Result<(), ProfileError> {
    let base = sources.add(name, text, imported_at);
    let imports = imports_of(sources, &parse_tree(sources, text, base)?)?;
    open.push(name.to_owned());
    for (path, span) in imports {
        let full = paths::join(paths::dir(name), &path);
        if open.contains(&full) {
            let shown: Vec<&str> = open.iter().chain([&full]).map(|name| sources.shown(name)).collect();
            let text = format!("import cycle: {}", shown.join(" → "));
            return Err(Diagnostic::new(sources, &span, text).into());
        }
        if sources.files().iter().any(|f| f.name == full) {
            continue;
        }
        if sources.files().len() >= MAX_FILES {
            return Err(Diagnostic::new(sources, &span, format!("more than {MAX_FILES} files imported")).into());
        }
        let text = read(&full).map_err(|why| {
            let text = format!("can not read the import `{}`: {why}", sources.shown(&full));
            Diagnostic::new(sources, &span, text).hint("imports are relative to the file that names them")
        })?;
        collect(sources, open, &full, &text, Some(span), read)?;
    }
    open.pop();
    Ok(())
}

/// Parses one file's tree; its spans are those of the map.
pub(in crate::model) fn parse_tree<'i>(
    sources: &SourceMap,
    text: &'i str,
    base: usize,
) -> Result<DeTable<'i>, ProfileError> {
    let wrong = |at: usize, why: String| ProfileError::from(Diagnostic::new(sources, &(at + base..at + base), why));
    if (base + text.len()) as u64 > PROFILE_BYTES {
        return Err(wrong(0, format!("a profile and its imports have at most {} MiB", PROFILE_BYTES >> 20)));
    }
    bounded::toml(text).map_err(|e| wrong(e.at, format!("not read: {e}")))?;
    let parsed = DeTable::parse(text).map_err(|e| {
        let span = e.span().unwrap_or(0..0);
        if let Some(line) = toml_hints::conflict_line(text) {
            let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
            let at = start + base..start + base + text.lines().nth(line - 1).map_or(0, str::len);
            return Diagnostic::new(
                sources,
                &at,
                "two versions of this file were not merged: git left its marks in it",
            )
            .hint("keep one of the two, and take the marks out");
        }
        let message = e.message().trim_end().replace('\n', ", ");
        let found =
            Diagnostic::new(sources, &(span.start + base..span.end + base), format!("not valid TOML: {message}"));
        Diagnostic { hint: toml_hints::syntax(&message).map(str::to_owned), ..found }
    })?;
    Ok(merge::shift_table(parsed.into_inner(), base))
}

fn imports_of(sources: &SourceMap, table: &DeTable<'_>) -> Result<Vec<(String, Range<usize>)>, ProfileError> {
    let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == "imports") else {
        return Ok(Vec::new());
    };
    let wrong = |span: Range<usize>| Diagnostic::new(sources, &span, "`imports` is a list of file names");
    let DeValue::Array(items) = value.get_ref() else { return Err(wrong(value.span()).into()) };
    let mut found = Vec::new();
    for item in items.iter() {
        match item.get_ref().as_str() {
            Some(path) => found.push((path.to_owned(), item.span())),
            None => return Err(wrong(item.span()).into()),
        }
    }
    Ok(found)
}

/// A file of another schema gets a sentence, not a list of keys it does not know; `what` it is, for people.
pub(in crate::model) fn check_schema(sources: &SourceMap, table: &DeTable<'_>, what: &str) -> Result<(), ProfileError> {
    let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == "schema") else {
        let text = format!("{what} starts with `schema = 1`");
        return Err(Diagnostic::new(sources, &(0..0), format!("missing key `schema`: {text}")).into());
    };
    match value.get_ref().as_integer() {
        Some(number) if number.as_str() != SCHEMA => {
            let text = format!("schema {} is not one this labimg reads (it reads {SCHEMA})", number.as_str());
            let hint = format!(
                "write `schema = {SCHEMA}`; where the file is for another labimg, use that one (this is {})",
                env!("CARGO_PKG_VERSION")
            );
            Err(Diagnostic::new(sources, &value.span(), text).hint(hint).into())
        }
        _ => Ok(()),
    }
}

/// Turns a message of the TOML reader into one of ours; an unknown key gets the nearest known one as a hint.
pub(in crate::model) fn diagnose(sources: &SourceMap, message: &str, span: Option<Range<usize>>) -> ProfileError {
    let span = span.unwrap_or(0..0);
    let Some(rest) = message.strip_prefix("unknown field `") else {
        let message = in_words(&message.replacen("missing field", "missing key", 1));
        let expected = message.rsplit_once("expected ").map(|(_, expected)| expected);
        let hint = expected.and_then(|expected| toml_hints::type_wanted(expected, written(sources, &span)));
        return Diagnostic { hint, ..Diagnostic::new(sources, &span, message) }.into();
    };
    let mut names = rest.split('`').step_by(2);
    let key = names.next().unwrap_or_default();
    let known: Vec<&str> = names.filter(|n| !n.is_empty()).collect();
    let found = Diagnostic::new(sources, &span, format!("unknown key `{key}`"));
    let nearest = shown::nearest(key, known.iter().copied());
    match nearest {
        Some(name) if shown::alike(key, name) > 0.75 => found.hint(format!("did you mean `{name}`?")).into(),
        Some(_) => found.hint(format!("known here: {}", known.join(", "))).into(),
        None => found.into(),
    }
}

/// The text at a span.
fn written<'a>(sources: &'a SourceMap, span: &Range<usize>) -> &'a str {
    let text = || {
        let file = sources.file_at(span.start)?;
        file.text.get(span.start - file.base..span.end.checked_sub(file.base)?)
    };
    text().unwrap_or_default()
}

/// Says what was expected in TOML's words where serde says it in Rust's.
fn in_words(message: &str) -> String {
    let Some((start, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let word = match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        _ => return message.to_owned(),
    };
    format!("{start}expected {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let mut none = |_: &str| Err("none".to_owned());
        parse("lab.toml", text, &mut none).unwrap_err().to_string()
    }

    #[test]
    fn profiles_that_grow_are_refused_before_they_are_parsed() {
        let head = "schema = 1\nname = 'x'\n";
        let long = format!("{head}# {}", "x".repeat(PROFILE_BYTES as usize));
        assert!(wrong(&long).contains("have at most 4 MiB"));
        let wide = format!("{head}imports = [{}]", "'a',".repeat(300_000));
        let told = wrong(&wide);
        assert!(
            told.contains("more than 250000 values") && told.contains("lab.toml:3:") && told.len() < 2000,
            "{told}"
        );
        assert!(wrong(&format!("{head}x = {}", "[".repeat(1000))).contains("deep"));
        assert!(wrong(&format!("{head}{} = 1", "a".repeat(1 << 20))).len() < 5000);
    }

    #[test]
    fn imports_count_together() {
        let part = format!("# {}", "x".repeat(PROFILE_BYTES as usize / 2));
        let mut read = |_: &str| Ok(part.clone());
        let text = "schema = 1\nname = 'x'\nsummary = 'x'\nimports = ['a.toml', 'b.toml']\n";
        let told = parse("lab.toml", text, &mut read).unwrap_err().to_string();
        assert!(told.contains("b.toml:1:1") && told.contains("at most 4 MiB"), "{told}");
    }

    #[test]
    fn of_many_findings_the_first_are_told() {
        let many: String = (0..2000).map(|n| format!("[[text]]\npath = '/a{n}'\n")).collect();
        let told = wrong(&format!("schema = 1\nname = 'x'\nsummary = 'x'\n{many}"));
        assert!(told.contains("`/a99`") && !told.contains("`/a100`"), "{told}");
        assert!(told.contains("and 1900 more things are wrong"), "{}", &told[told.len() - 300..]);
        let hidden = wrong("schema = 1\nname = 'x'\nsummary = 'x'\n[[text]]\npath = 'a\u{202e}b'\n");
        assert!(hidden.starts_with("`a\\u{202e}b` has characters that nobody sees"), "{hidden}");
    }
}
