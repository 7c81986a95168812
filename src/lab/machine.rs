//! What the caller knows of the machine: nothing below `cli` reads environment or settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::platform::Platform;

/// The machine a lab runs on.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Folder with one state folder per lab.
    pub state_root: PathBuf,
    /// Directories host programs (`docker`) are looked up in.
    pub path: Vec<PathBuf>,
    /// Environment that host programs get; labimg itself reads `DOCKER_HOST`, `DOCKER_CONFIG` and `HOME` from it only.
    pub env: BTreeMap<String, String>,
    /// Quirks of engines on this machine, by engine.
    pub engines: BTreeMap<String, EngineSettings>,
    /// Take `kind`, `kubectl`, `helm`… from `path` instead of the bundle.
    pub tools_from_path: bool,
    /// This machine's platform; `None` where no tool can be for it.
    pub platform: Option<Platform>,
    /// Where relative paths of `host` mounts start.
    pub directory: PathBuf,
    /// The folder of a lab's `Vagrantfile`, where a person names it or stands in it.
    pub vagrant: Option<super::vagrant::Folder>,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// How many things may run at once.
    pub jobs: usize,
}

/// Quirks of one engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// Further patches of the engine's configuration (kubeadm patches for kind).
    pub config_patches: Vec<String>,
    /// Feature gates.
    pub feature_gates: BTreeMap<String, bool>,
    /// Further environment of the engine's own program.
    pub env: BTreeMap<String, String>,
}
