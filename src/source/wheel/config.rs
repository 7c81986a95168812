//! Which indexes: the mirrors of the settings (`archive_mirrors`, key `pypi`), else what the caller's own pip is configured
//! with, else pip's default, learnt from pip.
//!
//! Format: `pip config list` prints `SECTION.KEY='value'`, a Python literal, with `:env:` as the section of variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::process::Command;
use url::Url;

use super::error::WheelError;
use super::pip::io;
use crate::base::base64;
use crate::model::url_policy::shown;
use crate::source::{Net, SourceError};

/// How long a question about pip's configuration may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings' name for indexes of wheels.
const MIRROR: &str = "pypi";

/// What one asks of Python before pip: where it is, and whom it trusts.
const WHO: &str = "import ssl, sys; print(sys.executable); print(ssl.get_default_verify_paths().cafile or '')";

/// The indexes of this machine, and what it takes to ask them.
pub struct Indexes {
    net: Net,
    urls: Vec<Index>,
    python: Result<Python, String>,
    /// pip's own words for hosts without TLS and for its certificate authorities.
    settings: BTreeMap<String, String>,
}

/// One index: the root of a simple repository.
pub struct Index {
    /// As it is configured, with whatever secret is in it.
    whole: String,
    /// Without user info, ending in `/`.
    pub url: Url,
    /// The user info as a header.
    pub auth: Option<HeaderValue>,
}

/// The Python that runs pip.
pub struct Python {
    /// Where it is.
    pub executable: PathBuf,
    /// The certificate authorities its TLS library has, where it has a file of them.
    authorities: PathBuf,
}

impl Index {
    /// Reads an index's URL.
    pub(super) fn parse(text: &str) -> Result<Self, WheelError> {
        let bad = |why: String| WheelError::NoIndex { why: format!("`{}` {why}", shown(text)) };
        let mut url = Url::parse(text).map_err(|e| bad(format!("is no URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("is not spoken to with http or https".to_owned()));
        }
        let auth = user_info(&mut url)?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { whole: text.to_owned(), url, auth })
    }
}

/// Takes user and password out of a URL, as the header they stand for.
pub fn user_info(url: &mut Url) -> Result<Option<HeaderValue>, WheelError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = [url.username(), url.password().unwrap_or_default()].map(super::page::percent_decoded);
    let _ = (url.set_username(""), url.set_password(None));
    let text = format!("Basic {}", base64::encode(decoded.join(":").as_bytes()));
    let mut header = HeaderValue::from_str(&text).map_err(|e| WheelError::NoIndex { why: e.to_string() })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

impl Indexes {
    /// Asks the settings, then pip. Runs programs of this machine, but no request.
    pub async fn learn(net: &Net) -> Result<Self, SourceError> {
        let python = who().await;
        let mirrors = net.options().archive_mirrors.get(MIRROR).filter(|urls| !urls.is_empty());
        let (urls, settings) = match (&python, mirrors) {
            (Err(_), Some(mirrors)) => (mirrors.clone(), BTreeMap::new()),
            (Err(error), None) => return Err(again(error).into()),
            (Ok(python), mirrors) => {
                let configured = ask(&python.executable, &["-m", "pip", "config", "list"]).await;
                match (configured, mirrors) {
                    (Ok(list), Some(mirrors)) => (mirrors.clone(), settings(&list)),
                    (Err(_), Some(mirrors)) => (mirrors.clone(), BTreeMap::new()),
                    (Err(why), None) => return Err(no_pip(&why).into()),
                    (Ok(list), None) => {
                        let settings = settings(&list);
                        (configured_urls(&settings, &python.executable).await?, settings)
                    }
                }
            }
        };
        let urls = urls.iter().map(|url| Index::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let python = python.map_err(|e| e.to_string());
        Ok(Self { net: trusting(net, &settings), urls, python, settings })
    }

    /// The network to ask them with: it trusts what pip is told to trust.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// In the order they are asked.
    pub fn all(&self) -> &[Index] {
        &self.urls
    }

    /// For people: without secrets.
    pub fn shown(&self) -> String {
        self.urls.iter().map(|index| shown(index.url.as_str())).collect::<Vec<_>>().join(" and ")
    }

    /// The Python that runs pip.
    ///
    /// # Errors
    /// When there is none.
    pub fn python(&self) -> Result<&Python, WheelError> {
        self.python.as_ref().map_err(|why| WheelError::NoPython { why: why.clone() })
    }

    /// pip's environment variables that say all this; `scratch` is for a file of certificates.
    pub fn for_pip(&self, scratch: &Path, ca_files: &[PathBuf]) -> Result<Vec<(&'static str, String)>, SourceError> {
        let (first, others) =
            self.urls.split_first().ok_or_else(|| WheelError::NoIndex { why: "none is given".into() })?;
        let mut all = vec![("PIP_INDEX_URL", first.whole.clone())];
        if !others.is_empty() {
            let others: Vec<&str> = others.iter().map(|index| index.whole.as_str()).collect();
            all.push(("PIP_EXTRA_INDEX_URL", others.join(" ")));
        }
        let given = |key: &str| self.settings.get(key).cloned();
        if let Some(hosts) = given("trusted-host") {
            all.push(("PIP_TRUSTED_HOST", hosts.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        let cert = given("cert").map(PathBuf::from);
        if ca_files.is_empty() {
            all.extend(cert.map(|path| ("PIP_CERT", path.display().to_string())));
            return Ok(all);
        }
        // pip takes one file in place of its own: all of them in one.
        let base = cert.or_else(|| self.python.as_ref().ok().map(|p| p.authorities.clone()));
        let mut bundle = Vec::new();
        for path in base.iter().filter(|path| path.is_file()).chain(ca_files) {
            bundle.extend(fs_err::read(path).map_err(|e| io(path, e))?);
            bundle.push(b'\n');
        }
        let path = scratch.join("authorities.pem");
        fs_err::write(&path, bundle).map_err(|e| io(&path, e))?;
        all.push(("PIP_CERT", path.display().to_string()));
        Ok(all)
    }
}

/// The same network, also trusting the authorities pip is configured with.
fn trusting(net: &Net, settings: &BTreeMap<String, String>) -> Net {
    match settings.get("cert").map(PathBuf::from).filter(|path| path.is_file()) {
        Some(cert) => net.trusting(cert),
        None => net.clone(),
    }
}

async fn who() -> Result<Python, WheelError> {
    let said = ask(Path::new("python3"), &["-c", WHO]).await.map_err(|why| WheelError::NoPython { why })?;
    let mut lines = said.lines().map(PathBuf::from);
    let executable = lines.next().filter(|path| path.is_absolute());
    let executable =
        executable.ok_or_else(|| WheelError::NoPython { why: "it does not say where it is".to_owned() })?;
    Ok(Python { executable, authorities: lines.next().unwrap_or_default() })
}

/// Runs Python as the caller would (with the caller's environment: that is where the configuration may be) and gives what
/// it prints, or why it failed.
async fn ask(python: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(python);
    command.arg("-I").args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output());
    let output = output.await.map_err(|_| format!("no answer in {PATIENCE:?}"))?.map_err(|e| e.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it failed").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn no_pip(why: &str) -> WheelError {
    if why.contains("No module named") {
        WheelError::NoPip
    } else {
        WheelError::Pip { said: super::refusal::clean(why) }
    }
}

fn again(error: &WheelError) -> WheelError {
    match error {
        WheelError::NoPython { why } => WheelError::NoPython { why: why.clone() },
        _ => WheelError::NoPip,
    }
}

/// What holds for `pip install`: variables before the section `install` before `global`.
fn settings(list: &str) -> BTreeMap<String, String> {
    let rank = |section: &str| ["global", "install", ":env:"].iter().position(|s| *s == section);
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for line in list.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let Some((section, key)) = name.rsplit_once('.') else { continue };
        let Some(rank) = rank(section) else { continue };
        if found.get(key).is_none_or(|(known, _)| *known <= rank) {
            found.insert(key.to_owned(), (rank, literal(value)));
        }
    }
    found.into_iter().map(|(key, (_, value))| (key, value)).collect()
}

/// A Python string literal's value, as far as URLs and paths need it.
fn literal(text: &str) -> String {
    let text = text.trim();
    let quoted = |q: char| text.strip_prefix(q).and_then(|t| t.strip_suffix(q));
    let inner = quoted('\'').or_else(|| quoted('"')).unwrap_or(text);
    inner.replace("\\n", "\n").replace("\\'", "'").replace("\\\\", "\\")
}

async fn configured_urls(settings: &BTreeMap<String, String>, python: &Path) -> Result<Vec<String>, WheelError> {
    let off = settings.get("no-index").is_some_and(|v| !matches!(v.as_str(), "0" | "false" | "no" | "off" | ""));
    if off {
        return Err(WheelError::NoIndex { why: "pip is configured with `no-index`".to_owned() });
    }
    let first = match settings.get("index-url") {
        Some(url) => url.clone(),
        None => default_url(python).await?,
    };
    let others = settings.get("extra-index-url").map(String::as_str).unwrap_or_default();
    Ok(std::iter::once(first.trim().to_owned()).chain(others.split_whitespace().map(str::to_owned)).collect())
}

/// What pip asks when nobody says anything: its help tells.
async fn default_url(python: &Path) -> Result<String, WheelError> {
    let help = ask(python, &["-m", "pip", "install", "--help"]).await.map_err(|why| no_pip(&why))?;
    in_help(&help).ok_or_else(|| WheelError::NoIndex { why: "pip does not tell its default".to_owned() })
}

fn in_help(help: &str) -> Option<String> {
    let option = &help[help.find("--index-url")?..];
    let default = &option[option.find("(default")? + "(default".len()..];
    let url = default.split_whitespace().next()?.trim_end_matches(['.', ')']);
    url.contains("://").then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_win_over_files() {
        let list = "global.cert='/a.pem'\nglobal.index-url='https://one.example/simple'\n\
                    install.index-url='https://two.example/simple'\n:env:.extra-index-url='https://x.example \\n https://y.example'\n\
                    freeze.timeout='10'\n";
        let settings = settings(list);
        assert_eq!(settings["index-url"], "https://two.example/simple");
        assert_eq!(settings["extra-index-url"].split_whitespace().count(), 2);
        assert_eq!(settings["cert"], "/a.pem");
        assert!(!settings.contains_key("timeout"));
    }

    #[test]
    fn the_default_is_found_in_the_help() {
        let help = "  -i, --index-url <url>       Base URL of the Index (default\n        https://h.example/simple). This should\n";
        assert_eq!(in_help(help).unwrap(), "https://h.example/simple");
        assert_eq!(in_help("--index-url <url> Base URL"), None);
    }

    #[test]
    fn an_index_never_shows_its_password() {
        let index = Index::parse("https://me:hunter%32@h.example/simple").unwrap();
        assert_eq!(index.url.as_str(), "https://h.example/simple/");
        let auth = index.auth.unwrap();
        assert_eq!(auth.to_str().unwrap(), format!("Basic {}", base64::encode(b"me:hunter2")));
        assert!(!format!("{auth:?}").contains("Basic"));
        let error = Index::parse("ftp://me:hunter2@h.example").err().unwrap().to_string();
        assert!(!error.contains("hunter2") && error.contains("ftp://h.example"), "{error}");
    }
}
