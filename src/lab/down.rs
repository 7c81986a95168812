//! Taking a lab away: everything that carries its label or mounts its state folder, then the folder. Needs no bundle and no
//! `kind`; works on half-made labs, and a second time.

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::future::{join_all, try_join_all};
use serde::Serialize;

use super::docker::container::Found;
use super::docker::{Docker, LAB};
use super::engine::kind::{CLUSTER, is_ours};
use super::error::LabError;
use super::machine::Machine;
use super::mirror::NETWORK;
use super::state::{LabFile, State};
use crate::base::report::{Reporter, Task};
use crate::model::profile::is_name;

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Down {
    /// The lab.
    pub lab: String,
    /// Clusters.
    pub clusters: Vec<String>,
    /// Containers, nodes among them.
    pub containers: Vec<String>,
    /// Volumes.
    pub volumes: Vec<String>,
    /// Networks.
    pub networks: Vec<String>,
    /// Images that labimg had loaded and nothing else uses.
    pub images: Vec<String>,
    /// Images that labimg had loaded and that stay in the engine, so that the next `up` need not load them.
    pub images_kept: Vec<String>,
    /// The state folder, with the lab's secrets in it.
    pub state: bool,
}

impl Down {
    /// Whether there was nothing to take away.
    pub fn is_empty(&self) -> bool {
        *self == Self { lab: self.lab.clone(), images_kept: self.images_kept.clone(), ..Self::default() }
    }
}

/// Takes the lab called `name` away; with `images`, what it loaded into the engine, too. A lab that is not there is no error.
///
/// # Errors
/// An engine that does not answer while there may be something of the lab in it; a folder that can not be removed; another
/// labimg that works on this lab.
pub async fn down(name: &str, images: bool, machine: &Machine, reporter: &dyn Reporter) -> Result<Down, LabError> {
    // What is typed becomes the name of a folder that goes: it must be a name, and nothing that leads elsewhere.
    if !is_name(name) {
        return Err(LabError::failed(format!("`{name}` is no lab's name"), "nothing was taken away")
            .hint("`labimg status` lists the labs of this machine"));
    }
    let state = State::new(&machine.state_root, name);
    let there = state.dir().is_dir();
    let _lock = if there { Some(state.lock()?) } else { None };
    // A damaged file must not keep a lab: labels and mounts say enough.
    let file = state.read().unwrap_or_default().unwrap_or_default();
    let mut done = Down { lab: name.to_owned(), ..Down::default() };
    let mut loaded = state.kept_images()?;
    loaded.extend(file.loaded_images.iter().cloned());
    match Docker::connect(machine).await {
        Ok(docker) => {
            engine(&docker, &state, &file, &mut done, reporter).await?;
            if images {
                remove_images(&docker, &loaded, &mut done).await?;
                loaded.clear();
            }
        }
        // A lab of clusters that are not ours has nothing there.
        Err(_) if there && file.clusters.values().all(|c| c.engine == "existing") && loaded.is_empty() => {}
        Err(error) => return Err(error),
    }
    state.keep_images(&loaded)?;
    done.images_kept = loaded.into_iter().collect();
    if there {
        state.wipe()?;
        done.state = true;
    }
    Ok(done)
}

async fn engine(
    docker: &Docker,
    state: &State,
    file: &LabFile,
    done: &mut Down,
    reporter: &dyn Reporter,
) -> Result<(), LabError> {
    let _task = Task::begin(reporter, &format!("take {} away", done.lab), None);
    let mut containers: BTreeSet<String> =
        docker.containers(LAB, Some(&done.lab)).await?.into_iter().map(|c| c.name).collect();
    for (cluster, nodes) in clusters(docker, state.dir(), file).await? {
        done.clusters.push(cluster);
        containers.extend(nodes.into_iter().map(|n| n.name));
    }
    try_join_all(containers.iter().map(|name| docker.remove_container(name))).await?;
    done.containers = containers.into_iter().collect();
    done.volumes = docker.volumes(&done.lab).await?;
    try_join_all(done.volumes.iter().map(|name| docker.remove_volume(name))).await?;
    networks(docker, &done.lab, file, &mut done.networks).await
}

async fn remove_images(docker: &Docker, names: &BTreeSet<String>, done: &mut Down) -> Result<(), LabError> {
    let removed = join_all(names.iter().map(|name| docker.remove_image(name))).await;
    for (name, removed) in names.iter().zip(removed) {
        if removed? {
            done.images.push(name.clone());
        }
    }
    Ok(())
}

/// The lab's clusters with their node containers.
///
/// # Errors
/// An engine that does not answer.
pub(super) async fn clusters(
    docker: &Docker,
    state: &Path,
    file: &LabFile,
) -> Result<Vec<(String, Vec<Found>)>, LabError> {
    let all = docker.containers(CLUSTER, None).await?;
    let names: BTreeSet<String> = all.iter().map(|n| n.label(CLUSTER).to_owned()).collect();
    let of = |name: String| {
        let nodes: Vec<Found> = all.iter().filter(|n| n.label(CLUSTER) == name).cloned().collect();
        (name, nodes)
    };
    Ok(names.into_iter().map(of).filter(|(_, nodes)| is_ours(nodes, state, Some(file))).collect())
}

/// The network goes when labimg made it and nobody is on it: other labs, and clusters that are not ours, keep it.
async fn networks(docker: &Docker, lab: &str, file: &LabFile, removed: &mut Vec<String>) -> Result<(), LabError> {
    let own = docker.own_networks().await?;
    let ours = file.own_network || own.iter().any(|n| n == NETWORK);
    // Whoever is stopped is not counted by the engine, but wants the network back.
    let others = docker.containers(CLUSTER, None).await?.len() + beside(docker, lab).await?;
    if ours && others == 0 && docker.network(NETWORK).await? == Some(0) && docker.remove_network(NETWORK).await? {
        removed.push(NETWORK.to_owned());
    }
    Ok(())
}

/// Containers of other labs.
async fn beside(docker: &Docker, lab: &str) -> Result<usize, LabError> {
    Ok(docker.containers(LAB, None).await?.iter().filter(|c| c.label(LAB) != lab).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::report::Silent;

    #[test]
    fn a_state_folder_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs_err::create_dir_all(&victim).unwrap();
        fs_err::write(victim.join("file"), "x").unwrap();
        let state = State::new(&dir.path().join("labs"), "x");
        fs_err::create_dir_all(dir.path().join("labs")).unwrap();
        fs_err::os::unix::fs::symlink(&victim, state.dir()).unwrap();
        for refused in [
            state.lock().map(drop),
            state.wipe(),
            state.write_secret("secrets/a", b"s"),
            state.write(&LabFile::default()),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("labs/x` is a link to"), "{error}");
        }
        fs_err::remove_file(state.dir()).unwrap();
        fs_err::create_dir_all(state.dir()).unwrap();
        fs_err::os::unix::fs::symlink(&victim, state.dir().join("secrets")).unwrap();
        let error = state.write_secret("secrets/a", b"s").unwrap_err().to_string();
        assert!(error.contains("secrets` is a link to"), "{error}");
        state.wipe().unwrap();
        let left: Vec<_> = fs_err::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
    }

    #[tokio::test]
    async fn what_is_no_name_takes_nothing_away() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { state_root: dir.path().join("labs"), ..Machine::default() };
        let victim = dir.path().join("victim");
        for folder in [&victim, &machine.state_root.join("other")] {
            fs_err::create_dir_all(folder).unwrap();
            fs_err::write(folder.join("file"), "x").unwrap();
        }
        let absolute = victim.display().to_string();
        for name in ["", ".", "..", "../victim", "other/..", absolute.as_str()] {
            let error = down(name, false, &machine, &Silent).await.unwrap_err();
            assert!(error.to_string().contains("is no lab's name"), "{error}");
        }
        assert!(victim.join("file").is_file() && machine.state_root.join("other/file").is_file());
    }
}
