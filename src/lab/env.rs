//! What a shell needs to work with a lab: `labimg env`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::LabError;
use super::session::Session;

/// A lab's environment, as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LabEnv {
    /// The lab's name.
    pub lab: String,
    /// Kubeconfigs of the clusters that are there, in the profile's order.
    pub kubeconfigs: Vec<PathBuf>,
    /// Folder of the lab's host tools, where it has any: it goes in front of `PATH`.
    pub bin: Option<PathBuf>,
    /// Where attendees push to: `localhost:5001`.
    pub registries: Vec<String>,
}

/// The environment of a lab, of one of its clusters where given.
///
/// # Errors
/// A cluster that the lab does not have, or none that is there.
pub fn env(session: &Session, cluster: Option<&str>) -> Result<LabEnv, LabError> {
    let chosen = match cluster {
        Some(name) => vec![session.cluster(Some(name))?],
        None => session.profile.cluster.iter().collect(),
    };
    let kubeconfigs: Vec<PathBuf> =
        chosen.iter().map(|c| session.state.kubeconfig(&c.name)).filter(|path| path.is_file()).collect();
    if kubeconfigs.is_empty() && !chosen.is_empty() {
        let what = format!("lab `{}`", session.name());
        return Err(LabError::failed(what, "it has no cluster that is up").hint("`labimg up BUNDLE` brings it up"));
    }
    let bin = Some(session.state.dir().join("bin")).filter(|dir| dir.is_dir());
    let registries = chosen.iter().filter_map(|c| c.registry.as_ref()).map(|r| format!("localhost:{}", *r.port));
    Ok(LabEnv { lab: session.name().to_owned(), kubeconfigs, bin, registries: registries.collect() })
}

impl LabEnv {
    /// Variables and their values, in the order they are printed; `path` is the caller's `PATH`.
    pub fn variables(&self, path: &str) -> Vec<(&'static str, String)> {
        let mut all = vec![("LABIMG_LAB", self.lab.clone())];
        if !self.kubeconfigs.is_empty() {
            let paths: Vec<String> = self.kubeconfigs.iter().map(|p| p.display().to_string()).collect();
            all.push(("KUBECONFIG", paths.join(":")));
        }
        if let Some(bin) = &self.bin {
            all.push(("PATH", in_front(bin, path)));
        }
        if let Some(registry) = self.registries.first() {
            all.push(("LABIMG_REGISTRY", registry.clone()));
        }
        all
    }
}

/// `PATH` with a folder in front of it, once.
fn in_front(dir: &Path, path: &str) -> String {
    let dir = dir.display().to_string();
    let rest = path.split(':').filter(|part| *part != dir && !part.is_empty());
    [dir.as_str()].into_iter().chain(rest).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_that_mean_something() {
        let whole = LabEnv {
            lab: "shop".to_owned(),
            kubeconfigs: vec!["/s/kubeconfig/a".into(), "/s/kubeconfig/b".into()],
            bin: Some("/s/bin".into()),
            registries: vec!["localhost:5001".to_owned()],
        };
        let found = whole.variables("/usr/bin:/s/bin::/bin");
        assert_eq!(found[1], ("KUBECONFIG", "/s/kubeconfig/a:/s/kubeconfig/b".to_owned()));
        assert_eq!(found[2], ("PATH", "/s/bin:/usr/bin:/bin".to_owned()));
        let bare = LabEnv { kubeconfigs: vec![], bin: None, registries: vec![], ..whole };
        assert_eq!(bare.variables("").len(), 1);
    }
}
