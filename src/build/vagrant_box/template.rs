//! Texts with `{{names}}` in them.

use crate::build::BuildError;

/// Replaces every `{{name}}` by its value.
///
/// # Errors
/// A name without a value: a defect of the template.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, BuildError> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.find("{{") {
        None => Ok(text),
        Some(at) => {
            let rest: String = text.chars().skip(text[..at].chars().count()).take(30).collect();
            Err(BuildError::Internal(format!("a template's `{rest}` has no value")))
        }
    }
}

/// A text inside an XML attribute or element (XML 1.0, section 2.4).
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No other control characters can be in XML 1.0 at all.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_value() {
        assert_eq!(fill("a {{x}} {{{y}}} {{x}}", &[("x", "1"), ("y", "2")]).unwrap(), "a 1 {2} 1");
        let error = fill("ä {{z}}", &[("x", "1")]).unwrap_err().to_string();
        assert!(error.contains("`{{z}}`"), "{error}");
        assert_eq!(xml("a<b & \"c\"\n"), "a&lt;b &amp; &quot;c&quot; ");
    }
}
