//! Settings: flags over environment over `labimg.local.toml` beside the profile (as far as it counts: `local_settings`) over
//! the user's file. Only this file reads the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::args::Global;
use super::local_settings::{self, Policy};
use crate::base::bounds::{FINDING_CHARS, PROFILE_BYTES};
use crate::base::{bounded, regular, shown};
use crate::ops::OpsError;
use crate::ops::local::LocalRoots;
use crate::source::options::{NetOptions, ProxyOptions};

/// Everything a machine may want to be different. None of it ever enters a profile, lock or bundle.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SettingsFile {
    /// The store.
    pub store: Option<PathBuf>,
    /// Downloads at a time.
    pub jobs: Option<u16>,
    /// Downloads at a time from one host.
    pub per_host: Option<u16>,
    /// Tries per request.
    pub tries: Option<u32>,
    /// Seconds without a byte before a download is tried anew.
    pub stall_timeout: Option<u64>,
    /// Cores that building may use.
    pub cores: Option<u16>,
    /// Memory in MiB that build steps share.
    pub memory: Option<u32>,
    /// No network.
    pub offline: Option<bool>,
    /// Registries that speak plain HTTP.
    #[serde(default)]
    pub plain_http: Vec<String>,
    /// PEM files of certificate authorities to trust, too; relative to this file.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// Credential files; relative to this file.
    #[serde(default)]
    pub credentials: Vec<PathBuf>,
    /// Builds of labimg for bundles to carry; relative to this file.
    #[serde(default)]
    pub carry: Vec<PathBuf>,
    /// Mirrors: a registry, `*`, or the start of a URL, to one or more addresses.
    #[serde(default)]
    pub mirror: BTreeMap<String, OneOrMany>,
    /// Proxies.
    #[serde(default)]
    pub proxy: ProxyFile,
    /// Folder of labs' state; relative to this file.
    pub state: Option<PathBuf>,
    /// Folder that profiles may take files from, too; relative to this file.
    pub root: Option<PathBuf>,
    /// Take `kind`, `kubectl`, `helm`… from PATH instead of the bundle.
    pub tools_from_path: Option<bool>,
    /// What engines need on this machine.
    #[serde(default)]
    pub engine: BTreeMap<String, EngineFile>,
}

/// One address or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several, asked in this order.
    Many(Vec<String>),
}

/// Proxies.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProxyFile {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts that need none, comma-separated.
    pub no_proxy: Option<String>,
}

/// Quirks of one engine on this machine; used when a lab comes up.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EngineFile {
    /// Further patches of the engine's configuration.
    #[serde(default)]
    pub config_patches: Vec<String>,
    /// Feature gates.
    #[serde(default)]
    pub feature_gates: BTreeMap<String, bool>,
    /// Environment of the engine's own program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl EngineFile {
    /// One line on what is set for the engine `name`. Values stay out of it: an environment may hold secrets.
    pub fn summary(&self, name: &str) -> String {
        let keys = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        format!(
            "{name}: {} configuration patches, feature gates [{}], environment [{}]",
            self.config_patches.len(),
            keys(self.feature_gates.keys().collect()),
            keys(self.env.keys().collect())
        )
    }
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store.
    pub store: PathBuf,
    /// The network.
    pub net: NetOptions,
    /// How many things at a time.
    pub jobs: usize,
    /// Cores that building may use.
    pub cores: usize,
    /// Memory in MiB that build steps share.
    pub memory: u64,
    /// Folder with one state folder per lab; `None` where nothing says where.
    pub state: Option<PathBuf>,
    /// Take `kind`, `kubectl`, `helm`… from PATH instead of the bundle.
    pub tools_from_path: bool,
    /// Builds of labimg for bundles to carry, the strongest first.
    pub carry: Vec<PathBuf>,
    /// Engine quirks, by engine.
    pub engine: BTreeMap<String, EngineFile>,
    /// Where files that a profile names may come from.
    pub roots: LocalRoots,
    /// Files that were read, the strongest first.
    pub files: Vec<PathBuf>,
    /// What a person is told of the folder's own settings, where they are in force.
    pub local: Option<String>,
}

/// The environment, read once.
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The process's own.
    pub fn read() -> Self {
        let pairs = std::env::vars_os();
        Self(pairs.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// Everything, for programs that are run.
    pub fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    fn list(&self, name: &str) -> Vec<String> {
        let split = |text: &str| text.split([',', ' ']).filter(|p| !p.is_empty()).map(str::to_owned).collect();
        self.get(name).map(split).unwrap_or_default()
    }

    /// Paths may hold blanks and commas.
    fn paths(&self, name: &str) -> Vec<PathBuf> {
        let text = self.get(name).unwrap_or_default();
        text.split([':', '\n']).filter(|p| !p.is_empty()).map(PathBuf::from).collect()
    }

    fn either(&self, a: &str, b: &str) -> Option<String> {
        self.get(a).or_else(|| self.get(b)).map(str::to_owned)
    }

    /// labimg's folder among the person's own configuration.
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.home("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("labimg"))
    }

    fn home(&self, xdg: &str, below: &str) -> Option<PathBuf> {
        self.get(xdg).map(PathBuf::from).or_else(|| self.get("HOME").map(|home| Path::new(home).join(below)))
    }
}

/// Puts the settings together for a verb that works on `profile` (or on none).
///
/// # Errors
/// A settings file that can not be read, values that make no sense, no home for the store.
pub fn resolve(global: &Global, env: &Env, profile: Option<&Path>, stores: bool) -> Result<Settings, OpsError> {
    let beside = profile.map_or(Path::new("."), crate::base::atomic::parent);
    let mut files = Vec::new();
    let mut layers = Vec::new();
    let mut told = None;
    if let Some(local) = local_settings::in_force(beside, policy(global, env)?, env)? {
        told = Some(local.told());
        files.push(local.path);
        layers.push(local.settings);
    }
    if let Some(path) = user_file(env)
        && let Some(text) = read_text(&path)?
    {
        layers.push(parse(&path, &text)?);
        files.push(path);
    }
    let net = net_options(global, env, &layers)?;
    let jobs = net.jobs;
    let cores = global.cores.or(number(env, "LABIMG_CORES")?).or(layers.iter().find_map(|l| l.cores));
    let memory = global.memory.or(number(env, "LABIMG_MEMORY")?).or(layers.iter().find_map(|l| l.memory));
    Ok(Settings {
        // In a container there may be no place for one.
        store: match store(global, env, &layers) {
            Err(_) if !stores => PathBuf::new(),
            place => place?,
        },
        net,
        jobs,
        cores: cores.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from),
        memory: memory.map_or_else(most_memory, u64::from),
        state: state(env, &layers),
        tools_from_path: layers.iter().find_map(|l| l.tools_from_path).unwrap_or(false),
        carry: carry(global, env, &layers),
        engine: engines(&layers),
        roots: roots(global, env, &layers),
        files,
        local: told,
    })
}

/// The person's own settings file, which need not be there.
pub fn user_file(env: &Env) -> Option<PathBuf> {
    env.config_dir().map(|dir| dir.join("settings.toml"))
}

/// What is to happen with a folder's own settings.
fn policy(global: &Global, env: &Env) -> Result<Policy, OpsError> {
    match (global.local_settings, env.get("LABIMG_LOCAL_SETTINGS")) {
        (Some(policy), _) => Ok(policy),
        (None, None) => Ok(Policy::default()),
        (None, Some(text)) => <Policy as clap::ValueEnum>::from_str(text, false)
            .map_err(|_| OpsError::user("LABIMG_LOCAL_SETTINGS is neither `ask` nor `allow` nor `ignore`")),
    }
}

/// The text of a settings file, where there is one.
///
/// # Errors
/// A file that can not be read.
pub fn read_text(path: &Path) -> Result<Option<String>, OpsError> {
    match regular::read(path, PROFILE_BYTES) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(OpsError::user(format!("settings file `{}` is not UTF-8 text", path.display()))),
        },
    }
}

/// Reads the text of the settings file at `path`; paths in it then start at its folder.
///
/// # Errors
/// Unknown keys, and values that make no sense.
pub fn parse(path: &Path, text: &str) -> Result<SettingsFile, OpsError> {
    let mut file: SettingsFile = bounded::from_toml(text).map_err(|e| wrong_file(path, text, &e))?;
    in_range(path, &file)?;
    let dir = crate::base::atomic::parent(path);
    let lists = file.ca.iter_mut().chain(&mut file.credentials).chain(&mut file.carry);
    for path in lists.chain(&mut file.store).chain(&mut file.state).chain(&mut file.root) {
        *path = dir.join(&path);
    }
    Ok(file)
}

/// Where files that a profile names may come from.
fn roots(global: &Global, env: &Env, layers: &[SettingsFile]) -> LocalRoots {
    let named = global.root.clone().or_else(|| env.get("LABIMG_ROOT").map(PathBuf::from));
    LocalRoots {
        named: named.or_else(|| layers.iter().find_map(|l| l.root.clone())),
        home: env.get("HOME").map(PathBuf::from),
    }
}

/// Place and reason only: the line itself may hold a proxy's password.
fn wrong_file(path: &Path, text: &str, error: &toml::de::Error) -> OpsError {
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!(":{line}:{column}")
    });
    let why = crate::model::url_policy::masked(&unquoted(error.message().trim_end()));
    let why = shown::cut(&why, FINDING_CHARS);
    let message = format!("settings file `{}{}`: {why}", path.display(), place.unwrap_or_default());
    match did_you_mean(&why) {
        Some(name) => OpsError::hinted(message, format!("did you mean `{name}`?")),
        None => OpsError::user(message),
    }
}

/// serde's message without the value it quotes.
fn unquoted(message: &str) -> String {
    match (message.starts_with("invalid "), message.find('"'), message.rfind('"')) {
        (true, Some(from), Some(to)) => format!("{}{}", message[..from].trim_end(), &message[to + 1..]),
        _ => message.to_owned(),
    }
}

/// The known key nearest to the unknown one, both out of serde's message.
fn did_you_mean(message: &str) -> Option<&str> {
    let names = message.strip_prefix("unknown field `")?;
    let (found, known) = names.split_once('`')?;
    let known = known.split('`').skip(1).step_by(2);
    let nearest = known.map(|name| (shown::alike(found, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.filter(|(likeness, _)| *likeness > 0.75).map(|(_, name)| name)
}

/// The numbers are those that the flags take, too (`args.rs`).
fn in_range(path: &Path, file: &SettingsFile) -> Result<(), OpsError> {
    let zero = [
        ("jobs", file.jobs == Some(0)),
        ("per-host", file.per_host == Some(0)),
        ("tries", file.tries == Some(0)),
        ("stall-timeout", file.stall_timeout == Some(0)),
        ("cores", file.cores == Some(0)),
        ("memory", file.memory == Some(0)),
    ];
    if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
        return Err(OpsError::user(format!("settings file `{}`: `{name}` is not above 0", path.display())));
    }
    let most = [("jobs", file.jobs, 256), ("per-host", file.per_host, 256), ("cores", file.cores, 1024)];
    match most.iter().find(|(_, is, most)| is.is_some_and(|is| is > *most)) {
        Some((name, _, most)) => {
            Err(OpsError::user(format!("settings file `{}`: `{name}` is above {most}", path.display())))
        }
        None => Ok(()),
    }
}

fn store(global: &Global, env: &Env, layers: &[SettingsFile]) -> Result<PathBuf, OpsError> {
    global
        .store
        .clone()
        .or_else(|| env.get("LABIMG_STORE").map(PathBuf::from))
        .or_else(|| layers.iter().find_map(|l| l.store.clone()))
        .or_else(|| env.home("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("labimg/store")))
        .ok_or_else(|| OpsError::hinted("no place for the store: HOME is not set", "give one: --store DIR"))
}

/// Where labs keep what they know (XDG base directories, "state").
fn state(env: &Env, layers: &[SettingsFile]) -> Option<PathBuf> {
    env.get("LABIMG_STATE")
        .map(PathBuf::from)
        .or_else(|| layers.iter().find_map(|l| l.state.clone()))
        .or_else(|| env.home("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("labimg/labs")))
        .map(|path| std::path::absolute(&path).unwrap_or(path))
}

fn carry(global: &Global, env: &Env, layers: &[SettingsFile]) -> Vec<PathBuf> {
    let mut files = global.carry.clone();
    files.extend(env.paths("LABIMG_CARRY"));
    files.extend(layers.iter().flat_map(|l| l.carry.clone()));
    files
}

/// A variable that holds a number above 0.
fn number<T: std::str::FromStr + PartialOrd + Default>(env: &Env, name: &str) -> Result<Option<T>, OpsError> {
    match env.get(name).map(str::parse::<T>) {
        Some(Ok(n)) if n > T::default() => Ok(Some(n)),
        Some(_) => Err(OpsError::user(format!("{name} is not a number above 0"))),
        None => Ok(None),
    }
}

/// Three quarters of this machine's memory in MiB; 1024 where it does not say (`proc_meminfo(5)`).
fn most_memory() -> u64 {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    total.map_or(1024, |kib| kib / 1024 * 3 / 4)
}

fn net_options(global: &Global, env: &Env, layers: &[SettingsFile]) -> Result<NetOptions, OpsError> {
    let defaults = NetOptions::default();
    let layer = |get: fn(&SettingsFile) -> Option<u16>| layers.iter().find_map(get);
    let jobs = global.jobs.or(number(env, "LABIMG_JOBS")?).or(layer(|l| l.jobs));
    let per_host = global.per_host.or(number(env, "LABIMG_PER_HOST")?).or(layer(|l| l.per_host));
    let offline = global.offline
        || match env.get("LABIMG_OFFLINE") {
            Some(text) => !matches!(text, "0" | "false" | "no"),
            None => layers.iter().find_map(|l| l.offline).unwrap_or(false),
        };
    let mut options = NetOptions {
        jobs: jobs.map_or(defaults.jobs, usize::from),
        per_host: per_host.map_or(defaults.per_host, usize::from),
        tries: layers.iter().find_map(|l| l.tries).unwrap_or(defaults.tries),
        stall_timeout: layers.iter().find_map(|l| l.stall_timeout).map_or(defaults.stall_timeout, Duration::from_secs),
        offline,
        proxy: proxy(env, layers),
        ..defaults
    };
    options.plain_http = [global.plain_http.clone(), env.list("LABIMG_PLAIN_HTTP")].concat();
    options.plain_http.extend(layers.iter().flat_map(|l| l.plain_http.clone()));
    options.ca_files = global.ca.clone();
    options.ca_files.extend(env.paths("LABIMG_CA"));
    options.ca_files.extend(layers.iter().flat_map(|l| l.ca.clone()));
    (options.credential_files, options.usual_credential_files) = credential_files(global, env, layers);
    mirrors(global, env, layers, &mut options)?;
    Ok(options)
}

fn proxy(env: &Env, layers: &[SettingsFile]) -> ProxyOptions {
    let layer = |get: fn(&ProxyFile) -> Option<String>| layers.iter().find_map(|l| get(&l.proxy));
    let all = || env.either("ALL_PROXY", "all_proxy");
    ProxyOptions {
        http: env.either("HTTP_PROXY", "http_proxy").or_else(all).or_else(|| layer(|p| p.http.clone())),
        https: env.either("HTTPS_PROXY", "https_proxy").or_else(all).or_else(|| layer(|p| p.https.clone())),
        no_proxy: env.either("NO_PROXY", "no_proxy").or_else(|| layer(|p| p.no_proxy.clone())),
    }
}

/// Where credentials may be: in named files, which must be there once the network is used, and where Docker and the
/// containers tools keep theirs; of those, files that are not there are left out.
fn credential_files(global: &Global, env: &Env, layers: &[SettingsFile]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut named = global.credentials.clone();
    named.extend(env.paths("LABIMG_CREDENTIALS"));
    named.extend(layers.iter().flat_map(|l| l.credentials.clone()));
    let usual = [
        env.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        env.get("XDG_RUNTIME_DIR").map(|d| Path::new(d).join("containers/auth.json")),
        env.home("XDG_CONFIG_HOME", ".config").map(|d| d.join("containers/auth.json")),
        env.home("DOCKER_CONFIG", ".docker").map(|d| d.join("config.json")),
    ];
    (named, usual.into_iter().flatten().filter(|f| f.is_file()).collect())
}

fn mirrors(global: &Global, env: &Env, layers: &[SettingsFile], options: &mut NetOptions) -> Result<(), OpsError> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for layer in layers.iter().rev() {
        for (from, to) in &layer.mirror {
            let to = match to {
                OneOrMany::One(one) => vec![one.clone()],
                OneOrMany::Many(many) => many.clone(),
            };
            found.insert(from.clone(), to);
        }
    }
    for flags in [env.list("LABIMG_MIRROR"), global.mirror.clone()] {
        let mut mine: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for flag in flags {
            let (from, to) = split_mirror(&flag)?;
            mine.entry(from.to_owned()).or_default().push(to.to_owned());
        }
        found.extend(mine);
    }
    for (from, to) in found {
        for address in &to {
            check_address(address)?;
        }
        if from.contains("://") {
            options.url_mirrors.extend(to.into_iter().map(|to| (from.clone(), to)));
        } else if is_archive(&from) {
            options.archive_mirrors.insert(from, to);
        } else {
            options.registry_mirrors.insert(from, to);
        }
    }
    // The longest prefix is the most exact one.
    options.url_mirrors.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
    Ok(())
}

/// A registry's host has a dot, a port, or is `localhost` (distribution, "reference"); a bare word is a package archive.
fn is_archive(from: &str) -> bool {
    from != "*" && from != "localhost" && !from.contains(['.', ':', '/'])
}

fn split_mirror(flag: &str) -> Result<(&str, &str), OpsError> {
    let wrong = || {
        OpsError::hinted(
            format!("`{flag}` is not a mirror"),
            "FROM=TO, as in docker.io=http://127.0.0.1:5000 or https://github.com=http://127.0.0.1:8081/github.com",
        )
    };
    let (from, to) = flag.split_once('=').ok_or_else(wrong)?;
    if from.is_empty() || to.is_empty() { Err(wrong()) } else { Ok((from, to)) }
}

fn check_address(address: &str) -> Result<(), OpsError> {
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    crate::model::url_policy::check_url(&with_scheme)
        .map(|_| ())
        .map_err(|e| OpsError::user(format!("mirror address: {e}")))
}

fn engines(layers: &[SettingsFile]) -> BTreeMap<String, EngineFile> {
    let mut found = BTreeMap::new();
    for layer in layers.iter().rev() {
        found.extend(layer.engine.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_never_quoted() {
        let said = |text: &str| {
            let error = toml::from_str::<SettingsFile>(text).unwrap_err();
            let error = wrong_file(Path::new("s.toml"), text, &error);
            assert!(!error.to_string().contains("hunter2"), "{error}");
            (error.to_string(), error.hint().unwrap_or_default())
        };
        let (text, hint) = said("jobs = 1\nstroe = \"hunter2\"\n");
        assert!(text.starts_with("settings file `s.toml:2:1`: unknown field `stroe`"), "{text}");
        assert_eq!(hint, "did you mean `store`?");
        assert!(said("proxy = \"u:hunter2@h\"\n").0.contains("invalid type: string, expected"));
        said("[proxy]\nhttp = \"http://u:hunter2@h:1\n");
        said("[proxy]\nhttp = http://u:hunter2@h:1\n");
        said("[proxy]\nhttps = [\"http://u:hunter2@h:1\"]\n");
        said("jobs = \"u:hunter2@h\"\n");
    }

    #[test]
    fn paths_may_hold_blanks_and_commas() {
        let env = Env([("LABIMG_CA".to_owned(), "/a b/c,d.pem:/e.pem\n".to_owned())].into());
        assert_eq!(env.paths("LABIMG_CA"), [Path::new("/a b/c,d.pem"), Path::new("/e.pem")]);
        assert!(env.paths("LABIMG_CREDENTIALS").is_empty());
    }
}
