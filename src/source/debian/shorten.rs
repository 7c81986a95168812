//! From an index as the archive has it to its short form, package by package.

use std::io::Read;

use memchr::{memchr_iter, memmem};

use super::DebianError;
use super::index::LIMIT;
use super::odd::Odd;
use crate::base::digest::Digest;
use crate::model::debian::deb822::{self, Stanza};
use crate::model::debian::{relation, version};
use crate::source::SourceError;

/// The most bytes one package's entry may have.
const STANZA_LIMIT: usize = 4 << 20;

/// How much is decompressed at a time.
const CHUNK: usize = 1 << 20;

/// Reads an index in pieces, and gives its short form. What is wrong with one entry costs that package only.
///
/// # Errors
/// An index that can not be decompressed or is too large.
pub fn shorten(mut reader: impl Read, url: &str, architecture: &str) -> Result<String, SourceError> {
    let bad = |line: usize, package: &str, why: String| DebianError::Stanza {
        url: url.to_owned(),
        line,
        package: package.to_owned(),
        why,
    };
    let (mut out, mut buffer) = (String::new(), Vec::with_capacity(2 * CHUNK));
    let (mut lines, mut total) = (0, 0);
    loop {
        let read = reader.by_ref().take(CHUNK as u64).read_to_end(&mut buffer);
        let read = read.map_err(|e| bad(lines + 1, "?", format!("it can not be decompressed: {e}")))?;
        total += read as u64;
        let end = if read == 0 { Some(buffer.len()) } else { memmem::rfind(&buffer, b"\n\n").map(|at| at + 2) };
        if total > LIMIT || end.is_none() && buffer.len() > STANZA_LIMIT {
            return Err(bad(lines + 1, "?", "it is too large".to_owned()).into());
        }
        let whole = buffer.get(..end.unwrap_or(0)).unwrap_or_default();
        // Old archives have names of people in other encodings; what must be ASCII is checked where it is read.
        let text = String::from_utf8_lossy(whole);
        for stanza in deb822::stanzas(&text) {
            let mut row = String::new();
            match push(&mut row, &stanza, architecture) {
                Ok(()) => out.push_str(&row),
                Err((offset, why)) => {
                    let line = lines + deb822::line_at(&text, stanza.offset + offset);
                    let name = stanza.get("Package").filter(|name| !name.is_empty()).unwrap_or("?");
                    let essential = stanza.get("Essential").is_some_and(is_yes);
                    Odd { name, essential, line, url, why: &why }.append(&mut out);
                }
            }
        }
        lines += memchr_iter(b'\n', whole).count();
        if read == 0 {
            return Ok(out);
        }
        buffer.drain(..end.unwrap_or(0));
    }
}

/// The fields of a package that are looked at.
#[derive(Default)]
struct Entry<'a> {
    package: &'a str,
    version: &'a str,
    architecture: &'a str,
    essential: bool,
    priority: u8,
    size: &'a str,
    sha256: &'a str,
    filename: &'a str,
    /// `Provides`, `Pre-Depends`, `Depends`, `Conflicts`, `Breaks`.
    relations: [&'a str; 5],
}

/// Appends one package; an error says where in the stanza, and what is wrong.
fn push(out: &mut String, stanza: &Stanza<'_>, architecture: &str) -> Result<(), (usize, String)> {
    let mut entry = Entry { priority: 5, ..Entry::default() };
    // A line that is no field says nothing of the others.
    for field in stanza.fields().filter_map(Result::ok) {
        let mut relations = |at: usize| {
            relation::check(field.value).map_err(|e| (field.offset, format!("{}: {e}", field.name)))?;
            entry.relations[at] = field.value;
            Ok(())
        };
        match known(field.name) {
            "Package" => entry.package = field.value,
            "Version" => entry.version = field.value,
            "Architecture" => entry.architecture = field.value,
            "Essential" => entry.essential = is_yes(field.value),
            "Priority" => entry.priority = priority(field.value),
            "Size" => entry.size = field.value,
            "SHA256" => entry.sha256 = field.value,
            "Filename" => entry.filename = field.value,
            "Provides" => relations(0)?,
            "Pre-Depends" => relations(1)?,
            "Depends" => relations(2)?,
            "Conflicts" => relations(3)?,
            "Breaks" => relations(4)?,
            _ => {}
        }
    }
    let (filename, sha256) = (plain_path(entry.filename), entry.sha256.to_ascii_lowercase());
    (entry.filename, entry.sha256) = (&filename, &sha256);
    entry.check(architecture).map_err(|why| (0, why))?;
    entry.append(out);
    Ok(())
}

/// The fields that are looked at.
const FIELDS: [&str; 13] = [
    "Package",
    "Version",
    "Architecture",
    "Essential",
    "Priority",
    "Size",
    "SHA256",
    "Filename",
    "Provides",
    "Pre-Depends",
    "Depends",
    "Conflicts",
    "Breaks",
];

/// A field's name as policy spells it: names differ not by case (policy 5.1).
fn known(name: &str) -> &str {
    FIELDS.iter().find(|known| known.eq_ignore_ascii_case(name)).copied().unwrap_or(name)
}

/// A path below the archive's root, without `/` and `./` before it and doubled slashes in it: apt takes these.
fn plain_path(path: &str) -> String {
    path.split('/').filter(|step| !matches!(*step, "" | ".")).collect::<Vec<_>>().join("/")
}

fn is_yes(value: &str) -> bool {
    value.eq_ignore_ascii_case("yes")
}

fn priority(text: &str) -> u8 {
    let known = ["required", "important", "standard", "optional", "extra"];
    known.iter().position(|p| *p == text).map_or(5, |at| at as u8)
}

impl Entry<'_> {
    fn check(&self, architecture: &str) -> Result<(), String> {
        if !relation::is_package_name(self.package) {
            return Err("it has no name".to_owned());
        }
        version::check(self.version).map_err(|e| e.to_string())?;
        if self.architecture != architecture && self.architecture != "all" {
            return Err(format!("its architecture is `{}`, not {architecture} or all", self.architecture));
        }
        if !self.size.bytes().all(|c| c.is_ascii_digit()) || self.size.parse::<u64>().is_err() {
            return Err(format!("its size is `{}`", self.size));
        }
        Digest::from_hex(self.sha256).map_err(|_| "it has no SHA256 digest".to_owned())?;
        let steps = |path: &str| path.split('/').all(|step| !matches!(step, "" | "." | ".."));
        // U+FFFD: it was no UTF-8.
        if !steps(self.filename)
            || self.filename.contains('\u{fffd}')
            || self.filename.contains(['?', '#', '\\', '%'])
            || has_control(self.filename)
        {
            return Err(format!("its file is `{}`, which is no path in an archive", self.filename));
        }
        Ok(())
    }

    fn append(&self, out: &mut String) {
        let Self { package, version, architecture, size, sha256, filename, .. } = self;
        let essential = if self.essential { "E" } else { "" };
        let [provides, pre, depends, conflicts, breaks] = self.relations;
        let priority = char::from(b'0' + self.priority);
        for field in [package, version, architecture, essential] {
            out.push_str(field);
            out.push('\t');
        }
        out.push(priority);
        out.push('\t');
        push_relation(out, provides);
        for field in [size, sha256, filename] {
            out.push('\t');
            out.push_str(field);
        }
        out.push('\t');
        push_relation(out, pre);
        if !pre.is_empty() && !depends.is_empty() {
            out.push_str(", ");
        }
        for field in [depends, conflicts, breaks] {
            push_relation(out, field);
            out.push('\t');
        }
        out.push('\n');
    }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|c| c.is_ascii_control())
}

/// On one line, without tabs.
fn push_relation(out: &mut String, value: &str) {
    if has_control(value) {
        out.push_str(&deb822::unfolded(value).replace('\t', " "));
    } else {
        out.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::Row;
    use super::super::odd::remark;
    use super::*;

    fn stanza(name: &str, more: &str) -> String {
        let sha256 = Digest::of(name.as_bytes()).hex();
        format!(
            "Package: {name}\nVersion: 1.0-1\nArchitecture: amd64\nFilename: ./pool/{name}.deb\nSize: 7\nSHA256: {sha256}\n{more}\n"
        )
    }

    fn short(text: &str) -> Result<String, String> {
        shorten(text.as_bytes(), "u", "amd64").map_err(|e| e.to_string())
    }

    #[test]
    fn a_package_comes_back() {
        let more = "Essential: yes\nPriority: required\nPre-Depends: libc6 (>= 2.36)\nDepends: b,\n\tc | d\nProvides: v (= 2)\nBreaks: x\n";
        let text = short(&(stanza("a", more) + &stanza("b", ""))).unwrap();
        let rows: Vec<Row> = text.lines().map(|l| Row::parse(l).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        let a = rows[0];
        assert_eq!((a.name, a.version, a.architecture), ("a", "1.0-1", "amd64"));
        assert!(text.starts_with("a\t1.0-1\tamd64\tE\t0\tv (= 2)\t7\t"), "{text}");
        assert_eq!((a.size, a.path, a.provides), (7, "pool/a.deb", "v (= 2)"));
        assert_eq!((a.depends, a.conflicts, a.breaks), ("libc6 (>= 2.36), b, c | d", "", "x"));
        assert_eq!((rows[1].name, rows[1].depends), ("b", ""));
    }

    #[test]
    fn malformed_entries_cost_themselves_only() {
        let good = stanza("a", "");
        for (text, line, package, why) in [
            (stanza("b", "").replace("1.0-1", "1 0"), 8, "b", "no version"),
            (stanza("b", "").replace("Version: 1.0-1\n", ""), 8, "b", "no version"),
            (stanza("b", "").replace("Size: 7", "Size: -7"), 8, "b", "size"),
            (stanza("b", "").replace("SHA256", "MD5sum"), 8, "b", "no SHA256"),
            (stanza("b", "").replace("./pool/", "../../"), 8, "b", "path"),
            (stanza("b", "").replace("Filename", "File"), 8, "b", "path"),
            (stanza("b", "").replace("amd64", "i386"), 8, "b", "`i386`"),
            (stanza("b", "Depends: b (>= )\n"), 14, "b", "Depends: `b (>= )`"),
            ("Version: 1\n\n".to_owned(), 8, "?", "no name"),
        ] {
            let short = short(&format!("{good}{text}{}", stanza("z", ""))).unwrap();
            let lines: Vec<&str> = short.lines().collect();
            let names: Vec<Option<&str>> = lines.iter().map(|l| Row::parse(l).map(|row| row.name)).collect();
            assert_eq!(names, [Some("a"), None, Some("z")], "{short}");
            let odd = Odd::parse(lines[1]).unwrap();
            assert_eq!((odd.name, odd.line, odd.url), (package, line, "u"));
            assert!(odd.why.contains(why), "{}", odd.why);
        }
        assert_eq!(short("\n\n").unwrap(), "");
        assert_eq!(remark(&short(&good).unwrap()), None);
        let many: String = (0..9).map(|n| stanza(&format!("p{n}"), "").replace("1.0-1", "-")).collect();
        let remark = remark(&short(&many).unwrap()).unwrap();
        assert!(remark.contains("p0 (line 1: `-` is no version") && remark.ends_with("and 6 more"), "{remark}");
    }

    #[test]
    fn entries_as_other_tools_write_them_are_read() {
        let plain = short(&stanza("b", "Depends: c (= 1)\n")).unwrap();
        let spelled = |text: String| short(&text).unwrap();
        for (from, to) in [("./pool", "/pool"), ("./pool", "/./pool/"), ("./pool/", "pool//./"), ("./pool", ".//pool")]
        {
            assert_eq!(spelled(stanza("b", "Depends: c (= 1)\n").replace(from, to)), plain, "{to}");
        }
        let hex = Digest::of(b"b").hex();
        let upper =
            stanza("b", "DEPENDS: c (1)\nnonsense\n").replace(&hex, &hex.to_uppercase()).replace("Package", "package");
        assert_eq!(spelled(upper).replace("c (1)", "c (= 1)"), plain);
        let mut latin = b"Maintainer: J\xf6rg\n".to_vec();
        latin.extend(stanza("b", "Depends: c (= 1)\n").into_bytes());
        assert_eq!(shorten(&latin[..], "u", "amd64").unwrap(), plain);
    }

    #[test]
    fn pieces_make_no_difference() {
        let text: String = (0..20_000).map(|n| stanza(&format!("p{n}"), "Depends: libc6\n")).collect();
        assert!(text.len() > 3 * CHUNK);
        assert_eq!(short(&text).unwrap().lines().count(), 20_000);
        let wrong = short(&(text + &stanza("last", "").replace("7", "x"))).unwrap();
        let odd = Odd::parse(wrong.lines().last().unwrap()).unwrap();
        assert_eq!((odd.name, odd.line), ("last", 160_001));
    }
}
