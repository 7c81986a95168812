//! What types can not say: names, references between tables, ports, variables.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::lab::{Cluster, Engine};
use super::load::MOST_FINDINGS;
use super::types::{Profile, Tool};
use super::{validate_box, validate_deploy, validate_lab, validate_machine, validate_made};
use crate::base::shown;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::source_map::{Diagnostic, Loc, SourceMap};
use crate::model::url_policy::{UrlError, check_url};

/// Collects what is wrong.
pub(in crate::model) struct Findings<'a> {
    sources: &'a SourceMap,
    pub(in crate::model) list: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    /// Nothing wrong yet with what `sources` holds.
    pub(in crate::model) fn new(sources: &'a SourceMap) -> Self {
        Self { sources, list: Vec::new() }
    }

    /// Whether more would not be told: then nothing is looked for that is only for telling.
    pub(in crate::model) fn is_full(&self) -> bool {
        self.list.len() >= MOST_FINDINGS
    }

    /// Something is wrong at `span`.
    pub(in crate::model) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        // Finding a place reads the file up to it: what is not told is not looked for.
        let found = match self.is_full() {
            false => Diagnostic::new(self.sources, span, message),
            true => Diagnostic { message: message.into(), at: None, related: Vec::new(), hint: None },
        };
        self.list.push(found);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// `name` must be one of `known`.
    pub(in crate::model) fn must_exist(&mut self, name: &Loc<String>, kind: &str, known: &BTreeSet<&str>) {
        if !known.contains(name.as_str()) {
            let near = if self.is_full() { None } else { shown::nearest(name, known.iter().copied()) };
            let hint = near.map(|n| format!("did you mean `{n}`?"));
            self.add(&name.span(), format!("there is no {kind} called `{}`", **name)).hint = hint;
        }
    }

    /// Two things that must differ stand at `span` and `first`.
    pub(in crate::model) fn clash(&mut self, span: &Range<usize>, first: &Range<usize>, message: String) {
        let sources = self.sources;
        let found = self.add(span, message);
        if found.at.is_some() {
            *found = found.clone().also(sources, first, "the other one");
        }
    }
}

/// Everything wrong with a profile whose types are right.
pub(super) fn validate(profile: &Profile, sources: &SourceMap) -> Vec<Diagnostic> {
    let mut found = Findings::new(sources);
    names(profile, &mut found);
    for cluster in &profile.cluster {
        check_cluster(cluster, &mut found);
    }
    ports(profile, &mut found);
    hosts(profile, &mut found);
    for (name, tool) in &profile.tool {
        check_tool(name, tool, &mut found);
    }
    inputs(profile, &mut found);
    rewrites(profile, &mut found);
    validate_lab::secrets(profile, &mut found);
    validate_lab::clusters(profile, &mut found);
    validate_made::made(profile, &mut found);
    validate_box::boxes(profile, &mut found);
    validate_machine::machines(profile, &mut found);
    validate_deploy::deploys(profile, &mut found);
    validate_deploy::links(profile, &mut found);
    validate_lab::checks(profile, &mut found);
    found.list
}

/// What [`is_name`] wants, for people.
pub(super) const NAME_RULE: &str =
    "a name is up to 63 lower-case letters, digits, `-`, `.` and `_`, starting with a letter or digit";

/// Whether a lab, a table or a file can be called so: a name never leads to another folder.
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c))
}

fn names(profile: &Profile, found: &mut Findings<'_>) {
    let mut all: Vec<&Loc<String>> = vec![&profile.name];
    all.extend(profile.cluster.iter().map(|c| &c.name));
    all.extend(profile.host.iter().map(|h| &h.name));
    all.extend(profile.chart.iter().map(|c| &c.name));
    all.extend(profile.manifest.iter().map(|m| &m.name));
    all.extend(profile.file.iter().map(|f| &f.name));
    all.extend(profile.deploy.iter().map(|d| &d.name));
    all.extend(profile.wheel.iter().map(|w| &w.name));
    all.extend(profile.step.iter().map(|s| &s.name));
    for name in all.into_iter().filter(|n| !is_name(n)) {
        found.add(&name.span(), format!("`{}` is not a name", **name)).hint = Some(NAME_RULE.to_owned());
    }
    for (name, tool) in profile.tool.iter().filter(|(name, _)| !is_name(name)) {
        found.add(&tool.version.span(), format!("`{name}` is not a name")).hint = Some(NAME_RULE.to_owned());
    }
}

fn check_cluster(cluster: &Cluster, found: &mut Findings<'_>) {
    let existing = *cluster.engine == Engine::Existing;
    if existing != cluster.context.is_some() {
        let span = cluster.context.as_ref().map_or(cluster.engine.span(), Loc::span);
        found.add(&span, "`context` goes with engine `existing`, and only with it");
    }
    match &cluster.kubernetes {
        Some(version) if !version.starts_with('v') => {
            found.add(&version.span(), format!("`{}` is not a Kubernetes version", **version)).hint =
                Some(format!("write `v{}`", **version));
        }
        None if !existing => {
            found.add(&cluster.name.span(), format!("cluster `{}` has no `kubernetes` version", *cluster.name));
        }
        _ => {}
    }
    if let Some(count) = cluster.control_planes.as_ref().filter(|n| ***n == 0 || ***n > 9) {
        found.add(&count.span(), "a cluster has 1 to 9 control planes");
    }
    if let Some(count) = cluster.workers.as_ref().filter(|n| ***n > 100) {
        found.add(&count.span(), "a cluster has at most 100 workers");
    }
    containers_only(&cluster.platforms, "a node", found);
}

fn containers_only(platforms: &[Loc<Platform>], what: &str, found: &mut Findings<'_>) {
    for platform in platforms.iter().filter(|p| !p.runs_containers()) {
        let text = format!("`{}` is not possible here: {what} is linux/amd64 or linux/arm64", **platform);
        found.add(&platform.span(), text);
    }
}

fn ports(profile: &Profile, found: &mut Findings<'_>) {
    let mut seen: BTreeMap<(u16, String), Range<usize>> = BTreeMap::new();
    for cluster in &profile.cluster {
        let registry = cluster.registry.iter().map(|r| (&r.port, "Tcp".to_owned()));
        let forwards = cluster.ports.iter().map(|p| (&p.host, format!("{:?}", p.protocol)));
        for (port, protocol) in registry.chain(forwards) {
            if **port == 0 {
                found.add(&port.span(), "port 0 is no port");
            } else if let Some(first) = seen.insert((**port, protocol), port.span()) {
                found.clash(&port.span(), &first, format!("port {} of the attendee's machine is taken twice", **port));
            }
        }
    }
}

fn hosts(profile: &Profile, found: &mut Findings<'_>) {
    for host in &profile.host {
        if let Some(platform) = &host.platform {
            containers_only(std::slice::from_ref(platform), "a host", found);
        }
        if let Some(cluster) = profile.cluster.iter().find(|c| *c.name == *host.name) {
            found.clash(
                &host.name.span(),
                &cluster.name.span(),
                format!("`{}` names a host and a cluster", *host.name),
            );
        }
    }
}

fn check_tool(name: &str, tool: &Tool, found: &mut Findings<'_>) {
    for text in [Some(&tool.url), tool.member.as_ref()].into_iter().flatten() {
        for variable in super::inputs::variables(text) {
            if !matches!(variable, "version" | "os" | "arch") {
                found.add(&text.span(), format!("`{{{variable}}}` is not a variable of tool `{name}`")).hint =
                    Some("known are {version}, {os} and {arch}".to_owned());
            }
        }
    }
    url(&tool.url, found);
    for (platform, hash) in &tool.sha256 {
        if !tool.platforms.is_empty() && !tool.platforms.iter().any(|p| **p == *platform) {
            found.add(&hash.span(), format!("tool `{name}` is not carried for {platform}"));
        }
    }
}

fn url(text: &Loc<String>, found: &mut Findings<'_>) {
    let plain = text.replace(['{', '}'], "");
    let Err(error) = check_url(&plain) else { return };
    let diagnostic = found.add(&text.span(), error.to_string());
    if let (UrlError::UserInfo { .. } | UrlError::Signed { .. }, Some(at)) = (&error, &mut diagnostic.at) {
        // The line holds a secret: it must not reach a terminal that is shared, or a CI's log.
        at.text = " ".repeat(at.column - 1) + "(not shown)";
    }
}

fn inputs(profile: &Profile, found: &mut Findings<'_>) {
    let mut tagged: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for image in &profile.image {
        let name = image.reference.tagged();
        if let Some(first) = tagged.insert(name.clone(), image.reference.span()) {
            found.clash(&image.reference.span(), &first, format!("two images would both be called `{name}`"));
        }
    }
    for image in &profile.image {
        containers_only(&image.platforms, "an image", found);
    }
    for chart in &profile.chart {
        match chart.repo.strip_prefix("oci://") {
            Some(rest) if format!("{rest}/x:1").parse::<ImageRef>().is_err() => {
                found.add(&chart.repo.span(), format!("`{}` is not the address of an OCI repository", *chart.repo));
            }
            Some(_) => {}
            None => url(&chart.repo, found),
        }
    }
    let manifests = profile.manifest.iter().map(|m| (&m.name, &m.url, &m.path, &m.sha256, &m.text, "manifest"));
    let files = profile.file.iter().map(|f| (&f.name, &f.url, &f.path, &f.sha256, &None, "file"));
    for (name, address, path, sha256, text, kind) in manifests.chain(files) {
        if [address.is_some(), path.is_some(), text.is_some()].into_iter().filter(|given| *given).count() != 1 {
            let ways =
                if kind == "manifest" { "exactly one of `url`, `path` and `text`" } else { "either `url` or `path`" };
            found.add(&name.span(), format!("{kind} `{}` needs {ways}", **name));
        }
        if let (Some(hash), None) = (sha256, address) {
            found.add(&hash.span(), "`sha256` goes with `url`; a file beside the profile is hashed by the lock");
        }
        if let Some(address) = address {
            url(address, found);
        }
    }
    for file in profile.file.iter().filter(|f| f.executable && f.platform.is_none()) {
        found.add(&file.name.span(), format!("file `{}` is executable: on which `platform`?", *file.name));
    }
    for file in &profile.file {
        if let (Some(member), None) = (&file.member, &file.url) {
            found.add(&member.span(), "`member` goes with `url`");
        }
    }
}

fn rewrites(profile: &Profile, found: &mut Findings<'_>) {
    for (from, to) in &profile.rewrite {
        let parsed = (from.parse::<ImageRef>(), to.parse::<ImageRef>());
        match parsed {
            (Err(e), _) | (_, Err(e)) => {
                found.add(&to.span(), e.to_string());
            }
            (Ok(a), Ok(b)) if a == b => {
                found.add(&to.span(), "rewrites a name to itself");
            }
            _ => {}
        }
    }
}
