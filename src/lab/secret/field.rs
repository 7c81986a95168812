//! Secrets that somebody else made: a field of an object in a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json_path::JsonPath;
use tokio::time::{Instant, sleep};

use crate::base::base64;
use crate::lab::error::LabError;
use crate::lab::kube::kinds::Kinds;
use crate::lab::kube::{Api, fault};
use crate::model::profile::SecretField;

/// Reads the field of secret `name`, waiting for it until `deadline`.
///
/// # Errors
/// A cluster or path that is none; an object or field that is not there by then.
pub async fn read(
    name: &str,
    field: &SecretField,
    apis: &BTreeMap<String, Api>,
    deadline: Instant,
) -> Result<String, LabError> {
    let namespace = field.namespace.as_deref().unwrap_or("default");
    let what = || format!("secret `{name}`: `{}` of {} in namespace {namespace}", *field.path, *field.object);
    let api = match &field.cluster {
        Some(cluster) => apis.get(cluster.as_str()),
        None => apis.values().next().filter(|_| apis.len() == 1),
    };
    let api = api.ok_or_else(|| LabError::failed(what(), "its cluster is not there"))?;
    let path = JsonPath::parse(&field.path).map_err(|e| LabError::failed(what(), e))?;
    let start = Instant::now();
    loop {
        let why = match attempt(api, field, namespace, &path).await {
            Ok(Some(text)) => return Ok(text),
            Ok(None) => "it is not there".to_owned(),
            Err(error) if fault::again(&error) == fault::Again::No => {
                return Err(LabError::failed(what(), fault::describe(&error)));
            }
            Err(error) => fault::describe(&error),
        };
        if Instant::now() >= deadline {
            let waited = format!("{} s", start.elapsed().as_secs());
            return Err(LabError::NotReady { what: what(), waited, at: None, reasons: vec![why], hint: None }
                .hint("the deploy that makes the object has to be in `after` of the one that uses the secret"));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn attempt(
    api: &Api,
    field: &SecretField,
    namespace: &str,
    path: &JsonPath,
) -> Result<Option<String>, kube::Error> {
    let kinds = Kinds::new(api.client.clone());
    let (kind, name) = field.object.split_once('/').unwrap_or_default();
    let Some(kind) = kinds.named(kind).await? else { return Ok(None) };
    let is_secret = kind.resource.kind == "Secret" && kind.resource.group.is_empty();
    let Some(object) = kind.objects(&api.client, namespace).get_opt(name).await? else { return Ok(None) };
    let value = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
    let found = match path.query(&value).first() {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Ok(None),
    };
    let data = is_secret && (field.path.starts_with("$.data") || field.path.starts_with("$['data']"));
    let decoded = data.then(|| base64::decode(&found).and_then(|bytes| String::from_utf8(bytes).ok())).flatten();
    Ok(Some(decoded.unwrap_or(found)))
}
