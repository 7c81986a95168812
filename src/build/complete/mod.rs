//! Does a lab carry what `labimg up` needs to bring it up? Asked of a profile and its lock alone, so that the author hears of it
//! when locking, not an attendee in a room without internet. What a particular machine must have is `lab::preflight`'s business,
//! which asks here, too.

pub mod balancer;
mod idle;
mod kind;
mod paste;

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;

/// [`Lack::part`] of the image that kind starts before several control planes.
pub const BALANCER: &str = "load balancer image";

pub use idle::{Idle, Instead, by_compose, engine_name, idle, runs};
pub use kind::{Balancer, load_balancer, node_image};

use crate::model::lock::{FileKind, Lock};
use crate::model::platform::Platform;
use crate::model::profile::{Cluster, Engine, Profile};
use crate::model::source_map::SourceMap;

/// Something that a lab lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lack {
    /// What it is: `tool kind`, `labimg itself`, `node image`.
    pub part: String,
    /// Who needs it, or what is wrong with what is there.
    pub why: String,
    /// Whether `labimg up` fails without it; otherwise it only does less.
    pub needed: bool,
    /// Lines for the profile that would bring it, where lines do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<String>,
    /// What else to do, where lines alone are not enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where the profile asks for it: `lab.toml:12:10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The same as a span in the profile's source map.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl Lack {
    fn new(part: impl Into<String>, why: impl Into<String>, span: Range<usize>) -> Self {
        let (part, why) = (part.into(), why.into());
        Self { part, why, needed: true, lines: None, hint: None, at: None, span }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let at = self.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
        format!("{}{at}: {}", self.part, self.why)
    }

    /// What to do, as one text.
    pub fn advice(&self) -> String {
        advice(std::slice::from_ref(self))
    }
}

/// What to do about all of them: lines for the profile in one block, each once, then the rest.
pub fn advice(lacks: &[Lack]) -> String {
    let mut blocks: Vec<&str> = Vec::new();
    for lines in lacks.iter().filter_map(|l| l.lines.as_deref()) {
        if !blocks.contains(&lines) {
            blocks.push(lines);
        }
    }
    let mut parts = Vec::new();
    if !blocks.is_empty() {
        parts.push(format!("add to the profile:\n{}", blocks.join("\n\n")));
    }
    for hint in lacks.iter().filter_map(|l| l.hint.clone()) {
        if !parts.contains(&hint) {
            parts.push(hint);
        }
    }
    parts.join("\n")
}

/// A program that `labimg up`, or work with what is up, runs on the attendee's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolNeed {
    /// Its name in the profile's `[tool.NAME]`.
    pub name: &'static str,
    /// Who runs it.
    pub by: String,
    /// Whether `labimg up` fails without it.
    pub needed: bool,
    span: Range<usize>,
}

/// The programs of the attendee's machine that a lab needs, each once.
pub fn tools(profile: &Profile) -> Vec<ToolNeed> {
    let mut found: Vec<ToolNeed> = Vec::new();
    let mut add = |name: &'static str, by: String, needed: bool, span: Range<usize>| {
        if !found.iter().any(|t| t.name == name) {
            found.push(ToolNeed { name, by, needed, span });
        }
    };
    for cluster in profile.cluster.iter().filter(|c| *c.engine == Engine::Kind) {
        add("kind", format!("it makes cluster `{}`", *cluster.name), true, cluster.engine.span());
    }
    for deploy in &profile.deploy {
        if deploy.chart.is_some() {
            add("helm", format!("deploy `{}` is a chart", *deploy.name), true, deploy.name.span());
        }
        if deploy.istio.is_some() {
            add("istioctl", format!("deploy `{}` is Istio", *deploy.name), true, deploy.name.span());
        }
    }
    // `labimg up` applies manifests without it.
    for cluster in profile.cluster.iter().filter(|c| runs(*c.engine)) {
        let by = format!("`labimg kubectl` runs it in cluster `{}`", *cluster.name);
        add("kubectl", by, false, cluster.name.span());
    }
    found
}

/// What a lab lacks to come up. With `here`, only what counts for machines whose nodes are of that platform; otherwise for every
/// platform the profile states. Empty where nothing lacks.
pub fn lacks(profile: &Profile, lock: &Lock, here: Option<Platform>) -> Vec<Lack> {
    if is_empty(profile) {
        let mut lack = Lack::new("the lab", "there is nothing in it", profile.name.span());
        lack.hint = Some(
            "say what it is made of: `[[image]]`, `[[cluster]]`, `[[manifest]]`, `[[host]]`, `[[box]]`, …; \
             `labimg schema` lists all of it"
                .to_owned(),
        );
        return vec![lack];
    }
    let mut found: Vec<Lack> = profile.cluster.iter().filter(|c| !runs(*c.engine)).map(engine).collect();
    found.extend(tools(profile).iter().filter_map(|need| tool(profile, lock, need, here)));
    found.extend(parts(profile, lock, here));
    found
}

/// What a lab lacks for its clusters beside the engine and the attendee's programs: images that the engine itself starts, the
/// registry, labimg. `here` as for [`lacks`].
pub fn parts(profile: &Profile, lock: &Lock, here: Option<Platform>) -> Vec<Lack> {
    let kinds = profile.cluster.iter().filter(|c| *c.engine == Engine::Kind);
    let mut once: Vec<Lack> = Vec::new();
    for lack in kinds.flat_map(|cluster| kind::lacks(profile, lock, cluster, here)) {
        // Several clusters lack one labimg.
        let same = |other: &Lack| {
            other.part == lack.part
                && (other.lines.is_some() || other.hint.is_some())
                && (&other.lines, &other.hint) == (&lack.lines, &lack.hint)
        };
        if !once.iter().any(same) {
            once.push(lack);
        }
    }
    once
}

/// The same with the places of a profile that was read from `sources`.
pub fn lacks_at(profile: &Profile, lock: &Lock, sources: &SourceMap) -> Vec<Lack> {
    let mut found = lacks(profile, lock, None);
    for lack in &mut found {
        lack.at = sources.locate(&lack.span).map(|at| at.to_string());
    }
    found
}

/// Whether a profile says nothing of what a lab is made of.
fn is_empty(profile: &Profile) -> bool {
    let lists = [
        profile.cluster.is_empty(),
        profile.host.is_empty(),
        profile.tool.is_empty(),
        profile.image.is_empty(),
        profile.boxes.is_empty(),
        profile.chart.is_empty(),
        profile.manifest.is_empty(),
        profile.file.is_empty(),
        profile.text.is_empty(),
        profile.wheel.is_empty(),
        profile.step.is_empty(),
    ];
    lists.into_iter().all(|none| none)
}

fn engine(cluster: &Cluster) -> Lack {
    let name = engine_name(*cluster.engine);
    let why = format!("this version of labimg does not bring {name} up");
    let mut lack = Lack::new(format!("engine of cluster `{}`", *cluster.name), why, cluster.engine.span());
    lack.hint = Some(format!(
        "say `engine = \"kind\"` for cluster `{}`, or bring the cluster up yourself and name it with \
         `engine = \"existing\"` and `context = …`",
        *cluster.name
    ));
    lack
}

/// The architectures that the tool is needed for: attendees sit at machines of the nodes' architecture, whatever their system.
fn tool(profile: &Profile, lock: &Lock, need: &ToolNeed, here: Option<Platform>) -> Option<Lack> {
    let held: BTreeSet<Platform> = lock
        .files
        .iter()
        .filter(|f| f.kind == FileKind::Tool && f.name == need.name)
        .filter_map(|f| f.platform)
        // labimg, which runs it, is not there for others.
        .filter(|p| p.os() != "windows")
        .collect();
    let kinds = profile.cluster.iter().filter(|c| *c.engine == Engine::Kind);
    let wanted: BTreeSet<Platform> = match here {
        Some(here) => BTreeSet::from([here]),
        None => kinds.flat_map(Cluster::node_platforms).collect(),
    };
    let lacking: Vec<String> =
        wanted.iter().filter(|w| !held.iter().any(|h| h.arch() == w.arch())).map(ToString::to_string).collect();
    let (why, lines, hint) = match (held.is_empty(), lacking.is_empty()) {
        (false, true) => return None,
        (true, _) => {
            let kubernetes = profile.cluster.iter().find_map(|c| c.kubernetes.as_ref()).map(|v| v.as_str());
            (format!("the lab does not carry it, and {}", need.by), paste::tool(need.name, kubernetes), None)
        }
        (false, false) => {
            let all: Vec<String> = held.iter().map(ToString::to_string).chain(lacking.iter().cloned()).collect();
            let hint = format!("say `platforms = {all:?}` in `[tool.{}]`", need.name);
            (format!("the lab carries it for no {}, and {}", lacking.join(", "), need.by), None, Some(hint))
        }
    };
    let mut lack = Lack::new(format!("tool {}", need.name), why, need.span.clone());
    (lack.needed, lack.lines, lack.hint) = (need.needed, lines, hint);
    Some(lack)
}

#[cfg(test)]
mod tests;
