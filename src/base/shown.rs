//! Foreign text as people see it: shortened, on one line, and without anything that steers a terminal or hides what is there.

use std::borrow::Cow;

use super::bounds::{LIKE_CHARS, MESSAGE_CHARS, MOST_COMPARED, SHOWN_CHARS};

/// Whether a character steers what shows it: control characters, separators of lines, and marks that turn the direction of
/// writing (Unicode 16, `Bidi_Control`; Trojan Source, CVE-2021-42574).
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character can not be seen: what [`steers`], and the other format characters (Unicode 16, general category `Cf`).
pub fn hidden(c: char) -> bool {
    steers(c)
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{180e}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// A foreign name or value in a message: at most [`SHOWN_CHARS`] characters, hidden ones written out (`\u{202e}`).
pub fn name(text: &str) -> String {
    shortened(text, SHOWN_CHARS)
}

/// [`name`] of bytes that need not be text; those that are none are written out (`\xff`).
pub fn bytes(bytes: &[u8]) -> String {
    // Four bytes make a character at most, so nothing beyond these is shown.
    let head = bytes.get(..4 * SHOWN_CHARS + 4).unwrap_or(bytes);
    let mut text = String::new();
    for chunk in head.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if bytes.len() > head.len() {
        text.push('…');
    }
    name(&text)
}

/// At most `most` characters of `text`, hidden ones written out; `…` where something is left out.
pub fn shortened(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    for c in rest.by_ref().take(most) {
        written(c, &mut out);
    }
    if rest.next().is_some() {
        out.push('…');
    }
    out
}

/// At most `most` characters of `text` as they are; `…` where something is left out.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
    }
}

/// Text of several lines for a terminal: line feeds and tabs stay, other hidden characters are written out.
pub fn lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(out_of_place) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match out_of_place(c) {
            true => written(c, &mut out),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A whole message for a terminal: [`lines`], and at most [`MESSAGE_CHARS`] characters of it: its start and its end, where
/// the place and the reason stand.
pub fn message(text: &str) -> Cow<'_, str> {
    if text.len() <= MESSAGE_CHARS {
        return lines(text);
    }
    let end = text.len() - MESSAGE_CHARS / 2;
    let head = (0..=MESSAGE_CHARS / 2).rev().find_map(|at| text.get(..at)).unwrap_or_default();
    let tail = (end..=text.len()).find_map(|at| text.get(at..)).unwrap_or_default();
    let left_out = text.len() - head.len() - tail.len();
    Cow::Owned(format!("{}\n… ({left_out} bytes left out)\n{}", lines(head), lines(tail)))
}

/// How alike two names are, from 0 to 1 (Jaro-Winkler); 0 where one is too long to be meant by a person.
pub fn alike(a: &str, b: &str) -> f64 {
    if a.len() > LIKE_CHARS || b.len() > LIKE_CHARS { 0.0 } else { strsim::jaro_winkler(a, b) }
}

/// The one of `known` that is most like `name`; of very many names the first [`MOST_COMPARED`] are looked at.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.take(MOST_COMPARED).map(|known| (alike(name, known), known));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

fn out_of_place(c: char) -> bool {
    c != '\n' && c != '\t' && hidden(c)
}

fn written(c: char, out: &mut String) {
    match hidden(c) {
        true => out.extend(c.escape_default()),
        false => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_gets_through() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| hidden(*c)) {
            for shown in [name(&c.to_string()), lines(&format!("a{c}b")).into_owned(), bytes(c.to_string().as_bytes())]
            {
                assert!(!shown.chars().any(out_of_place), "{:x}", u32::from(c));
            }
        }
        assert_eq!(name("a\u{202e}gpj.exe"), "a\\u{202e}gpj.exe");
        assert_eq!(name("a\nb"), "a\\nb");
        assert_eq!(lines("a\n\tb\u{1b}[2J"), "a\n\tb\\u{1b}[2J");
        assert_eq!(lines("naïve 日本 🚀"), "naïve 日本 🚀");
    }

    #[test]
    fn text_is_shortened_and_bytes_are_written_out() {
        let long = "é".repeat(1 << 20);
        assert_eq!(name(&long).chars().count(), SHOWN_CHARS + 1);
        assert_eq!(bytes(long.as_bytes()).chars().count(), SHOWN_CHARS + 1);
        assert_eq!(bytes(b"a\xff\x80b"), "a\\xff\\x80b");
        let told = message(&long).into_owned();
        assert!(told.len() < MESSAGE_CHARS + 100 && told.contains("bytes left out"), "{}", told.len());
        assert_eq!(message("short"), "short");
    }

    #[test]
    fn long_names_are_not_compared() {
        assert!(alike("kubectl", "kubectk") > 0.9);
        assert_eq!(alike(&"a".repeat(LIKE_CHARS + 1), "a"), 0.0);
    }
}
