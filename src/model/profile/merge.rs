//! Merges the TOML trees of several files: tables key by key, lists of named tables by name, other lists as unions.
//! A scalar given twice with different values is a conflict, told with both places.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::load::ProfileError;
use crate::model::image::ImageRef;
use crate::model::source_map::{Diagnostic, SourceMap};

/// What names an entry of a list of tables.
fn identity_keys(list: &str) -> Option<&'static [&'static str]> {
    match list {
        "box" | "cluster" | "host" | "chart" | "manifest" | "file" | "deploy" | "check" | "wheel" | "step" => {
            Some(&["name"])
        }
        "image" => Some(&["ref"]),
        "text" => Some(&["path"]),
        "link" => Some(&["from", "to", "service"]),
        _ => None,
    }
}

/// Moves every span of a freshly parsed tree to the file's place in the map.
pub(super) fn shift_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    let moved = |span: Range<usize>| span.start + base..span.end + base;
    let entries = table.into_iter();
    entries.map(|(k, v)| (Spanned::new(moved(k.span()), k.into_inner()), shift_value(v, base))).collect()
}

fn shift_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + base..value.span().end + base;
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shift_table(table, base)),
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|v| shift_value(v, base)).collect()),
        scalar => scalar,
    };
    Spanned::new(span, value)
}

/// Refuses two entries of one name in one list of one file.
pub(super) fn reject_duplicates(sources: &SourceMap, table: &DeTable<'_>) -> Result<(), ProfileError> {
    for (list, value) in table {
        let (Some(keys), DeValue::Array(items)) = (identity_keys(list.get_ref()), value.get_ref()) else { continue };
        let mut seen: BTreeMap<String, Range<usize>> = BTreeMap::new();
        for item in items.iter() {
            let Some((id, span)) = identity(item.get_ref(), keys) else { continue };
            if let Some(first) = seen.get(&id) {
                let text = format!("two `{}` entries are called `{id}`", list.get_ref());
                return Err(Diagnostic::new(sources, &span, text).also(sources, first, "the first one").into());
            }
            seen.insert(id, span);
        }
    }
    Ok(())
}

/// The name of an entry and where it is written; image references count in their full form.
fn identity(item: &DeValue<'_>, keys: &[&str]) -> Option<(String, Range<usize>)> {
    let table = item.as_table()?;
    let mut parts = Vec::new();
    let mut at = None;
    for key in keys {
        let (_, value) = table.iter().find(|(k, _)| k.get_ref() == key)?;
        let text = value.get_ref().as_str()?;
        let full = match *key {
            "ref" => text.parse::<ImageRef>().map_or_else(|_| text.to_owned(), |r| r.to_string()),
            _ => text.to_owned(),
        };
        parts.push(full);
        at.get_or_insert(value.span());
    }
    Some((parts.join(" → "), at?))
}

/// Merges `from` into `into`.
pub(super) fn merge<'i>(sources: &SourceMap, into: &mut DeTable<'i>, from: DeTable<'i>) -> Result<(), ProfileError> {
    merge_tables(sources, into, from, true)
}

fn merge_tables<'i>(
    sources: &SourceMap,
    into: &mut DeTable<'i>,
    from: DeTable<'i>,
    top: bool,
) -> Result<(), ProfileError> {
    for (key, value) in from {
        let name = key.get_ref().to_string();
        let Some(mine) = into.get_mut(&key) else {
            into.insert(key, value);
            continue;
        };
        let span = value.span();
        match (mine.get_mut(), value.into_inner()) {
            (DeValue::Table(a), DeValue::Table(b)) => merge_tables(sources, a, b, false)?,
            (DeValue::Array(a), DeValue::Array(b)) => match identity_keys(&name).filter(|_| top) {
                Some(keys) => merge_named(sources, a, b, keys)?,
                None => union(a, b),
            },
            (a, b) if same(a, &b) => {}
            _ => {
                let text = format!("`{name}` has two values");
                let found = Diagnostic::new(sources, &span, text).also(sources, &mine.span(), "the other one");
                return Err(found.hint("files merged by `imports` may add to each other, not overrule").into());
            }
        }
    }
    Ok(())
}

fn merge_named<'i>(
    sources: &SourceMap,
    into: &mut DeArray<'i>,
    from: DeArray<'i>,
    keys: &[&str],
) -> Result<(), ProfileError> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (i, item) in into.iter().enumerate() {
        places.extend(identity(item.get_ref(), keys).map(|(id, _)| (id, i)));
    }
    for item in from {
        let place = identity(item.get_ref(), keys).and_then(|(id, _)| places.get(&id).copied());
        let mine = place.and_then(|i| into.get_mut(i));
        match (mine.map(Spanned::get_mut), item.get_ref()) {
            (Some(DeValue::Table(a)), DeValue::Table(_)) => {
                // Two spellings of one image reference are no conflict: the first one stays.
                let DeValue::Table(b) = item.into_inner() else { continue };
                let named = |k: &Spanned<DeString<'_>>| keys.contains(&k.get_ref().as_ref()) && a.contains_key(k);
                let b: DeTable<'_> = b.into_iter().filter(|(k, _)| !named(k)).collect();
                merge_tables(sources, a, b, false)?;
            }
            _ => into.push(item),
        }
    }
    Ok(())
}

fn union<'i>(into: &mut DeArray<'i>, from: DeArray<'i>) {
    // By what they say: comparing each with each takes minutes where there are many.
    let mut there: HashSet<String> = into.iter().map(|mine| said(mine.get_ref())).collect();
    for item in from {
        if there.insert(said(item.get_ref())) {
            into.push(item);
        }
    }
}

/// A value without its places: equal for equal values.
fn said(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("i{number}"),
        DeValue::Float(number) => format!("f{}", number.as_str()),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => format!("d{time}"),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|v| said(v.get_ref())).collect();
            format!("[{}]", items.join(","))
        }
        DeValue::Table(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(k, v)| format!("{:?}={}", k.get_ref(), said(v.get_ref()))).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

/// Equal values, wherever they stand.
fn same(a: &DeValue<'_>, b: &DeValue<'_>) -> bool {
    said(a) == said(b)
}
