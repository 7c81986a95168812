//! A lab's life: `up`, `verify`, `status`, `down`, and working with what is up.

mod at;
mod boxes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use at::At;
pub use boxes::{ImportOptions, LabImported, box_import};

use super::{Ctx, OpsError};
use crate::lab::down::Down;
use crate::lab::env::LabEnv;
use crate::lab::finding::Finding;
use crate::lab::kube::pods::Target;
use crate::lab::logs::{Line, LogOptions};
use crate::lab::port_forward::{Forward, To};
use crate::lab::status::LabStatus;
use crate::lab::up::{Up, apis, known, which};
use crate::lab::verify::Report;
use crate::lab::{
    Machine, Session, State, down, logs, mirror, port_forward, preflight, status, tools, up as bring_up,
    verify as check,
};

/// Brings up the lab of a bundle.
///
/// # Errors
/// As [`bring_up::up`]; a lab of nothing but machines that Vagrant runs, or of nothing that labimg brings up.
pub async fn up(ctx: &Ctx, machine: &Machine, bundle: &Path, options: &bring_up::Options) -> Result<Up, OpsError> {
    let session = Session::open(bundle, machine.clone(), ctx.reporter.clone())?;
    if boxes::all_is_vagrants(&session.profile) {
        return Err(OpsError::hinted(
            format!("the machines of lab `{}` come up with Vagrant, and it has nothing else", session.name()),
            boxes::how_to_come_up(bundle, session.name()),
        ));
    }
    if let Some(error) = bring_up::nothing(&session, bundle) {
        return Err(error.into());
    }
    Ok(bring_up::up(&session, options).await?)
}

/// The bundle of the one lab that is up, or half up, on this machine: what `up` goes on with.
///
/// # Errors
/// No such lab, or several.
pub fn bundle_of_the_only(machine: &Machine) -> Result<PathBuf, OpsError> {
    let name = which(&machine.state_root, None)?;
    let file = State::new(&machine.state_root, &name).read()?;
    file.map(|file| file.bundle).ok_or_else(|| {
        OpsError::hinted(format!("nothing says which bundle lab `{name}` is of"), "give it: `labimg up BUNDLE`")
    })
}

/// Serves a bundle from a container of Docker, at 127.0.0.1:`port` and to kind's nodes. Gives the container's name.
///
/// # Errors
/// A bundle that can not be read or does not carry labimg, an engine that does not answer, a port that is taken.
pub async fn serve_in_docker(ctx: &Ctx, machine: &Machine, bundle: &Path, port: u16) -> Result<String, OpsError> {
    let session = Session::open(bundle, machine.clone(), ctx.reporter.clone())?;
    let _lock = session.state.lock()?;
    session.same_bundle()?;
    bring_up::claim(&session)?;
    Ok(mirror::serve_in_docker(&session, port).await?)
}

/// Whether this machine is fit for the lab of a bundle. Changes nothing.
///
/// # Errors
/// A bundle that can not be read.
pub async fn doctor(ctx: &Ctx, machine: &Machine, bundle: &Path) -> Result<Vec<Finding>, OpsError> {
    let session = Session::open(bundle, machine.clone(), ctx.reporter.clone())?;
    Ok(preflight::session(&session).await)
}

/// Runs the checks of a lab that is up.
///
/// # Errors
/// No such lab, or a cluster that does not answer at all. A check that fails is in the report.
pub async fn verify(
    ctx: &Ctx,
    machine: &Machine,
    lab: Option<&str>,
    options: &check::Options,
) -> Result<Report, OpsError> {
    let session = to_verify(ctx, machine, lab)?;
    let apis = apis(&session).await?;
    Ok(check::verify(&session, &apis, options).await?)
}

/// The lab that is up here, whose machines came up from the folder that is named or stood in, or of which labimg brings up nothing.
fn to_verify(ctx: &Ctx, machine: &Machine, lab: Option<&str>) -> Result<Session, OpsError> {
    let state = |name: &str| State::new(&machine.state_root, name).dir().is_dir();
    let folder = machine.vagrant.as_ref().filter(|folder| !state(&folder.lab));
    if let Some(folder) = folder
        && let Some(bundle) = boxes::bundle_of(folder, lab)?
    {
        return Ok(Session::open(&bundle, machine.clone(), ctx.reporter.clone())?);
    }
    // A lab that labimg does not bring up leaves no state: what its checks ask is there, or not, whoever brought it up.
    if let Some(path) = lab.map(Path::new).filter(|path| path.is_file()) {
        let session = Session::open(path, machine.clone(), ctx.reporter.clone())?;
        if bring_up::nothing(&session, path).is_some() && !boxes::has_vagrants(&session.profile) {
            return Ok(session);
        }
    }
    session(ctx, machine, lab).map_err(|error| boxes::in_its_folder(error, machine, lab))
}

/// How labs are, live: all of this machine, or one.
///
/// # Errors
/// No such lab, state that can not be read.
pub async fn status(machine: &Machine, lab: Option<&str>) -> Result<Vec<LabStatus>, OpsError> {
    let Some(lab) = lab else { return Ok(status::all(machine).await?) };
    let lab = which(&machine.state_root, Some(lab))?;
    Ok(status::one(&lab, machine).await?.into_iter().collect())
}

/// Takes a lab away; its bundle need not be there any more. A lab that is not there is no error when it is named: what is left of
/// it on the engine goes.
///
/// # Errors
/// No lab named where several are up, or something that would not go.
pub async fn down(ctx: &Ctx, machine: &Machine, lab: Option<&str>, images: bool) -> Result<Down, OpsError> {
    let lab = match lab {
        Some(path) if Path::new(path).is_file() => which(&machine.state_root, lab)?,
        Some(path) if path.contains('/') || path.ends_with(".labimg") => of_bundle(machine, path)?,
        Some(name) => name.to_owned(),
        None => which(&machine.state_root, None)?,
    };
    Ok(down::down(&lab, images, machine, ctx.reporter.as_ref()).await?)
}

/// The lab that was brought up from a bundle which is not there any more.
fn of_bundle(machine: &Machine, path: &str) -> Result<String, OpsError> {
    let wanted = machine.directory.join(path);
    let wanted = wanted.parent().and_then(|dir| fs_err::canonicalize(dir).ok()).zip(wanted.file_name());
    let wanted = wanted.map(|(dir, file)| dir.join(file));
    let labs = State::labs(&machine.state_root)?;
    // Another lab's damaged file must not keep this one.
    let bundle = |lab: &String| Some(State::new(&machine.state_root, lab).read().ok()??.bundle);
    match labs.iter().find(|lab| wanted.is_some() && bundle(lab) == wanted) {
        Some(lab) => Ok(lab.clone()),
        None => Err(OpsError::hinted(format!("no lab was brought up from `{path}`"), known(&labs))),
    }
}

/// A program to run for somebody, with its environment.
#[derive(Debug)]
pub struct Program {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables beside the caller's own.
    pub env: BTreeMap<String, String>,
}

/// `kubectl` out of the bundle, for a cluster of a lab.
///
/// # Errors
/// No such lab or cluster, a bundle without kubectl for this machine.
pub async fn kubectl(ctx: &Ctx, machine: &Machine, at: &At, args: Vec<OsString>) -> Result<Program, OpsError> {
    let session = session(ctx, machine, at.lab.as_deref())?;
    let kubeconfig = at.kubeconfig(&session)?;
    let program = tools::tool(&session, "kubectl")?;
    let env = BTreeMap::from([("KUBECONFIG".to_owned(), kubeconfig.display().to_string())]);
    Ok(Program { program, args, env })
}

/// What a shell needs to work with a lab.
///
/// # Errors
/// No such lab or cluster.
pub fn env(ctx: &Ctx, machine: &Machine, at: &At) -> Result<LabEnv, OpsError> {
    let session = session(ctx, machine, at.lab.as_deref())?;
    Ok(crate::lab::env::env(&session, at.cluster.as_deref())?)
}

/// Opens forwards to `target`, `LOCAL:PORT` each; they end when dropped.
///
/// # Errors
/// No such lab, cluster or target, a port that is taken.
pub async fn forward(
    ctx: &Ctx,
    machine: &Machine,
    at: &At,
    (namespace, target): (&str, &str),
    ports: &[String],
) -> Result<Vec<Forward>, OpsError> {
    let session = session(ctx, machine, at.lab.as_deref())?;
    let api = at.api(&session).await?;
    let target: Target = target.parse()?;
    let mut forwards = Vec::new();
    for text in ports {
        let (local, port) = port_forward::ports(text)?;
        let to = To { namespace: namespace.to_owned(), target: target.clone(), port };
        forwards.push(port_forward::open(&api, &to, local, ctx.reporter.clone()).await?);
    }
    Ok(forwards)
}

/// Whose logs.
#[derive(Debug, Clone)]
pub struct Whose {
    /// Name of a deploy, or `KIND/NAME`.
    pub what: String,
    /// Namespace of a workload (`default` where not given); a deploy has its own.
    pub namespace: Option<String>,
}

/// Hands lines of logs to `line`.
///
/// # Errors
/// No such lab, cluster, deploy or workload.
pub async fn logs(
    ctx: &Ctx,
    machine: &Machine,
    at: &At,
    whose: &Whose,
    options: &LogOptions,
    line: &mut (dyn FnMut(Line) + Send),
) -> Result<(), OpsError> {
    let session = session(ctx, machine, at.lab.as_deref())?;
    let deploy = session.profile.deploy.iter().find(|d| *d.name == whose.what);
    let cluster = deploy.and_then(|d| d.cluster.as_ref()).map(|c| c.to_string()).or_else(|| at.cluster.clone());
    let api = At { lab: None, cluster }.api(&session).await?;
    match deploy {
        None => {
            let namespace = whose.namespace.as_deref().unwrap_or("default");
            Ok(logs::stream(&api, namespace, &[whose.what.parse()?], options, line).await?)
        }
        Some(deploy) => {
            let brought = logs::of_deploy(&session.state, &deploy.name)?;
            for (namespace, targets) in &brought {
                logs::stream(&api, namespace, targets, options, line).await?;
            }
            match brought.is_empty() {
                true => Err(OpsError::user(format!("deploy `{}` brought nothing that has logs", whose.what))),
                false => Ok(()),
            }
        }
    }
}

fn session(ctx: &Ctx, machine: &Machine, lab: Option<&str>) -> Result<Session, OpsError> {
    let lab = which(&machine.state_root, lab)?;
    Ok(Session::of_lab(&lab, machine.clone(), ctx.reporter.clone())?)
}
