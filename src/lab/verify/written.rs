//! The `log` check: a line that a workload's pods must have written.

use std::ops::ControlFlow;

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::ask::glimpse;
use super::look::Look;
use crate::lab::error::LabError;
use crate::lab::kube::Api;
use crate::lab::kube::pods::{self, Target};
use crate::lab::logs::{self, Source};
use crate::model::profile::LogCheck;

/// Most bytes read of one container's log.
const LOG_LIMIT: u64 = 64 << 20;

/// One look at the logs, those of containers that started again included.
pub async fn look(check: &LogCheck, api: &Api, namespace: &str) -> Look {
    let target = match check.of.parse::<Target>() {
        Ok(target) => target,
        Err(error) => return Look::Never(vec![error.to_string()]),
    };
    let found = match pods::of(api, namespace, &target).await {
        Ok(found) => found,
        Err(error) => return Look::not_yet(error),
    };
    if found.is_empty() {
        return Look::not_yet(format!("{target} has no pods"));
    }
    let sources: Vec<Source> = found.iter().flat_map(|p| logs::containers(p, check.container.as_deref())).collect();
    if sources.is_empty() {
        let container = check.container.as_ref().map(|c| format!(" `{c}`")).unwrap_or_default();
        return Look::not_yet(format!("{target}: no container{container} has started"));
    }
    match search(check, api, namespace, &sources).await {
        Ok(Some(seen)) => Look::seen(seen),
        Ok(None) => {
            let pods: Vec<String> = sources.iter().map(|s| format!("{}/{}", s.pod, s.container)).collect();
            Look::not_yet(format!("no line holds `{}`; looked at: {}", check.contains, super::trace::listed(&pods)))
        }
        Err(error) => Look::not_yet(error),
    }
}

async fn search(check: &LogCheck, api: &Api, namespace: &str, sources: &[Source]) -> Result<Option<String>, LabError> {
    let mut failed = None;
    for source in sources {
        let previous = (source.restarts > 0).then_some(true);
        for previous in [Some(false), previous].into_iter().flatten() {
            match read(api, namespace, source, previous, &check.contains).await {
                Ok(Some(line)) => return Ok(Some(format!("{}: {line}", source.pod))),
                Ok(None) => {}
                // The log of a former start may be gone already; that of the others still counts.
                Err(error) if !previous => failed = Some(error),
                Err(_) => {}
            }
        }
    }
    failed.map_or(Ok(None), Err)
}

async fn read(
    api: &Api,
    namespace: &str,
    source: &Source,
    previous: bool,
    wanted: &str,
) -> Result<Option<String>, LabError> {
    let what = || format!("the log of pod `{namespace}/{}`, container `{}`", source.pod, source.container);
    let all: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), namespace);
    let params = LogParams { container: Some(source.container.clone()), previous, ..LogParams::default() };
    let stream = all.log_stream(&source.pod, &params).await;
    let mut reader = Box::pin(stream.map_err(|e| LabError::failed(what(), pods::worded(&e)))?);
    let finder = memchr::memmem::Finder::new(wanted.as_bytes());
    let mut found = None;
    let take = |line: &[u8]| match finder.find(line) {
        Some(_) => {
            found = Some(glimpse(line));
            ControlFlow::Break(())
        }
        None => ControlFlow::Continue(()),
    };
    logs::each_line(&mut reader, LOG_LIMIT, take).await.map_err(|e| LabError::failed(what(), e))?;
    Ok(found)
}
