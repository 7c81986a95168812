//! House rules that the compiler does not check: layers, printing, file sizes, docs, and names that must not be tracked.
//!
//! Each rule is a function over text, so that each has a test showing that it catches a violation.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The layers, lowest first; a folder uses itself and those before it.
const LAYERS: [&str; 10] = ["base", "model", "store", "source", "ssh", "build", "serve", "lab", "ops", "cli"];
/// Pairs that must not know each other, though one stands before the other.
const STRANGERS: [(&str, &str); 2] = [("serve", "lab"), ("lab", "serve")];
/// Longest Rust file in lines.
const MAX_LINES: usize = 600;
/// What only `cli` and `main.rs` may touch.
const TERMINAL_OR_ENVIRONMENT: [&str; 16] = [
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "io::stdout",
    "io::stderr",
    "io::stdin",
    "env::var",
    "env::var_os",
    "env::vars",
    "env::vars_os",
    "env::args",
    "env::args_os",
    "env::set_var",
    "env::home_dir",
];

// ---------------------------------------------------------------- the rules over this repository

#[test]
fn layers_go_one_way() {
    assert_clean(sources().flat_map(|(path, text)| against_layers(&path, &text)));
}

#[test]
fn nothing_below_cli_prints_or_reads_the_environment() {
    assert_clean(sources().flat_map(|(path, text)| terminal_or_environment(&path, &text)));
}

#[test]
fn rust_files_are_short_enough() {
    let rust = tracked().into_iter().filter(|(path, _)| path.ends_with(".rs"));
    assert_clean(rust.filter_map(|(path, text)| too_long(&path, &text)));
}

#[test]
fn every_module_and_public_item_is_documented() {
    assert_clean(sources().filter_map(|(path, text)| without_module_doc(&path, &text)));
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(denies_missing_docs(&lib), "src/lib.rs must carry #![deny(missing_docs)]");
}

#[test]
fn no_tracked_file_names_a_package_registry() {
    let hosts = registry_hosts();
    println!("registry hosts on this machine: {hosts:?}");
    let files = tracked().into_iter().filter(|(path, _)| !path.ends_with("Cargo.lock"));
    assert_clean(files.flat_map(|(path, text)| names_host(&path, &text, &hosts)));
}

#[test]
fn no_tracked_file_names_a_path_of_this_machine() {
    let here = root().display().to_string();
    let home = std::env::var("HOME").unwrap_or_default();
    let paths: Vec<&str> = [here.as_str(), home.trim_end_matches('/')].into_iter().filter(|p| p.len() > 1).collect();
    assert_clean(tracked().into_iter().flat_map(|(path, text)| names_path(&path, &text, &paths)));
}

// ---------------------------------------------------------------- the rules, over any text

/// Paths from `crate` (or enough `super`s) into a layer that `path` must not know.
fn against_layers(path: &str, text: &str) -> Vec<String> {
    let Some(layer) = layer_of(path) else { return Vec::new() };
    let Some(own) = LAYERS.iter().position(|l| *l == layer) else {
        return vec![format!("{path}: `{layer}` is not a layer (tests/tidy.rs lists them)")];
    };
    let mut found = Vec::new();
    for (number, line) in code_lines(text) {
        let rest: String = text.lines().skip(number - 1).take(40).collect::<Vec<_>>().join(" ");
        for used in layers_used(line, &rest, depth(path)) {
            let later = LAYERS.iter().position(|l| *l == used).is_none_or(|theirs| theirs > own);
            if later || STRANGERS.contains(&(layer, used.as_str())) {
                found.push(format!("{path}:{number}: `{layer}` must not use `{used}`"));
            }
        }
    }
    found
}

/// The layers named by the paths that start on `line`; `rest` is the text from there, for `use crate::{…}` over lines.
fn layers_used(line: &str, rest: &str, depth: usize) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in line.match_indices("crate::").filter(|(at, _)| starts_word(line, *at)) {
        used.extend(heads(&rest[at.min(rest.len()) + "crate::".len()..]));
    }
    let ups = "super::".repeat(depth.max(1));
    for (at, _) in line.match_indices(&ups).filter(|(at, _)| starts_word(line, *at)) {
        let tail = line[at..].trim_start_matches("super::");
        used.extend(heads(tail).into_iter().filter(|name| LAYERS.contains(&name.as_str())));
    }
    used
}

/// First names of a path or of a group: `a::b` gives `a`, `{a::{x, y}, b}` gives `a` and `b`.
fn heads(text: &str) -> Vec<String> {
    let name = |t: &str| t.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = text.trim_start().strip_prefix('{') else { return vec![name(text)] };
    let (mut found, mut level, mut start) = (Vec::new(), 0usize, 0usize);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            ',' | '}' if level == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => level -= 1,
            _ => {}
        }
    }
    found.retain(|n| !n.is_empty() && n != "self");
    found
}

/// Printing, or the environment, in a file below `cli`; test modules may print.
fn terminal_or_environment(path: &str, text: &str) -> Vec<String> {
    if layer_of(path).is_none_or(|layer| layer == "cli") && path != "src/lib.rs" {
        return Vec::new();
    }
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code_lines(code) {
        for word in TERMINAL_OR_ENVIRONMENT {
            let ends = |at: usize| !line[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if line.match_indices(word).any(|(at, _)| starts_word(line, at) && ends(at)) {
                found.push(format!("{path}:{number}: `{word}` belongs to `cli`"));
            }
        }
    }
    found
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{path}: {lines} lines, at most {MAX_LINES}"))
}

fn without_module_doc(path: &str, text: &str) -> Option<String> {
    (!text.starts_with("//!")).then(|| format!("{path}: must start with a `//!` line saying what it is for"))
}

fn denies_missing_docs(lib: &str) -> bool {
    lib.lines().any(|l| (l.starts_with("#![deny(") || l.starts_with("#![forbid(")) && l.contains("missing_docs"))
}

fn names_host(path: &str, text: &str, hosts: &BTreeSet<String>) -> Vec<String> {
    let lower = text.to_lowercase();
    hosts
        .iter()
        .filter(|h| lower.contains(h.as_str()))
        .map(|h| format!("{path}: names the registry host {h}"))
        .collect()
}

/// `paths` as whole path prefixes: not `/rooted` and not `x/root` for `/root`.
fn names_path(path: &str, text: &str, paths: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for wanted in paths {
        let whole = text.match_indices(wanted).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + wanted.len()..].chars().next();
            let joins = |c: char| c.is_alphanumeric() || "_-./}$)*".contains(c);
            !before.is_some_and(joins) && after.is_some_and(|c| c == '/')
        });
        if whole {
            found.push(format!("{path}: names {wanted}, a path of this machine"));
        }
    }
    found
}

// ---------------------------------------------------------------- names from the machine's own package clients

/// Hosts of the package registries this machine's clients are set up to use; a client that is missing is told and skipped.
fn registry_hosts() -> BTreeSet<String> {
    let mut urls = Vec::new();
    let mut ask = |client: &str, args: &[&str], keep: &dyn Fn(&str) -> bool| match run(client, args) {
        Some(text) => urls.extend(text.lines().filter(|l| keep(l)).flat_map(urls_in)),
        None => println!("skipped: `{client}` is not here or does not answer"),
    };
    let any = |_: &str| true;
    ask("apt-get", &["indextargets", "--format", "$(REPO_URI)"], &any);
    ask("pip", &["config", "list"], &|l| l.contains("index-url"));
    ask("pip", &["install", "--help"], &|l| l.contains("/simple"));
    ask("go", &["env", "GOPROXY"], &any);
    ask("npm", &["config", "get", "registry"], &any);
    let mut hosts: BTreeSet<String> = urls.iter().filter_map(|u| host_of(u)).collect();
    hosts.extend(run("go", &["env", "GOSUMDB"]).iter().filter_map(|name| host_of(&format!("https://{}", name.trim()))));
    hosts.extend(cargo_hosts());
    hosts.retain(|h| h.contains('.') && !h.starts_with("127."));
    hosts
}

/// Cargo's: the index names of `Cargo.lock` (`…/NAME-index` stands for the host NAME), and its configuration.
fn cargo_hosts() -> BTreeSet<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
    let sources = lock.lines().filter_map(|l| l.strip_prefix("source = \"registry+"));
    let mut hosts: BTreeSet<String> = sources.filter_map(|s| index_host(s.trim_end_matches('"'))).collect();
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|h| format!("{h}/.cargo")));
    match home.map(|h| std::fs::read_to_string(Path::new(&h).join("config.toml"))) {
        Ok(Ok(text)) => hosts.extend(text.lines().flat_map(urls_in).filter_map(|u| host_of(&u))),
        _ => println!("skipped: cargo has no configuration of its own here"),
    }
    hosts
}

fn index_host(url: &str) -> Option<String> {
    let last = url.trim_end_matches('/').rsplit('/').next()?;
    last.strip_suffix("-index").map(str::to_owned).or_else(|| host_of(url))
}

/// `http(s)` URLs of a line, without trailing punctuation.
fn urls_in(line: &str) -> Vec<String> {
    let cut = |c: char| c.is_whitespace() || "'\"|,()<>".contains(c);
    line.split(cut).filter_map(|w| w.find("http").map(|at| w[at..].to_owned())).filter(|w| w.contains("://")).collect()
}

fn host_of(url: &str) -> Option<String> {
    let host = url.split_once("://")?.1.split(['/', '?']).next()?.rsplit('@').next()?;
    let host = host.split(':').next()?.trim_end_matches('.').to_lowercase();
    (!host.is_empty()).then_some(host)
}

// ---------------------------------------------------------------- helpers

fn assert_clean(found: impl Iterator<Item = String>) {
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).current_dir(root()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Tracked text files (and new ones git does not ignore) with their text.
fn tracked() -> Vec<(String, String)> {
    let list = run("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = list.unwrap_or_else(|| panic!("`git ls-files` must work in {}", root().display()));
    let paths = list.split('\0').filter(|p| !p.is_empty());
    paths.filter_map(|p| Some((p.to_owned(), std::fs::read_to_string(root().join(p)).ok()?))).collect()
}

fn sources() -> impl Iterator<Item = (String, String)> {
    tracked().into_iter().filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs"))
}

/// The folder (or file) directly below `src/`; none for `lib.rs` and `main.rs`.
fn layer_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let first = rest.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(first, "lib.rs" | "main.rs")).then_some(name)
}

/// How many `super`s lead from this file's module to the crate's root.
fn depth(path: &str) -> usize {
    let parts = path.matches('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| !l.trim_start().starts_with("//"))
}

fn starts_word(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
}

// ---------------------------------------------------------------- each rule catches what it is for

#[test]
fn a_path_upwards_is_caught() {
    let caught = |path: &str, text: &str| against_layers(path, text).len();
    assert_eq!(caught("src/model/x.rs", "use crate::store::Store;\n"), 1);
    assert_eq!(caught("src/model/x.rs", "fn f() { crate::cli::run() }\n"), 1);
    assert_eq!(
        caught("src/store/x.rs", "use crate::{base::digest::{Digest, X},\n    source::Client, model::lock};\n"),
        1
    );
    assert_eq!(caught("src/serve/x.rs", "use crate::lab::X;\n"), 1);
    assert_eq!(caught("src/lab/x.rs", "use crate::serve::X;\n"), 1);
    assert_eq!(caught("src/model/lock/x.rs", "use super::super::super::store::Store;\n"), 1);
    assert_eq!(caught("src/misc/x.rs", ""), 1, "an unknown folder");
    assert_eq!(caught("src/store/x.rs", "use crate::model::lock;\nuse crate::store::y;\n// crate::cli\n"), 0);
    assert_eq!(caught("src/main.rs", "use crate::cli;\n"), 0);
}

#[test]
fn printing_and_environment_are_caught() {
    let caught = |path: &str, text: &str| terminal_or_environment(path, text).len();
    for bad in ["println!(\"x\")", "std::io::stdout().lock()", "std::env::var(\"X\")", "dbg!(1)", "env::args()"] {
        assert_eq!(caught("src/ops/x.rs", &format!("fn f() {{ {bad}; }}\n")), 1, "{bad}");
    }
    assert_eq!(caught("src/cli/x.rs", "println!()\n"), 0);
    assert_eq!(caught("src/ops/x.rs", "std::env::consts::OS\n// println!\nwriteln!(f)\n"), 0);
    assert_eq!(caught("src/ops/x.rs", "#[cfg(test)]\nmod tests {\n println!();\n}\n"), 0);
}

#[test]
fn long_and_undocumented_files_are_caught() {
    assert!(too_long("x.rs", &"x\n".repeat(MAX_LINES + 1)).is_some());
    assert!(too_long("x.rs", &"x\n".repeat(MAX_LINES)).is_none());
    assert!(without_module_doc("x.rs", "use std::fs;\n").is_some());
    assert!(without_module_doc("x.rs", "//! Why.\n").is_none());
    assert!(
        denies_missing_docs("#![deny(missing_docs, unsafe_code)]") && !denies_missing_docs("#![warn(missing_docs)]")
    );
}

#[test]
fn hosts_and_paths_are_caught() {
    let hosts = BTreeSet::from(["pkgs.example".to_owned()]);
    assert_eq!(names_host("x", "curl https://Pkgs.Example/x", &hosts).len(), 1);
    assert_eq!(names_host("x", "curl https://other.example/x", &hosts).len(), 0);
    assert_eq!(names_path("x", "cd \"/home/someone/src\"", &["/home/someone"]).len(), 1);
    assert_eq!(names_path("x", "/home/someone-else/src store/home/someone/x", &["/home/someone"]).len(), 0);
}

#[test]
fn hosts_are_read_from_what_clients_say() {
    assert_eq!(host_of("https://user@Go.Example:8443/x").as_deref(), Some("go.example"));
    assert_eq!(index_host("https://git.example/org/pkgs.example-index").as_deref(), Some("pkgs.example"));
    assert_eq!(index_host("https://index.example/simple").as_deref(), Some("index.example"));
    assert_eq!(urls_in("https://a.example,direct|https://b.example/x'"), ["https://a.example", "https://b.example/x"]);
    assert_eq!(urls_in("(default https://c.example/simple)."), ["https://c.example/simple"]);
}
