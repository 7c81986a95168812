//! Finds the service that a deploy brought and that answers for traces or metrics.

use k8s_openapi::api::core::v1::{Service as Object, ServicePort};
use kube::api::ListParams;

use super::ask::Service;
use super::report::Open;
use crate::lab::error::LabError;
use crate::lab::kube::Api;
use crate::model::profile::{Cluster, Deploy};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Jaeger's query service.
    Traces,
    /// Prometheus.
    Metrics,
}

impl Role {
    /// How sure a port of a service is to be it; `None` where it is not. Less is surer.
    fn rank(self, service: &str, port: &ServicePort) -> Option<u8> {
        let name = port.name.as_deref().unwrap_or_default();
        match self {
            Self::Traces if port.port == 16686 => Some(0),
            Self::Traces if matches!(name, "query" | "http-query" | "jaeger-query") => Some(1),
            Self::Traces if service == "tracing" && port.port == 80 => Some(2),
            Self::Metrics if port.port == 9090 => Some(0),
            Self::Metrics if service.contains("prometheus") && matches!(name, "web" | "http" | "http-web") => Some(1),
            _ => None,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Traces => "Jaeger's query port (16686, or a port named `query`)",
            Self::Metrics => "Prometheus's port (9090, or a port named `web`)",
        }
    }
}

/// A service, and where an attendee opens it.
pub struct Found {
    /// Who is asked.
    pub service: Service,
    node_port: Option<u16>,
    address: Option<String>,
    port: u16,
}

/// The service of `deploy`: in its namespace, or, where it has none or nothing there fits, in any.
///
/// # Errors
/// An API that does not answer, or no such service.
pub async fn find(api: &Api, deploy: &Deploy, role: Role) -> Result<Found, LabError> {
    let what = || format!("deploy `{}` in cluster `{}`", *deploy.name, api.cluster);
    let services: kube::Api<Object> = kube::Api::all(api.client.clone());
    let all = services.list(&ListParams::default()).await.map_err(|e| LabError::failed(what(), e))?;
    choose(&all.items, deploy.namespace.as_deref(), &deploy.name, role)
        .map(|(object, port)| found(api, object, port))
        .ok_or_else(|| {
            LabError::failed(what(), format!("no service has {}", role.what()))
                .hint("`labimg kubectl get services -A` shows them all")
        })
}

/// The surest of all ports: in the namespace first, then by rank, then those that carry the deploy's name.
fn choose<'a>(
    all: &'a [Object],
    namespace: Option<&str>,
    deploy: &str,
    role: Role,
) -> Option<(&'a Object, &'a ServicePort)> {
    let ports = all.iter().flat_map(|s| s.spec.iter().flat_map(|p| p.ports.iter().flatten()).map(move |p| (s, p)));
    let ranked = ports.filter_map(|(object, port)| {
        let name = object.metadata.name.as_deref()?;
        let rank = role.rank(name, port)?;
        let elsewhere = object.metadata.namespace.as_deref() != Some(namespace.unwrap_or("default"));
        Some(((elsewhere, rank, !name.contains(deploy), name), (object, port)))
    });
    ranked.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, found)| found)
}

fn found(api: &Api, object: &Object, port: &ServicePort) -> Found {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let ingress = object.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref()?.first());
    Found {
        service: Service {
            api: api.clone(),
            namespace: own(&object.metadata.namespace),
            name: own(&object.metadata.name),
            port: port.port.to_string(),
        },
        node_port: port.node_port.and_then(|p| u16::try_from(p).ok()),
        address: ingress.and_then(|i| i.ip.clone().or_else(|| i.hostname.clone())),
        port: u16::try_from(port.port).unwrap_or_default(),
    }
}

impl Found {
    /// Where an attendee opens `path`: by a port of the lab that leads to the service's node port, by its load balancer's
    /// address, or after a port-forward.
    pub fn open(&self, cluster: &Cluster, what: &str, path: &str) -> Open {
        let what = what.to_owned();
        let lab_port = cluster.ports.iter().find(|p| Some(*p.node) == self.node_port);
        if let Some(port) = lab_port {
            return Open { what, url: format!("http://localhost:{}{path}", *port.host), after: None };
        }
        if let Some(address) = &self.address {
            let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            return Open { what, url: format!("http://{host}:{}{path}", self.port), after: None };
        }
        let Service { namespace, name, port, .. } = &self.service;
        let after = format!("labimg port-forward --cluster {} -n {namespace} service/{name} {port}", *cluster.name);
        Open { what, url: format!("http://localhost:{port}{path}"), after: Some(after) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ports: serde_json::Value) -> Object {
        let meta = json!({ "name": name, "namespace": namespace });
        serde_json::from_value(json!({ "metadata": meta, "spec": { "ports": ports } })).unwrap()
    }

    fn chosen(all: &[Object], namespace: Option<&str>, role: Role) -> Option<(String, i32)> {
        choose(all, namespace, "jaeger", role).map(|(s, p)| (s.metadata.name.clone().unwrap(), p.port))
    }

    #[test]
    fn the_surest_port_is_chosen() {
        let all = [
            service("other", "jaeger", json!([{ "port": 16686 }])),
            service("obs", "jaeger-collector", json!([{ "port": 4317 }, { "port": 14269 }])),
            service("obs", "a-query", json!([{ "port": 16686, "name": "http-query" }])),
            service("obs", "jaeger-query", json!([{ "port": 16685 }, { "port": 16686, "name": "http-query" }])),
            service("istio-system", "tracing", json!([{ "port": 80, "name": "http-query" }])),
            service("istio-system", "prometheus", json!([{ "port": 9090 }])),
        ];
        assert_eq!(chosen(&all, Some("obs"), Role::Traces), Some(("jaeger-query".into(), 16686)));
        assert_eq!(chosen(&all, Some("istio-system"), Role::Traces), Some(("tracing".into(), 80)));
        assert_eq!(chosen(&all, Some("nowhere"), Role::Metrics), Some(("prometheus".into(), 9090)));
        assert_eq!(chosen(&all[1..2], None, Role::Traces), None);
    }
}
