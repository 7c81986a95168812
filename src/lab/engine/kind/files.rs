//! What nodes mount: `nodes/<cluster>/…` of the state folder.

use std::path::{Path, PathBuf};

use super::config::NodeMount;
use super::tracing;
use crate::lab::error::LabError;
use crate::lab::mirror::{self, PORT};
use crate::lab::session::Session;
use crate::lab::{registry, tools};
use crate::model::profile::{Cluster, Mount, Registry, TracedComponent};

/// Where containerd looks for how to reach registries (containerd, `docs/hosts.md`).
const CERTS: &str = "/etc/containerd/certs.d";

/// Writes everything, and says what is mounted where. Writing again changes nothing.
///
/// # Errors
/// A file that the bundle lacks, or that can not be written.
pub(super) fn write(session: &Session, cluster: &Cluster) -> Result<Vec<NodeMount>, LabError> {
    let own = format!("nodes/{}", *cluster.name);
    let certs = certs(session, cluster, &format!("{own}/certs.d"))?;
    let mut mounts = vec![read_only(&certs, CERTS)];
    if cluster.tracing.iter().any(|c| **c == TracedComponent::Apiserver) {
        let folder = session.state.folder(&format!("{own}/tracing"))?;
        plain_file(&folder.join(tracing::FILE), tracing::apiserver().to_string().as_bytes())?;
        mounts.push(read_only(&folder, tracing::FOLDER));
    }
    let files = session.state.folder(&format!("{own}/files"))?;
    for (number, mount) in cluster.mounts.iter().enumerate() {
        mounts.push(mounted(session, mount, &files.join(number.to_string()))?);
    }
    Ok(mounts)
}

fn read_only(host: &Path, node: &str) -> NodeMount {
    NodeMount { host: host.to_string_lossy().into_owned(), node: node.to_owned(), writable: false }
}

/// `certs.d`: everything comes from the mirror, and from nowhere else (`server` is what containerd falls back to); the lab's
/// registry under the name attendees know.
fn certs(session: &Session, cluster: &Cluster, folder: &str) -> Result<PathBuf, LabError> {
    let dir = session.state.folder(&format!("{folder}/_default"))?;
    plain_file(&dir.join("hosts.toml"), hosts(&mirror::name(session.name()), "\"pull\", \"resolve\"").as_bytes())?;
    if let Some(registry) = &cluster.registry {
        certs_of_registry(session, registry, folder)?;
    }
    session.state.folder(folder)
}

fn certs_of_registry(session: &Session, registry: &Registry, folder: &str) -> Result<(), LabError> {
    let dir = session.state.folder(&format!("{folder}/{}", registry::host(registry)))?;
    let text = hosts(&registry.name, "\"pull\", \"resolve\", \"push\"");
    plain_file(&dir.join("hosts.toml"), text.as_bytes())
}

fn hosts(host: &str, capabilities: &str) -> String {
    let url = format!("http://{host}:{PORT}");
    format!("server = \"{url}\"\n\n[host.\"{url}\"]\ncapabilities = [{capabilities}]\ndial_timeout = \"10s\"\n")
}

fn mounted(session: &Session, mount: &Mount, file: &Path) -> Result<NodeMount, LabError> {
    match (&mount.path, &mount.host) {
        (Some(path), _) => {
            let locals = &session.bundle.index().contents.locals;
            let local = locals.iter().find(|l| l.path == **path).ok_or_else(|| {
                LabError::failed(format!("mount `{}`", **path), "the bundle does not hold the file")
                    .hint("build the bundle again: `labimg build PROFILE`")
            })?;
            tools::copy(session, &local.digest, file, 0o644)?;
            Ok(read_only(file, &mount.node))
        }
        (None, Some(host)) => {
            let path = session.machine.directory.join(host.as_str());
            fs_err::create_dir_all(&path)?;
            let host = fs_err::canonicalize(&path)?.to_string_lossy().into_owned();
            Ok(NodeMount { host, node: mount.node.to_string(), writable: mount.writable })
        }
        (None, None) => Err(LabError::internal("a mount of nothing")),
    }
}

/// A file that nodes read, whoever they run as.
fn plain_file(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    if fs_err::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    Ok(crate::base::atomic::write_file(path, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_fall_back_to_nobody_else() {
        let text = hosts("labimg-x-mirror", "\"pull\", \"resolve\"");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["server"].as_str(), Some("http://labimg-x-mirror:5000"));
        let host = &table["host"]["http://labimg-x-mirror:5000"];
        assert_eq!(host["capabilities"].as_array().unwrap().len(), 2);
        assert_eq!(host["dial_timeout"].as_str(), Some("10s"));
    }
}
