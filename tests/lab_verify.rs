//! Checks against a real Jaeger and a real Collector on loopback, and against servers that hang, fail and lie.
//!
//! The real ones are parts of the testbed (`tests/testbed/parts`); without them those tests say that they did not run.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use labimg::lab::verify::ask::At;
use labimg::lab::verify::chain::{self, Broke, Collector, Store};
use labimg::lab::verify::jaeger::Jaeger;
use labimg::lab::verify::look::{Look, until};
use labimg::lab::verify::{metric, page, trace};
use labimg::model::profile::{HttpCheck, MetricCheck, TraceCheck};
use serde_json::{Value, json};

fn part(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    let path = PathBuf::from(home).join(".cache/labimg/parts").join(name);
    if !path.is_file() {
        println!("NOT RUN: `{name}` is not among the testbed's parts");
        return None;
    }
    Some(path)
}

/// A program of ours that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [u16; N] {
    let open: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|i| open[i].local_addr().unwrap().port())
}

async fn answers(url: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let start = Instant::now();
    while client.get(url).send().await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "{url} does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct RealJaeger {
    _child: Running,
    query: At,
    admin: String,
    otlp: u16,
    otlp_grpc: u16,
}

async fn jaeger(base: &str) -> Option<RealJaeger> {
    let program = part("all-in-one")?;
    let [query, query_grpc, admin, otlp, otlp_grpc, grpc, http, sampling] = ports();
    let at = |flag: &str, port: u16| format!("--{flag}=127.0.0.1:{port}");
    let child = Command::new(program)
        .args([
            at("query.http-server.host-port", query),
            at("query.grpc-server.host-port", query_grpc),
            at("admin.http.host-port", admin),
            at("collector.otlp.http.host-port", otlp),
            at("collector.otlp.grpc.host-port", otlp_grpc),
            at("collector.grpc-server.host-port", grpc),
            at("collector.http-server.host-port", http),
            at("http-server.host-port", sampling),
            format!("--query.base-path={base}"),
            "--processor.jaeger-compact.server-host-port=127.0.0.1:0".to_owned(),
            "--processor.jaeger-binary.server-host-port=127.0.0.1:0".to_owned(),
            "--processor.zipkin-compact.server-host-port=127.0.0.1:0".to_owned(),
            "--log-level=error".to_owned(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Running(child);
    answers(&format!("http://127.0.0.1:{admin}/")).await;
    answers(&format!("http://127.0.0.1:{query}/")).await;
    answers(&format!("http://127.0.0.1:{otlp}/")).await;
    let query = At(format!("http://127.0.0.1:{query}"));
    Some(RealJaeger { _child: child, query, admin: format!("http://127.0.0.1:{admin}"), otlp, otlp_grpc })
}

/// One span: service, id, parent, name, milliseconds.
type Span<'a> = (&'a str, &'a str, &'a str, &'a str, u64);

/// Posts spans of one trace as OTLP over HTTP (OTLP, "JSON Protobuf Encoding").
async fn send(port: u16, trace: &str, spans: &[Span<'_>]) -> Result<(), reqwest::Error> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let resource = |(service, id, parent, name, ms): &Span<'_>| -> Value {
        let attribute = json!({ "key": "service.name", "value": { "stringValue": service } });
        json!({ "resource": { "attributes": [attribute] }, "scopeSpans": [{ "spans": [{
            "traceId": trace, "spanId": id, "parentSpanId": parent, "name": name, "kind": 2,
            "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + ms * 1_000_000).to_string() }] }] })
    };
    let body = json!({ "resourceSpans": spans.iter().map(resource).collect::<Vec<_>>() });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://127.0.0.1:{port}/v1/traces");
    client.post(url).json(&body).send().await?.error_for_status().map(drop)
}

fn check(text: &str) -> TraceCheck {
    toml::from_str(&format!("via = 'jaeger'\n{text}")).unwrap()
}

async fn traced(jaeger: &RealJaeger, text: &str, seconds: u64) -> Result<String, Vec<String>> {
    let check = check(text);
    let ended = until(Duration::from_secs(seconds), || trace::look(&check, &jaeger.query, None)).await;
    ended.result.map(|seen| seen.detail)
}

#[tokio::test]
async fn a_real_jaegers_traces_are_judged() {
    for base in ["/", "/jaeger"] {
        let Some(jaeger) = jaeger(base).await else { return };
        let why = traced(&jaeger, "service = 'front'", 1).await.unwrap_err();
        assert!(why[0].starts_with("Jaeger knows no service `front`; it has: "), "{why:?}");
        let one = "0af7651916cd43dd8448eb211c80319c";
        let spans = [
            ("front", "00000000000000a1", "", "GET /", 3000),
            ("back", "00000000000000a2", "00000000000000a1", "work", 2000),
        ];
        send(jaeger.otlp, one, &spans).await.unwrap();
        // Both services, but not in one trace.
        send(jaeger.otlp, "00000000000000000000000000000b01", &[("db", "00000000000000b1", "", "SELECT", 5)])
            .await
            .unwrap();
        let all = "service = 'front'\nservices = ['back']\noperation = 'GET /'\noperations = ['work']\nmin-spans = 2\n\
                   min-duration = '3s'\nparents = [{ parent = 'front', child = 'back' }]";
        let seen = traced(&jaeger, all, 20).await.unwrap();
        assert_eq!(seen, format!("trace {one}: 2 spans of back, front in 3s"));
        for (text, why) in [
            ("service = 'front'\nservices = ['db']", "service `db` is not in it"),
            (
                "service = 'front'\noperation = 'POST /'",
                "Jaeger has no trace of service `front` with operation `POST /`",
            ),
            ("service = 'back'\nmin-duration = '1m'", "it took 3s, less than 60s"),
            (
                "service = 'back'\nparents = [{ parent = 'back', child = 'front' }]",
                "no span of `front` has a span of `back`",
            ),
        ] {
            let against = traced(&jaeger, text, 1).await.unwrap_err();
            assert!(against[0].contains(why), "{against:?}");
        }
    }
}

#[tokio::test]
async fn only_the_requests_own_trace_counts() {
    let Some(jaeger) = jaeger("/").await else { return };
    let text = "service = 'front'\nrequest = { url = 'http://127.0.0.1:1/' }";
    let other = "0af7651916cd43dd8448eb211c80319c";
    send(jaeger.otlp, other, &[("front", "00000000000000a1", "", "GET /", 3)]).await.unwrap();
    let sent = trace::Sent::default();
    let own = trace::Own::random().unwrap();
    sent.add(own.clone());
    let look = trace::look(&check(text), &jaeger.query, Some(&sent)).await;
    let Look::NotYet(why) = look else { panic!("{look:?}") };
    assert!(why[0].contains("has no trace") && why[0].contains(&own.trace), "{why:?}");
    send(jaeger.otlp, &own.trace, &[("front", "00000000000000c1", &own.span, "GET /", 3)]).await.unwrap();
    let check = check(text);
    let ended = until(Duration::from_secs(10), || trace::look(&check, &jaeger.query, Some(&sent))).await;
    let seen = ended.result.unwrap();
    assert!(seen.detail.contains("1 span of front"), "{seen:?}");
    assert!(seen.open[0].url.starts_with("/trace/"), "{seen:?}");
}

async fn metrics(url: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

/// The chain as a real collector and a real Jaeger tell it, link by link.
#[tokio::test]
async fn real_metrics_say_where_the_chain_broke() {
    let (Some(jaeger), Some(program)) = (jaeger("/").await, part("otelcol")) else { return };
    let [grpc, http, own, nowhere] = ports();
    for (target, sends, broke) in [
        (jaeger.otlp_grpc, false, Broke::Sent),
        (nowhere, true, Broke::Forwarded),
        (jaeger.otlp_grpc, true, Broke::Content),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{grpc}}}, http: {{endpoint: 127.0.0.1:{http}}}}}}}}}\n\
             exporters: {{otlp: {{endpoint: 127.0.0.1:{target}, tls: {{insecure: true}}, retry_on_failure: {{enabled: false}}}}}}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlp]}}}}, telemetry: {{metrics: {{address: 127.0.0.1:{own}}}}}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let child =
            Command::new(&program).arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let _child = Running(child.unwrap());
        let url = format!("http://127.0.0.1:{own}");
        answers(&url).await;
        answers(&format!("http://127.0.0.1:{http}/")).await;
        if sends {
            let trace = "0af7651916cd43dd8448eb211c80319c";
            send(http, trace, &[("front", "00000000000000a1", "", "GET /", 3)]).await.unwrap();
        }
        let start = Instant::now();
        loop {
            let agent = Collector { pod: "obs/agent".into(), node: "n1".into(), agent: true, ..Collector::default() };
            let services = Jaeger::find(&jaeger.query).await.unwrap().1;
            let services = services.into_iter().filter(|s| s == "front").collect();
            let store = Store { services, ..Store::default() }.read(&metrics(&jaeger.admin).await);
            // Jaeger traces its own query service: that is nobody's span here.
            let store = if store.services.is_empty() { Store { saved: 0, received: 0, ..store } } else { store };
            let found = chain::judge(vec![agent.read(&metrics(&url).await)], Some(store));
            if found.broke == broke {
                println!("{broke:?}: {:#?}", found.lines);
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{broke:?}: {found:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

// ---------------------------------------------------------------- servers that are none

async fn serve(app: Router) -> At {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = At(format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

async fn not_yet(app: Router, part: &str) {
    let at = serve(app).await;
    let look = trace::look(&check("service = 'front'"), &at, None).await;
    let Look::NotYet(why) = look else { panic!("{look:?}") };
    assert!(why.join("\n").contains(part), "{part}: {why:?}");
    let metric: MetricCheck = toml::from_str("via = 'p'\nquery = 'up'").unwrap();
    let look = metric::look(&metric, &at).await;
    assert!(matches!(look, Look::NotYet(_)), "{look:?}");
}

#[tokio::test]
async fn faults_are_reasons() {
    let every = |answer: (u16, &'static str)| {
        let status = axum::http::StatusCode::from_u16(answer.0).unwrap();
        Router::new().fallback(move || std::future::ready((status, answer.1)))
    };
    not_yet(every((500, "boom")), "answered 500 (boom)").await;
    not_yet(every((503, r#"{"kind":"Status","message":"no endpoints available"}"#)), "no endpoints available").await;
    not_yet(every((200, "<html>")), "no such JSON").await;
    not_yet(every((200, "{}")), "Jaeger knows no service `front`; it has: none").await;
    not_yet(every((200, r#"{"data":{"a":1}}"#)), "no such JSON").await;
    not_yet(every((200, r#"{"data":["front",null]}"#)), "no such JSON").await;
    let deep: &'static str = Box::leak("[".repeat(100_000).into_boxed_str());
    not_yet(every((200, deep)), "no such JSON").await;
    let huge = Router::new().fallback(|| async { vec![b' '; 33 << 20] });
    not_yet(huge, "larger than").await;
    let at = At("http://127.0.0.1:1".to_owned());
    assert!(
        matches!(trace::look(&check("service = 'x'"), &at, None).await, Look::NotYet(why) if why[0].contains("refused"))
    );
}

#[tokio::test]
async fn a_service_that_hangs_ends_with_its_time() {
    let at = serve(Router::new().fallback(std::future::pending::<&str>)).await;
    let start = Instant::now();
    let check = check("service = 'front'");
    let ended = until(Duration::from_secs(2), || trace::look(&check, &at, None)).await;
    assert!(ended.result.unwrap_err()[0].contains("no answer within 2 s"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn prometheus_is_asked() {
    let vector =
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"otel"},"value":[1,"42"]}]}}"#;
    let bad = r#"{"status":"error","errorType":"bad_data","error":"1:3: parse error: unexpected end of input"}"#;
    let targets = r#"{"status":"success","data":{"activeTargets":[{"scrapePool":"otel","scrapeUrl":"http://10.0.0.1:8888/metrics",
        "lastError":"connection refused","health":"down"},{"scrapePool":"otel","scrapeUrl":"x","lastError":"","health":"up"}]}}"#;
    let query = move |axum::extract::Query(q): axum::extract::Query<Vec<(String, String)>>| async move {
        match q.first().map(|(_, v)| v.as_str()) {
            Some("sum(up{job=\"otel\"} + 1)") => (axum::http::StatusCode::OK, vector),
            _ => (axum::http::StatusCode::BAD_REQUEST, bad),
        }
    };
    let app =
        Router::new().route("/api/v1/query", get(query)).route("/api/v1/targets", get(move || async move { targets }));
    let at = serve(app).await;
    let check = |text: &str| -> MetricCheck { toml::from_str(&format!("via = 'p'\n{text}")).unwrap() };
    let look = metric::look(&check("query = 'sum(up{job=\"otel\"} + 1)'\nmin = 42"), &at).await;
    assert_eq!(look, Look::seen(r#"{"job":"otel"} 42"#));
    let look = metric::look(&check("query = 'sum('"), &at).await;
    assert!(matches!(&look, Look::Never(why) if why[0].contains("parse error")), "{look:?}");
    let lines = metric::targets(&at).await.unwrap();
    assert_eq!(lines[0], "Prometheus scrapes 2 targets, 1 of them up");
    assert_eq!(lines[1], "http://10.0.0.1:8888/metrics (otel): connection refused");
}

#[tokio::test]
async fn a_page_is_looked_at_from_this_machine() {
    let at = serve(Router::new().route("/a", get(|| async { ([("x-a", "b c")], r#"{"user":{"name":"ann"}}"#) }))).await;
    let text = format!("url = '{}/a'\nheader = {{ X-A = 'c' }}\njson = {{ '$.user.name' = 'ann' }}", at.0);
    let check: HttpCheck = toml::from_str(&text).unwrap();
    let look = page::look(&check, None, "default").await;
    let Look::Seen(seen) = look else { panic!("{look:?}") };
    assert_eq!((seen.detail.as_str(), seen.open[0].url.as_str()), ("200, $.user.name = ann", check.url.as_str()));
}
