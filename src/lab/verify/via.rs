//! Finds the service that a deploy brought and that answers for traces or metrics.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service as Object, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;

use super::ask::{At, Service};
use super::report::Open;
use crate::lab::error::LabError;
use crate::lab::kube::Api;
use crate::model::profile::{Cluster, Deploy, Protocol};

/// How long a port of this machine is asked whether it leads to the service.
const PATIENCE: Duration = Duration::from_secs(3);

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
    role: Role,
    /// Node ports that lead to the same port of the same pods.
    node_ports: Vec<u16>,
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
        .map(|chosen| found(api, chosen, role, &all.items))
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

fn found(api: &Api, (object, port): (&Object, &ServicePort), role: Role, all: &[Object]) -> Found {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let ingress = object.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref()?.first());
    Found {
        service: Service {
            api: api.clone(),
            namespace: own(&object.metadata.namespace),
            name: own(&object.metadata.name),
            port: port.port.to_string(),
        },
        role,
        node_ports: node_ports(object, port, all),
        address: ingress.and_then(|i| i.ip.clone().or_else(|| i.hostname.clone())),
        port: u16::try_from(port.port).unwrap_or_default(),
    }
}

/// Node ports of the service itself, and of others in its namespace that lead to the same port of the same pods: labs give a
/// chart's service a port by a second one.
fn node_ports(object: &Object, port: &ServicePort, all: &[Object]) -> Vec<u16> {
    let selector = |o: &Object| o.spec.as_ref().and_then(|s| s.selector.clone()).filter(|s| !s.is_empty());
    let target = |p: &ServicePort| p.target_port.clone().unwrap_or(IntOrString::Int(p.port));
    let wanted = selector(object);
    let twins = all.iter().filter(|o| {
        let same = o.metadata.namespace == object.metadata.namespace && wanted.is_some() && selector(o) == wanted;
        same && o.metadata.name != object.metadata.name
    });
    let ports = twins.flat_map(|o| o.spec.iter().flat_map(|s| s.ports.iter().flatten()));
    let twin_ports = ports.filter(|p| target(p) == target(port) || p.port == port.port);
    [port].into_iter().chain(twin_ports).filter_map(|p| u16::try_from(p.node_port?).ok()).collect()
}

impl Found {
    /// Where an attendee opens `path`: by a port of the lab that leads to the service's node port; by one that leads there another
    /// way, through a gateway, which `reach` finds out by asking: it gives the page's path there, where the same thing answers; by its
    /// load balancer's address; or after a port-forward.
    pub async fn open<F>(&self, cluster: &Cluster, what: &str, path: &str, reach: impl Fn(At) -> F) -> Open
    where
        F: Future<Output = Option<String>>,
    {
        let what = what.to_owned();
        let tcp = || cluster.ports.iter().filter(|p| p.protocol == Protocol::Tcp);
        let at = |host: u16| format!("http://localhost:{host}");
        if let Some(port) = tcp().find(|p| self.node_ports.contains(&p.node)) {
            return Open { what, url: format!("{}{path}", at(*port.host)), after: None };
        }
        let asked = tcp().map(|port| {
            let (url, reached) = (at(*port.host), reach(At(at(*port.host))));
            async move { Some(format!("{url}{}", tokio::time::timeout(PATIENCE, reached).await.ok()??)) }
        });
        if let Some(url) = futures_util::future::join_all(asked).await.into_iter().flatten().next() {
            return Open { what, url, after: None };
        }
        if let Some(address) = &self.address {
            let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            return Open { what, url: format!("http://{host}:{}{path}", self.port), after: None };
        }
        let Service { namespace, name, port, .. } = &self.service;
        let local = self.local(cluster);
        let ports = if local == self.port { port.clone() } else { format!("{local}:{port}") };
        let after = format!("labimg port-forward --cluster {} -n {namespace} service/{name} {ports}", *cluster.name);
        Open { what, url: format!("{}{path}", at(local)), after: Some(after) }
    }

    /// The port of this machine that a forward takes: the service's own, unless that wants root's rights or is the lab's already.
    fn local(&self, cluster: &Cluster) -> u16 {
        let registry = cluster.registry.iter().map(|r| *r.port);
        let taken: Vec<u16> = cluster.ports.iter().map(|p| *p.host).chain(registry).collect();
        let usual = match self.role {
            Role::Traces => 16686,
            Role::Metrics => 9090,
        };
        let free = |port: &u16| *port >= 1024 && !taken.contains(port);
        [self.port, usual].into_iter().chain(usual..).find(free).unwrap_or(usual)
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
