//! One question to the network each, and its answer.

use std::sync::Arc;

use super::choose::enter_wheel;
use crate::model::box_packages::programs;
use crate::model::image::ImageRef;
use crate::model::lock::{Lock, LockedChart, LockedFile, LockedImage, LockedWheel, toolchain_set};
use crate::model::profile::Profile;
use crate::ops::failed::{self, Doing, FileKey, file_name};
use crate::ops::places::{self, Part, is_untagged};
use crate::ops::profile::OnDisk;
use crate::ops::{Ctx, OpsError};
use crate::source::chart::ChartRequest;
use crate::source::debian::DebianError;
use crate::source::file::FileRequest;
use crate::source::{ErrorKind, Net, SourceError, chart, debian, file, oci, wheel};
use crate::store::Store;

/// An input that must be asked for.
pub(super) enum Ask {
    Image(ImageRef),
    Chart(String),
    File(FileKey),
    Debian(String),
    Wheels(String),
}

/// An answer.
pub(super) enum Answer {
    Image(LockedImage),
    Chart(LockedChart),
    File(LockedFile),
    Debian(debian::Resolved),
    Wheels(Vec<LockedWheel>),
}

impl Answer {
    /// Puts it into the lock.
    pub(super) fn enter(self, lock: &mut Lock) {
        match self {
            Self::Image(image) => lock.images.push(image),
            Self::Chart(chart) => lock.charts.push(chart),
            Self::File(file) => lock.files.push(file),
            Self::Debian(found) => {
                lock.suites.extend(found.suites);
                lock.packages.extend(found.packages);
            }
            Self::Wheels(wheels) => wheels.into_iter().for_each(|w| enter_wheel(lock, w)),
        }
    }
}

/// Asks the network.
pub(super) async fn answer(ctx: &Ctx, store: &Arc<Store>, disk: &OnDisk, ask: Ask) -> Result<Answer, OpsError> {
    let net = &ctx.net;
    match ask {
        Ask::Debian(name) => debian_answer(ctx, store, disk, &name).await,
        Ask::Wheels(name) => wheels_answer(net, store, disk, &name).await,
        Ask::Image(reference) => {
            let input = disk.inputs.images.get(&reference).cloned().unwrap_or_default();
            let platforms: Vec<_> = input.platforms.iter().copied().collect();
            let asked = input.source.as_ref().unwrap_or(&reference);
            let untagged = is_untagged(disk, &reference);
            let found = match oci::resolve(net, store, asked, &platforms).await {
                Ok(found) => found,
                Err(error) => return Err(image_failed(net, disk, &reference, asked, untagged, error).await),
            };
            if untagged {
                warn_of_latest(ctx, disk, &reference);
            }
            Ok(Answer::Image(LockedImage {
                reference,
                source: input.source,
                media_type: found.media_type,
                digest: found.digest,
                size: found.size,
                platforms: found.platforms,
            }))
        }
        Ask::Chart(name) => {
            let Some(input) = disk.inputs.charts.get(&name) else {
                return Err(OpsError::Internal(format!("chart {name} vanished")));
            };
            let request = ChartRequest {
                name: name.clone(),
                chart: input.chart.clone(),
                repo: input.repo.clone(),
                version: input.version.clone(),
                sha256: input.sha256,
            };
            let named = |e| failed(disk, &format!("chart {name}"), e);
            Ok(Answer::Chart(chart::resolve_chart(net, store, &request).await.map_err(named)?))
        }
        Ask::File(key) => {
            let Some(input) = disk.inputs.files.get(&key) else {
                return Err(OpsError::Internal(format!("{} vanished", file_name(&key))));
            };
            let request = FileRequest {
                kind: key.0,
                name: key.1.clone(),
                platform: key.2,
                version: input.version.clone(),
                url: input.url.clone(),
                sha256: input.sha256,
                member: input.member.clone(),
                executable: input.executable,
            };
            let named = |e| failed(disk, &file_name(&key), e);
            Ok(Answer::File(file::resolve_file(net, store, &request).await.map_err(named)?))
        }
    }
}

fn failed(disk: &OnDisk, input: &str, error: SourceError) -> OpsError {
    failed::input(disk, input, Doing::Locking, error)
}

/// The error for an image; of a tag that is not there, with those that are.
async fn image_failed(
    net: &Net,
    disk: &OnDisk,
    reference: &ImageRef,
    asked: &ImageRef,
    untagged: bool,
    error: SourceError,
) -> OpsError {
    let name = format!("image {reference}");
    let by_tag = matches!(error, SourceError::Image { by_digest: false, .. });
    if !by_tag || error.kind() != ErrorKind::NotFound {
        return failed(disk, &name, error);
    }
    let tags = oci::tags(net, asked).await;
    failed::image(disk, &name, untagged, &tags, error)
}

/// A tag that nobody wrote moves, and whoever locks anew gets what it is by then.
fn warn_of_latest(ctx: &Ctx, disk: &OnDisk, reference: &ImageRef) {
    let input = format!("image {reference}");
    let place = places::of(disk, &input, Part::Source).map(|at| format!("{at}: ")).unwrap_or_default();
    ctx.reporter.warn(&format!(
        "{place}{input}: the profile writes no tag, so `latest` is locked, which moves; write the one you want: ref = \"{}:TAG\"",
        reference.name()
    ));
}

async fn debian_answer(ctx: &Ctx, store: &Arc<Store>, disk: &OnDisk, name: &str) -> Result<Answer, OpsError> {
    let Some(input) = disk.inputs.debian.get(name) else {
        return Err(OpsError::Internal(format!("debian table {name} vanished")));
    };
    let request = debian::SuiteRequest {
        debian: name.to_owned(),
        suites: input.suites.iter().map(|s| s.suite.clone()).collect(),
        archive: input.archive.clone(),
        components: input.components.clone(),
        snapshot: input.snapshot.clone(),
        keyring: input.keyring.as_ref().map(|k| disk.dir.join(k)),
        now: ctx.now,
        sets: disk.inputs.package_sets.values().filter(|s| s.debian == name).cloned().collect(),
    };
    let found = debian::resolve(&ctx.net, store, &request).await;
    let failed = |e| too_old(&disk.profile, &e).unwrap_or_else(|| failed(disk, &format!("debian {name}"), e));
    Ok(Answer::Debian(found.map_err(failed)?))
}

/// What to say of a package that the toolchain's suite lacks, where nobody wrote its name: boxes need it.
fn too_old(profile: &Profile, error: &SourceError) -> Option<OpsError> {
    let (SourceError::Debian(error), Some(toolchain)) = (error, &profile.toolchain) else { return None };
    let DebianError::Unknown { set, name, place, .. } = error.as_ref() else { return None };
    let own = toolchain.packages.iter().any(|p| **p == **name);
    let arch = ["amd64", "arm64"].into_iter().find(|arch| *set == toolchain_set(arch))?;
    let of_boxes = !profile.boxes.is_empty() && programs(arch, true).any(|program| program == name);
    (of_boxes && !own).then(|| {
        OpsError::hinted(
            format!("boxes need a toolchain of Debian 13 (trixie) or later, for mke2fs 1.47.1: {place} has no package `{name}`"),
            "[toolchain] debian = \"trixie\", with a table [debian.trixie]; the machines' own suite may stay as it is",
        )
    })
}

async fn wheels_answer(net: &Net, store: &Arc<Store>, disk: &OnDisk, name: &str) -> Result<Answer, OpsError> {
    let Some((platform, set)) = disk.inputs.wheel_sets.get(name) else {
        return Err(OpsError::Internal(format!("wheels {name} vanished")));
    };
    let request = wheel::WheelRequest {
        name: name.to_owned(),
        requirements: set.requirements.clone(),
        python: set.python.clone(),
        platform: *platform,
    };
    let mut wheels =
        wheel::resolve(net, store, &request).await.map_err(|e| failed(disk, &format!("wheels {name}"), e))?;
    for wheel in &mut wheels {
        wheel.sets = vec![name.to_owned()];
    }
    Ok(Answer::Wheels(wheels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::profile::parse;

    #[test]
    fn a_toolchain_too_old_for_boxes_is_told_as_that() {
        let text = r#"
            schema = 1
            name = "x"
            [debian.bookworm]
            [toolchain]
            debian = "bookworm"
            packages = ["zstd", "mmtools"]
            [[box]]
            name = "server"
            debian = "bookworm"
        "#;
        let with_boxes = parse("x.toml", text, &mut |_| Err("none".to_owned())).unwrap().profile;
        let (start, _) = text.split_once("[[box]]").unwrap();
        let without = parse("x.toml", start, &mut |_| Err("none".to_owned())).unwrap().profile;
        let lacks = |set: &str, name: &str| {
            let (set, name, place) = (set.to_owned(), name.to_owned(), "bookworm (amd64)".to_owned());
            SourceError::from(DebianError::Unknown { set, name, place, nearest: Some("libarchive13".to_owned()) })
        };
        let told = too_old(&with_boxes, &lacks("toolchain (amd64)", "libarchive13t64")).unwrap();
        let words =
            "boxes need a toolchain of Debian 13 (trixie) or later, for mke2fs 1.47.1: bookworm (amd64) has no package";
        assert!(told.to_string().starts_with(words), "{told}");
        for (profile, set, name) in [
            (&with_boxes, "toolchain (amd64)", "mmtools"),
            (&with_boxes, "toolchain (amd64)", "zstd"),
            (&with_boxes, "box server (amd64)", "libarchive13t64"),
            (&without, "toolchain (amd64)", "libarchive13t64"),
        ] {
            assert!(too_old(profile, &lacks(set, name)).is_none(), "{set}: {name}");
        }
    }
}
