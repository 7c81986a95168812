//! Where an archive is: what a person says, else what apt on this machine uses, else the public snapshot archive.
//!
//! A snapshot is never looked for on a mirror of today: other packages would stand there under the same name.

use std::path::{Path, PathBuf};

use url::Url;

use super::DebianError;
use crate::model::debian::{date, deb822};
use crate::model::url_policy::{check_url, shown};
use crate::source::{ErrorKind, Net, NetOptions, SourceError};

/// The public archive of all states of Debian's archives, by time.
const SNAPSHOTS: &str = "https://snapshot.debian.org/archive";

/// Where to ask for an archive.
#[derive(Debug, Clone)]
pub struct Bases {
    /// The archive.
    pub archive: String,
    /// URLs, in order, each with a slash at its end.
    pub urls: Vec<Url>,
    /// Who says so, for people.
    pub origin: String,
    /// What `--mirror` calls them.
    pub setting: String,
}

/// Where to ask for an archive. `now` (seconds since 1970) names the snapshot that is taken where nobody knows a mirror.
///
/// # Errors
/// URLs labimg can not use; apt's configuration where it can not be read.
pub fn bases(options: &NetOptions, archive: &str, snapshot: Option<&str>, now: u64) -> Result<Bases, SourceError> {
    if let Some(time) = snapshot {
        return snapshot_bases(options, archive, time);
    }
    if let Some(bases) = said(options, archive, archive, "")? {
        return Ok(bases);
    }
    let urls = from_apt(&options.apt_dir, archive)?;
    if urls.is_empty() {
        let last_resort = snapshot_bases(options, archive, &date::snapshot_name(now))?;
        return Ok(Bases { setting: archive.to_owned(), ..last_resort });
    }
    let origin = format!("apt's configuration in {}", options.apt_dir.display());
    Ok(Bases { archive: archive.to_owned(), urls, origin, setting: archive.to_owned() })
}

/// Where to ask for an archive as it was at a time (`20261101T000000Z`).
///
/// # Errors
/// A mirror's URL labimg can not use.
pub fn snapshot_bases(options: &NetOptions, archive: &str, time: &str) -> Result<Bases, SourceError> {
    if let Some(bases) = said(options, archive, &format!("{archive}-snapshot"), time)? {
        return Ok(bases);
    }
    let urls = vec![base(&format!("{SNAPSHOTS}/{archive}"), time)?];
    let (origin, setting) = ("the public snapshot archive".to_owned(), format!("{archive}-snapshot"));
    Ok(Bases { archive: archive.to_owned(), urls, origin, setting })
}

/// What a person says about the mirror called `name`.
fn said(options: &NetOptions, archive: &str, name: &str, below: &str) -> Result<Option<Bases>, SourceError> {
    let Some(said) = options.archive_mirrors.get(name).filter(|said| !said.is_empty()) else { return Ok(None) };
    let urls = said.iter().map(|url| base(url, below)).collect::<Result<_, _>>()?;
    let origin = format!("--mirror {name}=URL, LABIMG_MIRROR or a settings file");
    Ok(Some(Bases { archive: archive.to_owned(), urls, origin, setting: name.to_owned() }))
}

fn base(url: &str, below: &str) -> Result<Url, SourceError> {
    let trimmed = url.trim_end_matches('/');
    let full = if below.is_empty() { format!("{trimmed}/") } else { format!("{trimmed}/{below}/") };
    let what = || "mirror of a Debian archive".to_owned();
    check_url(&full).map_err(|e| SourceError::Setting { what: what(), why: e.to_string() })
}

/// Asks for `path` below each base in turn, until one has it; gives the answer and where it came from.
///
/// # Errors
/// What the first one failed with, when none has it; at once where another one can not help.
pub async fn ask<T, F: Future<Output = Result<T, SourceError>>>(
    net: &Net,
    bases: &Bases,
    path: &str,
    get: impl Fn(Url) -> F,
) -> Result<(T, String), SourceError> {
    let mut failed = None;
    for base in &bases.urls {
        for text in net.options().mirrored(&format!("{base}{path}")) {
            let what = || "mirror of a Debian archive".to_owned();
            let url = check_url(&text).map_err(|e| SourceError::Setting { what: what(), why: e.to_string() })?;
            match get(url).await {
                Ok(got) => return Ok((got, shown(&text))),
                Err(error) if error.ask_another() => failed = Some(failed.unwrap_or(error)),
                Err(error) => return Err(error),
            }
        }
    }
    let source = failed.unwrap_or_else(|| SourceError::Internal("no mirror to ask".to_owned()));
    if source.kind() != ErrorKind::Unreachable {
        return Err(source);
    }
    let Bases { archive, origin, setting, .. } = bases.clone();
    Err(DebianError::Unreachable { archive, origin, setting, source: Box::new(source) }.into())
}

/// The component every archive of Debian's layout has. Makers of other software call their own archives `debian`, too (for
/// Debian users), and have components of their own.
const MAIN: &str = "main";

/// What apt's configuration knows: the URLs whose path ends in the archive's name, each once, in its order. Only those that
/// `main` is taken from.
fn from_apt(dir: &Path, archive: &str) -> Result<Vec<Url>, SourceError> {
    let mut found: Vec<Url> = Vec::new();
    for path in source_files(dir)? {
        let text = match fs_err::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => {
                continue;
            }
            Err(source) => return Err(SourceError::Io { path, source }),
        };
        let uris = if path.extension().is_some_and(|e| e == "sources") { deb822_uris(&text) } else { list_uris(&text) };
        // Others (cdrom:, file:, with a password) are apt's business.
        for url in uris.iter().filter_map(|uri| base(uri, "").ok()) {
            let last = url.path().trim_end_matches('/').rsplit('/').next();
            if last == Some(archive) && !found.contains(&url) {
                found.push(url);
            }
        }
    }
    Ok(found)
}

/// The files apt reads (sources.list(5)): `sources.list`, then `*.list` and `*.sources` below, sorted.
fn source_files(dir: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let parts = dir.join("sources.list.d");
    let mut more: Vec<PathBuf> = match fs_err::read_dir(&parts) {
        Ok(entries) => entries.filter_map(|e| e.ok().map(|e| e.path())).collect(),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => Vec::new(),
        Err(source) => return Err(SourceError::Io { path: parts, source }),
    };
    more.retain(|path| path.extension().is_some_and(|e| e == "list" || e == "sources"));
    more.sort();
    more.insert(0, dir.join("sources.list"));
    Ok(more)
}

/// URIs of the one-line form: `deb [options] uri suite component…`.
fn list_uris(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let uri = |line: &str| {
        let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t']))?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_ascii_whitespace();
        let uri = words.next()?;
        words.skip(1).any(is_main).then(|| uri.to_owned())
    };
    lines.filter_map(uri).collect()
}

/// `main`, or what older security archives call it: `updates/main`.
fn is_main(component: &str) -> bool {
    component.rsplit('/').next() == Some(MAIN)
}

/// URIs of the form of stanzas, those switched off left out.
fn deb822_uris(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let on = |stanza: &deb822::Stanza<'_>| {
        let enabled = stanza.get("Enabled").unwrap_or("yes").to_ascii_lowercase();
        let binary = stanza.get("Types").is_none_or(|types| types.split_ascii_whitespace().any(|t| t == "deb"));
        let mut components = deb822::lines(stanza.get("Components").unwrap_or_default());
        let main = components.any(|line| line.split_ascii_whitespace().any(is_main));
        !matches!(enabled.as_str(), "no" | "false" | "without" | "off" | "disable") && binary && main
    };
    let uris = |stanza: deb822::Stanza<'_>| {
        let value = stanza.get("URIs").unwrap_or_default();
        deb822::lines(value).flat_map(str::split_ascii_whitespace).map(str::to_owned).collect::<Vec<_>>()
    };
    deb822::stanzas(&text).filter(on).flat_map(uris).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(files: &[(&str, &str)]) -> (tempfile::TempDir, NetOptions) {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(dir.path().join("sources.list.d")).unwrap();
        files.iter().for_each(|(name, text)| fs_err::write(dir.path().join(name), text).unwrap());
        let options = NetOptions { apt_dir: dir.path().to_owned(), ..NetOptions::default() };
        (dir, options)
    }

    fn asked(options: &NetOptions, archive: &str, snapshot: Option<&str>) -> Vec<String> {
        bases(options, archive, snapshot, 1_783_764_997).unwrap().urls.iter().map(Url::to_string).collect()
    }

    #[test]
    fn apt_knows_where_archives_are() {
        let list = "# deb http://old.example/debian x main\ndeb [arch=amd64 signed-by=/k] http://one.example/debian/ bookworm main # x\n\
                    deb-src http://src.example/debian bookworm main\ndeb cdrom:[Debian]/ bookworm main\n\
                    deb http://u:hunter2@secret.example/debian bookworm main\ndeb http://vendor.example/linux/debian bookworm stable\n";
        let sources = "Types: deb deb-src\nURIs: http://one.example/debian\n https://two.example/x/debian/\nSuites: a\nComponents: main contrib\n\n\
                       Types: deb\nURIs: http://three.example/debian-security\nEnabled: yes\nComponents: updates/main\n\n\
                       Types: deb\nURIs: http://vendor.example/debian\nComponents: stable\n\n\
                       Enabled: No\nTypes: deb\nURIs: http://off.example/debian\nComponents: main\n\n# only a comment\n";
        let (_dir, options) = options(&[
            ("sources.list", list),
            ("sources.list.d/a.sources", sources),
            ("sources.list.d/b.list.off", "deb http://never.example/debian x main"),
        ]);
        assert_eq!(asked(&options, "debian", None), ["http://one.example/debian/", "https://two.example/x/debian/"]);
        assert_eq!(asked(&options, "debian-security", None), ["http://three.example/debian-security/"]);
    }

    #[test]
    fn what_a_person_says_comes_first_and_snapshots_stay_snapshots() {
        let (_dir, mut options) = options(&[("sources.list", "deb http://one.example/debian bookworm main\n")]);
        let time = Some("20261101T000000Z");
        let public = [format!("{SNAPSHOTS}/debian/20261101T000000Z/")];
        assert_eq!(asked(&options, "debian", time), public);
        assert_eq!(asked(&options, "other", None), [format!("{SNAPSHOTS}/other/20260711T101637Z/")]);
        options.archive_mirrors.insert("debian".to_owned(), vec!["http://m.example/d".to_owned()]);
        assert_eq!(asked(&options, "debian", None), ["http://m.example/d/"]);
        assert_eq!(asked(&options, "debian", time), public);
        options.archive_mirrors.insert("debian-snapshot".to_owned(), vec!["http://s.example/x/".to_owned()]);
        assert_eq!(asked(&options, "debian", time), ["http://s.example/x/20261101T000000Z/"]);
        options.archive_mirrors.insert("debian".to_owned(), vec!["http://u:hunter2@m.example/d".to_owned()]);
        let error = bases(&options, "debian", None, 0).unwrap_err().to_string();
        assert!(error.contains("user name or password") && !error.contains("hunter2"), "{error}");
    }
}
