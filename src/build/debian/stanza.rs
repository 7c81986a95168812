//! A control stanza (deb-control(5), deb822(5)): fields in the order they were written, their lines as they are.

/// Fields and values of one stanza.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stanza {
    /// Names and values; continued lines are kept with the blank they start with, joined by line feeds.
    pub fields: Vec<(String, String)>,
}

impl Stanza {
    /// Reads exactly one stanza.
    ///
    /// # Errors
    /// A line that is no field, a field without a name, a field that stands twice, or more than one stanza.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut over = false;
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: &str| Err(format!("line {} of its control file {why}", number + 1));
            let line = line.trim_end();
            if line.is_empty() {
                over = over || !fields.is_empty();
                continue;
            }
            if over {
                return wrong("starts a second stanza");
            }
            if line.starts_with([' ', '\t']) {
                let Some((_, value)) = fields.last_mut() else { return wrong("continues nothing") };
                value.push('\n');
                value.push_str(line);
                continue;
            }
            let Some((name, value)) = line.split_once(':').filter(|(n, _)| is_name(n)) else {
                return wrong("is no field");
            };
            if fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                return wrong("repeats a field");
            }
            fields.push((name.to_owned(), value.trim_start().to_owned()));
        }
        Ok(Self { fields })
    }

    /// The value of a field (names have no case).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The value on one line, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '-']) && name.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_its_lines() {
        let s = Stanza::parse("Package: a\nDescription: x\n more\n .\n end\nDepends:\n b,\n c\n\n").unwrap();
        assert_eq!(s.get("description"), Some("x\n more\n .\n end"));
        assert_eq!(s.text("Depends"), "\n b,\n c");
        assert_eq!(s.text("Missing"), "");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [" x", "abc", ": x", "A: 1\na: 2", "A: 1\n\nB: 2", "-x: 1"] {
            assert!(Stanza::parse(text).is_err(), "{text}");
        }
    }
}
