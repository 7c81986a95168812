//! `data/debian/rules.toml`: its types. It is part of the program, so what is wrong with it is a defect.

use crate::base::digest::Digest;
use serde::Deserialize;

use super::users::WantUser;
use crate::build::BuildError;

/// The file.
const TEXT: &str = include_str!("../../../../data/debian/rules.toml");

/// Digest of the rules: whatever they shape has it in its build key.
pub fn digest() -> Digest {
    Digest::of(TEXT.as_bytes())
}

/// All rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rules {
    /// What scripts of packages do, and how it is done here.
    pub rule: Vec<Rule>,
    /// Packages that are of no use without their scripts.
    pub impossible: Vec<Impossible>,
}

/// What the scripts of one package do, and how it is done here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// The package; one `*` stands for anything.
    pub package: String,
    /// Why this is all that is needed.
    pub why: String,
    /// Directories to make.
    #[serde(default)]
    pub dirs: Vec<Put>,
    /// Files to make where they are not there yet.
    #[serde(default)]
    pub files: Vec<Put>,
    /// Links to make where nothing is yet.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Owners and modes of what is there.
    #[serde(default)]
    pub own: Vec<Put>,
    /// Users to make.
    #[serde(default)]
    pub users: Vec<WantUser>,
    /// Groups to make.
    #[serde(default)]
    pub groups: Vec<WantGroup>,
    /// Literal `--install` arguments of update-alternatives.
    #[serde(default)]
    pub alternatives: Vec<String>,
    /// Diversions it declares.
    #[serde(default)]
    pub diversions: Vec<WantDiversion>,
    /// Whether `/etc/ssl/certs` is made from the certificates of the tree.
    #[serde(default)]
    pub certificates: bool,
}

/// A directory, a file, or an owner and mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Put {
    /// Where.
    pub path: String,
    /// A file of the tree to copy.
    pub from: Option<String>,
    /// The text, in place of `from`.
    pub content: Option<String>,
    /// Texts in `from` and what they become.
    #[serde(default)]
    pub replace: Vec<(String, String)>,
    /// Octal mode.
    pub mode: Option<String>,
    /// User, by name.
    pub user: Option<String>,
    /// Group, by name.
    pub group: Option<String>,
    /// Whether dpkg is told (dpkg-statoverride(1)).
    #[serde(default)]
    pub statoverride: bool,
}

/// A link.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where.
    pub path: String,
    /// Its text.
    pub target: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantGroup {
    /// Its name.
    pub name: String,
    /// Its fixed id.
    pub gid: Option<u32>,
}

/// A diversion by the rule's package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantDiversion {
    /// The path as packages ship it.
    pub path: String,
    /// Where it goes.
    pub to: String,
}

/// A package that is of no use without its scripts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impossible {
    /// The package; one `*` stands for anything.
    pub package: String,
    /// Why, and what to do instead.
    pub why: String,
}

impl Rules {
    /// The rules of this program.
    ///
    /// # Errors
    /// [`BuildError::Internal`] when the file is wrong, which a test rules out.
    pub fn load() -> Result<Self, BuildError> {
        toml::from_str(TEXT).map_err(|e| BuildError::Internal(format!("data/debian/rules.toml: {e}")))
    }

    /// The rules of a package, in the file's order.
    pub fn of<'a>(&'a self, package: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rule.iter().filter(move |r| fits(&r.package, package))
    }

    /// Why a package is of no use without its scripts.
    pub fn impossible(&self, package: &str) -> Option<&str> {
        self.impossible.iter().find(|i| fits(&i.package, package)).map(|i| i.why.as_str())
    }
}

/// Whether a name is the pattern, in which one `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_right() {
        let rules = Rules::load().unwrap();
        assert!(rules.of("base-files").next().is_some());
        for rule in &rules.rule {
            assert!(rule.why.ends_with('.'), "{}: `why` is a sentence", rule.package);
            for command in &rule.alternatives {
                assert!(super::super::alternatives::parse(command).is_some(), "{command}");
            }
        }
        assert!(rules.impossible("linux-image-amd64").is_some());
        assert!(fits("python3.*-minimal", "python3.11-minimal") && !fits("python3.*-minimal", "python3-minimal"));
    }
}
