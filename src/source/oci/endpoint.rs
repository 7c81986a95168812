//! Which servers to ask for the images of a registry.

use url::Url;

use crate::model::image::ImageRef;
use crate::source::{NetOptions, SourceError};

/// A server that may have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Everything before `/v2/…`, without a slash at its end: `https://registry-1.docker.io`.
    pub base: String,
    /// What its credentials are filed under: `docker.io`, `127.0.0.1:5000`.
    pub credentials: String,
    /// The registry it stands for, where it is a mirror (`?ns=`, as containerd asks its mirrors).
    pub mirror_of: Option<String>,
}

/// The servers to ask for images of `registry`, in order: its mirrors if it has any, else itself.
///
/// # Errors
/// A mirror that is no http or https URL.
pub fn endpoints(options: &NetOptions, registry: &str) -> Result<Vec<Endpoint>, SourceError> {
    let mirrors = options.registry_mirrors.get(registry).or_else(|| options.registry_mirrors.get("*"));
    match mirrors.filter(|mirrors| !mirrors.is_empty()) {
        Some(mirrors) => mirrors.iter().map(|mirror| mirror_endpoint(mirror, registry)).collect(),
        None => Ok(vec![upstream(options, registry)]),
    }
}

fn upstream(options: &NetOptions, registry: &str) -> Endpoint {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let scheme = if options.plain_http.iter().any(|plain| plain == registry) { "http" } else { "https" };
    Endpoint { base: format!("{scheme}://{host}"), credentials: registry.to_owned(), mirror_of: None }
}

fn mirror_endpoint(mirror: &str, registry: &str) -> Result<Endpoint, SourceError> {
    let bad = |why: &str| SourceError::Setting { what: format!("mirror of {registry}"), why: why.to_owned() };
    let url = crate::model::url_policy::check_url(mirror).map_err(|e| bad(&e.to_string()))?;
    let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
    let credentials = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let base = crate::model::url_policy::shown(url.as_str()).trim_end_matches('/').to_owned();
    Ok(Endpoint { base, credentials, mirror_of: Some(registry.to_owned()) })
}

impl Endpoint {
    /// The URL of a manifest or blob: `kind` is `manifests` or `blobs`.
    ///
    /// # Errors
    /// When the registry's name makes no URL.
    pub fn url(&self, image: &ImageRef, kind: &str, wanted: &str) -> Result<Url, SourceError> {
        let base = if self.base.ends_with("/v2") || self.base.contains("/v2/") { "" } else { "/v2" };
        let text = format!("{}{base}/{}/{kind}/{wanted}", self.base, image.repository);
        let mut url = Url::parse(&text)
            .map_err(|e| SourceError::Setting { what: format!("registry `{}`", self.base), why: e.to_string() })?;
        if let Some(registry) = &self.mirror_of {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(options: &NetOptions, image: &str) -> Vec<String> {
        let image: ImageRef = image.parse().unwrap();
        let all = endpoints(options, &image.registry).unwrap();
        all.iter().map(|e| e.url(&image, "manifests", &image.wanted()).unwrap().to_string()).collect()
    }

    #[test]
    fn docker_hub_has_another_host() {
        let url = "https://registry-1.docker.io/v2/library/x/manifests/1";
        assert_eq!(asked(&NetOptions::default(), "x:1"), [url]);
    }

    #[test]
    fn plain_http_only_where_somebody_said_so() {
        let options = NetOptions { plain_http: vec!["127.0.0.1:5000".to_owned()], ..NetOptions::default() };
        assert_eq!(asked(&options, "127.0.0.1:5000/x:1"), ["http://127.0.0.1:5000/v2/x/manifests/1"]);
        assert_eq!(asked(&options, "127.0.0.1:5001/x:1"), ["https://127.0.0.1:5001/v2/x/manifests/1"]);
    }

    #[test]
    fn mirrors_take_the_place_of_the_registry() {
        let mut options = NetOptions::default();
        let hub = vec!["http://127.0.0.1:5000".to_owned(), "https://m.example.org/v2/hub/".to_owned()];
        options.registry_mirrors.insert("docker.io".to_owned(), hub);
        options.registry_mirrors.insert("*".to_owned(), vec!["http://127.0.0.1:5001/".to_owned()]);
        let hub = [
            "http://127.0.0.1:5000/v2/library/x/manifests/1?ns=docker.io",
            "https://m.example.org/v2/hub/library/x/manifests/1?ns=docker.io",
        ];
        assert_eq!(asked(&options, "x:1"), hub);
        assert_eq!(asked(&options, "quay.io/y:1"), ["http://127.0.0.1:5001/v2/y/manifests/1?ns=quay.io"]);
    }
}
