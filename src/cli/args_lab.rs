//! What people type at labs. Doc comments here are the help texts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// `labimg up`
#[derive(Debug, Args)]
pub struct UpArgs {
    /// The bundle; may be left out to go on with the one lab that is up, or half up
    #[arg(value_name = "BUNDLE")]
    pub bundle: Option<PathBuf>,
    /// Run this deploy alone, on a lab that is up
    #[arg(long, value_name = "DEPLOY", conflicts_with = "until")]
    pub only: Option<String>,
    /// Go as far as this deploy, and what it needs
    #[arg(long, value_name = "DEPLOY")]
    pub until: Option<String>,
}

/// A lab: its name, or its bundle.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// The lab's name, or its bundle; may be left out where one lab is up
    #[arg(value_name = "LAB")]
    pub lab: Option<String>,
}

/// `labimg down`
#[derive(Debug, Args)]
pub struct DownArgs {
    /// The lab's name, or its bundle; may be left out where one lab is up
    #[arg(value_name = "LAB")]
    pub lab: Option<String>,
    /// Take along the images the lab loaded into the engine; otherwise they stay for the next `up`
    #[arg(long)]
    pub images: bool,
}

/// `labimg verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The lab's name, or its bundle; may be left out where one lab is up
    #[arg(value_name = "LAB")]
    pub lab: Option<String>,
    /// Only the checks of these names (or whose names hold this)
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<String>,
    /// The folder of the lab's Vagrantfile, for checks on its machines (the current one, where it has one)
    #[arg(long, value_name = "DIR")]
    pub vagrant: Option<PathBuf>,
    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// `labimg doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look whether this machine is fit for the lab in this bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: Option<PathBuf>,
}

/// Which lab, which cluster.
#[derive(Debug, Args)]
pub struct Where {
    /// The lab's name, or its bundle; may be left out where one lab is up
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,
    /// The cluster, where the lab has several
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<String>,
}

/// `labimg kubectl`
#[derive(Debug, Args)]
pub struct KubectlArgs {
    /// Lab and cluster; before what kubectl is to read
    #[command(flatten)]
    pub at: Where,
    /// What kubectl gets
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// `labimg env`
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Lab and cluster
    #[command(flatten)]
    pub at: Where,
}

/// `labimg port-forward`
#[derive(Debug, Args)]
pub struct PortForwardArgs {
    /// Lab and cluster
    #[command(flatten)]
    pub at: Where,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// `service/NAME`, `deployment/NAME` or `pod/NAME`
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// `PORT`, or `LOCAL:PORT`; LOCAL 0 takes any that is free
    #[arg(value_name = "[LOCAL:]PORT", required = true)]
    pub ports: Vec<String>,
}

/// `labimg logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Lab and cluster
    #[command(flatten)]
    pub at: Where,
    /// Name of a deploy, or `deployment/NAME`, `statefulset/NAME`, `daemonset/NAME`, `job/NAME`, `pod/NAME`
    #[arg(value_name = "WHAT")]
    pub what: String,
    /// Namespace of a workload; a deploy has its own
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only this container
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// Lines of each container to begin with
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: i64,
}

/// `labimg box`
#[derive(Debug, clap::Subcommand)]
pub enum BoxVerb {
    /// Put a lab's boxes into Vagrant's home, without the copies that `vagrant box add` makes
    Import(ImportArgs),
}

/// `labimg box import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The lab's bundle, or the folder of its Vagrantfile; of a bundle, that folder is made
    #[arg(value_name = "BUNDLE|DIR", default_value = ".")]
    pub lab: PathBuf,
    /// The folder to make (the bundle's name without its ending, beside it)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Vagrant provider: libvirt or virtualbox (where not given: of a folder the lab's first, of a bundle all it has)
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
}
