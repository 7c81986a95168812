//! The state folder of a lab: `<state root>/<lab>/`, readable by its owner only.
//!
//! ```text
//! lab.json               which bundle, which clusters, how far they are
//! kubeconfig/<cluster>   (0600)
//! secrets/<name>…        (0600)
//! bin/<tool>             host programs out of the bundle
//! nodes/<cluster>/…      what nodes mount: certs.d, tracing, files of the profile
//! deploys/<name>.json    what was applied last, and how it went
//! lock                   one `up` or `down` at a time
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::error::LabError;
use crate::base::atomic;
use crate::base::bounded;
use crate::base::bounds::JSON_BYTES;
use crate::base::digest::Digest;
use crate::base::flock::{self, FileLock, Mode};
use crate::base::regular;

/// The state folder of one lab.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

/// `lab.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LabFile {
    /// The lab's name.
    pub name: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Its identity.
    pub identity: Option<Digest>,
    /// Clusters that exist or are half made.
    #[serde(default)]
    pub clusters: BTreeMap<String, ClusterFile>,
    /// Whether labimg made the engine's network, so that `down` may take it away.
    #[serde(default)]
    pub own_network: bool,
    /// Images that labimg loaded into the engine, by the names they have there.
    #[serde(default)]
    pub loaded_images: BTreeSet<String>,
    /// Containers that stand beside the clusters, and their roles: one that is not there is told by `status`.
    #[serde(default)]
    pub beside: BTreeMap<String, String>,
    /// Clusters of the profile: one that is not in `clusters` was not begun.
    #[serde(default)]
    pub wanted: BTreeSet<String>,
    /// What of the lab labimg does not bring up, and never looks at: a line each.
    #[serde(default)]
    pub idle: Vec<String>,
}

/// One cluster in `lab.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterFile {
    /// `kind`, `existing`.
    pub engine: String,
    /// Whether the engine said that it is there; otherwise it is half made, and made anew.
    pub made: bool,
    /// Digest of the engine's configuration it was made with.
    #[serde(default)]
    pub configuration: String,
    /// What stood in the node image's own store: manifest and configuration digests.
    #[serde(default)]
    pub node_images: Vec<Digest>,
    /// Addresses of its nodes when it was made: certificates and etcd know them by these.
    #[serde(default)]
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl State {
    /// The state of `lab` under `root`; nothing is made yet.
    pub fn new(root: &Path, lab: &str) -> Self {
        Self { dir: root.join(lab) }
    }

    /// Labs that have a state folder under `root`, sorted.
    ///
    /// # Errors
    /// A root that can not be read; one that is not there holds no labs.
    pub fn labs(root: &Path) -> Result<Vec<String>, LabError> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.path().join("lab.json").is_file() {
                found.extend(entry.file_name().into_string().ok());
            }
        }
        found.sort();
        Ok(found)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A subfolder, made with mode 0700 where it is not there.
    ///
    /// # Errors
    /// A folder that can not be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, LabError> {
        let dir = if name.is_empty() { self.dir.clone() } else { self.dir.join(name) };
        self.no_links(name)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| LabError::io(&dir, "make", e))?;
        Ok(dir)
    }

    /// That the folder, and what is below it on the way to `name`, is the lab's own.
    fn no_links(&self, name: &str) -> Result<(), LabError> {
        regular::refuse_link(&self.dir)?;
        Ok(regular::refuse_links(&self.dir, Path::new(name))?)
    }

    /// Kubeconfig of a cluster; the file may not be there.
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.dir.join("kubeconfig").join(cluster)
    }

    /// One `up` or `down` at a time: held until dropped.
    ///
    /// # Errors
    /// Another labimg works on this lab.
    pub fn lock(&self) -> Result<FileLock, LabError> {
        let path = self.folder("")?.join("lock");
        flock::lock(&path, Mode::Exclusive, Duration::ZERO).map_err(|error| {
            LabError::failed(format!("`{}` is in use", self.dir.display()), error)
                .hint("another `labimg up` or `labimg down` works on this lab: wait for it")
        })
    }

    /// Reads `lab.json`; `None` where the lab was never up.
    ///
    /// # Errors
    /// A file that can not be read or is not ours.
    pub fn read(&self) -> Result<Option<LabFile>, LabError> {
        self.read_json("lab.json")
    }

    /// Writes `lab.json`.
    ///
    /// # Errors
    /// A file that can not be written.
    pub fn write(&self, file: &LabFile) -> Result<(), LabError> {
        self.write_json("lab.json", file)
    }

    /// Reads `lab.json`, changes it, and writes it where it is another one then. Clusters come up side by side: one at a time.
    ///
    /// # Errors
    /// A file that can not be read or written.
    pub fn change(&self, change: impl FnOnce(&mut LabFile)) -> Result<LabFile, LabError> {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read()?;
        let mut file = before.clone().unwrap_or_default();
        change(&mut file);
        if before.as_ref() != Some(&file) {
            self.write(&file)?;
        }
        Ok(file)
    }

    /// Reads a JSON file of the state folder; `None` where it is not there.
    ///
    /// # Errors
    /// A file that can not be read or is not ours.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LabError> {
        let path = self.dir.join(name);
        let bytes = match bounded::read(&path, JSON_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        bounded::from_json(&bytes).map(Some).map_err(|e| {
            LabError::failed(format!("`{}` is damaged", path.display()), e).hint("`labimg down` takes the lab away")
        })
    }

    /// Writes a JSON file of the state folder, whole or not at all, mode 0600.
    ///
    /// # Errors
    /// A file that can not be written.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(value).map_err(LabError::internal)?;
        self.write_secret(name, &text)
    }

    /// Writes a file that only its owner may read, whole or not at all.
    ///
    /// # Errors
    /// A file that can not be written.
    pub fn write_secret(&self, name: &str, bytes: &[u8]) -> Result<(), LabError> {
        let path = self.dir.join(name);
        let parent = Path::new(name).parent().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        self.folder(&parent)?;
        // The folder is 0700: nobody reads the file in the moment before its mode is set.
        atomic::write_file(&path, bytes)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(())
    }

    /// Images of the lab that stayed in the engine when it was taken down, by the names they have there.
    ///
    /// # Errors
    /// A file that can not be read.
    pub fn kept_images(&self) -> Result<BTreeSet<String>, LabError> {
        match fs::read_to_string(self.kept_images_file()) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down which images stay, beside the state folder: that one goes.
    ///
    /// # Errors
    /// A file that can not be written or removed.
    pub fn keep_images(&self, names: &BTreeSet<String>) -> Result<(), LabError> {
        let path = self.kept_images_file();
        regular::refuse_link(atomic::parent(&path))?;
        if names.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(|e| LabError::io(parent, "make", e))?;
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        Ok(atomic::write_file(&path, text.as_bytes())?)
    }

    fn kept_images_file(&self) -> PathBuf {
        let (root, lab) = (self.dir.parent(), self.dir.file_name());
        root.unwrap_or(&self.dir).join(".images").join(lab.unwrap_or_default())
    }

    /// Takes the whole folder away.
    ///
    /// # Errors
    /// A file that can not be removed.
    pub fn wipe(&self) -> Result<(), LabError> {
        self.no_links("")?;
        Ok(crate::base::dirs::remove(&self.dir)?)
    }
}
