//! The verbs of a lab's life: arguments to options, one operation, its result to the printer.

use std::path::{Path, PathBuf};

use super::args::ServeArgs;
use super::args_lab::{
    DoctorArgs, DownArgs, EnvArgs, ImportArgs, KubectlArgs, LabArgs, LogsArgs, PortForwardArgs, UpArgs, VerifyArgs,
    Where,
};
use super::commands::{local_doctor, out, show};
use super::error::{Outcome, Status};
use super::{App, print, render, render_lab};
use crate::lab::logs::{Line, LogOptions};
use crate::lab::vagrant::Folder;
use crate::lab::{EngineSettings, Machine, up, verify};
use crate::model::platform::Platform;
use crate::ops::doctor::Verdict;
use crate::ops::lab::{At, ImportOptions, Whose};
use crate::ops::{self, OpsError};

/// What labs are told of this machine.
fn machine(app: &App) -> Result<Machine, OpsError> {
    let state_root =
        app.settings.state.clone().ok_or_else(|| {
            OpsError::hinted("no place for labs' state: HOME is not set", "give one: LABIMG_STATE=DIR")
        })?;
    let path = app.env.get("PATH").unwrap_or_default();
    let engines = app.settings.engine.iter().map(|(name, e)| {
        let (config_patches, feature_gates, env) = (e.config_patches.clone(), e.feature_gates.clone(), e.env.clone());
        (name.clone(), EngineSettings { config_patches, feature_gates, env })
    });
    Ok(Machine {
        state_root,
        path: path.split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect(),
        env: app.env.all().clone(),
        engines: engines.collect(),
        tools_from_path: app.settings.tools_from_path,
        platform: Platform::here(),
        directory: std::env::current_dir()?,
        vagrant: None,
        now: app.ctx.now,
        jobs: app.settings.jobs,
    })
}

fn at(place: &Where) -> At {
    At { lab: place.lab.clone(), cluster: place.cluster.clone() }
}

pub(super) async fn serve_in_docker(app: &App, args: &ServeArgs) -> Outcome {
    let [bundle] = args.bundles.as_slice() else {
        return Err(OpsError::user("`--engine docker` serves one bundle").into());
    };
    if !args.listen.ip().is_loopback() {
        return Err(OpsError::hinted(
            format!("`--engine docker` listens on 127.0.0.1 only, not on {}", args.listen.ip()),
            "for a room, leave `--engine docker` out",
        )
        .into());
    }
    let name = ops::lab::serve_in_docker(&app.ctx, &machine(app)?, bundle, args.listen.port()).await?;
    show(app, &name, |name| format!("{name} serves {} at 127.0.0.1:{}", bundle.display(), args.listen.port()), || ())
}

pub(super) async fn up(app: &App, args: &UpArgs) -> Outcome {
    let options = up::Options { only: args.only.clone(), until: args.until.clone() };
    let machine = machine(app)?;
    let bundle = args.bundle.clone().map_or_else(|| ops::lab::bundle_of_the_only(&machine), Ok)?;
    let done = ops::lab::up(&app.ctx, &machine, &bundle, &options).await?;
    show(app, &done, |_| String::new(), || app.say(&render_lab::up(&done)))
}

pub(super) async fn verify(app: &App, args: &VerifyArgs) -> Outcome {
    let options = verify::Options { only: args.only.clone() };
    let mut machine = machine(app)?;
    machine.vagrant = Folder::open(args.vagrant.as_deref().unwrap_or(&machine.directory))?;
    if let Some(dir) = args.vagrant.as_ref().filter(|_| machine.vagrant.is_none()) {
        return Err(OpsError::hinted(
            format!("`{}` has no Vagrantfile of labimg's", dir.display()),
            "`labimg build PROFILE` writes one, in a folder beside the bundle",
        )
        .into());
    }
    let report = ops::lab::verify(&app.ctx, &machine, args.lab.as_deref(), &options).await?;
    if let Some(path) = &args.junit {
        crate::base::atomic::write_file(path, verify::junit(&report).as_bytes())?;
    }
    show(app, &report, render_lab::card, || ())?;
    if report.checks.is_empty() {
        // Nothing failed, and nothing was shown.
        app.say("the profile has no `[[check]]`: add what attendees must see at the end, lock and build again");
        return Ok(Status::User);
    }
    Ok(match (report.mismatch(), report.passed()) {
        (true, _) => Status::Mismatch,
        (false, true) => Status::Ok,
        (false, false) => Status::Stale,
    })
}

pub(super) async fn status(app: &App, args: &LabArgs) -> Outcome {
    let labs = ops::lab::status(&machine(app)?, args.lab.as_deref()).await?;
    show(
        app,
        &labs,
        |labs| render_lab::status(labs),
        || {
            if labs.is_empty() {
                app.say("no lab is up here");
            }
        },
    )
}

pub(super) async fn down(app: &App, args: &DownArgs) -> Outcome {
    let done = ops::lab::down(&app.ctx, &machine(app)?, args.lab.as_deref(), args.images).await?;
    show(app, &done, |_| String::new(), || app.say(&render_lab::down(&done)))
}

pub(super) async fn kubectl(app: &App, args: KubectlArgs) -> Outcome {
    let run = ops::lab::kubectl(&app.ctx, &machine(app)?, &at(&args.at), args.args).await?;
    app.progress.clear();
    let status = tokio::process::Command::new(&run.program).args(&run.args).envs(&run.env).status().await;
    let status = status.map_err(|e| OpsError::user(format!("`{}` does not start: {e}", run.program.display())))?;
    Ok(Status::Program(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

pub(super) fn env(app: &App, args: &EnvArgs) -> Outcome {
    let found = ops::lab::env(&app.ctx, &machine(app)?, &at(&args.at))?;
    let variables = found.variables(app.env.get("PATH").unwrap_or_default());
    // Paths of this machine, for a shell: exactly as they are.
    if app.json { out(print::json(&found)) } else { out(print::to_stdout(&render_lab::shell(&variables))) }
}

pub(super) async fn port_forward(app: &App, args: &PortForwardArgs) -> Outcome {
    let to = (args.namespace.as_str(), args.target.as_str());
    let forwards = ops::lab::forward(&app.ctx, &machine(app)?, &at(&args.at), to, &args.ports).await?;
    app.progress.clear();
    for forward in &forwards {
        out(print::to_stdout(&format!("{} -> {}", forward.local, args.target)))?;
    }
    // Until Ctrl-C.
    std::future::pending().await
}

pub(super) async fn logs(app: &App, args: &LogsArgs) -> Outcome {
    let options = LogOptions { container: args.container.clone(), follow: args.follow, tail: Some(args.tail) };
    let whose = Whose { what: args.what.clone(), namespace: args.namespace.clone() };
    app.progress.clear();
    let mut written = Ok(());
    let mut line = |line: Line| {
        if written.is_ok() {
            written = print::to_stdout(&format!("{}/{}: {}", line.pod, line.container, line.text));
        }
    };
    ops::lab::logs(&app.ctx, &machine(app)?, &at(&args.at), &whose, &options, &mut line).await?;
    out(written)
}

pub(super) async fn doctor(app: &App, args: &DoctorArgs) -> Outcome {
    let findings = match &args.bundle {
        Some(bundle) => ops::lab::doctor(&app.ctx, &machine(app)?, Path::new(bundle)).await?,
        None => local_doctor(app),
    };
    show(app, &findings, |f| render::doctor(f), || ())?;
    Ok(if findings.iter().any(|f| f.verdict == Verdict::Bad) { Status::User } else { Status::Ok })
}

/// `labimg box import`: puts boxes into Vagrant's home.
pub(super) fn box_import(app: &App, args: &ImportArgs) -> Outcome {
    let home = match (app.env.get("VAGRANT_HOME"), app.env.get("HOME")) {
        (Some(home), _) => PathBuf::from(home),
        (None, Some(home)) => PathBuf::from(home).join(".vagrant.d"),
        (None, None) => {
            return Err(
                OpsError::hinted("where is Vagrant's home? HOME is not set", "give it: VAGRANT_HOME=DIR").into()
            );
        }
    };
    let (lab, out, provider) = (args.lab.clone(), args.out.clone(), args.provider.clone());
    let done = ops::lab::box_import(&app.ctx, &ImportOptions { lab, out, provider }, &home)?;
    show(app, &done, |_| String::new(), || app.say(&render_lab::imported(&done)))
}
