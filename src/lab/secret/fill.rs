//! References to secrets in manifests and chart values: `${secret.NAME}`, `${secret.NAME.crt}`, `.key`, `.ca`.
//!
//! They are replaced in strings that were parsed, never in text: no value can become YAML. `$${secret.…}` stands for the
//! reference itself; every other `$` is left alone, for manifests are full of shell.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Values;

const OPEN: &str = "${secret.";

/// Which value of which secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The secret's name.
    pub name: String,
    /// `crt`, `key` or `ca`; the text itself where there is none.
    pub part: Option<String>,
}

/// A reference that can not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// No such secret.
    #[error("`${{secret.{0}}}`: the profile has no secret `{0}`")]
    Unknown(String),
    /// The secret has no such part.
    #[error("`${{secret.{name}{}}}`: secret `{name}` has no such value; it has: {has}", .part.as_deref().map(|p| format!(".{p}")).unwrap_or_default())]
    Part {
        /// The secret.
        name: String,
        /// What was asked for.
        part: Option<String>,
        /// What there is.
        has: String,
    },
    /// A reference where base64 has to stand.
    #[error("Secret `{0}` refers to a secret in `data`, which has to be base64: write `stringData`")]
    Data(String),
}

/// Every reference in the strings of `value`.
pub fn references(value: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<Reference>) {
    match value {
        Value::String(text) if text.contains(OPEN) => {
            let _ = replace(text, &mut |reference| {
                found.insert(reference.clone());
                Ok::<_, FillError>(String::new())
            });
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, found)),
        Value::Object(map) => map.values().for_each(|v| collect(v, found)),
        _ => {}
    }
}

/// Replaces every reference in the strings of `value` with what `get` knows of the secret.
///
/// # Errors
/// A reference to what is not there; `value` is then half filled and of no use.
pub fn fill(value: &mut Value, get: &dyn Fn(&str) -> Option<Values>) -> Result<(), FillError> {
    let secret = value.get("kind").and_then(Value::as_str) == Some("Secret");
    if secret && value.get("data").is_some_and(|data| !references(data).is_empty()) {
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        return Err(FillError::Data(name.to_owned()));
    }
    fill_strings(value, get)
}

fn fill_strings(value: &mut Value, get: &dyn Fn(&str) -> Option<Values>) -> Result<(), FillError> {
    match value {
        Value::String(text) if text.contains(OPEN) => {
            *text = replace(text, &mut |reference| look_up(reference, get))?;
        }
        Value::Array(list) => {
            for item in list {
                fill_strings(item, get)?;
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                fill_strings(item, get)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn look_up(reference: &Reference, get: &dyn Fn(&str) -> Option<Values>) -> Result<String, FillError> {
    let values = get(&reference.name).ok_or_else(|| FillError::Unknown(reference.name.clone()))?;
    let part = match reference.part.as_deref() {
        None => &values.text,
        Some("crt") => &values.crt,
        Some("key") => &values.key,
        Some("ca") => &values.ca,
        Some(_) => &None,
    };
    let has = || {
        let parts = [("", &values.text), (".crt", &values.crt), (".key", &values.key), (".ca", &values.ca)];
        let there = parts.iter().filter(|(_, v)| v.is_some());
        there.map(|(part, _)| format!("`${{secret.{}{part}}}`", reference.name)).collect::<Vec<_>>().join(", ")
    };
    let none = || FillError::Part { name: reference.name.clone(), part: reference.part.clone(), has: has() };
    part.as_ref().map(|hidden| hidden.reveal().to_owned()).ok_or_else(none)
}

/// `text` with every reference replaced by what `put` says.
fn replace<E>(text: &str, put: &mut dyn FnMut(&Reference) -> Result<String, E>) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((inside, behind)) = after.split_once('}') else { break };
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str(OPEN);
            rest = after;
            continue;
        }
        out.push_str(before);
        out.push_str(&put(&parse(inside))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn parse(inside: &str) -> Reference {
    let own = str::to_owned;
    match inside.rsplit_once('.') {
        Some((name, part)) => Reference { name: own(name), part: Some(own(part)) },
        None => Reference { name: own(inside), part: None },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hidden;
    use super::*;
    use serde_json::json;

    fn get(name: &str) -> Option<Values> {
        let text = |text: &str| Some(Hidden::new(text));
        match name {
            "pw" => Some(Values { text: text("a: \"b\"\n${secret.pw}"), ..Values::default() }),
            "tls" => Some(Values { crt: text("CRT"), key: text("KEY"), ..Values::default() }),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_in_strings_and_once() {
        let mut value = json!({
            "a": "x ${secret.pw} y", "b": ["${secret.tls.crt}${secret.tls.key}", 1, null],
            "c": "$${secret.pw} $${HOME} ${HOME} ${secret.open", "${secret.pw}": true
        });
        assert_eq!(references(&value).len(), 3);
        fill(&mut value, &get).unwrap();
        let want = json!({
            "a": "x a: \"b\"\n${secret.pw} y", "b": ["CRTKEY", 1, null],
            "c": "${secret.pw} $${HOME} ${HOME} ${secret.open", "${secret.pw}": true
        });
        assert_eq!(value, want);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let why = |mut value| fill(&mut value, &get).unwrap_err().to_string();
        assert_eq!(why(json!("${secret.no}")), "`${secret.no}`: the profile has no secret `no`");
        assert!(why(json!("${secret.tls}")).ends_with("it has: `${secret.tls.crt}`, `${secret.tls.key}`"));
        assert!(why(json!("${secret.pw.crt}")).contains("secret `pw` has no such value"));
        let data = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"p": "${secret.pw}"}});
        assert!(why(data).contains("stringData"));
    }
}
