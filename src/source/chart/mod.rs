//! Helm charts from HTTP repositories and OCI registries, locked by the digest of their `.tgz`.

mod chars;
mod index;
mod tgz;

use std::sync::Arc;

use super::file::{blocking, checked, get};
use super::http::{Scratch, get_scratch};
use super::oci::{fetch_blob, fetch_manifest};
use super::{ErrorKind, Net, SourceError};
use crate::base::digest::Digest;
use crate::base::{bounded, shown};
use crate::model::image::ImageRef;
use crate::model::lock::LockedChart;
use crate::store::image::{Descriptor, Manifest};
use crate::store::{BlobSource, Store};
use url::Url;

/// Media type of a chart's configuration in a registry (Helm, "Use OCI-based registries").
const OCI_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// Media types of the layer that is the `.tgz`, the better first: that of today, and that of Helm 3.0 to 3.6, which later ones still
/// pull.
const OCI_LAYERS: [&str; 2] = ["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"];

/// A chart a profile asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartRequest {
    /// The profile's name for it.
    pub name: String,
    /// The chart's own name; in a registry the last part of its path, which may be another.
    pub chart: String,
    /// The repository: `https://…`, with a query where its server wants one, or `oci://host/path` above the chart.
    pub repo: String,
    /// The exact version; a leading `v` makes no difference.
    pub version: String,
    /// Digest of the `.tgz`, where the author pinned it.
    pub sha256: Option<Digest>,
}

/// What a repository says of one version.
struct Found {
    url: String,
    version: String,
    digest: Option<Digest>,
    size: Option<u64>,
    /// What the archive may call itself; anything where nobody says.
    names: Vec<String>,
}

/// Finds the chart, downloads it, and says what it is.
///
/// # Errors
/// A repository or version that is not there, other bytes than the index or the author names, an archive that is not that
/// chart.
pub async fn resolve_chart(net: &Net, store: &Arc<Store>, request: &ChartRequest) -> Result<LockedChart, SourceError> {
    let found = match request.repo.strip_prefix("oci://") {
        Some(repo) => find_oci(net, repo, request).await?,
        None => find_http(net, store, request).await?,
    };
    if let (Some(expected), Some(digest)) = (request.sha256, found.digest)
        && expected != digest
    {
        return Err(SourceError::Mismatch { url: found.url, expected, found: digest });
    }
    let expected = request.sha256.or(found.digest);
    let (digest, size) = bring(net, store, &request.name, &found.url, expected, found.size).await?;
    let Found { url, version, names, .. } = found;
    let at = url.clone();
    let contents = blocking(store, move |store| contents(store, &digest, &at, &names, &version)).await?;
    if contents.name != request.chart {
        net.reporter().note(&format!("chart {}: `{url}` calls itself `{}`", request.name, contents.name));
    }
    Ok(LockedChart {
        name: request.name.clone(),
        chart: request.chart.clone(),
        repo: request.repo.clone(),
        version: contents.version,
        url,
        digest,
        size,
        dependencies: contents.inner.into_iter().collect(),
    })
}

/// Brings a locked chart, unless the store has it.
///
/// # Errors
/// As [`resolve_chart`]; the repository's index is not asked any more.
pub async fn fetch_chart(net: &Net, store: &Arc<Store>, chart: &LockedChart) -> Result<(), SourceError> {
    if store.has(&chart.digest, chart.size) {
        return Ok(());
    }
    bring(net, store, &chart.name, &chart.url, Some(chart.digest), Some(chart.size)).await.map(|_| ())
}

/// Downloads a `.tgz` by its URL; one in a registry is a blob there, for which its manifest is not needed.
async fn bring(
    net: &Net,
    store: &Arc<Store>,
    name: &str,
    url: &str,
    expected: Option<Digest>,
    size: Option<u64>,
) -> Result<(Digest, u64), SourceError> {
    let label = format!("chart {name}");
    match (url.strip_prefix("oci://"), expected, size) {
        (None, ..) => get(net, store, url, &label, expected, size).await,
        (Some(reference), Some(digest), Some(size)) => {
            fetch_blob(net, store, &image_ref(reference, url)?, &digest, size, &label).await?;
            Ok((digest, size))
        }
        (Some(_), ..) => Err(SourceError::Internal(format!("`{url}` without a digest"))),
    }
}

fn contents(
    store: &Store,
    digest: &Digest,
    url: &str,
    names: &[String],
    version: &str,
) -> Result<tgz::Contents, SourceError> {
    let bad = |why: String| SourceError::Archive { what: url.to_owned(), why };
    let contents = tgz::look_into(store.open_blob(digest)?).map_err(bad)?;
    let known = names.is_empty() || names.contains(&contents.name);
    if !known || bare(&contents.version) != bare(version) {
        let name = names.first().unwrap_or(&contents.name);
        let why =
            format!("it is chart `{}` version {}, not `{name}` version {version}", contents.name, contents.version);
        return Err(bad(why));
    }
    Ok(contents)
}

fn bare(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

async fn find_http(net: &Net, store: &Arc<Store>, request: &ChartRequest) -> Result<Found, SourceError> {
    let base = folder(&request.repo)?;
    let url =
        below(&base, "index.yaml").map_err(|e| SourceError::Setting { what: "URL".to_owned(), why: e.to_string() })?;
    let shown = url.to_string();
    let index = get_index(net, store, url.as_str()).await?;
    let chart = request.chart.clone();
    let read = tokio::task::spawn_blocking(move || index::versions_of(index.file, &chart));
    let bad = |why: String| SourceError::Archive { what: shown.clone(), why };
    let versions = read.await.map_err(|e| SourceError::Internal(e.to_string()))?.map_err(bad)?;
    let versions = versions.ok_or_else(|| bad(format!("no chart `{}` in this repository", request.chart)))?;
    if versions.skipped > 0 {
        let (skipped, chart) = (versions.skipped, &request.chart);
        let entries = if skipped == 1 { "1 entry names".to_owned() } else { format!("{skipped} entries name") };
        net.reporter().note(&format!("`{shown}`: of chart `{chart}`, {entries} no version; passed over"));
    }
    let entry = pick(&versions, &request.version).map_err(|why| bad(format!("chart `{}`: {why}", request.chart)))?;
    let first = entry.urls.first().map(|url| url.trim());
    let first = first.ok_or_else(|| bad(format!("chart `{}` {} has no URL", request.chart, entry.version)))?;
    let names = vec![request.chart.clone(), entry.name.clone().unwrap_or_default()];
    if first.starts_with("oci://") {
        // Some repositories moved their archives to a registry and kept the index.
        return Ok(Found { names, ..ask_registry(net, &tagged(first, &entry.version), &entry.version).await? });
    }
    let tgz = below(&base, first).map_err(|e| bad(format!("`{first}`: {e}")))?;
    let digest = entry.digest.as_deref().and_then(|text| {
        let known = sha256(text);
        if known.is_none() {
            let name = &request.name;
            net.reporter()
                .warn(&format!("chart {name}: `{shown}` has no SHA-256 of it but `{text}`: what comes is locked"));
        }
        known
    });
    Ok(Found { url: tgz.to_string(), version: entry.version.clone(), digest, size: None, names })
}

/// A repository's URL as a folder: what stands in it is found by [`below`].
fn folder(repo: &str) -> Result<Url, SourceError> {
    let mut base = checked(repo)?;
    base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
    base.set_fragment(None);
    Ok(base)
}

/// What `text` means in a repository. As with Helm, what is relative has the query of the repository; on another host it does not.
fn below(base: &Url, text: &str) -> Result<Url, url::ParseError> {
    if Url::parse(text).is_ok() {
        return Url::parse(text);
    }
    let mut url = base.join(text)?;
    if base.query().is_some() && url.origin() == base.origin() {
        url.set_query(base.query());
    }
    Ok(url)
}

/// A digest as indexes write it: with or without `sha256:`, in either case.
fn sha256(text: &str) -> Option<Digest> {
    let lower = text.trim().to_ascii_lowercase();
    Digest::from_hex(lower.strip_prefix("sha256:").unwrap_or(&lower)).ok()
}

async fn get_index(net: &Net, store: &Arc<Store>, url: &str) -> Result<Scratch, SourceError> {
    let mut failed = None;
    for asked in net.options().mirrored(url) {
        match get_scratch(net, store, &checked(&asked)?, url, index::LIMIT).await {
            Err(error) if error.ask_another() => {
                let mirrored = asked != url;
                failed = Some(failed.unwrap_or(if mirrored { error.by_mirror_of(url) } else { error }));
            }
            done => return done,
        }
    }
    Err(failed.unwrap_or_else(|| SourceError::Internal("no URL to ask".to_owned())))
}

/// The entry of exactly this version.
fn pick<'a>(versions: &'a index::Versions, wanted: &str) -> Result<&'a index::Entry, String> {
    let all = &versions.entries;
    let exact = all.iter().find(|entry| entry.version == wanted);
    let found = exact.or_else(|| all.iter().find(|entry| bare(&entry.version) == bare(wanted)));
    found.ok_or_else(|| {
        let mut near: Vec<&index::Entry> = all.iter().collect();
        near.sort_by(|a, b| {
            let like = |e: &index::Entry| shown::alike(bare(&e.version), bare(wanted));
            like(b).total_cmp(&like(a)).then_with(|| a.version.cmp(&b.version))
        });
        let names: Vec<String> = near.iter().take(5).map(|entry| shown::name(&entry.version)).collect();
        match names.is_empty() {
            true => format!("no version {wanted}: the index names none that can be read"),
            false => format!("no version {wanted} (there are {}, among them {})", all.len(), names.join(", ")),
        }
    })
}

/// The chart in a registry: `repo` is what stands above the chart. Its tag may have the `v` that the version has not, or lack it.
async fn find_oci(net: &Net, repo: &str, request: &ChartRequest) -> Result<Found, SourceError> {
    let version = &request.version;
    let other = version.strip_prefix('v').map_or_else(|| format!("v{version}"), str::to_owned);
    let place = format!("oci://{}/{}", repo.trim_end_matches('/'), request.chart);
    match ask_registry(net, &tagged(&place, version), version).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ask_registry(net, &tagged(&place, &other), version).await.map_err(|_| error)
        }
        done => done,
    }
}

/// A chart's place in a registry with its version as the tag, unless it has a tag or a digest. Helm: `+` of a version is `_` in a tag,
/// which may not hold `+`.
fn tagged(place: &str, version: &str) -> String {
    let last = place.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { place.to_owned() } else { format!("{place}:{}", version.replace('+', "_")) }
}

/// What the chart `url` (`oci://host/repository:tag`) is, by its manifest.
async fn ask_registry(net: &Net, url: &str, version: &str) -> Result<Found, SourceError> {
    let image = image_ref(url.trim_start_matches("oci://"), url)?;
    let fetched = fetch_manifest(net, &image, &image.wanted(), image.digest.as_ref()).await?;
    let bad = |why: String| SourceError::Archive { what: url.to_owned(), why };
    let manifest: Manifest = bounded::from_json(&fetched.bytes).map_err(|e| bad(format!("no manifest: {e}")))?;
    if manifest.config.media_type != OCI_CONFIG {
        return Err(bad(format!("its configuration is `{}`: this is no Helm chart", manifest.config.media_type)));
    }
    let layers = &manifest.layers;
    let layer: Option<&Descriptor> =
        OCI_LAYERS.iter().find_map(|known| layers.iter().find(|layer| layer.media_type == *known));
    let layer = layer.ok_or_else(|| bad(format!("it has no layer of type `{}`", OCI_LAYERS[0])))?;
    let (digest, size) = (Some(layer.digest), Some(layer.size));
    Ok(Found { url: url.to_owned(), version: version.to_owned(), digest, size, names: Vec::new() })
}

fn image_ref(text: &str, url: &str) -> Result<ImageRef, SourceError> {
    text.parse().map_err(|e: crate::model::image::ImageRefError| SourceError::Setting {
        what: format!("chart `{url}`"),
        why: e.to_string(),
    })
}

/// Doors of `source::fuzzing`.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use super::{index, tgz};

    pub(in crate::source) fn index(data: &[u8]) {
        let _ = index::versions_of(data, "traefik");
    }

    pub(in crate::source) fn archive(data: &[u8]) {
        let _ = tgz::look_into(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_picked_exactly() {
        let entry = |version: &str| index::Entry { version: version.to_owned(), ..Default::default() };
        let all = [entry("v1.14.0"), entry("1.13.1"), entry("v1.13.0")];
        let all = index::Versions { entries: all.to_vec(), skipped: 0 };
        assert_eq!(pick(&all, "v1.14.0").unwrap().version, "v1.14.0");
        assert_eq!(pick(&all, "1.13.0").unwrap().version, "v1.13.0");
        let error = pick(&all, "1.13.2").unwrap_err();
        assert!(error.contains("no version 1.13.2 (there are 3, among them 1.13.1"), "{error}");
        assert!(pick(&index::Versions::default(), "1").unwrap_err().contains("none that can be read"));
    }

    #[test]
    fn urls_are_made_as_helm_makes_them() {
        for (repo, text, url) in [
            ("https://h.org", "index.yaml", "https://h.org/index.yaml"),
            ("https://h.org/a/", "x.tgz", "https://h.org/a/x.tgz"),
            ("https://h.org/a?q=1&r=%2F", "index.yaml", "https://h.org/a/index.yaml?q=1&r=%2F"),
            ("https://h.org/a/?q=1#f", "charts/x.tgz", "https://h.org/a/charts/x.tgz?q=1"),
            ("https://h.org/a?q=1", "/c/x.tgz", "https://h.org/c/x.tgz?q=1"),
            ("https://h.org/a?q=1", "../x.tgz?own=1", "https://h.org/x.tgz?q=1"),
            ("https://h.org/a", "x.tgz?own=1", "https://h.org/a/x.tgz?own=1"),
            ("https://h.org/a?q=1", "https://h.org/x.tgz", "https://h.org/x.tgz"),
            ("https://h.org/a?q=1", "//o.org/x.tgz", "https://o.org/x.tgz"),
        ] {
            assert_eq!(below(&folder(repo).unwrap(), text).unwrap().as_str(), url, "{repo} {text}");
        }
    }

    #[test]
    fn digests_and_tags_have_several_spellings() {
        let digest = Digest::of(b"x");
        for text in
            [digest.hex(), digest.to_string(), digest.hex().to_uppercase(), format!(" SHA256:{} ", digest.hex())]
        {
            assert_eq!(sha256(&text), Some(digest), "{text}");
        }
        assert_eq!((sha256("md5:00"), sha256("12")), (None, None));
        assert_eq!(tagged("oci://h:5000/a/web", "1.0+b"), "oci://h:5000/a/web:1.0_b");
        assert_eq!(tagged("oci://h/a/web:2", "1"), "oci://h/a/web:2");
    }
}
