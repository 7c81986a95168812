//! Jaeger's query API as far as checks need it: the HTTP JSON API that its own UI uses (`/api/services`, `/api/traces`).

use crate::base::bounded;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::ask::{Asker, escaped, glimpse, json, status_line};
use crate::base::null;

/// Where Jaeger's pages start: at the root, or where Istio's addon puts them.
const BASES: [&str; 2] = ["", "/jaeger"];
/// Traces asked for at once.
const LIMIT: u32 = 100;
/// How far back is looked.
const LOOKBACK: &str = "1h";

/// A Jaeger that answers.
pub struct Jaeger<'a> {
    asker: &'a dyn Asker,
    base: &'static str,
}

#[derive(Deserialize)]
struct Answered<T> {
    data: Option<T>,
}

/// A trace as Jaeger tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Its id, in hex; leading zeros may be missing.
    #[serde(rename = "traceID")]
    pub id: String,
    /// Its spans, in no order.
    #[serde(default, deserialize_with = "null::in_list")]
    pub spans: Vec<Span>,
    /// Who sent them.
    #[serde(default, deserialize_with = "null::in_map")]
    pub processes: BTreeMap<String, Process>,
}

/// A span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Its id.
    #[serde(rename = "spanID")]
    pub id: String,
    /// What was done.
    #[serde(default, deserialize_with = "null::absent")]
    pub operation_name: String,
    /// What it belongs to.
    #[serde(default, deserialize_with = "null::in_list")]
    pub references: Vec<Reference>,
    /// Start, in microseconds since 1970.
    #[serde(default, deserialize_with = "null::absent")]
    pub start_time: u64,
    /// Duration in microseconds.
    #[serde(default, deserialize_with = "null::absent")]
    pub duration: u64,
    /// Key of its process.
    #[serde(rename = "processID", default, deserialize_with = "null::absent")]
    pub process: String,
}

/// A span's reference to another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// `CHILD_OF` or `FOLLOWS_FROM`.
    pub ref_type: String,
    /// The trace of the other span.
    #[serde(rename = "traceID")]
    pub trace: String,
    /// The other span.
    #[serde(rename = "spanID")]
    pub span: String,
}

/// Who sent a span.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its service.
    #[serde(default, deserialize_with = "null::absent")]
    pub service_name: String,
}

impl Trace {
    /// The service that sent a span.
    pub fn service(&self, span: &Span) -> &str {
        self.processes.get(&span.process).map_or("", |p| p.service_name.as_str())
    }

    /// All services in it.
    pub fn services(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|s| self.service(s)).collect()
    }

    /// From the first start to the last end.
    pub fn duration(&self) -> Duration {
        let start = self.spans.iter().map(|s| s.start_time).min().unwrap_or_default();
        let end = self.spans.iter().map(|s| s.start_time.saturating_add(s.duration)).max().unwrap_or_default();
        Duration::from_micros(end.saturating_sub(start))
    }

    /// The service of each span's direct parent with the service of the span.
    pub fn parents(&self) -> BTreeSet<(&str, &str)> {
        let spans: BTreeMap<&str, &Span> = self.spans.iter().map(|s| (s.id.as_str(), s)).collect();
        let pairs = self.spans.iter().flat_map(|child| child.references.iter().map(move |r| (child, r)));
        let pairs = pairs.filter(|(_, r)| r.ref_type == "CHILD_OF" && r.trace == self.id);
        let known = pairs.filter_map(|(child, r)| Some((*spans.get(r.span.as_str())?, child)));
        known.map(|(parent, child)| (self.service(parent), self.service(child))).collect()
    }
}

/// What traces are searched by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search<'a> {
    /// The service.
    pub service: &'a str,
    /// An operation of it.
    pub operation: Option<&'a str>,
    /// Least duration of a span.
    pub min_duration: Option<Duration>,
}

impl<'a> Jaeger<'a> {
    /// Finds where Jaeger's API starts, and the services it has traces of.
    ///
    /// # Errors
    /// No answer, or none that Jaeger gives.
    pub async fn find(asker: &'a dyn Asker) -> Result<(Self, Vec<String>), String> {
        let mut first = None;
        for base in BASES {
            // An unknown path answers 200 with Jaeger's page: only JSON counts.
            match json::<Answered<Vec<String>>>(asker, &format!("{base}/api/services")).await {
                Ok(answered) => {
                    let mut services = answered.data.unwrap_or_default();
                    services.sort();
                    return Ok((Self { asker, base }, services));
                }
                Err(why) => drop(first.get_or_insert(why)),
            }
        }
        Err(first.unwrap_or_default())
    }

    /// The trace of this id; `None` where Jaeger has none.
    ///
    /// # Errors
    /// No answer, or none that Jaeger gives.
    pub async fn trace(&self, id: &str) -> Result<Option<Trace>, String> {
        let path = format!("{}/api/traces/{id}", self.base);
        let answer = self.asker.ask("GET", &path, &[]).await.map_err(|e| e.to_string())?;
        match answer.status {
            404 => Ok(None),
            200 => match bounded::from_json::<Answered<Vec<Trace>>>(&answer.body) {
                Ok(answered) => Ok(answered.data.unwrap_or_default().into_iter().next()),
                Err(error) => Err(format!("Jaeger answered no trace ({error}): {}", glimpse(&answer.body))),
            },
            _ => Err(format!("{}{path} answered {}", self.asker.label(), status_line(&answer))),
        }
    }

    /// The newest traces that `search` finds.
    ///
    /// # Errors
    /// No answer, or none that Jaeger gives.
    pub async fn search(&self, search: &Search<'_>) -> Result<Vec<Trace>, String> {
        let mut path =
            format!("{}/api/traces?service={}&limit={LIMIT}&lookback={LOOKBACK}", self.base, escaped(search.service));
        if let Some(operation) = search.operation {
            path.push_str(&format!("&operation={}", escaped(operation)));
        }
        if let Some(least) = search.min_duration {
            path.push_str(&format!("&minDuration={}us", least.as_micros()));
        }
        Ok(json::<Answered<Vec<Trace>>>(self.asker, &path).await?.data.unwrap_or_default())
    }

    /// Path of the page that shows a trace.
    pub fn page(&self, id: &str) -> String {
        format!("{}/trace/{id}", self.base)
    }
}
