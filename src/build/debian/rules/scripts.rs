//! What a maintainer script does on a fresh installation, as far as reading can tell: what surely has no effect here is struck
//! out; literal alternatives, users, groups, owners and directories are taken; what remains needs a written rule.

use super::accounts::{self, Done};
use super::alternatives::{self, Alternative};
use super::shape::Shape;
use crate::build::debian::unpack::Unpacked;

/// What is left of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Alternatives it installs.
    pub alternatives: Vec<Alternative>,
    /// Users, groups, owners and directories, in its order.
    pub done: Vec<Done>,
    /// Lines whose effect is not known.
    pub rest: Vec<String>,
}

/// Commands whose effect is nothing in a tree that nobody runs yet: services, debconf questions, caches that are made anew.
const NOTHING: [&str; 34] = [
    ":",
    "true",
    "exit",
    "set",
    "echo",
    "printf",
    "return",
    "shift",
    "break",
    "continue",
    "umask",
    "unset",
    "local",
    "export",
    "dpkg-maintscript-helper",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "systemctl",
    "invoke-rc.d",
    "update-rc.d",
    "ldconfig",
    "update-initramfs",
    "update-menus",
    "py3compile",
    "py3clean",
    "dpkg-trigger",
    "db_version",
    "db_stop",
    "db_purge",
    "db_capb",
    "db_go",
    "db_input",
    "systemd-tmpfiles",
    "update-desktop-database",
];

/// Helpers whose fragments do something to a tree: alternatives, files in `/etc`, users without a sysusers.d file.
const KEPT: [&str; 3] = ["dh_installalternatives", "dh_ucf", "dh_sysuser"];

/// Scripts that dpkg runs when it installs a package for the first time (deb-postinst(5), deb-preinst(5)).
pub const NAMES: [&str; 2] = ["preinst", "postinst"];

/// Reads a script of a package, one of [`NAMES`].
pub fn of(package: &Unpacked, name: &str) -> Read {
    read_at(&package.control.text(name), name != "preinst")
}

/// Reads a script that runs when the package is unpacked; one that is no shell script is left as it is.
#[cfg(test)]
fn read(script: &str) -> Read {
    read_at(script, true)
}

fn read_at(script: &str, unpacked: bool) -> Read {
    let mut read = Read::default();
    let first = script.lines().next().unwrap_or_default();
    if !first.starts_with("#!") || !(first.contains("sh")) {
        read.rest.extend(script.lines().next().map(str::to_owned));
        return read;
    }
    let mut skip: Option<usize> = None;
    let mut depth = 0usize;
    let mut shape = Shape::new(unpacked);
    for line in logical(&without_fragments(script)) {
        let line = line.trim();
        shape.before(line);
        let opens = line.starts_with("if ");
        depth += usize::from(opens);
        let closes = line == "fi" || line.ends_with("; fi") || line.starts_with("fi ") || line.starts_with("fi;");
        if skip.is_none() && opens && only_on_upgrade(line) {
            skip = Some(depth);
        }
        // The other branch of a condition that is false does run.
        if skip == Some(depth) && (line == "else" || line.starts_with("elif ")) {
            skip = None;
        } else if skip.is_none() {
            statement(line, &shape, &mut read);
        }
        if closes {
            if skip == Some(depth) {
                skip = None;
            }
            depth = depth.saturating_sub(1);
        }
        shape.after(line);
    }
    read
}

/// The script without what debhelper added and without comments.
///
/// debhelper's fragments start services, compile byte-code, tell caches: nothing that a tree needs. Users they make are in
/// sysusers.d files, which are read; what they move are conffiles of older versions. [`KEPT`] ones are read as the rest is.
fn without_fragments(script: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in script.lines() {
        let comment = line.trim_start().strip_prefix('#').map(str::trim_start);
        match comment {
            Some(c) if c.starts_with("Automatically added by dh_") => inside = !KEPT.iter().any(|k| c.contains(k)),
            Some(c) if c.starts_with("End automatically added section") => inside = false,
            None if !inside => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

/// Lines with continued ones joined: `\` at the end, or `&&`, `||` that expect more.
fn logical(script: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in script.lines() {
        let trimmed = line.trim();
        let text = trimmed.strip_suffix('\\').unwrap_or(trimmed);
        match lines.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(' ');
                last.push_str(text);
            }
            None => lines.push(text.to_owned()),
        }
        open = trimmed.ends_with(['\\']) || trimmed.ends_with("&&") || trimmed.ends_with("||");
    }
    lines
}

/// Whether a condition can not hold when a package is installed for the first time: `$2` is empty, `$1` is not `upgrade`.
fn only_on_upgrade(condition: &str) -> bool {
    let upgrade = [
        "-n \"$2\"",
        "! -z \"$2\"",
        "-n \"${2",
        "lt-nl",
        "le-nl",
        "x$2\" != \"x",
        "\"$1\" = \"upgrade\"",
        "\"$1\" = upgrade",
        "\"$1\" = 'upgrade'",
        "\"$1\" = \"triggered\"",
        "\"$1\" = triggered",
        "\"$1\" = abort-upgrade",
        "-d /run/systemd/system",
        "-x /usr/sbin/update-initramfs",
    ];
    let other = condition.contains("||") || condition.contains(" -o ") || condition.contains("! [");
    !other && upgrade.iter().any(|u| condition.contains(u))
}

/// Strikes a line out, takes its alternative, or keeps it.
fn statement(line: &str, shape: &Shape, read: &mut Read) {
    // `if …; then command; fi`: the condition only looks, but the command counts.
    if let Some((condition, body)) = line.split_once("; then ").filter(|(c, _)| is_condition(c)) {
        statement(condition, shape, read);
        return body.split(';').for_each(|part| statement(part.trim(), shape, read));
    }
    let mut line = line;
    for word in ["then ", "else ", "do ", "! "] {
        line = line.strip_prefix(word).unwrap_or(line).trim();
    }
    if line.is_empty() || structure(line) || harmless(line) {
        return;
    }
    if line.starts_with("update-alternatives ") {
        match alternatives::parse(line) {
            Some(one) => return read.alternatives.push(one),
            None if line.contains("--install") => {}
            None if !substitutes(line) => return,
            None => {}
        }
    }
    match accounts::parse(line).filter(|all| all.iter().all(|d| sure(d, shape))) {
        Some(all) => read.done.extend(all),
        None => read.rest.push(line.to_owned()),
    }
}

/// Whether this surely is done, and to what the tree has: before a package is unpacked, its directories are not there.
fn sure(done: &Done, shape: &Shape) -> bool {
    match done {
        Done::Group(_) | Done::User { home: None, .. } => shape.runs(),
        Done::User { home: Some(_), .. } => shape.unpacked() && shape.runs(),
        Done::Own(put) => shape.unpacked() && shape.runs_if(&put.path, true),
        Done::Dir(put) => shape.unpacked() && shape.runs_if(&put.path, false),
    }
}

fn is_condition(line: &str) -> bool {
    line.starts_with("if ") || line.starts_with("elif ")
}

/// Lines that only give shape: patterns, ends, conditions that look and change nothing.
fn structure(line: &str) -> bool {
    let shape = ["then", "else", "fi", "fi;", "esac", ";;", "do", "done", "{", "}", "};"];
    if shape.contains(&line) || line.ends_with("() {") || line.ends_with("()") {
        return true;
    }
    if line.starts_with("for ") && line.ends_with("do") && !line.contains('*') {
        return !substitutes(line);
    }
    if line.starts_with("case ") && line.ends_with(" in") {
        return !substitutes(line);
    }
    let pattern = line.trim_start_matches('(').strip_suffix(')');
    // One word, or several with `|` between them: `(adduser x)` is a command in brackets.
    let word = |p: &str| !p.is_empty() && p.chars().all(|c| c.is_alphanumeric() || "-_*\"'/.".contains(c));
    let name = |p: &str| p.split('|').map(str::trim).all(word);
    if pattern.is_some_and(name) {
        return true;
    }
    // `pattern) ;;` and `pattern) command ;;`
    if let Some((p, rest)) = line.split_once(')').filter(|(p, _)| name(p.trim_start_matches('('))) {
        let rest = rest.trim().trim_end_matches(";;").trim();
        return !p.contains(' ') && (rest.is_empty() || harmless(rest));
    }
    let condition = line.strip_prefix("if ").or_else(|| line.strip_prefix("elif "));
    condition.is_some_and(looks_only)
}

/// Whether a condition only looks.
fn looks_only(condition: &str) -> bool {
    let text = condition.trim_end().trim_end_matches("then").trim_end().trim_end_matches(';');
    let tests = [
        "[",
        "test",
        "dpkg --compare-versions",
        "which",
        "command -v",
        "!",
        "true",
        "getent",
        "pidof",
        "id",
        "dpkg-statoverride --list",
    ];
    let parts = text.split("&&").flat_map(|p| p.split("||"));
    !substitutes(text)
        && !writes(text)
        && parts.map(str::trim).all(|p| {
            let p = p.trim_start_matches("! ").trim_start();
            tests.iter().any(|t| p == *t || p.strip_prefix(t).is_some_and(|r| r.starts_with(' ')))
        })
}

/// Whether a command has no effect here, alone and with what follows it.
fn harmless(line: &str) -> bool {
    if writes(line) || substitutes(line) {
        return false;
    }
    let parts = line.split("||").flat_map(|p| p.split("&&")).flat_map(|p| p.split(';'));
    parts.map(str::trim).filter(|p| !p.is_empty()).all(|p| {
        let first = p.split_whitespace().next().unwrap_or_default();
        // Debian's transition to merged /usr keeps files from vanishing on upgrades by diverting them to such names.
        let kept = first == "dpkg-divert" && p.contains(".usr-is-merged");
        let conf = p.starts_with(". /usr/share/debconf/confmodule");
        let plain =
            first.split_once('=').is_some_and(|(n, _)| n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        NOTHING.contains(&first)
            || conf
            || kept
            || plain
            || first == "fi"
            || first == "["
            || first == "test"
            || first == "rm"
    })
}

/// Whether output goes to a file other than nothing.
fn writes(line: &str) -> bool {
    let line = line.replace(">/dev/null", "").replace("> /dev/null", "").replace(">&2", "").replace("2>&1", "");
    line.contains('>') || line.contains("<<") || line.contains('|') && line.replace("||", "").contains('|')
}

fn substitutes(line: &str) -> bool {
    // A quoted backtick is text: ``postinst called with unknown argument \`$1'``.
    line.contains("$(") || line.replace("\\`", "").contains('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debhelper_adds_leaves_nothing() {
        let text = "#!/bin/sh\nset -e\n# Automatically added by dh_python3\nif which py3compile; then\n py3compile -p x\nfi\n\
                    # End automatically added section\nexit 0\n";
        assert_eq!(read(text), Read::default());
    }

    #[test]
    fn skeletons_and_upgrades_leave_nothing() {
        let text = "#!/bin/sh -e\ncase \"$1\" in\n  configure)\n  if [ \"$1\" = configure ] && [ -n \"$2\" ]; then\n rm_all /\n fi\n ;;\n\
                    abort-upgrade|abort-remove)\n ;;\n *)\n echo \"unknown argument \\`$1'\" >&2\n exit 1\n ;;\nesac\n";
        assert_eq!(read(text), Read::default());
    }

    #[test]
    fn alternatives_are_taken_and_the_rest_is_kept() {
        let text = "#!/bin/bash\nif [ \"$1\" = configure ]; then\n update-alternatives \\\n --install /a b /c 5 \\\n --slave /d e /f\n\
                    adduser x\nfi\necho hi > /etc/file\n";
        let read = read(text);
        assert_eq!(read.alternatives.len(), 1);
        let added = "#!/bin/sh\n# Automatically added by dh_installalternatives/13\nupdate-alternatives --install /a b /c 5\n\
                     # End automatically added section\n";
        assert_eq!(super::read(added).alternatives.len(), 1);
        assert_eq!(read.rest, ["adduser x", "echo hi > /etc/file"]);
        assert_eq!(super::read("#!/usr/bin/perl\nunlink 1;").rest.len(), 1);
    }

    #[test]
    fn commands_on_the_line_of_a_condition_count() {
        let rest = |text: &str| super::read(&format!("#!/bin/sh\n{text}\n")).rest;
        assert_eq!(rest("if ! getent group x >/dev/null; then addgroup x; fi"), ["addgroup x"]);
        assert_eq!(rest("if [ -e /x ]; then echo y; else adduser x; fi"), ["adduser x"]);
        assert_eq!(rest("if [ -x /usr/bin/x ]; then echo y; exit 0; fi"), [""; 0]);
        assert_eq!(rest("(adduser x)"), ["(adduser x)"]);
        assert_eq!(rest("case \"$1\" in\n(configure | abort-upgrade)\n;;\nesac"), [""; 0]);
        let ucf = "# Automatically added by dh_ucf/13\nucf /usr/share/x /etc/x\n# End automatically added section";
        assert_eq!(rest(ucf), ["ucf /usr/share/x /etc/x"]);
    }

    #[test]
    fn users_are_taken_where_they_surely_are_made() {
        let good = "#!/bin/sh\nset -e\nif [ configure = \"$1\" ]; then\n if ! getent passwd unbound >/dev/null; then\n\
                    adduser --quiet --system --group --no-create-home \\\n --home /var/lib/unbound unbound\n fi\n\
                    chown unbound:unbound /var/lib/unbound\nfi\nif ! dpkg-statoverride --list /x >/dev/null; then chmod 0640 /x; fi\n";
        let read = super::read(good);
        assert_eq!((read.rest.len(), read.done.len()), (0, 3), "{read:?}");
        // Before its files are there, an owner is not one of a file of the package.
        assert_eq!(read_at(good, false).rest, ["chown unbound:unbound /var/lib/unbound", "chmod 0640 /x"]);
        let half = "#!/bin/sh\nif ! getent group x; then\naddgroup --system x\nfi\nadduser --system --ingroup x $WHO\n\
                    if [ -e /etc/y ]; then\nadduser --system y\nfi\n";
        let read = super::read(half);
        assert_eq!(read.done.len(), 1);
        assert_eq!(read.rest, ["adduser --system --ingroup x $WHO", "adduser --system y"]);
        let never = "#!/bin/sh\nif dpkg --compare-versions \"$2\" lt-nl 5; then\nadduser --system z\nfi\n";
        assert_eq!(super::read(never), Read::default());
    }
}
