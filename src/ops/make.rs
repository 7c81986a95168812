//! Builds what a profile makes itself: its images, by steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::profile::OnDisk;
use super::{Ctx, OpsError};
use crate::base::digest::Digest;
use crate::build::made;
use crate::build::step::engine::{Done, EngineOptions, Rebuild, realise};
use crate::build::step::plan::Plan;
use crate::build::vagrant_box;
use crate::build::vagrant_lab::MadeBox;
use crate::model::lock::{Lock, LockedImage};
use crate::model::profile::Provider;
use crate::store::Store;

/// What was made.
#[derive(Debug, Default)]
pub(super) struct MadeHere {
    /// The images.
    pub images: Vec<LockedImage>,
    /// The boxes.
    pub boxes: Vec<MadeBox>,
    /// Every blob a step made, with its size in bytes: kept, so that the next build finds it.
    pub blobs: BTreeMap<Digest, u64>,
    /// Steps that ran.
    pub steps_run: usize,
    /// Steps in all.
    pub steps: usize,
}

/// The plan of everything the profile makes.
pub(super) fn plan(ctx: &Ctx, store: &Arc<Store>, disk: &OnDisk, lock: &Lock) -> Result<Plan, OpsError> {
    let request = made::Request {
        profile: &disk.profile,
        defs: &disk.defs,
        inputs: &disk.inputs,
        lock,
        store,
        program: &ctx.means.program,
        path: &disk.path,
        on_failure: ctx.means.on_failure.clone(),
    };
    Ok(made::plan(&request)?)
}

/// Builds it; with `check` every step a second time, to compare.
pub(super) fn make(
    ctx: &Ctx,
    store: &Arc<Store>,
    disk: &OnDisk,
    lock: &Lock,
    check: bool,
) -> Result<MadeHere, OpsError> {
    let plan = plan(ctx, store, disk, lock)?;
    if plan.is_empty() {
        return Ok(MadeHere::default());
    }
    let done = realise(
        &plan,
        &EngineOptions {
            store,
            lab: &lock.name,
            epoch: lock.epoch,
            cores: ctx.means.cores,
            memory_mib: ctx.means.memory,
            scratch_root: &store.scratch_root(),
            again_root: ctx.means.other_scratch.as_deref(),
            keep_failed: true,
            rebuild: if check { Rebuild::AndCompare } else { Rebuild::No },
            reporter: ctx.reporter.as_ref(),
        },
    )?;
    let outputs = done.values().flat_map(|d| d.outputs.values());
    Ok(MadeHere {
        images: images(disk, lock, &done, store)?,
        boxes: boxes(disk, &done),
        blobs: outputs.map(|o| (o.digest, o.size)).collect(),
        steps_run: done.values().filter(|d| d.built).count(),
        steps: done.len(),
    })
}

/// The boxes of all that was made, sorted by name, platform and provider.
fn boxes(disk: &OnDisk, done: &BTreeMap<String, Done>) -> Vec<MadeBox> {
    let mut found = Vec::new();
    for table in &disk.profile.boxes {
        for platform in table.platforms() {
            let Some(step) = done.get(&made::box_step(&table.name, platform)) else { continue };
            for provider in [Provider::Libvirt, Provider::Virtualbox] {
                let output = step.outputs.get(vagrant_box::name(provider));
                found.extend(output.map(|o| MadeBox {
                    name: table.name.to_string(),
                    platform,
                    provider,
                    digest: o.digest,
                    size: o.size,
                }));
            }
        }
    }
    found.sort_by(|a, b| (&a.name, a.platform, a.provider).cmp(&(&b.name, b.platform, b.provider)));
    found
}

fn images(
    disk: &OnDisk,
    lock: &Lock,
    done: &BTreeMap<String, Done>,
    store: &Store,
) -> Result<Vec<LockedImage>, OpsError> {
    let own: Vec<_> = made::labimg_image(lock).into_iter().chain(made::node_images(&disk.profile)).collect();
    let made = disk.inputs.made.iter().chain(own.iter().map(|(reference, image)| (reference, image)));
    made.map(|(reference, image)| Ok(made::built(reference, image, done, store)?)).collect()
}
