//! Texts as people and tools write them, and texts that mean harm.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{MAX_BYTES, ManifestError, Object, images, parse, read};

const HEAD: &str = "apiVersion: v1\nkind: ConfigMap\n";

fn one(body: &str) -> Value {
    let objects = parse(&format!("{HEAD}{body}")).unwrap();
    assert_eq!(objects.len(), 1);
    objects.into_iter().next().map(|o| o.value).unwrap_or_default()
}

fn refused(text: &str) -> ManifestError {
    parse(text).unwrap_err()
}

fn kinds(text: &str) -> Vec<(String, usize)> {
    parse(text).unwrap().iter().map(|o| (o.kind().to_owned(), o.line)).collect()
}

#[test]
fn scalars_mean_what_kubectl_makes_of_them() {
    let value = one("a: [yes, no, On, off, y, true, 'yes', \"no\", yes please]\n\
         b: [0644, 0o644, 0x1F, -12, 9223372036854775807, 18446744073709551615, '0644', 08]\n\
         c: [1.5, 1e3, .5, 18446744073709551616, v1.29, 1.2.3, 2024-01-01, 12:30:45, infinity, nan]\n\
         d: [null, ~, Null, '', 'null', ]\n\
         e: !!binary aGFsbG8=\n\
         f: !!str 12\n\
         on: kept\n12: number\n");
    assert_eq!(value["a"], json!([true, false, true, false, true, true, "yes", "no", "yes please"]));
    assert_eq!(value["b"], json!([420, 420, 31, -12, i64::MAX, u64::MAX, "0644", 8.0]));
    let dates = json!([
        1.5,
        1000.0,
        0.5,
        18446744073709551616.0,
        "v1.29",
        "1.2.3",
        "2024-01-01",
        "12:30:45",
        "infinity",
        "nan"
    ]);
    assert_eq!(value["c"], dates);
    assert_eq!(value["d"], json!([null, null, null, "", "null"]));
    assert_eq!((&value["e"], &value["f"]), (&json!("hallo"), &json!("12")));
    assert_eq!((&value["on"], &value["12"]), (&json!("kept"), &json!("number")));
    refused(&format!("{HEAD}x: .inf\n"));
    refused(&format!("{HEAD}x: .nan\n"));
}

#[test]
fn anchors_aliases_and_merge_keys_are_resolved() {
    let value = one("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nsame: *base\ntext: |\n  one\n  two\n");
    assert_eq!(value["more"], json!({"a": 1, "b": 3}));
    assert_eq!(value["same"], json!({"a": 1, "b": 2}));
    assert_eq!(value["text"], json!("one\ntwo\n"));
    // An anchor ends with its document.
    refused(&format!("{HEAD}a: &x 1\n---\n{HEAD}a: *x\n"));
}

#[test]
fn documents_and_lists_come_one_by_one() {
    let text = "\u{feff}# a comment\n---\n\n--- # another\napiVersion: v1\nkind: A\n...\n---\n# nothing\n---\nnull\n--- \n{apiVersion: v1, kind: B}\n---\n";
    assert_eq!(kinds(text), [("A".to_owned(), 5), ("B".to_owned(), 13)]);
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: A\n- apiVersion: v1\n  kind: BList\n  items:\n  - metadata: {name: x}\n  - {apiVersion: v2, kind: C}\n";
    assert_eq!(kinds(list), [("A".to_owned(), 4), ("B".to_owned(), 9), ("C".to_owned(), 10)]);
    assert_eq!(parse("").unwrap(), []);
    assert_eq!(parse("# only words\n---\n---\n").unwrap(), []);
}

#[test]
fn windows_and_json_are_read_too() {
    let unix = "apiVersion: v1\nkind: A\nspec:\n  text: |\n    a\n    b\n---\napiVersion: v1\nkind: B\n";
    let windows = unix.replace('\n', "\r\n");
    let (left, right) = (parse(unix).unwrap(), parse(&windows).unwrap());
    assert_eq!(
        left.iter().map(|o| (&o.value, o.line)).collect::<Vec<_>>(),
        right.iter().map(|o| (&o.value, o.line)).collect::<Vec<_>>()
    );
    let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"A\",\n\t\"s\": \"\\u00fc \\ud83d\\ude00\\/\",\n\t\"n\": [1, -2.5e3, true, null]\n}\n";
    let objects = parse(json).unwrap();
    assert_eq!(objects[0].value, serde_json::from_str::<Value>(json).unwrap());
}

#[test]
fn what_is_wrong_has_a_line() {
    let tab = refused("apiVersion: v1\nkind: A\nspec:\n\ta: 1\n");
    assert_eq!(tab.line, 4, "{tab}");
    assert!(tab.what.contains("tab"), "{tab}");
    let open = refused("apiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: \"B\n");
    assert!(open.line >= 5, "{open}");
    assert_eq!(refused("apiVersion: v1\nkind: A\n---\njust words\n").line, 4);
    assert_eq!(refused("apiVersion: v1\nkind: A\n---\n- 1\n").line, 4);
    let kindless = refused("---\nreplicas: 1\n");
    assert_eq!((kindless.line, kindless.what.contains("no `kind`")), (2, true));
    refused("<!DOCTYPE html>\n<html><body>404: not found</body></html>\n");
    refused("apiVersion: v1\nkind: {{ .Values.kind }}\n");
    refused("a: *nowhere\n");
}

#[test]
fn of_a_key_that_is_twice_the_last_one_counts_and_is_told() {
    let text = "apiVersion: v1\nkind: A\nspec:\n  a: {image: x/y:1}\n  b: 2\n  a:\n    image: x/y:2\n";
    let manifest = read(text.as_bytes()).unwrap();
    let [remark] = manifest.remarks.as_slice() else { panic!("{:?}", manifest.remarks) };
    assert_eq!((remark.line, remark.column), (6, 3));
    assert!(remark.what.contains("key `a` is twice"), "{}", remark.what);
    assert_eq!(found(text), [("x/y:2".to_owned(), "spec.a.image".to_owned(), 7)]);
    let many = format!("{HEAD}{}", "a: 1\n".repeat(5000));
    assert!((1..=20).contains(&read(many.as_bytes()).unwrap().remarks.len()));
    assert_eq!(read(format!("{HEAD}a: &x {{b: 1}}\nc: {{<<: *x, b: 2}}\n").as_bytes()).unwrap().remarks, []);
}

#[test]
fn quoted_texts_may_go_on_less_indented_than_their_key() {
    let value =
        one("a:\n    b: \"one\n  two \\\n      \\  three\"\n    c: 'it''s\n\n'\n    d: \"x\n\ty\"\ne: [\"a\nb\", 1]\n");
    assert_eq!(value["a"], json!({"b": "one two   three", "c": "it's\n", "d": "x y"}));
    assert_eq!(value["e"], json!(["a b", 1]));
    // A line that starts a document ends no quoted text.
    refused(&format!("{HEAD}a: \"one\n---\ntwo\"\n"));
    // The last line of a block has a line feed where the file has one.
    assert_eq!(one("a: |\n  x")["a"], json!("x"));
}

#[test]
fn utf16_is_read_like_utf8() {
    let text = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: web:1}]}\n";
    for bytes in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect();
        assert_eq!(read(&wide).unwrap(), read(text.as_bytes()).unwrap());
    }
}

#[test]
fn null_is_no_value() {
    let text = "apiVersion: v1\nkind: List\nitems:\n-\n- apiVersion: v1\n  kind: Pod\n  metadata: null\n  spec: {containers: null, initContainers: [null, {image: null}, {image: a/b}], volumes: [{image: null}]}\n- null\n";
    let objects = parse(text).unwrap();
    assert_eq!((objects.len(), objects[0].name(), objects[0].namespace()), (1, "", None));
    assert_eq!(found(text), [("a/b".to_owned(), "spec.initContainers[2].image".to_owned(), 8)]);
    assert_eq!(parse("apiVersion: v1\nkind: PodList\nitems: null\n").unwrap(), []);
    assert_eq!(
        parse("apiVersion: v1\nkind: Pod\nspec: null\nmetadata: {namespace: ''}\n").unwrap()[0].namespace(),
        None
    );
}

#[test]
fn a_status_is_no_wish() {
    let text = "apiVersion: v1\nkind: Pod\nspec: {status: {image: a/b:1}, containers: [{image: web}]}\nstatus:\n  image: old/a:1\n  containerStatuses: [{image: old/b:1}]\n";
    let names: Vec<String> = found(text).into_iter().map(|(reference, ..)| reference).collect();
    assert_eq!(names, ["web", "a/b:1"]);
}

#[test]
fn bombs_end_early() {
    let started = Instant::now();
    let mut laughs = String::from("apiVersion: v1\nkind: A\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let _ = writeln!(laughs, "a{i}: &a{i} [{}]", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    refused(&laughs);
    let deep = |n: usize| format!("{HEAD}x: {}{}\n", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(100)).is_ok());
    refused(&deep(200));
    refused(&deep(100_000));
    refused(&format!("{HEAD}x: {}", "{a: ".repeat(100_000)));
    let nested = (0..300).fold(String::from(HEAD), |mut text, i| {
        let _ = writeln!(text, "{}a:", " ".repeat(i));
        text
    });
    refused(&nested);
    refused(&"a".repeat(MAX_BYTES + 1));
    refused("apiVersion: v1\nkind: A\nx: &x [*x]\n");
    let mut list = String::from("a: &a {apiVersion: v1, kind: ConfigMap}\n");
    list.push_str(&"- *a\n".repeat(10));
    refused(&list);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A CRD file of about 5 MB, as operators publish them.
fn crds(number: usize) -> String {
    let mut text = String::new();
    for crd in 0..number {
        let _ = write!(
            text,
            "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: things{crd}.example.org\nspec:\n  versions:\n  - name: v1\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n"
        );
        for field in 0..1000 {
            let _ = write!(
                text,
                "          field{field}:\n            description: |-\n              What the field is for, in a sentence or two as they stand in\n              every CRD that a generator wrote from comments.\n            type: object\n            properties:\n              image:\n                type: string\n"
            );
        }
    }
    text
}

#[test]
fn large_files_are_quick() {
    // Unoptimised, and with other tests beside it, a fifth says as much.
    let (number, limit) = if cfg!(debug_assertions) { (5, 30) } else { (25, 3) };
    let text = crds(number);
    assert!(text.len() > number * 200_000, "{}", text.len());
    let started = Instant::now();
    let objects = parse(&text).unwrap();
    assert_eq!(objects.len(), number);
    assert!(objects.iter().all(|o| images(o).is_empty()));
    assert!(started.elapsed() < Duration::from_secs(limit), "{:?}", started.elapsed());
}

fn found(text: &str) -> Vec<(String, String, usize)> {
    let objects: Vec<Object> = parse(text).unwrap();
    objects.iter().flat_map(images).map(|u| (u.reference, u.path, u.line)).collect()
}

#[test]
fn images_of_pods_are_found() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:\n      initContainers:\n      - {name: i, image: busybox}\n      containers:\n      - name: a\n        image: quay.io/x/a:1\n        imagePullPolicy: Never\n      - name: b\n      volumes:\n      - name: v\n        image:\n          reference: quay.io/x/v:1\n          pullPolicy: Always\n";
    let place = |r: &str, p: &str, l| (r.to_owned(), format!("spec.template.spec.{p}"), l);
    let uses = found(text);
    let want = [
        place("quay.io/x/a:1", "containers[0].image", 10),
        place("busybox", "initContainers[0].image", 7),
        place("quay.io/x/v:1", "volumes[0].image.reference", 16),
    ];
    assert_eq!(uses, want);
    let policies: Vec<_> = parse(text).unwrap().iter().flat_map(images).map(|u| u.pull_policy).collect();
    assert_eq!(policies, [Some("Never".to_owned()), None, Some("Always".to_owned())]);
}

#[test]
fn images_of_custom_resources_are_found_and_icons_are_not() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: opentelemetry.io/v1\n  kind: OpenTelemetryCollector\n  spec:\n    image: otel/opentelemetry-collector:0.111.0\n    'odd.key': {image: a/b}\n    java: {image: ghcr.io/x/java@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}\n    size: {image: small}\n    icon: {image: 'https://example.org/a.png'}\n    logo: {image: assets/logo.svg}\n    parts: {image: {repository: x, tag: y}}\n    pick: {image: 12}\n";
    let uses: Vec<_> =
        found(text).into_iter().map(|(r, p, l)| (r.split('@').next().unwrap_or_default().to_owned(), p, l)).collect();
    let want = [
        ("otel/opentelemetry-collector:0.111.0", "spec.image", 7),
        ("ghcr.io/x/java", "spec.java.image", 9),
        ("a/b", "spec['odd.key'].image", 8),
    ];
    assert_eq!(uses, want.map(|(r, p, l)| (r.to_owned(), p.to_owned(), l)));
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {default: {image: a/b:1}}\n";
    assert_eq!(found(crd), []);
}

#[test]
fn injected_images_are_left_to_istio() {
    let pod = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  {labels}\nspec:\n  containers: [{{name: istio-proxy, image: auto}}]\n"
        )
    };
    assert_eq!(found(&pod("annotations: {inject.istio.io/templates: gateway}")), []);
    assert_eq!(found(&pod("name: x")).len(), 1);
}
