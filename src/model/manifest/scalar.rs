//! What a scalar is: go-yaml's rules (v2, `resolve.go`), as `kubectl` has them.

use serde_json::{Number, Value};

use crate::base::base64;

/// How a scalar is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    /// Bare: its text says what it is.
    Plain,
    /// Quoted, or a block: a string.
    Quoted,
    /// With a tag of YAML's own: `int` for `!!int`.
    Tagged(&'a str),
}

/// The value of a scalar.
///
/// # Errors
/// What is wrong with it: a tag that its text does not fit, a number JSON can not hold.
pub(super) fn value(text: &str, kind: Kind<'_>) -> Result<Value, String> {
    let unfit = |what: &str| format!("`{}` is no {what}", text.chars().take(60).collect::<String>());
    match kind {
        Kind::Plain => plain(text),
        Kind::Quoted => Ok(text.into()),
        Kind::Tagged("null") => plain(text)?.is_null().then_some(Value::Null).ok_or_else(|| unfit("null")),
        Kind::Tagged("bool") => {
            let value = plain(text)?;
            if value.is_boolean() { Ok(value) } else { Err(unfit("boolean")) }
        }
        Kind::Tagged("int") => integer(text).map(Value::Number).ok_or_else(|| unfit("whole number")),
        Kind::Tagged("float") => match plain(text)?.as_f64().and_then(Number::from_f64) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(unfit("number")),
        },
        Kind::Tagged("binary") => {
            let packed: String = text.split_ascii_whitespace().collect();
            let bytes = base64::decode(&packed).ok_or_else(|| unfit("base64"))?;
            String::from_utf8(bytes).map(Value::String).map_err(|_| "what `!!binary` holds is no UTF-8 text".to_owned())
        }
        Kind::Tagged(_) => Ok(text.into()),
    }
}

fn plain(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        _ if is_not_finite(text) => return Err(format!("`{text}` is a number that JSON does not have")),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            integer(text).or_else(|| float(text)).map_or_else(|| text.into(), Value::Number)
        }
        _ => text.into(),
    })
}

fn is_not_finite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// Go's `strconv.ParseInt` with base 0, underscores taken out before.
fn integer(text: &str) -> Option<Number> {
    let text = text.replace('_', "");
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)?),
        Some("0o") => (8, lower.get(2..)?),
        Some("0b") => (2, lower.get(2..)?),
        Some(_) if lower.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    match (negative, u64::from_str_radix(digits, radix).ok()?) {
        (false, number) => Some(number.into()),
        (true, number) => i64::try_from(-i128::from(number)).ok().map(Number::from),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`; none where it is too large.
fn float(text: &str) -> Option<Number> {
    let text = text.replace('_', "");
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, part) = mantissa.split_once('.').map_or((mantissa, None), |(whole, part)| (whole, Some(part)));
    let digits = |t: &str| t.chars().all(|c| c.is_ascii_digit());
    let right = digits(whole)
        && part.is_none_or(digits)
        && !(whole.is_empty() && part.is_none_or(str::is_empty))
        && exponent.is_none_or(|e| !e.is_empty() && digits(e));
    if !right {
        return None;
    }
    text.parse().ok().and_then(Number::from_f64)
}
