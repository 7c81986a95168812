//! What dpkg says is installed (its `status` file: deb822(5), fields of deb-control(5)) beside what the lock names.

use std::collections::BTreeMap;

use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::tree::Tree;
use crate::model::lock::LockedPackage;

/// Where dpkg writes it.
const PATH: &str = "var/lib/dpkg/status";
/// How many differences a message names.
const SHOWN: usize = 8;

/// Checks that exactly the locked packages are installed in `tree`.
///
/// # Errors
/// What is missing, too much, of another version, or not configured.
pub(super) fn check(tree: &Tree, packages: &[LockedPackage]) -> Result<(), BuildError> {
    let text = inside::text(tree, PATH).ok_or_else(|| BuildError::bad("the root tree", format!("no `{PATH}`")))?;
    let wrong = differences(&text, packages);
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = wrong.get(..wrong.len().min(SHOWN)).unwrap_or_default().join("; ");
    Err(BuildError::bad("the installed packages are not those of the lock", format!("{shown}{more}")))
}

fn differences(text: &str, packages: &[LockedPackage]) -> Vec<String> {
    let mut installed = BTreeMap::new();
    let mut wrong = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("");
        if field("Package").is_empty() {
            continue;
        }
        if field("Status") != "install ok installed" {
            wrong.push(format!("{} is `{}`", field("Package"), field("Status")));
        }
        installed.insert((field("Package"), field("Architecture")), field("Version"));
    }
    for package in packages {
        let (name, want) = (package.name.as_str(), package.version.as_str());
        match installed.remove(&(name, package.architecture.as_str())) {
            Some(has) if has == want => {}
            Some(has) => wrong.push(format!("{name} is {has}, not {want}")),
            None => wrong.push(format!("{name} {want} is not installed")),
        }
    }
    wrong.extend(installed.iter().map(|((name, _), has)| format!("{name} {has} is not in the lock")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    fn package(name: &str, version: &str) -> LockedPackage {
        let text = |t: &str| t.to_owned();
        LockedPackage {
            debian: text("d"),
            name: text(name),
            version: text(version),
            architecture: text("all"),
            suite: text("s"),
            archive: text("debian"),
            path: text("p"),
            digest: Digest::of(b"x"),
            size: 1,
            sets: Vec::new(),
        }
    }

    #[test]
    fn every_difference_is_named() {
        let stanza = |name: &str, version: &str, status: &str| {
            format!("Package: {name}\nStatus: install ok {status}\nArchitecture: all\nVersion: {version}\n\n")
        };
        let good = stanza("a", "1", "installed") + &stanza("b", "2:1~x", "installed");
        let want = [package("b", "2:1~x"), package("a", "1")];
        assert_eq!(differences(&good, &want), Vec::<String>::new());
        let bad = stanza("a", "2", "installed") + &stanza("c", "1", "half-configured");
        assert_eq!(
            differences(&bad, &want),
            [
                "c is `install ok half-configured`",
                "b 2:1~x is not installed",
                "a is 2, not 1",
                "c 1 is not in the lock"
            ]
        );
    }
}
