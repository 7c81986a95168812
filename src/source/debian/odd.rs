//! Packages whose entries in an index are not as they must be: lines of their own in the short form.

/// How lines of odd entries start; no package's name has it in it.
const ODD: &str = "!";

/// The most characters kept of a name, a URL, and what is wrong.
const LONGEST: usize = 300;

/// How many odd packages a note names.
const MOST_NAMED: usize = 3;

/// A package's entry that is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odd<'a> {
    /// The package; `?` where it does not say.
    pub name: &'a str,
    /// Whether it says that it is essential.
    pub essential: bool,
    /// The line its entry starts at, or the line that is wrong.
    pub line: usize,
    /// The index.
    pub url: &'a str,
    /// What is wrong with it.
    pub why: &'a str,
}

impl<'a> Odd<'a> {
    /// Reads a line of the short form; `None` for what is none.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.strip_prefix(ODD)?.strip_prefix('\t')?.splitn(5, '\t');
        let mut next = || fields.next();
        Some(Self { name: next()?, essential: next()? == "E", line: next()?.parse().ok()?, url: next()?, why: next()? })
    }

    /// Appends its line.
    pub fn append(&self, out: &mut String) {
        // On one line, and no longer than a person reads.
        let plain = |text: &str| -> String {
            text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
        };
        let Self { name, line, url, why, .. } = self;
        let essential = if self.essential { "E" } else { "" };
        out.push_str(&format!("{ODD}\t{}\t{essential}\t{line}\t{}\t{}\n", plain(name), plain(url), plain(why)));
    }
}

/// What is to be said of the odd entries of a short form; nothing where there are none.
pub fn remark(text: &str) -> Option<String> {
    let odd: Vec<Odd<'_>> = text.lines().filter_map(Odd::parse).collect();
    let first = odd.first()?;
    let names: Vec<String> =
        odd.iter().take(MOST_NAMED).map(|o| format!("{} (line {}: {})", o.name, o.line, o.why)).collect();
    let more = odd.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("`{}`: passed over, as their entries are not as they must be: {}{more}", first.url, names.join(", ")))
}
