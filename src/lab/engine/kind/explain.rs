//! Why a cluster did not come up: what its nodes say.

use std::collections::BTreeSet;

use crate::lab::docker::Docker;
use crate::lab::docker::container::Found;
use crate::lab::error::LabError;
use crate::lab::run::printable;

use super::nodes::{BALANCER, ROLE, nodes_of};

/// Lines of a journal or console shown.
const LINES: usize = 12;
/// Nodes that are asked.
const NODES: usize = 3;

/// Adds to kind's own error what the nodes say: images that could not be pulled, the end of the journals, the console.
pub(super) async fn with_reasons(docker: &Docker, cluster: &str, error: LabError) -> LabError {
    let LabError::Command { line, status, tail, hint } = error else { return error };
    let mut reasons = Vec::new();
    let mut missing = BTreeSet::new();
    let nodes = nodes_of(docker, cluster).await.unwrap_or_default();
    let asked = nodes.iter().filter(|n| n.label(ROLE) != BALANCER);
    for node in asked.take(NODES) {
        look(docker, node, &mut reasons, &mut missing).await;
    }
    let mut text = tail;
    for image in &missing {
        text = format!("{text}\ncould not be pulled: {image}");
    }
    if !reasons.is_empty() {
        text = format!("{text}\n{}", reasons.join("\n"));
    }
    let hint = hint.or_else(|| {
        Some(match missing.is_empty() {
            true => "`labimg doctor BUNDLE` looks at the machine; `labimg up` tries again, `labimg down` takes it away"
                .to_owned(),
            false => "the bundle must hold these images: name them in `[[image]]` of the profile and build it again"
                .to_owned(),
        })
    });
    LabError::Command { line, status, tail: text, hint }
}

async fn look(docker: &Docker, node: &Found, reasons: &mut Vec<String>, missing: &mut BTreeSet<String>) {
    let name = &node.name;
    if !node.is_running() {
        reasons.push(format!("node `{name}` is {}; the end of its console:", node.state));
        let console = docker.tail(name, LINES).await.unwrap_or_default();
        reasons.extend(console.iter().map(|l| format!("  {l}")));
        return;
    }
    for unit in ["kubelet", "containerd"] {
        let command = ["journalctl", "-u", unit, "--no-pager", "-o", "cat", "-n", "200"];
        let Ok(ran) = docker.exec(name, &command).await else { continue };
        missing.extend(not_pulled(&ran.output));
        let lines: Vec<&str> = ran.output.lines().filter(|l| !l.trim().is_empty()).collect();
        let bad: Vec<&&str> = lines.iter().filter(|l| is_bad(l)).collect();
        let shown: Vec<&&str> = if bad.is_empty() { lines.iter().collect() } else { bad };
        let shown = shown.get(shown.len().saturating_sub(LINES)..).unwrap_or_default();
        if !shown.is_empty() {
            reasons.push(format!("node `{name}`, {unit}:"));
            reasons.extend(shown.iter().map(|l| format!("  {}", shorten(&printable(l)))));
        }
    }
}

/// klog's errors start with `E`; containerd says `level=error`.
fn is_bad(line: &str) -> bool {
    let klog = line.starts_with('E') && line.get(1..5).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
    klog || line.contains("level=error") || line.contains("level=fatal") || line.contains("command failed")
}

fn shorten(line: &str) -> String {
    match line.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// Images of lines such as `failed to pull and unpack image "registry.k8s.io/etcd:3.6.4-0": …`.
fn not_pulled(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        for mark in ["failed to pull and unpack image ", "Failed to pull image "] {
            let Some((_, rest)) = line.split_once(mark) else { continue };
            // In klog's own quotes, the quotes inside are escaped.
            let rest = rest.trim_start_matches(['\\', '"']);
            let end = rest.find(['"', '\\', ' ']).unwrap_or(rest.len());
            let image = rest.get(..end).unwrap_or_default().trim_end_matches(':');
            if image.parse::<crate::model::image::ImageRef>().is_ok() {
                found.insert(image.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_in_journals() {
        let text = r#"time="2026" level=error msg="PullImage \"registry.k8s.io/etcd:3.6.4-0\" failed" error="failed to pull and unpack image \"registry.k8s.io/etcd:3.6.4-0\": failed to resolve"
E1121 10:00:00.000000     123 kuberuntime_image.go:43] "Failed to pull image" err="rpc error"
  Failed to pull image "nginx:1": rpc error"#;
        let found: Vec<String> = not_pulled(text).into_iter().collect();
        assert_eq!(found, ["nginx:1", "registry.k8s.io/etcd:3.6.4-0"]);
    }

    #[test]
    fn errors_are_told_from_chatter() {
        assert!(is_bad("E1121 10:00:00.000000     123 x.go:1] \"no\""));
        assert!(is_bad("time=… level=error msg=x"));
        assert!(!is_bad("I1121 10:00:00.000000     123 x.go:1] \"yes\""));
        assert!(!is_bad("Everything is fine"));
    }
}
