//! Metrics as the real programs write them, and what is made of them.

use super::*;

/// As Collector 0.111 writes them; newer ones put `_total` behind counters.
const COLLECTOR: &str = r#"# HELP otelcol_exporter_queue_size Current size of the retry queue (in batches)
# TYPE otelcol_exporter_queue_size gauge
otelcol_exporter_queue_size{data_type="traces",exporter="otlp",service_name="otelcol"} 2
otelcol_exporter_queue_capacity{data_type="traces",exporter="otlp",service_name="otelcol"} 1000
otelcol_exporter_send_failed_spans{exporter="otlp",service_name="otelcol"} 40
otelcol_exporter_sent_spans{exporter="otlp",service_name="otelcol"} 80
otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc",service_name="a } b"} 100
otelcol_receiver_accepted_spans{receiver="otlp",transport="http",service_name="otelcol"} 2.0e+01
otelcol_receiver_refused_spans{receiver="otlp",transport="grpc",service_name="otelcol"} 0
"#;

const JAEGER: &str = r#"jaeger_collector_spans_received_total{debug="false",svc="front",transport="unknown"} 7
jaeger_collector_spans_received_total{debug="false",svc="other-services",transport="http"} 0
jaeger_collector_spans_rejected_total{debug="false",svc="other-services",transport="http"} 1
jaeger_collector_spans_dropped_total{host="vm"} 2
jaeger_collector_spans_saved_by_svc_total{debug="false",result="err",svc="other-services"} 3
jaeger_collector_spans_saved_by_svc_total{debug="false",result="ok",svc="front"} 4
jaeger_collector_spans_bytes{host="vm"} 99
"#;

fn agent(node: &str) -> Collector {
    Collector { pod: format!("obs/agent-{node}"), node: node.to_owned(), agent: true, ..Collector::default() }
}

#[test]
fn numbers_are_read_with_and_without_the_suffix() {
    for text in [COLLECTOR.to_owned(), COLLECTOR.replace("_spans{", "_spans_total{")] {
        let read = agent("n").read(&text);
        assert_eq!((read.received, read.refused, read.sent, read.failed, read.queued), (120, 0, 80, 40, 2));
    }
    let store = Store::default().read(JAEGER);
    assert_eq!((store.received, store.lost, store.saved), (7, 6, 4));
    for garbage in ["", "<html>", "otelcol_receiver_accepted_spans", "otelcol_receiver_accepted_spans{ 7", "\u{0}"] {
        assert_eq!(sum(garbage, "otelcol_receiver_accepted_spans", None), None, "{garbage}");
    }
    assert_eq!(sum("x NaN\nx -1\nx +Inf\nx 3", "x", None), Some(3));
}

#[test]
fn the_first_link_that_holds_nothing_is_where_it_broke() {
    let store = || Some(Store { pod: "obs/jaeger".to_owned(), ..Store::default() });
    let chain = judge(vec![agent("kind-worker")], store());
    assert_eq!(chain.broke, Broke::Sent);
    assert_eq!(chain.lines[1], "the agent on node kind-worker received 0 spans: nothing is sent to 127.0.0.1:4317");

    let chain = judge(vec![Collector { refused: 5, ..agent("n") }], store());
    assert_eq!(chain.broke, Broke::Refused);

    let error = Some("dial tcp: lookup jaeger: no such host".to_owned());
    let chain = judge(vec![Collector { received: 120, failed: 120, error, ..agent("n") }], store());
    assert_eq!(chain.broke, Broke::Forwarded);
    assert!(chain.lines[1].ends_with("received 120 spans, sent 0 on, failed to send 120: dial tcp: lookup jaeger: no such host"));

    let chain = judge(vec![Collector { received: 9, sent: 9, ..agent("n") }], store());
    assert_eq!(chain.broke, Broke::Stored);

    let services = vec!["apiserver".to_owned()];
    let some = Some(Store { saved: 9, received: 9, services, ..Store::default() });
    let chain = judge(vec![Collector { received: 9, sent: 9, ..agent("n") }], some);
    assert_eq!(chain.broke, Broke::Content);
    assert_eq!(chain.lines.last().unwrap(), "services Jaeger has traces of: apiserver");
}

#[test]
fn what_could_not_be_asked_is_not_judged() {
    let silent = || Some("connection refused".to_owned());
    let chain = judge(vec![Collector { silent: silent(), ..agent("n") }], None);
    assert_eq!(chain.broke, Broke::Unknown);
    assert!(chain.lines[1].contains("could not be asked: connection refused"));
    let store = Some(Store { silent: silent(), ..Store::default() });
    let chain = judge(vec![Collector { received: 9, sent: 9, ..agent("n") }], store);
    assert_eq!(chain.broke, Broke::Unknown);
    assert_eq!(judge(Vec::new(), Some(Store::default())).broke, Broke::Sent);
}
