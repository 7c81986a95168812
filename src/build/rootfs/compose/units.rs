//! systemd units enabled, disabled and masked: the links that `systemctl enable` would make from a unit's `[Install]` section
//! (systemd.unit(5), "[INSTALL] SECTION OPTIONS").

use std::collections::BTreeSet;

use super::base::{ONLINE, STARTED};
use super::foreign;
use super::over::Over;
use super::wishes::Wishes;
use crate::base::shown;
use crate::build::BuildError;
use crate::build::debian::inside;
use crate::build::tree::Kind;
use crate::model::guest_path::GuestPath;

/// Where an administrator's units and links are.
const ETC: &str = "etc/systemd/system";
/// Where units are looked for, the first wins.
const PLACES: [&str; 3] = [ETC, "usr/local/lib/systemd/system", "usr/lib/systemd/system"];
/// Endings of units.
const KINDS: [&str; 7] = [".service", ".socket", ".target", ".timer", ".mount", ".path", ".automount"];

/// What every box starts and masks, then what the author says: enabled, disabled, masked.
///
/// # Errors
/// Units that are not there, that say nothing of how they are enabled, and names that are none.
pub(super) fn put(over: &mut Over<'_>, wishes: &Wishes) -> Result<(), BuildError> {
    let mut usual: Vec<&str> = STARTED.to_vec();
    usual.push(foreign::ssh_unit(over));
    if foreign::networkd(over, wishes) {
        usual.push("systemd-networkd.service");
    }
    usual.extend(super::images::unit(over));
    usual.extend(super::k3s::units(wishes));
    for unit in usual {
        if find(over, unit).is_some() {
            enable(over, unit, &mut BTreeSet::new())?;
        }
    }
    for unit in ONLINE {
        // An author who wants one says so.
        if find(over, unit).is_some() && !wishes.enable.iter().any(|u| u == unit) {
            mask(over, unit)?;
        }
    }
    for unit in &wishes.enable {
        check(unit)?;
        enable(over, unit, &mut BTreeSet::new())?;
    }
    for unit in &wishes.disable {
        check(unit)?;
        disable(over, unit)?;
    }
    for unit in &wishes.mask {
        check(unit)?;
        mask(over, unit)?;
    }
    Ok(())
}

fn check(unit: &str) -> Result<(), BuildError> {
    if KINDS.iter().any(|k| unit.ends_with(k)) && !unit.contains('/') {
        return Ok(());
    }
    Err(BuildError::user(
        format!("`{unit}` can not be a unit's name"),
        format!("did you mean `{}.service`?", unit.trim_matches('/')),
    ))
}

/// The file of a unit: its own, or its template's.
fn find(over: &Over<'_>, unit: &str) -> Option<String> {
    let template =
        unit.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@{}", rest.get(rest.rfind('.')?..)?)));
    let names = [Some(unit.to_owned()), template];
    let mut paths = names.iter().flatten().flat_map(|name| PLACES.iter().map(move |dir| format!("{dir}/{name}")));
    paths.find(|path| over.has(path))
}

fn enable(over: &mut Over<'_>, unit: &str, seen: &mut BTreeSet<String>) -> Result<(), BuildError> {
    if !seen.insert(unit.to_owned()) {
        return Ok(());
    }
    let Some(path) = find(over, unit) else { return Err(unknown(over, unit)) };
    let install = Install::read(&over.text(&path).unwrap_or_default(), unit);
    if install.is_empty() {
        return Err(BuildError::user(
            format!("`{unit}` has no [Install] section: nothing says when it is to start"),
            "some other unit or socket starts it; enable that one",
        ));
    }
    // A mask would win.
    let own = format!("{ETC}/{unit}");
    let masked = over.place(&own)?;
    if over.tree.get(&masked).is_some_and(|e| matches!(&e.kind, Kind::Symlink(to) if to == "/dev/null")) {
        over.tree.entries.remove(&masked);
    }
    let target = format!("/{path}");
    for (dirs, suffix) in [(&install.wanted, "wants"), (&install.required, "requires"), (&install.upheld, "upholds")] {
        for by in dirs {
            over.link(&format!("{ETC}/{by}.{suffix}/{unit}"), &target)?;
        }
    }
    for alias in install.alias.iter().filter(|a| *a != unit) {
        over.link(&format!("{ETC}/{alias}"), &target)?;
    }
    for also in &install.also {
        // What comes along may be of a package that is not there, or say nothing itself.
        let says = |path: String| over.text(&path).map(|text| !Install::read(&text, also).is_empty());
        if find(over, also).and_then(says).unwrap_or(false) {
            enable(over, also, seen)?;
        }
    }
    Ok(())
}

/// Takes every link to a unit away: those of its name in `.wants` and `.requires`, and aliases.
fn disable(over: &mut Over<'_>, unit: &str) -> Result<(), BuildError> {
    if find(over, unit).is_none() {
        return Err(unknown(over, unit));
    }
    let etc = GuestPath::parse(ETC)?;
    over.tree.entries.retain(|path, entry| {
        let Kind::Symlink(target) = &entry.kind else { return true };
        let leads = target.rsplit('/').next() == Some(unit) || path.name() == unit;
        !(path.is_within(&etc) && leads && target != "/dev/null")
    });
    Ok(())
}

fn mask(over: &mut Over<'_>, unit: &str) -> Result<(), BuildError> {
    over.link(&format!("{ETC}/{unit}"), "/dev/null")
}

fn unknown(over: &Over<'_>, unit: &str) -> BuildError {
    let mut known: Vec<String> = PLACES.iter().flat_map(|dir| inside::list(over.tree, dir)).collect();
    known.retain(|name| KINDS.iter().any(|k| name.ends_with(k)));
    let near = shown::nearest(unit, known.iter().map(String::as_str));
    let hint = match near.filter(|n| shown::alike(unit, n) > 0.8) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name the package that brings it, or bring it as a file in /etc/systemd/system".to_owned(),
    };
    BuildError::user(format!("the box has no unit `{unit}`"), hint)
}

/// An `[Install]` section.
#[derive(Default)]
struct Install {
    wanted: Vec<String>,
    required: Vec<String>,
    upheld: Vec<String>,
    alias: Vec<String>,
    also: Vec<String>,
}

impl Install {
    /// Reads a unit file; `unit` is what its specifiers `%i` and `%n` stand for.
    fn read(text: &str, unit: &str) -> Self {
        let mut install = Self::default();
        let instance = unit.split_once('@').and_then(|(_, rest)| rest.rsplit_once('.')).map_or("", |(name, _)| name);
        let mut inside = false;
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[Install]";
            }
            let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with(['#', ';'])) else {
                continue;
            };
            let list = match key.trim() {
                "WantedBy" => &mut install.wanted,
                "RequiredBy" => &mut install.required,
                "UpheldBy" => &mut install.upheld,
                "Alias" => &mut install.alias,
                "Also" => &mut install.also,
                _ => continue,
            };
            if value.trim().is_empty() {
                list.clear();
            }
            let resolved = |name: &str| name.replace("%i", instance).replace("%n", unit);
            list.extend(value.split_whitespace().map(resolved).filter(|n| !n.contains('/')));
        }
        install
    }

    fn is_empty(&self) -> bool {
        [&self.wanted, &self.required, &self.upheld, &self.alias, &self.also].iter().all(|l| l.is_empty())
    }
}
