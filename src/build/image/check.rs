//! Whether an image can start: its program is there, executable, and for the right machine; so is a script's interpreter; its
//! user exists; its wheels are for the Python it has. Judged by listings, so that nothing is unpacked.

use std::collections::BTreeSet;

use super::accounts::Accounts;
use super::config::environment;
use crate::build::BuildError;
use crate::build::listing::{ItemKind, Listing, Runs};
use crate::model::image_def::ImageDef;
use crate::model::platform::Platform;

/// Scripts that are other scripts' interpreters: the kernel goes this deep (execve(2), "Interpreter scripts").
const MAX_DEPTH: usize = 4;

/// What runs, and where it would.
struct Machine<'a> {
    view: &'a Listing,
    platform: Platform,
    path: &'a str,
    working_dir: &'a str,
}

/// Checks `def` against `view`, all its layers merged.
///
/// # Errors
/// What keeps it from starting: what was looked for, and where.
pub fn check(def: &ImageDef, platform: Platform, view: &Listing) -> Result<(), BuildError> {
    let config = &def.config;
    let accounts = Accounts::of(view);
    accounts.owner(config.user.as_ref().map(|u| u.as_str()), "the user it runs as")?;
    let working_dir = config.working_dir.as_ref().map_or("/", |d| d.as_str());
    if !view.resolve(working_dir).is_some_and(|d| view.is_dir(&d)) {
        let message = format!("the image's working directory `{working_dir}` is no directory in it");
        return Err(BuildError::user(message, "give a `[[dir]]` of that path"));
    }
    wheels_fit(view)?;
    let environment = environment(config);
    let path = environment.get("PATH").copied().unwrap_or_default();
    let machine = Machine { view, platform, path, working_dir };
    let (key, program) = match (config.entrypoint.first(), config.cmd.first()) {
        (Some(program), _) => ("entrypoint", program),
        (None, Some(program)) => ("cmd", program),
        (None, None) => return Ok(()),
    };
    machine.runs(program, 0).map_err(|why| {
        let message = format!("the image's {key} `{}` can not run on {platform}: {why}", **program);
        BuildError::user(message, "name a program that a package, a wheel or a `[[file]]` of mode 0755 brings")
    })
}

/// Whether an image that has a Python has the one its wheels are for: another one does not look where they are. Wheels for a
/// Python that is none of Debian's have a place of their own (`wheels-to`).
fn wheels_fit(view: &Listing) -> Result<(), BuildError> {
    let (mut wanted, mut there) = (BTreeSet::new(), BTreeSet::new());
    for path in view.entries.keys() {
        let parts: Vec<&str> = path.as_str().split('/').collect();
        match parts[..] {
            ["usr", "local", "lib", python, "dist-packages", info] if info.ends_with(".dist-info") => {
                wanted.extend(python.strip_prefix("python"));
            }
            ["usr", "bin", name] | ["usr", "local", "bin", name] => {
                there.extend(name.strip_prefix("python").filter(|v| is_version(v)));
            }
            _ => {}
        }
    }
    let Some(python) = wanted.difference(&there).next().filter(|_| !there.is_empty()) else { return Ok(()) };
    let has = there.iter().copied().collect::<Vec<_>>().join(" and ");
    Err(BuildError::user(
        format!("the image's wheels are for Python {python}, but it has Python {has}"),
        format!("write python = \"{has}\" in the [[wheel]] table, and lock again"),
    ))
}

/// `3.11`, as in the name of an interpreter; not `3`, not `3.11-config`.
fn is_version(text: &str) -> bool {
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| numeric(major) && numeric(minor))
}

impl Machine<'_> {
    /// Why `program` does not run, where it does not.
    fn runs(&self, program: &str, depth: usize) -> Result<(), String> {
        let place = if program.contains('/') { self.in_place(program)? } else { self.in_path(program)? };
        let item = self.view.resolve(&place).and_then(|p| self.view.entries.get(&p));
        match item.map(|i| &i.kind) {
            Some(ItemKind::File(Runs::On(platforms))) => {
                let wanted = format!("{}/{}", self.platform.os(), self.platform.arch());
                let fits = platforms.split('+').any(|p| p == wanted);
                if fits { Ok(()) } else { Err(format!("`{place}` is a program for {platforms}")) }
            }
            Some(ItemKind::File(Runs::Script(line))) if depth < MAX_DEPTH => self
                .interpreted(&place, line, depth)
                .map_err(|why| format!("`{place}` is a script (`#!{line}`): {why}")),
            Some(ItemKind::File(Runs::Script(_))) => Err(format!("`{place}` is a script run by scripts without end")),
            Some(ItemKind::File(Runs::Other(what))) => Err(format!("`{place}` is {what}")),
            Some(ItemKind::File(Runs::Never)) => Err(format!("`{place}` is not executable")),
            Some(_) => Err(format!("`{place}` is no file")),
            None => Err(format!("there is no `{place}` in it")),
        }
    }

    fn in_place(&self, program: &str) -> Result<String, String> {
        let path = match program.starts_with('/') {
            true => program.to_owned(),
            false => format!("{}/{program}", self.working_dir.trim_end_matches('/')),
        };
        match self.view.resolve(&path) {
            None => Err(format!("`{path}` leads through a loop of symbolic links")),
            Some(found) if self.view.entries.contains_key(&found) => Ok(path),
            Some(found) if format!("/{}", path.trim_start_matches('/')) == found.to_string() => {
                Err(format!("there is no `{path}` in it"))
            }
            Some(found) => Err(format!("`{path}` leads to `{found}`, which is not there")),
        }
    }

    /// The first executable of that name, as execvp(3) finds it.
    fn in_path(&self, name: &str) -> Result<String, String> {
        let mut passed = None;
        for dir in self.path.split(':') {
            let dir = if dir.is_empty() { self.working_dir } else { dir };
            let path = format!("{}/{name}", dir.trim_end_matches('/'));
            let item = self.view.resolve(&path).and_then(|p| self.view.entries.get(&p));
            match item.map(|i| &i.kind) {
                Some(ItemKind::File(Runs::Never)) => passed = passed.or(Some(path)),
                Some(ItemKind::File(_)) => return Ok(path),
                _ => {}
            }
        }
        Err(match passed {
            Some(path) => format!("`{path}` is not executable"),
            None => format!("there is no `{name}` in its PATH ({})", self.path),
        })
    }

    fn interpreted(&self, place: &str, line: &str, depth: usize) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let Some(interpreter) = words.next() else { return Err("it names no interpreter".to_owned()) };
        if !interpreter.starts_with('/') {
            return Err(format!("its interpreter `{interpreter}` is no absolute path"));
        }
        if line.ends_with('\r') {
            return Err(format!("the first line of `{place}` ends in a carriage return"));
        }
        self.runs(interpreter, depth + 1)?;
        if !interpreter.ends_with("/env") {
            return Ok(());
        }
        // `env -S name`, `env VAR=x name`: what env itself would run.
        match words.find(|w| !w.starts_with('-') && !w.contains('=')) {
            Some(name) => self.runs(name, depth + 1),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tree::{Content, Entry, Tree};
    use crate::model::guest_path::GuestPath;

    #[test]
    fn wheels_must_be_for_the_python_that_is_there() {
        let fits = |paths: &[&str]| {
            let mut tree = Tree::default();
            for path in paths {
                let file = Entry::file(&"test".into(), 0o755, Content::bytes(Vec::new()));
                tree.put(GuestPath::parse(path).unwrap(), file);
            }
            wheels_fit(&Listing::of(&tree).unwrap()).map_err(|e| format!("{e}; {}", e.hint().unwrap()))
        };
        let wheel = "usr/local/lib/python3.12/dist-packages/flask-3.0.3.dist-info/METADATA";
        assert_eq!(fits(&[wheel]), Ok(()), "perhaps its Python is not Debian's");
        assert_eq!(fits(&[wheel, "usr/bin/python3.12", "usr/bin/python3.13", "usr/bin/python3.11-config"]), Ok(()));
        assert_eq!(fits(&["usr/bin/python3.11", "usr/bin/python3"]), Ok(()));
        assert_eq!(
            fits(&[wheel, "usr/bin/python3.11"]).unwrap_err(),
            "the image's wheels are for Python 3.12, but it has Python 3.11; \
             write python = \"3.11\" in the [[wheel]] table, and lock again"
        );
    }
}
