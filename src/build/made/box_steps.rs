//! A box's `[[box.step]]`: from what a profile says to what is run in a machine.

use std::sync::Arc;
use std::time::Duration;

use super::Request;
use super::boxes::{self, step_name};
use crate::build::BuildError;
use crate::build::disk::DiskSpec;
use crate::build::provision::{Harvest, Machine, StartDisk, StepAction, What, after};
use crate::build::rootfs::TREE;
use crate::build::step::{Action, Input};
use crate::build::toolchain::Toolchain;
use crate::model::platform::Platform;
use crate::model::profile::{self, BoxDef, MachineStep};

/// How long a step may take that does not say.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The steps of a box that starts as `tree`, and the tree it becomes.
///
/// # Errors
/// What can not be run, and a lock that lacks what steps name.
pub(super) fn actions(
    request: &Request<'_>,
    table: &BoxDef,
    platform: Platform,
    (tree, disk): (Input, DiskSpec),
    toolchain: &Arc<Toolchain>,
) -> Result<(Vec<Box<dyn Action>>, Input), BuildError> {
    if platform != Platform::LinuxAmd64 || Platform::here() != Some(Platform::LinuxAmd64) {
        let message = format!("box `{}`: steps of a machine for {platform} can not be run here", *table.name);
        return Err(BuildError::user(message, "steps run in linux/amd64 machines, on linux/amd64"));
    }
    let helper = request.program.to_owned();
    let mut machine = Machine::new(format!("box {}", *table.name), disk.clone(), toolchain.clone(), helper.clone());
    machine.on_failure = request.on_failure.clone();
    let machine = Arc::new(machine);
    let start = StartDisk {
        name: step_name(table, platform, "disk for its steps"),
        tree: tree.clone(),
        disk,
        toolchain: toolchain.clone(),
        helper,
    };
    let start_name = start.name();
    let mut all: Vec<Box<dyn Action>> = vec![Box::new(start)];
    let mut before = Vec::new();
    for step in &table.step {
        let name = step_name(table, platform, &format!("step {}", *step.name));
        all.push(Box::new(StepAction {
            name: name.clone(),
            start: start_name.clone(),
            before: before.clone(),
            what: what(request, step, platform)?,
            user: step.user.as_ref().map(|u| u.to_string()),
            env: step.env.clone(),
            timeout: step.timeout.as_ref().and_then(|t| profile::duration(t)).unwrap_or(TIMEOUT),
            machine: machine.clone(),
        }));
        before.push(name);
    }
    let changes = before.iter().map(|name| after(name)).collect();
    let harvest = Harvest { name: step_name(table, platform, "after its steps"), tree, changes, machine };
    let tree = Input::Step { step: harvest.name(), output: TREE.to_owned() };
    all.push(Box::new(harvest));
    Ok((all, tree))
}

fn what(request: &Request<'_>, step: &MachineStep, platform: Platform) -> Result<What, BuildError> {
    if let Some(script) = &step.run {
        return Ok(What::Run(script.to_string()));
    }
    if let Some(command) = &step.wait {
        return Ok(What::Wait(command.to_string()));
    }
    if let Some(table) = &step.file {
        let file = boxes::file(request, table, platform)?;
        return Ok(What::File {
            contents: file.contents,
            to: file.to,
            mode: format!("{:o}", file.mode.unwrap_or(0o644)),
            owner: file.owner.unwrap_or_else(|| "root:root".to_owned()),
        });
    }
    match &step.upload {
        Some(upload) => Ok(What::Upload {
            contents: boxes::contents(request, &upload.from, platform)?,
            name: file_name(&upload.from),
            to: upload.to.to_string(),
        }),
        None => Ok(What::Reboot),
    }
}

/// What an uploaded file is called in the machine: as here. What a step left has names of its own.
fn file_name(from: &str) -> Option<String> {
    match from.split_once(':') {
        Some(("step", rest)) => rest.split_once('/').and_then(|(_, path)| last(path)),
        Some((_, name)) => Some(name.to_owned()),
        None => last(from),
    }
}

fn last(path: &str) -> Option<String> {
    path.rsplit('/').next().filter(|n| !n.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_keep_their_names() {
        assert_eq!(file_name("a/b.txt").as_deref(), Some("b.txt"));
        assert_eq!(file_name("file:x").as_deref(), Some("x"));
        assert_eq!(file_name("step:page"), None);
        assert_eq!(file_name("step:page/index.html").as_deref(), Some("index.html"));
    }
}
