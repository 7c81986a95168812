//! `labimg graph`: what a lab is made of, as DOT or SVG.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::profile::{OnDisk, load};
use super::{Ctx, OpsError};
use crate::model::lock::Lock;

/// The columns of the drawing, from where things come from to what is made of them.
const COLUMNS: [&str; 4] = ["origin", "input", "use", "artefact"];

/// A graph of a lab: nodes in columns, edges from left to right.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Graph {
    /// Node name to its column.
    pub nodes: BTreeMap<String, usize>,
    /// From, to.
    pub edges: BTreeSet<(String, String)>,
}

impl Graph {
    fn edge(&mut self, from: (&str, usize), to: (&str, usize)) {
        self.nodes.entry(from.0.to_owned()).or_insert(from.1);
        self.nodes.entry(to.0.to_owned()).or_insert(to.1);
        self.edges.insert((from.0.to_owned(), to.0.to_owned()));
    }
}

/// The graph of a profile; digests stand in it when there is a lock.
///
/// # Errors
/// What is wrong with the profile or its lock.
pub fn graph(ctx: &Ctx, path: &Path) -> Result<Graph, OpsError> {
    let disk = load(path, &ctx.roots)?;
    let lock = disk.read_lock()?;
    let mut graph = Graph::default();
    let bundle = disk.bundle_name();
    inputs(&disk, lock.as_ref(), &bundle, &mut graph);
    uses(&disk, &bundle, &mut graph);
    Ok(graph)
}

fn inputs(disk: &OnDisk, lock: Option<&Lock>, bundle: &str, graph: &mut Graph) {
    let short =
        |digest: Option<crate::base::digest::Digest>| digest.map(|d| format!("\n{}", d.short())).unwrap_or_default();
    for (reference, input) in &disk.inputs.images {
        let locked = lock.and_then(|l| l.images.iter().find(|i| i.reference == *reference));
        let label = format!("image {reference}{}", short(locked.map(|i| i.digest)));
        let origin = input.source.as_ref().unwrap_or(reference).registry.clone();
        graph.edge((&origin, 0), (&label, 1));
        graph.edge((&label, 1), (bundle, 3));
    }
    for (name, input) in &disk.inputs.charts {
        let locked = lock.and_then(|l| l.charts.iter().find(|c| c.name == *name));
        let label = format!("chart {name} {}{}", input.version, short(locked.map(|c| c.digest)));
        graph.edge((&host(&input.repo), 0), (&label, 1));
        graph.edge((&label, 1), (bundle, 3));
    }
    for ((kind, name, platform), input) in &disk.inputs.files {
        let locked =
            lock.and_then(|l| l.files.iter().find(|f| (f.kind, &f.name, f.platform) == (*kind, name, *platform)));
        let platform = platform.map(|p| format!(" {p}")).unwrap_or_default();
        let label = format!("{} {name}{platform}{}", kind.as_str(), short(locked.map(|f| f.content().0)));
        graph.edge((&host(&input.url), 0), (&label, 1));
        graph.edge((&label, 1), (bundle, 3));
    }
    made(disk, bundle, graph);
    for path in &disk.inputs.locals {
        let label = format!("file {path}{}", short(disk.locals.get(path).map(|(d, _)| *d)));
        graph.edge(("beside the profile", 0), (&label, 1));
        graph.edge((&label, 1), (bundle, 3));
    }
}

/// Images made here stand between what they are made of and the bundle.
fn made(disk: &OnDisk, bundle: &str, graph: &mut Graph) {
    for (reference, image) in &disk.inputs.made {
        let label = format!("image {reference}");
        graph.edge((&label, 2), (bundle, 3));
        let Some(found) = disk.defs.get(&image.def) else { continue };
        if let Some(debian) = &found.def.debian {
            let packages = format!("packages of {}", **debian);
            for suite in disk.inputs.debian.get(debian.as_str()).iter().flat_map(|d| &d.suites) {
                graph.edge((&format!("archive {}", suite.archive), 0), (&packages, 1));
            }
            graph.edge((&packages, 1), (&label, 2));
        }
        for wheels in &found.def.wheels {
            let wheels = format!("wheels {}", **wheels);
            graph.edge(("Python package index", 0), (&wheels, 1));
            graph.edge((&wheels, 1), (&label, 2));
        }
    }
}

/// Deploys stand between their inputs and the clusters they go to.
fn uses(disk: &OnDisk, bundle: &str, graph: &mut Graph) {
    let find = |graph: &Graph, prefix: &str| {
        graph
            .nodes
            .keys()
            .find(|n| n.split('\n').next().is_some_and(|l| l == prefix || l.starts_with(&format!("{prefix} "))))
            .cloned()
    };
    for deploy in &disk.profile.deploy {
        let label = format!("deploy {}", *deploy.name);
        let manifest = deploy.manifest.as_ref().and_then(|m| {
            let path = disk.profile.manifest.iter().find(|x| *x.name == **m).and_then(|x| x.path.as_ref());
            match path {
                Some(path) => find(graph, &format!("file {}", **path)),
                None => find(graph, &format!("manifest {}", **m)),
            }
        });
        let chart = deploy.chart.as_ref().and_then(|c| find(graph, &format!("chart {}", **c)));
        for input in manifest.into_iter().chain(chart) {
            graph.edge((&input, 1), (&label, 2));
        }
        graph.edge((&label, 2), (bundle, 3));
    }
}

fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

/// The graph in Graphviz's language.
pub fn dot(graph: &Graph) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let mut out =
        String::from("digraph lab {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n");
    for (column, name) in COLUMNS.iter().enumerate() {
        let nodes = graph.nodes.iter().filter(|(_, c)| **c == column).map(|(n, _)| quote(n));
        let _ = writeln!(out, "  {{ rank=same; // {name}\n    {}\n  }}", nodes.collect::<Vec<_>>().join(";\n    "));
    }
    for (from, to) in &graph.edges {
        let _ = writeln!(out, "  {} -> {};", quote(from), quote(to));
    }
    out + "}\n"
}

/// The graph as a drawing of its own: one column per kind of thing, curves between them.
pub fn svg(graph: &Graph) -> String {
    const WIDTH: usize = 330;
    const HEIGHT: usize = 34;
    const GAP: usize = 8;
    const PAD: usize = 20;
    let mut places = BTreeMap::new();
    let mut rows = [0; COLUMNS.len()];
    for (name, column) in &graph.nodes {
        let row = &mut rows[(*column).min(COLUMNS.len() - 1)];
        places.insert(name.as_str(), (PAD + column * (WIDTH + 110), PAD + *row * (HEIGHT + GAP)));
        *row += 1;
    }
    let height = 2 * PAD + rows.iter().max().unwrap_or(&0) * (HEIGHT + GAP);
    let width = 2 * PAD + COLUMNS.len() * (WIDTH + 110) - 110;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (from, to) in &graph.edges {
        let (Some((x1, y1)), Some((x2, y2))) = (places.get(from.as_str()), places.get(to.as_str())) else { continue };
        let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
        let bend = (x1 + x2) / 2;
        let _ =
            writeln!(out, "<path d=\"M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#bbb\"/>");
    }
    for (name, (x, y)) in &places {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"4\" fill=\"#f4f6fb\" stroke=\"#667\"/>"
        );
        let lines: Vec<&str> = name.split('\n').collect();
        let first = if lines.len() == 1 { y + 21 } else { y + 15 };
        for (i, line) in lines.iter().enumerate() {
            let text: String = line.chars().take(58).collect::<String>().replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{text}</text>", x + 8, first + i * 13);
        }
    }
    out + "</svg>\n"
}
