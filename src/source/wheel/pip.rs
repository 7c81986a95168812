//! One run of pip, away from everything this machine has, and its report.
//!
//! Format: "Installation report" of pip's documentation, version 1.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use super::config::Indexes;
use super::page::percent_decoded;
use super::{Target, WheelError, WheelRequest};
use crate::base::digest::Digest;
use crate::model::wheel::platform_tags;
use crate::source::{Net, SourceError};

/// How long pip may choose. Backtracking has no end of its own.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The most bytes of a report: it holds the whole metadata of every wheel.
const MOST_REPORT: u64 = 64 << 20;

/// The file of requirements.
const REQUIREMENTS: &str = "requirements.txt";

/// What it runs as.
const PROGRAM: &str = include_str!("target.py");

/// What pip would install.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// The wheels.
    #[serde(default)]
    pub install: Vec<Chosen>,
    #[serde(default)]
    environment: Environment,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Environment {
    platform_machine: String,
    python_version: String,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub struct Chosen {
    download_info: DownloadInfo,
    /// Its core metadata.
    pub metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct DownloadInfo {
    url: String,
    #[serde(default)]
    archive_info: Option<ArchiveInfo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ArchiveInfo {
    hashes: Hashes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hashes {
    sha256: Option<String>,
}

/// Core metadata, as much of it as is needed.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The project.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Report {
    /// Whether pip judged markers for the target.
    pub fn for_target(&self, target: Target) -> bool {
        self.environment.platform_machine == target.machine
            && self.environment.python_version == target.python.to_string()
    }
}

impl Chosen {
    /// The file's name.
    ///
    /// # Errors
    /// A URL without one.
    pub fn file(&self) -> Result<String, WheelError> {
        let path = self.download_info.url.split(['?', '#']).next().unwrap_or_default();
        let last = percent_decoded(path.rsplit('/').next().unwrap_or_default());
        let wrong = || WheelError::Pip { said: format!("its report has no file for {}", self.metadata.name) };
        if last.is_empty() { Err(wrong()) } else { Ok(last) }
    }

    /// The digest pip learnt, if it did.
    ///
    /// # Errors
    /// A text that is no digest.
    pub fn digest(&self) -> Result<Option<Digest>, WheelError> {
        let text = self.download_info.archive_info.as_ref().and_then(|a| a.hashes.sha256.as_deref());
        let wrong = |e| WheelError::Pip {
            said: format!("its report has a digest of {} that is none: {e}", self.metadata.name),
        };
        text.map(|hex| Digest::from_hex(&hex.to_ascii_lowercase()).map_err(wrong)).transpose()
    }
}

/// Whether the requirement is a name with versions, extras, markers and digests, and nothing that would make pip read a
/// file, a URL or an option.
///
/// # Errors
/// [`WheelError::Requirement`].
pub fn check_requirement(text: &str) -> Result<(), WheelError> {
    let wrong =
        |why: &str| WheelError::Requirement { text: crate::model::url_policy::shown(text), why: why.to_owned() };
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(wrong("it does not start with the name of a project"));
    }
    if text.contains(|c: char| c.is_control() || "\\#$%`".contains(c)) {
        return Err(wrong("it holds a character that has no place in it"));
    }
    let mut parts = text.split(" --");
    let requirement = parts.next().unwrap_or_default();
    if requirement.contains(['@', '/']) {
        return Err(wrong("labimg takes wheels from an index, not from a URL or a path"));
    }
    for option in parts {
        let hex = option.trim_end().strip_prefix("hash=sha256:");
        if hex.is_none_or(|hex| Digest::from_hex(hex).is_err()) {
            return Err(wrong("the only option it may have is `--hash=sha256:` and 64 hex digits"));
        }
    }
    Ok(())
}

/// The project's name at the start of a requirement.
pub fn name_of(requirement: &str) -> &str {
    let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(requirement.len());
    requirement[..end].trim_end_matches(['-', '_', '.'])
}

/// Lets pip choose. `Err` inside is what it said when it failed.
///
/// # Errors
/// A pip that can not be run or gives no report.
pub async fn run(
    net: &Net,
    indexes: &Indexes,
    request: &WheelRequest,
    target: Target,
) -> Result<Result<Report, String>, SourceError> {
    if net.options().offline {
        return Err(SourceError::Offline { url: indexes.shown() });
    }
    let scratch = tempfile::tempdir().map_err(|e| io(&std::env::temp_dir(), e))?;
    let (requirements, report) = (scratch.path().join(REQUIREMENTS), scratch.path().join("report.json"));
    let text = request.requirements.iter().map(|r| format!("{r}\n")).collect::<String>();
    fs_err::write(&requirements, text).map_err(|e| io(&requirements, e))?;
    let mut command = Command::new(&indexes.python()?.executable);
    command.args(["-I", "-B", "-c", PROGRAM]).arg(markers(target)).args(["install", "--dry-run", "--ignore-installed"]);
    command.args(["--progress-bar=off", "--only-binary=:all:", "--implementation=cp", "--abi=abi3", "--abi=none"]);
    command.arg(format!("--abi={}", target.python.tag())).arg(format!("--python-version={}", target.python));
    command.args(platform_tags(target.platform).iter().map(|tag| format!("--platform={tag}")));
    command.arg("--report").arg(&report).arg("--target").arg(scratch.path().join("target"));
    // By a relative name: pip repeats it in what it says.
    command.args(["--requirement", REQUIREMENTS]).current_dir(scratch.path()).env_clear();
    environment(&mut command, net, indexes, scratch.path())?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| WheelError::Pip { said: format!("it did not end in {} minutes", PATIENCE.as_secs() / 60) })?
        .map_err(|e| WheelError::NoPython { why: e.to_string() })?;
    if !output.status.success() {
        // Who wants what it says on stdout, what it could not do on stderr.
        return Ok(Err([output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).join("\n")));
    }
    read_report(&report).map(Ok)
}

/// What the target answers to each marker. The oldest patch of its Python, as nobody knows which one an image will have:
/// conditions on patches ask for a stand-in below one.
fn markers(target: Target) -> String {
    let full = format!("{}.0", target.python);
    json!({
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": target.python.to_string(),
        "sys_platform": "linux",
    })
    .to_string()
}

/// All of pip's environment. The index stands here, not among the arguments: it may hold a password, and everybody sees
/// arguments.
fn environment(command: &mut Command, net: &Net, indexes: &Indexes, scratch: &Path) -> Result<(), SourceError> {
    let options = net.options();
    for (key, value) in [("HOME", scratch), ("TMPDIR", scratch)] {
        command.env(key, value);
    }
    for (key, value) in [
        ("LC_ALL", "C.UTF-8"),
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("PIP_NO_INPUT", "1"),
        ("PIP_NO_COLOR", "1"),
    ] {
        command.env(key, value);
    }
    command.env("PIP_RETRIES", options.tries.saturating_sub(1).to_string());
    command.env("PIP_TIMEOUT", options.stall_timeout.as_secs().max(1).to_string());
    let direct = ["localhost,127.0.0.1,::1", options.proxy.no_proxy.as_deref().unwrap_or_default()].join(",");
    command.env("NO_PROXY", direct.trim_end_matches(','));
    for (key, proxy) in [("HTTP_PROXY", &options.proxy.http), ("HTTPS_PROXY", &options.proxy.https)] {
        if let Some(proxy) = proxy {
            command.env(key, proxy);
        }
    }
    for (key, value) in indexes.for_pip(scratch, &options.ca_files)? {
        command.env(key, value);
    }
    Ok(())
}

fn read_report(path: &Path) -> Result<Report, SourceError> {
    let size = fs_err::metadata(path).map_err(|e| io(path, e))?.len();
    if size > MOST_REPORT {
        return Err(WheelError::Pip { said: format!("its report has {size} bytes, more than {MOST_REPORT}") }.into());
    }
    let text = fs_err::read(path).map_err(|e| io(path, e))?;
    serde_json::from_slice(&text)
        .map_err(|e| WheelError::Pip { said: format!("its report is not as it must be: {e}") }.into())
}

pub(super) fn io(path: &Path, source: std::io::Error) -> SourceError {
    SourceError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_name_projects_and_nothing_else() {
        let hash = format!("flask==3.0.3 --hash=sha256:{}", "a".repeat(64));
        for good in ["flask", "flask==3.0.*", "a[b,c]>=1,<2 ; python_version < \"3.12\"", "redis ~= 5.0", hash.as_str()]
        {
            assert!(check_requirement(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-r other.txt",
            "--index-url=https://x.example",
            "./local",
            "local/path",
            "x @ https://user:hunter2@h.example/x-1-py3-none-any.whl",
            "https://h.example/x.whl",
            "x\n--pre",
            "x --pre",
            "x --hash=md5:00",
            "x ${HOME}",
            "x # y",
        ] {
            let error = check_requirement(bad).expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!((name_of("a-b.c[x]>=1"), name_of("redis ~= 5")), ("a-b.c", "redis"));
    }
}
