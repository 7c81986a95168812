//! What the status of an object says (Kubernetes API reference; the rules of `kubectl rollout status` and `kubectl wait`).

use kube::api::DynamicObject;
use serde_json::Value;

use super::Standing;
use crate::model::profile::ReadyKind;

/// How an object of `kind` is.
pub(super) fn standing(kind: ReadyKind, name: &str, object: &DynamicObject) -> Standing {
    let data = &object.data;
    let generation = object.metadata.generation.unwrap_or(0);
    let waiting = |text: String| Standing::Waiting(format!("{name}: {text}"));
    if object.metadata.deletion_timestamp.is_some() {
        return waiting("it is being deleted".to_owned());
    }
    let seen = |otherwise: i64| number(data, "/status/observedGeneration").unwrap_or(otherwise);
    match kind {
        ReadyKind::Deployment | ReadyKind::StatefulSet | ReadyKind::DaemonSet if seen(0) < generation => {
            waiting("its controller has not seen it yet".to_owned())
        }
        ReadyKind::Deployment => deployment(name, data),
        ReadyKind::StatefulSet => {
            let want = number(data, "/spec/replicas").unwrap_or(1);
            let on_delete = text(data, "/spec/updateStrategy/type") == Some("OnDelete");
            let partition = number(data, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
            let updated = if on_delete { 0 } else { (want - partition).max(0) };
            counts(name, data, want, &[("readyReplicas", "ready", want), ("updatedReplicas", "updated", updated)])
        }
        ReadyKind::DaemonSet => {
            let want = number(data, "/status/desiredNumberScheduled").unwrap_or(0);
            let on_delete = text(data, "/spec/updateStrategy/type") == Some("OnDelete");
            let updated = if on_delete { 0 } else { want };
            let counted = [("updatedNumberScheduled", "updated", updated), ("numberAvailable", "available", want)];
            counts(name, data, want, &counted)
        }
        ReadyKind::Job => job(name, data),
        ReadyKind::Pod => pod(name, data),
        ReadyKind::Crd => match condition(data, "Established") {
            Some(("True", _)) => Standing::Ready,
            _ => match condition(data, "NamesAccepted") {
                Some(("False", message)) => Standing::Failed(format!("{name}: {message}")),
                _ => waiting("not Established".to_owned()),
            },
        },
        ReadyKind::LoadBalancer => {
            let address = |i: &Value| i.get("ip").or_else(|| i.get("hostname")).is_some();
            let list = data.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
            match list.is_some_and(|list| list.iter().any(address)) {
                true => Standing::Ready,
                false => waiting("it has no address".to_owned()),
            }
        }
    }
}

fn deployment(name: &str, data: &Value) -> Standing {
    if let Some(("False", message)) = condition(data, "Progressing")
        && reason(data, "Progressing") == Some("ProgressDeadlineExceeded")
    {
        // Not the end: the controller goes on trying, and so do we until the deadline.
        return Standing::Waiting(format!("{name}: {message}"));
    }
    let want = number(data, "/spec/replicas").unwrap_or(1);
    let total = number(data, "/status/replicas").unwrap_or(0);
    let counted = [("updatedReplicas", "updated", want), ("availableReplicas", "available", want)];
    match counts(name, data, want, &counted) {
        Standing::Ready if total > want => {
            Standing::Waiting(format!("{name}: {} old pods are still there", total - want))
        }
        other => other,
    }
}

fn counts(name: &str, data: &Value, want: i64, counted: &[(&str, &str, i64)]) -> Standing {
    for (field, word, least) in counted {
        let have = number(data, &format!("/status/{field}")).unwrap_or(0);
        if have < *least {
            return Standing::Waiting(format!("{name}: {have} of {want} {word}"));
        }
    }
    Standing::Ready
}

fn job(name: &str, data: &Value) -> Standing {
    if let Some(("True", message)) = condition(data, "Failed") {
        return Standing::Failed(format!("{name}: the job failed: {message}"));
    }
    match condition(data, "Complete") {
        Some(("True", _)) => Standing::Ready,
        _ => {
            let count = |field: &str| number(data, &format!("/status/{field}")).unwrap_or(0);
            let (active, failed) = (count("active"), count("failed"));
            Standing::Waiting(format!("{name}: not complete, {active} active, {failed} failed"))
        }
    }
}

fn pod(name: &str, data: &Value) -> Standing {
    match (text(data, "/status/phase"), condition(data, "Ready")) {
        (Some("Succeeded"), _) | (_, Some(("True", _))) => Standing::Ready,
        (Some("Failed"), _) => Standing::Failed(format!("{name}: the pod failed")),
        (phase, _) => Standing::Waiting(format!("{name}: {}, not ready", phase.unwrap_or("no phase"))),
    }
}

fn number(data: &Value, pointer: &str) -> Option<i64> {
    data.pointer(pointer)?.as_i64()
}

fn text<'a>(data: &'a Value, pointer: &str) -> Option<&'a str> {
    data.pointer(pointer)?.as_str()
}

fn find<'a>(data: &'a Value, kind: &str) -> Option<&'a Value> {
    let list = data.pointer("/status/conditions")?.as_array()?;
    list.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
}

/// Status and message of a condition.
fn condition<'a>(data: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = find(data, kind)?;
    Some((text(found, "/status")?, text(found, "/message").unwrap_or_default()))
}

fn reason<'a>(data: &'a Value, kind: &str) -> Option<&'a str> {
    text(find(data, kind)?, "/reason")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(kind: ReadyKind, value: Value) -> Standing {
        let mut whole = json!({"metadata": {"name": "x", "generation": 2}});
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        standing(kind, "x", &serde_json::from_value(whole).unwrap())
    }

    fn waiting(text: &str) -> Standing {
        Standing::Waiting(format!("x: {text}"))
    }

    #[test]
    fn replicas_are_counted_once_the_controller_saw_the_object() {
        use ReadyKind::{DaemonSet, Deployment, StatefulSet};
        let unseen = json!({"status": {"observedGeneration": 1, "availableReplicas": 1, "updatedReplicas": 1}});
        assert_eq!(look(Deployment, unseen), waiting("its controller has not seen it yet"));
        let status = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let some = status(
            r#"{"spec":{"replicas":3},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":3,"availableReplicas":2}}"#,
        );
        assert_eq!(look(Deployment, some), waiting("2 of 3 available"));
        let old =
            status(r#"{"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":1,"availableReplicas":2}}"#);
        assert_eq!(look(Deployment, old), waiting("1 old pods are still there"));
        let none = status(r#"{"spec":{"replicas":0},"status":{"observedGeneration":2}}"#);
        assert_eq!(look(Deployment, none.clone()), Standing::Ready);
        assert_eq!(look(StatefulSet, none), Standing::Ready);
        let set = status(
            r#"{"spec":{"replicas":2},"status":{"observedGeneration":2,"readyReplicas":2,"updatedReplicas":1}}"#,
        );
        assert_eq!(look(StatefulSet, set), waiting("1 of 2 updated"));
        let agents = status(
            r#"{"status":{"observedGeneration":2,"desiredNumberScheduled":6,"updatedNumberScheduled":6,"numberAvailable":5}}"#,
        );
        assert_eq!(look(DaemonSet, agents), waiting("5 of 6 available"));
    }

    #[test]
    fn jobs_pods_crds_and_balancers() {
        use ReadyKind::{Crd, Job, LoadBalancer, Pod};
        let with = |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status, "message": "why"}]}});
        assert_eq!(look(Job, with("Complete", "True")), Standing::Ready);
        assert_eq!(look(Job, with("Failed", "True")), Standing::Failed("x: the job failed: why".into()));
        assert_eq!(look(Job, json!({})), waiting("not complete, 0 active, 0 failed"));
        assert_eq!(look(Pod, with("Ready", "True")), Standing::Ready);
        assert_eq!(look(Pod, json!({"status": {"phase": "Pending"}})), waiting("Pending, not ready"));
        assert_eq!(look(Crd, with("Established", "True")), Standing::Ready);
        assert_eq!(look(Crd, with("NamesAccepted", "False")), Standing::Failed("x: why".into()));
        let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.9"}]}}});
        assert_eq!(look(LoadBalancer, address), Standing::Ready);
        assert_eq!(look(LoadBalancer, json!({"status": {"loadBalancer": {}}})), waiting("it has no address"));
    }
}
