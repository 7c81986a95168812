//! Standard output is data, standard error is for people.

use std::io::{self, Write};

use serde::Serialize;

use crate::base::shown;

/// Writes text for people, names of others in it: nothing of it steers the terminal.
///
/// # Errors
/// As [`to_stdout`].
pub fn text(text: &str) -> io::Result<()> {
    to_stdout(&shown::lines(text))
}

/// Writes data, exactly. A reader that went away is an error of kind `BrokenPipe`, which ends the program quietly.
///
/// # Errors
/// When standard output can not be written.
pub fn to_stdout(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes data as JSON: indented, one value. Characters that nobody sees are escaped: it says the same to a machine, and does
/// nothing to a terminal.
///
/// # Errors
/// As [`to_stdout`].
pub fn json<T: Serialize>(value: &T) -> io::Result<()> {
    to_stdout(&escaped(&serde_json::to_string_pretty(value)?))
}

/// JSON in which hidden characters are `\uXXXX` (RFC 8259, section 7). Outside of strings there is none but line feeds.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c != '\n' && shown::hidden(c) {
            true => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            false => out.push(c),
        }
    }
    out
}

/// Says something to a person: nothing of it steers the terminal, and it ends somewhere. Nobody can be told when that fails.
pub fn to_stderr(text: &str) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{}", shown::message(text));
}

/// [`to_stderr`] with a word in front that stands out.
pub fn labelled(style: anstyle::Style, label: &str, text: &str) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{style}{label}{style:#} {}", shown::message(text));
}

/// A number of bytes for people.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// A table: columns as wide as their widest cell, the last one free; `right` names the columns aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(c, text)| match widths.get(c) {
                Some(w) if right.contains(&c) => format!("{text:>w$}"),
                Some(w) if c + 1 < row.len() => format!("{text:w$}"),
                _ => text.clone(),
            })
            .collect();
        out += cells.join("  ").trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_hidden_characters() {
        let name = "a\u{202e}b\u{9b}c\u{e0041}é\u{7f}\n";
        let text = escaped(&serde_json::to_string_pretty(&[name]).unwrap());
        assert!(!text.chars().any(|c| c != '\n' && shown::hidden(c)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [name]);
    }
}
