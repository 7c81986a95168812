//! Command lines for another machine's shell: environment, other users, nothing secret in them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::base::shell;

/// What `sudo` is told to ask for the password with; also what tells that it let the command in.
pub(super) const PROMPT: &str = "[labimg:password]";
/// What a command under `sudo` says on stderr before it starts.
pub(super) const STARTED: &str = "[labimg:started]";

/// A text that is in no message, log or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// As whom to run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sudo {
    /// The user: `root`.
    pub user: String,
    /// The password of who logged in, when sudo may ask. Sent over stdin, and only after sudo asked for it.
    pub password: Option<Secret>,
}

/// A command for another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    line: String,
    env: BTreeMap<String, String>,
    sudo: Option<Sudo>,
}

impl Command {
    /// What `sh -c` runs there.
    pub fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), env: BTreeMap::new(), sudo: None }
    }

    /// Sets a variable. It is part of the command line, which others on the machine can see: no place for secrets.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Runs it as another user; `None` as who logged in.
    #[must_use]
    pub fn sudo(mut self, sudo: Option<Sudo>) -> Self {
        self.sudo = sudo;
        self
    }

    /// The line, as the caller gave it, for messages.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// As whom it runs, when not as who logged in.
    pub(super) fn as_user(&self) -> Option<&Sudo> {
        self.sudo.as_ref()
    }

    /// What the login shell gets. The last program of each shell takes the shell's place, so that signals and exit codes
    /// arrive as they are.
    ///
    /// # Errors
    /// Names that are no variables, and bytes that no command line can hold.
    pub(super) fn remote(&self) -> Result<String, String> {
        let mut script = String::new();
        for (name, value) in &self.env {
            if !is_name(name) {
                return Err(format!("`{name}` is not the name of a variable"));
            }
            script.push_str(&format!("{name}={} ", quote(value)));
        }
        let exports = if script.is_empty() { script } else { format!("export {}; ", script.trim_end()) };
        let run = format!("{exports}exec sh -c {}", quote(&self.line));
        let text = match &self.sudo {
            None => run,
            Some(sudo) => {
                let inner = format!("echo {} >&2; {run}", quote(STARTED));
                let how = if sudo.password.is_some() { format!("-S -p {}", quote(PROMPT)) } else { "-n".to_owned() };
                format!("exec sudo {how} -u {} -- sh -c {}", quote(&sudo.user), quote(&inner))
            }
        };
        match text.contains('\0') {
            true => Err("a command line can not hold a NUL byte".to_owned()),
            false => Ok(text),
        }
    }
}

/// One word of a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    shell::word(Path::new(text))
}

/// XBD 8.1: letters, digits and `_`, no digit first.
fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_quoted_whole() {
        assert_eq!(Command::new("true").remote().unwrap(), "exec sh -c true");
        let command = Command::new("echo \"$A\"; it's").env("B", "x y").env("A", "$(rm)");
        assert_eq!(command.remote().unwrap(), r#"export A='$(rm)' B='x y'; exec sh -c 'echo "$A"; it'\''s'"#);
        assert!(Command::new("x").env("A B", "").remote().is_err());
        assert!(Command::new("x").env("1A", "").remote().is_err());
        assert!(Command::new("x\0").remote().is_err());
    }

    #[test]
    fn a_password_is_nowhere() {
        let sudo = Sudo { user: "root".into(), password: Some(Secret::new("hunter2")) };
        let command = Command::new("id").sudo(Some(sudo));
        assert!(!command.remote().unwrap().contains("hunter2"));
        assert!(!format!("{command:?}").contains("hunter2"));
        assert!(command.remote().unwrap().starts_with("exec sudo -S -p '[labimg:password]' -u root -- sh -c "));
    }
}
