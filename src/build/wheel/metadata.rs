//! What a wheel says of itself: `WHEEL`, `METADATA`, `entry_points.txt`.
//!
//! Formats: "Binary distribution format", "Core metadata", "Entry points" (PyPA specifications).

use super::INTERPRETER;

/// The value of a header in a text of `Key: value` lines, which ends at the first empty line.
pub fn header<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let mut pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.trim())
}

/// Whether labimg knows this version of the wheel format: 1.x.
///
/// # Errors
/// What is wrong with it.
pub fn check_format(wheel: &str) -> Result<(), String> {
    let version = header(wheel, "Wheel-Version").ok_or("its WHEEL has no Wheel-Version")?;
    match version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(format!("its format is version {version}; labimg knows 1")),
    }
}

/// A program that a wheel wants made.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    module: String,
    object: String,
}

impl Program {
    /// The script: a text of labimg's own, the same everywhere.
    pub fn script(&self) -> String {
        let first = self.object.split('.').next().unwrap_or_default();
        format!(
            "#!{INTERPRETER}\nimport sys\n\nfrom {} import {first}\n\nif __name__ == \"__main__\":\n    sys.exit({}())\n",
            self.module, self.object
        )
    }
}

/// The programs of `console_scripts` and `gui_scripts`, sorted by name.
///
/// # Errors
/// An entry that names no program or no object.
pub fn programs(entry_points: &str) -> Result<Vec<Program>, String> {
    let mut programs = Vec::new();
    let mut wanted = false;
    for line in entry_points.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            wanted = matches!(section.trim(), "console_scripts" | "gui_scripts");
        } else if wanted {
            let program = program(line).ok_or_else(|| format!("its entry point `{line}` names no program"))?;
            // As with pip, of two of one name the last one counts.
            programs.retain(|known: &Program| known.name != program.name);
            programs.push(program);
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// `name = module:object [extras]`.
fn program(line: &str) -> Option<Program> {
    let (name, reference) = line.split_once('=')?;
    let (module, object) = reference.split('[').next()?.split_once(':')?;
    let (name, module, object) = (name.trim(), module.trim(), object.trim());
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let named = !name.is_empty() && name.len() <= 255 && name.chars().all(letters) && !name.starts_with(['.', '-']);
    let dotted = |text: &str| text.split('.').all(is_identifier);
    let program = Program { name: name.to_owned(), module: module.to_owned(), object: object.to_owned() };
    (named && dotted(module) && dotted(object)).then_some(program)
}

/// An ASCII identifier of Python's; others are refused, as nothing here knows Unicode's rules for them.
fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_become_programs() {
        let text = "[other]\nx = y:z\n[console_scripts]\n; no\nzed = a.b:c.d [extra]\nflask=flask.cli:main\n";
        let programs = programs(text).unwrap();
        let names: Vec<&str> = programs.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["flask", "zed"]);
        assert!(programs[1].script().contains("from a.b import c\n"));
        assert!(programs[1].script().ends_with("sys.exit(c.d())\n"));
    }

    #[test]
    fn entry_points_that_would_write_code_or_paths_are_refused() {
        for line in
            ["../x = a:b", "x/y = a:b", "x = a", "x = a:b()", "x = os; import y:z", "= a:b", ".. = a:b", "-x = a:b"]
        {
            assert!(programs(&format!("[console_scripts]\n{line}\n")).is_err(), "{line}");
        }
        let twice = programs("[console_scripts]\na=b:c\na=d:e\n").unwrap();
        assert!(twice.len() == 1 && twice[0].script().contains("from d import e\n"));
    }

    #[test]
    fn headers() {
        let text = "Wheel-Version: 1.9\nTag: py3-none-any\n\nWheel-Version: 2.0\n";
        assert_eq!(header(text, "tag"), Some("py3-none-any"));
        assert!(check_format(text).is_ok());
        assert!(check_format("Wheel-Version: 2.0\n").unwrap_err().contains("2.0"));
        assert!(check_format("").is_err());
    }
}
