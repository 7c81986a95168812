//! What a profile says and this version does not carry out: read, checked and carried, and brought up by nobody.

use serde::Serialize;

use crate::base::shell::word;
use crate::model::profile::{Cluster, Engine, Host, Profile, Reach};

/// Something of a lab that `labimg up` does not bring up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Idle {
    /// What it is: `host laptop`, `link from a to b (service web)`.
    pub what: String,
    /// Why labimg leaves it alone, as the rest of a sentence about it.
    pub why: String,
    /// What a person can do instead.
    pub instead: Instead,
}

/// What brings up what labimg does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instead {
    /// `vagrant up` in the lab's folder for Vagrant.
    Vagrant,
    /// Docker Compose with this file of the bundle.
    Compose(String),
    /// By hand, as the lab's text says.
    Hand,
}

/// The engines this version brings up.
pub fn runs(engine: Engine) -> bool {
    matches!(engine, Engine::Kind | Engine::Existing)
}

/// An engine as profiles write it.
pub fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Kind => "kind",
        Engine::Minikube => "minikube",
        Engine::K3s => "k3s",
        Engine::Existing => "existing",
    }
}

/// Everything that `labimg up` leaves alone, in the profile's order: clusters of engines that do not run, hosts, links.
pub fn idle(profile: &Profile) -> Vec<Idle> {
    let clusters = profile.cluster.iter().filter(|c| !runs(*c.engine)).map(cluster);
    let links = profile.link.iter().map(|link| Idle {
        what: format!("link from {} to {} (service {})", *link.from, *link.to, *link.service),
        why: "this version of labimg makes no links between clusters".to_owned(),
        instead: Instead::Hand,
    });
    clusters.chain(profile.host.iter().map(host)).chain(links).collect()
}

fn cluster(cluster: &Cluster) -> Idle {
    let name = engine_name(*cluster.engine);
    Idle {
        what: format!("cluster {}", *cluster.name),
        why: format!("this version of labimg does not bring {name} up"),
        instead: Instead::Hand,
    }
}

fn host(host: &Host) -> Idle {
    let (why, instead) = match (host.reach, &host.compose) {
        (Reach::Vagrant, _) => ("Vagrant brings it up, not labimg".to_owned(), Instead::Vagrant),
        (reach, Some(file)) => {
            let why = format!("this version of labimg runs no compose file{}", there(reach));
            (why, if reach == Reach::Local { Instead::Compose(file.to_string()) } else { Instead::Hand })
        }
        (Reach::Local, None) => ("nothing is brought up on it".to_owned(), Instead::Hand),
        (reach, None) => (format!("this version of labimg brings nothing up{}", there(reach)), Instead::Hand),
    };
    Idle { what: format!("host {}", *host.name), why, instead }
}

fn there(reach: Reach) -> &'static str {
    match reach {
        Reach::Ssh => " over SSH",
        Reach::Docker => " in a container that plays a host",
        Reach::Local | Reach::Vagrant => "",
    }
}

impl Idle {
    /// One line for people.
    pub fn line(&self) -> String {
        format!("{}: {}", self.what, self.why)
    }
}

/// The commands that run a lab's compose files on this machine, out of the bundle at `bundle`: images first, where it has any.
/// Nothing where there is no such file.
pub fn by_compose(bundle: &std::path::Path, idle: &[Idle], images: bool) -> Vec<String> {
    let files = idle.iter().filter_map(|i| match &i.instead {
        Instead::Compose(file) => Some(file),
        _ => None,
    });
    let mut lines = Vec::new();
    for file in files {
        // In the folder people are in, under the file's own name.
        let here = file.rsplit('/').next().unwrap_or(file);
        let (inside, here) = (word(std::path::Path::new(file)), word(std::path::Path::new(here)));
        lines.push(format!("labimg cat {} {inside} > {here}", word(bundle)));
        lines.push(format!("docker compose -f {here} up -d"));
    }
    if images && !lines.is_empty() {
        lines.insert(0, format!("labimg export {} --docker -o - | docker load", word(bundle)));
    }
    lines
}
