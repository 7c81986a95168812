//! Traces as Jaeger tells them, judged without one; `tests/lab_verify.rs` asks a real one.

use super::*;
use crate::model::profile::TraceCheck;
use serde_json::json;

fn check(text: &str) -> TraceCheck {
    toml::from_str(&format!("via = 'jaeger'\nservice = 'front'\n{text}")).unwrap()
}

/// front (3 s) calls back (2 s), as Jaeger 1.62 answers it.
fn trace() -> Trace {
    let span = |id: &str, name: &str, parent: Option<&str>, start: u64, duration: u64, process: &str| {
        let reference = |p: &str| json!({ "refType": "CHILD_OF", "traceID": "0af7", "spanID": p });
        json!({ "traceID": "0af7", "spanID": id, "operationName": name, "startTime": start, "duration": duration,
            "references": parent.map(reference).into_iter().collect::<Vec<_>>(), "processID": process,
            "tags": [{ "key": "span.kind", "type": "string", "value": "server" }], "logs": [], "warnings": null })
    };
    let process = |name: &str| json!({ "serviceName": name, "tags": [] });
    let spans = json!([
        span("b1", "GET /", Some("gone"), 1_795_257_887_000_000, 3_000_000, "p1"),
        span("b2", "work", Some("b1"), 1_795_257_887_500_000, 2_000_000, "p2")
    ]);
    serde_json::from_value(json!({ "traceID": "0af7", "spans": spans, "warnings": null,
        "processes": { "p1": process("front"), "p2": process("back") } }))
    .unwrap()
}

#[test]
fn one_trace_must_satisfy_everything() {
    let all = "services = ['back']\noperation = 'GET /'\noperations = ['work']\nmin-spans = 2\nmin-duration = '3s'\n\
               parents = [{ parent = 'front', child = 'back' }]";
    assert_eq!(judge(&check(all), &trace()), Vec::<String>::new());
    for (text, why) in [
        ("services = ['db']", "service `db` is not in it"),
        ("operation = 'work'", "operation `work` of `front` is not in it"),
        ("operations = ['rest']", "operation `rest` is not in it"),
        ("min-spans = 3", "it has 2 spans, fewer than 3"),
        ("min-duration = '3001ms'", "it took 3s, less than 3.001s"),
        ("parents = [{ parent = 'back', child = 'front' }]", "no span of `front` has a span of `back` as its parent"),
    ] {
        assert_eq!(judge(&check(text), &trace()), [why], "{text}");
    }
}

#[test]
fn a_trace_that_makes_no_sense_is_judged_all_the_same() {
    let mut odd = trace();
    odd.processes.clear();
    odd.spans[0].start_time = u64::MAX;
    odd.spans[1].references[0].span = "b2".to_owned();
    assert!(!judge(&check("parents = [{ parent = 'a', child = 'b' }]"), &odd).is_empty());
    assert!(!judge(&check(""), &Trace::default()).is_empty());
}

#[test]
fn other_services_are_searched_by_too() {
    let some = check("services = ['back']\nmin-duration = '3s'\noperation = 'GET /'");
    let found = searches(&some);
    let names: Vec<_> = found.iter().map(|s| (s.service, s.operation.is_some(), s.min_duration.is_some())).collect();
    assert_eq!(names, [("front", true, false), ("front", true, true), ("back", false, false)]);
}

#[test]
fn a_request_carries_its_own_trace() {
    let (one, other) = (Own::random().unwrap(), Own::random().unwrap());
    assert_ne!(one, other);
    let hex = |text: &str, length: usize| text.len() == length && text.chars().all(|c| c.is_ascii_hexdigit());
    assert!(hex(&one.trace, 32) && hex(&one.span, 16));
    let headers = one.headers();
    assert_eq!(headers[0], ("traceparent".to_owned(), format!("00-{}-{}-01", one.trace, one.span)));
    assert!(headers.iter().any(|(name, value)| name == "x-b3-sampled" && value == "1"));
}

#[test]
fn a_request_is_sent_again_only_after_a_while() {
    let sent = Sent::default();
    assert!(sent.is_due() && sent.is_empty());
    sent.add(Own::random().unwrap());
    assert!(!sent.is_due() && sent.len() == 1);
}
