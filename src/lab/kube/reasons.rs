//! Why something is not ready: what its pods wait for, their last log lines, warnings of controllers.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::Error;
use kube::api::{DynamicObject, ListParams, LogParams};
use serde_json::Value;
use tokio::time::Instant;

use super::ready::{Scope, find};
use crate::model::profile::{Ready, ReadyKind};

/// Most lines of reasons.
pub(super) const MOST: usize = 20;
/// Log lines shown of a container.
const LOG_LINES: usize = 5;
/// Longest line, in characters.
const LINE: usize = 300;
/// How long collecting may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an image may be missing before nobody waits for it any more.
const MISSING: Duration = Duration::from_secs(30);

/// Why `ready` is not, a line each; nothing where the API server does not say.
pub(super) async fn of(scope: &Scope<'_>, ready: &Ready) -> Vec<String> {
    let found = tokio::time::timeout(PATIENCE, collect(scope, ready)).await;
    let mut lines = match found {
        Ok(Ok(lines)) => lines,
        Ok(Err(error)) => vec![format!("the cluster does not say why: {}", super::fault::describe(&error))],
        Err(_) => vec!["the cluster does not say why in time".to_owned()],
    };
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines.iter_mut().for_each(|line| *line = line.chars().take(LINE).collect());
    lines
}

async fn collect(scope: &Scope<'_>, ready: &Ready) -> Result<Vec<String>, Error> {
    let pods = pods_of(scope, ready).await?;
    let mut lines = Vec::new();
    for pod in &pods {
        of_pod(scope, pod, &mut lines).await;
    }
    let owners = owners(scope, ready).await?;
    of_claims(scope, &pods, &mut lines).await?;
    of_events(scope, &pods, &owners, &mut lines).await?;
    Ok(lines)
}

/// Names (without the hash behind them) of what may have events: the objects waited for.
async fn owners(scope: &Scope<'_>, ready: &Ready) -> Result<Vec<(String, String)>, Error> {
    let Ready::Object { kind, name } = ready else { return Ok(Vec::new()) };
    let objects = find(scope, *kind, name).await?;
    let place = |object: DynamicObject, name| (object.metadata.namespace.unwrap_or_default(), name);
    Ok(objects.into_iter().filter_map(|(name, object)| Some(place(object?, name))).collect())
}

/// The pods behind what is waited for that are not ready.
async fn pods_of(scope: &Scope<'_>, ready: &Ready) -> Result<Vec<Pod>, Error> {
    let client = &scope.api.client;
    let mut pods = Vec::new();
    match ready {
        Ready::Object { kind: ReadyKind::Pod, name } => {
            for (_, object) in find(scope, ReadyKind::Pod, name).await? {
                pods.extend(object.and_then(|o| o.try_parse::<Pod>().ok()));
            }
        }
        Ready::Object { kind, name } => {
            for (_, object) in find(scope, *kind, name).await? {
                let Some(object) = object else { continue };
                let Some(selector) = selector(&object) else { continue };
                let namespace = object.metadata.namespace.clone().unwrap_or_default();
                let api: kube::Api<Pod> = kube::Api::namespaced(client.clone(), &namespace);
                pods.extend(api.list(&ListParams::default().labels(&selector)).await?.items);
            }
        }
        Ready::Service { service, .. } => {
            let (name, namespace) = service.split_once('.').unwrap_or((service, scope.namespace));
            let services: kube::Api<DynamicObject> = match scope.kinds.of("v1", "Service").await? {
                Some(kind) => kind.objects(client, namespace),
                None => return Ok(pods),
            };
            let selector = services.get_opt(name).await?.and_then(|s| labels(s.data.pointer("/spec/selector")?));
            if let Some(selector) = selector {
                let api: kube::Api<Pod> = kube::Api::namespaced(client.clone(), namespace);
                pods = api.list(&ListParams::default().labels(&selector)).await?.items;
            }
        }
        Ready::Webhook => {
            let namespaces: BTreeSet<&str> =
                scope.brought.unwrap_or_default().iter().filter_map(|b| b.namespace.as_deref()).collect();
            for namespace in namespaces {
                let api: kube::Api<Pod> = kube::Api::namespaced(client.clone(), namespace);
                pods.extend(api.list(&ListParams::default()).await?.items);
            }
        }
        Ready::Url(_) | Ready::Dns(_) | Ready::Field { .. } => {}
    }
    pods.retain(|pod| !is_fine(pod));
    Ok(pods)
}

fn is_fine(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    ready || status.phase.as_deref() == Some("Succeeded")
}

/// The label selector of a workload or Service.
fn selector(object: &DynamicObject) -> Option<String> {
    let spec = object.data.get("spec")?;
    labels(spec.pointer("/selector/matchLabels").or_else(|| spec.get("selector"))?)
}

fn labels(map: &Value) -> Option<String> {
    let pairs = map.as_object()?.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let text = pairs.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then_some(text)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref()).into_iter().flatten();
    init.chain(status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten())
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

async fn of_pod(scope: &Scope<'_>, pod: &Pod, lines: &mut Vec<String>) {
    let status = pod.status.as_ref();
    for condition in status.and_then(|s| s.conditions.as_ref()).into_iter().flatten() {
        if condition.type_ == "PodScheduled" && condition.status == "False" {
            let message = condition.message.as_deref().unwrap_or("no node takes it");
            lines.push(format!("pod {}: no node takes it: {message}", name(pod)));
        }
    }
    if let Some(message) = status.and_then(|s| s.message.as_deref()) {
        lines.push(format!("pod {}: {message}", name(pod)));
    }
    for container in containers(pod) {
        of_container(scope, pod, container, lines).await;
    }
}

async fn of_container(scope: &Scope<'_>, pod: &Pod, status: &ContainerStatus, lines: &mut Vec<String>) {
    let head = format!("pod {}, container {}", name(pod), status.name);
    let state = status.state.as_ref();
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default();
    let ended = state.and_then(|s| s.terminated.as_ref());
    let last = ended.or_else(|| status.last_state.as_ref().and_then(|s| s.terminated.as_ref()));
    match reason {
        "" | "ContainerCreating" | "PodInitializing" => {}
        _ if is_pull(reason) => {
            lines.push(format!("{head}: {reason}: image {}: {message}", image_of(pod, status)));
            return;
        }
        _ => lines.push(format!("{head}: {reason}: {message}")),
    }
    let failed = last.filter(|end| end.exit_code != 0);
    if let Some(end) = failed {
        let why = end.reason.as_deref().unwrap_or("ended");
        let times = status.restart_count;
        let said = end.message.as_deref().map(|m| format!(": {}", m.trim())).unwrap_or_default();
        lines.push(format!("{head}: {why}, exit code {}, {times} restarts{said}", end.exit_code));
    }
    let running = state.is_some_and(|s| s.running.is_some());
    if failed.is_some() || (running && !status.ready) {
        lines.extend(log(scope, pod, &status.name, failed.is_some() && ended.is_none()).await);
    }
}

/// The image as the manifest names it: a status may hold what the runtime made of it.
fn image_of(pod: &Pod, status: &ContainerStatus) -> String {
    let spec = pod.spec.as_ref();
    let of = |c: &k8s_openapi::api::core::v1::Container| (c.name == status.name).then(|| c.image.clone())?;
    let main = spec.and_then(|s| s.containers.iter().find_map(of));
    let init = || spec.and_then(|s| s.init_containers.iter().flatten().find_map(of));
    main.or_else(init).unwrap_or_else(|| status.image.clone())
}

fn is_pull(reason: &str) -> bool {
    matches!(
        reason,
        "ImagePullBackOff"
            | "ErrImagePull"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
    )
}

/// The last lines that a container wrote; of the run before where it waits to be started again.
async fn log(scope: &Scope<'_>, pod: &Pod, container: &str, previous: bool) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: kube::Api<Pod> = kube::Api::namespaced(scope.api.client.clone(), namespace);
    let lines = Some(LOG_LINES as i64);
    let container_name = Some(container.to_owned());
    let params = LogParams {
        container: container_name,
        tail_lines: lines,
        previous,
        limit_bytes: Some(64 << 10),
        ..LogParams::default()
    };
    let text = match api.logs(name(pod), &params).await {
        Ok(text) => text,
        Err(_) => return Vec::new(),
    };
    let tail: Vec<&str> = text.lines().rev().filter(|l| !l.trim().is_empty()).take(LOG_LINES).collect();
    // What a program writes must not steer a terminal.
    let clean = |line: &str| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    tail.into_iter().rev().map(|line| format!("  {container}| {}", clean(line))).collect()
}

async fn of_claims(scope: &Scope<'_>, pods: &[Pod], lines: &mut Vec<String>) -> Result<(), Error> {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim as Claim;
    for pod in pods {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: kube::Api<Claim> = kube::Api::namespaced(scope.api.client.clone(), namespace);
        let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref()).into_iter().flatten();
        for claim in volumes.filter_map(|v| v.persistent_volume_claim.as_ref()) {
            let phase =
                api.get_opt(&claim.claim_name).await?.map(|c| c.status.and_then(|s| s.phase).unwrap_or_default());
            match phase.as_deref() {
                Some("Bound") => {}
                Some(phase) => lines.push(format!("volume claim {}: {phase}", claim.claim_name)),
                None => lines.push(format!("volume claim {} is not there", claim.claim_name)),
            }
        }
    }
    Ok(())
}

/// Warnings about the pods, the objects and what stands between them (ReplicaSets), the latest first.
async fn of_events(
    scope: &Scope<'_>,
    pods: &[Pod],
    owners: &[(String, String)],
    lines: &mut Vec<String>,
) -> Result<(), Error> {
    let of_pods = pods.iter().map(|p| p.metadata.namespace.as_deref().unwrap_or_default());
    let namespaces: BTreeSet<&str> = of_pods.chain(owners.iter().map(|(ns, _)| ns.as_str())).collect();
    for namespace in namespaces.into_iter().filter(|ns| !ns.is_empty()) {
        let api: kube::Api<Event> = kube::Api::namespaced(scope.api.client.clone(), namespace);
        let mut events = api.list(&ListParams::default().fields("type=Warning").limit(500)).await?.items;
        events.retain(|event| {
            let about = event.involved_object.name.as_deref().unwrap_or_default();
            pods.iter().any(|pod| name(pod) == about)
                || owners.iter().any(|(ns, owner)| ns == namespace && of_owner(about, owner))
        });
        // Times of events are whole seconds; etcd's revisions tell them apart.
        let revision = |e: &Event| e.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        events.sort_by_key(|event| std::cmp::Reverse(revision(event)));
        lines.extend(events.iter().take(6).map(line_of));
    }
    Ok(())
}

/// Whether `about` is `owner` or one of its ReplicaSets or pods: names of those end with `-` and a hash or number.
fn of_owner(about: &str, owner: &str) -> bool {
    match about.strip_prefix(owner) {
        Some("") => true,
        Some(rest) => rest.starts_with('-') && rest[1..].split('-').count() <= 2,
        None => false,
    }
}

fn line_of(event: &Event) -> String {
    let object = &event.involved_object;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let message = text(&event.message).split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{} {}: {}: {message}", text(&object.kind).to_lowercase(), text(&object.name), text(&event.reason))
}

/// Sees that waiting has no use: an image that is nowhere does not appear.
#[derive(Default)]
pub(super) struct Hopeless {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Hopeless {
    /// Time before the first look and between looks.
    pub(super) fn every(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Whether an image has been missing for half a minute.
    pub(super) async fn look(&mut self, scope: &Scope<'_>, ready: &Ready) -> bool {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < self.every()) {
            return false;
        }
        self.last = Some(now);
        let Ok(Ok(pods)) = tokio::time::timeout(PATIENCE, pods_of(scope, ready)).await else { return false };
        match pods.iter().any(|pod| containers(pod).any(is_missing)) {
            true => now - *self.since.get_or_insert(now) >= MISSING,
            false => {
                self.since = None;
                false
            }
        }
    }
}

/// An image that nothing will bring.
fn is_missing(status: &ContainerStatus) -> bool {
    let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default().to_lowercase();
    match reason {
        "ErrImageNeverPull" | "InvalidImageName" => true,
        "ErrImagePull" | "ImagePullBackOff" => {
            ["not found", "manifest unknown", "name unknown"].iter().any(|text| message.contains(text))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_belong_to_an_object_by_its_name() {
        for (about, owner, want) in [
            ("web", "web", true),
            ("web-7d9c8b6f5", "web", true),
            ("web-7d9c8b6f5-abcde", "web", true),
            ("web-admin-7d9c8b6f5-abcde", "web", false),
            ("webs", "web", false),
        ] {
            assert_eq!(of_owner(about, owner), want, "{about}");
        }
    }

    #[test]
    fn an_image_that_is_nowhere_is_hopeless() {
        let status = |reason: &str, message: &str| {
            let value = serde_json::json!({
                "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}}
            });
            serde_json::from_value::<ContainerStatus>(value).unwrap()
        };
        assert!(is_missing(&status("ErrImageNeverPull", "")));
        assert!(is_missing(&status("ImagePullBackOff", "rpc error: code = NotFound desc = x: Not Found")));
        assert!(!is_missing(&status("ImagePullBackOff", "connection refused")));
        assert!(!is_missing(&status("CrashLoopBackOff", "not found")));
    }
}
