//! Which engine, and what it means when it does not answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::SystemInfo;
use serde::Deserialize;

use crate::base::bounded;
use crate::base::bounds::JSON_BYTES;
use crate::base::digest::Digest;
use crate::base::null;
use crate::lab::error::LabError;
use crate::lab::machine::Machine;
use crate::model::platform::Platform;

/// A quick answer's time limit.
const QUICK: u64 = 60;

/// A Docker engine that answered once.
#[derive(Clone)]
pub struct Docker {
    /// Its API.
    pub(super) api: bollard::Docker,
    /// Where it is: `unix:///var/run/docker.sock`.
    pub(super) host: String,
}

impl Docker {
    /// Connects to the engine that the `docker` command would use: `DOCKER_HOST`, else its current context, else the default
    /// socket.
    ///
    /// # Errors
    /// An engine that is not there, does not answer, or that this user may not use.
    pub async fn connect(machine: &Machine) -> Result<Self, LabError> {
        let host = host_of(&machine.env)?;
        let api = open(&host).map_err(|e| cannot(&host, &e))?;
        let api = tokio::time::timeout(Duration::from_secs(QUICK), api.negotiate_version())
            .await
            .map_err(|_| cannot(&host, &Error::RequestTimeoutError))?
            .map_err(|e| cannot(&host, &e))?;
        Ok(Self { api, host })
    }

    /// Where the engine is, as `DOCKER_HOST` says it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the engine runs on this very machine, so that its folders and ports are ours.
    pub fn is_local(&self) -> bool {
        self.host.starts_with("unix://")
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn info(&self) -> Result<SystemInfo, LabError> {
        self.api.info().await.map_err(|e| self.failed("ask the engine what it is", &e))
    }

    /// The platform whose images it runs.
    ///
    /// # Errors
    /// An engine that does not answer, or runs something that labimg has no images for.
    pub async fn platform(&self) -> Result<Platform, LabError> {
        let info = self.info().await?;
        platform_of(info.os_type.as_deref().unwrap_or("linux"), info.architecture.as_deref().unwrap_or_default())
    }

    /// What failed, in words.
    pub(super) fn failed(&self, what: &str, error: &Error) -> LabError {
        match error {
            Error::DockerResponseServerError { message, .. } => LabError::failed(format!("docker: {what}"), message),
            Error::RequestTimeoutError => LabError::failed(format!("docker: {what}"), "no answer in time")
                .hint(format!("does `docker ps` answer? The engine is `{}`", self.host)),
            other => cannot(&self.host, other),
        }
    }
}

/// Whether an error says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

fn open(host: &str) -> Result<bollard::Docker, Error> {
    bollard::Docker::connect_with_host(host).map(|api| api.with_timeout(Duration::from_secs(QUICK)))
}

/// Docker's names of architectures are the kernel's (`docker info`, `Architecture`).
fn platform_of(os: &str, architecture: &str) -> Result<Platform, LabError> {
    let arch = match architecture {
        "x86_64" | "amd64" => "amd64",
        "aarch64" | "arm64" => "arm64",
        other => other,
    };
    format!("{os}/{arch}").parse::<Platform>().ok().filter(|p| p.runs_containers()).ok_or_else(|| {
        LabError::failed("docker: the engine's platform", format!("it runs {os}/{architecture} containers"))
            .hint("labs need an engine for linux/amd64 or linux/arm64")
    })
}

/// The default socket of an engine.
pub fn default_socket() -> &'static str {
    "unix:///var/run/docker.sock"
}

/// Where the `docker` command would look for its engine (docs.docker.com, "Docker contexts"): `DOCKER_HOST`, `DOCKER_CONTEXT`,
/// the current context of `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, the default socket.
///
/// # Errors
/// A context that is named but not there.
pub fn host_of(env: &BTreeMap<String, String>) -> Result<String, LabError> {
    let set = |name: &str| env.get(name).filter(|v| !v.is_empty());
    if let Some(host) = set("DOCKER_HOST") {
        return Ok(host.clone());
    }
    let folder = match (set("DOCKER_CONFIG"), set("HOME")) {
        (Some(folder), _) => folder.clone(),
        (None, Some(home)) => format!("{home}/.docker"),
        (None, None) => return Ok(default_socket().to_owned()),
    };
    let folder = Path::new(&folder);
    let context = match set("DOCKER_CONTEXT") {
        Some(name) => Some(name.clone()),
        None => current_context(&folder.join("config.json"))?,
    };
    match context.as_deref() {
        None | Some("" | "default") => Ok(default_socket().to_owned()),
        Some(name) => host_of_context(folder, name),
    }
}

fn current_context(path: &Path) -> Result<Option<String>, LabError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        current_context: Option<String>,
    }
    let Ok(bytes) = bounded::read(path, JSON_BYTES) else { return Ok(None) };
    let config: Config = null::document(&bytes)
        .map_err(|e| LabError::failed(format!("docker's configuration `{}`", path.display()), e))?;
    Ok(config.current_context)
}

/// A context's metadata stands in a folder named by the SHA-256 of its name (docker/cli, `cli/context/store`).
fn host_of_context(folder: &Path, name: &str) -> Result<String, LabError> {
    let path = folder.join("contexts/meta").join(Digest::of(name.as_bytes()).hex()).join("meta.json");
    let bad = |why: String| {
        LabError::failed(format!("docker's context `{name}`"), why)
            .hint("`docker context ls` lists contexts; `docker context use default` goes back to the default one")
    };
    let bytes = bounded::read(&path, JSON_BYTES).map_err(|e| bad(e.to_string()))?;
    let meta: serde_json::Value = bounded::from_json(&bytes).map_err(|e| bad(e.to_string()))?;
    let host = meta.pointer("/Endpoints/docker/Host").and_then(|h| h.as_str()).filter(|h| !h.is_empty());
    host.map(str::to_owned).ok_or_else(|| bad(format!("`{}` names no host", path.display())))
}

/// Why an engine can not be used, and what to do.
fn cannot(host: &str, error: &Error) -> LabError {
    let what = format!("docker at `{host}`");
    let text = chain(error);
    let lower = text.to_lowercase();
    if lower.contains("permission denied") {
        return LabError::failed(what, "permission denied")
            .hint("add yourself to the group docker: `sudo usermod -aG docker $USER`, then log out and in again");
    }
    if matches!(error, Error::SocketNotFoundError(_)) || lower.contains("no such file") {
        return LabError::failed(what, "there is no such socket")
            .hint("is Docker installed and running? `sudo systemctl start docker`, or start Docker Desktop");
    }
    if lower.contains("connection refused") || matches!(error, Error::RequestTimeoutError) {
        return LabError::failed(what, "the engine does not answer")
            .hint("is Docker running? `sudo systemctl restart docker`, or start Docker Desktop");
    }
    if matches!(error, Error::UnsupportedURISchemeError { .. }) {
        return LabError::failed(what, "labimg reaches engines by `unix://` and `tcp://` only")
            .hint("run labimg on the machine of the engine, or forward its socket: `ssh -L /tmp/docker.sock:/var/run/docker.sock HOST`");
    }
    LabError::failed(what, text)
}

/// The error with what caused it: hyper says "client error" and keeps the reason below.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_engine_is_the_one_that_the_docker_command_uses() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(host_of(&env(&[])).unwrap(), default_socket());
        assert_eq!(host_of(&env(&[("HOME", home)])).unwrap(), default_socket());
        assert_eq!(host_of(&env(&[("HOME", home), ("DOCKER_HOST", "tcp://h:1")])).unwrap(), "tcp://h:1");
        let docker = dir.path().join(".docker");
        let meta = docker.join("contexts/meta").join(Digest::of(b"colima").hex());
        fs_err::create_dir_all(&meta).unwrap();
        fs_err::write(docker.join("config.json"), r#"{"auths":{},"currentContext":"colima"}"#).unwrap();
        assert!(host_of(&env(&[("HOME", home)])).unwrap_err().to_string().contains("colima"));
        let text = r#"{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///x.sock"}}}"#;
        fs_err::write(meta.join("meta.json"), text).unwrap();
        assert_eq!(host_of(&env(&[("HOME", home)])).unwrap(), "unix:///x.sock");
        assert_eq!(host_of(&env(&[("HOME", home), ("DOCKER_CONTEXT", "default")])).unwrap(), default_socket());
        let by_config = env(&[("DOCKER_CONFIG", docker.to_str().unwrap())]);
        assert_eq!(host_of(&by_config).unwrap(), "unix:///x.sock");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named() {
        let machine = Machine { env: env(&[("DOCKER_HOST", "unix:///nowhere/docker.sock")]), ..Machine::default() };
        let Err(error) = Docker::connect(&machine).await else { panic!() };
        assert!(error.to_string().contains("/nowhere/docker.sock"), "{error}");
        assert!(error.advice().unwrap().contains("running"));
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let machine =
            Machine { env: env(&[("DOCKER_HOST", &format!("unix://{}", socket.display()))]), ..Machine::default() };
        let Err(error) = Docker::connect(&machine).await else { panic!() };
        assert!(error.to_string().contains("does not answer"), "{error}");
    }

    #[test]
    fn platforms_go_by_the_kernels_names() {
        assert_eq!(platform_of("linux", "x86_64").unwrap(), Platform::LinuxAmd64);
        assert_eq!(platform_of("linux", "aarch64").unwrap(), Platform::LinuxArm64);
        platform_of("windows", "x86_64").unwrap_err();
        platform_of("linux", "riscv64").unwrap_err();
    }
}
