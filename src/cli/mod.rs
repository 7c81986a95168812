//! The terminal: arguments, settings, progress, rendering, exit codes. No logic.

mod args;
#[cfg(test)]
mod args_hints;
mod args_lab;
mod args_lock;
mod args_tips;
mod commands;
mod commands_lab;
mod commands_settings;
mod error;
mod local_settings;
mod open_machine;
mod print;
mod progress;
mod render;
mod render_check;
mod render_lab;
mod settings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use args::{Cli, Color, Global, ToolchainVerb, Verb};
use error::{CliError, Outcome, Status};
use local_settings::Policy;
use progress::Progress;
use settings::{Env, Settings};

use crate::ops::{Ctx, Means, OpsError};
use crate::source::Net;

/// Runs labimg with these arguments (the first is the program's name).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::parse(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; clap knows where each of them goes.
            let _ = e.print();
            return if e.use_stderr() { Status::Usage.into() } else { Status::Ok.into() };
        }
    };
    choose_colour(cli.global.color);
    let json = cli.global.json && !streams(&cli.verb);
    let outcome = caught(|| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.map_err(OpsError::Io)?;
        // What went wrong is told while the runtime still hears signals.
        let status = runtime.block_on(async { run(cli).await.unwrap_or_else(|e| error::report(&e, json)) });
        // A blocking read under way must not hold the program.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        Ok(status)
    });
    outcome.unwrap_or_else(|e| error::report(&e, json)).into()
}

/// A panic is an error as any other; where it happened has been said by then.
fn caught(work: impl FnOnce() -> Outcome) -> Outcome {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(OpsError::Internal(text.unwrap_or_else(|| "a panic".to_owned())).into())
    })
}

/// Whether standard output carries bytes: nothing else may be mixed in.
fn streams(verb: &Verb) -> bool {
    match verb {
        Verb::Cat(_) => true,
        Verb::Export(a) => a.output == Path::new("-"),
        _ => false,
    }
}

fn choose_colour(when: Color) {
    match when {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
}

/// The verb, or Ctrl-C: whatever was written so far is whole or resumable, so leaving at once is safe.
async fn run(cli: Cli) -> Outcome {
    let env = Env::read();
    // These ask for no setting: whatever a folder says must not keep them from answering.
    let mut global = cli.global.clone();
    match &cli.verb {
        Verb::Settings(args) => return commands_settings::run(&env, &args.verb, cli.global.json, cli.global.quiet),
        Verb::Schema(_) | Verb::Completions(_) => global.local_settings = Some(Policy::Ignore),
        _ => {}
    }
    let mut app = App::new(&global, env, profile_of(&cli.verb), needs_store(&cli.verb))?;
    if let Some(line) = app.settings.local.as_ref().filter(|_| !app.json) {
        app.say(line);
    }
    if let Verb::Build(args) = &cli.verb {
        app.ctx.means.on_failure = args.on_failure.map(|_| open_machine::by_shell(app.progress.clone()));
    }
    let outcome = match &cli.verb {
        // A server ends what is under way first.
        Verb::Serve(_) => commands::run(&app, cli.verb).await,
        // Programs run for a lab end with their future, so that none goes on alone.
        Verb::Up(_) | Verb::Verify(_) | Verb::Down(_) | Verb::PortForward(_) | Verb::Logs(_) => tokio::select! {
            outcome = commands::run(&app, cli.verb) => outcome,
            status = asked_to_leave() => Ok(status),
        },
        _ => {
            tokio::spawn(leave_on_signal(app.progress.clone()));
            commands::run(&app, cli.verb).await
        }
    };
    app.progress.clear();
    outcome
}

/// Ready when Ctrl-C or a request to end comes.
async fn asked_to_leave() -> Status {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Status::Interrupted,
        _ = terminate.recv() => Status::Program(143),
    }
}

async fn leave_on_signal(progress: Arc<Progress>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    let status = tokio::select! {
        _ = tokio::signal::ctrl_c() => i32::from(Status::Interrupted.code()),
        _ = terminate.recv() => 143,
    };
    progress.clear();
    print::to_stderr("interrupted; what is there is kept, the same command goes on from here");
    #[expect(clippy::exit, reason = "a blocking write under way must not hold the program")]
    std::process::exit(status);
}

/// Ready when the program is asked to end; asked twice, it ends at once.
fn stop_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
    async move {
        // Without signals of its own, the program ends as others do.
        let Ok((mut terminate, mut interrupt)) = signals else { return std::future::pending().await };
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tokio::spawn(async move {
            let status = tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
            #[expect(clippy::exit, reason = "asked twice")]
            std::process::exit(status);
        });
    }
}

/// The profile whose folder may hold `labimg.local.toml`.
fn profile_of(verb: &Verb) -> Option<&Path> {
    match verb {
        Verb::Lock(a) => Some(&a.profile),
        Verb::Fetch(a) => Some(&a.profile),
        Verb::Build(a) => a.profiles.first().map(|p| p.as_path()),
        Verb::Graph(a) => Some(&a.profile),
        Verb::Why(a) => Some(&a.profile),
        // As `check` itself tells a profile from a bundle.
        Verb::Check(a) => a.lab.extension().is_some_and(|e| e == "toml").then_some(a.lab.as_path()),
        Verb::Toolchain(a) => match &a.verb {
            ToolchainVerb::Exec { profile, .. } => Some(profile),
        },
        _ => None,
    }
}

/// Whether the verb is lost without a store.
fn needs_store(verb: &Verb) -> bool {
    !matches!(verb, Verb::Serve(a) if a.store_lab.is_empty())
}

/// The file system in memory, where it has room for what building writes (2 GiB).
fn other_scratch() -> Option<PathBuf> {
    let shm = Path::new("/dev/shm");
    let stat = rustix::fs::statvfs(shm).ok()?;
    (stat.f_bavail.saturating_mul(stat.f_frsize) >= 2 << 30).then(|| shm.to_owned())
}

/// What every command needs.
struct App {
    ctx: Ctx,
    env: Env,
    settings: Settings,
    progress: Arc<Progress>,
    json: bool,
    quiet: bool,
}

impl App {
    fn new(global: &Global, env: Env, profile: Option<&Path>, stores: bool) -> Result<Self, CliError> {
        let settings = settings::resolve(global, &env, profile, stores)?;
        let progress = Arc::new(Progress::new(global.quiet));
        let net = Net::new(settings.net.clone(), progress.clone());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        // Whatever happens to the file meanwhile, this is the very program that runs.
        let program = PathBuf::from("/proc/self/exe");
        let ctx = Ctx {
            store: settings.store.clone(),
            net,
            roots: settings.roots.clone(),
            reporter: progress.clone(),
            jobs: settings.jobs,
            means: Means {
                cores: settings.cores,
                memory: settings.memory,
                other_scratch: other_scratch(),
                program,
                carry: settings.carry.clone(),
                on_failure: None,
            },
            now,
        };
        Ok(Self { ctx, env, settings, progress, json: global.json, quiet: global.quiet })
    }

    /// Says something to a person, unless nobody wants to hear it.
    fn say(&self, text: &str) {
        if !self.quiet {
            print::to_stderr(text.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_70() {
        let told = |outcome: Outcome| match outcome {
            Err(CliError::Ops(e)) => (e.to_string(), error::report(&CliError::Ops(e), false)),
            other => (format!("{other:?}"), Status::Ok),
        };
        let (text, status) = told(caught(|| panic!("so {}", "what")));
        assert_eq!((text.as_str(), status), ("internal error: so what", Status::Internal));
        let (text, status) =
            told(caught(|| Err(crate::source::SourceError::Internal("a task died".to_owned()).into())));
        assert_eq!((text.as_str(), status), ("internal error: a task died", Status::Internal));
    }
}
