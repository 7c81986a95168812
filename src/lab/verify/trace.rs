//! The `trace` check: one trace that satisfies everything the profile asks of it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::ask::Asker;
use super::jaeger::{Jaeger, Search, Trace};
use super::look::{Look, Seen};
use super::report::Open;
use crate::model::profile::TraceCheck;
use crate::model::profile::duration;

/// After how long a request whose trace does not show is sent again: the first may have come before an agent was there.
const AGAIN: Duration = Duration::from_secs(15);
/// Most requests that one check sends.
const MOST_REQUESTS: usize = 20;
/// Most names listed in one reason.
const LISTED: usize = 12;

/// A request's own trace (W3C Trace Context, section 3.2; B3 for proxies that know only that).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// 32 hex digits.
    pub trace: String,
    /// 16 hex digits: the span that nobody sends.
    pub span: String,
}

impl Own {
    /// A new, random one.
    ///
    /// # Errors
    /// A machine without random numbers.
    pub fn random() -> Result<Self, String> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
        // All zeros is no id, neither of a trace nor of a span.
        bytes[0] |= 1;
        bytes[16] |= 1;
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let (trace, span) = hex.split_at(32);
        Ok(Self { trace: trace.to_owned(), span: span.to_owned() })
    }

    /// The headers that carry it, sampled.
    pub fn headers(&self) -> Vec<(String, String)> {
        let Self { trace, span } = self;
        [
            ("traceparent", format!("00-{trace}-{span}-01")),
            ("b3", format!("{trace}-{span}-1")),
            ("x-b3-traceid", trace.clone()),
            ("x-b3-spanid", span.clone()),
            ("x-b3-sampled", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// The requests a check has sent, over all its looks.
#[derive(Default)]
pub struct Sent(Mutex<Vec<(Instant, Own)>>);

impl Sent {
    fn all(&self) -> Vec<(Instant, Own)> {
        self.0.lock().map(|all| all.clone()).unwrap_or_default()
    }

    /// Whether it is time to send one.
    pub fn is_due(&self) -> bool {
        let all = self.all();
        all.len() < MOST_REQUESTS && all.last().is_none_or(|(at, _)| at.elapsed() >= AGAIN)
    }

    /// Takes one that was sent and answered as it must be.
    pub fn add(&self, own: Own) {
        if let Ok(mut all) = self.0.lock() {
            all.push((Instant::now(), own));
        }
    }

    /// How many were sent.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether none was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One look: asks `asker`, a Jaeger. With `sent`, only at the traces of those requests.
pub async fn look(check: &TraceCheck, asker: &dyn Asker, sent: Option<&Sent>) -> Look {
    let (jaeger, services) = match Jaeger::find(asker).await {
        Ok(found) => found,
        Err(why) => return Look::not_yet(why),
    };
    let looked = match sent {
        Some(sent) => by_request(check, &jaeger, sent).await,
        None => by_search(check, &jaeger, &services).await,
    };
    match looked {
        Ok(Ok(trace)) => Look::Seen(Seen {
            detail: detail(&trace),
            open: vec![Open { what: "the trace in Jaeger".to_owned(), url: jaeger.page(&trace.id), after: None }],
        }),
        Ok(Err(against)) => Look::NotYet(against),
        Err(why) => Look::not_yet(why),
    }
}

/// A trace, or what speaks against the best there is.
type Judged = Result<Trace, Vec<String>>;

async fn by_request(check: &TraceCheck, jaeger: &Jaeger<'_>, sent: &Sent) -> Result<Judged, String> {
    let all = sent.all();
    let mut best = Best::default();
    for (_, own) in &all {
        if let Some(trace) = jaeger.trace(&own.trace).await?
            && let Some(found) = best.consider(check, trace)
        {
            return Ok(Ok(found));
        }
    }
    let ids: Vec<&str> = all.iter().map(|(_, own)| own.trace.as_str()).collect();
    let none = || vec![format!("the request was answered, but Jaeger has no trace {}", ids.join(" or "))];
    Ok(Err(best.against("the request's trace").unwrap_or_else(none)))
}

async fn by_search(check: &TraceCheck, jaeger: &Jaeger<'_>, services: &[String]) -> Result<Judged, String> {
    if let Some(missing) = wanted(check).into_iter().find(|w| !services.iter().any(|s| s == w)) {
        return Ok(Err(vec![format!("Jaeger knows no service `{missing}`; it has: {}", listed(services))]));
    }
    let mut best = Best::default();
    for search in searches(check) {
        for trace in jaeger.search(&search).await? {
            if let Some(found) = best.consider(check, trace) {
                return Ok(Ok(found));
            }
        }
    }
    let none = || {
        let operation = check.operation.as_ref().map(|o| format!(" with operation `{o}`")).unwrap_or_default();
        vec![format!("Jaeger has no trace of service `{}`{operation}", check.service)]
    };
    Ok(Err(best.against("the nearest trace").unwrap_or_else(none)))
}

/// Every service that must be in the trace.
fn wanted(check: &TraceCheck) -> BTreeSet<&str> {
    let parents = check.parents.iter().flat_map(|p| [p.parent.as_str(), p.child.as_str()]);
    let all = check.services.iter().map(String::as_str).chain(parents);
    all.chain([check.service.as_str()]).collect()
}

/// Ways to find it: as asked; by slow spans; by each other service, because a chatty service's newest traces may all be others.
fn searches(check: &TraceCheck) -> Vec<Search<'_>> {
    let min_duration = check.min_duration.as_ref().and_then(|t| duration(t));
    let first = Search { service: &check.service, operation: check.operation.as_deref(), min_duration: None };
    let slow = min_duration.map(|_| Search { min_duration, ..first.clone() });
    let others = wanted(check).into_iter().filter(|s| *s != check.service);
    let others = others.map(|service| Search { service, operation: None, min_duration: None });
    [first.clone()].into_iter().chain(slow).chain(others).collect()
}

/// The trace with the least against it.
#[derive(Default)]
struct Best(Option<(Trace, Vec<String>)>);

impl Best {
    /// The trace, where nothing speaks against it; else remembers it if it is the best so far.
    fn consider(&mut self, check: &TraceCheck, trace: Trace) -> Option<Trace> {
        let against = judge(check, &trace);
        if against.is_empty() {
            return Some(trace);
        }
        if self.0.as_ref().is_none_or(|(_, best)| against.len() < best.len()) {
            self.0 = Some((trace, against));
        }
        None
    }

    fn against(self, what: &str) -> Option<Vec<String>> {
        let (trace, mut against) = self.0?;
        against.push(format!("{what}: {}", detail(&trace)));
        Some(against)
    }
}

/// What speaks against the trace, a line each.
pub fn judge(check: &TraceCheck, trace: &Trace) -> Vec<String> {
    let mut against = Vec::new();
    let services = trace.services();
    let missing = wanted(check).into_iter().filter(|s| !services.contains(s));
    against.extend(missing.map(|s| format!("service `{s}` is not in it")));
    let has = |service: Option<&str>, name: &str| {
        trace.spans.iter().any(|s| s.operation_name == name && service.is_none_or(|want| trace.service(s) == want))
    };
    if let Some(name) = check.operation.as_deref().filter(|o| !has(Some(&check.service), o)) {
        against.push(format!("operation `{name}` of `{}` is not in it", check.service));
    }
    let missing = check.operations.iter().filter(|o| !has(None, o));
    against.extend(missing.map(|name| format!("operation `{name}` is not in it")));
    let parents = trace.parents();
    let missing = check.parents.iter().filter(|p| !parents.contains(&(p.parent.as_str(), p.child.as_str())));
    against.extend(missing.map(|p| format!("no span of `{}` has a span of `{}` as its parent", p.child, p.parent)));
    if let Some(least) = check.min_spans.filter(|n| trace.spans.len() < *n as usize) {
        against.push(format!("it has {} spans, fewer than {least}", trace.spans.len()));
    }
    if let Some(least) = check.min_duration.as_ref().and_then(|t| duration(t)).filter(|d| trace.duration() < *d) {
        against.push(format!("it took {:?}, less than {least:?}", trace.duration()));
    }
    against
}

/// The trace in one line.
fn detail(trace: &Trace) -> String {
    let services: Vec<String> = trace.services().into_iter().map(str::to_owned).collect();
    let (count, took) = (trace.spans.len(), trace.duration());
    let spans = if count == 1 { "span" } else { "spans" };
    format!("trace {}: {count} {spans} of {} in {took:?}", trace.id, listed(&services))
}

/// Names, as many as fit a line.
pub fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    match names.len().saturating_sub(LISTED) {
        0 if names.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
#[path = "trace/tests.rs"]
mod tests;
