//! `index.yaml` of a chart repository (Helm documentation, "The Chart Repository Guide"), read as a stream: some are 30 MB
//! and name thousands of charts, of which one is wanted.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The most bytes of an index (the largest public ones have 30 MB).
pub const LIMIT: u64 = 512 << 20;

/// One version of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The version as the repository writes it.
    pub version: String,
    /// Where the `.tgz` is: absolute, or relative to the repository.
    #[serde(default)]
    pub urls: Vec<String>,
    /// SHA-256 of the `.tgz` in hex, with or without `sha256:`. Some generators leave it out.
    #[serde(default)]
    pub digest: Option<String>,
}

/// Reads an index and keeps the versions of `chart` only; `None` when the index does not know it.
///
/// # Errors
/// What is wrong with the YAML, with line and column.
pub fn versions_of(reader: impl Read, chart: &str) -> Result<Option<Vec<Entry>>, String> {
    // The parser's own budget, made for small documents, with room for large ones; depth and aliases stay limited.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(LIMIT as usize),
            max_events: 1 << 28,
            max_nodes: 1 << 28,
            max_total_scalar_bytes: LIMIT as usize,
        },
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::FirstWins,
    };
    serde_saphyr::with_deserializer_from_reader_with_options(reader, options, |de| Document(chart).deserialize(de))
        .map_err(|e| e.to_string())
}

/// The whole document: everything but `entries` is skipped.
struct Document<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Option<Vec<Entry>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Option<Vec<Entry>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the index of a chart repository")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut entries = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "entries" {
                entries = true;
                found = map.next_value_seed(Entries(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if entries { Ok(found) } else { Err(serde::de::Error::custom("it has no `entries`")) }
    }
}

/// The map of charts: all but the wanted one are skipped.
struct Entries<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Option<Vec<Entry>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Option<Vec<Entry>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of charts")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
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

    #[test]
    fn only_the_wanted_chart_is_kept() {
        let found = versions_of(INDEX.as_bytes(), "traefik").unwrap().unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].version, "37.1.1");
        assert_eq!(found[0].digest.as_deref(), Some("00ff"));
        assert_eq!(versions_of(INDEX.as_bytes(), "other").unwrap().unwrap()[0].version, "1.0");
        assert_eq!(versions_of(INDEX.as_bytes(), "absent").unwrap(), None);
    }

    #[test]
    fn what_is_no_index_says_so() {
        for text in ["", "<html>\n", "a: 1\n", "entries: 3\n", "entries:\n  traefik: {"] {
            assert!(versions_of(text.as_bytes(), "traefik").is_err(), "{text}");
        }
        let deep = format!("entries:\n  other: {}", "[".repeat(100_000));
        assert!(versions_of(deep.as_bytes(), "x").is_err());
        assert_eq!(versions_of("entries:\n".as_bytes(), "x").unwrap(), None);
        assert_eq!(versions_of("entries: {}\n".as_bytes(), "x").unwrap(), None);
    }
}
