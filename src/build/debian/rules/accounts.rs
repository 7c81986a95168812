//! Users, groups, owners and directories: read from literal commands in scripts (adduser(8), groupadd(8), useradd(8), chown(1),
//! chmod(1), mkdir(1), install(1)). A command with a variable, or with an option that is not known here, is not understood.

use super::table::{Put, WantGroup};
use super::users::{WantUser, words};
use crate::model::guest_path::GuestPath;

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Makes a group.
    Group(WantGroup),
    /// Makes a user, and its home directory where `home` says so.
    User {
        /// The user.
        user: WantUser,
        /// The directory that adduser makes.
        home: Option<Put>,
    },
    /// Makes a directory where nothing is.
    Dir(Put),
    /// Sets owner or mode of what is there.
    Own(Put),
}

/// What a command that is not literal may have: variables, patterns, other commands.
const NOT_PLAIN: [char; 17] = ['$', '`', '\\', '*', '?', '[', ']', '(', ')', '{', '}', '~', '#', ';', '&', '|', '<'];

/// What may follow a command without changing what it does.
const TAILS: [&str; 10] = [
    "|| true",
    "||true",
    "|| :",
    "2>&1",
    "2>/dev/null",
    "2> /dev/null",
    "1>/dev/null",
    ">/dev/null",
    "> /dev/null",
    ";",
];

/// Reads a command line; `None` when it is another command, not literal, or has options that are not known here.
pub fn parse(line: &str) -> Option<Vec<Done>> {
    let mut line = line.trim();
    // `getent group x >/dev/null || addgroup --system x`
    if let Some((look, command)) =
        line.split_once("||").filter(|(l, _)| l.starts_with("getent ") || l.starts_with("id "))
    {
        let look = without_tails(look.trim());
        if look.contains(NOT_PLAIN) || look.contains('>') {
            return None;
        }
        line = command.trim();
    }
    let line = without_tails(line);
    // A quote that does not end, or one in another, is more than `words` reads.
    let odd = |quote: char| line.matches(quote).count() % 2 == 1;
    if line.contains(NOT_PLAIN)
        || line.contains('>')
        || odd('"')
        || odd('\'')
        || line.contains('"') && line.contains('\'')
    {
        return None;
    }
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    let command = words.next()?;
    let words: Vec<&str> = words.collect();
    match command.rsplit_once('/').map_or(command, |(_, name)| name) {
        "adduser" => adduser(&words, false),
        "addgroup" => adduser(&words, true),
        "groupadd" => groupadd(&words),
        "useradd" => useradd(&words),
        "chown" => chown(&words),
        "chgrp" => chgrp(&words),
        "chmod" => chmod(&words),
        "mkdir" => mkdir(&words),
        "install" => install(&words),
        _ => None,
    }
}

fn without_tails(line: &str) -> &str {
    let mut line = line;
    while let Some(shorter) = TAILS.iter().find_map(|t| line.strip_suffix(t)) {
        line = shorter.trim_end();
    }
    line
}

/// `adduser --system` and `addgroup --system`: no group of its own unless asked for, no home unless named.
fn adduser(words: &[&str], addgroup: bool) -> Option<Vec<Done>> {
    let (mut user, mut names) = (WantUser::default(), Vec::new());
    let (mut system, mut group, mut ingroup, mut make_home) = (false, false, None, true);
    let mut options = Options::new(words);
    while let Some((option, value)) = options.next() {
        match option {
            "--system" => system = true,
            "--group" => group = true,
            "--no-create-home" => make_home = false,
            "--quiet"
            | "--disabled-login"
            | "--disabled-password"
            | "--force-badname"
            | "--allow-badname"
            | "--allow-bad-names" => {}
            "--home" => user.home = Some(absolute(options.value(value)?)?),
            "--ingroup" => ingroup = Some(name(options.value(value)?)?),
            "--gecos" | "--comment" => user.gecos = comment(options.value(value)?)?,
            "--shell" => user.shell = Some(absolute(options.value(value)?)?),
            option if !option.starts_with('-') => names.push(name(option)?),
            _ => return None,
        }
        options.no_value_left(value)?;
    }
    let [who] = names.as_slice() else { return None };
    if !system || group && ingroup.is_some() {
        return None;
    }
    if addgroup {
        return Some(vec![Done::Group(WantGroup { name: who.clone(), gid: None })]);
    }
    user.name.clone_from(who);
    user.group = if group { None } else { Some(ingroup.unwrap_or_else(|| "nogroup".into())) };
    let of = user.group.clone().unwrap_or_else(|| who.clone());
    let home = user.home.clone().filter(|h| make_home && h != "/nonexistent");
    let home =
        home.map(|path| Put { mode: Some("0755".into()), user: Some(who.clone()), group: Some(of), ..put(path) });
    Some(vec![Done::User { user, home }])
}

fn groupadd(words: &[&str]) -> Option<Vec<Done>> {
    let (mut system, mut names) = (false, Vec::new());
    for word in words {
        match *word {
            "-r" | "--system" => system = true,
            "-f" | "--force" => {}
            word => names.push(name(word)?),
        }
    }
    let [group] = names.as_slice() else { return None };
    system.then(|| vec![Done::Group(WantGroup { name: group.clone(), gid: None })])
}

/// `useradd -r`: a group of its own unless one is named (`USERGROUPS_ENAB`), a home that is not made, `/bin/sh`.
fn useradd(words: &[&str]) -> Option<Vec<Done>> {
    let (mut user, mut names, mut system) = (WantUser::default(), Vec::new(), false);
    let mut options = Options::new(words);
    while let Some((option, value)) = options.next() {
        match option {
            "-r" | "--system" => system = true,
            "-M" | "--no-create-home" | "-U" | "--user-group" => {}
            "-d" | "--home" | "--home-dir" => user.home = Some(absolute(options.value(value)?)?),
            "-s" | "--shell" => user.shell = Some(absolute(options.value(value)?)?),
            "-g" | "--gid" => user.group = Some(name(options.value(value)?)?),
            "-c" | "--comment" => user.gecos = comment(options.value(value)?)?,
            option if !option.starts_with('-') => names.push(name(option)?),
            _ => return None,
        }
        options.no_value_left(value)?;
    }
    let [who] = names.as_slice() else { return None };
    user.name.clone_from(who);
    user.home.get_or_insert_with(|| format!("/home/{who}"));
    user.shell.get_or_insert_with(|| "/bin/sh".into());
    system.then_some(vec![Done::User { user, home: None }])
}

fn chown(words: &[&str]) -> Option<Vec<Done>> {
    let (owner, paths) = words.split_first()?;
    let (user, group) = owner.split_once(':').map_or((*owner, None), |(u, g)| (u, Some(g)));
    let user = (!user.is_empty()).then(|| name(user)).map_or(Some(None), |n| n.map(Some))?;
    let group = group.map(name).map_or(Some(None), |n| n.map(Some))?;
    own(paths, |put| Put { user: user.clone(), group: group.clone(), ..put })
}

fn chgrp(words: &[&str]) -> Option<Vec<Done>> {
    let (group, paths) = words.split_first()?;
    let group = name(group)?;
    own(paths, |put| Put { group: Some(group.clone()), ..put })
}

fn chmod(words: &[&str]) -> Option<Vec<Done>> {
    let (octal, paths) = words.split_first()?;
    let octal = mode(octal)?;
    own(paths, |put| Put { mode: Some(octal.clone()), ..put })
}

fn own(paths: &[&str], with: impl Fn(Put) -> Put) -> Option<Vec<Done>> {
    let all: Option<Vec<Done>> = paths.iter().map(|p| Some(Done::Own(with(put(absolute(p)?))))).collect();
    all.filter(|a| !a.is_empty())
}

fn mkdir(words: &[&str]) -> Option<Vec<Done>> {
    let paths = words.strip_prefix(&["-p"]).unwrap_or(words);
    let all: Option<Vec<Done>> = paths.iter().map(|p| Some(Done::Dir(put(absolute(p)?)))).collect();
    all.filter(|a| !a.is_empty())
}

/// `install -d`: makes directories, and sets owner and mode of those that are there.
fn install(words: &[&str]) -> Option<Vec<Done>> {
    let (mut like, mut dirs, mut paths) = (put(String::new()), false, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-d" => dirs = true,
            "-m" => like.mode = Some(mode(words.next()?)?),
            "-o" => like.user = Some(name(words.next()?)?),
            "-g" => like.group = Some(name(words.next()?)?),
            path => paths.push(absolute(path)?),
        }
    }
    // Without `-m` the mode becomes 0755, whatever it was.
    like.mode.get_or_insert_with(|| "0755".into());
    let of = |path: String| Put { path, ..like.clone() };
    let both = |path: String| [Done::Dir(put(path.clone())), Done::Own(of(path))];
    (dirs && !paths.is_empty()).then(|| paths.into_iter().flat_map(both).collect())
}

/// Words of a command line, of which `--name=value` is two.
struct Options<'a> {
    words: std::slice::Iter<'a, &'a str>,
    taken: bool,
}

impl<'a> Options<'a> {
    fn new(words: &'a [&'a str]) -> Self {
        Self { words: words.iter(), taken: false }
    }

    fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        self.taken = false;
        let word = self.words.next()?;
        Some(match word.split_once('=').filter(|_| word.starts_with("--")) {
            Some((option, value)) => (option, Some(value)),
            None => (word, None),
        })
    }

    /// The value of the option that `next` gave.
    fn value(&mut self, with: Option<&'a str>) -> Option<&'a str> {
        self.taken = true;
        with.or_else(|| self.words.next().copied())
    }

    /// `None` when an option that takes no value had one.
    fn no_value_left(&self, with: Option<&str>) -> Option<()> {
        (self.taken || with.is_none()).then_some(())
    }
}

fn put(path: String) -> Put {
    Put { path, ..Put::default() }
}

/// A name of a user or group (useradd(8), "CAVEATS"), capitals and dots allowed.
fn name(text: &str) -> Option<String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let first = text.chars().next()?;
    let fits = (first.is_ascii_alphabetic() || first == '_') && text.len() <= 32 && text.chars().all(inner);
    fits.then(|| text.to_owned())
}

fn absolute(text: &str) -> Option<String> {
    let fits = text.starts_with('/') && text.len() > 1 && !text.contains([':', '\n']) && GuestPath::parse(text).is_ok();
    fits.then(|| text.trim_end_matches('/').to_owned())
}

fn comment(text: &str) -> Option<String> {
    (!text.contains([':', '\n'])).then(|| text.to_owned())
}

fn mode(text: &str) -> Option<String> {
    let octal = (3..=4).contains(&text.len()) && text.chars().all(|c| ('0'..='7').contains(&c));
    octal.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(line: &str) -> (WantUser, Option<Put>) {
        match parse(line).unwrap_or_default().pop() {
            Some(Done::User { user, home }) => (user, home),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn users_are_made_as_adduser_and_useradd_do() {
        let (one, home) = user(
            "adduser --system --disabled-password --disabled-login --home /var/lib/haproxy --no-create-home --quiet \
             --force-badname --group haproxy >/dev/null 2>&1 || true",
        );
        assert_eq!((one.name.as_str(), one.group, one.home.as_deref()), ("haproxy", None, Some("/var/lib/haproxy")));
        assert_eq!((home, one.shell), (None, None));
        let (one, home) =
            user("adduser --system --gecos \"A daemon\" --shell=/bin/false --ingroup x --home /var/lib/a a");
        assert_eq!(
            (one.gecos.as_str(), one.shell.as_deref(), one.group.as_deref()),
            ("A daemon", Some("/bin/false"), Some("x"))
        );
        let home = home.unwrap();
        assert_eq!(
            (home.path.as_str(), home.user.as_deref(), home.group.as_deref()),
            ("/var/lib/a", Some("a"), Some("x"))
        );
        let (one, home) = user("adduser --system b");
        assert_eq!((one.group.as_deref(), one.home, home), (Some("nogroup"), None, None));
        let (one, home) = user("/usr/sbin/useradd -r -M -s /bin/bash -g adm c");
        assert_eq!((one.home.as_deref(), one.shell.as_deref(), home), (Some("/home/c"), Some("/bin/bash"), None));
        assert_eq!(one.group.as_deref(), Some("adm"));
    }

    #[test]
    fn groups_owners_and_directories_are_read() {
        let group = |n: &str| Some(vec![Done::Group(WantGroup { name: n.into(), gid: None })]);
        assert_eq!(parse("getent group crontab > /dev/null 2>&1 || addgroup --system crontab"), group("crontab"));
        assert_eq!(parse("groupadd -r x;"), group("x"));
        let own = Put { user: Some("a".into()), group: Some("b".into()), ..put("/var/lib/c".into()) };
        assert_eq!(parse("chown a:b /var/lib/c"), Some(vec![Done::Own(own)]));
        assert_eq!(parse("mkdir -p /a /b").unwrap().len(), 2);
        assert_eq!(parse("install -d -m 0750 -o a -g b /var/lib/c").unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_literal_or_not_known_is_not_understood() {
        for line in [
            "adduser --system $USER",
            "adduser --system \"$USER\"",
            "adduser x",
            "adduser x audio",
            "adduser --system x audio",
            "adduser --system --uid 7 x",
            "adduser --system --quiet=yes x",
            "adduser --system --home relative x",
            "adduser --system --home x",
            "adduser --system --gecos 'it goes on",
            "adduser --system x && true",
            "adduser --system x; rm /y",
            "adduser --system x > /etc/log",
            "adduser --system --gecos a:b x",
            "useradd x",
            "useradd -r -m x",
            "groupadd x",
            "groupadd -r -g 5 x",
            "chown -R a:b /c",
            "chown a: /c",
            "chown a:b c",
            "chown a:b",
            "chmod g+w /c",
            "chmod 640 /c/*",
            "mkdir -p /a/../b",
            "install -d -D /a",
            "install -m 0644 /a /b",
            "getent group $x || addgroup --system x",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
