//! What was found when looking whether a machine is fit.

use serde::Serialize;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Fine.
    Ok,
    /// Works, but worse than it could; or needed only by some verbs.
    Warn,
    /// It can not work like this.
    Bad,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is to be taken.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do, where something is to be done: a command where there is one.
    pub hint: Option<String>,
}

impl Finding {
    /// Fine.
    pub fn ok(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, seen: seen.into(), hint: None }
    }

    /// Works, but worse than it could.
    pub fn warn(what: impl Into<String>, seen: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Warn, seen: seen.into(), hint: Some(hint.into()) }
    }

    /// Can not work like this.
    pub fn bad(what: impl Into<String>, seen: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Bad, seen: seen.into(), hint: Some(hint.into()) }
    }
}
