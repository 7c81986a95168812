//! Brings a lab up: preflight, clusters, the deploy graph. Run again, it goes on from where it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::deploy::{self, DeployReport, Outcome};
use super::error::LabError;
use super::finding::Verdict;
use super::kube::{self, Api};
use super::secret::Secrets;
use super::session::Session;
use super::state::LabFile;
use super::{engine, preflight, state};
use crate::base::shell::word;
use crate::build::complete::{self, Idle, Instead};

/// What is asked of [`up`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Run this deploy alone.
    pub only: Option<String>,
    /// Stop after this deploy.
    pub until: Option<String>,
}

/// A lab that is up.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Up {
    /// The lab's name.
    pub lab: String,
    /// Clusters and their kubeconfigs.
    pub clusters: BTreeMap<String, PathBuf>,
    /// What became of each deploy.
    pub deploys: Vec<Deployed>,
    /// What of the lab labimg did not bring up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_brought_up: Vec<Idle>,
    /// Addresses on this machine that lead into the lab.
    pub addresses: Vec<String>,
    /// How many checks `labimg verify` would make.
    pub checks: usize,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// A deploy that is ready.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Deployed {
    /// Its name.
    pub name: String,
    /// Whether it was applied; otherwise it was as it should be.
    pub applied: bool,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// Brings the lab up.
///
/// # Errors
/// A lab of which labimg brings up nothing, [`LabError::Lacking`] and [`LabError::Preflight`] before anything is changed;
/// afterwards whatever did not come up, with its reasons. What is there then stays: [`up`] goes on from it, `down` takes it away.
pub async fn up(session: &Session, options: &Options) -> Result<Up, LabError> {
    let start = Instant::now();
    if let Some(error) = nothing(session, session.bundle.path()) {
        return Err(error);
    }
    let lacking = preflight::impossible(session);
    if !lacking.is_empty() {
        return Err(LabError::Lacking { lab: session.name().to_owned(), findings: lacking });
    }
    let findings = preflight::session(session).await;
    for finding in findings.iter().filter(|f| f.verdict == Verdict::Warn) {
        session.reporter.warn(&format!("{}: {}", finding.what, finding.seen));
    }
    if !preflight::is_fit(&findings) {
        return Err(LabError::Preflight(findings));
    }
    let _lock = session.state.lock()?;
    session.same_bundle()?;
    claim(session)?;
    session.reporter.phase(session.name(), None);
    let mut clusters = BTreeMap::new();
    let mut apis = BTreeMap::new();
    for cluster in &session.profile.cluster {
        let kubeconfig = engine::of_cluster(cluster)?.up(session, cluster).await?;
        apis.insert(cluster.name.to_string(), kube::connect(&cluster.name, &kubeconfig, None).await?);
        clusters.insert(cluster.name.to_string(), kubeconfig);
    }
    let wanted = deploy::Options { only: options.only.clone(), until: options.until.clone() };
    let secrets = Secrets::open(&session.state, &session.profile, &session.machine)?;
    let reports = deploy::deploy(session, &apis, &secrets, &wanted).await?;
    let deploys = reports.iter().map(deployed).collect();
    if let Some(error) = deploy::failure(reports) {
        return Err(error);
    }
    Ok(Up {
        lab: session.name().to_owned(),
        clusters,
        deploys,
        not_brought_up: complete::idle(&session.profile),
        addresses: addresses(session),
        checks: session.profile.check.len(),
        milliseconds: milliseconds(start.elapsed()),
    })
}

/// That labimg brings up nothing of this lab, with what to type instead; `bundle` is its path as people gave it. `None` where it
/// has a cluster.
pub fn nothing(session: &Session, bundle: &Path) -> Option<LabError> {
    if !session.profile.cluster.is_empty() {
        return None;
    }
    let idle = complete::idle(&session.profile);
    let why = match idle.is_empty() {
        true => "it has no cluster and no host".to_owned(),
        false => idle.iter().map(Idle::line).collect::<Vec<_>>().join("; "),
    };
    let mut lines = complete::by_compose(bundle, &idle, session.has_images());
    if idle.iter().any(|i| i.instead == Instead::Vagrant) {
        lines.push(format!("labimg box import {}, then vagrant up in the folder that it names", word(bundle)));
    }
    if lines.is_empty() && session.has_images() {
        lines.push(format!("labimg export {} --docker -o - | docker load", word(bundle)));
    }
    if lines.is_empty() {
        lines.push(format!(
            "`labimg ls {0}` shows what it holds, `labimg cat {0} NAME` writes one thing out",
            word(bundle)
        ));
    }
    let what = format!("labimg brings up nothing of lab `{}`", session.name());
    Some(LabError::failed(what, why).hint(lines.join("\n")))
}

fn deployed(report: &DeployReport) -> Deployed {
    let applied = matches!(report.outcome, Outcome::Ready { .. });
    Deployed { name: report.name.clone(), applied, milliseconds: milliseconds(report.took) }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The lab belongs to this bundle from now on, and `down` takes away what it leaves.
///
/// # Errors
/// State that can not be read or written.
pub fn claim(session: &Session) -> Result<(), LabError> {
    let mut file: LabFile = session.state.read()?.unwrap_or_default();
    file.name = session.name().to_owned();
    file.bundle = session.bundle.path().to_owned();
    file.identity = Some(session.bundle.identity());
    file.wanted = session.profile.cluster.iter().map(|c| c.name.to_string()).collect();
    file.idle = complete::idle(&session.profile).iter().map(Idle::line).collect();
    session.state.write(&file)
}

/// The APIs of the lab's clusters, as they are.
///
/// # Errors
/// A cluster that was never up.
pub async fn apis(session: &Session) -> Result<BTreeMap<String, Api>, LabError> {
    let mut apis = BTreeMap::new();
    for cluster in &session.profile.cluster {
        let kubeconfig = session.state.kubeconfig(&cluster.name);
        apis.insert(cluster.name.to_string(), kube::connect(&cluster.name, &kubeconfig, None).await?);
    }
    Ok(apis)
}

/// Ports of this machine that lead into the lab, as people write them.
fn addresses(session: &Session) -> Vec<String> {
    let mut found = Vec::new();
    for cluster in &session.profile.cluster {
        found.extend(cluster.registry.iter().map(|r| format!("localhost:{} (registry {})", *r.port, *r.name)));
        found.extend(
            cluster.ports.iter().map(|p| format!("localhost:{} ({}, node port {})", *p.host, *cluster.name, *p.node)),
        );
    }
    found
}

/// Which lab is meant: a name, a bundle, or the only one that is up.
///
/// # Errors
/// None is up, several are, or the bundle can not be read.
pub fn which(root: &std::path::Path, given: Option<&str>) -> Result<String, LabError> {
    let labs = state::State::labs(root)?;
    match given {
        Some(name) if labs.iter().any(|lab| lab == name) => Ok(name.to_owned()),
        Some(path) if std::path::Path::new(path).is_file() => {
            Ok(crate::store::bundle::Bundle::open(std::path::Path::new(path))?.index().name.clone())
        }
        Some(name) => Err(LabError::failed(format!("there is no lab `{name}`"), known(&labs))
            .hint("`labimg status` lists labs; `labimg up BUNDLE` brings one up")),
        None => match labs.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(LabError::failed("which lab?", known(&labs)).hint("`labimg up BUNDLE` brings one up")),
            _ => Err(LabError::failed("which lab?", known(&labs)).hint("say its name, or give its bundle")),
        },
    }
}

/// The labs there are, in words.
pub fn known(labs: &[String]) -> String {
    match labs {
        [] => "no lab is up here".to_owned(),
        _ => format!("there are: {}", labs.join(", ")),
    }
}
