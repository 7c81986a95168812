//! The folder of a lab's `Vagrantfile`, and the machines that came up from it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::bounded;
use crate::base::regular;
use crate::lab::error::LabError;
use crate::ssh::{Hop, HostKeys, Identity, Target, Timeouts};

/// What `labimg build` says about the lab, beside the `Vagrantfile`.
pub const LAB_FILE: &str = "lab.json";
/// What the `Vagrantfile` keeps, below the folder.
const STATE: &str = ".vagrant/labimg";
/// Largest file read there, in bytes.
const LIMIT: u64 = 1 << 20;

/// The folder of a lab's `Vagrantfile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    dir: PathBuf,
    /// The lab's name.
    pub lab: String,
    /// Its bundle.
    pub bundle: PathBuf,
}

#[derive(Deserialize)]
struct LabJson {
    name: String,
    bundle: PathBuf,
}

/// What the `Vagrantfile` wrote about a machine.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Place {
    host: String,
    port: u16,
    user: String,
    host_key: String,
}

impl Folder {
    /// The folder at `dir`; `None` where no lab's `Vagrantfile` lies.
    ///
    /// # Errors
    /// A `lab.json` that can not be read.
    pub fn open(dir: &Path) -> Result<Option<Self>, LabError> {
        let path = dir.join(LAB_FILE);
        if !path.is_file() || !dir.join("Vagrantfile").is_file() {
            return Ok(None);
        }
        let found: LabJson = read(&path)?.unwrap_or_else(|| LabJson { name: String::new(), bundle: PathBuf::new() });
        Ok(Some(Self { dir: dir.to_owned(), lab: found.name, bundle: dir.join(found.bundle) }))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How to reach the machine of `host`.
    ///
    /// # Errors
    /// A machine that is not up.
    pub fn target(&self, host: &str) -> Result<Target, LabError> {
        let state = self.dir.join(STATE);
        let place: Place = read(&state.join("hosts").join(format!("{host}.json")))?.ok_or_else(|| {
            let why = format!("it is not up: `{}` tells nothing of it", state.display());
            LabError::failed(format!("machine `{host}`"), why)
                .hint(format!("cd {} && vagrant up {host}", crate::base::shell::word(&self.dir)))
        })?;
        let known = state.join("id_ed25519");
        Ok(Target {
            name: host.to_owned(),
            hop: Hop {
                host: place.host.parse::<IpAddr>().map_or(place.host, |address| address.to_string()),
                port: place.port,
                user: place.user,
                host_keys: HostKeys::Pinned(vec![place.host_key]),
                identities: vec![Identity::File { path: known, passphrase: None }],
            },
            jumps: Vec::new(),
            timeouts: Timeouts::default(),
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, LabError> {
    let bytes = match regular::read(path, LIMIT) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    bounded::from_json(&bytes).map(Some).map_err(|e| LabError::failed(format!("`{}` is damaged", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_found_by_what_the_vagrantfile_left() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Folder::open(dir.path()).unwrap(), None);
        fs_err::write(dir.path().join("Vagrantfile"), "").unwrap();
        fs_err::write(dir.path().join(LAB_FILE), r#"{"name": "x", "bundle": "../x.labimg", "hosts": []}"#).unwrap();
        let folder = Folder::open(dir.path()).unwrap().unwrap();
        assert_eq!((folder.lab.as_str(), folder.bundle.ends_with("../x.labimg")), ("x", true));
        let gone = folder.target("cp").unwrap_err();
        assert!(gone.to_string().contains("not up") && gone.advice().unwrap().ends_with("vagrant up cp"), "{gone}");
        let hosts = dir.path().join(STATE).join("hosts");
        fs_err::create_dir_all(&hosts).unwrap();
        let place = r#"{"host": "192.168.121.7", "port": 22, "user": "vagrant", "host-key": "ssh-ed25519 AAAA"}"#;
        fs_err::write(hosts.join("cp.json"), place).unwrap();
        let target = folder.target("cp").unwrap();
        assert_eq!(
            (target.hop.host.as_str(), target.hop.port, target.hop.user.as_str()),
            ("192.168.121.7", 22, "vagrant")
        );
        fs_err::write(hosts.join("cp.json"), "{").unwrap();
        assert!(folder.target("cp").unwrap_err().to_string().contains("damaged"));
    }
}
