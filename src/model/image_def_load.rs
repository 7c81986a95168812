//! Reads `image.toml` into an [`ImageDef`], and says what is wrong with it as profiles do.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use super::guest_path::GuestPath;
use super::image_def::{ALL_SCRIPTS, ImageDef, ImageFile, ImageUser};
use super::profile::ProfileError;
use super::profile::load::{check_schema, diagnose, parse_tree};
use super::profile::validate::Findings;
use super::source_map::{Loc, SourceMap};

/// Signals by name (signal(7)); real-time signals are `SIGRTMIN+n` and `SIGRTMAX-n`.
const SIGNALS: [&str; 31] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGKILL",
    "SIGPIPE",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// An image's definition with its text.
#[derive(Debug, Clone)]
pub struct LoadedImageDef {
    /// What it says.
    pub def: ImageDef,
    /// Its file, for messages.
    pub sources: SourceMap,
}

/// Parses the definition `text`, called `name` (a path with `/`). Users that packages bring are not known here: owners by
/// name are checked when the image is built.
///
/// # Errors
/// Everything wrong with it: syntax, unknown keys, types, and what does not fit together.
pub fn parse(name: &str, text: &str) -> Result<LoadedImageDef, ProfileError> {
    parse_from("", name, text)
}

/// [`parse`] for people in the folder `cwd` (absolute).
///
/// # Errors
/// As [`parse`].
pub fn parse_from(cwd: &str, name: &str, text: &str) -> Result<LoadedImageDef, ProfileError> {
    let mut sources = SourceMap::seen_from(cwd);
    let base = sources.add(name, text, None);
    let table = parse_tree(&sources, text, base)?;
    check_schema(&sources, &table, "an image's definition")?;
    let keys = config_keys(&table);
    let def = ImageDef::deserialize(toml::de::Deserializer::from(Spanned::new(0..text.len(), table)))
        .map_err(|e| diagnose(&sources, e.message(), e.span()))?;
    let mut found = Findings::new(&sources);
    packages(&def, &mut found);
    users(&def.user, &mut found);
    paths(&def, &mut found);
    owners(&def, &mut found);
    config(&def, &keys, &mut found);
    let diagnostics = found.list;
    if diagnostics.is_empty() { Ok(LoadedImageDef { def, sources }) } else { Err(ProfileError { diagnostics }) }
}

/// Where the keys of `[config.env]` and `[config.labels]` stand: the types do not keep it.
fn config_keys(table: &DeTable<'_>) -> Vec<(&'static str, String, Range<usize>)> {
    let Some(config) = inner(table, "config") else { return Vec::new() };
    let mut keys = Vec::new();
    for list in ["env", "labels"] {
        for (key, _) in inner(config, list).into_iter().flatten() {
            keys.push((list, key.get_ref().to_string(), key.span()));
        }
    }
    keys
}

fn inner<'t, 'i>(table: &'t DeTable<'i>, name: &str) -> Option<&'t DeTable<'i>> {
    table.iter().find(|(key, _)| key.get_ref() == name)?.1.get_ref().as_table()
}

fn packages(def: &ImageDef, found: &mut Findings<'_>) {
    let first = def.packages.first().or_else(|| def.without_scripts.first());
    if let (None, Some(package)) = (&def.debian, first) {
        found.add(&package.span(), format!("package `{}`: from which Debian?", **package)).hint =
            Some("`debian = \"NAME\"` names a `[debian.NAME]` table of the profile".to_owned());
    }
    let no_name = |text: &str| {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        text.len() < 2 || text.starts_with(['+', '-', '.']) || !text.chars().all(rest)
    };
    let scripts = def.without_scripts.iter().filter(|p| p.as_str() != ALL_SCRIPTS);
    for package in def.packages.iter().chain(scripts).filter(|p| no_name(p)) {
        found.add(&package.span(), format!("`{}` is not the name of a package", **package)).hint =
            Some("names have lower-case letters, digits, `+`, `-` and `.`; versions are the lock's".to_owned());
    }
}

fn users(users: &[ImageUser], found: &mut Findings<'_>) {
    let (mut names, mut ids) = (BTreeMap::new(), BTreeMap::new());
    for user in users {
        if !is_user_name(&user.name) {
            found.add(&user.name.span(), format!("`{}` can not be a user's name", *user.name)).hint =
                Some("up to 32 lower-case letters, digits, `-` and `_`, starting with a letter or `_`".to_owned());
        }
        if let Some(first) = names.insert(&*user.name, user.name.span()) {
            found.clash(&user.name.span(), &first, format!("two users are called `{}`", *user.name));
        }
        if let Some(first) = ids.insert(*user.uid, user.uid.span()) {
            found.clash(&user.uid.span(), &first, format!("two users have the id {}", *user.uid));
        }
        // -1 stands for "leave as it is" (chown(2)).
        for id in [Some(&user.uid), user.gid.as_ref()].into_iter().flatten().filter(|id| ***id == u32::MAX) {
            found.add(&id.span(), format!("{} is no id", **id));
        }
        for path in [&user.home, &user.shell].into_iter().flatten() {
            absolute(path, found);
            if path.contains([':', '\n']) {
                found.add(&path.span(), "a path in `/etc/passwd` has no `:` and no line feed");
            }
        }
    }
}

fn is_user_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

fn paths(def: &ImageDef, found: &mut Findings<'_>) {
    let mut seen: BTreeMap<GuestPath, Range<usize>> = BTreeMap::new();
    let dirs = def.dir.iter().map(|d| &d.path);
    let files = def.file.iter().map(|f| &f.to);
    for path in dirs.chain(files).chain(def.link.iter().map(|l| &l.path)) {
        let Some(parsed) = absolute(path, found) else { continue };
        if parsed.name().starts_with(".wh.") {
            found.add(&path.span(), "names with `.wh.` stand for removed files in layers");
        }
        // Folders of files may meet in one place; files that do are found when the image is built.
        let folder = def.file.iter().any(|f| f.to.span() == path.span() && f.content.is_none());
        if let Some(first) = seen.insert(parsed, path.span()).filter(|_| !folder) {
            found.clash(&path.span(), &first, format!("`{}` is made twice", **path));
        }
    }
    for file in &def.file {
        origin(file, found);
    }
    for link in def.link.iter().filter(|l| l.target.is_empty() || l.target.contains('\0')) {
        found.add(&link.target.span(), "a symbolic link points somewhere");
    }
    if let Some(path) = &def.wheels_to {
        absolute(path, found);
    }
    let modes = def.dir.iter().filter_map(|d| d.mode.as_ref());
    for mode in modes.chain(def.file.iter().filter_map(|f| f.mode.as_ref())).filter(|m| octal(m).is_none()) {
        found.add(&mode.span(), format!("`{}` is not an octal mode", **mode)).hint =
            Some("as `0644` or `0755`".to_owned());
    }
}

/// The mode a text says: three or four octal digits.
pub fn octal(text: &str) -> Option<u32> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    digits.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

fn origin(file: &ImageFile, found: &mut Findings<'_>) {
    if file.from.is_some() == file.content.is_some() {
        found.add(&file.to.span(), format!("file `{}` needs either `from` or `content`", *file.to));
    }
    let Some(from) = &file.from else { return };
    let (path, step) = match from.strip_prefix("step:") {
        Some(rest) => match rest.split_once('/') {
            Some((name, path)) => (path, Some(name)),
            None => ("", Some(rest)),
        },
        None => (from.as_str(), None),
    };
    let bad = match step {
        Some(name) => name.is_empty() || GuestPath::parse(path).is_err(),
        None => path.is_empty() || path.starts_with('/') || path.contains(['\\', '\0']),
    };
    if bad {
        found.add(&from.span(), format!("`{}` is not a relative path with `/`, nor `step:NAME/path`", **from)).hint =
            Some("paths are relative to the file that names them".to_owned());
    }
}

fn absolute(path: &Loc<String>, found: &mut Findings<'_>) -> Option<GuestPath> {
    if !path.starts_with('/') {
        found.add(&path.span(), format!("`{}` is not an absolute path in the image", **path)).hint =
            Some(match path.contains("..") {
                true => "write it from the root of the image on, as `/srv/app`".to_owned(),
                false => format!("`/{}`", path.trim_start_matches("./")),
            });
        return None;
    }
    match GuestPath::parse(path) {
        Ok(parsed) if parsed.is_root() => {
            found.add(&path.span(), "the root itself can not be made");
            None
        }
        Ok(parsed) => Some(parsed),
        Err(error) => {
            found.add(&path.span(), error.to_string());
            None
        }
    }
}

fn owners(def: &ImageDef, found: &mut Findings<'_>) {
    let dirs = def.dir.iter().filter_map(|d| d.owner.as_ref());
    let files = def.file.iter().filter_map(|f| f.owner.as_ref());
    for owner in dirs.chain(files).chain(&def.config.user) {
        let (user, group) = owner.split_once(':').map_or((owner.as_str(), None), |(u, g)| (u, Some(g)));
        let good = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u32>().is_ok_and(|id| id != u32::MAX),
            // Packages' users may have names that we would not give.
            false => !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == ':'),
        };
        if user.is_empty() || !good(user) || !group.is_none_or(|g| !g.is_empty() && good(g)) {
            found.add(&owner.span(), format!("`{}` is no owner", **owner)).hint =
                Some("a user, by name or number, or `user:group`".to_owned());
        }
    }
}

fn config(def: &ImageDef, keys: &[(&'static str, String, Range<usize>)], found: &mut Findings<'_>) {
    let config = &def.config;
    for port in config.exposed_ports.iter().filter(|p| exposed(p).is_none()) {
        found.add(&port.span(), format!("`{}` is not a port", **port)).hint =
            Some("as `8080`, `8080/tcp` or `53/udp`".to_owned());
    }
    for path in config.volumes.iter().chain(&config.working_dir) {
        if path.as_str() != "/" {
            absolute(path, found);
        }
    }
    for word in config.entrypoint.first().iter().chain(&config.cmd.first()).filter(|w| w.is_empty()) {
        found.add(&word.span(), "a program has a name");
    }
    if let Some(signal) = config.stop_signal.as_ref().filter(|s| !is_signal(s)) {
        let near =
            SIGNALS.iter().find(|s| s.trim_start_matches("SIG") == signal.to_uppercase().trim_start_matches("SIG"));
        found.add(&signal.span(), format!("`{}` is not a signal", **signal)).hint =
            Some(near.map_or("as `SIGTERM`".to_owned(), |s| format!("did you mean `{s}`?")));
    }
    for (list, key, span) in keys {
        if key.is_empty() || key.contains('\0') || (*list == "env" && key.contains('=')) {
            let what = if *list == "env" { "an environment variable" } else { "a label" };
            found.add(span, format!("`{key}` is not the name of {what}"));
        }
        if *list == "env" && config.env.get(key).is_some_and(|v| v.contains('\0')) {
            found.add(span, format!("the value of `{key}` holds a NUL"));
        }
    }
}

/// A port as image configurations have it: `8080/tcp`.
pub fn exposed(text: &str) -> Option<String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    let port = port.parse::<u16>().ok().filter(|_| digits)?;
    matches!(protocol, "tcp" | "udp" | "sctp").then(|| format!("{port}/{protocol}"))
}

fn is_signal(text: &str) -> bool {
    let real_time = text.strip_prefix("SIGRTMIN+").or_else(|| text.strip_prefix("SIGRTMAX-"));
    match real_time {
        Some(n) => n.parse::<u8>().is_ok_and(|n| (1..=30).contains(&n)),
        None => SIGNALS.contains(&text) || matches!(text, "SIGRTMIN" | "SIGRTMAX"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        parse("images/x/image.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_definition_reads() {
        let text = r#"
schema = 1
debian = "bookworm"
packages = ["python3", "libstdc++6"]
wheels = ["app"]
user = [{ name = "app", uid = 1000, home = "/srv" }]
dir = [{ path = "/srv/data", mode = "0750", owner = "app:app" }]
file = [{ from = "../shared/app.py", to = "/srv/app.py" }, { from = "step:ui/dist", to = "/srv" }, { content = "x", to = "/etc/x", mode = "0600", owner = "33" }]
link = [{ path = "/usr/bin/app", target = "../../srv/app.py" }]
[config]
entrypoint = ["python3", "/srv/app.py"]
exposed-ports = ["8080", "53/udp"]
user = "app"
working-dir = "/srv"
stop-signal = "SIGRTMIN+3"
env = { A = "b=c" }
labels = { "org.example=x" = "y" }
"#;
        let def = parse("image.toml", text).unwrap().def;
        assert!(def.essential && def.user.len() == 1 && def.file.len() == 3);
        assert_eq!(exposed("8080").unwrap(), "8080/tcp");
    }

    #[test]
    fn mistakes_name_their_place_and_a_way_out() {
        let text = told("schema = 1\npackages = [\"hello\"]\n");
        assert!(text.contains("image.toml:2:13") && text.contains("`debian = \"NAME\"`"), "{text}");
        assert!(told("schema = 1\nentry = 1\n").contains("unknown key `entry`"));
        assert!(told("schema = 2\n").contains("schema 2"));
        assert!(told("x = 1\n").contains("an image's definition starts with"));
        assert!(told("schema = \n").contains("not valid TOML"));
        for (text, message) in [
            ("user = [{ name = \"a\", uid = 1 }, { name = \"a\", uid = 2 }]", "two users are called `a`"),
            ("user = [{ name = \"a\", uid = 1 }, { name = \"b\", uid = 1 }]", "two users have the id 1"),
            ("user = [{ name = \"a:b\", uid = 1 }]", "can not be a user's name"),
            ("user = [{ name = \"a\", uid = 4294967295 }]", "is no id"),
            ("user = [{ name = \"a\", uid = 1, home = \"/x:y\" }]", "no `:`"),
            ("dir = [{ path = \"srv\" }]", "not an absolute path"),
            ("dir = [{ path = \"/srv/../etc\" }]", "it holds `..`"),
            ("dir = [{ path = \"/\" }]", "the root itself"),
            ("dir = [{ path = \"/x\", mode = \"0899\" }]", "not an octal mode"),
            ("dir = [{ path = \"/x\" }, { path = \"/x/\" }]", "made twice"),
            ("dir = [{ path = \"/x\", owner = \"a b\" }]", "is no owner"),
            ("file = [{ to = \"/x\" }]", "needs either `from` or `content`"),
            ("file = [{ from = \"a\", content = \"b\", to = \"/x\" }]", "needs either `from` or `content`"),
            ("file = [{ from = \"/etc/passwd\", to = \"/x\" }]", "not a relative path"),
            ("file = [{ from = \"step:/x\", to = \"/x\" }]", "not a relative path"),
            ("link = [{ path = \"/x\", target = \"\" }]", "points somewhere"),
            ("debian = \"d\"\npackages = [\"hello=1.0\"]", "not the name of a package"),
            ("config.exposed-ports = [\"0\"]", "is not a port"),
            ("config.exposed-ports = [\"80/http\"]", "is not a port"),
            ("config.stop-signal = \"term\"", "did you mean `SIGTERM`?"),
            ("config.env = { \"A=B\" = \"c\" }", "not the name of an environment variable"),
            ("config.working-dir = \"srv\"", "not an absolute path"),
        ] {
            let told = told(&format!("schema = 1\n{text}\n"));
            assert!(told.contains(message) && told.contains("image.toml:"), "{text}: {told}");
        }
    }
}
