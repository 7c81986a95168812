//! What pods have written, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::LogParams;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::LabError;
use super::kube::Api;
use super::kube::pods::{self, Target};
use super::kube::ready::Brought;
use super::state::State;

/// Longest line kept in one piece, in bytes.
pub const LINE_LIMIT: usize = 64 << 10;
/// How often new pods are looked for while following.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Lines that may wait for whoever reads them.
const WAITING: usize = 1024;

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Only this container's.
    pub container: Option<String>,
    /// Go on as lines are written, also in pods that come later.
    pub follow: bool,
    /// Only so many of each container to begin with.
    pub tail: Option<i64>,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Pod.
    pub pod: String,
    /// Container.
    pub container: String,
    /// Its text, without the line's end.
    pub text: String,
}

/// One container that has, or had, something running.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Pod.
    pub pod: String,
    /// Container.
    pub container: String,
    /// Which start of it: a container that starts again has another.
    pub instance: String,
    /// How often it started again.
    pub restarts: i32,
}

/// What a deploy brought that has pods, by namespace: read from what `up` has written down of it.
///
/// # Errors
/// A state file that can not be read.
pub fn of_deploy(state: &State, deploy: &str) -> Result<BTreeMap<String, Vec<Target>>, LabError> {
    #[derive(serde::Deserialize)]
    struct Record {
        #[serde(default)]
        objects: Vec<Brought>,
    }
    let record: Option<Record> = state.read_json(&format!("deploys/{deploy}.json"))?;
    let mut found: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for object in record.map(|r| r.objects).unwrap_or_default() {
        let workload = matches!(object.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "Pod");
        if workload && let Ok(target) = format!("{}/{}", object.kind, object.name).parse() {
            found.entry(object.namespace.unwrap_or_else(|| "default".to_owned())).or_default().push(target);
        }
    }
    Ok(found)
}

/// Gives every line of the targets' pods to `on_line`; with `follow` until dropped.
///
/// # Errors
/// A target that is not there, or an API that does not answer. While following, pods may come and go.
pub async fn stream(
    api: &Api,
    namespace: &str,
    targets: &[Target],
    options: &LogOptions,
    on_line: &mut (dyn FnMut(Line) + Send),
) -> Result<(), LabError> {
    let (sender, mut lines) = mpsc::channel(WAITING);
    let mut readers = JoinSet::new();
    let mut seen = BTreeSet::new();
    loop {
        for source in sources(api, namespace, targets, options).await? {
            if seen.insert((source.pod.clone(), source.container.clone(), source.instance.clone())) {
                readers.spawn(read(api.clone(), namespace.to_owned(), source, options.clone(), sender.clone()));
            }
        }
        if !options.follow {
            break;
        }
        let next = tokio::time::Instant::now() + LOOK_AGAIN;
        while let Ok(Some(line)) = tokio::time::timeout_at(next, lines.recv()).await {
            on_line(line);
        }
    }
    drop(sender);
    while let Some(line) = lines.recv().await {
        on_line(line);
    }
    match readers.join_all().await.into_iter().find_map(Result::err) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

async fn sources(
    api: &Api,
    namespace: &str,
    targets: &[Target],
    options: &LogOptions,
) -> Result<Vec<Source>, LabError> {
    let mut all = Vec::new();
    for target in targets {
        for pod in pods::of(api, namespace, target).await? {
            all.extend(containers(&pod, options.container.as_deref()));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The containers of a pod that have started, `only` one where given.
pub fn containers(pod: &Pod, only: Option<&str>) -> Vec<Source> {
    let Some((name, status)) = pod.metadata.name.as_ref().zip(pod.status.as_ref()) else { return Vec::new() };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let all = lists.into_iter().flatten().flatten();
    let source = |c: &ContainerStatus| {
        let instance = c.container_id.clone().filter(|id| !id.is_empty())?;
        Some(Source { pod: name.clone(), container: c.name.clone(), instance, restarts: c.restart_count })
    };
    all.filter(|c| only.is_none_or(|only| c.name == only)).filter_map(source).collect()
}

async fn read(
    api: Api,
    namespace: String,
    source: Source,
    options: LogOptions,
    lines: mpsc::Sender<Line>,
) -> Result<(), LabError> {
    let what = || format!("the log of pod `{namespace}/{}`, container `{}`", source.pod, source.container);
    let pods: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), &namespace);
    let params = LogParams {
        container: Some(source.container.clone()),
        follow: options.follow,
        tail_lines: options.tail,
        ..LogParams::default()
    };
    let failed = |e: &kube::Error| LabError::failed(what(), pods::worded(e));
    let mut reader = Box::pin(pods.log_stream(&source.pod, &params).await.map_err(|e| failed(&e))?);
    loop {
        let mut line = Vec::new();
        if !next_line(&mut reader, &mut line).await.map_err(|e| LabError::failed(what(), e))? {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let line = Line { pod: source.pod.clone(), container: source.container.clone(), text };
        if lines.send(line).await.is_err() {
            return Ok(());
        }
    }
}

/// Gives every line to `on_line` until that breaks off, the end comes, or `limit` bytes were read; whether it broke off.
///
/// # Errors
/// Those of the reader.
pub async fn each_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    limit: u64,
    mut on_line: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> std::io::Result<bool> {
    let (mut line, mut total) = (Vec::new(), 0);
    while total < limit && next_line(reader, &mut line).await? {
        total += line.len() as u64 + 1;
        if on_line(&line).is_break() {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

/// Reads one line, or the piece of one that the limit allows; `false` at the end.
async fn next_line<R: AsyncBufRead + Unpin>(reader: &mut R, line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let room = LINE_LIMIT.saturating_sub(line.len()).min(chunk.len());
        let (part, ended) = match memchr::memchr(b'\n', &chunk[..room]) {
            Some(end) => (end + 1, true),
            None => (room, line.len() + room >= LINE_LIMIT),
        };
        line.extend_from_slice(&chunk[..part]);
        reader.consume_unpin(part);
        if ended {
            line.pop_if(|last| *last == b'\n');
            line.pop_if(|last| *last == b'\r');
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::io::Cursor;
    use serde_json::json;

    async fn lines(text: &[u8], limit: u64) -> Vec<usize> {
        let mut found = Vec::new();
        let mut take = |line: &[u8]| {
            found.push(line.len());
            ControlFlow::Continue(())
        };
        each_line(&mut Cursor::new(text), limit, &mut take).await.unwrap();
        found
    }

    #[tokio::test]
    async fn lines_are_bounded_and_none_is_lost() {
        assert_eq!(lines(b"ab\r\n\ncd", 1 << 20).await, [2, 0, 2]);
        let long = vec![b'x'; LINE_LIMIT * 2 + 5];
        assert_eq!(lines(&long, 1 << 30).await, [LINE_LIMIT, LINE_LIMIT, 5]);
        assert_eq!(lines(&long, 10).await, [LINE_LIMIT]);
        assert_eq!(lines(b"", 10).await, [0usize; 0]);
    }

    #[test]
    fn a_deploys_workloads_are_known_from_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path(), "lab");
        assert!(of_deploy(&state, "web").unwrap().is_empty());
        let object =
            |kind: &str, name: &str| json!({ "api-version": "v1", "kind": kind, "namespace": "shop", "name": name });
        let objects = [object("Deployment", "web"), object("Service", "web"), object("DaemonSet", "agent")];
        state.write_json("deploys/web.json", &json!({ "ready": true, "objects": objects })).unwrap();
        let found = of_deploy(&state, "web").unwrap();
        let names: Vec<String> = found["shop"].iter().map(ToString::to_string).collect();
        assert_eq!(names, ["deployment/web", "daemonset/agent"]);
    }

    #[test]
    fn containers_that_never_started_have_no_log() {
        let status = |name: &str, id: &str| json!({ "name": name, "containerID": id, "image": "", "imageID": "", "ready": true, "restartCount": 2 });
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "web" }, "status": {
            "initContainerStatuses": [status("init", "containerd://1")],
            "containerStatuses": [status("web", "containerd://2"), status("late", "")] } }))
        .unwrap();
        let names = |only| containers(&pod, only).into_iter().map(|s| s.container).collect::<Vec<_>>();
        assert_eq!(names(None), ["init", "web"]);
        assert_eq!(names(Some("web")), ["web"]);
    }
}
