//! In which order objects of one manifest are applied: what others need first, what gets in others' way last.

use serde_json::Value;

/// Objects of one wave are applied together; waves follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wave {
    /// Namespaces.
    Namespaces,
    /// Kinds; they are Established before the next wave.
    Kinds,
    /// What pods need to start: accounts, roles, configuration, storage, limits.
    Settings,
    /// Services, before the pods that find them in their environment.
    Services,
    /// What runs pods.
    Workloads,
    /// Everything else: objects of CRDs.
    Others,
    /// Webhooks and aggregated APIs: they would refuse or delay the objects before them until their pods run.
    Hooks,
}

impl Wave {
    /// Where an object goes.
    pub(super) fn of(api_version: &str, kind: &str) -> Self {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        match (group, kind) {
            ("", "Namespace") => Self::Namespaces,
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Self::Kinds,
            ("", "Service") => Self::Services,
            ("", "Pod" | "ReplicationController") => Self::Workloads,
            ("apps" | "batch", _) => Self::Workloads,
            ("", _) => Self::Settings,
            ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => Self::Hooks,
            (
                "rbac.authorization.k8s.io"
                | "storage.k8s.io"
                | "scheduling.k8s.io"
                | "policy"
                | "networking.k8s.io"
                | "node.k8s.io"
                | "flowcontrol.apiserver.k8s.io",
                _,
            ) => Self::Settings,
            ("autoscaling", _) => Self::Workloads,
            _ => Self::Others,
        }
    }
}

/// Takes away what server-side apply refuses or what is not the author's to say.
pub(super) fn tidy(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"] {
            metadata.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_in_order() {
        let all = [
            ("v1", "Namespace"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            ("v1", "ConfigMap"),
            ("v1", "Service"),
            ("apps/v1", "Deployment"),
            ("example.org/v1", "House"),
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ];
        let waves: Vec<_> = all.iter().map(|(version, kind)| Wave::of(version, kind)).collect();
        assert!(waves.is_sorted() && waves.windows(2).all(|w| w[0] != w[1]), "{waves:?}");
    }

    #[test]
    fn what_a_server_wrote_is_taken_away() {
        let mut value = serde_json::json!({
            "kind": "X", "metadata": {"name": "a", "creationTimestamp": null, "uid": "1"}, "status": {}
        });
        tidy(&mut value);
        assert_eq!(value, serde_json::json!({"kind": "X", "metadata": {"name": "a"}}));
        tidy(&mut Value::Null);
    }
}
