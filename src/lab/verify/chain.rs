//! Where the chain of telemetry broke: sent? received? refused? stored? Read from the collectors' and Jaeger's own metrics, and
//! said in words.

use serde::Serialize;

/// How far spans come on their way.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chain {
    /// Where it broke.
    pub broke: Broke,
    /// The whole way in words, a line each; the first says where it broke.
    pub lines: Vec<String>,
    /// The collectors, by pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collectors: Vec<Collector>,
    /// Jaeger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

/// The link that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broke {
    /// Nothing reached a collector.
    Sent,
    /// Collectors refused what reached them.
    Refused,
    /// Collectors could not pass on what they took.
    Forwarded,
    /// It was passed on, but not stored.
    Stored,
    /// It is stored, but is not what the check asks for.
    Content,
    /// It could not be found out.
    Unknown,
}

/// What a collector tells of itself (its own telemetry: `otelcol_receiver_*`, `otelcol_exporter_*`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Collector {
    /// `namespace/pod`
    pub pod: String,
    /// The node it is on.
    pub node: String,
    /// Whether it is on the node's own network: components reach it at 127.0.0.1.
    pub agent: bool,
    /// Spans taken.
    pub received: u64,
    /// Spans refused.
    pub refused: u64,
    /// Spans passed on.
    pub sent: u64,
    /// Spans that could not be passed on.
    pub failed: u64,
    /// Batches that wait to be passed on.
    pub queued: u64,
    /// The last error of passing on, from its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it could not be asked; then all numbers are 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
}

/// What Jaeger tells of itself (`jaeger_collector_spans_*`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Store {
    /// `namespace/pod`
    pub pod: String,
    /// Spans received.
    pub received: u64,
    /// Spans rejected or dropped.
    pub lost: u64,
    /// Spans saved.
    pub saved: u64,
    /// Services it has traces of.
    pub services: Vec<String>,
    /// Why its numbers could not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
}

/// A sum over a metric's series, whatever their labels; `None` where there is none. Newer collectors write `_total` behind
/// counters (Prometheus text format; OpenMetrics, "Counter").
pub fn sum(metrics: &str, name: &str, label: Option<&str>) -> Option<u64> {
    let mut found = None;
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        let (labels, value) = match rest.strip_prefix('{').and_then(|r| r.rsplit_once('}')) {
            Some(parts) => parts,
            None if rest.starts_with(' ') => ("", rest),
            None => continue,
        };
        if label.is_some_and(|want| !labels.contains(want)) {
            continue;
        }
        let value = value.split_whitespace().next().and_then(|v| v.parse::<f64>().ok());
        if let Some(value) = value.filter(|v| v.is_finite() && *v >= 0.0) {
            found = Some(found.unwrap_or(0) + value as u64);
        }
    }
    found
}

impl Collector {
    /// Takes the numbers out of its metrics.
    pub fn read(mut self, metrics: &str) -> Self {
        let number = |name: &str| sum(metrics, name, None).unwrap_or(0);
        self.received = number("otelcol_receiver_accepted_spans");
        self.refused = number("otelcol_receiver_refused_spans");
        self.sent = number("otelcol_exporter_sent_spans");
        self.failed = number("otelcol_exporter_send_failed_spans");
        self.failed += number("otelcol_exporter_enqueue_failed_spans");
        self.queued = number("otelcol_exporter_queue_size");
        self
    }

    fn label(&self) -> String {
        if self.agent {
            format!("the agent on node {}", self.node)
        } else {
            format!("collector {}", self.pod)
        }
    }

    fn line(&self) -> String {
        let label = self.label();
        if let Some(why) = &self.silent {
            return format!("{label} could not be asked: {why}");
        }
        let mut text = format!("{label} received {} spans", self.received);
        if self.received == 0 && self.agent {
            text.push_str(": nothing is sent to 127.0.0.1:4317");
        }
        if self.refused > 0 {
            text.push_str(&format!(", refused {}", self.refused));
        }
        if self.received > 0 {
            text.push_str(&format!(", sent {} on", self.sent));
        }
        if self.failed > 0 {
            text.push_str(&format!(", failed to send {}", self.failed));
        }
        if self.queued > 0 {
            text.push_str(&format!(", {} batches wait", self.queued));
        }
        if let Some(error) = self.error.as_ref().filter(|_| self.failed > 0 || self.queued > 0 || self.sent == 0) {
            text.push_str(&format!(": {error}"));
        }
        text
    }
}

impl Store {
    /// Takes the numbers out of its metrics.
    pub fn read(mut self, metrics: &str) -> Self {
        let number = |name: &str, label| sum(metrics, name, label).unwrap_or(0);
        self.received = number("jaeger_collector_spans_received", None);
        self.lost = number("jaeger_collector_spans_rejected", None) + number("jaeger_collector_spans_dropped", None);
        self.saved = number("jaeger_collector_spans_saved_by_svc", Some("result=\"ok\""));
        self.lost += number("jaeger_collector_spans_saved_by_svc", Some("result=\"err\""));
        self
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.silent {
            Some(why) => format!("Jaeger's own numbers could not be had: {why}"),
            None if self.lost > 0 => {
                format!("Jaeger received {} spans, saved {}, lost {}", self.received, self.saved, self.lost)
            }
            None => format!("Jaeger received {} spans, saved {}", self.received, self.saved),
        }];
        lines.push(format!("services Jaeger has traces of: {}", super::trace::listed(&self.services)));
        lines
    }
}

/// Puts the links together: the first that holds nothing back tells where it broke.
pub fn judge(collectors: Vec<Collector>, store: Option<Store>) -> Chain {
    let asked: Vec<&Collector> = collectors.iter().filter(|c| c.silent.is_none()).collect();
    let total = |number: fn(&Collector) -> u64| asked.iter().map(|c| number(c)).sum::<u64>();
    let (received, refused) = (total(|c| c.received), total(|c| c.refused));
    let (sent, failed, queued) = (total(|c| c.sent), total(|c| c.failed), total(|c| c.queued));
    let (stored, has_services) = match &store {
        Some(store) => (store.saved, !store.services.is_empty()),
        None => (0, false),
    };
    let unasked = store.as_ref().is_none_or(|s| s.silent.is_some());
    let (broke, verdict) = if asked.is_empty() && stored == 0 && !has_services {
        match (collectors.is_empty(), unasked) {
            (true, false) => (Broke::Sent, "nothing was sent: there is no collector, and Jaeger received nothing"),
            _ => (Broke::Unknown, "no part of the chain could be asked"),
        }
    } else if stored > 0 || has_services {
        (Broke::Content, "spans arrive and are stored, but none of the traces is what the check asks for")
    } else if received == 0 && refused == 0 {
        (Broke::Sent, "nothing was sent: no collector received a span")
    } else if received == 0 {
        (Broke::Refused, "collectors refuse what is sent to them")
    } else if sent == 0 || failed > 0 || queued > 0 {
        (Broke::Forwarded, "collectors receive spans, but can not pass them on")
    } else if unasked {
        (Broke::Unknown, "collectors pass spans on; whether they are stored could not be found out")
    } else {
        (Broke::Stored, "collectors pass spans on, but Jaeger stores none")
    };
    let mut lines = vec![verdict.to_owned()];
    lines.extend(collectors.iter().map(Collector::line));
    lines.extend(store.iter().flat_map(Store::lines));
    Chain { broke, lines, collectors, store }
}

#[cfg(test)]
#[path = "chain/tests.rs"]
mod tests;
