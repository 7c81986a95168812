//! The deploy graph against a real API server (etcd, kube-apiserver, kube-controller-manager; no nodes).

mod bed;

use std::time::{Duration, Instant};

use bed::{Lab, Server, outcomes};
use labimg::lab::deploy::{Options, failure};
use serde_json::json;

fn manifest(name: &str, text: &str, deploy: &str) -> String {
    format!(
        "[[manifest]]\nname = \"{name}\"\ntext = '''\n{text}'''\n[[deploy]]\nname = \"{name}\"\nmanifest = \"{name}\"\n{deploy}\n"
    )
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
}

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'example.org/web:v1'}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_goes_up_once_and_then_changes_nothing() {
    let Some(server) = Server::shared() else { return };
    let crd = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: houses.graph.example.org}
spec:
  group: graph.example.org
  scope: Namespaced
  names: {kind: House, plural: houses, singular: house}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {rooms: {type: integer}}}}}}
";
    let house = "apiVersion: graph.example.org/v1\nkind: House\nmetadata: {name: h}\nspec: {rooms: 3}\n";
    let list = format!(
        "---\n# nothing\n---\n{house}---\napiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: l1}}}}\n- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: l2}}}}\n---\n{crd}"
    );
    let profile = [
        manifest("kinds", &list, "namespace = \"graph\"\nready = [\"crd\"]"),
        manifest(
            "web",
            WEB,
            "namespace = \"graph\"\nready = [\"deployment/*\"]\nafter = [\"kinds\"]\ntimeout = \"60s\"",
        ),
        manifest("last", &config_map("last"), "after = [\"web\"]\nready = [\"field:configmap/last:$.data.a=b\"]"),
    ]
    .concat();
    let lab = Lab::new(&server, "graph", &profile, &[]).await;
    // Pods do not run here: what the kubelet would say of them is written by hand, and the controllers do the rest.
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let helper = {
        let server = server.clone();
        std::thread::spawn(move || {
            for _ in 0..300 {
                let pods = server.kubectl(&["-n", "graph", "get", "pods", "-l", "app=web", "-o", "name"]);
                if let Some(pod) = pods.lines().next() {
                    return server.status("graph", pod, &ready);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            panic!("no pod of web came");
        })
    };
    let reports = lab.up().await;
    assert_eq!(outcomes(&reports), ["kinds=ready 4", "web=ready 1", "last=ready 1"]);
    helper.join().unwrap();
    assert_eq!(server.kubectl(&["-n", "graph", "get", "house", "h", "-o", "jsonpath={.spec.rooms}"]), "3");

    let versions = || {
        server.kubectl(&[
            "get",
            "house,configmap,serviceaccount,deployment",
            "-n",
            "graph",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}",
        ])
    };
    let before = versions();
    let start = Instant::now();
    let again = lab.up().await;
    let took = start.elapsed();
    assert_eq!(outcomes(&again), ["kinds=unchanged", "web=unchanged", "last=unchanged"]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(versions(), before);
    eprintln!("second up: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_lab_takes_no_time_and_what_is_missing_comes_back() {
    let Some(server) = Server::shared() else { return };
    let profile =
        [manifest("one", &config_map("same1"), ""), manifest("two", &config_map("same2"), "after = [\"one\"]")]
            .concat();
    let lab = Lab::new(&server, "same", &profile, &[]).await;
    assert_eq!(outcomes(&lab.up().await), ["one=ready 1", "two=ready 1"]);
    let start = Instant::now();
    assert_eq!(outcomes(&lab.up().await), ["one=unchanged", "two=unchanged"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    server.kubectl(&["delete", "configmap", "same1"]);
    assert_eq!(outcomes(&lab.up().await), ["one=ready 1", "two=unchanged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_stops_dependants_only_and_options_choose() {
    let Some(server) = Server::shared() else { return };
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n";
    let profile = [
        manifest("bad", bad, ""),
        manifest("behind", &config_map("behind"), "after = [\"bad\"]"),
        manifest("aside", &config_map("aside"), ""),
        manifest("then", &config_map("then"), "after = [\"aside\"]"),
    ]
    .concat();
    let lab = Lab::new(&server, "fails", &profile, &[]).await;
    let until = lab.up_with(&Options { until: Some("then".into()), only: None }).await.unwrap();
    assert_eq!(outcomes(&until), ["aside=ready 1", "then=ready 1"]);
    let only = lab.up_with(&Options { only: Some("behind".into()), until: None }).await.unwrap();
    assert_eq!(outcomes(&only), ["behind=ready 1"]);
    let all = lab.up().await;
    let seen = outcomes(&all);
    assert!(
        seen[0].starts_with("bad=failed") && seen[0].contains("Service `bad`") && seen[0].contains("99999"),
        "{seen:?}"
    );
    assert_eq!(seen[1..], ["behind=skipped bad", "aside=unchanged", "then=unchanged"]);
    let error = failure(all).unwrap().to_string();
    assert!(error.contains("2 of 4 deploys") && error.contains("behind was not tried, it needs bad"), "{error}");
    assert!(lab.up_with(&Options { only: Some("no".into()), until: None }).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn five_megabytes_of_crds_and_a_restart_in_the_middle() {
    let Some(server) = Server::start() else { return };
    let words = "what this field means, told at length so that no client-side apply could remember it. ".repeat(4);
    let mut text = String::new();
    for n in 0..8 {
        text.push_str(&format!("---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: bigs{n}.big.example.org}}\nspec:\n  group: big.example.org\n  scope: Cluster\n  names: {{kind: Big{n}, plural: bigs{n}, singular: big{n}}}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n          spec:\n            type: object\n            properties:\n"));
        for field in 0..1600 {
            text.push_str(&format!("              field{field}: {{type: string, description: '{words}'}}\n"));
        }
    }
    text.push_str("---\napiVersion: big.example.org/v1\nkind: Big7\nmetadata: {name: b}\nspec: {field1: x}\n");
    assert!(text.len() > 5_000_000, "{}", text.len());
    let profile = "[[manifest]]\nname = \"big\"\npath = \"big.yaml\"\n[[deploy]]\nname = \"big\"\nmanifest = \"big\"\nready = [\"crd\"]\n";
    let lab = Lab::new(&server, "big", profile, &[("big.yaml", text.into_bytes())]).await;
    let other = server.clone();
    let restart = std::thread::spawn(move || {
        for _ in 0..300 {
            if other.kubectl(&["get", "crd", "-o", "name"]).contains("bigs") {
                break;
            }
        }
        other.restart();
    });
    let start = Instant::now();
    let reports = lab.up().await;
    restart.join().unwrap();
    assert_eq!(outcomes(&reports), ["big=ready 9"]);
    // An API server that starts leaves CRDs alone for five minutes unless they change.
    assert!(start.elapsed() < Duration::from_secs(200), "{:?}", start.elapsed());
    eprintln!("5 MB of CRDs with a restart: {:?}", start.elapsed());
    let manager = "jsonpath={.metadata.managedFields[0].manager}";
    assert_eq!(server.kubectl(&["get", "big7", "b", "-o", manager]), "labimg");
    let start = Instant::now();
    assert_eq!(outcomes(&lab.up().await), ["big=unchanged"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_never_answers_is_named() {
    let Some(server) = Server::start() else { return };
    let hook = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: deaf}
webhooks:
- name: deaf.example.org
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 1
  failurePolicy: Fail
  clientConfig: {service: {namespace: default, name: deaf, path: /}}
  rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
";
    let profile = [
        manifest("hook", hook, "ready = [\"webhook\"]\ntimeout = \"3s\""),
        manifest("object", &config_map("refused"), "timeout = \"5s\""),
    ]
    .concat();
    let lab = Lab::new(&server, "deaf", &profile, &[]).await;
    let hooked = outcomes(&lab.up_with(&Options { only: Some("hook".into()), until: None }).await.unwrap());
    assert!(
        hooked[0].contains("deploy hook: webhook")
            && hooked[0].contains("webhook deaf.example.org: it has no caBundle"),
        "{hooked:?}"
    );
    let mut reports = lab.up_with(&Options { only: Some("object".into()), until: None }).await.unwrap();
    let error = failure(std::mem::take(&mut reports)).unwrap();
    assert!(error.to_string().contains("failed calling webhook \"deaf.example.org\""), "{error}");
    assert!(error.advice().unwrap().contains("`deaf.example.org`"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_pods_from_being_ready_is_said() {
    let Some(server) = Server::shared() else { return };
    let pods = "apiVersion: v1
kind: Pod
metadata: {name: crash}
spec: {containers: [{name: main, image: 'example.org/crash:v1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pull}
spec: {containers: [{name: main, image: 'example.org/lacking:v1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: big}
spec: {containers: [{name: main, image: 'example.org/big:v1'}], volumes: [{name: v, persistentVolumeClaim: {claimName: gone}}]}
";
    let quota = format!(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: none}}\nspec: {{hard: {{pods: '0'}}}}\n---\n{WEB}"
    );
    let profile = [
        manifest("pods", pods, "namespace = \"why\"\nready = [\"pod/*\"]\ntimeout = \"15s\""),
        manifest("quota", &quota, "namespace = \"quota\"\nready = [\"deployment/web\"]\ntimeout = \"15s\""),
    ]
    .concat();
    let lab = Lab::new(&server, "why", &profile, &[]).await;
    let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let container = |state: serde_json::Value, last: serde_json::Value| {
        json!({"containerStatuses": [{
        "name": "main", "image": "sha256:x", "imageID": "", "ready": false, "restartCount": 4, "state": state, "lastState": last}]})
    };
    let ended = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "no configuration", "startedAt": null, "finishedAt": null}});
    let crash = container(waiting("CrashLoopBackOff", "back-off 40s"), ended);
    let pull = container(waiting("ImagePullBackOff", "example.org/lacking:v1: not found"), json!({}));
    let big = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: Insufficient memory"}]});
    let helpers = [("pod/crash", crash), ("pod/pull", pull), ("pod/big", big)]
        .map(|(pod, status)| server.status_soon("why", pod, status));
    let seen = outcomes(&lab.up().await);
    for helper in helpers {
        helper.join().unwrap_or_else(|_| panic!("{seen:#?}"));
    }
    for text in [
        "deploy pods: pod/* is not ready after",
        "deploy `pods`, ready = \"pod/*\"",
        "pod crash, container main: CrashLoopBackOff: back-off 40s",
        "exit code 3, 4 restarts: no configuration",
        "ImagePullBackOff: image example.org/lacking:v1: example.org/lacking:v1: not found",
        "no node takes it: 0/3 nodes: Insufficient memory",
        "volume claim gone is not there",
    ] {
        assert!(seen[0].contains(text), "{text}\n{}", seen[0]);
    }
    assert!(seen[1].contains("exceeded quota: none"), "{}", seen[1]);
    assert!(seen[0].lines().count() <= 21, "{}", seen[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_cluster_and_nothing_else() {
    let Some(server) = Server::shared() else { return };
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: made}\nstringData: {password: '${secret.pw}', key: '${secret.tls.key}', crt: '${secret.tls.crt}', text: '$${secret.pw}'}\n";
    // Refused, and the API server repeats what it refuses.
    let refused = "apiVersion: v1\nkind: Service\nmetadata: {name: 'X ${secret.pw}'}\nspec: {ports: [{port: 1}]}\n";
    let copy = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: copy}\ndata: {p: '${secret.copied}'}\n";
    let tables = "[secret.pw]\ngenerate = \"alnum:24\"\n[secret.ca]\ngenerate = \"ca:Lab\"\n[secret.tls]\ngenerate = \"cert:web\"\nca = \"ca\"\nnames = [\"web.lab\"]\n[secret.copied]\nfield = { object = \"secret/made\", namespace = \"secrets\", path = \"$.data.password\" }\n";
    let profile = [
        tables.to_owned(),
        manifest("made", secret, "namespace = \"secrets\""),
        manifest("refused", refused, ""),
        manifest("copy", copy, "namespace = \"secrets\"\nafter = [\"made\"]"),
    ]
    .concat();
    let lab = Lab::new(&server, "secrets", &profile, &[]).await;
    let reports = lab.up().await;
    let seen = outcomes(&reports);
    assert_eq!((seen[0].as_str(), seen[2].as_str()), ("made=ready 1", "copy=ready 1"), "{seen:?}");
    let value = server.kubectl(&["-n", "secrets", "get", "configmap", "copy", "-o", "jsonpath={.data.p}"]);
    assert_eq!(value.len(), 24);
    let text =
        server.kubectl(&["-n", "secrets", "get", "secret", "made", "-o", "go-template={{.data.text | base64decode}}"]);
    assert_eq!(text, "${secret.pw}");
    assert!(seen[1].contains("(hidden)"), "{seen:?}");
    let key =
        server.kubectl(&["-n", "secrets", "get", "secret", "made", "-o", "go-template={{.data.key | base64decode}}"]);
    let key_line = key.lines().nth(1).unwrap().to_owned();
    let said = format!("{:?} {reports:?} {seen:?}", lab.heard.0.lock().unwrap());
    let mut files = 0;
    for secret in [value.as_str(), key_line.as_str()] {
        assert!(!said.contains(secret), "{said}");
        files += grep(lab.dir.path(), secret);
    }
    assert!(files > 4);
    assert_eq!(outcomes(&lab.up().await)[2], "copy=unchanged");
    assert_eq!(server.kubectl(&["-n", "secrets", "get", "configmap", "copy", "-o", "jsonpath={.data.p}"]), value);
}

/// Looks for `secret` in every file but those of `secrets/`, which nobody else may read.
fn grep(dir: &std::path::Path, secret: &str) -> usize {
    use std::os::unix::fs::PermissionsExt;
    let mut files = 0;
    for entry in fs_err::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if path.is_dir() {
            files += grep(&path, secret);
        } else if path.parent().unwrap().ends_with("secrets") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        } else {
            let bytes = fs_err::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", path.display());
            files += 1;
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_is_installed_by_helm() {
    let Some(server) = Server::shared() else { return };
    let chart = [
        ("Chart.yaml", "apiVersion: v2\nname: small\nversion: 1.0.0\n"),
        ("values.yaml", "password: none\n"),
        (
            "templates/a.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}-chart}\nstringData: {p: {{ .Values.password | quote }}}\n",
        ),
        (
            "templates/b.yaml",
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: {{ .Release.Name }}-chart}\nrules: []\n",
        ),
    ];
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in chart {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("small/{path}"), text.as_bytes()).unwrap();
    }
    let archive = tar.into_inner().unwrap().finish().unwrap();
    let profile = "[secret.pw]\ngenerate = \"hex:32\"\n[[chart]]\nname = \"small\"\nrepo = \"https://charts.example.org\"\nversion = \"1.0.0\"\nvalues = \"values.yaml\"\n[[deploy]]\nname = \"rel\"\nchart = \"small\"\nnamespace = \"charts\"\n";
    let files = [("small.tgz", archive), ("values.yaml", b"password: ${secret.pw}\n".to_vec())];
    let lab = Lab::new(&server, "charts", profile, &files).await;
    assert_eq!(outcomes(&lab.up().await), ["rel=ready 2"]);
    let password =
        server.kubectl(&["-n", "charts", "get", "secret", "rel-chart", "-o", "go-template={{.data.p | base64decode}}"]);
    assert_eq!(password.len(), 32);
    grep(lab.dir.path(), &password);
    let listed = std::process::Command::new(lab.session.machine.path[0].join("helm"))
        .args(["list", "-n", "charts", "-q", "--kubeconfig"])
        .arg(&server.kubeconfig)
        .env("KUBECACHEDIR", server.kubeconfig.with_file_name("cache"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "rel\n");
    let start = Instant::now();
    assert_eq!(outcomes(&lab.up().await), ["rel=unchanged"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
