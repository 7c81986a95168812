//! Parts of a lab that run images and that nothing here looks into.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::manifest::Object;
use crate::model::profile::Profile;

/// What kind of part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnseenKind {
    /// A chart: it is not rendered.
    Chart,
    /// A deploy of Istio: its charts are inside istioctl.
    Istio,
    /// A host's compose file.
    Compose,
    /// A kind of custom resource: its operator may start what it likes.
    CustomResource,
}

/// A part that was not looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unseen {
    /// What kind of part.
    pub kind: UnseenKind,
    /// The chart's or deploy's name in the profile, the compose file's path; of custom resources, their kind and group.
    pub name: String,
    /// How many of that name there are: more than one of custom resources only.
    pub count: usize,
}

impl UnseenKind {
    /// `n` of them, in words.
    pub fn counted(self, n: usize) -> String {
        let (one, several) = match self {
            Self::Chart => ("chart", "charts"),
            Self::Istio => ("deploy of Istio", "deploys of Istio"),
            Self::Compose => ("compose file", "compose files"),
            Self::CustomResource => ("custom resource", "custom resources"),
        };
        format!("{n} {}", if n == 1 { one } else { several })
    }
}

/// The parts that the profile's own tables name.
pub(super) fn of_profile(profile: &Profile) -> Vec<Unseen> {
    let one = |kind, name: String| Unseen { kind, name, count: 1 };
    let charts = profile.chart.iter().map(|c| one(UnseenKind::Chart, c.name.to_string()));
    let istio = profile.deploy.iter().filter(|d| d.istio.is_some());
    let istio = istio.map(|d| one(UnseenKind::Istio, d.name.to_string()));
    let compose = profile.host.iter().filter_map(|h| h.compose.as_ref());
    let compose = compose.map(|file| one(UnseenKind::Compose, file.to_string()));
    let mut all: Vec<Unseen> = charts.chain(istio).chain(compose).collect();
    // Several hosts may run one compose file.
    let mut seen = Vec::new();
    all.retain(|part| {
        let new = !seen.contains(&(part.kind, part.name.clone()));
        seen.push((part.kind, part.name.clone()));
        new
    });
    all
}

/// Groups of custom resources that tell a program which runs already what to do, and start nothing (istio.io, "Configuration";
/// cert-manager.io, "API reference").
const QUIET: [&str; 8] = [
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "cert-manager.io",
    "acme.cert-manager.io",
    "metallb.io",
    "traefik.io",
];

/// Custom resources, counted by kind.
#[derive(Default)]
pub(super) struct Custom {
    found: BTreeMap<String, usize>,
}

impl Custom {
    /// Takes an object in, where it is a custom resource whose operator may start something.
    pub(super) fn add(&mut self, object: &Object) {
        let Some((group, _)) = object.api_version().split_once('/') else { return };
        // Kubernetes' own groups have no dot (`apps`, `batch`), or end so.
        let own = !group.contains('.') || group == "k8s.io" || group.ends_with(".k8s.io");
        if !own && !QUIET.contains(&group) {
            *self.found.entry(format!("{} ({group})", object.kind())).or_default() += 1;
        }
    }

    /// What was taken in.
    pub(super) fn unseen(self) -> impl Iterator<Item = Unseen> {
        self.found.into_iter().map(|(name, count)| Unseen { kind: UnseenKind::CustomResource, name, count })
    }
}
