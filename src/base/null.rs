//! `null` in JSON from outside. Go writes an empty list, map or pointer as `null`, and reads `null` as if the field were not
//! there; so documents that are fine for every other tool hold it anywhere. These read it so, too:
//! `#[serde(default, deserialize_with = "null::absent")]`.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::bounded;

/// A value, or the one of an absent field where `null` stands.
///
/// # Errors
/// A value of another type.
pub fn absent<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A map (none where `null` stands) without the keys whose value is `null`.
///
/// # Errors
/// A value of another type.
pub fn in_map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let map: BTreeMap<String, Option<T>> = absent(deserializer)?;
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// A list (none where `null` stands) without the elements that are `null`.
///
/// # Errors
/// An element of another type.
pub fn in_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list: Vec<Option<T>> = absent(deserializer)?;
    Ok(list.into_iter().flatten().collect())
}

/// A document that a person's tools keep: an empty file, and one that says `null`, is one without a word in it. Some editors
/// start a text with a mark (U+FEFF).
///
/// # Errors
/// What is wrong with the JSON.
pub fn document<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, serde_json::Error> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).trim_ascii();
    if text.is_empty() {
        return Ok(T::default());
    }
    Ok(bounded::from_json::<Option<T>>(text)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    struct All {
        #[serde(deserialize_with = "absent")]
        text: String,
        #[serde(deserialize_with = "absent")]
        number: u64,
        #[serde(deserialize_with = "absent")]
        inner: Option<Box<All>>,
        #[serde(deserialize_with = "in_map")]
        map: BTreeMap<String, u64>,
        #[serde(deserialize_with = "in_list")]
        list: Vec<u64>,
    }

    #[test]
    fn null_is_as_if_it_were_not_there() {
        let read = |text: &str| serde_json::from_str::<All>(text).unwrap();
        assert_eq!(read(r#"{"text":null,"number":null,"inner":null,"map":null,"list":null}"#), All::default());
        assert_eq!(read("{}"), All::default());
        let some = read(r#"{"text":"x","map":{"a":null,"b":1},"list":[null,2]}"#);
        assert_eq!((some.text.as_str(), some.map.len(), some.list), ("x", 1, vec![2]));
        assert!(serde_json::from_str::<All>(r#"{"text":1}"#).is_err());
        assert!(serde_json::from_str::<All>(r#"{"list":{}}"#).is_err());
        for text in ["", " \n", "null", "{}", "\u{feff}{}", "\u{feff}"] {
            assert_eq!(document::<All>(text.as_bytes()).unwrap(), All::default(), "{text:?}");
        }
        assert!(document::<All>(b"x").is_err());
    }
}
