//! What a profile asks for from outside, variables filled in and defaults applied: the list the lock answers.

use std::collections::{BTreeMap, BTreeSet};

use super::inputs_made::{DebianInput, ImageDefs, MadeImage};
use super::types::{Host, Profile};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, PackageSet, WheelSetLock};
use crate::model::platform::Platform;

/// Everything a profile needs from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Images by reference: declared ones, node images, registries.
    pub images: BTreeMap<ImageRef, ImageInput>,
    /// Charts by name.
    pub charts: BTreeMap<String, ChartInput>,
    /// Files from the network by kind, name and platform.
    pub files: BTreeMap<(FileKind, String, Option<Platform>), RemoteInput>,
    /// Files beside the profile, relative to its folder.
    pub locals: BTreeSet<String>,
    /// Debian tables by name.
    pub debian: BTreeMap<String, DebianInput>,
    /// Sets of packages by name.
    pub package_sets: BTreeMap<String, PackageSet>,
    /// Sets of wheels by name, with their platform.
    pub wheel_sets: BTreeMap<String, (Platform, WheelSetLock)>,
    /// Images made here, by reference.
    pub made: BTreeMap<ImageRef, MadeImage>,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInput {
    /// Where it really is, when the profile rewrites its name.
    pub source: Option<ImageRef>,
    /// Platforms to carry.
    pub platforms: BTreeSet<Platform>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartInput {
    /// Its own name.
    pub chart: String,
    /// Repository.
    pub repo: String,
    /// Exact version.
    pub version: String,
    /// What the author says the `.tgz` is.
    pub sha256: Option<Digest>,
}

/// A file from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteInput {
    /// Version, for tools.
    pub version: Option<String>,
    /// URL with its variables filled in.
    pub url: String,
    /// Archive member wanted.
    pub member: Option<String>,
    /// What the author says the URL serves.
    pub sha256: Option<Digest>,
    /// Must be a program for its platform.
    pub executable: bool,
}

impl Host {
    /// Its platform; `linux/amd64` where the profile says nothing.
    pub fn runs_on(&self) -> Platform {
        self.platform.as_ref().map_or(Platform::LinuxAmd64, |p| **p)
    }
}

impl Profile {
    /// The platforms of the lab's nodes and hosts; `linux/amd64` where the profile says nothing.
    pub fn platforms(&self) -> BTreeSet<Platform> {
        let nodes = self.cluster.iter().flat_map(|c| c.platforms.iter().map(|p| **p));
        let unsaid = self.cluster.iter().any(|c| c.platforms.is_empty()).then_some(Platform::LinuxAmd64);
        let hosts = self.host.iter().map(Host::runs_on);
        let all: BTreeSet<Platform> = nodes.chain(unsaid).chain(hosts).collect();
        if all.is_empty() { BTreeSet::from([Platform::LinuxAmd64]) } else { all }
    }

    /// Where an image really is, when `[rewrite]` names its repository, or its repository and tag.
    pub fn rewritten(&self, reference: &ImageRef) -> Option<ImageRef> {
        let by_tag = self.rewrite.iter().find(|(from, _)| {
            has_tag(from)
                && from.parse::<ImageRef>().is_ok_and(|f| f.name() == reference.name() && f.tag == reference.tag)
        });
        let by_name = || {
            let mut plain = self.rewrite.iter().filter(|(from, _)| !has_tag(from));
            plain.find(|(from, _)| from.parse::<ImageRef>().is_ok_and(|f| f.name() == reference.name()))
        };
        let (_, to) = by_tag.or_else(by_name)?;
        let target = to.parse::<ImageRef>().ok()?;
        let tag = if has_tag(to) { target.tag } else { reference.tag.clone() };
        Some(ImageRef { tag, digest: target.digest.or(reference.digest), ..target })
    }

    /// Everything this profile needs from outside; `defs` holds the `image.toml` of every image made here.
    pub fn inputs(&self, defs: &ImageDefs) -> Inputs {
        let mut inputs = Inputs::default();
        self.image_inputs(&mut inputs);
        for chart in &self.chart {
            let input = ChartInput {
                chart: chart.chart.as_ref().map_or_else(|| chart.name.to_string(), |c| c.to_string()),
                repo: chart.repo.trim_end_matches('/').to_owned(),
                version: chart.version.to_string(),
                sha256: chart.sha256.as_ref().map(|h| h.0),
            };
            inputs.charts.insert(chart.name.to_string(), input);
        }
        self.file_inputs(&mut inputs);
        self.local_inputs(&mut inputs);
        self.made_inputs(defs, &mut inputs);
        inputs
    }

    fn image_inputs(&self, inputs: &mut Inputs) {
        let mut want = |reference: &ImageRef, platforms: BTreeSet<Platform>| {
            let input = inputs.images.entry(reference.clone()).or_default();
            input.source = self.rewritten(reference);
            input.platforms.extend(platforms);
        };
        for image in self.image.iter().filter(|i| i.build.is_none()) {
            want(&image.reference, self.image_platforms(image));
        }
        for cluster in &self.cluster {
            let mut nodes: BTreeSet<Platform> = cluster.platforms.iter().map(|p| **p).collect();
            if nodes.is_empty() {
                nodes.insert(Platform::LinuxAmd64);
            }
            let registry = cluster.registry.as_ref().and_then(|r| r.image.as_ref());
            for reference in cluster.node_image.iter().chain(registry) {
                want(reference, nodes.clone());
            }
        }
    }

    fn file_inputs(&self, inputs: &mut Inputs) {
        for (name, tool) in &self.tool {
            let own: BTreeSet<Platform> = tool.platforms.iter().map(|p| **p).collect();
            for platform in if own.is_empty() { self.platforms() } else { own } {
                let fill = |text: &str| {
                    text.replace("{version}", &tool.version)
                        .replace("{os}", platform.os())
                        .replace("{arch}", platform.arch())
                };
                let input = RemoteInput {
                    version: Some(tool.version.to_string()),
                    url: fill(&tool.url),
                    member: tool.member.as_ref().map(|m| fill(m)),
                    sha256: tool.sha256.get(&platform).map(|h| h.0),
                    executable: true,
                };
                inputs.files.insert((FileKind::Tool, name.clone(), Some(platform)), input);
            }
        }
        for manifest in &self.manifest {
            let Some(url) = &manifest.url else { continue };
            let sha256 = manifest.sha256.as_ref().map(|h| h.0);
            let input = RemoteInput { version: None, url: url.to_string(), member: None, sha256, executable: false };
            inputs.files.insert((FileKind::Manifest, manifest.name.to_string(), None), input);
        }
        for file in &self.file {
            let Some(url) = &file.url else { continue };
            let input = RemoteInput {
                version: None,
                url: url.to_string(),
                member: file.member.as_ref().map(|m| m.to_string()),
                sha256: file.sha256.as_ref().map(|h| h.0),
                executable: file.executable,
            };
            let platform = file.platform.as_ref().map(|p| **p);
            inputs.files.insert((FileKind::File, file.name.to_string(), platform), input);
        }
    }

    fn local_inputs(&self, inputs: &mut Inputs) {
        inputs.locals.extend(self.host.iter().filter_map(|h| h.compose.as_deref()).cloned());
        inputs.locals.extend(self.chart.iter().filter_map(|c| c.values.as_deref()).cloned());
        inputs.locals.extend(self.manifest.iter().filter_map(|m| m.path.as_deref()).cloned());
        inputs.locals.extend(self.file.iter().filter_map(|f| f.path.as_deref()).cloned());
        inputs.locals.extend(self.text.iter().map(|t| t.path.to_string()));
        let mounts = self.cluster.iter().flat_map(|c| &c.mounts);
        inputs.locals.extend(mounts.filter_map(|m| m.path.as_deref()).cloned());
    }
}

/// Whether a rewrite's side says a tag or digest (the last part after `/` has a colon or an `@`).
fn has_tag(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// The names in `{braces}` of a text.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
