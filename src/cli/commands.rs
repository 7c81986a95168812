//! One function per verb: arguments to options, one operation, its result to the printer.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::args::{
    BuildArgs, CatArgs, CheckArgs, DiffArgs, ExportArgs, GraphArgs, GraphFormat, InspectArgs, LockArgs, ServeArgs,
    StoreVerb, ToolchainVerb, Verb,
};
use super::args_lab::BoxVerb;
use super::error::{CliError, Outcome, Status};
use super::{App, commands_lab as lab, print, render, render_check};
use crate::build::export::{Format, Selection};
use crate::model::image::ImageRef;
use crate::model::platform::Platform;
use crate::ops::build::BuildOptions;
use crate::ops::doctor::{Finding, Surroundings};
use crate::ops::export::Output;
use crate::ops::lock::LockOptions;
use crate::ops::serve::ServeOptions;
use crate::ops::{self, OpsError};
use crate::serve::Registry;

/// Runs a verb.
pub(super) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Lock(args) => lock(app, args).await,
        Verb::Fetch(args) => {
            let done = ops::fetch::fetch(&app.ctx, &args.profile).await?;
            show(app, &done, |_| String::new(), || app.say(&render::fetched(&done)))
        }
        Verb::Build(args) => build(app, args).await,
        Verb::Check(args) => check(app, &args),
        Verb::Inspect(args) => inspect(app, &args),
        Verb::Ls(args) => {
            let list = if args.all { ops::ls::ls_all } else { ops::ls::ls };
            let entries = list(&args.bundle)?;
            show(app, &entries, |e| render::ls(e), || ())
        }
        Verb::Cat(args) => cat(app, &args),
        Verb::Size(args) => {
            let report = ops::size::size(&args.bundle)?;
            show(app, &report, render::size, || ())
        }
        Verb::Diff(args) => diff(app, &args),
        Verb::Export(args) => export(app, &args),
        Verb::Graph(args) => graph(app, &args),
        Verb::Why(args) => {
            let steps = ops::why::why(&app.ctx, &args.profile, args.step.as_deref())?;
            show(app, &steps, |s| render::why(s), || ())
        }
        Verb::Toolchain(args) => toolchain(app, args.verb).await,
        Verb::Serve(args) => serve(app, args).await,
        Verb::Store(args) => store(app, args.verb).await,
        Verb::Up(args) => lab::up(app, &args).await,
        Verb::Verify(args) => lab::verify(app, &args).await,
        Verb::Status(args) => lab::status(app, &args).await,
        Verb::Down(args) => lab::down(app, &args).await,
        Verb::Box(BoxVerb::Import(args)) => lab::box_import(app, &args),
        Verb::Kubectl(args) => lab::kubectl(app, args).await,
        Verb::Env(args) => lab::env(app, &args),
        Verb::PortForward(args) => lab::port_forward(app, &args).await,
        Verb::Logs(args) => lab::logs(app, &args).await,
        Verb::Doctor(args) => lab::doctor(app, &args).await,
        Verb::Settings(args) => super::commands_settings::run(&app.env, &args.verb, app.json, app.quiet),
        Verb::Schema(args) => out(print::json(&if args.image { ops::schema::image() } else { ops::schema::profile() })),
        Verb::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut super::args::Cli::command(), "labimg", &mut script);
            out(print::to_stdout(&String::from_utf8_lossy(&script)))
        }
    }
}

pub(super) fn out(written: io::Result<()>) -> Outcome {
    written.map(|()| Status::Ok).map_err(CliError::Output)
}

/// JSON for machines, else data to standard output and words to standard error.
pub(super) fn show<T: serde::Serialize + ?Sized>(
    app: &App,
    value: &T,
    text: impl FnOnce(&T) -> String,
    words: impl FnOnce(),
) -> Outcome {
    app.progress.clear();
    if app.json {
        return out(print::json(&value));
    }
    words();
    let text = text(value);
    if text.is_empty() { Ok(Status::Ok) } else { out(print::text(&text)) }
}

async fn lock(app: &App, args: LockArgs) -> Outcome {
    let options = LockOptions { update_all: args.moves_all(), update: args.names(), check: args.check };
    let done = ops::lock::lock(&app.ctx, &args.profile, &options).await?;
    show(app, &done, |d| render::changes(&d.changes), || app.say(&render::locked(&done)))
}

async fn build(app: &App, args: BuildArgs) -> Outcome {
    ops::build::distinct(&app.ctx, &args.profiles)?;
    let options = BuildOptions { out: args.out, check: args.check };
    let mut built = Vec::new();
    for profile in &args.profiles {
        let done = ops::build::build(&app.ctx, profile, &options).await?;
        app.progress.clear();
        if !app.json {
            app.say(&render::built(&done));
            print::to_stdout(&done.bundle.display().to_string()).map_err(CliError::Output)?;
        }
        built.push(done);
    }
    if app.json { out(print::json(&built)) } else { Ok(Status::Ok) }
}

fn check(app: &App, args: &CheckArgs) -> Outcome {
    let found = ops::check::check(&app.ctx, &args.lab)?;
    show(app, &found, render_check::checked, || ())?;
    let missing = !found.closure.missing.is_empty() || found.lacking.iter().any(|l| l.needed);
    Ok(match (missing, found.closure.broken.is_empty()) {
        (true, _) => Status::Stale,
        (false, false) => Status::User,
        (false, true) if args.strict && !found.is_whole() => Status::Stale,
        (false, true) => Status::Ok,
    })
}

fn inspect(app: &App, args: &InspectArgs) -> Outcome {
    let report = ops::inspect::inspect(&args.bundle, args.verify, app.ctx.reporter.as_ref())?;
    let damaged = report.damaged.as_ref().is_some_and(|d| !d.is_empty());
    show(app, &report, render::inspect, || ())?;
    if damaged {
        print::to_stderr(&format!("hint: {}", ops::error::COPY_AGAIN));
    }
    Ok(if damaged { Status::Mismatch } else { Status::Ok })
}

fn cat(app: &App, args: &CatArgs) -> Outcome {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    match ops::cat::cat(&args.bundle, &args.what, &mut stdout) {
        Ok(()) => out(stdout.flush()),
        Err(e) => {
            app.progress.clear();
            match broken_pipe(&e) {
                true => Ok(Status::Ok),
                false => Err(e.into()),
            }
        }
    }
}

/// Whether an error is, at its root, a reader that went away.
fn broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        next = e.source();
    }
    false
}

fn diff(app: &App, args: &DiffArgs) -> Outcome {
    let report = ops::diff::compare(&args.a, &args.b, &std::env::temp_dir())?;
    show(app, &report, render::compared, || ())?;
    Ok(if report.same() { Status::Ok } else { Status::Stale })
}

fn export(app: &App, args: &ExportArgs) -> Outcome {
    let platform = args.platform.as_deref().map(str::parse::<Platform>).transpose();
    let images: Result<Vec<ImageRef>, _> = args.image.iter().map(|i| i.parse::<ImageRef>()).collect();
    let selection = Selection {
        format: if args.docker { Format::Docker } else { Format::Oci },
        platform: platform.map_err(|e| OpsError::user(e.to_string()))?,
        images: images.map_err(OpsError::from)?,
    };
    let streaming = args.output == Path::new("-");
    let mut stdout = io::BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let output = if streaming { Output::Stream(&mut stdout) } else { Output::File(&args.output) };
    let done = match ops::export::export(&args.bundle, &selection, output, app.ctx.reporter.as_ref()) {
        Err(e) if streaming && broken_pipe(&e) => return Ok(Status::Ok),
        other => other?,
    };
    stdout.flush().map_err(CliError::Output)?;
    drop(stdout);
    app.progress.clear();
    match (streaming, app.json) {
        (false, true) => out(print::json(&done)),
        _ => {
            app.say(&render::exported(&done));
            Ok(Status::Ok)
        }
    }
}

fn graph(app: &App, args: &GraphArgs) -> Outcome {
    let graph = ops::graph::graph(&app.ctx, &args.profile)?;
    show(
        app,
        &graph,
        |g| match args.format {
            GraphFormat::Dot => ops::graph::dot(g),
            GraphFormat::Svg => ops::graph::svg(g),
        },
        || (),
    )
}

async fn serve(app: &App, args: ServeArgs) -> Outcome {
    if args.engine.is_some() {
        return lab::serve_in_docker(app, &args).await;
    }
    let registry = args.registry.zip(args.pushes);
    let registry = registry.map(|(host, pushes)| Registry { host, pushes, limit: args.push_limit });
    let options = ServeOptions { bundles: args.bundles, labs: args.store_lab, listen: args.listen, registry };
    // Before the address is told: whoever reads it may send the signal at once.
    let stop = super::stop_signal();
    let (server, told) = ops::serve::serve(&app.ctx, options).await?;
    show(app, &told, render::listening, || ())?;
    server.run(stop).await;
    Ok(Status::Ok)
}

async fn store(app: &App, verb: StoreVerb) -> Outcome {
    match verb {
        StoreVerb::Check { repair } => {
            let done = ops::store::check(&app.ctx, repair).await?;
            show(app, &done, |d| render::checked(d, repair), || ())?;
            Ok(match (done.remaining.is_empty() && done.remaining_records.is_empty(), done.failed.is_empty()) {
                (false, _) => Status::Mismatch,
                (true, false) => Status::User,
                (true, true) => Status::Ok,
            })
        }
        StoreVerb::Gc { dry_run, grace } => {
            let done = ops::store::gc(&app.ctx, std::time::SystemTime::now(), grace, dry_run)?;
            show(app, &done, |_| String::new(), || app.say(&render::collected(&done, dry_run)))
        }
        StoreVerb::Rm { lab } => {
            ops::store::rm(&app.ctx, &lab)?;
            show(app, &lab, |_| String::new(), || app.say(&render::forgotten(&lab)))
        }
        StoreVerb::Du => {
            let usage = ops::store::du(&app.ctx)?;
            show(app, &usage, render::usage, || ())
        }
        StoreVerb::Path { what } => {
            let path = ops::store::path(&app.ctx, what.as_deref())?;
            show(app, &path, |p| p.display().to_string(), || ())
        }
    }
}

async fn toolchain(app: &App, verb: ToolchainVerb) -> Outcome {
    let ToolchainVerb::Exec { profile, inputs, out, scratch, command } = verb;
    let request = ops::toolchain::Exec { command, inputs, out, scratch };
    let code = ops::toolchain::exec(&app.ctx, &profile, &request, || app.progress.clear()).await?;
    Ok(Status::Program(code))
}

/// Where distributions keep their certificate authorities.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(super) fn local_doctor(app: &App) -> Vec<Finding> {
    let path = app.env.get("PATH").unwrap_or_default();
    let net = &app.settings.net;
    let credentials = net.credential_files.iter().chain(&net.usual_credential_files);
    let around = Surroundings {
        path: path.split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect(),
        settings: app.settings.files.clone(),
        engines: app.settings.engine.iter().map(|(name, e)| e.summary(name)).collect(),
        credentials: credentials.filter(|p| p.is_file()).cloned().collect(),
        system_ca: CA_BUNDLES.iter().map(PathBuf::from).find(|p| p.is_file()),
    };
    ops::doctor::doctor(&app.ctx, &around)
}
