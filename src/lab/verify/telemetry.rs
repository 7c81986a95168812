//! Asks the collectors and Jaeger of a cluster how they fare, for [`super::chain`].

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};

use super::chain::{self, Chain, Collector, Store};
use crate::lab::kube::{Api, pods, reach};

/// Where a collector tells of itself (OpenTelemetry Collector, "Internal telemetry").
const COLLECTOR_PORT: u16 = 8888;
/// Where Jaeger tells of itself (its admin port).
const JAEGER_PORT: u16 = 14269;
/// Longest one of them is asked.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most collectors asked.
const MOST: usize = 32;
/// Lines of a collector's log looked through for its last error.
const LOG_LINES: i64 = 300;
/// Most bytes of them.
const LOG_BYTES: i64 = 1 << 20;

/// The whole chain of a cluster; `services` are those Jaeger has traces of.
pub async fn chain(api: &Api, services: Vec<String>) -> Option<Chain> {
    let all: kube::Api<Pod> = kube::Api::all(api.client.clone());
    let found = all.list(&ListParams::default()).await.ok()?.items;
    let of = |which: fn(&Pod) -> bool| found.iter().filter(move |p| which(p)).take(MOST);
    let collectors = futures_util::future::join_all(of(is_collector).map(|p| collector(api, p)));
    let jaeger = of(is_jaeger).next();
    let store = async {
        match jaeger {
            Some(pod) => Some(store(api, pod, services).await),
            None => None,
        }
    };
    let (collectors, store) = tokio::join!(collectors, store);
    Some(chain::judge(collectors, store))
}

async fn collector(api: &Api, pod: &Pod) -> Collector {
    let spec = pod.spec.as_ref();
    let base = Collector {
        pod: label(pod),
        node: spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        agent: spec.is_some_and(|s| s.host_network == Some(true)),
        ..Collector::default()
    };
    let (metrics, error) = tokio::join!(metrics(api, pod, COLLECTOR_PORT), last_error(api, pod));
    match metrics {
        Ok(text) => Collector { error, ..base.read(&text) },
        Err(why) => Collector { silent: Some(why), error, ..base },
    }
}

async fn store(api: &Api, pod: &Pod, services: Vec<String>) -> Store {
    let base = Store { pod: label(pod), services, ..Store::default() };
    match metrics(api, pod, JAEGER_PORT).await {
        Ok(text) => base.read(&text),
        Err(why) => Store { silent: Some(why), ..base },
    }
}

async fn metrics(api: &Api, pod: &Pod, port: u16) -> Result<String, String> {
    if !pods::is_ready(pod) {
        return Err("the pod is not ready".to_owned());
    }
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    let (namespace, name) = namespace.zip(name).ok_or("a pod without a name")?;
    let asked = reach::get(api, namespace, name, port, "/metrics");
    let late = || format!("no answer from port {port} within {} s", TIMEOUT.as_secs());
    let answer = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| late())?.map_err(|e| e.to_string())?;
    match answer.status {
        200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
        _ => Err(format!("port {port} answered {}", super::ask::status_line(&answer))),
    }
}

/// The last error of passing on that a collector has logged.
async fn last_error(api: &Api, pod: &Pod) -> Option<String> {
    let (namespace, name) = pod.metadata.namespace.as_deref().zip(pod.metadata.name.as_deref())?;
    let all: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), namespace);
    let container = pod.spec.as_ref()?.containers.iter().find(|c| is_collector_image(c.image.as_deref()))?;
    let params = LogParams {
        container: Some(container.name.clone()),
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    let text = tokio::time::timeout(TIMEOUT, all.logs(name, &params)).await.ok()?.ok()?;
    text.lines().rev().find_map(error_in)
}

/// The `error` field of a line about passing on: the collector logs JSON, or a table with JSON at its end.
fn error_in(line: &str) -> Option<String> {
    if !line.contains("xporting failed") && !line.contains("sending_queue") {
        return None;
    }
    let fields: serde_json::Value = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
    let text = fields.get("error")?.as_str()?;
    Some(super::ask::glimpse(text.as_bytes()))
}

fn label(pod: &Pod) -> String {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", own(&pod.metadata.namespace), own(&pod.metadata.name))
}

fn images(pod: &Pod) -> impl Iterator<Item = Option<&str>> {
    pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.image.as_deref())
}

fn has_label(pod: &Pod, key: &str, values: &[&str]) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get(key));
    label.is_some_and(|value| values.contains(&value.as_str()))
}

fn is_collector_image(image: Option<&str>) -> bool {
    let name = image.map(base_name).unwrap_or_default();
    name.starts_with("otelcol") || name.starts_with("opentelemetry-collector") || name.starts_with("otel-collector")
}

/// By image, or by the labels that the operator and the chart give.
fn is_collector(pod: &Pod) -> bool {
    images(pod).any(is_collector_image)
        || has_label(pod, "app.kubernetes.io/component", &["opentelemetry-collector"])
        || has_label(pod, "app.kubernetes.io/name", &["opentelemetry-collector", "otel-collector"])
}

fn is_jaeger(pod: &Pod) -> bool {
    let named = |image: Option<&str>| {
        let (whole, name) = (image.unwrap_or_default(), image.map(base_name).unwrap_or_default());
        name.starts_with("jaeger") || (name.starts_with("all-in-one") && whole.contains("jaeger"))
    };
    images(pod).any(named)
}

/// The last part of an image's name, without tag and digest.
fn base_name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn collectors_and_jaeger_are_known_by_image_or_label() {
        let pod = |image: &str, label: &str| -> Pod {
            let meta = json!({ "name": "x", "labels": { "app.kubernetes.io/component": label } });
            serde_json::from_value(json!({ "metadata": meta, "spec": { "containers": [{ "name": "c", "image": image }] } }))
                .unwrap()
        };
        assert!(is_collector(&pod("ghcr.io/a/opentelemetry-collector-releases/opentelemetry-collector-k8s:0.111.0", "")));
        assert!(is_collector(&pod("localhost:5000/otelcol@sha256:00", "")));
        assert!(is_collector(&pod("own", "opentelemetry-collector")));
        assert!(!is_collector(&pod("otel/opentelemetry-operator:1", "")));
        assert!(is_jaeger(&pod("jaegertracing/all-in-one:1.62.0", "")));
        assert!(is_jaeger(&pod("jaegertracing/jaeger:2.1.0", "")));
        assert!(!is_jaeger(&pod("example/all-in-one:1", "")));
    }

    #[test]
    fn the_error_of_passing_on_is_found_in_both_log_formats() {
        let table = "2026-01-01T00:00:00.000Z\tinfo\tinternal/retry_sender.go:118\tExporting failed. Will retry the request after \
                     interval.\t{\"kind\": \"exporter\", \"error\": \"rpc error: code = Unavailable\", \"interval\": \"3s\"}";
        assert_eq!(error_in(table).unwrap(), "rpc error: code = Unavailable");
        let json = r#"{"level":"info","msg":"Exporting failed. Dropping data.","error":"no such host"}"#;
        assert_eq!(error_in(json).unwrap(), "no such host");
        assert_eq!(error_in("Exporting failed {"), None);
        assert_eq!(error_in(r#"{"msg":"other","error":"x"}"#), None);
    }
}
