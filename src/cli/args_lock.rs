//! `labimg lock`: which inputs move. Every order that has one meaning is taken; one that has two is refused with both.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Error};

/// What `--update` without a name means: all inputs. No argument can hold it, so none is taken for it.
const ALL: &str = "\0";

/// `labimg lock`
#[derive(Debug, Args)]
#[command(override_usage = "labimg lock [--update <NAME>]... [OPTIONS] <PROFILE>")]
pub struct LockArgs {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,
    /// Names after `PROFILE --update NAME`, as they were written before `--update` was repeatable.
    #[arg(hide = true, value_name = "NAME")]
    more: Vec<String>,
    /// Resolve this input anew: a name, an image, `labimg` or `epoch` (repeatable; `A,B` are two). Last and without a name: all
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        default_missing_value = ALL,
        value_delimiter = ',',
        action = clap::ArgAction::Append,
        conflicts_with = "check"
    )]
    update: Vec<String>,
    /// Resolve every input anew
    #[arg(long, conflicts_with = "check")]
    update_all: bool,
    /// Change nothing; exit code 3 when the lock would change
    #[arg(long)]
    pub check: bool,
}

impl LockArgs {
    /// Whether every input is to be resolved anew.
    pub fn moves_all(&self) -> bool {
        self.update_all || self.update.iter().any(|name| name == ALL)
    }

    /// The inputs to resolve anew.
    pub fn names(&self) -> Vec<String> {
        self.update.iter().chain(&self.more).filter(|name| *name != ALL).cloned().collect()
    }
}

/// Refuses a line that clap takes and that could mean two things: names that follow names, before the profile.
///
/// # Errors
/// The line that was meant, as far as it can be told.
pub fn check(matches: &ArgMatches) -> Result<(), Error> {
    let Some(more) = matches.get_many::<String>("more") else { return Ok(()) };
    let updates: Vec<&str> = matches.get_many::<String>("update").into_iter().flatten().map(String::as_str).collect();
    let profile = matches.get_one::<PathBuf>("profile").map(|p| p.display().to_string()).unwrap_or_default();
    let mut rest: Vec<&str> = std::iter::once(profile.as_str()).chain(more.map(String::as_str)).collect();
    if updates.is_empty() {
        let text = format!("unexpected argument '{}' found: one profile is locked at a time", rest[1..].join(" "));
        return Err(Error::raw(ErrorKind::UnknownArgument, text));
    }
    let first_update = matches.indices_of("update").and_then(|mut all| all.next());
    if matches.index_of("profile") < first_update && !updates.contains(&ALL) {
        return Ok(());
    }
    let profile = rest.iter().position(|r| r.ends_with(".toml")).unwrap_or(rest.len() - 1);
    let profile = rest.remove(profile);
    let names = updates.into_iter().filter(|name| *name != ALL).chain(rest);
    let names: String = names.map(|name| format!("--update {name} ")).collect();
    let text = format!("`--update` takes one NAME each\n\n  tip: labimg lock {names}{profile}");
    Err(Error::raw(ErrorKind::TooManyValues, text))
}

#[cfg(test)]
mod tests {
    use crate::cli::args::{Verb, parse};

    /// What a line after `labimg lock` means: the profile, whether all moves, and the names; or the error.
    fn read(line: &str) -> Result<(String, bool, Vec<String>), String> {
        let words = ["labimg", "lock"].into_iter().chain(line.split(' ')).map(Into::into);
        match parse(words).map_err(|e| e.to_string())?.verb {
            Verb::Lock(args) => {
                let mut names = args.names();
                names.sort();
                Ok((args.profile.display().to_string(), args.moves_all(), names))
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn every_order_that_has_one_meaning_is_taken() {
        for (line, all, names) in [
            ("lab.toml", false, &[][..]),
            ("--update a lab.toml", false, &["a"]),
            ("lab.toml --update a", false, &["a"]),
            ("--update a --update b lab.toml", false, &["a", "b"]),
            ("--update a,b lab.toml --update=c", false, &["a", "b", "c"]),
            ("lab.toml --update a b", false, &["a", "b"]),
            ("lab.toml --update a b --update c", false, &["a", "b", "c"]),
            ("lab.toml --update", true, &[]),
            ("--update -- lab.toml", true, &[]),
            ("lab.toml --update --json", true, &[]),
            ("--update-all lab.toml", true, &[]),
            ("--update a --update-all lab.toml", true, &["a"]),
        ] {
            let names = names.iter().map(|n| (*n).to_owned()).collect();
            assert_eq!(read(line), Ok(("lab.toml".to_owned(), all, names)), "{line}");
        }
    }

    #[test]
    fn a_line_of_two_meanings_is_refused_with_the_one_that_was_meant() {
        for (line, tip) in [
            ("--update a b lab.toml", "labimg lock --update a --update b lab.toml\n"),
            ("--update a lab.toml b", "labimg lock --update a --update b lab.toml\n"),
            ("--update a b c", "labimg lock --update a --update b c\n"),
            (
                "--update lab.toml",
                "labimg lock lab.toml --update NAME` moves one input, `labimg lock lab.toml --update-all`",
            ),
            ("a.toml b.toml", "unexpected argument 'b.toml' found"),
            ("lab.toml --update a --check", "cannot be used with"),
            ("lab.toml --update-all --check", "cannot be used with"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(tip) && error.contains("Usage: labimg lock ["), "{line}: {error}");
        }
        assert_eq!(
            read("lab.toml --update "),
            Ok(("lab.toml".to_owned(), false, vec![String::new()])),
            "no name is not all"
        );
    }
}
