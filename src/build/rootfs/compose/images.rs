//! Container images a machine has without a network: archives where k3s imports them from, or, without k3s, in a folder that
//! a unit loads at first boot.

use super::files::Sources;
use super::k3s;
use super::over::Over;
use super::wishes::Wishes;
use crate::build::BuildError;
use crate::build::tree::Entry;

/// Where archives are when there is no k3s.
const DIR: &str = "var/lib/labimg/images";
/// The unit that loads them.
const UNIT: &str = "labimg-images.service";
/// Endings an archive may have.
const ENDINGS: [&str; 3] = [".tar", ".tar.zst", ".tar.gz"];
/// Engines, by the program that shows they are there, the unit that must run, and the command that reads an archive from its
/// input. Docker keeps its images apart from those of the containerd below it, so it comes first.
const ENGINES: [(&str, &str, &str); 2] = [
    ("usr/bin/dockerd", "docker.service", "docker load"),
    ("usr/bin/containerd", "containerd.service", "ctr -n k8s.io images import -"),
];

/// Puts the archives, and what loads them.
///
/// # Errors
/// A box with nothing that could load them; names that are none.
pub(super) fn put(over: &mut Over<'_>, wishes: &Wishes, sources: &Sources<'_>) -> Result<(), BuildError> {
    if wishes.images.is_empty() {
        return Ok(());
    }
    let dir = if wishes.k3s.is_some() { k3s::IMAGES } else { DIR };
    for (number, image) in wishes.images.iter().enumerate() {
        check(&image.name)?;
        let content = sources.content(&image.contents, &image.label())?;
        // k3s has 00 for its own.
        let path = format!("{dir}/{:02}-{}", number + 10, image.name);
        over.put(&path, Entry::file(over.origin(), 0o644, content))?;
    }
    if wishes.k3s.is_some() {
        return Ok(());
    }
    let Some((_, service, load)) = ENGINES.iter().find(|(program, ..)| over.has(program)) else {
        return Err(BuildError::user(
            "the box shall have container images, and nothing that runs containers",
            "add containerd or docker.io to its packages, or k3s to the box",
        ));
    };
    over.file(&format!("etc/systemd/system/{UNIT}"), 0o644, service_text(service, load))
}

/// The unit, where the box has it.
pub(super) fn unit(over: &Over<'_>) -> Option<&'static str> {
    over.has(&format!("etc/systemd/system/{UNIT}")).then_some(UNIT)
}

fn check(name: &str) -> Result<(), BuildError> {
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !name.starts_with('.');
    match good && ENDINGS.iter().any(|e| name.ends_with(e)) {
        true => Ok(()),
        false => Err(BuildError::user(
            format!("`{name}` can not be the file name of an image's archive"),
            format!("letters, digits, `.`, `_` and `-`, and at its end {}", ENDINGS.join(" or ")),
        )),
    }
}

/// One archive after the other; what was loaded once stays loaded, so the mark keeps the next boot quick.
fn service_text(service: &str, load: &str) -> String {
    format!(
        "[Unit]
Description=Container images of this box
After={service}
Requires={service}
ConditionPathExists=!/{DIR}/.loaded

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=/bin/sh -euc 'for f in /{DIR}/*.tar*; do case \"$$f\" in *.zst) zstd -dc \"$$f\" ;; *.gz) gzip -dc \"$$f\" ;; *) cat \"$$f\" ;; esac | {load}; done; touch /{DIR}/.loaded'

[Install]
WantedBy=multi-user.target
"
    )
}
