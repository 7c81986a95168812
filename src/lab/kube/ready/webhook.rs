//! Webhooks: each has a CA bundle, its service has endpoints, and the API server reaches it in a dry run.

use kube::Error;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Brought, Scope, Standing};
use crate::lab::kube::fault;

/// Name of the object that is sent in dry runs; it never exists.
const PROBE: &str = "labimg-probe";
const GROUP: &str = "admissionregistration.k8s.io/v1";

/// How every webhook that the deploy brought is.
pub(super) async fn look(scope: &Scope<'_>) -> Result<Standing, Error> {
    let brought = scope.brought.unwrap_or_default();
    let is = |b: &&Brought| {
        b.api_version.starts_with("admissionregistration.k8s.io/")
            && matches!(b.kind.as_str(), "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration")
    };
    let mut any = false;
    for one in brought.iter().filter(is) {
        any = true;
        let Some(kind) = scope.kinds.of(GROUP, &one.kind).await? else { continue };
        let Some(object) = kind.objects(&scope.api.client, "").get_opt(&one.name).await? else {
            return Ok(Standing::Waiting(format!("{} {} is not there", one.kind, one.name)));
        };
        let hooks = object.data.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
        for hook in &hooks {
            match one_hook(scope, hook).await? {
                Standing::Ready => {}
                other => return Ok(other),
            }
        }
    }
    Ok(match any {
        true => Standing::Ready,
        false => Standing::Failed("there is no webhook configuration in what the deploy brings".to_owned()),
    })
}

async fn one_hook(scope: &Scope<'_>, hook: &Value) -> Result<Standing, Error> {
    let name = hook.get("name").and_then(Value::as_str).unwrap_or_default();
    let waiting = |text: &str| Ok(Standing::Waiting(format!("webhook {name}: {text}")));
    let config = hook.get("clientConfig").cloned().unwrap_or_default();
    if config.get("caBundle").and_then(Value::as_str).is_none_or(str::is_empty) {
        return waiting("it has no caBundle yet");
    }
    if let Some(service) = config.get("service") {
        let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, service) = (text("namespace"), text("name"));
        if !has_endpoints(scope, &namespace, &service).await? {
            return waiting(&format!("service {namespace}/{service} has no ready endpoint"));
        }
    }
    match probe(scope, name, hook).await {
        Some(why) => waiting(&why),
        None => Ok(Standing::Ready),
    }
}

async fn has_endpoints(scope: &Scope<'_>, namespace: &str, service: &str) -> Result<bool, Error> {
    let Some(kind) = scope.kinds.of("discovery.k8s.io/v1", "EndpointSlice").await? else { return Ok(true) };
    let params = kube::api::ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = kind.objects(&scope.api.client, namespace).list(&params).await?;
    let ready = |endpoint: &Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
    let any = |slice: &DynamicObject| {
        slice.data.get("endpoints").and_then(Value::as_array).is_some_and(|list| list.iter().any(ready))
    };
    Ok(slices.items.iter().any(any))
}

/// Sends an object that the webhook has to see in a dry run; gives why the webhook could not be asked. Any other answer, a
/// refusal too, means that it was asked or that no object of ours can tell.
async fn probe(scope: &Scope<'_>, name: &str, hook: &Value) -> Option<String> {
    // A dry run does not call webhooks with side effects.
    if !matches!(hook.get("sideEffects").and_then(Value::as_str), Some("None" | "NoneOnDryRun")) {
        return None;
    }
    let (version, plural) = target(hook)?;
    let kind = scope.kinds.by_plural(&version, &plural).await.ok().flatten()?;
    let api = kind.objects(&scope.api.client, scope.namespace);
    let object = json!({"apiVersion": version, "kind": kind.resource.kind, "metadata": {"name": PROBE}});
    let params = PatchParams { dry_run: true, ..PatchParams::apply(crate::lab::kube::MANAGER).force() };
    match api.patch_metadata(PROBE, &params, &Patch::Apply(&object)).await {
        Err(error) => {
            let text = fault::describe(&error);
            text.contains(&format!("failed calling webhook \"{name}\"")).then_some(text)
        }
        Ok(_) => None,
    }
}

/// `apiVersion` and plural of the first kind that the webhook sees when it is created.
fn target(hook: &Value) -> Option<(String, String)> {
    let rules = hook.get("rules")?.as_array()?;
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let list = rule.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    for rule in rules {
        if !texts(rule, "operations").iter().any(|o| o == "CREATE" || o == "*") {
            continue;
        }
        let plain = |list: Vec<String>| list.into_iter().find(|t| !t.contains('/') && t != "*");
        let (group, version, plural) = (
            texts(rule, "apiGroups").into_iter().find(|g| g != "*"),
            plain(texts(rule, "apiVersions")),
            plain(texts(rule, "resources")),
        );
        if let (Some(group), Some(version), Some(plural)) = (group, version, plural) {
            let version = if group.is_empty() { version } else { format!("{group}/{version}") };
            return Some((version, plural));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fitting_rule_says_what_to_send() {
        let hook = json!({"rules": [
            {"operations": ["DELETE"], "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["as"]},
            {"operations": ["CREATE", "UPDATE"], "apiGroups": ["b.io"], "apiVersions": ["*", "v1"], "resources": ["bs/status", "bs"]},
        ]});
        assert_eq!(target(&hook), Some(("b.io/v1".into(), "bs".into())));
        let core =
            json!({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
        assert_eq!(target(&core), Some(("v1".into(), "pods".into())));
        assert_eq!(
            target(
                &json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]})
            ),
            None
        );
    }
}
