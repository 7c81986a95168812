//! What a path asks for, and which upstream it means. Pure: nothing is looked up here but the names of upstreams.

use hyper::Method;

use crate::base::digest::Digest;
use crate::model::image::{is_host, is_repository, is_tag};

use super::reply::{Code, Refusal};

/// The longest path that is looked at, in bytes: host, repository of 255, `/blobs/`, a digest.
const PATH_LIMIT: usize = 1024;

/// What a path asks for. Names are as they came: they may start with an upstream host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Api,
    Health,
    Status,
    Catalog,
    Tags(String),
    Manifest(String, Wanted),
    Blob(String, Digest),
    StartUpload(String),
    Upload(String, String),
    Referrers(String, Digest),
}

/// A manifest's tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Tag(String),
    Digest(Digest),
}

/// A repository of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) path: String,
}

/// Reads a path as it came over the wire.
///
/// # Errors
/// Paths of nothing there is here, and names that the specification does not allow.
pub(super) fn parse(method: &Method, path: &str) -> Result<Asked, Refusal> {
    if path.len() > PATH_LIMIT {
        return Err(Refusal::bad(Code::NameInvalid, format!("a path of more than {PATH_LIMIT} bytes")));
    }
    let path = decode(path).ok_or_else(|| Refusal::bad(Code::NameInvalid, "the path is no text"))?;
    match path.as_str() {
        "/v2" | "/v2/" => return Ok(Asked::Api),
        "/healthz" => return Ok(Asked::Health),
        "/labimg/v1/status" => return Ok(Asked::Status),
        "/v2/_catalog" => return Ok(Asked::Catalog),
        _ => {}
    }
    let nothing = || Refusal::missing(Code::NameUnknown, "there is nothing at this path");
    let parts: Vec<&str> = path.strip_prefix("/v2/").ok_or_else(nothing)?.split('/').collect();
    match parts.as_slice() {
        [name @ .., "tags", "list"] => Ok(Asked::Tags(checked(name)?)),
        [name @ .., "manifests", wanted] => Ok(Asked::Manifest(checked(name)?, parse_wanted(method, wanted)?)),
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => Ok(Asked::StartUpload(checked(name)?)),
        [name @ .., "blobs", "uploads", id] => Ok(Asked::Upload(checked(name)?, (*id).to_owned())),
        [name @ .., "blobs", digest] => Ok(Asked::Blob(checked(name)?, parse_digest(digest)?)),
        [name @ .., "referrers", digest] => Ok(Asked::Referrers(checked(name)?, parse_digest(digest)?)),
        name => {
            checked(name)?;
            Err(nothing())
        }
    }
}

/// The repository that is meant. `ns` is containerd's: the upstream it mirrors. Without it the host is the first component;
/// a name without host means Docker Hub, whose mirror `dockerd` asks in this form: no other upstream is ever guessed, or a
/// client could be given another upstream's image.
///
/// # Errors
/// A host that is none, a path that is no repository.
pub(super) fn resolve(name: &str, ns: Option<&str>, known: impl Fn(&str) -> bool) -> Result<Name, Refusal> {
    if let Some(ns) = ns {
        if !is_host(ns) {
            return Err(Refusal::bad(Code::NameInvalid, "`ns` is not a registry host"));
        }
        return upstream(&canonical(ns), name);
    }
    match name.split_once('/') {
        Some((host, path)) if is_host(host) && (known(&canonical(host)) || host.contains(['.', ':'])) => {
            upstream(&canonical(host), path)
        }
        _ => upstream(DOCKER_HUB, name),
    }
}

/// A repository below a host; Docker Hub's names of one component are in `library/`.
pub(super) fn upstream(host: &str, path: &str) -> Result<Name, Refusal> {
    if !is_repository(path) {
        return Err(Refusal::bad(Code::NameInvalid, "not a repository name"));
    }
    let path = match host == DOCKER_HUB && !path.contains('/') {
        true => format!("library/{path}"),
        false => path.to_owned(),
    };
    Ok(Name { host: host.to_owned(), path })
}

const DOCKER_HUB: &str = "docker.io";

/// A host as all its names are written here: in lower case (RFC 3986, section 3.2.2); and Docker Hub has three.
pub(super) fn canonical(host: &str) -> String {
    match host.to_ascii_lowercase() {
        hub if matches!(hub.as_str(), "index.docker.io" | "registry-1.docker.io") => DOCKER_HUB.to_owned(),
        other => other,
    }
}

/// A name whose first component may be a host; nothing that could mean something to a file system.
fn checked(parts: &[&str]) -> Result<String, Refusal> {
    let name = parts.join("/");
    let good = match name.split_once('/') {
        Some((host, path)) if is_host(host) => is_repository(path),
        _ => is_repository(&name),
    };
    if good { Ok(name) } else { Err(Refusal::bad(Code::NameInvalid, "not a repository name")) }
}

/// What can be no tag is nowhere to be found, and cannot be pushed.
fn parse_wanted(method: &Method, text: &str) -> Result<Wanted, Refusal> {
    if text.contains(':') {
        return Ok(Wanted::Digest(parse_digest(text)?));
    }
    match is_tag(text) {
        true => Ok(Wanted::Tag(text.to_owned())),
        false if *method == Method::PUT => Err(Refusal::bad(Code::ManifestInvalid, "neither a tag nor a digest")),
        false => Err(Refusal::missing(Code::ManifestUnknown, "neither a tag nor a digest")),
    }
}

/// A digest as a path or a query has it.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal::bad(Code::DigestInvalid, "not a digest: want `sha256:` and 64 hex digits"))
}

/// Percent-decoding, once.
fn decode(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Asked, Refusal> {
        super::parse(&Method::GET, path)
    }

    fn name(text: &str, ns: Option<&str>) -> Option<String> {
        let known = |host: &str| ["docker.io", "localhost", "quay.io"].contains(&host);
        resolve(text, ns, known).ok().map(|n| format!("{} {}", n.host, n.path))
    }

    #[test]
    fn both_forms_mean_the_upstream() {
        for (text, ns, meant) in [
            ("library/x", Some("docker.io"), "docker.io library/x"),
            ("x", Some("index.docker.io"), "docker.io library/x"),
            ("a/b", Some("quay.io"), "quay.io a/b"),
            ("a", Some("quay.io"), "quay.io a"),
            ("docker.io/library/x", None, "docker.io library/x"),
            ("registry-1.docker.io/x", None, "docker.io library/x"),
            ("quay.io/a/b", None, "quay.io a/b"),
            ("localhost/a", None, "localhost a"),
            ("localhost:5001/a", None, "localhost:5001 a"),
            ("unknown.example/a", None, "unknown.example a"),
            ("a/b", None, "docker.io a/b"),
            ("x", None, "docker.io library/x"),
            ("x", Some("DOCKER.IO"), "docker.io library/x"),
            ("x", Some("Index.Docker.io"), "docker.io library/x"),
            ("a/b", Some("Quay.IO"), "quay.io a/b"),
            ("Quay.IO/a/b", None, "quay.io a/b"),
            ("LOCALHOST:5001/a", None, "localhost:5001 a"),
        ] {
            assert_eq!(name(text, ns).as_deref(), Some(meant), "{text} {ns:?}");
        }
        assert_eq!(name("a", Some("../x")), None);
        assert_eq!(name("quay.io/..", None), None);
    }

    #[test]
    fn paths_are_read() {
        let digest = Digest::of(b"");
        assert_eq!(parse("/v2/").unwrap(), Asked::Api);
        assert_eq!(parse("/v2/a/tags/list").unwrap(), Asked::Tags("a".into()));
        let tag = Asked::Manifest("q.io:5000/a".into(), Wanted::Tag("1.0".into()));
        assert_eq!(parse("/v2/q.io:5000/a/manifests/1.0").unwrap(), tag);
        let encoded = format!("/v2/a/manifests/{}", digest.to_string().replace(':', "%3A"));
        assert_eq!(parse(&encoded).unwrap(), Asked::Manifest("a".into(), Wanted::Digest(digest)));
        assert_eq!(parse(&format!("/v2/a/b/blobs/{digest}")).unwrap(), Asked::Blob("a/b".into(), digest));
        assert_eq!(parse("/v2/a/blobs/uploads/").unwrap(), Asked::StartUpload("a".into()));
        assert_eq!(parse("/v2/a/blobs/uploads/7").unwrap(), Asked::Upload("a".into(), "7".into()));
        let referrers = format!("/v2/a/b/referrers/{digest}");
        assert_eq!(parse(&referrers).unwrap(), Asked::Referrers("a/b".into(), digest));
        // A repository may be called like a part of the API.
        assert_eq!(parse("/v2/blobs/tags/list").unwrap(), Asked::Tags("blobs".into()));
    }

    #[test]
    fn a_name_that_can_be_no_tag_is_not_found_and_not_pushed() {
        for tag in [".INVALID_MANIFEST_NAME", "-x", "a b", "%20", "", "é"] {
            let status = |method| {
                let refusal = super::parse(&method, &format!("/v2/a/manifests/{tag}")).unwrap_err();
                refusal.into_reply().status().as_u16()
            };
            assert_eq!((status(Method::GET), status(Method::HEAD), status(Method::PUT)), (404, 404, 400), "{tag}");
        }
    }

    #[test]
    fn nothing_leads_out() {
        for path in [
            "/v2/../etc/passwd",
            "/v2/%2e%2e/%2e%2e/etc/manifests/1",
            "/v2/a/../../b/manifests/1",
            "/v2/a%00b/manifests/1",
            "/v2/a//b/manifests/1",
            "/v2//manifests/1",
            "/v2/manifests/1",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%2e%2e%2fx",
            "/v2/a/manifests/sha256:zz",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/blobs/passwd",
            "/v2/A/manifests/1",
            "/v2/a/manifests/%ff",
            "/v2/a/manifests/%2",
            "/etc/passwd",
            "/",
            "",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
        assert!(parse(&format!("/v2/{}/manifests/1", "a".repeat(256))).is_err());
        assert!(parse(&format!("/v2/a/manifests/{}", "1".repeat(129))).is_err());
        assert!(parse(&format!("/v2/{}", "a/".repeat(5000))).is_err());
    }
}
