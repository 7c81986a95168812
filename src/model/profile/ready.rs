//! What a deploy or check waits for, read from its text.

use std::str::FromStr;
use std::time::Duration;

/// Something to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// Objects of a kind: all replicas ready, the job complete, the CRD established, the address given.
    Object {
        /// Which kind.
        kind: ReadyKind,
        /// Its name, or `*` for all that the deploy brought.
        name: String,
    },
    /// Every webhook the deploy brought has a CA bundle and answers a dry run.
    Webhook,
    /// A URL answers 2xx or 3xx, asked from this machine.
    Url(String),
    /// A service answers 2xx or 3xx, asked through the cluster's API.
    Service {
        /// Name of the service, in the deploy's namespace; or `name.namespace`.
        service: String,
        /// Port: a number or a name.
        port: String,
        /// Path, with its `/`.
        path: String,
    },
    /// A name resolves in the cluster.
    Dns(String),
    /// A field of an object has a value.
    Field {
        /// Kind, as kubectl takes it: `certificate`, `deployments.apps`.
        kind: String,
        /// Its name.
        name: String,
        /// JSONPath.
        path: String,
        /// The value, as text.
        value: String,
    },
}

/// Kinds whose readiness is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyKind {
    /// `deployment`
    Deployment,
    /// `statefulset`
    StatefulSet,
    /// `daemonset`
    DaemonSet,
    /// `job`
    Job,
    /// `pod`
    Pod,
    /// `crd`
    Crd,
    /// `loadbalancer`: a Service of that type with an address.
    LoadBalancer,
}

impl Ready {
    /// Every way to say it, for hints.
    pub const WAYS: &str = "`deployment/NAME`, `statefulset/…`, `daemonset/…`, `job/…`, `pod/…`, `crd/…`, `loadbalancer/…` (`*` for all of them), \
         `webhook`, `http://…`, `http:SERVICE:PORT/PATH`, `dns:NAME`, or `field:KIND/NAME:$.path=VALUE`";
}

impl FromStr for Ready {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("`{text}` is nothing to wait for");
        if text == "webhook" {
            return Ok(Self::Webhook);
        }
        if text == "crd" {
            return Ok(Self::Object { kind: ReadyKind::Crd, name: "*".to_owned() });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Url(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("http:") {
            return service(rest).ok_or_else(no);
        }
        if let Some(name) = text.strip_prefix("dns:").filter(|n| !n.is_empty()) {
            return Ok(Self::Dns(name.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("field:") {
            return field(rest).ok_or_else(no);
        }
        let (kind, name) = text.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(no)?;
        Ok(Self::Object { kind: kind_of(kind).ok_or_else(no)?, name: name.to_owned() })
    }
}

fn kind_of(text: &str) -> Option<ReadyKind> {
    Some(match text {
        "deployment" => ReadyKind::Deployment,
        "statefulset" => ReadyKind::StatefulSet,
        "daemonset" => ReadyKind::DaemonSet,
        "job" => ReadyKind::Job,
        "pod" => ReadyKind::Pod,
        "crd" => ReadyKind::Crd,
        "loadbalancer" => ReadyKind::LoadBalancer,
        _ => return None,
    })
}

fn service(text: &str) -> Option<Ready> {
    let (service, rest) = text.split_once(':')?;
    let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let whole = !service.is_empty() && !port.is_empty();
    whole.then(|| Ready::Service { service: service.to_owned(), port: port.to_owned(), path: path.to_owned() })
}

fn field(text: &str) -> Option<Ready> {
    let (object, rest) = text.split_once(':')?;
    let (kind, name) = object.split_once('/')?;
    // The last `=`: a path may hold a filter such as `?(@.type=='Ready')`.
    let (path, value) = rest.rsplit_once('=')?;
    let whole = !kind.is_empty() && !name.is_empty() && path.starts_with('$');
    let own = str::to_owned;
    whole.then(|| Ready::Field { kind: own(kind), name: own(name), path: own(path), value: own(value) })
}

/// Reads `60s`, `5m` or `250ms`; `None` for anything else.
pub fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let (number, unit) = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)))?;
    Some(Duration::from_millis(number.parse::<u32>().ok().map(u64::from)? * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_read() {
        let object = |kind, name: &str| Ready::Object { kind, name: name.to_owned() };
        assert_eq!("deployment/*".parse(), Ok(object(ReadyKind::Deployment, "*")));
        assert_eq!("crd".parse(), Ok(object(ReadyKind::Crd, "*")));
        let service = Ready::Service { service: "web".into(), port: "80".into(), path: "/".into() };
        assert_eq!("http:web:80".parse(), Ok(service));
        let field = Ready::Field {
            kind: "certificate".into(),
            name: "web".into(),
            path: "$.status.conditions[?@.type=='Ready'].status".into(),
            value: "True".into(),
        };
        assert_eq!("field:certificate/web:$.status.conditions[?@.type=='Ready'].status=True".parse(), Ok(field));
        for bad in ["", "deployment", "deployment/", "house/x", "http:web", "dns:", "field:x:$.a=b", "field:a/b:c=d"] {
            assert!(bad.parse::<Ready>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!([duration("5"), duration("s"), duration("-1s"), duration("1h")], [None; 4]);
    }
}
