//! Words for a person's shell: a path in a command that can be copied as it stands.

use std::path::Path;

/// `path` as one word of a POSIX shell (XCU 2.2, "Quoting"): quoted only where it must be.
pub fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_change_is_quoted() {
        let of = |text: &str| word(Path::new(text));
        assert_eq!(of("profiles/x-1.toml"), "profiles/x-1.toml");
        assert_eq!(of("my lab/x.toml"), "'my lab/x.toml'");
        assert_eq!(of("it's/$HOME"), r"'it'\''s/$HOME'");
        assert_eq!(of(""), "''");
    }
}
