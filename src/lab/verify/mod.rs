//! Verification: what the workshop's text promises is looked at, check by check.
//!
//! ```text
//! Check ─▶ one kind of look, again and again until its time is up ─▶ CheckResult ─▶ Report ─▶ card, JSON, JUnit
//!   http, trace, metric     an Asker: a service through the API server, or a URL from this machine
//!   log, dns, images, ready the cluster's API
//!   ssh                     a command on one of the lab's hosts
//!   trace, metric failed    the chain: collectors' and stores' own metrics say where it broke
//! ```
//!
//! **Guarantees.** Nothing in the cluster is changed. Every answer is bounded in bytes and time; garbage is a reason, not an end.

pub mod ask;
pub mod chain;
pub mod images;
pub mod jaeger;
pub mod junit;
pub mod look;
pub mod metric;
pub mod page;
mod pushed;
mod remote;
pub mod report;
mod run;
pub mod telemetry;
pub mod trace;
pub mod via;
mod written;

pub use chain::{Broke, Chain};
pub use junit::junit;
pub use report::{CheckResult, Open, Outcome, Report};

use std::collections::BTreeMap;
use std::time::Instant;

use super::error::LabError;
use super::kube::Api;
use super::session::Session;
use crate::base::bounds::PROFILE_BYTES;
use crate::base::report::Task;
use crate::model::profile::{Check, duration, parse};
use crate::model::source_map::SourceMap;
use crate::store::bundle::PROFILE_PATH;

/// What of the checks is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only checks of these names or kinds, or whose names hold one of these; all where empty.
    pub only: Vec<String>,
}

/// Runs the profile's checks, in its order: a later one may look for what an earlier one's request caused. `apis` are the
/// lab's clusters by name.
///
/// # Errors
/// An `only` that means no check. A check that fails is no error: it stands in the report.
pub async fn verify(session: &Session, apis: &BTreeMap<String, Api>, options: &Options) -> Result<Report, LabError> {
    let checks = chosen(&session.profile.check, &options.only)?;
    let places = places(session);
    let mut results = Vec::new();
    session.reporter.phase("verify", None);
    for check in checks {
        let task = Task::begin(&*session.reporter, &check.name, None);
        let start = Instant::now();
        let timeout = check.timeout.as_ref().and_then(|t| duration(t)).unwrap_or(look::TIMEOUT);
        let (cluster, ended) = run::run(session, apis, check, timeout).await;
        drop(task);
        let (outcome, seen, reasons) = match ended.result {
            Ok(seen) => (Outcome::Passed, seen, Vec::new()),
            Err(reasons) if ended.unlooked => (Outcome::NotLookedAt, look::Seen::default(), reasons),
            Err(reasons) => (Outcome::Failed, look::Seen::default(), reasons),
        };
        let at = places.as_ref().and_then(|map| map.locate(&check.name.span()));
        results.push(CheckResult {
            name: check.name.to_string(),
            kind: kind(check),
            cluster,
            outcome,
            mismatch: ended.mismatch,
            seconds: start.elapsed().as_secs_f64(),
            attempts: ended.attempts,
            detail: seen.detail,
            reasons,
            chain: ended.chain,
            open: seen.open,
            at: at.map(|at| at.to_string()),
        });
    }
    Ok(Report { lab: session.name().to_owned(), checks: results })
}

/// What kind of look a check is.
pub fn kind(check: &Check) -> &'static str {
    match check {
        Check { http: Some(_), .. } => "http",
        Check { trace: Some(_), .. } => "trace",
        Check { metric: Some(_), .. } => "metric",
        Check { log: Some(_), .. } => "log",
        Check { dns: Some(_), .. } => "dns",
        Check { ssh: Some(_), .. } => "ssh",
        Check { images: true, .. } => "images",
        _ => "ready",
    }
}

fn chosen<'a>(all: &'a [Check], only: &[String]) -> Result<Vec<&'a Check>, LabError> {
    let fits = |check: &Check, want: &String| kind(check) == want || check.name.contains(want.as_str());
    if let Some(none) = only.iter().find(|want| !all.iter().any(|c| fits(c, want))) {
        let names: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
        return Err(LabError::failed(
            format!("no check is called `{none}`"),
            if names.is_empty() { "the lab has none".to_owned() } else { format!("the lab has: {}", names.join("; ")) },
        ));
    }
    Ok(all.iter().filter(|c| only.is_empty() || only.iter().any(|want| fits(c, want))).collect())
}

/// Where the profile's pieces stand: the bundle's profile is read again, because a session does not keep its text.
fn places(session: &Session) -> Option<SourceMap> {
    let text = session.bundle.text(PROFILE_PATH, PROFILE_BYTES).ok()?;
    let mut none = |_: &str| Err("a bundle's profile has no imports".to_owned());
    Some(parse(PROFILE_PATH, &text, &mut none).ok()?.sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_chosen_by_name_part_or_kind() {
        let text = "name = 'the shop answers'\nhttp = { url = 'http://x/' }";
        let images = "name = 'nothing from outside'\nimages = true";
        let all: Vec<Check> = [text, images].iter().map(|t| toml::from_str(t).unwrap()).collect();
        let names = |only: &[&str]| -> Result<Vec<String>, LabError> {
            let only: Vec<String> = only.iter().map(|o| (*o).to_owned()).collect();
            Ok(chosen(&all, &only)?.iter().map(|c| c.name.to_string()).collect())
        };
        assert_eq!(names(&[]).unwrap().len(), 2);
        assert_eq!(names(&["shop"]).unwrap(), ["the shop answers"]);
        assert_eq!(names(&["images", "the shop answers"]).unwrap().len(), 2);
        assert!(names(&["nothing such"]).unwrap_err().to_string().contains("the lab has: the shop answers; "));
    }
}
