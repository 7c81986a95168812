//! `labimg doctor`: is this machine fit for what labimg does?

use std::path::{Path, PathBuf};

use super::Ctx;
pub use crate::lab::finding::{Finding, Verdict};
use crate::store::{Access, Store};

/// What the caller knows of the machine: `ops` reads no environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Directories programs are looked up in.
    pub path: Vec<PathBuf>,
    /// Settings files that were read.
    pub settings: Vec<PathBuf>,
    /// What the settings say of engines, a line each.
    pub engines: Vec<String>,
    /// Credential files that are there.
    pub credentials: Vec<PathBuf>,
    /// Certificate authority bundle of the system, where one was found.
    pub system_ca: Option<PathBuf>,
}

/// Programs that later verbs use, and what for.
const PROGRAMS: [(&str, &str); 5] = [
    ("docker", "kind labs, and labs of compose files"),
    ("kubectl", "talking to clusters by hand"),
    ("vagrant", "labs in VMs"),
    ("ssh", "logging in by hand"),
    ("skopeo", "looking into bundles with another tool"),
];

/// Looks at everything.
pub fn doctor(ctx: &Ctx, around: &Surroundings) -> Vec<Finding> {
    let mut found = vec![store(ctx)];
    found.extend(space(&ctx.store));
    found.push(authorities(around));
    let list = |paths: &[PathBuf]| match paths {
        [] => "none".to_owned(),
        _ => paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    found.push(fine("settings files", list(&around.settings)));
    found.extend(around.engines.iter().map(|line| fine("engine quirks", line.clone())));
    found.push(fine("credential files", list(&around.credentials)));
    for (program, purpose) in PROGRAMS {
        let place = around.path.iter().map(|dir| dir.join(program)).find(|p| p.is_file());
        found.push(match place {
            Some(place) => fine(program, place.display().to_string()),
            None => Finding {
                what: program.to_owned(),
                verdict: Verdict::Warn,
                seen: "not in PATH".to_owned(),
                hint: Some(format!("needed for: {purpose}")),
            },
        });
    }
    found
}

fn fine(what: &str, seen: String) -> Finding {
    Finding { what: what.to_owned(), verdict: Verdict::Ok, seen, hint: None }
}

fn store(ctx: &Ctx) -> Finding {
    let probe = Store::open(&ctx.store, Access::Shared).and_then(|store| store.scratch());
    match probe {
        Ok(_) => fine("store", format!("{} takes blobs", ctx.store.display())),
        Err(e) => Finding {
            what: "store".to_owned(),
            verdict: Verdict::Bad,
            seen: e.to_string(),
            hint: super::OpsError::from(e).hint(),
        },
    }
}

/// Free space beside the store; a lab is a few gigabytes.
fn space(store: &Path) -> Option<Finding> {
    const ENOUGH: u64 = 10 << 30;
    let stat = rustix::fs::statvfs(store).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let seen = format!("{} free", crate::base::size::shown(free));
    Some(match free >= ENOUGH {
        true => fine("disk", seen),
        false => Finding {
            what: "disk".to_owned(),
            verdict: Verdict::Warn,
            seen,
            hint: Some("a lab takes several gigabytes, once in the store and once as a bundle".to_owned()),
        },
    })
}

fn authorities(around: &Surroundings) -> Finding {
    match &around.system_ca {
        Some(path) => fine("certificate authorities", path.display().to_string()),
        None => Finding {
            what: "certificate authorities".to_owned(),
            verdict: Verdict::Warn,
            seen: "no bundle found in the usual places".to_owned(),
            hint: Some("https needs one: install ca-certificates, or give --ca FILE".to_owned()),
        },
    }
}
