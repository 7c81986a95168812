//! What verification found, as data.

use serde::Serialize;

use super::chain::Chain;

/// All checks of a lab.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The lab's name.
    pub lab: String,
    /// In the profile's order.
    pub checks: Vec<CheckResult>,
}

impl Report {
    /// Whether every check passed, and there was one: where nobody looked, nothing passed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.outcome == Outcome::Passed)
    }

    /// Whether a check failed because a host key or a digest is not what it must be.
    pub fn mismatch(&self) -> bool {
        self.checks.iter().any(|c| c.mismatch)
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What must be seen was seen.
    Passed,
    /// It was not, until the check's time was up.
    Failed,
    /// Nobody looked: the check's reasons say why not.
    NotLookedAt,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckResult {
    /// Its line in the profile.
    pub name: String,
    /// `ready`, `http`, `trace`, `metric`, `log`, `dns`, `images`, `ssh`.
    pub kind: &'static str,
    /// The cluster it looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How often it looked.
    pub attempts: u32,
    /// What was seen, in one line: a trace's id and services, a value, a status.
    pub detail: String,
    /// It failed because a host key or a digest is not what it must be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mismatch: bool,
    /// Why it failed, or was not looked at, a line each; empty where it passed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Where the chain of telemetry broke, where that could be found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// What an attendee may open to see it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Open>,
    /// Where the profile asks for it: `labimg/profile.toml:12:1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A page that an attendee may look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Open {
    /// What it shows: `the trace in Jaeger`.
    pub what: String,
    /// Its URL on this machine.
    pub url: String,
    /// What must run for that, where no port of the lab leads there: a `labimg port-forward` command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
