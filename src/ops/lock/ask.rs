//! One question to the network each, and its answer.

use std::sync::Arc;

use super::choose::enter_wheel;
use crate::model::image::ImageRef;
use crate::model::lock::{FileKind, Lock, LockedChart, LockedFile, LockedImage, LockedWheel};
use crate::model::platform::Platform;
use crate::ops::profile::OnDisk;
use crate::ops::{Ctx, OpsError};
use crate::source::chart::ChartRequest;
use crate::source::file::FileRequest;
use crate::source::{Net, SourceError, chart, debian, file, oci, wheel};
use crate::store::Store;

/// An input that must be asked for.
pub(super) enum Ask {
    Image(ImageRef),
    Chart(String),
    File(FileKey),
    Debian(String),
    Wheels(String),
}

pub(super) type FileKey = (FileKind, String, Option<Platform>);

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

pub(super) fn file_name((kind, name, platform): &FileKey) -> String {
    match platform {
        Some(platform) => format!("{} {name} ({platform})", kind.as_str()),
        None => format!("{} {name}", kind.as_str()),
    }
}

/// Asks the network.
pub(super) async fn answer(ctx: &Ctx, store: &Arc<Store>, disk: &OnDisk, ask: Ask) -> Result<Answer, OpsError> {
    let net = &ctx.net;
    match ask {
        Ask::Debian(name) => debian_answer(ctx, store, disk, &name).await,
        Ask::Wheels(name) => wheels_answer(net, store, disk, &name).await,
        Ask::Image(reference) => {
            let named = |e: SourceError| wrap(format!("image {reference}"), e);
            let input = disk.inputs.images.get(&reference).cloned().unwrap_or_default();
            let platforms: Vec<_> = input.platforms.iter().copied().collect();
            let asked = input.source.as_ref().unwrap_or(&reference);
            let found = oci::resolve(net, store, asked, &platforms).await.map_err(named)?;
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
            let named = |e| wrap(format!("chart {name}"), e);
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
            let named = |e| wrap(file_name(&key), e);
            Ok(Answer::File(file::resolve_file(net, store, &request).await.map_err(named)?))
        }
    }
}

fn wrap(input: String, error: SourceError) -> OpsError {
    OpsError::Input { input, source: Box::new(error.into()) }
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
    Ok(Answer::Debian(found.map_err(|e| wrap(format!("debian {name}"), e))?))
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
    let mut wheels = wheel::resolve(net, store, &request).await.map_err(|e| wrap(format!("wheels {name}"), e))?;
    for wheel in &mut wheels {
        wheel.sets = vec![name.to_owned()];
    }
    Ok(Answer::Wheels(wheels))
}
