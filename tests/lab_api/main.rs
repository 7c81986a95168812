//! Checks, logs, forwards and names through a cluster's API, played by a small server of ours.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod fake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::build::bundle::describe;
use labimg::lab::kube::{Api, dns};
use labimg::lab::logs::{self, LogOptions};
use labimg::lab::port_forward::{self, To};
use labimg::lab::state::{ClusterFile, LabFile};
use labimg::lab::verify::{Broke, Options, Outcome, Report, junit, verify};
use labimg::lab::{Machine, Session};
use labimg::model::lock::{Lock, LockedImage, LockedManifest, wire};
use labimg::model::platform::Platform;
use labimg::model::profile::{Port, Protocol};
use labimg::model::source_map::Loc;
use labimg::store::bundle;
use labimg::store::image::OCI_MANIFEST;
use labimg::store::{Access, Store};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use fake::{Cluster, Shared, pod};

/// A session over a bundle with one image; gives the digests of its manifest and its configuration.
fn session(dir: &Path, checks: &str) -> (Session, Digest, Digest) {
    let store = Store::open(&dir.join("store"), Access::Shared).unwrap();
    let config = store.put(br#"{"architecture":"amd64","os":"linux"}"#).unwrap();
    let text = json!({ "schemaVersion": 2, "layers": [], "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 37 } })
    .to_string();
    let manifest = store.put(text.as_bytes()).unwrap();
    let locked = LockedManifest { media_type: OCI_MANIFEST.into(), digest: manifest, size: text.len() as u64 };
    let image = LockedImage {
        reference: "docker.io/library/app:1".parse().unwrap(),
        source: None,
        media_type: OCI_MANIFEST.into(),
        digest: manifest,
        size: text.len() as u64,
        platforms: [(Platform::LinuxAmd64, locked)].into(),
    };
    let lock = Lock { name: "lab".into(), images: vec![image], ..Lock::default() };
    let profile = format!(
        "schema = 1\nname = 'lab'\n[[image]]\nref = 'app:1'\n[[cluster]]\nname = 'main'\nengine = 'kind'\nkubernetes = 'v1.34.0'\n\
         [[manifest]]\nname = 'jaeger'\nurl = 'https://example.com/jaeger.yaml'\n\
         [[deploy]]\nname = 'jaeger'\nmanifest = 'jaeger'\nnamespace = 'obs'\n{checks}"
    );
    let description = describe(&profile, &wire::to_text(&lock).unwrap(), &lock, &[], &store).unwrap();
    let path = dir.join("lab.labimg");
    bundle::write(&description, &store, &path, bundle::Options { threads: 1, sync: false }, &Silent).unwrap();
    let machine = Machine { state_root: dir.join("state"), ..Machine::default() };
    (Session::open(&path, machine, Arc::new(Silent)).unwrap(), manifest, config)
}

async fn verified(session: &Session, api: &Api) -> Report {
    verify(session, &BTreeMap::from([("main".to_owned(), api.clone())]), &Options::default()).await.unwrap()
}

/// A server on loopback that answers with what it was asked.
async fn echo() -> u16 {
    let answer = |request: Request| async move {
        let trace = request.headers().get("traceparent").map(|v| v.to_str().unwrap().to_owned());
        let path = request.uri().to_string();
        let length = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap().len();
        format!(r#"{{"path":"{path}","trace":"{}","length":{length}}}"#, trace.unwrap_or_default())
    };
    serve(Router::new().fallback(answer)).await
}

async fn serve(app: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

#[tokio::test]
async fn a_lab_is_verified_through_its_api() {
    let dir = tempfile::tempdir().unwrap();
    let checks = r#"
        [[check]]
        name = "the shop answers"
        http = { url = "web.shop:80/hello?a=b", json = { "$.path" = "/hello?a=b" } }
        [[check]]
        name = "it says so"
        namespace = "shop"
        log = { of = "deployment/web", contains = "listening" }
        [[check]]
        name = "nothing from outside"
        images = true
        [[check]]
        name = "nothing there"
        timeout = "1s"
        http = { url = "gone.shop:80/" }
        [[check]]
        name = "nobody says that"
        timeout = "1s"
        namespace = "shop"
        log = { of = "deployment/web", contains = "<never>" }
    "#;
    let (session, manifest, config) = session(dir.path(), checks);
    let node = Digest::of(b"of the node");
    let file = ClusterFile { node_images: vec![node], ..ClusterFile::default() };
    let file = LabFile { name: "lab".into(), clusters: [("main".to_owned(), file)].into(), ..LabFile::default() };
    session.state.write(&file).unwrap();
    let web = json!({ "app": "web" });
    let cluster: Shared = Arc::new(Mutex::new(Cluster {
        pods: vec![
            pod("shop", "web-1", "app:1", &format!("docker.io/library/app@{manifest}"), &web),
            pod("shop", "web-2", "app:1", &config.to_string(), &web),
            pod("kube-system", "etcd", "registry.k8s.io/etcd:3", &format!("import@{node}"), &json!({})),
        ],
        deployments: vec![json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": {} } })],
        logs: [
            ("web-1/main".to_owned(), "start\n".to_owned()),
            ("web-2/main".to_owned(), "start\nlistening at 80\n".to_owned()),
        ]
        .into(),
        proxies: [("web".to_owned(), format!("http://127.0.0.1:{}", echo().await))].into(),
        ..Cluster::default()
    }));
    let api = fake::start(Arc::clone(&cluster), dir.path()).await;
    let report = verified(&session, &api).await;
    let seen: Vec<_> = report.checks.iter().map(|c| (c.outcome, c.detail.as_str())).collect();
    assert_eq!(seen[0], (Outcome::Passed, "200, $.path = /hello?a=b"), "{report:#?}");
    assert_eq!(seen[1], (Outcome::Passed, "web-2: listening at 80"), "{report:#?}");
    assert_eq!(
        seen[2],
        (Outcome::Passed, "2 images from the bundle, 1 from the node image, 0 pushed here"),
        "{report:#?}"
    );
    assert_eq!((seen[3].0, seen[4].0), (Outcome::Failed, Outcome::Failed));
    assert!(report.checks[3].reasons[0].contains("503 (no endpoints available for service)"), "{report:#?}");
    assert!(
        report.checks[4].reasons[0].contains("no line holds `<never>`; looked at: web-1/main, web-2/main"),
        "{report:#?}"
    );
    assert!(report.checks[0].at.as_ref().unwrap().starts_with("labimg/profile.toml:"), "{report:#?}");
    assert!(junit(&report).contains("failures=\"2\""));
    println!("{}", serde_json::to_string_pretty(&report).unwrap());

    let stranger = Digest::of(b"stranger");
    cluster.lock().unwrap().pods.push(pod(
        "shop",
        "odd",
        "evil:1",
        &format!("docker.io/library/evil@{stranger}"),
        &web,
    ));
    let options = Options { only: vec!["images".to_owned()] };
    let apis = BTreeMap::from([("main".to_owned(), api)]);
    let ended =
        tokio::time::timeout(Duration::from_secs(90), verify(&session, &apis, &options)).await.unwrap().unwrap();
    let why = ended.checks[0].reasons.join("\n");
    assert!(
        why.contains("`evil:1` runs as") && why.contains("shop/odd (main)") && why.contains("labimg lock"),
        "{why}"
    );
}

/// A Jaeger without traces, and a collector that can not pass on.
#[tokio::test]
async fn a_missing_trace_says_where_the_chain_broke() {
    let dir = tempfile::tempdir().unwrap();
    let checks = r#"
        [[check]]
        name = "the request is traced"
        timeout = "1s"
        trace = { via = "jaeger", service = "web", request = { url = "web.shop:80/" } }
    "#;
    let (session, ..) = session(dir.path(), checks);
    let jaeger = Router::new().fallback(|request: Request| async move {
        let services = request.uri().path() == "/api/services";
        let status = if services { 200 } else { 404 };
        let body = if services {
            r#"{"data":[]}"#
        } else {
            r#"{"data":null,"errors":[{"code":404,"msg":"trace not found"}]}"#
        };
        (axum::http::StatusCode::from_u16(status).unwrap(), body)
    });
    let metrics = Router::new().fallback(|| async {
        "otelcol_receiver_accepted_spans_total{receiver=\"otlp\"} 12\n\
         otelcol_exporter_send_failed_spans_total{exporter=\"otlp\"} 12\n"
    });
    let (jaeger, metrics) = (serve(jaeger).await, serve(metrics).await);
    let mut agent = pod("obs", "agent", "example.com/otelcol:1", "", &json!({}));
    agent["spec"]["hostNetwork"] = json!(true);
    let log = "2026\tinfo\tretry\tExporting failed. Will retry.\t{\"error\": \"no such host jaeger\"}\n";
    let cluster: Shared = Arc::new(Mutex::new(Cluster {
        pods: vec![agent, pod("obs", "jaeger", "jaegertracing/all-in-one:1.62.0", "", &json!({}))],
        services: vec![
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "jaeger", "namespace": "obs" },
            "spec": { "ports": [{ "port": 16686 }] } }),
        ],
        logs: [("agent/main".to_owned(), log.to_owned())].into(),
        proxies: [
            ("web".to_owned(), format!("http://127.0.0.1:{}", echo().await)),
            ("jaeger".to_owned(), format!("http://127.0.0.1:{jaeger}")),
        ]
        .into(),
        ports: [("agent:8888".to_owned(), metrics)].into(),
        ..Cluster::default()
    }));
    let api = fake::start(cluster, dir.path()).await;
    let report = verified(&session, &api).await;
    let check = &report.checks[0];
    assert!(check.reasons[0].contains("the request was answered, but Jaeger has no trace"), "{check:#?}");
    let chain = check.chain.as_ref().unwrap();
    assert_eq!(chain.broke, Broke::Forwarded, "{chain:#?}");
    assert_eq!(
        chain.lines[1], "the agent on node n1 received 12 spans, sent 0 on, failed to send 12: no such host jaeger",
        "{chain:#?}"
    );
    let silent = chain.store.as_ref().unwrap().silent.as_ref().unwrap();
    assert!(silent.contains("connection refused"), "{silent}");
}

/// A Jaeger with one trace, below `/jaeger`; every other path is a page.
fn one_trace() -> Router {
    let trace =
        json!({ "data": [{ "traceID": "abc", "spans": [{ "spanID": "1", "operationName": "x", "processID": "p1" }],
        "processes": { "p1": { "serviceName": "web" } } }] })
        .to_string();
    Router::new().fallback(move |request: Request| {
        let body = match request.uri().path() {
            "/jaeger/api/services" => r#"{"data":["web"]}"#.to_owned(),
            path if path.starts_with("/jaeger/api/traces") => trace.clone(),
            _ => "<html>a page</html>".to_owned(),
        };
        async move { body }
    })
}

/// Links lead where the profile's ports lead: by the node port of a second service, or through a gateway.
#[tokio::test]
async fn links_are_built_from_the_ports_that_the_profile_states() {
    let dir = tempfile::tempdir().unwrap();
    let checks = "[[check]]\nname = 't'\ntimeout = '5s'\ntrace = { via = 'jaeger', service = 'web' }\n";
    let (mut session, ..) = session(dir.path(), checks);
    let service = |name: &str, port: serde_json::Value| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "obs" },
            "spec": { "selector": { "app": "jaeger" }, "ports": [port] } })
    };
    let (jaeger, other) = (serve(one_trace()).await, serve(Router::new().fallback(|| async { "{\"data\":[]}" })).await);
    let query = service("jaeger", json!({ "name": "http-query", "port": 80, "targetPort": 16686 }));
    let cluster: Shared = Arc::new(Mutex::new(Cluster {
        services: vec![query],
        proxies: [("jaeger".to_owned(), format!("http://127.0.0.1:{jaeger}"))].into(),
        ..Cluster::default()
    }));
    let api = fake::start(Arc::clone(&cluster), dir.path()).await;
    let port = |host: u16, node: u16| Port { host: Loc::made(host), node: Loc::made(node), protocol: Protocol::Tcp };
    let link = async |session: &Session| {
        let report = verified(session, &api).await;
        assert_eq!(report.checks[0].outcome, Outcome::Passed, "{report:#?}");
        report.checks[0].open[0].clone()
    };
    // No port leads there: after a forward, which takes no port that wants root's rights.
    session.profile.cluster[0].ports = vec![port(other, 30081)];
    let open = link(&session).await;
    assert_eq!(open.url, "http://localhost:16686/jaeger/trace/abc");
    assert!(open.after.unwrap().ends_with("-n obs service/jaeger 16686:80"));
    // A gateway that knows the way; the port that something else answers at is not it.
    session.profile.cluster[0].ports = vec![port(other, 30081), port(jaeger, 30080)];
    let open = link(&session).await;
    assert_eq!((open.url, open.after), (format!("http://localhost:{jaeger}/jaeger/trace/abc"), None));
    // A second service that gives the same pods a node port.
    let twin = service("jaeger-port", json!({ "port": 8000, "targetPort": 16686, "nodePort": 30686 }));
    cluster.lock().unwrap().services.push(twin);
    session.profile.cluster[0].ports = vec![port(other, 30081), port(9, 30686)];
    let open = link(&session).await;
    assert_eq!((open.url.as_str(), open.after), ("http://localhost:9/jaeger/trace/abc", None));
}

#[tokio::test]
async fn a_forward_outlives_its_pods() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (echo().await, echo().await);
    let web = json!({ "app": "web" });
    let cluster: Shared = Arc::new(Mutex::new(Cluster {
        pods: vec![pod("shop", "web-1", "app", "", &web)],
        services: vec![
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] } }),
        ],
        ports: [("web-1:8080".to_owned(), first)].into(),
        ..Cluster::default()
    }));
    let api = fake::start(Arc::clone(&cluster), dir.path()).await;
    let to =
        |target: &str, port: &str| To { namespace: "shop".into(), target: target.parse().unwrap(), port: port.into() };
    for (target, port) in [("service/web", "81"), ("service/gone", "80"), ("pod/gone", "80")] {
        assert!(port_forward::open(&api, &to(target, port), 0, Arc::new(Silent)).await.is_err(), "{target}");
    }
    let forward = port_forward::open(&api, &to("service/web", "80"), 0, Arc::new(Silent)).await.unwrap();
    let url = format!("http://{}/x", forward.local);
    let client = || reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    assert!(client().get(&url).send().await.unwrap().text().await.unwrap().contains("/x"));
    // The pod stops listening, then is replaced: a request sent meanwhile is answered by the new one.
    cluster.lock().unwrap().ports.clear();
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { client().post(&url).body(vec![b'x'; 10_000]).send().await.unwrap().status().as_u16() }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    {
        let mut cluster = cluster.lock().unwrap();
        cluster.pods = vec![pod("shop", "web-2", "app", "", &web)];
        cluster.ports.insert("web-2:8080".to_owned(), second);
    }
    assert_eq!(waiting.await.unwrap(), 200);
    // Bodies larger than what is kept for another try, both ways at once.
    let big = client().post(&url).body(vec![b'x'; 1 << 20]).send().await.unwrap();
    assert!(big.text().await.unwrap().contains("\"length\":1048576"));
    let local = forward.local;
    forward.stop().await;
    assert!(TcpStream::connect(local).await.is_err());
}

#[tokio::test]
async fn names_are_resolved_through_a_dns_pod() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A DNS server that knows one address: A 10.96.0.7 for every name that starts with `web`.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut asked = vec![0; usize::from(length)];
                    stream.read_exact(&mut asked).await.unwrap();
                    let (known, a) = (&asked[13..16] == b"web", asked[asked.len() - 3] == 1);
                    let mut text = asked[..2].to_vec();
                    text.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(known && a), 0, 0, 0, 0]);
                    text.extend(&asked[12..]);
                    if known && a {
                        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 7]);
                    }
                    stream.write_u16(text.len() as u16).await.unwrap();
                    stream.write_all(&text).await.unwrap();
                }
            });
        }
    });
    let cluster: Shared = Arc::new(Mutex::new(Cluster::default()));
    let api = fake::start(Arc::clone(&cluster), dir.path()).await;
    let none = dns::resolve(&api, "web.shop.svc.cluster.local").await.unwrap_err().to_string();
    assert!(none.contains("no ready pod"), "{none}");
    cluster.lock().unwrap().pods =
        vec![pod("kube-system", "coredns-1", "coredns", "", &json!({ "k8s-app": "kube-dns" }))];
    let refused = dns::resolve(&api, "web.shop.svc.cluster.local").await.unwrap_err().to_string();
    assert!(refused.contains("kube-system/coredns-1"), "{refused}");
    cluster.lock().unwrap().ports.insert("coredns-1:53".to_owned(), port);
    let found = dns::resolve(&api, "web.shop.svc.cluster.local").await.unwrap();
    assert_eq!(found, ["10.96.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert!(dns::resolve(&api, "gone.shop.svc.cluster.local").await.unwrap().is_empty());
}

#[tokio::test]
async fn logs_of_all_pods_come_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let web = json!({ "app": "web" });
    let cluster: Shared = Arc::new(Mutex::new(Cluster {
        pods: vec![pod("shop", "web-1", "app", "", &web), pod("shop", "web-2", "app", "", &web)],
        logs: [("web-1/main".to_owned(), "a\nb\n".to_owned()), ("web-2/main".to_owned(), "c".to_owned())].into(),
        services: vec![
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "selector": { "app": "web" } } }),
        ],
        ..Cluster::default()
    }));
    let api = fake::start(Arc::clone(&cluster), dir.path()).await;
    let targets = ["service/web".parse().unwrap(), "pod/web-1".parse().unwrap()];
    let mut lines = Vec::new();
    let mut take = |line: logs::Line| lines.push(format!("{}: {}", line.pod, line.text));
    logs::stream(&api, "shop", &targets, &LogOptions::default(), &mut take).await.unwrap();
    lines.sort();
    assert_eq!(lines, ["web-1: a", "web-1: b", "web-2: c"]);
    // Following: a pod that comes later is read, too.
    let mut lines = Vec::new();
    let mut take = |line: logs::Line| lines.push(line.text);
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let followed = logs::stream(&api, "shop", &targets[..1], &options, &mut take);
    let later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut cluster = cluster.lock().unwrap();
        cluster.pods.push(pod("shop", "web-3", "app", "", &web));
        cluster.logs.insert("web-3/main".to_owned(), "late".to_owned());
    };
    let _ = tokio::time::timeout(Duration::from_secs(4), async { tokio::join!(followed, later) }).await;
    assert!(lines.contains(&"late".to_owned()), "{lines:?}");
}
