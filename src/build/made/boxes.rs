//! A profile's `[[box]]`: packages → tree → what the author puts on top → disk → Vagrant boxes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Request, box_steps, local, steps};
use crate::base::shell;
use crate::build::BuildError;
use crate::build::disk::DiskSpec;
use crate::build::disk_base::DiskBase;
use crate::build::image::manifest::{MANIFEST, ManifestStep};
use crate::build::rootfs::archive::ARCHIVE;
use crate::build::rootfs::compose::{Compose, Contents, File, K3s, K3sRole, Manifest, Preload, User, Wishes};
use crate::build::rootfs::{Bootstrap, ImageArchive, ImageSource, TREE};
use crate::build::run_step::OUT;
use crate::build::step::{Action, Input};
use crate::build::toolchain::Toolchain;
use crate::build::vagrant_box::{BoxAction, Machine};
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, box_set};
use crate::model::platform::Platform;
use crate::model::profile::{self, Boot, BoxDef, BoxFile, Provider, Table};

/// Size of a disk that does not say, in GiB.
const SIZE: u64 = 4;

/// The name of a step of a box.
pub(super) fn step_name(table: &BoxDef, platform: Platform, what: &str) -> String {
    format!("box {} {} {what}", *table.name, platform.arch())
}

/// The steps that make the profile's boxes.
///
/// # Errors
/// A lock that lacks what the profile names, and what can not be made here.
pub(super) fn actions(request: &Request<'_>) -> Result<Vec<Box<dyn Action>>, BuildError> {
    if request.profile.boxes.is_empty() {
        return Ok(Vec::new());
    }
    let toolchain = Arc::new(steps::toolchain(request.lock, request.store)?);
    let mut actions: BTreeMap<String, Box<dyn Action>> = BTreeMap::new();
    for table in &request.profile.boxes {
        for platform in table.platforms() {
            for action in one(request, table, platform, &toolchain)? {
                // Two boxes with one image share its archive.
                actions.entry(action.name()).or_insert(action);
            }
        }
    }
    Ok(actions.into_values().collect())
}

fn one(
    request: &Request<'_>,
    table: &BoxDef,
    platform: Platform,
    toolchain: &Arc<Toolchain>,
) -> Result<Vec<Box<dyn Action>>, BuildError> {
    let mut actions: Vec<Box<dyn Action>> = Vec::new();
    let disk = disk(request, table, platform)?;
    let start = match &table.base {
        Some(base) => from_disk(request, table, platform, (base, &disk))?,
        None => from_packages(request, table, platform, toolchain),
    };
    let tree = Input::Step { step: start.name(), output: TREE.to_owned() };
    actions.push(start);
    let mut wishes = wishes(request, table, platform)?;
    for text in &table.images {
        let (archive, preload) = image(request, table, text, platform)?;
        wishes.images.push(preload);
        actions.push(Box::new(archive));
    }
    let compose = Compose { name: step_name(table, platform, "tree"), tree, wishes };
    let tree = Input::Step { step: compose.name(), output: TREE.to_owned() };
    actions.push(Box::new(compose));
    let tree = match table.step.is_empty() {
        true => tree,
        false => {
            let (steps, after) = box_steps::actions(request, table, platform, (tree, disk.clone()), toolchain)?;
            actions.extend(steps);
            after
        }
    };
    actions.push(Box::new(BoxAction {
        name: box_step(&table.name, platform),
        tree,
        disk,
        machine: Machine {
            name: format!("{}-{}", *request.profile.name, *table.name),
            memory: 1024,
            cpus: 1,
            debian: table.base.is_none(),
        },
        providers: providers(table, platform),
        toolchain: toolchain.clone(),
        helper: request.program.to_owned(),
        exec: format!("labimg toolchain exec {}", shell::word(request.path)),
    }));
    Ok(actions)
}

/// The step that installs the packages of a box.
fn from_packages(
    request: &Request<'_>,
    table: &BoxDef,
    platform: Platform,
    toolchain: &Arc<Toolchain>,
) -> Box<dyn Action> {
    let set = box_set(&table.name, platform.arch());
    Box::new(Bootstrap {
        name: step_name(table, platform, "packages"),
        architecture: platform.arch().to_owned(),
        packages: request.lock.packages_of(&set).cloned().collect(),
        modules: table.modules.iter().map(|m| m.to_string()).collect(),
        toolchain: toolchain.clone(),
        helper: request.program.to_owned(),
    })
}

/// The step that takes another distribution's disk.
fn from_disk(
    request: &Request<'_>,
    table: &BoxDef,
    platform: Platform,
    (base, disk): (&str, &DiskSpec),
) -> Result<Box<dyn Action>, BuildError> {
    let Contents::Blob { digest, size } = contents(request, base, platform)? else {
        return Err(BuildError::Internal(format!("box `{}`: `{base}` is no file", *table.name)));
    };
    Ok(Box::new(DiskBase {
        name: step_name(table, platform, "base"),
        what: format!("base `{base}`"),
        disk: Input::Blob { digest, size },
        platform,
        limit: disk.bytes(),
    }))
}

/// The step whose outputs are a box's files, by provider.
pub fn box_step(name: &str, platform: Platform) -> String {
    format!("box {name} {}", platform.arch())
}

/// The providers a box is made for; VirtualBox runs amd64 only.
fn providers(table: &BoxDef, platform: Platform) -> BTreeSet<Provider> {
    let own: BTreeSet<Provider> = table.providers.iter().map(|p| **p).collect();
    let all = [Provider::Libvirt, Provider::Virtualbox, Provider::Qemu];
    let wanted = if own.is_empty() { BTreeSet::from(all) } else { own };
    wanted.into_iter().filter(|p| *p != Provider::Virtualbox || platform == Platform::LinuxAmd64).collect()
}

fn disk(request: &Request<'_>, table: &BoxDef, platform: Platform) -> Result<DiskSpec, BuildError> {
    let arm = platform == Platform::LinuxArm64;
    let boot = table.boot.as_ref().map_or(if arm { Boot::Efi } else { Boot::Bios }, |b| **b);
    let usual = if boot == Boot::Bios { Table::Mbr } else { Table::Gpt };
    let size = table.size.as_ref().map_or(Some(SIZE), |s| profile::gibibytes(s));
    let spec = DiskSpec {
        size: size.and_then(|s| u32::try_from(s).ok()).unwrap_or_default(),
        boot,
        table: table.table.as_ref().map_or(usual, |t| **t),
        compression: table.compression.as_ref().map_or_else(Default::default, |c| **c),
        platform,
        seed: format!("{}/{}", *request.profile.name, *table.name),
    };
    spec.check().map(|()| spec)
}

/// The step that archives an image for a box, and what the box is told of it.
fn image(
    request: &Request<'_>,
    table: &BoxDef,
    text: &str,
    platform: Platform,
) -> Result<(ImageArchive, Preload), BuildError> {
    let lacks = || {
        let message = format!("box `{}` wants image `{text}`, which the lab does not have for {platform}", *table.name);
        BuildError::user(message, format!("add [[image]] with ref = \"{text}\" and platforms = [\"{platform}\"]"))
    };
    let reference: ImageRef = text.parse().map_err(|_| lacks())?;
    let made = request.inputs.made.get(&reference).filter(|m| m.platforms.contains(&platform));
    let locked = request.lock.images.iter().find(|i| i.reference == reference && i.platforms.contains_key(&platform));
    let image = match (made, locked) {
        (Some(_), _) => {
            let step = ManifestStep::step_name(&reference.to_string(), platform);
            ImageSource::Made {
                reference: reference.clone(),
                manifest: Input::Step { step, output: MANIFEST.to_owned() },
            }
        }
        (None, Some(locked)) => ImageSource::Locked(locked.clone()),
        (None, None) => return Err(lacks()),
    };
    // Boxes with the same image share its archive: the step is named after the image.
    let archive = ImageArchive { name: format!("image {reference} {platform} archive"), platform, image };
    let contents = Contents::Output { step: archive.name.clone(), output: ARCHIVE.to_owned() };
    Ok((archive, Preload { name: format!("{}.tar", file_name(&reference)), contents }))
}

/// An image's name as the name of a file.
fn file_name(reference: &ImageRef) -> String {
    reference.tagged().chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

fn wishes(request: &Request<'_>, table: &BoxDef, platform: Platform) -> Result<Wishes, BuildError> {
    let text = |items: &[crate::model::source_map::Loc<String>]| items.iter().map(|i| i.to_string()).collect();
    Ok(Wishes {
        hostname: table.name.to_string(),
        users: table.user.iter().map(user).collect(),
        files: table.file.iter().map(|f| file(request, f, platform)).collect::<Result<_, _>>()?,
        links: table.link.iter().map(|(path, target)| (path.clone(), target.to_string())).collect(),
        enable: text(&table.enable),
        disable: text(&table.disable),
        mask: Vec::new(),
        images: Vec::new(),
        k3s: table.k3s.as_ref().map(|k| k3s(request, k, platform)).transpose()?,
        grow_root: true,
        foreign: table.base.is_some(),
    })
}

fn user(user: &profile::BoxUser) -> User {
    User {
        name: user.name.to_string(),
        uid: *user.uid,
        groups: user.groups.iter().map(|g| g.to_string()).collect(),
        shell: user.shell.as_ref().map_or_else(|| "/bin/bash".to_owned(), |s| s.to_string()),
        sudo: user.sudo,
        authorized_keys: user.authorized_keys.iter().map(|k| k.to_string()).collect(),
    }
}

/// A file of a box, as a profile says it.
pub(super) fn file(request: &Request<'_>, file: &BoxFile, platform: Platform) -> Result<File, BuildError> {
    let contents = match (&file.from, &file.content) {
        (Some(from), _) => contents(request, from, platform)?,
        (None, text) => Contents::Text(text.as_ref().map(|t| t.to_string()).unwrap_or_default()),
    };
    let mode = file.mode.as_ref().and_then(|m| u32::from_str_radix(m, 8).ok());
    let program = file.from.as_ref().is_some_and(|f| f.starts_with("tool:"));
    Ok(File {
        to: file.to.to_string(),
        contents,
        mode: mode.or(program.then_some(0o755)),
        owner: file.owner.as_ref().map(|o| o.to_string()),
    })
}

/// What a `from` means: `step:NAME/path`, `file:NAME`, `manifest:NAME`, `tool:NAME`, or a file beside the profile.
pub(super) fn contents(request: &Request<'_>, from: &str, platform: Platform) -> Result<Contents, BuildError> {
    if let Some(rest) = from.strip_prefix("step:") {
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        return Ok(Contents::Member { step: steps::name(name), output: OUT.to_owned(), path: path.to_owned() });
    }
    let of_lock = |kind: FileKind, name: &str, path: Option<&str>| match path {
        Some(path) => local(request.lock, path),
        None => {
            let fits = |f: &&crate::model::lock::LockedFile| {
                f.kind == kind && f.name == name && f.platform.is_none_or(|p| p == platform)
            };
            let found = request.lock.files.iter().find(fits).map(|f| f.content());
            found.ok_or_else(|| {
                let message = format!("`{from}` is not in the lock for {platform}");
                BuildError::user(message, format!("add \"{platform}\" to its platforms"))
            })
        }
    };
    let (digest, size) = match from.split_once(':') {
        Some(("file", name)) => {
            let known = request.profile.file.iter().find(|f| *f.name == *name);
            of_lock(FileKind::File, name, known.and_then(|f| f.path.as_deref()).map(String::as_str))?
        }
        Some(("manifest", name)) => {
            let known = request.profile.manifest.iter().find(|m| *m.name == *name);
            if let Some(text) = known.and_then(|m| m.text.as_ref()) {
                return Ok(Contents::Text(text.to_string()));
            }
            of_lock(FileKind::Manifest, name, known.and_then(|m| m.path.as_deref()).map(String::as_str))?
        }
        Some(("tool", name)) => of_lock(FileKind::Tool, name, None)?,
        _ => local(request.lock, from)?,
    };
    Ok(Contents::Blob { digest, size })
}

fn k3s(request: &Request<'_>, k3s: &profile::K3s, platform: Platform) -> Result<K3s, BuildError> {
    let tool = k3s.tool.as_ref().map_or("k3s", |t| t.as_str());
    let manifest = |name: &str| {
        let contents = contents(request, &format!("manifest:{name}"), platform)?;
        Ok(Manifest { name: name.to_owned(), contents })
    };
    let airgap = match &k3s.airgap {
        None => None,
        Some(from) => Some((airgap_name(request, from, platform), contents(request, from, platform)?)),
    };
    Ok(K3s {
        role: match k3s.role {
            profile::K3sRole::Server => K3sRole::Server,
            profile::K3sRole::Agent => K3sRole::Agent,
        },
        program: contents(request, &format!("tool:{tool}"), platform)?,
        airgap,
        registries: k3s.registries.as_ref().map(|from| contents(request, from, platform)).transpose()?,
        manifests: k3s.manifests.iter().map(|m| manifest(m)).collect::<Result<_, BuildError>>()?,
        args: k3s.args.clone(),
    })
}

/// k3s tells by its name how an archive is compressed: the end of its URL, or its path, says it.
fn airgap_name(request: &Request<'_>, from: &str, platform: Platform) -> String {
    let name = from.strip_prefix("file:").unwrap_or(from);
    let known = request.profile.file.iter().find(|f| *f.name == *name);
    let place = known.and_then(|f| f.url.as_ref().or(f.path.as_ref())).map(|p| p.as_str()).unwrap_or_default();
    let ending = [".tar.zst", ".tar.gz", ".tgz", ".tzst", ".tar"].into_iter().find(|e| place.ends_with(e));
    format!("k3s-airgap-images-{}{}", platform.arch(), ending.unwrap_or(".tar"))
}

#[cfg(test)]
mod tests {
    use crate::build::{disk, rootfs};
    use crate::model::box_packages::programs;

    #[test]
    fn the_toolchain_of_a_profile_with_boxes_has_what_they_are_made_with() {
        for arch in ["amd64", "arm64"] {
            let has: Vec<&str> = programs(arch, false).collect();
            let wants = rootfs::PROGRAMS.iter().chain(&disk::PROGRAMS).chain(disk::programs_of(arch));
            for program in wants {
                assert!(has.contains(program), "{program} for {arch}");
            }
        }
    }
}
