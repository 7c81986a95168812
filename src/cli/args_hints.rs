//! Every command line that labimg or its documentation shows is one that labimg takes.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory};

use super::args::{Cli, parse};

/// The files that show commands: sources, documentation, profiles.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut todo: Vec<PathBuf> = ["src", "docs", "profiles", "images"].iter().map(|d| root.join(d)).collect();
    let mut found = vec![root.join("README.md")];
    while let Some(dir) = todo.pop() {
        for entry in fs_err::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            let ending = entry.extension().and_then(|e| e.to_str()).unwrap_or_default();
            match (entry.is_dir(), ["rs", "md", "toml"].contains(&ending)) {
                (true, _) => todo.push(entry),
                (false, true) if !entry.ends_with("args_hints.rs") && !entry.ends_with("tests.rs") => found.push(entry),
                _ => {}
            }
        }
    }
    found
}

/// The command lines in a text: between backticks, after `$ `, or to the end of a string or clause in a source.
fn commands(text: &str, verbs: &[String], source: bool) -> Vec<String> {
    // A string that goes on in the next line is one.
    let mut joined = String::new();
    for (i, part) in text.split("\\\n").enumerate() {
        joined.push_str(if i == 0 { part } else { part.trim_start() });
    }
    let mut found = Vec::new();
    for (at, _) in joined.match_indices("labimg ") {
        let before = joined[..at].chars().next_back().unwrap_or('\n');
        let rest = &joined[at..];
        let verb: String =
            rest["labimg ".len()..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        if !verbs.contains(&verb) {
            continue;
        }
        // A comment is shown to nobody, but for those that clap makes help texts of.
        let line = &joined[joined[..at].rfind('\n').map_or(0, |i| i + 1)..at];
        let comment = line.trim_start().starts_with("//");
        if source && comment && !line.trim_start().starts_with("/// ") {
            continue;
        }
        let end = match before {
            '`' => rest.find('`'),
            '"' | ' ' | '(' if source && !comment => ends(rest),
            ' ' | '(' if line.trim_end().ends_with(['$', '(']) => ends(rest),
            _ => continue,
        };
        found.push(rest[..end.unwrap_or(rest.len())].to_owned());
    }
    found
}

/// Where a command that no backtick closes ends.
fn ends(rest: &str) -> Option<usize> {
    ["\"", "\\\"", " > ", ";", ", ", ")", " (", " && ", " | ", " #", "  ", "\\n", "\n", "`"]
        .iter()
        .filter_map(|end| rest.find(end))
        .min()
}

/// The words of a command, with something where a source fills in a value.
fn words(command: &str) -> Vec<String> {
    let mut text = command.replace("\\\"", "").replace(['\'', '"'], "");
    while let (Some(start), Some(end)) = (text.find('{'), text.find('}')) {
        text.replace_range(start..=end.max(start), "X");
    }
    // What is run in a toolchain is filled in by who shows it.
    if text.starts_with("labimg toolchain exec") && !text.contains(" -- ") {
        text.push_str(" -- CMD");
    }
    let words = text
        .split_whitespace()
        .take_while(|w| *w != ">" && !w.contains('…') && !w.contains("...") && !w.starts_with('['));
    words.map(str::to_owned).collect()
}

/// What is wrong with a command; a verb alone is a name, not a line to type.
fn wrong(command: &str) -> Option<String> {
    let words = words(command);
    let bare = words.iter().all(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !w.starts_with('-'));
    let error = parse(words.iter().map(Into::into)).err()?;
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => None,
        ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand if bare => None,
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            None
        }
        _ => Some(format!("{}: {error}", words.join(" "))),
    }
}

#[test]
fn every_command_that_is_shown_runs() {
    let verbs: Vec<String> = Cli::command().get_subcommands().map(Command::get_name).map(str::to_owned).collect();
    let (mut seen, mut bad) = (0, Vec::new());
    for file in files() {
        let text = fs_err::read_to_string(&file).unwrap();
        let source = file.extension().is_some_and(|e| e == "rs");
        let helps = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("args"));
        let text = if source && !helps { text.replace("/// ", "// ") } else { text };
        for command in commands(&text, &verbs, source) {
            seen += 1;
            bad.extend(wrong(&command).map(|why| format!("{}: {why}", file.display())));
        }
    }
    assert!(seen > 100, "only {seen} commands were found");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_command_that_does_not_run_is_found() {
    let verbs = ["lock".to_owned(), "up".to_owned()];
    let text = "let x = \"see (`labimg lock --update labimg`), or labimg up --nope X; then\"; // labimg up is a verb";
    let found = commands(text, &verbs, true);
    assert!(
        found.starts_with(&["labimg lock --update labimg".to_owned(), "labimg up --nope X".to_owned()]),
        "{found:?}"
    );
    assert!(found[..2].iter().all(|command| wrong(command).is_some()), "{found:?}");
    assert_eq!(wrong("labimg lock"), None, "a verb is named");
}
