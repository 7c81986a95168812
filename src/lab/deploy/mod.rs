//! The deploy graph: manifests, charts and Istio, each as soon as what it needs is ready.
//!
//! ```text
//! deploys/<name>.json   what was applied last (a key over all that makes a difference), what it brought, whether it got ready
//! ```
//!
//! A deploy whose key is the same and that was ready is looked at only; everything else is applied again, which changes what
//! differs and nothing else.

mod apply;
mod chart;
mod graph;
mod istio;
mod node;
mod order;
mod record;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::error::LabError;
use super::kube::Api;
use super::kube::kinds::Kinds;
use super::secret::Secrets;
use super::session::Session;
use crate::base::report::Task;
use graph::End;

/// Which deploys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// This one alone, whatever it needs.
    pub only: Option<String>,
    /// This one and all it needs.
    pub until: Option<String>,
}

/// What became of one deploy.
#[derive(Debug)]
pub struct DeployReport {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// How a deploy ended.
#[derive(Debug)]
pub enum Outcome {
    /// Applied, and ready.
    Ready {
        /// How many objects it brought.
        objects: usize,
    },
    /// Nothing was to be done.
    Unchanged,
    /// It went wrong.
    Failed(LabError),
    /// Not tried: this deploy, which it needs, went wrong.
    Skipped {
        /// The deploy that went wrong.
        after: String,
    },
}

impl DeployReport {
    fn well(&self) -> bool {
        matches!(self.outcome, Outcome::Ready { .. } | Outcome::Unchanged)
    }
}

/// What every deploy works with.
struct Context<'a> {
    session: &'a Session,
    apis: &'a BTreeMap<String, Api>,
    kinds: BTreeMap<String, Kinds>,
    /// Identity of each cluster: one made anew has nothing of what was applied.
    identities: BTreeMap<String, String>,
    secrets: &'a Secrets,
    /// How many are applied at once; waiting is free.
    slots: Semaphore,
}

/// Brings the deploys of the lab's profile to its clusters (`apis`, by name); gives a report for each, in the profile's order.
/// What went wrong with one is in its report ([`failure`] makes one error of them).
///
/// # Errors
/// A deploy of `options` that is not there, or a cluster that does not answer.
pub async fn deploy(
    session: &Session,
    apis: &BTreeMap<String, Api>,
    secrets: &Secrets,
    options: &Options,
) -> Result<Vec<DeployReport>, LabError> {
    let deploys = &session.profile.deploy;
    let nodes = graph::select(deploys, options)?;
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let kinds = apis.iter().map(|(name, api)| (name.clone(), Kinds::new(api.client.clone()))).collect();
    let identities = record::identities(apis).await?;
    let slots = Semaphore::new(session.machine.jobs.max(2));
    let context = Context { session, apis, kinds, identities, secrets, slots };
    session.reporter.phase("deploy", None);
    let run = |index: usize| one(&context, index);
    let ends = graph::walk(&nodes, run, DeployReport::well).await;
    let name = |index: usize| deploys.get(index).map(|d| d.name.to_string()).unwrap_or_default();
    let report = |(node, end): (&graph::Node, End<DeployReport>)| match end {
        End::Ran(report) => report,
        End::Skipped(cause) => {
            let outcome = Outcome::Skipped { after: name(cause) };
            DeployReport { name: name(node.index), outcome, took: Duration::ZERO }
        }
    };
    Ok(nodes.iter().zip(ends).map(report).collect())
}

/// One error of all that went wrong; `None` where nothing did.
pub fn failure(reports: Vec<DeployReport>) -> Option<LabError> {
    let all = reports.len();
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for report in reports {
        match report.outcome {
            Outcome::Failed(error) => failed.push(error),
            Outcome::Skipped { after } => skipped.push(format!("{} was not tried, it needs {after}", report.name)),
            Outcome::Ready { .. } | Outcome::Unchanged => {}
        }
    }
    if failed.len() == 1 && skipped.is_empty() {
        return failed.pop();
    }
    if failed.is_empty() && skipped.is_empty() {
        return None;
    }
    let hint = failed.iter().find_map(|e| e.advice().map(str::to_owned));
    let lines = failed.iter().map(|e| e.to_string().replace('\n', "\n  "));
    let lines: String = lines.chain(skipped.clone()).map(|line| format!("\n  {line}")).collect();
    let error =
        LabError::failed(format!("{} of {all} deploys", failed.len() + skipped.len()), format!("not ready{lines}"));
    let hint = hint.unwrap_or_else(|| "mend it, then `labimg up` goes on where it stopped".to_owned());
    Some(error.hint(hint))
}

async fn one(context: &Context<'_>, index: usize) -> DeployReport {
    let start = Instant::now();
    let Some(deploy) = context.session.profile.deploy.get(index) else {
        let outcome = Outcome::Failed(LabError::internal("a deploy that is not there"));
        return DeployReport { name: String::new(), outcome, took: start.elapsed() };
    };
    let name = deploy.name.to_string();
    let task = Task::begin(&*context.session.reporter, &format!("deploy {name}"), None);
    let redactor = context.secrets.redactor();
    let say = |text: &str| task.say(&redactor.scrub(text));
    let outcome = match node::run(context, deploy, &say).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(redactor.clean(error)),
    };
    DeployReport { name, outcome, took: start.elapsed() }
}
