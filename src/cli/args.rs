//! What people type. Doc comments here are the help texts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::args_lab::{
    BoxVerb, DoctorArgs, DownArgs, EnvArgs, KubectlArgs, LabArgs, LogsArgs, PortForwardArgs, UpArgs, VerifyArgs,
};
pub use super::args_lock::LockArgs;
use super::{args_lock, args_tips};
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Reproducible, offline workshop labs: images, charts and tools pinned by hash, in one file.
#[derive(Debug, Parser)]
#[command(name = "labimg", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every verb.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The store [env: LABIMG_STORE]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Ask TO instead of FROM: a registry (`docker.io=http://127.0.0.1:5000`, `*` for all), a URL's start, or a package
    /// archive (`debian`, `debian-security`, `pypi`) [env: LABIMG_MIRROR]
    #[arg(long, global = true, value_name = "FROM=TO")]
    pub mirror: Vec<String>,
    /// Talk plain HTTP to this registry [env: LABIMG_PLAIN_HTTP]
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub plain_http: Vec<String>,
    /// Trust the certificate authorities in this PEM file, too [env: LABIMG_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// Read registry credentials from this file (Docker's config.json, containers' auth.json) [env: LABIMG_CREDENTIALS]
    #[arg(long, global = true, value_name = "FILE")]
    pub credentials: Vec<PathBuf>,
    /// Downloads at a time, and threads for what takes many [default: 8] [env: LABIMG_JOBS]
    #[arg(short, long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Downloads at a time from one host [default: 8] [env: LABIMG_PER_HOST]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub per_host: Option<u16>,
    /// Cores that building may use [default: all] [env: LABIMG_CORES]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cores: Option<u16>,
    /// Memory in MiB that build steps share [default: three quarters] [env: LABIMG_MEMORY]
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    pub memory: Option<u32>,
    /// Let bundles carry this build of labimg, a static program for linux/amd64 or linux/arm64, in place of the running one or
    /// beside it [env: LABIMG_CARRY]
    #[arg(long, global = true, value_name = "FILE")]
    pub carry: Vec<PathBuf>,
    /// Use no network; what is missing is an error [env: LABIMG_OFFLINE]
    #[arg(long, global = true)]
    pub offline: bool,
    /// Write JSON for machines to standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours on a terminal
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Pin every input of a profile by hash
    Lock(LockArgs),
    /// Fill the store with everything a lock names
    Fetch(ProfileArgs),
    /// Make the bundle: lock if there is no lock, fetch what is missing, write one file
    Build(BuildArgs),
    /// Look whether a lab carries every image its manifests name; exit code 3 when one is missing
    Check(CheckArgs),
    /// Show what a bundle is and holds
    Inspect(InspectArgs),
    /// List a bundle's images, charts and files
    Ls(BundleArgs),
    /// Write one thing out of a bundle to standard output
    Cat(CatArgs),
    /// Show which image, chart and file owns how many bytes
    Size(BundleArgs),
    /// Compare two bundles, boxes or disk images, down to the path; exit code 3 when they differ
    Diff(DiffArgs),
    /// Write images out of a bundle as an archive for other tools
    Export(ExportArgs),
    /// Draw what a lab is made of
    Graph(GraphArgs),
    /// Say what changed since a step of a lab was last built
    Why(WhyArgs),
    /// Run a program of a lab's toolchain, in the sandbox build steps run in
    Toolchain(ToolchainArgs),
    /// Serve bundles as a registry: to a room, to a lab
    Serve(ServeArgs),
    /// Look after the store
    Store(StoreArgs),
    /// Bring a lab up, out of a bundle and nothing else
    Up(UpArgs),
    /// Show what a lab promises: run its checks against what is up; exit code 3 when one fails
    Verify(VerifyArgs),
    /// Show the labs of this machine, live
    Status(LabArgs),
    /// Take a lab away: clusters, containers, networks, volumes, secrets
    Down(DownArgs),
    /// Vagrant boxes
    #[command(subcommand)]
    Box(BoxVerb),
    /// Run kubectl against a lab's cluster
    Kubectl(KubectlArgs),
    /// Print what a shell needs to work with a lab: eval "$(labimg env)"
    Env(EnvArgs),
    /// Lead ports of this machine to a lab's services, kept alive through restarts
    PortForward(PortForwardArgs),
    /// Show the logs of what a deploy brought, or of a workload
    Logs(LogsArgs),
    /// Look whether this machine is fit
    Doctor(DoctorArgs),
    /// Print the JSON Schema of profiles, or of image.toml files
    Schema(SchemaArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// A profile.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,
}

/// `labimg check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A profile (`.toml`), whose inputs are locked and fetched; or a bundle
    #[arg(value_name = "PROFILE|BUNDLE")]
    pub lab: PathBuf,
}

/// A bundle.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
}

/// `labimg build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The profiles
    #[arg(value_name = "PROFILE", required = true)]
    pub profiles: Vec<PathBuf>,
    /// Where the bundles go
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Build again and compare, every step and the bundle; exit code 3 when something differs
    #[arg(long)]
    pub check: bool,
    /// What to do with the machine of a box whose step failed, before it is switched off
    #[arg(long, value_name = "WHAT")]
    pub on_failure: Option<MachineOnFailure>,
}

/// `labimg build --on-failure`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MachineOnFailure {
    /// Open a shell in it, as it is
    Shell,
}

/// `labimg why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,
    /// The step, or a part of its name; without it: all steps
    #[arg(value_name = "STEP")]
    pub step: Option<String>,
}

/// `labimg toolchain`
#[derive(Debug, Args)]
pub struct ToolchainArgs {
    /// What to do with it
    #[command(subcommand)]
    pub verb: ToolchainVerb,
}

/// What to do with a toolchain.
#[derive(Debug, Subcommand)]
pub enum ToolchainVerb {
    /// Run a program in it
    Exec {
        /// The profile
        #[arg(value_name = "PROFILE")]
        profile: PathBuf,
        /// Show this file or directory as /in/NAME, to be read only (repeatable)
        #[arg(long = "in", value_name = "NAME=PATH", value_parser = parse_named)]
        inputs: Vec<(String, PathBuf)>,
        /// Make this directory /out inside, to be written
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Look into what a failed step left: its scratch directory, as the step saw it
        #[arg(long, value_name = "DIR", conflicts_with_all = ["inputs", "out"])]
        scratch: Option<PathBuf>,
        /// The program and its arguments
        #[arg(value_name = "CMD", required = true, last = true)]
        command: Vec<OsString>,
    },
}

/// `labimg inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Hash every member and name the damaged ones
    #[arg(long)]
    pub verify: bool,
}

/// `labimg cat`
#[derive(Debug, Args)]
pub struct CatArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// `lock`, `profile`, a chart, a file, an image (its manifest), a digest, or a member's path
    #[arg(value_name = "WHAT")]
    pub what: String,
}

/// `labimg diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// One bundle, box, disk image or archive
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The other
    #[arg(value_name = "B")]
    pub b: PathBuf,
}

/// `labimg export`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub struct ExportArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// An OCI archive: for `ctr images import`, skopeo, podman
    #[arg(long, group = "form")]
    pub oci: bool,
    /// A Docker archive: for `docker load`
    #[arg(long, group = "form")]
    pub docker: bool,
    /// The platform [default: the only one, or this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Only this image (repeatable)
    #[arg(long, value_name = "REF")]
    pub image: Vec<String>,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `labimg graph`
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,
    /// In which form
    #[arg(long, value_enum, default_value = "dot")]
    pub format: GraphFormat,
}

/// Forms of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// A drawing.
    Svg,
}

/// `labimg serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The bundles
    #[arg(value_name = "BUNDLE", required_unless_present = "store_lab")]
    pub bundles: Vec<PathBuf>,
    /// Serve this lab of the store, too (repeatable)
    #[arg(long, value_name = "NAME")]
    pub store_lab: Vec<String>,
    /// Where to listen: an address and a port, or a port of 127.0.0.1; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Run it in a container of this engine, on the network of kind's nodes, started again after a reboot; the port of
    /// --listen leads there. `labimg down` takes it away
    #[arg(long, value_name = "ENGINE", value_parser = ["docker"], conflicts_with_all = ["registry", "store_lab"])]
    pub engine: Option<String>,
    /// Be the writable registry of this host (`localhost:5001`) instead of a mirror
    #[arg(long, value_name = "HOST[:PORT]", requires = "pushes", value_parser = parse_host)]
    pub registry: Option<String>,
    /// Where pushes to that registry go
    #[arg(long, value_name = "DIR", requires = "registry")]
    pub pushes: Option<PathBuf>,
    /// How many bytes of pushes there may be [default: what the disk holds]
    #[arg(long, value_name = "BYTES", requires = "pushes")]
    pub push_limit: Option<u64>,
}

/// `labimg store`
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// What to do with it
    #[command(subcommand)]
    pub verb: StoreVerb,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Hash every blob and name the bad ones; exit code 4 when there are some
    Check {
        /// Throw bad blobs away and fetch them anew
        #[arg(long)]
        repair: bool,
    },
    /// Remove what no lab needs
    Gc {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// Keep what is younger: `24h`, `30m`, `7d`, `0s`
        #[arg(long, value_name = "AGE", default_value = "24h", value_parser = parse_age)]
        grace: std::time::Duration,
    },
    /// Forget a lab; `store gc` then frees what only it needed
    Rm {
        /// The lab
        #[arg(value_name = "LAB")]
        lab: String,
    },
    /// Show which lab uses how much
    Du,
    /// Print where the store is, or a blob in it, or a lab
    Path {
        /// A digest or a lab
        #[arg(value_name = "WHAT")]
        what: Option<String>,
    },
}

/// `labimg schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of `image.toml` files
    #[arg(long)]
    pub image: bool,
}

/// `labimg completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// An address to listen at; a port alone is one of this machine's loopback: who wants the room to reach it says so.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    named.as_deref().unwrap_or(text).parse().map_err(|_| {
        "want ADDR:PORT, as 127.0.0.1:5000 (this machine only) or 0.0.0.0:5000 (whoever reaches this machine)"
            .to_owned()
    })
}

fn parse_host(text: &str) -> Result<String, String> {
    match crate::model::image::is_host(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not HOST or HOST:PORT")),
    }
}

fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err(format!("`{text}` is not NAME=PATH")),
    }
}

fn parse_age(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("`{text}` is not an age: want a number and s, m, h or d")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not an age"))?;
    Ok(std::time::Duration::from_secs(number.saturating_mul(factor)))
}

/// Parses the command line.
///
/// # Errors
/// Clap's own: a wrong line, or a request for help or the version.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(&args).map_err(|e| args_tips::told(e, &args))?;
    if let Some(("lock", lock)) = matches.subcommand() {
        args_lock::check(lock)
            .map_err(|e| e.format(command.find_subcommand_mut("lock").unwrap_or(&mut Command::new("labimg"))))?;
    }
    Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}
