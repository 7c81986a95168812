//! Release files: fetched, verified, and held against what was asked (Debian repository format, "Release files").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use super::mirror::{Bases, ask};
use super::{DebianError, verify};
use crate::base::digest::Digest;
use crate::model::debian::{date, deb822};
use crate::source::file::blocking;
use crate::source::http::get_small;
use crate::source::{Net, SourceError};
use crate::store::Store;

/// Debian's keyring on a Debian machine.
const DEFAULT_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The most bytes taken of a Release file; Debian's have 150 KB.
const LIMIT: u64 = 16 << 20;

/// A suite to be asked for.
#[derive(Debug, Clone)]
pub struct SuiteAt {
    /// The suite.
    pub suite: String,
    /// The archive it is of.
    pub archive: String,
    /// Where the archive is.
    pub bases: Bases,
    /// The snapshot asked for.
    pub snapshot: Option<String>,
    /// The keyring; Debian's where there is none.
    pub keyring: Option<PathBuf>,
    /// The time it is, seconds since 1970.
    pub now: u64,
}

/// Package indices by their path below the suite: digest and size, or what is wrong with the line.
pub type Indices = BTreeMap<String, Result<(Digest, u64), String>>;

/// A verified Release file.
#[derive(Debug, Clone)]
pub struct Release {
    /// Where it was found.
    pub url: String,
    /// Digest of the signed file.
    pub digest: Digest,
    /// Its `Date`, seconds since 1970.
    pub date: u64,
    /// Whether indices can be asked for by their digest.
    pub by_hash: bool,
    /// Architectures it has; none where it does not say.
    pub architectures: Vec<String>,
    /// Components it has, without what stands before a `/`; none where it does not say.
    pub components: Vec<String>,
    /// Whether packages for every architecture have indices of their own.
    pub split_all: bool,
    /// Package indices.
    pub indices: Indices,
}

/// Brings and verifies the Release file of a suite.
///
/// # Errors
/// One that is not there, is not signed as it must be, is over, or is another suite's.
pub async fn fetch_release(net: &Net, store: &Arc<Store>, at: &SuiteAt) -> Result<Release, SourceError> {
    let judged = judged_at(at)?;
    let path = format!("dists/{}/InRelease", at.suite);
    let get = |url: Url| async move { Ok(get_small(net, &url, None, LIMIT, None).await?.bytes) };
    let (bytes, url) = ask(net, &at.bases, &path, get).await?;
    let at = at.clone();
    blocking(store, move |store| {
        let keyring = at.keyring.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_KEYRING));
        let text = verify::verify(&bytes, &url, &keyring, at.snapshot.is_some().then_some(judged))?;
        let digest = store.put(&bytes)?;
        let release = parse(&text, &url, digest, &at.suite)?;
        in_time(&text, &release, &at, judged)?;
        Ok(release)
    })
    .await
}

/// The time the suite is judged at: the snapshot's, else now.
fn judged_at(at: &SuiteAt) -> Result<u64, SourceError> {
    let Some(name) = &at.snapshot else { return Ok(at.now) };
    date::parse_snapshot(name).ok_or_else(|| DebianError::Snapshot(name.clone()).into())
}

fn parse(text: &str, url: &str, digest: Digest, suite: &str) -> Result<Release, SourceError> {
    let bad = |why: String| DebianError::Release { url: url.to_owned(), why };
    let stanza = deb822::stanzas(text).next().ok_or_else(|| bad("it is empty".to_owned()))?;
    let get = |name: &str| stanza.get(name).unwrap_or_default();
    let names = [get("Codename"), get("Suite")];
    // One that does not say which suite it is contradicts nobody: apt takes it.
    if !names.contains(&suite) && names.iter().any(|name| !name.is_empty()) {
        let found = names.iter().find(|n| !n.is_empty()).copied().unwrap_or("?").to_owned();
        return Err(DebianError::OtherSuite { url: url.to_owned(), asked: suite.to_owned(), found }.into());
    }
    let date = date::parse_release_date(get("Date"));
    let date = date.ok_or_else(|| bad(format!("`Date` is `{}`, which is no date in UTC", get("Date"))))?;
    let words = |name: &str| get(name).split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let components = words("Components").iter().map(|c| c.rsplit('/').next().unwrap_or(c).to_owned()).collect();
    let architectures = words("Architectures");
    let no_all = words("No-Support-for-Architecture-all").iter().any(|w| w == "Packages");
    Ok(Release {
        url: url.to_owned(),
        digest,
        date,
        by_hash: get("Acquire-By-Hash").eq_ignore_ascii_case("yes"),
        split_all: architectures.iter().any(|a| a == "all") && !no_all,
        architectures,
        components,
        indices: indices(stanza.get("SHA256"), url)?,
    })
}

/// The package indices among the files a Release file lists.
///
/// A line that is wrong is kept as that: whoever wants that very index is told.
fn indices(listed: Option<&str>, url: &str) -> Result<Indices, SourceError> {
    let bad = |why: String| DebianError::Release { url: url.to_owned(), why };
    let listed = listed.ok_or_else(|| bad("it has no SHA256 digests".to_owned()))?;
    let mut found = BTreeMap::new();
    for line in deb822::lines(listed).filter(|line| line.contains("/binary-") && line.contains("/Packages")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(path) = words.last() else { continue };
        let path = path.trim_start_matches("./").to_owned();
        let read = file(&words).ok_or_else(|| {
            let shown: String = line.chars().take(200).collect();
            format!("`{shown}` under SHA256 has no digest and size")
        });
        // Of two lines the one that can be read counts.
        if read.is_ok() || !found.contains_key(&path) {
            found.insert(path, read);
        }
    }
    Ok(found)
}

/// Digest and size of a line `digest size path`.
fn file(words: &[&str]) -> Option<(Digest, u64)> {
    let [digest, size, _] = words else { return None };
    Some((Digest::from_hex(&digest.to_ascii_lowercase()).ok()?, size.parse().ok()?))
}

/// Whether it is of the time it is judged at: not over, and not younger than the snapshot it is to be.
fn in_time(text: &str, release: &Release, at: &SuiteAt, judged: u64) -> Result<(), SourceError> {
    let url = release.url.clone();
    if let Some(snapshot) = at.snapshot.clone().filter(|_| release.date > judged) {
        return Err(DebianError::NotTheSnapshot { url, snapshot, date: release.date }.into());
    }
    let Some(until) = deb822::stanzas(text).next().and_then(|s| s.get("Valid-Until")) else { return Ok(()) };
    let Some(until) = date::parse_release_date(until) else {
        let why = format!("`Valid-Until` is `{until}`, which is no date in UTC");
        return Err(DebianError::Release { url, why }.into());
    };
    if until < judged {
        return Err(DebianError::Expired { suite: at.suite.clone(), url, until, judged }.into());
    }
    Ok(())
}

impl Release {
    /// Whether it has a component, for an architecture.
    ///
    /// # Errors
    /// When it has not, naming those it has.
    pub fn check(&self, suite: &str, component: &str, architecture: &str) -> Result<(), SourceError> {
        let lacks = |what, name: &str, has: &[String]| {
            let (suite, name, has) = (suite.to_owned(), name.to_owned(), has.to_vec());
            Err(DebianError::NotInSuite { suite, what, name, has }.into())
        };
        let lists = |list: &[String], name: &str| list.is_empty() || list.iter().any(|known| known == name);
        if !lists(&self.components, component) {
            return lacks("component", component, &self.components);
        }
        if !lists(&self.architectures, architecture) {
            return lacks("architecture", architecture, &self.architectures);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text(more: &str) -> String {
        format!(
            "Suite: stable\nCodename: x\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nArchitectures: all amd64\n\
             Components: updates/main contrib\n{more}SHA256:\n {HEX} 0 main/binary-amd64/Packages\n {HEX} 0 main/i18n/x\n"
        )
    }

    fn read(text: &str, suite: &str) -> Result<Release, String> {
        parse(text, "u", Digest::of(b""), suite).map_err(|e| e.to_string())
    }

    #[test]
    fn a_release_file_is_read() {
        let release = read(&text("No-Support-for-Architecture-all: Packages\n"), "x").unwrap();
        assert_eq!(release.components, ["main", "contrib"]);
        assert!(!release.by_hash && !release.split_all && release.indices.len() == 1);
        assert!(read(&text(""), "stable").unwrap().split_all);
        assert!(release.check("x", "main", "amd64").is_ok());
        let error = release.check("x", "non-free", "amd64").unwrap_err().to_string();
        assert_eq!(error, "x has no component `non-free`; it has main, contrib");
        assert!(release.check("x", "main", "arm64").unwrap_err().to_string().contains("architecture `arm64`"));
    }

    #[test]
    fn odd_neighbours_and_missing_fields_spoil_nothing() {
        let text = format!(
            "Date: Sat, 11 Jul 2026 10:16:37 UTC\nno field\nSHA256:\n abc 0 main/binary-i386/Packages\n x main/binary-arm/Packages\n \
             {} 7 ./main/binary-amd64/Packages\n main/binary-amd64/Packages.xz\n",
            HEX.to_uppercase()
        );
        let release = read(&text, "x").unwrap();
        assert!(release.check("x", "main", "amd64").is_ok() && !release.split_all);
        assert_eq!(release.indices["main/binary-amd64/Packages"].clone().unwrap().1, 7);
        let bad = ["main/binary-i386/Packages", "main/binary-arm/Packages", "main/binary-amd64/Packages.xz"];
        assert!(bad.iter().all(|path| release.indices[*path].is_err()));
    }

    #[test]
    fn what_is_wrong_with_one_is_told() {
        assert_eq!(read(&text(""), "bookworm").unwrap_err(), "u is suite `x`, not `bookworm`");
        assert!(read("Suite: x\nDate: today\n", "x").unwrap_err().contains("`Date` is `today`"));
        assert!(read("Suite: x\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n", "x").unwrap_err().contains("no SHA256"));
        assert!(read("", "x").unwrap_err().contains("empty"));
    }
}
