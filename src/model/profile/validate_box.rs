//! What types can not say about boxes, the steps that finish them, and the machines made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Range;

use super::boxes::{Boot, BoxDef, BoxFile, MachineStep, Provider, Table};
use super::types::{Host, Profile, Reach};
use super::validate::{Findings, NAME_RULE, is_name};
use super::validate_deploy::is_duration;
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// The largest disk, in GiB: what a box of it takes is its content only, but people copy disks.
const MAX_GIB: u64 = 1024;

/// Everything wrong with boxes and the machines made of them.
pub(super) fn boxes(profile: &Profile, found: &mut Findings<'_>) {
    let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for table in &profile.boxes {
        if let Some(first) = seen.insert(&table.name, table.name.span()) {
            found.clash(&table.name.span(), &first, format!("there are two boxes called `{}`", *table.name));
        }
        one(profile, table, found);
    }
    machines(profile, found);
}

fn one(profile: &Profile, table: &BoxDef, found: &mut Findings<'_>) {
    let name = &table.name;
    if !is_name(name) {
        found.add(&name.span(), format!("`{}` is not a name", **name)).hint = Some(NAME_RULE.to_owned());
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
    table.file.iter().for_each(|f| file(profile, f, found));
    for (path, target) in table.link.iter().filter(|(path, _)| !path.starts_with('/')) {
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
    for user in &table.user {
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

fn file(profile: &Profile, file: &BoxFile, found: &mut Findings<'_>) {
    if !file.to.starts_with('/') || file.to.split('/').any(|part| part == "..") {
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
        if !upload.to.starts_with('/') {
            found.add(&upload.to.span(), format!("`{}` is no absolute path in the machine", *upload.to));
        }
    }
}

/// Hosts that Vagrant makes: of boxes there are, with addresses and ports of their own.
fn machines(profile: &Profile, found: &mut Findings<'_>) {
    let boxes: BTreeSet<&str> = profile.boxes.iter().map(|b| b.name.as_str()).collect();
    let mut ips: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    let mut ports: BTreeMap<u16, Range<usize>> = BTreeMap::new();
    for cluster in &profile.cluster {
        ports.extend(cluster.ports.iter().map(|p| (*p.host, p.host.span())));
    }
    for host in &profile.host {
        if host.reach != Reach::Vagrant {
            not_vagrant(host, found);
            continue;
        }
        match &host.box_name {
            Some(name) => found.must_exist(name, "box", &boxes),
            None => {
                found.add(
                    &host.name.span(),
                    format!("host `{}` is reached by Vagrant: of which `box` is it?", *host.name),
                );
            }
        }
        if let Some(ip) = &host.ip {
            if !ip.parse::<Ipv4Addr>().is_ok_and(|a| a.is_private()) {
                found.add(&ip.span(), format!("`{}` is no private IPv4 address", **ip)).hint =
                    Some("write it as 10.77.0.10".to_owned());
            }
            if let Some(first) = ips.insert(ip, ip.span()) {
                found.clash(&ip.span(), &first, format!("address {} is taken twice", **ip));
            }
        }
        for forward in &host.forward {
            if let Some(first) = ports.insert(*forward.local, forward.local.span()) {
                found.clash(
                    &forward.local.span(),
                    &first,
                    format!("port {} of the attendee's machine is taken twice", *forward.local),
                );
            }
        }
    }
}

fn not_vagrant(host: &Host, found: &mut Findings<'_>) {
    let spans = [
        host.box_name.as_ref().map(Loc::span),
        host.ip.as_ref().map(Loc::span),
        host.forward.first().map(|f| f.guest.span()),
    ];
    for span in spans.into_iter().flatten() {
        found.add(&span, "`box`, `ip` and `forward` go with `reach = \"vagrant\"`");
    }
}
