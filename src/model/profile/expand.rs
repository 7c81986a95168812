//! `[observability]` written out: images, manifests, deploys and checks of the profile, as if the author had written them.
//!
//! The bundle's profile holds the result and not the table, so that `up` knows nothing of this and a bundle keeps its meaning
//! under a later labimg with other templates (`data/observability`).

use std::collections::BTreeSet;

use super::lab::{Check, CollectorMode, Deploy, HttpCheck, MetricCheck, Observability};
use super::types::{Image, Manifest, Profile};
use crate::model::image::ImageRef;
use crate::model::source_map::{Diagnostic, Loc, SourceMap};

/// Namespace where the table gives none.
const NAMESPACE: &str = "observability";

const JAEGER: &str = include_str!("../../../data/observability/jaeger.yaml");
const GATEWAY: &str = include_str!("../../../data/observability/otel-gateway.yaml");
const AGENT: &str = include_str!("../../../data/observability/otel-agent.yaml");
const PROMETHEUS: &str = include_str!("../../../data/observability/prometheus.yaml");

/// Replaces the table by what it says; gives what is wrong with it.
pub(super) fn expand(profile: &mut Profile, sources: &SourceMap) -> Vec<Diagnostic> {
    let Some(table) = profile.observability.take() else { return Vec::new() };
    let namespace = table.namespace.as_ref().map_or(NAMESPACE, |n| n.as_str()).to_owned();
    let mut stack = Stack { profile, sources, table: &table, namespace, found: Vec::new() };
    stack.look();
    if stack.found.is_empty() {
        stack.add();
    }
    stack.found
}

struct Stack<'a> {
    profile: &'a mut Profile,
    sources: &'a SourceMap,
    table: &'a Observability,
    namespace: String,
    found: Vec<Diagnostic>,
}

/// One part of the stack.
struct Part<'a> {
    /// Name of its manifest and deploy.
    name: &'static str,
    version: &'a Loc<String>,
    image: &'static str,
    /// What its tags have before the version.
    tag: &'static str,
    template: &'static str,
    ready: &'static str,
    /// Parts it comes after.
    after: Vec<&'static str>,
    fill: Vec<(&'static str, String)>,
}

impl Stack<'_> {
    /// What is wrong before anything is made of it.
    fn look(&mut self) {
        let table = self.table;
        if let Some(name) = table.namespace.as_ref().filter(|n| !is_label(n)) {
            let text = format!("`{}` is no name of a namespace: lower-case letters, digits and `-`", **name);
            self.found.push(Diagnostic::new(self.sources, &name.span(), text));
        }
        if let (None, Some(mode)) = (&table.collector, table.modes.first()) {
            let wrong = Diagnostic::new(self.sources, &mode.span(), "`modes` without a `collector`");
            self.found.push(wrong.hint("add the collector's version: collector = \"0.111.0\""));
        }
        if table.jaeger.is_none() && table.collector.is_none() && table.prometheus.is_none() {
            let wrong = Diagnostic::new(self.sources, &self.profile.name.span(), "`[observability]` asks for nothing");
            self.found.push(wrong.hint("give versions of `jaeger`, `collector`, `prometheus`"));
        }
    }

    fn add(&mut self) {
        let table = self.table;
        for part in parts(table, &self.namespace) {
            self.part(part);
        }
        if let Some(version) = &table.jaeger {
            let url = format!("jaeger.{}:16686/api/services", self.namespace);
            let http = HttpCheck {
                url,
                method: None,
                status: Some(200),
                header: Default::default(),
                json: Default::default(),
                contains: None,
            };
            self.check(version, "jaeger answers", |check| check.http = Some(http));
        }
        if let (Some(version), Some(_)) = (&table.prometheus, &table.collector) {
            let metric = MetricCheck {
                via: at(version, "prometheus"),
                query: "min(up{job=\"collectors\"})".to_owned(),
                min: Some(1.0),
                max: None,
            };
            self.check(version, "prometheus scrapes every collector", |check| check.metric = Some(metric));
        }
    }

    fn part(&mut self, part: Part<'_>) {
        let version = part.version;
        let reference = format!("{}:{}{}", part.image, part.tag, version.trim_start_matches('v'));
        let Ok(reference) = reference.parse::<ImageRef>() else {
            let text = format!("`{}` is no version: there can be no image `{reference}`", **version);
            self.found.push(Diagnostic::new(self.sources, &version.span(), text));
            return;
        };
        let other = self.profile.manifest.iter().map(|m| &m.name).find(|n| n.as_str() == part.name);
        let other = other.map(|n| n.span());
        self.clash(version, "manifest", part.name, other);
        let other = self.profile.deploy.iter().map(|d| &d.name).find(|n| n.as_str() == part.name).map(|n| n.span());
        self.clash(version, "deploy", part.name, other);
        let mut text = part.template.replace("@namespace@", &self.namespace);
        text = text.replace("@image@", &reference.to_string());
        for (key, value) in &part.fill {
            text = text.replace(key, value);
        }
        // An image that is there already may have platforms of its own.
        if !self.profile.image.iter().any(|i| *i.reference == reference) {
            let reference = at(version, reference);
            self.profile.image.push(Image { reference, build: None, platforms: Vec::new(), note: None });
        }
        self.profile.manifest.push(Manifest {
            name: at(version, part.name),
            url: None,
            path: None,
            text: Some(at(version, text)),
            cluster: self.table.cluster.clone(),
            sha256: None,
        });
        let mut after: Vec<Loc<String>> = part.after.iter().map(|name| at(version, *name)).collect();
        after.extend(self.table.after.iter().cloned());
        self.profile.deploy.push(Deploy {
            name: at(version, part.name),
            cluster: self.table.cluster.clone(),
            manifest: Some(at(version, part.name)),
            chart: None,
            istio: None,
            namespace: Some(self.namespace.clone()),
            after,
            ready: vec![at(version, part.ready)],
            timeout: None,
        });
    }

    fn check(&mut self, version: &Loc<String>, name: &str, fill: impl FnOnce(&mut Check)) {
        let other = self.profile.check.iter().map(|c| &c.name).find(|n| n.as_str() == name).map(|n| n.span());
        self.clash(version, "check", name, other);
        let mut check = Check {
            name: at(version, name),
            cluster: self.table.cluster.clone(),
            ready: Vec::new(),
            http: None,
            trace: None,
            metric: None,
            log: None,
            dns: None,
            ssh: None,
            images: false,
            namespace: None,
            timeout: Some(at(version, "120s")),
        };
        fill(&mut check);
        self.profile.check.push(check);
    }

    /// A name that the profile has, too.
    fn clash(&mut self, here: &Loc<String>, kind: &str, name: &str, other: Option<std::ops::Range<usize>>) {
        let Some(other) = other else { return };
        let text = format!("`[observability]` makes a {kind} called `{name}`, and the profile has one");
        let wrong = Diagnostic::new(self.sources, &here.span(), text).also(self.sources, &other, "the other one");
        self.found.push(wrong.hint(format!("call yours something else, or leave this {kind} to the table")));
    }
}

/// A value made from what is written at `place`.
fn at<T>(place: &Loc<String>, value: impl Into<T>) -> Loc<T> {
    Loc::new(value.into(), place.span())
}

/// The parts, each after what it needs: a collector whose Jaeger is not there yet waits longer after every attempt, and the
/// first traces then show half a minute late.
fn parts<'a>(table: &'a Observability, namespace: &str) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    if let Some(version) = &table.jaeger {
        parts.push(Part {
            name: "jaeger",
            version,
            image: "docker.io/jaegertracing/all-in-one",
            tag: "",
            template: JAEGER,
            ready: "deployment/jaeger",
            after: Vec::new(),
            fill: Vec::new(),
        });
    }
    if let Some(version) = &table.collector {
        collectors(table, version, namespace, &mut parts);
    }
    if let Some(version) = &table.prometheus {
        parts.push(Part {
            name: "prometheus",
            version,
            image: "docker.io/prom/prometheus",
            tag: "v",
            template: PROMETHEUS,
            ready: "deployment/prometheus",
            after: Vec::new(),
            fill: Vec::new(),
        });
    }
    parts
}

fn collectors<'a>(table: &'a Observability, version: &'a Loc<String>, namespace: &str, parts: &mut Vec<Part<'a>>) {
    let asked: BTreeSet<CollectorMode> = table.modes.iter().map(|m| **m).collect();
    let wanted = |mode| asked.is_empty() || asked.contains(&mode);
    let collector = |name, template, ready, to: Option<&'static str>| Part {
        name,
        version,
        image: "docker.io/otel/opentelemetry-collector",
        tag: "",
        template,
        ready,
        after: to.into_iter().collect(),
        fill: exporter(to, namespace, version),
    };
    let jaeger = table.jaeger.as_ref().map(|_| "jaeger");
    let mut next = jaeger;
    if wanted(CollectorMode::Gateway) {
        parts.push(collector("otel-gateway", GATEWAY, "deployment/otel-gateway", jaeger));
        next = Some("otel-gateway");
    }
    if wanted(CollectorMode::Agent) {
        parts.push(collector("otel-agent", AGENT, "daemonset/otel-agent", next));
    }
}

/// What a collector's configuration says of where spans go, and where it shows its own metrics.
fn exporter(to: Option<&str>, namespace: &str, version: &str) -> Vec<(&'static str, String)> {
    let (name, exporter) = match to {
        Some(service) => (
            "otlp",
            format!(
                "otlp: {{ endpoint: \"{service}.{namespace}.svc:4317\", tls: {{ insecure: true }}, \
                 retry_on_failure: {{ initial_interval: 1s, max_interval: 5s }} }}"
            ),
        ),
        None => ("debug", "debug: {}".to_owned()),
    };
    // `address` was replaced by `readers` and is refused since 0.123; 0.111 does not know all of `readers` yet.
    let minor = version.trim_start_matches('v').split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
    let telemetry = match minor {
        Some(minor) if minor < 118 => "address: \"0.0.0.0:8888\"",
        _ => "readers: [{ pull: { exporter: { prometheus: { host: 0.0.0.0, port: 8888 } } } }]",
    };
    vec![("@exporter-name@", name.to_owned()), ("@exporter@", exporter), ("@telemetry@", telemetry.to_owned())]
}

/// A DNS label (RFC 1123), as Kubernetes wants it of a namespace.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest;
    use crate::model::profile::{ProfileError, parse};

    fn lab(more: &str) -> Result<Profile, ProfileError> {
        let text = format!(
            "schema = 1\nname = \"x\"\n[[cluster]]\nname = \"c\"\nengine = \"kind\"\nkubernetes = \"v1.34.0\"\n{more}"
        );
        let mut none = |_: &str| Err(String::new());
        parse("x.toml", &text, &mut none).map(|loaded| loaded.profile)
    }

    const ALL: &str = "[observability]\njaeger = \"1.62.0\"\ncollector = \"0.111.0\"\nprometheus = \"3.5.0\"\n";

    #[test]
    fn the_table_becomes_ordinary_tables() {
        let profile = lab(ALL).unwrap();
        assert!(profile.observability.is_none());
        let deploys: Vec<(&str, Vec<&str>)> =
            profile.deploy.iter().map(|d| (d.name.as_str(), d.after.iter().map(|a| a.as_str()).collect())).collect();
        let want = [
            ("jaeger", vec![]),
            ("otel-gateway", vec!["jaeger"]),
            ("otel-agent", vec!["otel-gateway"]),
            ("prometheus", vec![]),
        ];
        assert_eq!(deploys, want);
        let images: Vec<String> = profile.image.iter().map(|i| i.reference.to_string()).collect();
        let want = [
            "docker.io/jaegertracing/all-in-one:1.62.0",
            "docker.io/otel/opentelemetry-collector:0.111.0",
            "docker.io/prom/prometheus:v3.5.0",
        ];
        assert_eq!(images, want);
        for manifest in &profile.manifest {
            let text = manifest.text.as_ref().unwrap();
            assert!(
                !text.contains("@namespace") && !text.contains("@image") && !text.contains("@exporter"),
                "{}",
                **text
            );
            let objects = manifest::parse(text).unwrap();
            let uses: Vec<String> = objects.iter().flat_map(manifest::images).map(|u| u.reference).collect();
            assert!(uses.len() == 1 && uses.iter().all(|u| images.contains(u)), "{uses:?}");
            for object in objects.iter().filter(|o| o.kind() == "ConfigMap") {
                let texts = object.value["data"].as_object().unwrap();
                // Their own YAML is well-formed, too.
                for text in texts.values().filter_map(|v| v.as_str()) {
                    manifest::parse(&format!("apiVersion: v1\nkind: Inner\n{text}")).unwrap();
                }
            }
        }
        // As a bundle carries it, and read again, it is the same.
        let text = toml::to_string(&profile).unwrap();
        assert!(!text.contains("[observability]"));
        let mut none = |_: &str| Err(String::new());
        assert_eq!(parse("x.toml", &text, &mut none).unwrap().profile, profile);
    }

    #[test]
    fn parts_can_be_left_out() {
        let text = "[observability]\njaeger = \"1.62.0\"\ncollector = \"0.130.0\"\nmodes = [\"agent\"]\nnamespace = \"o11y\"\n";
        let profile = lab(text).unwrap();
        let names: Vec<&str> = profile.deploy.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["jaeger", "otel-agent"]);
        let agent = profile.manifest[1].text.as_ref().unwrap();
        assert!(agent.contains("jaeger.o11y.svc:4317") && agent.contains("readers:"), "{}", **agent);
        let alone = lab("[observability]\ncollector = \"0.111.0\"\n").unwrap();
        assert!(alone.manifest[0].text.as_ref().unwrap().contains("exporters: [debug]"));
    }

    #[test]
    fn what_does_not_fit_is_told_at_the_table() {
        for (more, text) in [
            ("[observability]\n", "asks for nothing"),
            ("[observability]\njaeger = \"1\"\nmodes = [\"agent\"]\n", "without a `collector`"),
            ("[observability]\njaeger = \"a b\"\n", "is no version"),
            ("[observability]\njaeger = \"1\"\nnamespace = \"No\"\n", "namespace"),
            ("[observability]\njaeger = \"1\"\nafter = [\"nobody\"]\n", "no deploy called `nobody`"),
            ("[observability]\njaeger = \"1\"\ncluster = \"nowhere\"\n", "no cluster called `nowhere`"),
            (
                "[observability]\njaeger = \"1\"\n[[manifest]]\nname = \"jaeger\"\ntext = \"\"\n",
                "makes a manifest called `jaeger`",
            ),
        ] {
            let error = lab(more).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
