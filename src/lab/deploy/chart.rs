//! Charts, by the bundle's own helm: `helm list` works afterwards. Waiting is ours (`--wait` knows no reasons).

use std::path::{Path, PathBuf};

use super::node::{Place, blob_text, fill, plain};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::lab::error::LabError;
use crate::lab::kube::ready::Brought;
use crate::lab::run::Program;
use crate::lab::session::Session;
use crate::lab::tools;
use crate::model::manifest;

/// A chart in the bundle.
pub(super) struct Locked {
    /// Digest of its archive.
    pub(super) archive: Digest,
    /// Digest of its values file.
    pub(super) values: Option<Digest>,
}

/// What the bundle holds of chart `name`.
///
/// # Errors
/// A bundle without it.
pub(super) fn locked(session: &Session, name: &str) -> Result<Locked, LabError> {
    let contents = &session.bundle.index().contents;
    let lacks = |what: &str| LabError::mismatch(format!("chart `{name}`"), format!("the bundle does not hold {what}"));
    let entry = contents.charts.iter().find(|c| c.name == name).ok_or_else(|| lacks("its archive"))?;
    let table = session.profile.chart.iter().find(|c| *c.name == name);
    let values = match table.and_then(|t| t.values.as_ref()) {
        None => None,
        Some(path) => {
            let path = plain(path);
            let local = contents.locals.iter().find(|l| l.path == path);
            Some(local.ok_or_else(|| lacks("its values"))?.digest)
        }
    };
    Ok(Locked { archive: entry.digest, values })
}

/// `helm upgrade --install`; gives the secrets its values refer to and what it brought.
///
/// # Errors
/// helm's own, with the end of what it wrote; a bundle without helm.
pub(super) async fn install(
    place: &Place<'_>,
    name: &str,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<String>, Vec<Brought>), LabError> {
    let session = place.context.session;
    let chart = locked(session, name)?;
    let folder = session.state.folder("helm")?;
    let archive = folder.join(format!("{}.tgz", &chart.archive.hex()[..12]));
    tools::copy(session, &chart.archive, &archive, 0o600)?;
    let (secrets, values) = values(place, name, &chart).await?;
    say("helm upgrade --install");
    let release = place.deploy.name.as_str();
    let mut arguments = words(&["upgrade", "--install", release]);
    arguments.push(text(&archive));
    arguments.extend(words(&["--namespace", place.namespace, "--create-namespace"]));
    if let Some(values) = &values {
        arguments.extend([String::from("--values"), text(values)]);
    }
    // A release that an earlier `up` left half installed is taken over, not refused.
    unlock(place, &folder).await;
    let done = helm(place, &folder, arguments).await;
    // The values hold secrets: they are gone as soon as helm has read them.
    let gone = values.as_deref().map(fs_err::remove_file).unwrap_or(Ok(()));
    done.map_err(|e| explain(e, release))?;
    gone?;
    let brought = brought(place, &folder).await?;
    Ok((secrets, brought))
}

/// The values with secrets filled in, in a file only its owner may read.
async fn values(place: &Place<'_>, name: &str, chart: &Locked) -> Result<(Vec<String>, Option<PathBuf>), LabError> {
    let Some(digest) = &chart.values else { return Ok((Vec::new(), None)) };
    let text = blob_text(place, name, digest)?;
    let what = || format!("deploy {}: values of chart `{name}`", *place.deploy.name);
    let state = &place.context.session.state;
    let file = format!("helm/{}.values.json", *place.deploy.name);
    let path = state.dir().join(&file);
    if !text.contains("${secret.") {
        state.write_secret(&file, text.as_bytes())?;
        return Ok((Vec::new(), Some(path)));
    }
    let mut value = manifest::value(&text).map_err(|e| LabError::failed(what(), e))?;
    let secrets = fill(place, std::iter::once(&mut value)).await?;
    // JSON is YAML, and helm reads it the same whatever stands in a secret.
    state.write_json(&file, &value)?;
    Ok((secrets, Some(path)))
}

async fn helm(place: &Place<'_>, folder: &Path, arguments: Vec<String>) -> Result<Vec<u8>, LabError> {
    let session = place.context.session;
    let program = tools::tool(session, "helm")?;
    let kubeconfig = session.state.kubeconfig(&place.api.cluster);
    let mut program =
        Program::new(&session.machine, &program).args(arguments).args(["--kubeconfig", &text(&kubeconfig)]);
    for (variable, name) in [
        ("HELM_CACHE_HOME", "cache"),
        ("KUBECACHEDIR", "kube"),
        ("HELM_CONFIG_HOME", "config"),
        ("HELM_DATA_HOME", "data"),
        ("HELM_PLUGINS", "plugins"),
        ("KUBECACHEDIR", "kube"),
    ] {
        program = program.env(variable, &text(&folder.join(name)));
    }
    if let Some(context) = context(place) {
        program = program.args(["--kube-context", &context]);
    }
    let run = tokio::time::timeout_at(place.deadline, program.run()).await;
    let late = |_| {
        LabError::failed(program.line(), "it did not end in time")
            .hint("`timeout` of the deploy says how long it may take")
    };
    Ok(run.map_err(late)??.stdout)
}

/// The kubeconfig context of clusters that were there before.
pub(super) fn context(place: &Place<'_>) -> Option<String> {
    let cluster = place.context.session.cluster(Some(&place.api.cluster)).ok()?;
    cluster.context.as_ref().map(|c| c.to_string())
}

/// Rolls a release back that helm believes to be in the middle of something: the one who was is gone, for `up` holds the lock.
async fn unlock(place: &Place<'_>, folder: &Path) {
    let release = place.deploy.name.as_str();
    let status =
        helm(place, folder, words(&["status", release, "--namespace", place.namespace, "--output", "json"])).await;
    let parsed = status.ok().and_then(|bytes| bounded::from_json::<serde_json::Value>(&bytes).ok());
    let state = parsed.as_ref().and_then(|v| v.pointer("/info/status")).and_then(|s| s.as_str()).unwrap_or_default();
    let undo = match state {
        "pending-install" => words(&["uninstall", release, "--namespace", place.namespace]),
        "pending-upgrade" | "pending-rollback" => words(&["rollback", release, "--namespace", place.namespace]),
        _ => return,
    };
    // Where this fails, `upgrade` says why.
    let _ = helm(place, folder, undo).await;
}

/// What the release consists of.
async fn brought(place: &Place<'_>, folder: &Path) -> Result<Vec<Brought>, LabError> {
    let release = place.deploy.name.as_str();
    let bytes = helm(place, folder, words(&["get", "manifest", release, "--namespace", place.namespace])).await?;
    let what = || format!("deploy {release}: what helm says it installed");
    let text = String::from_utf8(bytes).map_err(|e| LabError::failed(what(), e))?;
    let objects = manifest::parse(&text).map_err(|e| LabError::failed(what(), e))?;
    let mut brought = Vec::new();
    for object in objects {
        let kind = place.kinds.of(object.api_version(), object.kind()).await;
        let namespaced = kind.ok().flatten().is_none_or(|kind| kind.namespaced);
        let namespace = namespaced.then(|| object.namespace().unwrap_or(place.namespace).to_owned());
        let (api_version, kind, name) = (object.api_version().into(), object.kind().into(), object.name().into());
        brought.push(Brought { api_version, kind, namespace, name });
    }
    Ok(brought)
}

fn explain(error: LabError, release: &str) -> LabError {
    match &error {
        LabError::Command { tail, .. } if tail.contains("invalid ownership metadata") => error.hint(format!(
            "an object of that name was made by somebody else: delete it, or install release {release} into another namespace"
        )),
        _ => error,
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
