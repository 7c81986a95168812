//! Looking at the machine and the engine.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use bollard::models::SystemInfoCgroupVersionEnum;

use super::judge::{self, EngineFacts};
use crate::base::calendar;
use crate::lab::docker::container::Found;
use crate::lab::docker::{Docker, LAB};
use crate::lab::error::LabError;
use crate::lab::finding::Finding;
use crate::lab::mirror;
use crate::lab::session::Session;
use crate::lab::state::State;
use crate::model::profile::Protocol;

/// Room labimg's own state folder needs, in bytes: host programs, mostly.
const STATE: u64 = 512 << 20;

/// What the engine says of itself, and what this machine has, where the engine is on it.
pub(super) async fn engine(docker: &Docker) -> Result<EngineFacts, LabError> {
    let info = docker.info().await?;
    let total = info.mem_total.and_then(|m| u64::try_from(m).ok()).unwrap_or(0);
    let memory = if docker.is_local() { available().map_or(total, |m| m.min(total)) } else { total };
    Ok(EngineFacts {
        version: info.server_version.unwrap_or_default(),
        cgroup: match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
            Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
            _ => None,
        },
        memory,
        cpus: info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        root: info.docker_root_dir.unwrap_or_default().into(),
        time: info.system_time.as_deref().and_then(seconds),
        rootless: info.security_options.unwrap_or_default().iter().any(|o| o.contains("rootless")),
    })
}

/// Memory that programs can get without swapping, in bytes (proc(5), `/proc/meminfo`).
fn available() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Seconds since 1970 of an RFC 3339 time, its zone's offset minded.
fn seconds(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let days = calendar::days(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let time = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.get(..1) {
        Some(sign @ ("+" | "-")) => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => 0,
    };
    u64::try_from(days * 86_400 + time - offset).ok()
}

/// Whether the state folder can be written.
pub(super) fn state(state: &State) -> Finding {
    let root = state.dir().parent().unwrap_or(state.dir());
    // The folder itself may not be there yet: its nearest ancestor must take it.
    let there = root.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    let seen = root.display().to_string();
    match rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Finding::ok("state folder", seen),
        Err(error) => Finding::bad(
            "state folder",
            format!("`{}` can not be written: {error}", there.display()),
            "set another one: `state = DIR` in labimg's settings, or `XDG_STATE_HOME`",
        ),
    }
}

/// Room in the state folder.
pub(super) fn own_space(session: &Session) -> Option<Finding> {
    let there = session.state.dir().ancestors().find(|p| p.is_dir())?;
    let bytes = free(there)?;
    let seen = format!("{} MiB free", bytes >> 20);
    Some(match bytes < STATE {
        true => {
            Finding::warn("room in the state folder", seen, "labimg puts host programs there: free half a gigabyte")
        }
        false => Finding::ok("room in the state folder", seen),
    })
}

/// Bytes free for everybody where `path` is; `None` where that can not be seen.
pub(super) fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// What containers' networks and file systems need of the kernel, and limits that several nodes hit.
pub(super) fn kernel(nodes: u64) -> Vec<Finding> {
    let mut found = Vec::new();
    if !Path::new("/proc/sys").is_dir() {
        return found;
    }
    let overlay = fs_err::read_to_string("/proc/filesystems").is_ok_and(|t| t.contains("overlay"));
    if !overlay {
        found.push(Finding::warn("kernel module overlay", "not loaded", "`sudo modprobe overlay`"));
    }
    if !Path::new("/proc/sys/net/bridge").is_dir() {
        let seen = "not loaded: services may not be reached from pods on the same node";
        found.push(Finding::warn("kernel module br_netfilter", seen, "`sudo modprobe br_netfilter`"));
    }
    for (name, per_node) in [("max_user_watches", 16_384), ("max_user_instances", 64)] {
        let text = fs_err::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
        found.extend(text.trim().parse().ok().map(|limit| judge::inotify(name, limit, per_node, nodes)));
    }
    found
}

/// Ports of the lab, and containers of the names it needs.
pub(super) async fn beside(session: &Session, docker: &Docker) -> Vec<Finding> {
    let mut found = Vec::new();
    let registries: Vec<_> = session.profile.cluster.iter().filter_map(|c| c.registry.as_ref()).collect();
    let mut names = vec![(mirror::name(session.name()), "the mirror")];
    names.extend(registries.iter().map(|r| (r.name.to_string(), "the registry")));
    names.sort();
    names.dedup();
    let mut own = Vec::new();
    for (name, what) in names {
        match docker.container(&name).await {
            Ok(Some(container)) if container.label(LAB) == session.name() => own.push(container),
            Ok(Some(container)) => found.push(leftover(&container, what)),
            Ok(None) => {}
            Err(error) => found.push(Finding::bad(what, error.to_string(), "`docker ps -a` shows what there is")),
        }
    }
    if docker.is_local() {
        for registry in registries {
            let ours = own.iter().any(|c| c.ports.iter().any(|(_, host, _)| *host == *registry.port));
            let taken = taken(*registry.port, Protocol::Tcp);
            found.push(judge::port(*registry.port, "the registry", taken.as_deref(), ours));
        }
    }
    found
}

fn leftover(container: &Found, what: &str) -> Finding {
    let (name, lab) = (&container.name, container.label(LAB));
    let (seen, hint) = match lab {
        "" => (format!("there is a container `{name}` already"), format!("if nobody needs it: `docker rm -f {name}`")),
        lab => (format!("container `{name}` belongs to lab `{lab}`"), format!("`labimg down {lab}`")),
    };
    Finding::bad(what, seen, hint)
}

/// Why a port of 127.0.0.1 can not be had; `None` where it can. Privileged ports are the engine's to open, so rights are no
/// reason.
pub(super) fn taken(port: u16, protocol: Protocol) -> Option<String> {
    let address = (Ipv4Addr::LOCALHOST, port);
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    match bound {
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => Some("another program has it".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_engines() {
        assert_eq!(seconds("1970-01-02T00:00:00Z"), Some(86_400));
        assert_eq!(seconds("2026-11-21T10:41:01.123456789Z"), Some(1_795_257_661));
        assert_eq!(seconds("2026-11-21T12:41:01.5+02:00"), Some(1_795_257_661));
        assert_eq!(seconds("now"), None);
    }

    #[test]
    fn a_port_that_somebody_has_is_taken() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(taken(port, Protocol::Tcp).is_some());
        drop(held);
        assert_eq!(taken(port, Protocol::Tcp), None);
    }
}
