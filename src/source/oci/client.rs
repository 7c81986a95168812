//! Manifests and blobs from whichever server has them (distribution-spec, "Pull").

use std::future::Future;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use url::Url;

use super::auth::with_auth;
use super::endpoint::{Endpoint, endpoints};
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::source::http::{Download, Small, download, get_small};
use crate::source::{ErrorKind, Net, SourceError};
use crate::store::Store;
use crate::store::image::MANIFEST_LIMIT;

/// Every manifest labimg takes. Registries answer 404 for an index when it is not asked for.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as a registry gave it, its digest verified as far as somebody named one.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// `Content-Type` of the answer.
    pub content_type: String,
    /// Where it was found.
    pub url: String,
}

/// Gets a manifest or index by tag or digest (`wanted`).
///
/// # Errors
/// [`SourceError::Image`] naming every server asked; also when the bytes are not those of `digest`, or not
/// those that the registry's own `Docker-Content-Digest` names.
pub async fn fetch_manifest(
    net: &Net,
    image: &ImageRef,
    wanted: &str,
    digest: Option<&Digest>,
) -> Result<Fetched, SourceError> {
    let what = if digest.is_some() { format!("manifest {wanted}") } else { "the manifest".to_owned() };
    any(net, image, &what, digest.is_some(), |endpoint| async move {
        let url = endpoint.url(image, "manifests", wanted)?;
        let url = &url;
        let small = with_auth(net, &endpoint, &image.repository, |auth| async move {
            get_small(net, url, Some(ACCEPT), MANIFEST_LIMIT, auth.as_ref()).await
        })
        .await?;
        verified(small, url, digest)
    })
    .await
}

/// The bytes that have the digest asked for, else the one that the registry names; where neither is known, the plain ones.
fn verified(small: Small, url: &Url, digest: Option<&Digest>) -> Result<Fetched, SourceError> {
    let url = crate::model::url_policy::shown(url.as_str());
    let text = |name: &str| small.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    // A header of another algorithm tells nothing about the bytes' SHA-256.
    let named = text("docker-content-digest").parse().ok();
    let content_type = text(CONTENT_TYPE.as_str());
    let expected = digest.copied().or(named);
    let found = Digest::of(&small.bytes);
    if let Some(raw) = small.raw.filter(|raw| expected.is_some_and(|expected| Digest::of(raw) == expected)) {
        return Ok(Fetched { digest: Digest::of(&raw), bytes: raw, content_type, url });
    }
    match expected.filter(|expected| *expected != found) {
        Some(expected) => Err(SourceError::Mismatch { url, expected, found }),
        None => Ok(Fetched { bytes: small.bytes, digest: found, content_type, url }),
    }
}

/// Brings a blob of the image's repository into the store.
///
/// # Errors
/// As [`fetch_manifest`], and those of [`download`].
pub async fn fetch_blob(
    net: &Net,
    store: &Arc<Store>,
    image: &ImageRef,
    digest: &Digest,
    size: u64,
    label: &str,
) -> Result<(), SourceError> {
    let size = Some(size);
    any(net, image, &format!("blob {digest}"), true, |endpoint| async move {
        let url = endpoint.url(image, "blobs", &digest.to_string())?;
        let url = &url;
        with_auth(net, &endpoint, &image.repository, |auth: Option<HeaderValue>| async move {
            let job = Download { url, key: url.as_str(), label, expected: Some(*digest), size, auth: auth.as_ref() };
            download(net, store, &job).await
        })
        .await
        .map(|_| ())
    })
    .await
}

/// Asks the image's servers in order until one has it. Only a server that lacks it, or is not to be had, makes us ask the
/// next one: wrong bytes are never papered over.
async fn any<T, F: Future<Output = Result<T, SourceError>>>(
    net: &Net,
    image: &ImageRef,
    what: &str,
    by_digest: bool,
    ask: impl Fn(Endpoint) -> F,
) -> Result<T, SourceError> {
    let mut asked = Vec::new();
    for endpoint in endpoints(net.options(), &image.registry)? {
        let (base, mirror_of) = (endpoint.base.clone(), endpoint.mirror_of.clone());
        match ask(endpoint).await {
            Ok(found) => return Ok(found),
            Err(error) if error.ask_another() => asked.push(match mirror_of {
                Some(registry) => (base, error.by_mirror_of(&registry)),
                None => (base, error),
            }),
            // Other bytes are this server's doing, and nobody else's.
            Err(error) if error.kind() == ErrorKind::Mismatch => {
                asked = vec![(base, error)];
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Err(SourceError::Image { image: Box::new(image.clone()), what: what.to_owned(), by_digest, asked })
}
