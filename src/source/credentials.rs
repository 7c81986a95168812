//! Registry credentials as Docker and the containers tools keep them.
//!
//! Formats: Docker's `config.json` (docker/cli, "docker login": `auths`, `credsStore`, `credHelpers`) and containers'
//! `auth.json` (containers-auth.json(5): keys may name a namespace below the host). Helpers speak the protocol of
//! docker-credential-helpers: `docker-credential-<name> get`, the server's address on stdin, JSON on stdout.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use super::SourceError;
use crate::base::bounds::JSON_BYTES;
use crate::base::{base64, bounded, null};

/// How long a helper may take (it may ask a person to unlock a key ring).
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// A secret text: never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, to be sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

/// How to identify to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// An identity token: an OAuth2 refresh token.
    Refresh(Secret),
    /// A registry token: sent as it is.
    Bearer(Secret),
}

/// The credential files, read at the first question.
pub struct Credentials {
    named: Vec<PathBuf>,
    usual: Vec<PathBuf>,
    files: OnceCell<Vec<File>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    #[serde(deserialize_with = "null::in_map")]
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    #[serde(deserialize_with = "null::in_map")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default, deserialize_with = "null::absent")]
    username: String,
    #[serde(default, deserialize_with = "null::absent")]
    secret: String,
}

impl Credentials {
    /// Those of the files `named` by somebody, which must be there, then those in the `usual` places, which need not.
    /// Earlier files win.
    pub fn new(named: Vec<PathBuf>, usual: Vec<PathBuf>) -> Self {
        Self { named, usual, files: OnceCell::new() }
    }

    /// The credential for `repository` on `host` (as in an image reference: `docker.io`, `127.0.0.1:5000`), if any.
    ///
    /// # Errors
    /// A file that can not be read or parsed, a helper that can not be run. What they hold is never shown.
    pub async fn find(&self, host: &str, repository: &str) -> Result<Option<Credential>, SourceError> {
        let files = self.files.get_or_try_init(|| async { read_all(&self.named, &self.usual) }).await?;
        for file in files {
            if let Some(helper) = helper_for(file, host)
                && let Some(found) = ask_helper(helper, host).await?
            {
                return Ok(Some(found));
            }
            if let Some(found) = stored(file, host, repository) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The helper that knows the host; an empty name is none, as docker writes it when a store is taken away.
fn helper_for<'a>(file: &'a File, host: &str) -> Option<&'a String> {
    let own = file.cred_helpers.iter().find(|(key, _)| normal(key) == host).map(|(_, helper)| helper);
    own.or(file.creds_store.as_ref()).filter(|helper| !helper.is_empty())
}

fn read_all(named: &[PathBuf], usual: &[PathBuf]) -> Result<Vec<File>, SourceError> {
    let must = named.iter().map(|path| read(path)?.ok_or_else(|| absent(path)));
    must.chain(usual.iter().filter_map(|path| read(path).transpose())).collect()
}

/// What is said of a file that somebody named and that is not there.
pub(super) fn absent(path: &Path) -> SourceError {
    SourceError::Setting {
        what: format!("credential file `{}`", path.display()),
        why: "there is no such file".to_owned(),
    }
}

fn read(path: &Path) -> Result<Option<File>, SourceError> {
    let text = match bounded::read(path, JSON_BYTES) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(SourceError::Io { path: path.to_owned(), source }),
    };
    null::document(&text).map(Some).map_err(|e| SourceError::Setting {
        // serde's message may quote what stands there: only the place is told.
        what: format!("credential file `{}`", path.display()),
        why: format!("not as docker writes it, at line {} column {}", e.line(), e.column()),
    })
}

/// The key without scheme and API version; Docker Hub's many names are one.
fn normal(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// The entry with the longest key that is `host/repository` or a parent of it.
fn stored(file: &File, host: &str, repository: &str) -> Option<Credential> {
    let full = format!("{host}/{repository}");
    let fits = |key: &str| full.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let entries = file.auths.iter().map(|(key, entry)| (normal(key), entry)).filter(|(key, _)| fits(key));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    entries.into_iter().find_map(|(_, entry)| credential(entry))
}

fn credential(entry: &Entry) -> Option<Credential> {
    let given = |secret: &Option<Secret>| secret.clone().filter(|s| !s.reveal().is_empty());
    if let Some(token) = given(&entry.identitytoken) {
        return Some(Credential::Refresh(token));
    }
    if let Some(token) = given(&entry.registrytoken) {
        return Some(Credential::Bearer(token));
    }
    if let Some(auth) = given(&entry.auth) {
        let text = String::from_utf8(base64::decode(auth.reveal())?).ok()?;
        let (user, password) = text.split_once(':')?;
        return Some(basic(user, password.trim_end_matches('\0')));
    }
    Some(basic(entry.username.as_deref()?, given(&entry.password)?.reveal()))
}

fn basic(user: &str, password: &str) -> Credential {
    let secret = Secret(password.to_owned());
    match user {
        "<token>" => Credential::Refresh(secret),
        _ => Credential::Basic { user: user.to_owned(), password: secret },
    }
}

async fn ask_helper(name: &str, host: &str) -> Result<Option<Credential>, SourceError> {
    let failed = |why: String| SourceError::Setting { what: format!("docker-credential-{name}"), why };
    if name.is_empty() || name.contains('/') {
        return Err(failed("a helper's name has no `/`".to_owned()));
    }
    let server = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
    let mut child = tokio::process::Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("can not be run: {e}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that reads nothing says so by its exit.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let output = tokio::time::timeout(HELPER_PATIENCE, child.wait_with_output())
        .await
        .map_err(|_| failed(format!("no answer for {host} in {HELPER_PATIENCE:?}")))?
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return not_found(&output.stdout)
            .then_some(None)
            .ok_or_else(|| failed(format!("{}, for {host}", output.status)));
    }
    let answer: HelperAnswer =
        bounded::from_json(&output.stdout).map_err(|_| failed("its answer is not JSON".to_owned()))?;
    Ok(Some(answer).filter(|a| !a.secret.is_empty()).map(|a| basic(&a.username, &a.secret)))
}

/// How a helper says that it knows nothing of a server (docker-credential-helpers, `credentials/error.go`).
fn not_found(stdout: &[u8]) -> bool {
    String::from_utf8_lossy(stdout).contains("credentials not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        serde_json::from_str(text).unwrap()
    }

    fn user(found: Option<Credential>) -> String {
        match found {
            Some(Credential::Basic { user, .. }) => user,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn docker_config_knows_docker_hub_by_its_old_name() {
        let auth = base64::encode(b"alice:s:ecret");
        let file = file(&format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#));
        let found = stored(&file, "docker.io", "library/x").unwrap();
        assert_eq!(found, basic("alice", "s:ecret"));
        assert!(!format!("{found:?}").contains("ecret"));
        assert_eq!(stored(&file, "quay.io", "x"), None);
    }

    #[test]
    fn what_is_null_or_empty_is_no_credential() {
        for text in [
            "",
            " \n",
            "null",
            "\u{feff}{}",
            r#"{"auths":null}"#,
            r#"{"auths":{"h.io":null,"x":{"auth":null,"username":null,"password":null,"identitytoken":null}}}"#,
            r#"{"auths":{"h.io":{}},"credHelpers":null,"credsStore":null}"#,
            r#"{"auths":{"h.io":{"auth":""}},"credHelpers":{"h.io":null,"x":""},"credsStore":""}"#,
            r#"{"auths":{"h.io":{"auth":"","username":"","password":""}},"credHelpers":{"h.io":""}}"#,
        ] {
            let file: File = null::document(text.as_bytes()).unwrap();
            for host in ["h.io", "x"] {
                assert_eq!(stored(&file, host, "a"), None, "{text}");
                assert_eq!(helper_for(&file, host), None, "{text}");
            }
        }
        let file = file(r#"{"auths":{"a":null,"b":{"identitytoken":"t","auth":null}},"credsStore":"desktop"}"#);
        assert!(matches!(stored(&file, "b", "x"), Some(Credential::Refresh(_))));
        assert_eq!(helper_for(&file, "b").map(String::as_str), Some("desktop"));
        let answer: HelperAnswer = serde_json::from_str(r#"{"ServerURL":null,"Username":null,"Secret":null}"#).unwrap();
        assert!(answer.secret.is_empty() && answer.username.is_empty());
    }

    #[test]
    fn the_longest_namespace_wins() {
        let entry = |user: &str| format!(r#"{{"auth":"{}"}}"#, base64::encode(format!("{user}:x").as_bytes()));
        let file = file(&format!(
            r#"{{"auths":{{"h.io":{},"h.io/team":{},"h.io/team/app":{{}}}}}}"#,
            entry("host"),
            entry("team")
        ));
        assert_eq!(user(stored(&file, "h.io", "team/app")), "team");
        assert_eq!(user(stored(&file, "h.io", "teams/app")), "host");
    }

    #[test]
    fn tokens_have_their_own_kinds() {
        let file = file(
            r#"{"auths":{"a":{"identitytoken":"t"},"b":{"registrytoken":"t"},"c":{"username":"u","password":"p"}}}"#,
        );
        assert!(matches!(stored(&file, "a", "x"), Some(Credential::Refresh(_))));
        assert!(matches!(stored(&file, "b", "x"), Some(Credential::Bearer(_))));
        assert_eq!(user(stored(&file, "c", "x")), "u");
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs_err::write(&path, r#"{"auths": "hunter2"}"#).unwrap();
        let error = read(&path).err().unwrap().to_string();
        assert!(error.contains("config.json") && !error.contains("hunter2"), "{error}");
        let absent = [dir.path().join("absent")];
        assert!(read_all(&[], &absent).unwrap().is_empty());
        let error = read_all(&absent, &[]).err().unwrap().to_string();
        assert!(error.ends_with("absent`: there is no such file"), "{error}");
    }
}
