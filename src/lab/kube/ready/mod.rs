//! Typed readiness: looks at what a deploy or a check waits for, and waits for it with reasons.

mod field;
mod page;
mod webhook;
mod workload;

use std::time::Duration;

use kube::Error;
use kube::api::{DynamicObject, ListParams};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::kinds::Kinds;
use super::{Api, dns, fault, reasons};
use crate::lab::error::LabError;
use crate::model::profile::{Ready, ReadyKind};

/// Between looks; the first few come sooner.
const PERIOD: Duration = Duration::from_secs(1);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(30);

/// An object that a deploy brought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Brought {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// Its namespace, where its kind has namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Where to look.
pub struct Scope<'a> {
    /// The cluster.
    pub api: &'a Api,
    /// Its kinds.
    pub kinds: &'a Kinds,
    /// Namespace of names that say none.
    pub namespace: &'a str,
    /// What `*` stands for; all of `namespace` where not given.
    pub brought: Option<&'a [Brought]>,
}

/// How something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Ready.
    Ready,
    /// Not yet: what is missing, in a few words.
    Waiting(String),
    /// It will never be: why.
    Failed(String),
}

impl Standing {
    /// The first that failed, else the first that waits, else ready.
    fn all(standings: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::Ready;
        for standing in standings {
            match (&whole, &standing) {
                (_, Self::Failed(_)) => return standing,
                (Self::Ready, Self::Waiting(_)) => whole = standing,
                _ => {}
            }
        }
        whole
    }
}

/// Looks once.
///
/// # Errors
/// An API server that does not answer, or refuses.
pub async fn look(scope: &Scope<'_>, ready: &Ready) -> Result<Standing, Error> {
    match ready {
        Ready::Object { kind, name } => objects(scope, *kind, name).await,
        Ready::Webhook => webhook::look(scope).await,
        Ready::Url(url) => Ok(page::url(url).await),
        Ready::Service { service, port, path } => Ok(page::service(scope, service, port, path).await),
        Ready::Dns(name) => Ok(match dns::resolve(scope.api, name).await {
            Ok(addresses) if addresses.is_empty() => Standing::Waiting(format!("{name} does not resolve")),
            Ok(_) => Standing::Ready,
            Err(error) => Standing::Waiting(error.to_string()),
        }),
        Ready::Field { kind, name, path, value } => field::look(scope, kind, name, path, value).await,
    }
}

/// How to wait.
pub struct Wait<'a> {
    /// Until when.
    pub deadline: Instant,
    /// What a person calls the thing waited for: `deploy jaeger`.
    pub what: &'a str,
    /// Hears in a few words what is waited for.
    pub say: &'a (dyn Fn(&str) + Sync),
}

/// Waits until `ready`, which the profile writes as `text`.
///
/// # Errors
/// [`LabError::NotReady`] with reasons at the deadline, or sooner where it can not become ready any more.
pub async fn wait(scope: &Scope<'_>, ready: &Ready, text: &str, wait: &Wait<'_>) -> Result<(), LabError> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(100);
    let mut hopeless = reasons::Hopeless::default();
    loop {
        let standing = match tokio::time::timeout(LOOK, look(scope, ready)).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) if fault::again(&error) == fault::Again::No => Standing::Failed(fault::describe(&error)),
            Ok(Err(error)) => Standing::Waiting(fault::describe(&error)),
            Err(_) => Standing::Waiting(format!("no answer within {} s", LOOK.as_secs())),
        };
        let (why, mut over) = match standing {
            Standing::Ready => return Ok(()),
            Standing::Waiting(why) => (why, Instant::now() >= wait.deadline),
            Standing::Failed(why) => (why, true),
        };
        (wait.say)(&format!("waiting for {text}: {why}"));
        over |= start.elapsed() > hopeless.every() && hopeless.look(scope, ready).await;
        if over {
            let mut found = vec![why];
            found.extend(reasons::of(scope, ready).await);
            found.truncate(reasons::MOST);
            let what = format!("{}: {text}", wait.what);
            let waited = format!("{} s", start.elapsed().as_secs());
            return Err(LabError::NotReady { what, waited, at: None, reasons: found, hint: None });
        }
        sleep(pause.min(wait.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(10)))).await;
        pause = (pause * 2).min(PERIOD);
    }
}

/// Group, version and kind.
pub(super) fn kind_of(kind: ReadyKind) -> (&'static str, &'static str) {
    match kind {
        ReadyKind::Deployment => ("apps/v1", "Deployment"),
        ReadyKind::StatefulSet => ("apps/v1", "StatefulSet"),
        ReadyKind::DaemonSet => ("apps/v1", "DaemonSet"),
        ReadyKind::Job => ("batch/v1", "Job"),
        ReadyKind::Pod => ("v1", "Pod"),
        ReadyKind::Crd => ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ReadyKind::LoadBalancer => ("v1", "Service"),
    }
}

/// The namespace and name of an object: `NAME`, or `NAMESPACE/NAME`.
pub(super) fn place<'a>(scope: &Scope<'a>, name: &'a str) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((scope.namespace, name))
}

/// The objects that `kind/name` means, each with its name; `None` for one that is not there.
pub(super) async fn find(
    scope: &Scope<'_>,
    kind: ReadyKind,
    name: &str,
) -> Result<Vec<(String, Option<DynamicObject>)>, Error> {
    let (version, kind_name) = kind_of(kind);
    let Some(known) = scope.kinds.of(version, kind_name).await? else {
        return Ok(vec![(name.to_owned(), None)]);
    };
    let client = &scope.api.client;
    if name != "*" {
        let (namespace, name) = place(scope, name);
        return Ok(vec![(name.to_owned(), known.objects(client, namespace).get_opt(name).await?)]);
    }
    let Some(brought) = scope.brought else {
        let list = known.objects(client, scope.namespace).list(&ListParams::default()).await?;
        let list = list.items.into_iter().map(|o| (o.metadata.name.clone().unwrap_or_default(), Some(o)));
        return Ok(list.collect());
    };
    let mut found = Vec::new();
    for one in brought.iter().filter(|b| b.kind == kind_name && b.api_version == version) {
        let api = known.objects(client, one.namespace.as_deref().unwrap_or(scope.namespace));
        found.push((one.name.clone(), api.get_opt(&one.name).await?));
    }
    Ok(found)
}

async fn objects(scope: &Scope<'_>, kind: ReadyKind, name: &str) -> Result<Standing, Error> {
    let mut found = find(scope, kind, name).await?;
    if kind == ReadyKind::LoadBalancer && name == "*" {
        let is_lb = |o: &DynamicObject| o.data.pointer("/spec/type").is_some_and(|t| t == "LoadBalancer");
        found.retain(|(_, object)| object.as_ref().is_none_or(is_lb));
    }
    if found.is_empty() && scope.brought.is_some() {
        let (_, kind) = kind_of(kind);
        return Ok(Standing::Failed(format!("there is no {kind} in what the deploy brings")));
    }
    Ok(Standing::all(found.iter().map(|(name, object)| match object {
        Some(object) => workload::standing(kind, name, object),
        None => Standing::Waiting(format!("{name} is not there")),
    })))
}
