//! Server-side apply of objects (Kubernetes, "Server-Side Apply"): wave after wave, each object again and again while the
//! API server or a webhook does not answer.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::order::{Wave, tidy};
use crate::lab::error::LabError;
use crate::lab::kube::MANAGER;
use crate::lab::kube::fault;
use crate::lab::kube::kinds::{Kind, Kinds};
use crate::lab::kube::ready::Brought;
use crate::model::manifest::Object;

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// How long a kind may be unknown: its CRD may be on its way from another deploy.
const UNKNOWN: Duration = Duration::from_secs(10);

/// How long a CRD whose names were accepted may take to be Established.
const STUCK: Duration = Duration::from_secs(3);

/// Where objects go.
pub(super) struct Target<'a> {
    pub(super) kinds: &'a Kinds,
    /// Namespace of objects that name none.
    pub(super) namespace: &'a str,
    pub(super) deadline: Instant,
}

/// Applies `objects`; gives them as they are in the cluster. `say` hears how far it is.
///
/// # Errors
/// An object the API server refuses, or that could not be applied until the deadline.
pub(super) async fn apply(
    target: &Target<'_>,
    mut objects: Vec<Object>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Brought>, LabError> {
    objects.sort_by_key(|o| Wave::of(o.api_version(), o.kind()));
    let (all, mut done) = (objects.len(), 0);
    let mut brought = Vec::with_capacity(all);
    let mut rest = objects.into_iter().peekable();
    while let Some(first) = rest.peek() {
        let wave = Wave::of(first.api_version(), first.kind());
        let mut of_wave = Vec::new();
        while let Some(object) = rest.next_if(|o| Wave::of(o.api_version(), o.kind()) == wave) {
            of_wave.push(object);
        }
        say(&format!("applying {done} of {all} objects"));
        done += of_wave.len();
        let applied: Vec<Brought> = futures_util::stream::iter(of_wave)
            .map(|object| one(target, object))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        if wave == Wave::Kinds {
            established(target, &applied).await?;
        }
        brought.extend(applied);
    }
    Ok(brought)
}

/// Makes a namespace where it is not there; one that is there stays as it is.
///
/// # Errors
/// An API server that refuses it.
pub(super) async fn namespace(client: &Client, name: &str, deadline: Instant) -> Result<(), LabError> {
    let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let params = PatchParams::apply(MANAGER);
    let made = fault::patiently(deadline, || async {
        match api.get_metadata_opt(name).await? {
            Some(there) if there.metadata.deletion_timestamp.is_none() => Ok(()),
            Some(_) => Err(kube::Error::Service(format!("namespace {name} is being deleted").into())),
            None => api.patch(name, &params, &Patch::Apply(&object)).await.map(|_| ()),
        }
    });
    made.await.map_err(|e| LabError::failed(format!("namespace {name}"), fault::describe(&e)))
}

async fn one(target: &Target<'_>, mut object: Object) -> Result<Brought, LabError> {
    tidy(&mut object.value);
    let line = object.line;
    let (version, kind, name) = (object.api_version().to_owned(), object.kind().to_owned(), object.name().to_owned());
    let what = || format!("{kind} `{name}` (line {line} of the manifest)");
    if name.is_empty() {
        return Err(LabError::failed(what(), "it has no `metadata.name`")
            .hint("`generateName` can not be applied again and again: give it a name"));
    }
    let known = kind_of(target, &version, &kind).await.map_err(|e| LabError::failed(what(), e))?;
    let namespace = known.namespaced.then(|| object.namespace().unwrap_or(target.namespace).to_owned());
    let api = known.objects(target.kinds.client(), namespace.as_deref().unwrap_or_default());
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&object.value);
    // Metadata only comes back: what was sent needs no second copy in memory.
    let sent = fault::patiently(target.deadline, || api.patch_metadata(&name, &params, &patch)).await;
    sent.map_err(|error| explain(what(), namespace.as_deref(), &error))?;
    Ok(Brought { api_version: version, kind, namespace, name })
}

async fn kind_of(target: &Target<'_>, version: &str, kind: &str) -> Result<Kind, String> {
    let end = (Instant::now() + UNKNOWN).min(target.deadline);
    loop {
        let asked = fault::patiently(target.deadline, || target.kinds.of(version, kind)).await;
        match asked.map_err(|e| fault::describe(&e))? {
            Some(found) => return Ok(found),
            None if Instant::now() < end => sleep(Duration::from_millis(300)).await,
            None => {
                return Err(format!(
                    "the cluster knows no kind `{kind}` of `{version}`: the deploy that brings its CRD has to be in `after`"
                ));
            }
        }
    }
}

/// Waits until the CRDs are Established.
async fn established(target: &Target<'_>, crds: &[Brought]) -> Result<(), LabError> {
    for crd in crds {
        one_established(target, crd).await?;
    }
    Ok(())
}

async fn one_established(target: &Target<'_>, crd: &Brought) -> Result<(), LabError> {
    let failed = |why: String| LabError::failed(format!("CRD `{}`", crd.name), why);
    let asked = fault::patiently(target.deadline, || target.kinds.of(&crd.api_version, &crd.kind)).await;
    let Some(kind) = asked.map_err(|e| failed(fault::describe(&e)))? else { return Ok(()) };
    let api = kind.objects(target.kinds.client(), "");
    let mut accepted: Option<Instant> = None;
    loop {
        let got = fault::patiently(target.deadline, || api.get(&crd.name)).await;
        let object = got.map_err(|e| failed(fault::describe(&e)))?;
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).map(str::to_owned);
        let find = |name: &str| conditions.into_iter().flatten().find(|c| text(c, "type").as_deref() == Some(name));
        let status = |name: &str| find(name).and_then(|c| text(c, "status")).unwrap_or_default();
        if status("Established") == "True" {
            return Ok(());
        }
        let names = status("NamesAccepted");
        if names == "False" || Instant::now() >= target.deadline {
            let message = find("NamesAccepted").and_then(|c| text(c, "message")).unwrap_or_default();
            return Err(failed(format!("it is not Established: {message}")));
        }
        if names == "True" && accepted.get_or_insert_with(Instant::now).elapsed() > STUCK {
            nudge(&api, &crd.name).await;
            accepted = None;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Alters a CRD and takes that back. An API server establishes a CRD when it sees it change; one that starts sees nothing change
/// and comes back to it five minutes later.
async fn nudge(api: &kube::Api<kube::api::DynamicObject>, name: &str) {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    for value in [json!("nudge"), Value::Null] {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"labimg": value}}}));
        // Where this fails, the next look says why.
        let _ = tokio::time::timeout(STUCK, api.patch_metadata(name, &params, &patch)).await;
    }
}

/// What the API server said, with what to do about it.
fn explain(what: String, namespace: Option<&str>, error: &kube::Error) -> LabError {
    let text = fault::describe(error);
    let hint = if let Some(webhook) = webhook_of(&text) {
        Some(format!(
            "webhook `{webhook}` did not answer: wait for it with `ready = [\"webhook\"]` in the deploy that brings it, \
             and name that deploy in `after`"
        ))
    } else if text.contains("field is immutable") || text.contains("may not change once set") {
        Some("delete the object first (`labimg kubectl delete …`), then `labimg up` makes it anew".to_owned())
    } else if text.contains("too large") || text.contains("Too long") {
        Some("an object may have 1.5 MiB in etcd: split it, or shorten its descriptions".to_owned())
    } else if text.contains("field not declared in schema") || text.contains("unknown field") {
        Some("a field that this version of Kubernetes does not know: look for a typing error".to_owned())
    } else if text.contains("namespaces") && text.contains("not found") {
        let namespace = namespace.unwrap_or_default();
        Some(format!("set `namespace = \"{namespace}\"` in the deploy, or put the Namespace into the manifest"))
    } else if text.contains("certificate") {
        Some("a clock that is wrong makes certificates invalid: `labimg doctor` looks at it".to_owned())
    } else {
        None
    };
    let failed = LabError::failed(what, text);
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

/// The webhook that an API server's message complains about.
fn webhook_of(text: &str) -> Option<&str> {
    text.split_once("failed calling webhook \"")?.1.split_once('"').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let hint = |text: &str| {
            let mut status = kube::core::Status::failure(text, "");
            status.code = 500;
            explain("X".to_owned(), Some("ns"), &kube::Error::Api(Box::new(status))).advice().map(str::to_owned)
        };
        let webhook =
            "Internal error occurred: failed calling webhook \"v.x.io\": failed to call webhook: no endpoints";
        assert!(hint(webhook).unwrap().contains("`v.x.io`"));
        assert!(hint("spec.template: field is immutable").unwrap().contains("delete"));
        assert!(hint("etcdserver: request is too large").unwrap().contains("1.5 MiB"));
        assert!(hint("namespaces \"ns\" not found").unwrap().contains("namespace = \"ns\""));
        assert_eq!(hint("no"), None);
    }
}
