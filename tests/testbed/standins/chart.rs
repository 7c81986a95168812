//! Stand-in charts, in the two kinds of repository Helm has: `index.yaml` over HTTP, and an OCI registry.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use labimg::model::profile::ChartInput;
use serde_json::json;

use crate::archive::{Entry, gzip, tar};
use crate::bytes::{Bytes, digest};
use crate::image::{Manifest, StandIn, bytes};

/// The `.tgz` of a chart: some charts have sub-charts, unpacked in `charts/` as `helm package` leaves them.
pub fn package(chart: &str, version: &str) -> io::Result<Vec<u8>> {
    let subs = sub_charts(chart);
    let mut about =
        format!("apiVersion: v2\nname: {chart}\nversion: {version}\nappVersion: \"1.0\"\ntype: application\n");
    if !subs.is_empty() {
        about.push_str("dependencies:\n");
    }
    for (name, version) in &subs {
        let _ = write!(about, "  - name: {name}\n    version: {version}\n    repository: https://charts.example.org\n");
    }
    let mut entries = files(chart, chart, &about);
    for (name, version) in &subs {
        let about = format!("apiVersion: v2\nname: {name}\nversion: {version}\n");
        entries.extend(files(&format!("{chart}/charts/{name}"), name, &about));
    }
    gzip(&tar(entries)?)
}

fn sub_charts(chart: &str) -> Vec<(String, String)> {
    let mut pick = Bytes::of(&format!("sub-charts of {chart}"));
    (0..pick.next() % 3).map(|i| (format!("{chart}-part{i}"), format!("0.{}.{i}", pick.next() % 20))).collect()
}

fn files(folder: &str, name: &str, about: &str) -> Vec<Entry> {
    let template = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}-{{{{ .Release.Name }}}}\ndata:\n  greeting: {{{{ .Values.greeting | quote }}}}\n"
    );
    let notes = Bytes::of(&format!("notes {name}")).prose(4_000);
    vec![
        Entry::File(format!("{folder}/Chart.yaml"), 0o644, about.as_bytes().to_vec()),
        Entry::File(format!("{folder}/values.yaml"), 0o644, b"greeting: hello\n".to_vec()),
        Entry::File(format!("{folder}/templates/config.yaml"), 0o644, template.into_bytes()),
        Entry::File(format!("{folder}/README.md"), 0o644, notes),
    ]
}

/// Files of one HTTP repository, by path below it: `index.yaml`, and each chart in two versions.
pub fn http_repository(repo: &str, charts: &[&ChartInput]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for chart in charts {
        versions.entry(&chart.chart).or_insert_with(|| vec!["0.0.1-old"]).push(&chart.version);
    }
    let mut found = BTreeMap::new();
    let mut index = String::from("apiVersion: v1\nentries:\n");
    for (place, (chart, versions)) in versions.into_iter().enumerate() {
        let _ = writeln!(index, "  {chart}:");
        for version in versions {
            let data = package(chart, version)?;
            let file = format!("{chart}-{version}.tgz");
            // Both forms are in use: a URL relative to the repository, and a whole one.
            let url = if place % 2 == 0 { file.clone() } else { format!("{repo}/{file}") };
            let _ = writeln!(index, "  - apiVersion: v2\n    created: \"2025-01-01T00:00:00Z\"");
            let _ = writeln!(index, "    digest: {}\n    name: {chart}", &digest(&data)[7..]);
            let _ = writeln!(index, "    urls:\n    - {url}\n    version: {version}");
            found.insert(file, data);
        }
    }
    index.push_str("generated: \"2025-01-01T00:00:00Z\"\n");
    found.insert("index.yaml".to_owned(), index.into_bytes());
    Ok(found)
}

/// A chart as `helm push` puts it into a registry.
pub fn oci_artifact(chart: &ChartInput) -> io::Result<StandIn> {
    let data = package(&chart.chart, &chart.version)?;
    let config = bytes(&json!({ "apiVersion": "v2", "name": chart.chart, "version": chart.version }));
    let manifest = json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.cncf.helm.config.v1+json",
            "digest": digest(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "digest": digest(&data), "size": data.len(),
        }],
        "annotations": { "org.opencontainers.image.created": "2025-01-01T00:00:00Z" },
    });
    let blobs = BTreeMap::from([(digest(&data), data), (digest(&config), config)]);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    Ok(StandIn { blobs, manifests: vec![Manifest { media_type, data: bytes(&manifest) }] })
}
