//! Istio, by the bundle's own istioctl.

use kube::api::ListParams;

use super::chart::context;
use super::node::{Place, failed};
use crate::lab::error::LabError;
use crate::lab::kube::ready::Brought;
use crate::lab::run::Program;
use crate::lab::tools;
use crate::model::profile::Istio;

/// Where Istio goes.
pub(super) const NAMESPACE: &str = "istio-system";

/// `istioctl install`; gives no secrets, and the workloads of its namespace as what it brought.
///
/// # Errors
/// istioctl's own, with the end of what it wrote; a bundle without it.
pub(super) async fn install(
    place: &Place<'_>,
    istio: &Istio,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<String>, Vec<Brought>), LabError> {
    let session = place.context.session;
    let program = tools::tool(session, "istioctl")?;
    let kubeconfig = session.state.kubeconfig(&place.api.cluster).to_string_lossy().into_owned();
    let mut program = Program::new(&session.machine, &program)
        .args(["install", "-y", "--set"])
        .args([format!("profile={}", *istio.profile)])
        .args(["--kubeconfig".to_owned(), kubeconfig])
        .env("KUBECACHEDIR", &session.state.dir().join("istioctl").to_string_lossy());
    for (key, value) in &istio.set {
        program = program.args(["--set".to_owned(), format!("{key}={value}")]);
    }
    if let Some(context) = context(place) {
        program = program.args(["--context".to_owned(), context]);
    }
    say("istioctl install");
    let run = tokio::time::timeout_at(place.deadline, program.run()).await;
    run.map_err(|_| LabError::failed(program.line(), "it did not end in time"))??;
    let mut brought = Vec::new();
    for (version, kind) in [("apps/v1", "Deployment"), ("apps/v1", "DaemonSet"), ("v1", "Service")] {
        let error = |e: &kube::Error| failed(place, "what istioctl installed", e);
        let Some(known) = place.kinds.of(version, kind).await.map_err(|e| error(&e))? else { continue };
        let list = known.objects(&place.api.client, place.namespace).list(&ListParams::default()).await;
        for object in list.map_err(|e| error(&e))?.items {
            let namespace = Some(place.namespace.to_owned());
            let (api_version, kind) = (version.to_owned(), kind.to_owned());
            brought.push(Brought { api_version, kind, namespace, name: object.metadata.name.unwrap_or_default() });
        }
    }
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let version = "admissionregistration.k8s.io/v1";
        let error = |e: &kube::Error| failed(place, "what istioctl installed", e);
        let Some(known) = place.kinds.of(version, kind).await.map_err(|e| error(&e))? else { continue };
        let list = known.objects(&place.api.client, place.namespace).list(&ListParams::default()).await;
        for object in list.map_err(|e| error(&e))?.items.into_iter().filter(|o| is_served_in(&o.data, place.namespace))
        {
            let (api_version, kind) = (version.to_owned(), kind.to_owned());
            let name = object.metadata.name.unwrap_or_default();
            brought.push(Brought { api_version, kind, namespace: None, name });
        }
    }
    Ok((Vec::new(), brought))
}

/// Whether a webhook configuration asks a service of the namespace: these have no namespace of their own.
fn is_served_in(configuration: &serde_json::Value, namespace: &str) -> bool {
    let webhooks = configuration.get("webhooks").and_then(|w| w.as_array());
    let asks = |hook: &serde_json::Value| {
        hook.pointer("/clientConfig/service/namespace").and_then(|n| n.as_str()) == Some(namespace)
    };
    webhooks.is_some_and(|all| all.iter().any(asks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_belong_to_the_namespace_of_their_service() {
        let hook = |namespace: &str| serde_json::json!({ "webhooks": [{ "clientConfig": { "service": { "namespace": namespace } } }] });
        assert!(is_served_in(&hook("istio-system"), "istio-system"));
        assert!(!is_served_in(&hook("cert-manager"), "istio-system"));
        assert!(!is_served_in(&serde_json::json!({}), "istio-system"));
    }
}
