//! The folder a lab's machines come up from: `Vagrantfile`, `lab.json`, and a catalog for each box. The Vagrantfile is the same for
//! every lab (`vagrant/lab.rb`); what differs stands in `lab.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::BuildError;
use super::vagrant_box::{Catalog, CatalogEntry, box_of, name};
use crate::base::digest::Digest;
use crate::model::platform::Platform;
use crate::model::profile::{BoxDef, Host, K3sRole, Profile, Provider, Reach};

/// The Vagrantfile.
pub const VAGRANTFILE: &str = include_str!("../../vagrant/lab.rb");
/// Folder of boxes and catalogs, below that of the Vagrantfile.
pub const BOXES: &str = "boxes";
/// Memory of a machine that does not say, in MiB.
const MEMORY: u32 = 1024;
/// The secret by which k3s machines know each other, and how it is made.
const K3S_TOKEN: (&str, &str) = ("k3s-token", "alnum:48");

/// A box that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBox {
    /// The profile's name for it.
    pub name: String,
    /// What its machines are.
    pub platform: Platform,
    /// Who takes it.
    pub provider: Provider,
    /// Digest of the `.box` file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl MadeBox {
    /// The file's name: `quick-amd64-libvirt.box`.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}.box", self.name, self.platform.arch(), name(self.provider))
    }
}

/// The texts of the folder, by path in it. `bundle` is the path of the lab's bundle as seen from there.
///
/// # Errors
/// A machine of a box that was not made for its platform.
pub fn folder(
    profile: &Profile,
    boxes: &[MadeBox],
    epoch: u64,
    bundle: &str,
) -> Result<BTreeMap<String, String>, BuildError> {
    let mut texts = BTreeMap::from([("Vagrantfile".to_owned(), VAGRANTFILE.to_owned())]);
    let mut versions = BTreeMap::new();
    for (table, platform) in boxes.iter().map(|b| (b.name.as_str(), b.platform)).collect::<BTreeSet<_>>() {
        let catalog = catalog(profile, table, platform, boxes, epoch);
        versions.insert((table, platform), catalog.version());
        texts.insert(catalog_path(table, platform), catalog.json());
    }
    let mut hosts = Vec::new();
    for host in profile.host.iter().filter(|h| h.reach == Reach::Vagrant) {
        let platform = host.runs_on();
        let table = host.box_name.as_ref().map(|b| b.as_str()).unwrap_or_default();
        let Some(version) = versions.get(&(table, platform)) else {
            let message = format!("machine `{}` is of box `{table}`, which is not made for {platform}", *host.name);
            return Err(BuildError::user(message, format!("add platforms = [\"{platform}\"] to [[box]] `{table}`")));
        };
        let known = profile.boxes.iter().find(|b| *b.name == table);
        hosts.push(host_json(profile, host, known, (platform, version)));
    }
    let lab = json!({
        "name": *profile.name,
        "bundle": bundle,
        "network": format!("labimg-{}", *profile.name),
        "providers": providers(boxes),
        "secrets": secrets(profile),
        "hosts": hosts,
    });
    texts.insert("lab.json".to_owned(), format!("{lab:#}\n"));
    Ok(texts)
}

fn catalog_path(table: &str, platform: Platform) -> String {
    format!("{BOXES}/{table}-{}.json", platform.arch())
}

/// Vagrant's name of a box: one for each architecture, since old versions of Vagrant know none.
fn box_name(profile: &Profile, table: &str, platform: Platform) -> String {
    format!("{}/{table}-{}", *profile.name, platform.arch())
}

fn catalog(profile: &Profile, table: &str, platform: Platform, boxes: &[MadeBox], epoch: u64) -> Catalog {
    let of_it = boxes.iter().filter(|b| b.name == table && b.platform == platform);
    let entry = |b: &MadeBox| CatalogEntry { provider: b.provider, url: b.file_name(), digest: b.digest };
    Catalog {
        name: box_name(profile, table, platform),
        description: profile.summary.clone().unwrap_or_default(),
        platform,
        epoch,
        entries: of_it.map(entry).collect(),
    }
}

/// Providers that every box is for, those first that need least of a machine: libvirt, VirtualBox, QEMU alone.
fn providers(boxes: &[MadeBox]) -> Vec<&'static str> {
    let names: BTreeSet<(&str, Platform)> = boxes.iter().map(|b| (b.name.as_str(), b.platform)).collect();
    let has = |provider: Provider| {
        let made = |(n, p): &(&str, Platform)| {
            boxes.iter().any(|b| b.name == *n && b.platform == *p && b.provider == provider)
        };
        names.iter().all(made)
    };
    let all = [Provider::Libvirt, Provider::Virtualbox, Provider::Qemu];
    all.into_iter().filter(|p| has(box_of(*p))).map(name).collect()
}

/// Secrets that the Vagrantfile makes, and how: `alnum:24`, `hex:32`.
fn secrets(profile: &Profile) -> BTreeMap<&str, &str> {
    let own = profile.secret.iter().filter_map(|(name, s)| Some((name.as_str(), s.generate.as_ref()?.as_str())));
    let k3s = profile.boxes.iter().any(|b| b.k3s.is_some()).then_some(K3S_TOKEN);
    own.chain(k3s).collect()
}

fn host_json(profile: &Profile, host: &Host, table: Option<&BoxDef>, (platform, version): (Platform, &str)) -> Value {
    let name = host.box_name.as_ref().map(|b| b.as_str()).unwrap_or_default();
    let forward = host.forward.iter().map(|f| json!({"guest": *f.guest, "local": *f.local}));
    let k3s = table.and_then(|t| t.k3s.as_ref()).map(|k| {
        let unit = if k.role == K3sRole::Server { "k3s.service" } else { "k3s-agent.service" };
        json!({"unit": unit, "server": k.server.as_ref().map(|s| s.to_string())})
    });
    json!({
        "name": *host.name,
        "box": box_name(profile, name, platform),
        "version": version,
        "catalog": catalog_path(name, platform),
        "ip": host.ip.as_ref().map(|ip| ip.to_string()),
        "memory": host.memory.as_ref().map_or(MEMORY, |m| **m),
        "cores": host.cores.as_ref().map_or(1, |c| **c),
        "forward": forward.collect::<Vec<_>>(),
        "secrets": profile.secret.iter().filter(|(_, s)| s.generate.is_some()).map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
        "k3s": k3s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::profile::parse;

    const TEXT: &str = r#"
        schema = 1
        name = "x"
        [debian.bookworm]
        [debian.trixie]
        [toolchain]
        debian = "trixie"
        packages = []
        [secret.password]
        generate = "alnum:20"
        [tool.k3s]
        version = "v1"
        url = "https://example.org/k3s"
        [[box]]
        name = "server"
        debian = "bookworm"
        k3s = { role = "server" }
        [[host]]
        name = "cp"
        reach = "vagrant"
        box = "server"
        ip = "10.77.0.10"
        forward = [{ guest = 80, local = 8080 }]
    "#;

    fn profile(text: &str) -> Profile {
        parse("x.toml", text, &mut |_| Err("none".to_owned())).unwrap().profile
    }

    fn made(provider: Provider) -> MadeBox {
        let platform = Platform::LinuxAmd64;
        MadeBox {
            name: "server".to_owned(),
            platform,
            provider,
            digest: Digest::of(name(provider).as_bytes()),
            size: 1,
        }
    }

    #[test]
    fn a_folder_has_all_that_vagrant_asks_for() {
        let boxes = [made(Provider::Libvirt), made(Provider::Virtualbox)];
        let texts = folder(&profile(TEXT), &boxes, 1_750_000_000, "../x.labimg").unwrap();
        assert_eq!(texts.keys().collect::<Vec<_>>(), ["Vagrantfile", "boxes/server-amd64.json", "lab.json"]);
        let lab: Value = serde_json::from_str(&texts["lab.json"]).unwrap();
        let catalog: Value = serde_json::from_str(&texts["boxes/server-amd64.json"]).unwrap();
        assert_eq!(lab["hosts"][0]["box"], catalog["name"]);
        assert_eq!(lab["hosts"][0]["version"], catalog["versions"][0]["version"]);
        assert_eq!(lab["providers"], json!(["libvirt", "virtualbox", "qemu"]));
        assert_eq!(lab["secrets"], json!({"k3s-token": "alnum:48", "password": "alnum:20"}));
        assert_eq!(lab["hosts"][0]["k3s"]["unit"], "k3s.service");
        assert_eq!(lab["hosts"][0]["forward"], json!([{"guest": 80, "local": 8080}]));
        assert_eq!(catalog["versions"][0]["providers"][0]["url"], "server-amd64-libvirt.box");
    }

    #[test]
    fn a_machine_of_a_box_that_is_not_made_is_told() {
        let error = folder(&profile(TEXT), &[], 0, "").unwrap_err();
        assert_eq!(error.to_string(), "machine `cp` is of box `server`, which is not made for linux/amd64");
    }
}
