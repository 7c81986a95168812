//! What a comparison finds: data for `--json`, and the words for people.

use std::fmt;

use serde::Serialize;

/// Differences that are kept; how many more there are is counted.
const KEPT: usize = 1000;

/// Everything that two things differ in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The differences, the first of them.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub more: usize,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// The way down to it, outermost first: `box.img`, `partition 1 (ext4)`, `/etc/machine-id`.
    pub at: Vec<String>,
    /// What differs.
    #[serde(flatten)]
    pub what: What,
    /// What is known to make such a difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// It is there only in the first.
    OnlyInFirst,
    /// It is there only in the second.
    OnlyInSecond,
    /// One property, as both have it: `type`, `mode`, `owner`, `mtime`, `target`, `xattr user.x`, a field of a table.
    Property {
        /// Which.
        name: String,
        /// The first one's.
        first: String,
        /// The second one's.
        second: String,
    },
    /// Other bytes.
    Content {
        /// The first byte that differs.
        byte: u64,
        /// Bytes of the first.
        first_size: u64,
        /// Bytes of the second.
        second_size: u64,
        /// Why it was not looked into, where one would think that it could be.
        #[serde(skip_serializing_if = "Option::is_none")]
        opaque: Option<String>,
    },
    /// The content is the same, what is around it is not.
    Container {
        /// How that differs.
        how: String,
        /// The first byte of the container that differs.
        byte: u64,
    },
    /// Parts that no file shows: inode times, unused blocks, the journal.
    Structure {
        /// Which part.
        name: String,
        /// The first byte that differs, counted from the start of the file system or disk.
        byte: u64,
        /// How many of its units (blocks, inodes) differ.
        count: u64,
    },
}

impl Report {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// One line each for the first `most`, and how many more there are.
    pub fn lines(&self, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.differences.iter().take(most).map(ToString::to_string).collect();
        let more = self.differences.len() - lines.len() + self.more;
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    }

    /// Adds what another found, below `at`.
    pub fn append(&mut self, at: &[&str], other: Self) {
        for mut difference in other.differences {
            difference.at.splice(0..0, at.iter().map(|a| (*a).to_owned()));
            self.push(difference);
        }
        self.more += other.more;
    }

    /// Adds one.
    pub fn push(&mut self, difference: Difference) {
        match self.is_full() {
            true => self.more += 1,
            false => self.differences.push(difference),
        }
    }

    /// Whether further ones are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.differences.len() >= KEPT
    }

    /// How far it is.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.differences.len(), self.more)
    }

    /// Forgets what came after the mark.
    pub(super) fn reset(&mut self, mark: (usize, usize)) {
        self.differences.truncate(mark.0);
        self.more = mark.1;
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in &self.at {
            write!(f, "{}: ", plain(at))?;
        }
        write!(f, "{}", self.what.words(!self.at.is_empty()))?;
        match self.cause {
            Some(cause) => write!(f, " [{cause}]"),
            None => Ok(()),
        }
    }
}

impl What {
    fn words(&self, inside: bool) -> String {
        match self {
            Self::OnlyInFirst => "only in the first".to_owned(),
            Self::OnlyInSecond => "only in the second".to_owned(),
            Self::Property { name, first, second } => {
                format!("{} {} in the first, {} in the second", plain(name), plain(first), plain(second))
            }
            Self::Content { byte, first_size, second_size, opaque } => {
                let subject = if inside { "content differs" } else { "differs" };
                let why = opaque.as_ref().map(|w| format!("; not looked into: {}", plain(w))).unwrap_or_default();
                format!("{subject} at byte {byte} ({first_size} bytes, {second_size} bytes){why}")
            }
            Self::Container { how, byte } => format!("the content is the same, {} from byte {byte} on", plain(how)),
            Self::Structure { name, byte, count } => {
                let more = if *count > 1 { format!(" ({count} of its kind)") } else { String::new() };
                format!("{} differs at byte {byte}{more}", plain(name))
            }
        }
    }
}

/// Names come from what is looked into: nothing in them may move a terminal's cursor.
fn plain(text: &str) -> String {
    let one = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_data_say_the_same() {
        let one = Difference {
            at: ["box.img", "partition 1 (ext4)", "/etc/a\u{1b}b"].map(str::to_owned).to_vec(),
            what: What::Content { byte: 0, first_size: 33, second_size: 34, opaque: None },
            cause: Some("made anew at each boot"),
        };
        assert_eq!(
            one.to_string(),
            "box.img: partition 1 (ext4): /etc/a\\u{1b}b: content differs at byte 0 (33 bytes, 34 bytes) [made anew at each boot]"
        );
        let value = serde_json::to_value(&one).unwrap();
        assert_eq!(value["kind"], "content");
        assert_eq!((&value["at"][0], &value["first-size"]), (&"box.img".into(), &33.into()));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let mut report = Report::default();
        for n in 0..KEPT + 5 {
            let what = What::Structure { name: "x".to_owned(), byte: n as u64, count: 1 };
            report.push(Difference { at: Vec::new(), what, cause: None });
        }
        assert_eq!(report.lines(2).len(), 3);
        assert_eq!(report.lines(2)[2], format!("and {} more", KEPT + 3));
    }
}
