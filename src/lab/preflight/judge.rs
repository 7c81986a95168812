//! What was seen, and what it means. No I/O.

use std::path::{Path, PathBuf};

use crate::lab::finding::Finding;
use crate::model::profile::Cluster;
use crate::store::bundle::{BLOBS, Index};

/// A mebibyte.
const MIB: u64 = 1 << 20;
/// What a control-plane node takes with nothing deployed, in bytes (measured: one node 0.6 GB, 3+3 with balancer 2.3 GB).
const PLANE: u64 = 600 * MIB;
/// What a worker takes, in bytes.
const WORKER: u64 = 250 * MIB;
/// A day in seconds.
const DAY: u64 = 86_400;
/// Layers are packed: what they take unpacked, roughly.
const UNPACKED: u64 = 3;

/// What a Docker engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EngineFacts {
    /// Its version: `28.2.2`.
    pub(super) version: String,
    /// Version of control groups.
    pub(super) cgroup: Option<u8>,
    /// Memory that containers can get, in bytes.
    pub(super) memory: u64,
    /// Processors.
    pub(super) cpus: u64,
    /// Its folder.
    pub(super) root: PathBuf,
    /// Its clock, in seconds since 1970.
    pub(super) time: Option<u64>,
    /// Whether it runs without root.
    pub(super) rootless: bool,
}

/// What a lab's clusters take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Nodes.
    pub(super) nodes: u64,
    /// Memory with nothing deployed, in bytes.
    pub(super) memory: u64,
    /// Disk for the node image, in bytes.
    pub(super) image: u64,
    /// Disk when every node pulled everything, in bytes.
    pub(super) all: u64,
}

/// Adds up what the clusters take; `images` are the bytes of the images that kind runs itself, as they are packed.
pub(super) fn needs(index: &Index, clusters: &[&Cluster], images: u64) -> Needs {
    let planes: u64 = clusters.iter().map(|c| u64::from(c.control_planes.as_ref().map_or(1, |n| **n))).sum();
    let workers: u64 = clusters.iter().map(|c| u64::from(c.workers.as_ref().map_or(0, |n| **n))).sum();
    let nodes = planes.saturating_add(workers);
    let blobs: u64 = index.members.iter().filter(|m| m.path.starts_with(BLOBS)).map(|m| m.size).sum();
    let memory = planes.saturating_mul(PLANE).saturating_add(workers.saturating_mul(WORKER));
    let image = images.saturating_mul(UNPACKED);
    let pulled = blobs.saturating_sub(images).saturating_mul(UNPACKED).saturating_mul(nodes);
    Needs { nodes, memory, image, all: image.saturating_add(pulled) }
}

/// The engine and its version: kind needs API 1.41.
pub(super) fn docker(facts: &EngineFacts, host: &str) -> Finding {
    let seen = format!("{} at `{host}`", facts.version);
    let mut numbers = facts.version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version < (20, 10) && version.0 > 0 {
        true => Finding::bad(
            "docker",
            seen,
            "kind needs Docker 20.10 or newer: upgrade it (docs.docker.com/engine/install)",
        ),
        false => Finding::ok("docker", seen),
    }
}

/// An engine without root needs more of the machine.
pub(super) fn rootless(facts: &EngineFacts) -> Option<Finding> {
    let hint = "kind.sigs.k8s.io/docs/user/rootless lists what the machine must allow";
    (facts.rootless && facts.cgroup != Some(2))
        .then(|| Finding::bad("docker without root", "needs control groups version 2", hint))
}

/// Control groups against Kubernetes: from 1.35 on the kubelet refuses version 1 unless told otherwise (`failCgroupV1`).
pub(super) fn cgroup(cgroup: Option<u8>, kubernetes: Option<u32>, allowed: bool) -> Finding {
    let what = "control groups";
    let (Some(version), minor) = (cgroup, kubernetes.unwrap_or(0)) else {
        return Finding::warn(what, "the engine does not say which version", "`docker info | grep -i cgroup`");
    };
    let seen = format!("version {version}, Kubernetes 1.{minor}");
    match (version, minor >= 35, allowed) {
        (1, true, false) => Finding::bad(
            what,
            format!("{seen}, which refuses version 1"),
            "boot with version 2: add `systemd.unified_cgroup_hierarchy=1` to the kernel's command line \
             (`/etc/default/grub`, `sudo update-grub`, reboot); or patch `KubeletConfiguration` with `failCgroupV1: false`",
        ),
        _ => Finding::ok(what, seen),
    }
}

/// Memory, against what the nodes take bare and with work on them.
pub(super) fn memory(available: u64, needs: &Needs) -> Finding {
    let seen =
        format!("{} MiB available; {} nodes take about {} MiB bare", available / MIB, needs.nodes, needs.memory / MIB);
    let hint =
        "close programs, give the machine (or Docker Desktop: Settings, Resources) more memory, or use fewer nodes";
    if available < needs.memory {
        Finding::bad("memory", seen, hint)
    } else if available < needs.memory.saturating_mul(2) {
        Finding::warn("memory", seen, hint)
    } else {
        Finding::ok("memory", seen)
    }
}

/// Processors.
pub(super) fn cpus(cpus: u64, needs: &Needs) -> Finding {
    let seen = format!("{cpus} for {} nodes", needs.nodes);
    match cpus < 2 {
        true => Finding::warn("processors", seen, "kubeadm wants 2 for a control plane: everything will be slow"),
        false => Finding::ok("processors", seen),
    }
}

/// Room where the engine keeps images and containers.
pub(super) fn disk(root: &Path, free: u64, needs: &Needs) -> Finding {
    let seen = format!(
        "{} MiB free in `{}`; {} to {} MiB are needed",
        free / MIB,
        root.display(),
        needs.image / MIB,
        needs.all / MIB
    );
    let hint = "`docker system df` shows what takes room there; `docker system prune` frees it";
    if free < needs.image {
        Finding::bad("disk", seen, hint)
    } else if free < needs.all {
        Finding::warn("disk", seen, hint)
    } else {
        Finding::ok("disk", seen)
    }
}

/// The clock against the bundle's time: certificates made now must not lie in the past of what was made before.
pub(super) fn clock(now: u64, epoch: u64) -> Finding {
    let hint = "set it: `sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS'` (UTC), or `sudo timedatectl set-ntp true`";
    if now < 1_704_067_200 {
        return Finding::bad("clock", "it says a year before 2024", hint);
    }
    if now.saturating_add(DAY) < epoch {
        let days = (epoch - now) / DAY;
        return Finding::bad("clock", format!("it is {days} days before the time of the bundle"), hint);
    }
    if now > epoch.saturating_add(10 * 365 * DAY) {
        return Finding::warn("clock", "it is more than ten years after the time of the bundle", hint);
    }
    Finding::ok("clock", "plausible")
}

/// The engine's clock against ours: an engine in a virtual machine that slept is behind.
pub(super) fn engine_clock(now: u64, engine: Option<u64>) -> Option<Finding> {
    let apart = now.abs_diff(engine?);
    let seen = format!("the engine's clock is {apart} s from this machine's");
    let hint = "restart Docker (Docker Desktop's virtual machine falls behind when the machine sleeps)";
    Some(match apart {
        0..=60 => Finding::ok("engine's clock", "the same"),
        61..=DAY => Finding::warn("engine's clock", seen, hint),
        _ => Finding::bad("engine's clock", seen, hint),
    })
}

/// A limit of inotify: every node's kubelet and containerd watch files.
pub(super) fn inotify(name: &str, limit: u64, per_node: u64, nodes: u64) -> Finding {
    let wanted = per_node.saturating_mul(nodes.max(1));
    let seen = format!("{limit} for {nodes} nodes");
    match limit < wanted {
        true => {
            let enough = wanted.next_power_of_two();
            Finding::warn(format!("fs.inotify.{name}"), seen, format!("`sudo sysctl fs.inotify.{name}={enough}`"))
        }
        false => Finding::ok(format!("fs.inotify.{name}"), seen),
    }
}

/// A port of this machine.
pub(super) fn port(port: u16, what: &str, taken: Option<&str>, ours: bool) -> Finding {
    let name = format!("port {port}");
    match (taken, ours) {
        (None, _) => Finding::ok(name, format!("free, for {what}")),
        (Some(_), true) => Finding::ok(name, format!("this lab's own, for {what}")),
        (Some(why), false) => {
            let hint = format!("`sudo ss -ltnup 'sport = :{port}'` names who has it: stop that, or change the profile");
            Finding::bad(name, format!("{what} needs it: {why}"), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::finding::Verdict::{self, Bad, Ok, Warn};

    fn is(finding: &Finding) -> Verdict {
        assert_eq!(finding.hint.is_some(), finding.verdict != Ok, "{finding:?}");
        finding.verdict
    }

    #[test]
    fn versions_of_docker() {
        let of = |version: &str| {
            is(&docker(&EngineFacts { version: version.into(), ..EngineFacts::default() }, "unix:///x"))
        };
        assert_eq!(of("19.03.15"), Bad);
        assert_eq!(of("20.10.24+dfsg1"), Ok);
        assert_eq!(of("28.2.2"), Ok);
        // Nobody knows what a development build is.
        assert_eq!(of("dev"), Ok);
    }

    #[test]
    fn control_groups_against_kubernetes() {
        assert_eq!(is(&cgroup(Some(1), Some(34), false)), Ok);
        assert_eq!(is(&cgroup(Some(1), Some(35), false)), Bad);
        assert_eq!(is(&cgroup(Some(1), Some(35), true)), Ok);
        assert_eq!(is(&cgroup(Some(2), Some(35), false)), Ok);
        assert_eq!(is(&cgroup(None, Some(35), false)), Warn);
    }

    #[test]
    fn memory_and_disk_against_needs() {
        let needs = Needs { nodes: 6, memory: 2000 * MIB, image: 100 * MIB, all: 500 * MIB };
        assert_eq!([1999, 2000, 4000].map(|m| is(&memory(m * MIB, &needs))), [Bad, Warn, Ok]);
        assert_eq!([99, 100, 500].map(|m| is(&disk(Path::new("/d"), m * MIB, &needs))), [Bad, Warn, Ok]);
        assert_eq!([1, 2].map(|n| is(&cpus(n, &needs))), [Warn, Ok]);
    }

    #[test]
    fn clocks() {
        let epoch = 1_760_000_000;
        assert_eq!(is(&clock(0, epoch)), Bad);
        assert_eq!(is(&clock(epoch - 2 * DAY, epoch)), Bad);
        assert_eq!(is(&clock(epoch - DAY / 2, epoch)), Ok);
        assert_eq!(is(&clock(epoch + 400 * DAY, epoch)), Ok);
        assert_eq!(is(&clock(epoch + 4000 * DAY, epoch)), Warn);
        assert_eq!(engine_clock(epoch, None), None);
        assert_eq!([0, 61, DAY + 1].map(|s| is(&engine_clock(epoch, Some(epoch + s)).unwrap())), [Ok, Warn, Bad]);
    }

    #[test]
    fn limits_and_ports() {
        assert_eq!([1535, 1536].map(|n| is(&inotify("max_user_instances", n, 256, 6))), [Warn, Ok]);
        assert!(inotify("max_user_instances", 128, 256, 6).hint.unwrap().contains("=2048"));
        assert_eq!(is(&port(80, "x", None, false)), Ok);
        assert_eq!(is(&port(80, "x", Some("address in use"), true)), Ok);
        assert_eq!(is(&port(80, "x", Some("address in use"), false)), Bad);
    }
}
