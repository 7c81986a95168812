//! Catalogs: what `vagrant box add` reads to learn which versions of a box there are (Vagrant's documentation, "Box
//! Repository"). One for each architecture: Vagrant before 2.4 keeps one entry of each provider only.

use serde_json::json;

use crate::base::calendar;
use crate::base::digest::Digest;
use crate::build::disk::seed::version_numbers;
use crate::model::platform::Platform;
use crate::model::profile::Provider;

/// A catalog with one version of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The box's name: `lab/control-plane`.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// What its machines are.
    pub platform: Platform,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// Its files.
    pub entries: Vec<CatalogEntry>,
}

/// A box file in a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Its provider.
    pub provider: Provider,
    /// Where it is. Vagrant takes what is no URL to be relative to the folder it is run in, not to the catalog.
    pub url: String,
    /// What it is.
    pub digest: Digest,
}

impl Catalog {
    /// The box's version: the epoch's date, then numbers that are others when any file is. vagrant-libvirt never replaces a
    /// volume it has of the same version, so equal versions must mean equal disks.
    pub fn version(&self) -> String {
        let (year, month, day) = calendar::date((self.epoch / 86_400).cast_signed());
        let digests: Vec<Digest> = self.entries.iter().map(|e| e.digest).collect();
        let (first, second) = version_numbers(&digests);
        format!("{year:04}{month:02}{day:02}.{first}.{second}")
    }

    /// The catalog's text. Providers are sorted; those that use another's box have no entry.
    pub fn json(&self) -> String {
        let mut entries: Vec<&CatalogEntry> =
            self.entries.iter().filter(|e| super::box_of(e.provider) == e.provider).collect();
        entries.sort_by_key(|e| e.provider);
        entries.dedup_by_key(|e| e.provider);
        let providers: Vec<serde_json::Value> = entries
            .iter()
            .map(|e| {
                json!({
                    "name": super::name(e.provider),
                    "url": e.url,
                    "checksum_type": "sha256",
                    "checksum": e.digest.hex(),
                    "architecture": self.platform.arch(),
                    "default_architecture": true,
                })
            })
            .collect();
        let value = json!({
            "name": self.name,
            "description": self.description,
            "versions": [{"version": self.version(), "providers": providers}],
        });
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_names_each_box_once() {
        let entry = |provider, bytes: &[u8]| CatalogEntry {
            provider,
            url: format!("file:///srv/{}.box", super::super::name(provider)),
            digest: Digest::of(bytes),
        };
        let catalog = Catalog {
            name: "lab/node".to_owned(),
            description: "A node".to_owned(),
            platform: Platform::LinuxAmd64,
            epoch: 1_750_000_000,
            entries: vec![
                entry(Provider::Virtualbox, b"v"),
                entry(Provider::Libvirt, b"l"),
                entry(Provider::Qemu, b"l"),
            ],
        };
        let json: serde_json::Value = serde_json::from_str(&catalog.json()).unwrap();
        let providers = json["versions"][0]["providers"].as_array().unwrap();
        let names: Vec<&str> = providers.iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["libvirt", "virtualbox"]);
        assert_eq!(providers[0]["checksum"], Digest::of(b"l").hex());
        let version = catalog.version();
        // What Gem::Version takes without a letter that would make it a prerelease.
        assert!(version.starts_with("20250615.") && version.split('.').all(|n| n.parse::<u32>().is_ok()), "{version}");
        let other = Catalog { entries: vec![entry(Provider::Libvirt, b"other")], ..catalog.clone() };
        assert_ne!(other.version(), version);
    }
}
