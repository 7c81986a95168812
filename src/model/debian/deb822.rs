//! Control files (Debian policy 5.1; deb822(5)): stanzas of fields, as indices, Release files and dpkg's database have them.
//! Nothing is copied: an index has fifty megabytes.

use memchr::{memchr, memchr_iter, memmem};

/// A stanza: the lines between empty ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stanza<'a> {
    /// Its lines.
    pub text: &'a str,
    /// Where they start in the whole text, in bytes.
    pub offset: usize,
}

/// A field of a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as it is written; names differ not by case.
    pub name: &'a str,
    /// Its value without white space around it; further lines start with their own white space (see [`unfolded`]).
    pub value: &'a str,
    /// Where its line starts in the stanza, in bytes.
    pub offset: usize,
}

/// A line that belongs to no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{line}` is no field")]
pub struct NoField {
    /// The line's first characters.
    pub line: String,
    /// Where it starts in the stanza, in bytes.
    pub offset: usize,
}

/// The stanzas of a text, in order.
pub fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let gap = memmem::Finder::new("\n\n");
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        at += rest.len() - rest.trim_start_matches(['\n', '\r']).len();
        let rest = text.get(at..).filter(|rest| !rest.trim().is_empty())?;
        let end = gap.find(rest.as_bytes()).map_or(rest.len(), |end| end + 1);
        let stanza = Stanza { text: rest.get(..end)?, offset: at };
        at += end;
        Some(stanza)
    })
}

/// The number of the line that `offset` is on, from 1.
pub fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    memchr_iter(b'\n', before).count() + 1
}

impl<'a> Stanza<'a> {
    /// Its fields, in order. Comments (`#` at the start of a line) are passed over.
    pub fn fields(&self) -> Fields<'a> {
        Fields { text: self.text, at: 0 }
    }

    /// The value of the first field of that name; lines that are no fields are passed over.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.fields().filter_map(Result::ok);
        fields.find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    }
}

/// See [`Stanza::fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Fields<'a> {
    /// The line that starts at `at`, with its end.
    fn line(&self, at: usize) -> Option<&'a str> {
        let rest = self.text.get(at..).filter(|rest| !rest.is_empty())?;
        let end = memchr(b'\n', rest.as_bytes()).map_or(rest.len(), |end| end + 1);
        rest.get(..end)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, NoField>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first = self.line(self.at)?;
        while first.starts_with('#') || first.trim().is_empty() {
            self.at += first.len();
            first = self.line(self.at)?;
        }
        let offset = self.at;
        let (mut end, mut probe) = (offset + first.len(), offset + first.len());
        // A comment belongs to the value only where the value goes on after it.
        while let Some(more) = self.line(probe).filter(|l| l.starts_with([' ', '\t', '#'])) {
            probe += more.len();
            if !more.starts_with('#') {
                end = probe;
            }
        }
        self.at = end;
        let colon = memchr(b':', first.as_bytes()).filter(|colon| is_name(&first[..*colon]));
        let Some(colon) = colon else {
            return Some(Err(NoField { line: first.trim_end().chars().take(60).collect(), offset }));
        };
        let value = self.text.get(offset + colon + 1..end).unwrap_or_default().trim();
        Some(Ok(Field { name: &first[..colon], value, offset }))
    }
}

/// Field names: printable ASCII without blanks and colons (policy 5.1).
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['-', '#']) && text.bytes().all(|c| c.is_ascii_graphic() && c != b':')
}

/// The lines of a value, trimmed, without empty ones and comments.
pub fn lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().filter(|l| !l.starts_with('#')).map(str::trim).filter(|l| !l.is_empty())
}

/// A value on one line: each line's end and the white space after it become one blank.
pub fn unfolded(value: &str) -> std::borrow::Cow<'_, str> {
    if memchr(b'\n', value.as_bytes()).is_none() {
        return value.into();
    }
    lines(value).collect::<Vec<_>>().join(" ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "\n\nPackage: a\nDescription: one\n two\n .\n\tthree\n\n\n# said\nPACKAGE:b\nEmpty:\n# in between\nLast: x";

    #[test]
    fn stanzas_and_folded_fields() {
        let all: Vec<Stanza> = stanzas(TEXT).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(line_at(TEXT, all[0].offset), 3);
        assert_eq!(all[0].get("package"), Some("a"));
        assert_eq!(all[0].get("description"), Some("one\n two\n .\n\tthree"));
        assert_eq!(unfolded(all[0].get("Description").unwrap()), "one two . three");
        let second: Vec<_> = all[1].fields().map(|f| f.map(|f| (f.name, f.value)).unwrap()).collect();
        assert_eq!(second, [("PACKAGE", "b"), ("Empty", ""), ("Last", "x")]);
        assert_eq!(all[1].get("absent"), None);
    }

    #[test]
    fn what_is_no_field_is_told() {
        for (text, line) in [("Package: a\nnonsense\nX: y", "nonsense"), (" folded: x", " folded: x"), (": x", ": x")] {
            let error = stanzas(text).flat_map(|s| s.fields().collect::<Vec<_>>()).find_map(Result::err);
            assert_eq!(error.unwrap().line, line);
        }
        assert_eq!(stanzas("\n \n").count() + stanzas("").count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[a:# \n\tä-]{0,60}") {
            for stanza in stanzas(&text) {
                proptest::prop_assert!(stanza.fields().count() <= text.len());
                proptest::prop_assert_eq!(&text[stanza.offset..stanza.offset + stanza.text.len()], stanza.text);
            }
        }
    }
}
