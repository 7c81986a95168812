//! Standard output is data, standard error is for people.

use std::io::{self, Write};

use serde::Serialize;

/// Writes data. A reader that went away is an error of kind `BrokenPipe`, which ends the program quietly.
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

/// Writes data as JSON: indented, one value.
///
/// # Errors
/// As [`to_stdout`].
pub fn json<T: Serialize>(value: &T) -> io::Result<()> {
    to_stdout(&serde_json::to_string_pretty(value)?)
}

/// Says something to a person. Nobody can be told when that fails.
pub fn to_stderr(text: &str) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{text}");
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
