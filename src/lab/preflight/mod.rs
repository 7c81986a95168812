//! Is this machine fit for this lab? Changes nothing, and never fails: what can not be found out is a finding, too.
//!
//! `probe` looks, `judge` says what it means: pure, so that every judgement has a test without the machine for it.

mod carried;
mod cluster;
mod judge;
mod probe;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::docker::Docker;
use super::docker::image::bundled;
use super::engine;
use super::finding::{Finding, Verdict};
use super::run;
use super::session::Session;
use crate::base::digest::Digest;
use crate::model::profile::{Cluster, Engine};
use crate::store::image::image_parts;
pub use cluster::kind;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at everything the lab needs: the machine, the bundle, the engine, then each cluster.
pub async fn session(session: &Session) -> Vec<Finding> {
    let mut found = vec![judge::clock(session.machine.now, session.lock.epoch), probe::state(&session.state)];
    found.extend(probe::own_space(session));
    let kinds: Vec<&Cluster> = session.profile.cluster.iter().filter(|c| *c.engine == Engine::Kind).collect();
    found.extend(carried::programs(session));
    found.extend(carried::parts(session));
    found.extend(carried::idle(session));
    if !kinds.is_empty() {
        found.push(docker_command(session));
        match Docker::connect(&session.machine).await {
            Err(error) => {
                let hint = error.advice().unwrap_or("`docker info` shows why").to_owned();
                found.push(Finding::bad("docker", error.to_string(), hint));
                return found;
            }
            Ok(docker) => found.extend(machine(session, &docker, &kinds).await),
        }
    }
    let each = session.profile.cluster.iter().map(|c| of_cluster(session, c));
    found.extend(join_all(each).await.into_iter().flatten());
    found
}

/// What the bundle lacks for this lab to come up on any machine like this one: nobody here can mend it. Empty where nothing does.
pub fn impossible(session: &Session) -> Vec<Finding> {
    let engines = session.profile.cluster.iter().filter_map(|c| refused(c).err());
    // Where programs come out of PATH, the machine lacks them, not the bundle.
    let programs = if session.machine.tools_from_path { Vec::new() } else { carried::programs(session) };
    let bad = programs.into_iter().chain(carried::parts(session)).filter(|f| f.verdict == Verdict::Bad);
    engines.chain(bad).collect()
}

/// Whether nothing found keeps the lab from coming up.
pub fn is_fit(found: &[Finding]) -> bool {
    found.iter().all(|f| f.verdict != Verdict::Bad)
}

async fn of_cluster(session: &Session, cluster: &Cluster) -> Vec<Finding> {
    let engine = match refused(cluster) {
        Err(finding) => return vec![finding],
        Ok(engine) => engine,
    };
    match tokio::time::timeout(PATIENCE, engine.preflight(session, cluster)).await {
        Ok(found) => found,
        Err(_) => {
            let seen = format!("no answer in {} s", PATIENCE.as_secs());
            let hint = "`docker ps` and `docker info` show whether the engine answers";
            vec![Finding::bad(format!("cluster {}", *cluster.name), seen, hint)]
        }
    }
}

/// The engine of a cluster, or the finding that this version has none.
fn refused(cluster: &Cluster) -> Result<&'static dyn engine::Engine, Finding> {
    engine::of_cluster(cluster).map_err(|error| {
        let hint = error.advice().unwrap_or_default().to_owned();
        Finding::bad(format!("cluster {}", *cluster.name), error.to_string(), hint)
    })
}

fn docker_command(session: &Session) -> Finding {
    match run::find(&session.machine, "docker") {
        Some(path) => Finding::ok("docker command", path.display().to_string()),
        None => Finding::bad(
            "docker command",
            "not in PATH, and kind runs it",
            "install it (Debian, Ubuntu: `sudo apt install docker-cli`)",
        ),
    }
}

/// What all clusters of engine `kind` share.
async fn machine(session: &Session, docker: &Docker, kinds: &[&Cluster]) -> Vec<Finding> {
    let facts = match probe::engine(docker).await {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::bad("docker", error.to_string(), "`docker info` shows why")],
    };
    let needs = judge::needs(session.bundle.index(), kinds, image_bytes(session, kinds));
    let mut found = vec![judge::docker(&facts, docker.host())];
    found.extend(judge::rootless(&facts));
    found.push(judge::memory(facts.memory, &needs));
    found.push(judge::cpus(facts.cpus, &needs));
    found.extend(judge::engine_clock(session.machine.now, facts.time));
    if docker.is_local() {
        found.extend(probe::free(&facts.root).map(|free| judge::disk(&facts.root, free, &needs)));
        found.extend(probe::kernel(needs.nodes));
    }
    found.extend(probe::beside(session, docker).await);
    found
}

/// Bytes of the images that kind runs itself, as they are packed.
fn image_bytes(session: &Session, kinds: &[&Cluster]) -> u64 {
    let names = kinds.iter().filter_map(|c| engine::kind::run_images(session, c).ok()).flatten();
    let images = names.filter_map(|name| bundled(&session.bundle, &name).ok());
    let parts = images.filter_map(|i| image_parts(&*session.bundle, i.platforms.values().next()?).ok());
    let blobs: BTreeMap<Digest, u64> = parts.flat_map(|p| p.layers).map(|l| (l.digest, l.size)).collect();
    blobs.values().fold(0, |sum: u64, size| sum.saturating_add(*size))
}
