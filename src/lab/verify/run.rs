//! Runs one check: which cluster, which kind of look, and the chain where telemetry is missing.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use super::ask::{Asker, At};
use super::jaeger::Jaeger;
use super::look::{Ended, Look, Seen, until};
use super::report::Open;
use super::via::{self, Found, Role};
use super::{Broke, Chain, images, metric, page, remote, telemetry, trace, written};
use crate::lab::error::LabError;
use crate::lab::kube::kinds::Kinds;
use crate::lab::kube::ready::{self, Scope, Wait};
use crate::lab::kube::{Api, dns};
use crate::lab::session::Session;
use crate::model::profile::{Check, Cluster, DnsCheck, MetricCheck, Ready, TraceCheck};

/// Longest the chain is looked into.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Namespace of what the profile gives none.
const DEFAULT: &str = "default";

/// Everything a look needs.
struct Place<'a> {
    session: &'a Session,
    cluster: &'a Cluster,
    api: &'a Api,
    namespace: &'a str,
}

/// Runs a check until it passes or its time is up; also gives the cluster it looked at.
pub(super) async fn run(
    session: &Session,
    apis: &BTreeMap<String, Api>,
    check: &Check,
    timeout: Duration,
) -> (Option<String>, Ended) {
    let namespace = check.namespace.as_deref().unwrap_or(DEFAULT);
    let cluster = cluster_of(session, check);
    let name = cluster.map(|c| c.name.to_string());
    let api = name.as_ref().and_then(|n| apis.get(n));
    if let Some(page) = &check.http {
        return (name, until(timeout, || page::look(page, api, namespace)).await);
    }
    if let Some(ssh) = &check.ssh {
        return (None, until(timeout, || remote::look(ssh, session)).await);
    }
    let (Some(cluster), Some(api)) = (cluster, api) else {
        let why = match &name {
            Some(name) => format!("cluster `{name}` is not up"),
            None => "it names no cluster, and the lab does not have exactly one".to_owned(),
        };
        return (name, Ended::unlooked(vec![why]));
    };
    let at = Place { session, cluster, api, namespace };
    let ended = match check {
        Check { trace: Some(trace), .. } => traced(&at, trace, timeout).await,
        Check { metric: Some(metric), .. } => measured(&at, metric, timeout).await,
        Check { log: Some(log), .. } => until(timeout, || written::look(log, api, namespace)).await,
        Check { dns: Some(name), .. } => until(timeout, || resolved(api, name)).await,
        Check { images: true, .. } => all_known(&at, timeout).await,
        _ => waited(&at, check, timeout).await,
    };
    (name, ended)
}

/// The cluster a check is about: the one it names, that of the deploy it asks, or the only one.
fn cluster_of<'a>(session: &'a Session, check: &Check) -> Option<&'a Cluster> {
    let via = check.trace.as_ref().map(|t| &t.via).or(check.metric.as_ref().map(|m| &m.via));
    let deploy = via.and_then(|via| session.profile.deploy.iter().find(|d| *d.name == **via));
    let named = check.cluster.as_ref().or(deploy.and_then(|d| d.cluster.as_ref()));
    session.cluster(named.map(|n| n.as_str())).ok()
}

/// Waits for all that the check names, at once; the reasons are those of readiness.
async fn waited(at: &Place<'_>, check: &Check, timeout: Duration) -> Ended {
    let kinds = Kinds::new(at.api.client.clone());
    let scope = Scope { api: at.api, kinds: &kinds, namespace: at.namespace, brought: None };
    let deadline = tokio::time::Instant::now() + timeout;
    let silent = |_: &str| {};
    let one = async |text: &str| -> Result<(), Vec<String>> {
        let wanted: Ready = text.parse().map_err(|why| vec![why])?;
        let how = Wait { deadline, what: "check", say: &silent };
        ready::wait(&scope, &wanted, text, &how).await.map_err(|error| match error {
            LabError::NotReady { reasons, .. } => [format!("{text} is not ready")].into_iter().chain(reasons).collect(),
            other => vec![format!("{text}: {other}")],
        })
    };
    let all = futures_util::future::join_all(check.ready.iter().map(|text| one(text))).await;
    let against: Vec<String> = all.into_iter().filter_map(Result::err).flatten().collect();
    let names: Vec<&str> = check.ready.iter().map(|text| text.as_str()).collect();
    let seen = Seen { detail: format!("{}: ready", names.join(", ")), open: Vec::new() };
    Ended::new(if against.is_empty() { Ok(seen) } else { Err(against) }, 1)
}

async fn resolved(api: &Api, check: &DnsCheck) -> Look {
    let found = match dns::resolve(api, &check.name).await {
        Ok(found) => found,
        Err(error) => return Look::not_yet(error),
    };
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    let parsed = check.address.as_ref().map(|text| text.parse());
    match parsed {
        Some(Err(_)) => Look::Never(vec![format!("`{}` is no address", check.address.as_deref().unwrap_or_default())]),
        _ if found.is_empty() => Look::not_yet(format!("`{}` does not resolve in the cluster", check.name)),
        Some(Ok(address)) if !found.contains(&address) => {
            Look::not_yet(format!("`{}` is {}, not {address}", check.name, shown.join(", ")))
        }
        _ => Look::seen(format!("{} is {}", check.name, shown.join(", "))),
    }
}

async fn all_known(at: &Place<'_>, timeout: Duration) -> Ended {
    match images::known(at.session, at.cluster) {
        Ok(known) => until(timeout, || images::look(&known, at.api, at.cluster)).await,
        Err(error) => Ended::new(Err(vec![error.to_string()]), 0),
    }
}

/// The service behind `via`.
async fn service(at: &Place<'_>, via: &str, role: Role) -> Result<Found, String> {
    let deploy = at.session.profile.deploy.iter().find(|d| *d.name == via);
    let deploy = deploy.ok_or_else(|| format!("there is no deploy `{via}`"))?;
    via::find(at.api, deploy, role).await.map_err(|e| e.to_string())
}

async fn traced(at: &Place<'_>, check: &TraceCheck, timeout: Duration) -> Ended {
    let sent = check.request.as_ref().map(|_| trace::Sent::default());
    let mut ended = until(timeout, || trace_look(at, check, sent.as_ref())).await;
    let never_asked = sent.as_ref().is_some_and(trace::Sent::is_empty);
    if ended.result.is_err() && !never_asked {
        ended.chain = tokio::time::timeout(CHAIN_TIMEOUT, trace_chain(at, check)).await.ok().flatten();
    }
    with_pages(at, &mut ended, (&check.via, Role::Traces), trace_page).await;
    ended
}

async fn trace_look(at: &Place<'_>, check: &TraceCheck, sent: Option<&trace::Sent>) -> Look {
    let found = match service(at, &check.via, Role::Traces).await {
        Ok(found) => found,
        Err(why) => return Look::not_yet(why),
    };
    if let Some((sent, request)) = sent.zip(check.request.as_ref())
        && sent.is_due()
    {
        let own = match trace::Own::random() {
            Ok(own) => own,
            Err(why) => return Look::Never(vec![why]),
        };
        let against = match page::ask(request, Some(at.api), at.namespace, &own.headers()).await {
            Ok(answer) => page::judge(request, &answer),
            Err(error) => vec![error.to_string()],
        };
        match against.is_empty() {
            true => sent.add(own),
            // A request that fails now is only told of where none was answered before.
            false if sent.is_empty() => return Look::NotYet(against),
            false => {}
        }
    }
    trace::look(check, &found.service, sent).await
}

/// Replaces paths of pages by URLs that an attendee can open; after the check, whose time this does not take.
async fn with_pages<F>(at: &Place<'_>, ended: &mut Ended, via: (&str, Role), reach: impl Fn(String, At) -> F)
where
    F: Future<Output = Option<String>>,
{
    let Ok(seen) = &mut ended.result else { return };
    let Ok(found) = service(at, via.0, via.1).await else {
        seen.open.clear();
        return;
    };
    for open in &mut seen.open {
        *open = found.open(at.cluster, &open.what, &open.url, |place| reach(open.url.clone(), place)).await;
    }
}

/// The page of the trace at `path` in the Jaeger that answers at a place of this machine, where that one has the trace, too.
async fn trace_page(path: String, at: At) -> Option<String> {
    let id = path.rsplit('/').next()?;
    let (jaeger, _) = Jaeger::find(&at).await.ok()?;
    jaeger.trace(id).await.ok()??;
    Some(jaeger.page(id))
}

async fn trace_chain(at: &Place<'_>, check: &TraceCheck) -> Option<Chain> {
    let services = match service(at, &check.via, Role::Traces).await {
        Ok(found) => Jaeger::find(&found.service as &dyn Asker).await.map(|(_, services)| services).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    telemetry::chain(at.api, services).await
}

async fn measured(at: &Place<'_>, check: &MetricCheck, timeout: Duration) -> Ended {
    let mut ended = until(timeout, || metric_look(at, check)).await;
    if ended.result.is_err() {
        ended.chain = tokio::time::timeout(CHAIN_TIMEOUT, metric_chain(at, check)).await.ok().flatten();
    }
    let reach =
        async |path: String, place: At| matches!(metric::look(check, &place).await, Look::Seen(_)).then_some(path);
    with_pages(at, &mut ended, (&check.via, Role::Metrics), reach).await;
    ended
}

async fn metric_look(at: &Place<'_>, check: &MetricCheck) -> Look {
    let found = match service(at, &check.via, Role::Metrics).await {
        Ok(found) => found,
        Err(why) => return Look::not_yet(why),
    };
    let url = format!("/graph?g0.expr={}", super::ask::escaped(&check.query));
    match metric::look(check, &found.service).await {
        Look::Seen(seen) => {
            let open = vec![Open { what: "the query in Prometheus".to_owned(), url, after: None }];
            Look::Seen(Seen { open, ..seen })
        }
        other => other,
    }
}

/// What Prometheus scrapes: the chain of a metric has no collector in it that must be asked.
async fn metric_chain(at: &Place<'_>, check: &MetricCheck) -> Option<Chain> {
    let found = service(at, &check.via, Role::Metrics).await.ok()?;
    let targets = metric::targets(&found.service).await.ok()?;
    let broke = match (targets.len(), targets.first().is_some_and(|t| t.contains("no target"))) {
        (_, true) => Broke::Sent,
        (1, false) => Broke::Content,
        _ => Broke::Forwarded,
    };
    Some(Chain { broke, lines: targets, collectors: Vec::new(), store: None })
}
