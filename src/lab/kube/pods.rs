//! The pods behind what people name: `deployment/web`, `service/web`, `pod/web-0`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;

use super::Api;
use crate::lab::error::LabError;

/// Something that has pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Which kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
}

/// Kinds of things that have pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// `deployment`
    Deployment,
    /// `statefulset`
    StatefulSet,
    /// `daemonset`
    DaemonSet,
    /// `job`
    Job,
    /// `service`
    Service,
    /// `pod`
    Pod,
}

impl TargetKind {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
            Self::Service => "service",
            Self::Pod => "pod",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for Target {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        let bad = || {
            LabError::failed(format!("`{text}`"), "it names nothing that has pods")
                .hint("`deployment/NAME`, `statefulset/…`, `daemonset/…`, `job/…`, `service/…` or `pod/…`")
        };
        let (kind, name) = text.split_once('/').ok_or_else(bad)?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "deployment" | "deployments" | "deploy" => TargetKind::Deployment,
            "statefulset" | "statefulsets" | "sts" => TargetKind::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => TargetKind::DaemonSet,
            "job" | "jobs" => TargetKind::Job,
            "service" | "services" | "svc" => TargetKind::Service,
            "pod" | "pods" | "po" => TargetKind::Pod,
            _ => return Err(bad()),
        };
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        if plain { Ok(Self { kind, name: name.to_owned() }) } else { Err(bad()) }
    }
}

/// The pods of a target, sorted by name; none where it has none just now.
///
/// # Errors
/// A target that is not there or has no pods of its own, or an API that does not answer.
pub async fn of(api: &Api, namespace: &str, target: &Target) -> Result<Vec<Pod>, LabError> {
    let what = || format!("{target} in namespace `{namespace}` of cluster `{}`", api.cluster);
    let failed = |e: kube::Error| LabError::failed(what(), worded(&e));
    let pods: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), namespace);
    if target.kind == TargetKind::Pod {
        return Ok(vec![pods.get(&target.name).await.map_err(failed)?]);
    }
    let selector = selector(api, namespace, target).await.map_err(failed)?;
    let Some(selector) = selector.filter(|s| !s.is_empty()) else {
        return Err(LabError::failed(what(), "it selects no pods by labels"));
    };
    let mut found = pods.list(&ListParams::default().labels(&selector)).await.map_err(failed)?.items;
    found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(found)
}

/// Whether a pod takes work: ready, and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// An API error as its server words it.
pub fn worded(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

async fn selector(api: &Api, namespace: &str, target: &Target) -> Result<Option<String>, kube::Error> {
    let (client, name) = (api.client.clone(), target.name.as_str());
    Ok(match target.kind {
        TargetKind::Deployment => {
            let object = kube::Api::<Deployment>::namespaced(client, namespace).get(name).await?;
            object.spec.and_then(|s| text(&s.selector))
        }
        TargetKind::StatefulSet => {
            let object = kube::Api::<StatefulSet>::namespaced(client, namespace).get(name).await?;
            object.spec.and_then(|s| text(&s.selector))
        }
        TargetKind::DaemonSet => {
            let object = kube::Api::<DaemonSet>::namespaced(client, namespace).get(name).await?;
            object.spec.and_then(|s| text(&s.selector))
        }
        TargetKind::Job => {
            let object = kube::Api::<Job>::namespaced(client, namespace).get(name).await?;
            object.spec.and_then(|s| text(s.selector.as_ref()?))
        }
        TargetKind::Service => {
            let object = kube::Api::<Service>::namespaced(client, namespace).get(name).await?;
            object.spec.and_then(|s| s.selector).map(|labels| pairs(&labels))
        }
        TargetKind::Pod => None,
    })
}

fn pairs(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// A selector as the API's `labelSelector` takes it; `None` for an operator that is not known.
fn text(selector: &LabelSelector) -> Option<String> {
    let mut parts: Vec<String> = selector.match_labels.iter().filter(|l| !l.is_empty()).map(pairs).collect();
    for one in selector.match_expressions.iter().flatten() {
        let values = one.values.as_deref().unwrap_or_default().join(",");
        parts.push(match one.operator.as_str() {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} notin ({values})", one.key),
            "Exists" => one.key.clone(),
            "DoesNotExist" => format!("!{}", one.key),
            _ => return None,
        });
    }
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets_are_read_as_kubectl_reads_them() {
        let target: Target = "deploy/web".parse().unwrap();
        assert_eq!((target.kind, target.to_string().as_str()), (TargetKind::Deployment, "deployment/web"));
        for bad in ["", "web", "deployment/", "node/a", "pod/a/b", "pod/..%2f"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_are_written_as_the_api_takes_them() {
        let selector = json!({ "matchLabels": { "a": "b", "c": "d" }, "matchExpressions": [
            { "key": "e", "operator": "In", "values": ["f", "g"] }, { "key": "h", "operator": "DoesNotExist" } ] });
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        assert_eq!(text(&selector).unwrap(), "a=b,c=d,e in (f,g),!h");
    }
}
