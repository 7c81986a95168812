//! What to write instead, for what the TOML reader does not take.

use crate::model::url_policy::masked;

/// The line, from 1, of the first mark that git leaves where two versions of a text were not merged.
pub(in crate::model) fn conflict_line(text: &str) -> Option<usize> {
    let mark = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") || line == "=======";
    // One mark alone may be an author's own line.
    let found: Vec<usize> = text.lines().enumerate().filter(|(_, line)| mark(line)).map(|(i, _)| i + 1).collect();
    if found.len() < 2 { None } else { found.first().copied() }
}

/// The way out of a message on syntax, where there is one that fits.
pub(super) fn syntax(message: &str) -> Option<&'static str> {
    let has = |words: &str| message.contains(words);
    Some(match () {
        () if has("must be quoted") => "write the text in quotes: key = \"text\"",
        () if has("multi-line") => "a text over several lines ends with the three quotes it starts with",
        () if has("basic string") || has("literal string") || has("unclosed string") || has("newline") => {
            "a text ends on its line, with the quote it starts with; one of several lines stands in three quotes: \"\"\"text\"\"\""
        }
        () if has("table") && has("`]`") => "a table's line is closed as it is opened: [toolchain], [[image]]",
        () if has("array") => "a list is closed by `]`, with commas between its values: [\"a\", \"b\"]",
        () if has("inline table") => "a table on one line is closed by `}`: { name = \"x\" }",
        () if has("duplicate key") => "leave one of them out",
        () if has("key with no value") => "a line is `key = value`; comments start with `#`",
        _ => return None,
    })
}

/// What to write for `value`, the text of a value of the wrong type; `expected` says the right one.
pub(super) fn type_wanted(expected: &str, value: &str) -> Option<String> {
    let value = masked(value.trim());
    if value.is_empty() || value.contains('\n') || value.contains('*') {
        return None;
    }
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let scalar = !value.starts_with(['[', '{']);
    match expected {
        "a list" if scalar => Some(format!("write [{value}]")),
        "a string" if scalar && inner.is_none() => Some(format!("write it in quotes: \"{value}\"")),
        "a string" if value.starts_with('[') => Some("one value stands here, without `[` and `]`".to_owned()),
        "a whole number" => match inner.filter(|v| v.parse::<u64>().is_ok()) {
            Some(number) => Some(format!("write it without quotes: {number}")),
            None => Some("write a number: 1".to_owned()),
        },
        "a boolean" => match inner.filter(|v| matches!(*v, "true" | "false")) {
            Some(word) => Some(format!("write it without quotes: {word}")),
            None => Some("write true or false".to_owned()),
        },
        "a table" => Some("a table is written as { key = value }, or as a line [name] with its keys below".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_write_is_what_would_be_taken() {
        let told = |expected: &str, value: &str| type_wanted(expected, value).unwrap_or_default();
        assert_eq!(told("a list", "\"app\""), "write [\"app\"]");
        assert_eq!(told("a string", "3.11"), "write it in quotes: \"3.11\"");
        assert_eq!(told("a whole number", "\"1\""), "write it without quotes: 1");
        assert_eq!(told("a boolean", "\"true\""), "write it without quotes: true");
        assert_eq!(told("a list", "\"https://me:hunter2@x.org/\""), "", "what is secret is not repeated");
    }

    #[test]
    fn marks_of_a_merge_are_two_at_least() {
        assert_eq!(conflict_line("a = 1\n<<<<<<< HEAD\nb = 1\n=======\nb = 2\n>>>>>>> other\n"), Some(2));
        assert_eq!(conflict_line("text = '''\n=======\n'''\n"), None);
    }
}
