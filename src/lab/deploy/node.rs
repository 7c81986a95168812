//! One deploy: what it is, whether it has to be applied, applying it, waiting for it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::record::Record;
use super::{Context, Outcome, apply, chart, istio};
use crate::base::digest::Digest;
use crate::lab::error::LabError;
use crate::lab::kube::kinds::Kinds;
use crate::lab::kube::ready::{self, Brought, Scope, Standing, Wait};
use crate::lab::kube::{Api, fault};
use crate::lab::secret::{self, Secrets};
use crate::model::lock::FileKind;
use crate::model::manifest::{self, Object};
use crate::model::profile::{Deploy, Ready, duration, join_path};
use crate::model::source_map::Loc;
use crate::store::BlobSource;
use crate::store::bundle::PROFILE_PATH;

/// How long a deploy may take where it does not say.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long one look at something that is to be ready already may take.
const LOOK: Duration = Duration::from_secs(5);
/// Objects looked for at once.
const AT_ONCE: usize = 16;

/// A deploy and where it goes.
pub(super) struct Place<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) deploy: &'a Deploy,
    pub(super) api: &'a Api,
    pub(super) kinds: &'a Kinds,
    pub(super) namespace: &'a str,
    pub(super) deadline: Instant,
}

/// Runs one deploy to its end.
///
/// # Errors
/// Whatever goes wrong; secrets may stand in it still.
pub(super) async fn run(
    context: &Context<'_>,
    deploy: &Deploy,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Outcome, LabError> {
    let place = place(context, deploy)?;
    let state = &context.session.state;
    let mut record = Record::read(state, &deploy.name)?;
    let key = key(&place)?;
    if record.ready && record.key == Some(key) && secrets_are(context.secrets, &record) {
        say("looking whether it is ready still");
        if is_ready(&place, &record).await {
            return Ok(Outcome::Unchanged);
        }
    }
    let (names, objects) = bring(&place, say).await?;
    record = Record {
        key: Some(key),
        secret_key: Some(context.secrets.digest(names.iter().map(String::as_str))),
        secrets: names,
        ready: false,
        objects,
    };
    record.write(state, &deploy.name)?;
    wait(&place, &record.objects, say).await?;
    record.ready = true;
    record.write(state, &deploy.name)?;
    Ok(Outcome::Ready { objects: record.objects.len() })
}

fn place<'a>(context: &'a Context<'a>, deploy: &'a Deploy) -> Result<Place<'a>, LabError> {
    let cluster = &context.session.cluster(deploy.cluster.as_ref().map(|c| c.as_str()))?.name;
    let none = || LabError::failed(format!("deploy {}", *deploy.name), format!("cluster `{}` is not up", **cluster));
    let api = context.apis.get(cluster.as_str()).ok_or_else(none)?;
    let kinds = context.kinds.get(cluster.as_str()).ok_or_else(none)?;
    let timeout = deploy.timeout.as_ref().and_then(|t| duration(t)).unwrap_or(TIMEOUT);
    let namespace = match (&deploy.namespace, &deploy.istio) {
        (Some(namespace), _) => namespace.as_str(),
        (None, Some(_)) => istio::NAMESPACE,
        (None, None) => "default",
    };
    Ok(Place { context, deploy, api, kinds, namespace, deadline: Instant::now() + timeout })
}

/// A digest over everything that makes a difference to what is applied, but for secrets.
fn key(place: &Place<'_>) -> Result<Digest, LabError> {
    let session = place.context.session;
    let mut parts = vec![
        // What applying means: another number applies everything again.
        "1".to_owned(),
        place.context.identities.get(&place.api.cluster).cloned().unwrap_or_default(),
        place.namespace.to_owned(),
    ];
    if let Some(name) = &place.deploy.manifest {
        parts.push(match source(place, name)? {
            Source::Text(text) => Digest::of(text.as_bytes()).to_string(),
            Source::Blob(digest) => digest.to_string(),
        });
    }
    if let Some(name) = &place.deploy.chart {
        let chart = chart::locked(session, name)?;
        parts.push(chart.archive.to_string());
        parts.extend(chart.values.iter().map(Digest::to_string));
    }
    if let Some(istio) = &place.deploy.istio {
        parts.push(format!("{} {:?}", *istio.profile, istio.set));
    }
    Ok(Digest::of(&serde_json::to_vec(&parts).map_err(LabError::internal)?))
}

fn secrets_are(secrets: &Secrets, record: &Record) -> bool {
    let names = record.secrets.iter().map(String::as_str);
    record.secrets.iter().all(|name| secrets.get(name).is_some()) && record.secret_key == Some(secrets.digest(names))
}

/// Applies it; gives the secrets it refers to and what it brought.
async fn bring(place: &Place<'_>, say: &(dyn Fn(&str) + Sync)) -> Result<(Vec<String>, Vec<Brought>), LabError> {
    let slot = place.context.slots.acquire();
    let _slot = slot.await.map_err(LabError::internal)?;
    if place.deploy.namespace.is_some() || place.deploy.chart.is_some() {
        apply::namespace(&place.api.client, place.namespace, place.deadline).await?;
    }
    if let Some(name) = &place.deploy.manifest {
        let mut objects = objects(place, name).await?;
        let names = fill(place, objects.iter_mut().map(|o| &mut o.value)).await?;
        let target = apply::Target { kinds: place.kinds, namespace: place.namespace, deadline: place.deadline };
        let brought = apply::apply(&target, objects, say).await;
        let head = |e| about(place, e);
        return Ok((names, brought.map_err(head)?));
    }
    if let Some(name) = &place.deploy.chart {
        return chart::install(place, name, say).await;
    }
    if let Some(table) = &place.deploy.istio {
        return istio::install(place, table, say).await;
    }
    Err(LabError::internal(format!("deploy {} is nothing", *place.deploy.name)))
}

/// Puts the deploy's name in front.
fn about(place: &Place<'_>, error: LabError) -> LabError {
    match error {
        LabError::Failed { what, why, hint, kind } => {
            LabError::Failed { what: format!("deploy {}: {what}", *place.deploy.name), why, hint, kind }
        }
        other => other,
    }
}

/// Fills secrets into `values`, waiting for those that clusters have to make; gives their names.
///
/// # Errors
/// A reference to no secret, or to one that does not appear.
pub(super) async fn fill<'v>(
    place: &Place<'_>,
    values: impl Iterator<Item = &'v mut serde_json::Value>,
) -> Result<Vec<String>, LabError> {
    let secrets = place.context.secrets;
    let mut values: Vec<&mut serde_json::Value> = values.collect();
    let names: BTreeSet<String> =
        values.iter().flat_map(|value| secret::references(value)).map(|reference| reference.name).collect();
    secrets.fetch(names.iter().map(String::as_str), place.context.apis, place.deadline).await?;
    for value in &mut values {
        secret::fill(value, &|name| secrets.get(name)).map_err(|e| {
            let known = place.context.session.profile.secret.keys().cloned().collect::<Vec<_>>().join(", ");
            LabError::failed(format!("deploy {}", *place.deploy.name), e)
                .hint(format!("secrets of this lab: {known}; `$${{secret.NAME}}` stands for the text itself"))
        })?;
    }
    Ok(names.into_iter().collect())
}

/// Where a manifest is.
enum Source {
    Text(String),
    Blob(Digest),
}

fn source(place: &Place<'_>, name: &str) -> Result<Source, LabError> {
    let session = place.context.session;
    let contents = &session.bundle.index().contents;
    let lacks = || LabError::mismatch(format!("manifest `{name}`"), "the bundle does not hold it");
    let table = session.profile.manifest.iter().find(|m| *m.name == name).ok_or_else(lacks)?;
    if let Some(text) = &table.text {
        return Ok(Source::Text(text.to_string()));
    }
    if let Some(path) = &table.path {
        let path = plain(path);
        let local = contents.locals.iter().find(|l| l.path == path).ok_or_else(lacks)?;
        return Ok(Source::Blob(local.digest));
    }
    let file = contents.files.iter().find(|f| f.kind == FileKind::Manifest && f.name == name).ok_or_else(lacks)?;
    Ok(Source::Blob(file.digest))
}

/// A path of the profile as the bundle spells it.
pub(super) fn plain(path: &str) -> String {
    join_path("", path)
}

async fn objects(place: &Place<'_>, name: &str) -> Result<Vec<Object>, LabError> {
    let text = match source(place, name)? {
        Source::Text(text) => text,
        Source::Blob(digest) => blob_text(place, name, &digest)?,
    };
    let parsed = tokio::task::spawn_blocking(move || manifest::parse(&text)).await.map_err(LabError::internal)?;
    parsed.map_err(|e| LabError::failed(format!("deploy {}: manifest `{name}`", *place.deploy.name), e))
}

/// A blob of the bundle as text, checked.
pub(super) fn blob_text(place: &Place<'_>, name: &str, digest: &Digest) -> Result<String, LabError> {
    let what = || format!("`{name}` in `{}`", place.context.session.bundle.path().display());
    let bytes = place.context.session.bundle.read_blob(digest, manifest::MAX_BYTES as u64);
    let bytes = bytes.map_err(|e| LabError::mismatch(what(), e))?;
    if Digest::of(&bytes) != *digest {
        return Err(LabError::mismatch(what(), format!("its digest is {}, not {digest}", Digest::of(&bytes)))
            .hint("the bundle was damaged or altered: copy it anew"));
    }
    manifest::decode(&bytes).map(Cow::into_owned).map_err(|e| LabError::failed(what(), e))
}

/// What it waits for, with the profile's text.
fn readies(deploy: &Deploy) -> Result<Vec<(&Loc<String>, Ready)>, LabError> {
    let wrong = |e: String| LabError::failed(format!("deploy {}", *deploy.name), e);
    let one = |text: &'_ Loc<String>| text.parse::<Ready>().map_err(wrong);
    let one = |text| Ok((text, one(text)?));
    deploy.ready.iter().map(one).collect()
}

fn scope<'a>(place: &'a Place<'a>, brought: &'a [Brought]) -> Scope<'a> {
    Scope { api: place.api, kinds: place.kinds, namespace: place.namespace, brought: Some(brought) }
}

/// One quick look at everything.
async fn is_ready(place: &Place<'_>, record: &Record) -> bool {
    let look = async {
        if !are_there(place, &record.objects).await.unwrap_or(false) {
            return false;
        }
        let Ok(readies) = readies(place.deploy) else { return false };
        let scope = scope(place, &record.objects);
        let looks = readies.iter().map(|(_, ready)| ready::look(&scope, ready));
        let found = futures_util::future::join_all(looks).await;
        found.into_iter().all(|standing| matches!(standing, Ok(Standing::Ready)))
    };
    tokio::time::timeout(LOOK, look).await.unwrap_or(false)
}

/// Whether everything it brought is there still.
async fn are_there(place: &Place<'_>, objects: &[Brought]) -> Result<bool, kube::Error> {
    let one = |object: &Brought| {
        let object = object.clone();
        async move {
            let Some(kind) = place.kinds.of(&object.api_version, &object.kind).await? else { return Ok(false) };
            let api = kind.objects(&place.api.client, object.namespace.as_deref().unwrap_or_default());
            Ok::<_, kube::Error>(api.get_metadata_opt(&object.name).await?.is_some())
        }
    };
    let found = futures_util::stream::iter(objects.iter().map(one)).buffer_unordered(AT_ONCE);
    found.try_fold(true, |all, one| async move { Ok(all && one) }).await
}

/// Waits for everything at once; the first failure ends it.
async fn wait(place: &Place<'_>, brought: &[Brought], say: &(dyn Fn(&str) + Sync)) -> Result<(), LabError> {
    let readies = readies(place.deploy)?;
    let what = format!("deploy {}", *place.deploy.name);
    let scope = scope(place, brought);
    let how = Wait { deadline: place.deadline, what: &what, say };
    let waits = readies.iter().map(|(text, ready)| {
        let (scope, how) = (&scope, &how);
        async move { ready::wait(scope, ready, text, how).await.map_err(|e| at(place, e, text)) }
    });
    futures_util::future::try_join_all(waits).await.map(|_| ())
}

/// Adds where the profile asks for it.
fn at(place: &Place<'_>, error: LabError, text: &Loc<String>) -> LabError {
    let span = text.span();
    let LabError::NotReady { what, waited, at: _, reasons, hint } = error else { return error };
    let profile = place.context.session.bundle.text(PROFILE_PATH, manifest::MAX_BYTES as u64).unwrap_or_default();
    let before =
        profile.get(..span.start).filter(|_| profile.get(span.clone()).is_some_and(|t| t.contains(text.as_str())));
    let line = before.map(|b| format!("{PROFILE_PATH} line {}, ", b.matches('\n').count() + 1)).unwrap_or_default();
    let at = Some(format!("{line}deploy `{}`, ready = \"{}\"", *place.deploy.name, **text));
    let name = &place.deploy.name;
    let advice = format!(
        "`labimg kubectl get events -A` shows more; then `labimg up` goes on, or `labimg up --only {}`",
        **name
    );
    LabError::NotReady { what, waited, at, reasons, hint: hint.or(Some(advice)) }
}

/// An API server's error with the deploy's name in front.
pub(super) fn failed(place: &Place<'_>, what: &str, error: &kube::Error) -> LabError {
    LabError::failed(format!("deploy {}: {what}", *place.deploy.name), fault::describe(error))
}
