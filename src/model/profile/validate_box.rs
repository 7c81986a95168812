//! What types can not say about boxes and the steps that finish them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::boxes::{Boot, BoxDef, BoxFile, K3s, K3sRole, MachineStep, Provider, Table};
use super::types::Profile;
use super::validate::{Findings, NAME_RULE, is_name};
use super::validate_deploy::is_duration;
use super::validate_machine::is_hostname;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// The largest disk, in GiB: what a box of it takes is its content only, but people copy disks.
const MAX_GIB: u64 = 1024;

/// Everything wrong with boxes.
pub(super) fn boxes(profile: &Profile, found: &mut Findings<'_>) {
    let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for table in &profile.boxes {
        if let Some(first) = seen.insert(&table.name, table.name.span()) {
            found.clash(&table.name.span(), &first, format!("there are two boxes called `{}`", *table.name));
        }
        one(profile, table, found);
    }
}

fn one(profile: &Profile, table: &BoxDef, found: &mut Findings<'_>) {
    let name = &table.name;
    if !is_name(name) {
        found.add(&name.span(), format!("`{}` is not a name", **name)).hint = Some(NAME_RULE.to_owned());
    } else if name.contains(['.', '_']) {
        found.add(&name.span(), format!("`{}` can not be a machine's name", **name)).hint =
            Some("a box is called by letters, digits and `-`".to_owned());
    }
    if profile.toolchain.is_none() {
        found.add(&name.span(), format!("box `{}` has no programs to be made with", **name)).hint =
            Some("add [toolchain] with debian = \"NAME\" (trixie) and packages = []".to_owned());
    }
    origin(profile, table, found);
    for platform in table.platforms.iter().filter(|p| !p.runs_containers()) {
        found.add(
            &platform.span(),
            format!("`{}` is not possible here: a box is linux/amd64 or linux/arm64", **platform),
        );
    }
    if let Some(size) = table.size.as_ref().filter(|s| gibibytes(s).is_none()) {
        found.add(&size.span(), format!("`{}` is no size of a disk", **size)).hint =
            Some(format!("write whole gibibytes, up to {MAX_GIB}: `4GiB`"));
    }
    booting(table, found);
    users(table, found);
    files(profile, table, found);
    for (path, target) in table.link.iter().filter(|(path, _)| !is_absolute(path)) {
        found.add(&target.span(), format!("`{path}` is no absolute path in the machine"));
    }
    for unit in table.enable.iter().chain(&table.disable).filter(|u| !u.contains('.') || u.contains('/')) {
        found.add(&unit.span(), format!("`{}` is no unit of systemd", **unit)).hint =
            Some("write it as `web.service`".to_owned());
    }
    let known: Vec<String> = profile.image.iter().map(|i| i.reference.to_string()).collect();
    let known = known.iter().map(String::as_str).collect();
    table.images.iter().for_each(|image| image_exists(image, &known, found));
    k3s(profile, table, found);
    steps(profile, table, found);
}

/// The size in GiB of a text like `4GiB`.
pub fn gibibytes(text: &str) -> Option<u64> {
    let number = text.strip_suffix("GiB")?.trim();
    number.parse().ok().filter(|n| (1..=MAX_GIB).contains(n))
}

fn origin(profile: &Profile, table: &BoxDef, found: &mut Findings<'_>) {
    match (&table.debian, &table.base) {
        (Some(debian), None) => {
            found.must_exist(debian, "[debian] table", &profile.debian.keys().map(String::as_str).collect());
        }
        (None, Some(base)) => match base.strip_prefix("file:") {
            Some(file) => file_exists(profile, base, file, found),
            None => {
                found.add(&base.span(), format!("`{}` names no disk", **base)).hint =
                    Some("write `file:NAME`".to_owned());
            }
        },
        _ => {
            let text = format!("box `{}` needs exactly one of `debian` and `base`", *table.name);
            found.add(&table.name.span(), text);
        }
    }
    let Some(base) = &table.base else { return };
    // What is no Debian of ours has no package manager we could feed, and a kernel and a ramdisk of its own.
    let packages = table.packages.first().map(|p| ("packages", p.span(), "install them by a step"));
    let kernel = table.kernel.as_ref().map(|k| ("kernel", k.span(), "it has its own"));
    let modules = table.modules.first().map(|m| ("modules", m.span(), "its initial ramdisk stays as it is"));
    for (field, span, why) in [packages, kernel, modules].into_iter().flatten() {
        found.clash(&span, &base.span(), format!("a box from a `base` takes no `{field}`: {why}"));
    }
}

fn file_exists(profile: &Profile, at: &Loc<String>, name: &str, found: &mut Findings<'_>) {
    if !profile.file.iter().any(|f| f.name.as_str() == name) {
        found.add(&at.span(), format!("there is no file called `{name}`")).hint =
            Some("add [[file]] with that name".to_owned());
    }
}

fn image_exists(image: &Loc<String>, known: &BTreeSet<&str>, found: &mut Findings<'_>) {
    match image.parse::<ImageRef>() {
        Ok(reference) if known.contains(reference.to_string().as_str()) => {}
        _ => found.must_exist(image, "image", known),
    }
}

fn booting(table: &BoxDef, found: &mut Findings<'_>) {
    let (Some(boot), Some(kind)) = (&table.boot, &table.table) else { return arm(table, found) };
    if **boot != Boot::Bios && **kind == Table::Mbr {
        found.clash(&kind.span(), &boot.span(), "booting by EFI wants table `gpt`".to_owned());
    }
    arm(table, found);
}

fn arm(table: &BoxDef, found: &mut Findings<'_>) {
    let arm = table.platforms.iter().any(|p| **p == Platform::LinuxArm64);
    if let Some(boot) = table.boot.as_ref().filter(|b| arm && ***b != Boot::Efi) {
        found.add(&boot.span(), "arm64 machines boot by EFI only");
    }
    if let Some(provider) = table.providers.iter().find(|p| arm && ***p == Provider::Virtualbox) {
        found.add(&provider.span(), "VirtualBox boxes are for amd64");
    }
}

fn users(table: &BoxDef, found: &mut Findings<'_>) {
    let mut ids: BTreeMap<u32, Range<usize>> = BTreeMap::new();
    let mut names: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for user in &table.user {
        if let Some(first) = names.insert(&user.name, user.name.span()) {
            found.clash(&user.name.span(), &first, format!("there are two users called `{}`", *user.name));
        }
        if !is_name(&user.name) || user.name.contains('.') {
            found.add(&user.name.span(), format!("`{}` is no login name", *user.name));
        }
        if *user.name == "root" || *user.name == "vagrant" {
            found.add(&user.name.span(), format!("every machine has a user `{}` already", *user.name));
        }
        if !(1001..=59_999).contains(&*user.uid) {
            found.add(&user.uid.span(), "ids of people go from 1001 to 59999; 1000 is `vagrant`");
        }
        if let Some(first) = ids.insert(*user.uid, user.uid.span()) {
            found.clash(&user.uid.span(), &first, format!("uid {} is taken twice", *user.uid));
        }
        for key in user.authorized_keys.iter().filter(|k| k.contains('\n') || k.split_whitespace().count() < 2) {
            found.add(&key.span(), "this is no public key").hint =
                Some("one line, as in a `.pub` file: `ssh-ed25519 AAAA… name`".to_owned());
        }
    }
}

/// Whether a path of a machine is absolute and stays where it seems to lead.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

fn files(profile: &Profile, table: &BoxDef, found: &mut Findings<'_>) {
    let mut places: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for one in &table.file {
        if let Some(first) = places.insert(one.to.trim_end_matches('/'), one.to.span()) {
            found.clash(&one.to.span(), &first, format!("two files of this box are `{}`", *one.to));
        }
        file(profile, one, found);
    }
}

fn file(profile: &Profile, file: &BoxFile, found: &mut Findings<'_>) {
    if !is_absolute(&file.to) {
        found.add(&file.to.span(), format!("`{}` is no absolute path in the machine", *file.to));
    }
    if file.from.is_some() == file.content.is_some() {
        found.add(&file.to.span(), "a file needs exactly one of `from` and `content`");
    }
    if let Some(mode) = file.mode.as_ref().filter(|m| u32::from_str_radix(m, 8).map_or(true, |m| m > 0o7777)) {
        found.add(&mode.span(), format!("`{}` is no octal mode", **mode)).hint = Some("write it as 0755".to_owned());
    }
    if let Some(from) = &file.from {
        reference(profile, from, found);
    }
}

/// A `from` that names something of the profile.
fn reference(profile: &Profile, from: &Loc<String>, found: &mut Findings<'_>) {
    let Some((kind, name)) = from.split_once(':') else { return };
    let there = match kind {
        "step" => profile.step.iter().any(|s| *s.name == name.split('/').next().unwrap_or_default()),
        "file" => return file_exists(profile, from, name, found),
        "manifest" => profile.manifest.iter().any(|m| m.name.as_str() == name),
        "tool" => profile.tool.contains_key(name),
        _ => return,
    };
    if !there {
        found.add(&from.span(), format!("there is no {kind} called `{name}`"));
    }
}

fn k3s(profile: &Profile, table: &BoxDef, found: &mut Findings<'_>) {
    let Some(k3s) = &table.k3s else { return };
    let tool = k3s.tool.as_ref().map_or("k3s", |t| t.as_str());
    if !profile.tool.contains_key(tool) {
        let span = k3s.tool.as_ref().map_or(table.name.span(), Loc::span);
        found.add(&span, format!("there is no tool called `{tool}`")).hint =
            Some(format!("add [tool.{tool}] with its version and URL"));
    }
    if let Some(airgap) = &k3s.airgap {
        match airgap.strip_prefix("file:") {
            Some(name) => file_exists(profile, airgap, name, found),
            None => {
                found.add(&airgap.span(), "write `file:NAME`");
            }
        }
    }
    let manifests = profile.manifest.iter().map(|m| m.name.as_str()).collect();
    k3s.manifests.iter().for_each(|m| found.must_exist(m, "manifest", &manifests));
    if let Some(registries) = &k3s.registries {
        reference(profile, registries, found);
    }
    k3s_role(table, k3s, found);
}

/// What only a control plane has, and only a worker.
fn k3s_role(table: &BoxDef, k3s: &K3s, found: &mut Findings<'_>) {
    const EXAMPLE: &str = "write server = \"https://10.77.0.10:6443\", the address of the control plane";
    match (k3s.role, &k3s.server) {
        (K3sRole::Server, Some(server)) => {
            found.add(&server.span(), "`server` goes with role `agent`: a control plane of its own joins no other");
        }
        (K3sRole::Agent, None) => {
            let text = format!("k3s of box `{}` is a worker: of which `server`?", *table.name);
            found.add(&table.name.span(), text).hint = Some(EXAMPLE.to_owned());
        }
        (K3sRole::Agent, Some(server)) if !is_server(server) => {
            found.add(&server.span(), format!("`{}` is no address of a control plane", **server)).hint =
                Some(EXAMPLE.to_owned());
        }
        _ => {}
    }
    if let Some(manifest) = k3s.manifests.first().filter(|_| k3s.role == K3sRole::Agent) {
        found.add(&manifest.span(), "`manifests` go with role `server`: a worker applies none");
    }
}

/// Whether a text is `https://HOST:PORT`.
fn is_server(text: &str) -> bool {
    let Some((host, port)) = text.strip_prefix("https://").and_then(|rest| rest.rsplit_once(':')) else { return false };
    is_hostname(host) && port.parse::<u16>().is_ok_and(|p| p != 0 && !port.starts_with('+'))
}

fn steps(profile: &Profile, table: &BoxDef, found: &mut Findings<'_>) {
    let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for step in &table.step {
        if let Some(first) = seen.insert(&step.name, step.name.span()) {
            found.clash(&step.name.span(), &first, format!("two steps of this box are called `{}`", *step.name));
        }
        let kinds = [step.run.is_some(), step.file.is_some(), step.upload.is_some(), step.reboot, step.wait.is_some()];
        if kinds.into_iter().filter(|k| *k).count() != 1 {
            let text =
                format!("step `{}` needs exactly one of `run`, `file`, `upload`, `reboot` and `wait`", *step.name);
            found.add(&step.name.span(), text);
        }
        if let Some(timeout) = &step.timeout {
            is_duration(timeout, found);
        }
        step_files(profile, step, found);
    }
}

fn step_files(profile: &Profile, step: &MachineStep, found: &mut Findings<'_>) {
    if let Some(f) = &step.file {
        file(profile, f, found);
    }
    if let Some(upload) = &step.upload {
        reference(profile, &upload.from, found);
        if !is_absolute(&upload.to) {
            found.add(&upload.to.span(), format!("`{}` is no absolute path in the machine", *upload.to));
        }
    }
}
