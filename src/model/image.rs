//! Image references in their full form (distribution/reference grammar; short names as Docker expands them).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;

/// An image's name: registry, repository, and a tag or a digest or both. `registry:3` is `docker.io/library/registry:3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Registry host with its port where one is given: `docker.io`, `127.0.0.1:5000`. Never `index.docker.io`.
    pub registry: String,
    /// Repository path below the registry: `library/registry`.
    pub repository: String,
    /// Tag; `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// Digest the author pinned.
    pub digest: Option<Digest>,
}

/// A text that is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {why}")]
pub struct ImageRefError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl ImageRef {
    /// The repository with its registry: `docker.io/library/registry`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What to ask the registry for: the digest where there is one, else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The name importers file the image under: without the digest, where there is a tag.
    pub fn tagged(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.name()),
            None => self.to_string(),
        }
    }

    /// The same image by another digest, tag kept.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let bad = |why: &str| ImageRefError { text: text.to_owned(), why: why.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| bad(&e.to_string()))?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(bad("a tag is 1 to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`"));
        }
        let (registry, repository) = split_registry(name);
        if !is_host(&registry) {
            return Err(bad("the part before the first `/` is not a registry host"));
        }
        if !is_repository(&repository) {
            return Err(bad("a repository is lower-case letters and digits, joined by `.`, `_`, `-` and `/`"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// Whether `text` is a repository's path below its registry.
pub fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

/// Splits `name` as Docker does: the first part is a host when it has a dot, a colon, is `localhost` or has upper case.
fn split_registry(name: &str) -> (String, String) {
    let (first, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", name),
    };
    let registry = match first {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io",
        other => other,
    };
    match registry {
        "docker.io" if !rest.contains('/') => (registry.to_owned(), format!("library/{rest}")),
        _ => (registry.to_owned(), rest.to_owned()),
    }
}

/// Whether `text` is a registry host, with a port or without.
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host_ok = !host.is_empty()
        && !host.starts_with(['-', '.'])
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.[]:".contains(c));
    host_ok && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

/// Whether `text` is a tag.
pub fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_component(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(inner) && text.ends_with(inner) && text.chars().all(|c| inner(c) || "._-".contains(c))
}

impl Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ImageRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageRef".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "examples": ["docker.io/jaegertracing/all-in-one:1.62.0"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_grow_as_docker_does_it() {
        for (short, full) in [
            ("registry:3", "docker.io/library/registry:3"),
            ("nginx", "docker.io/library/nginx:latest"),
            ("grafana/grafana:9.0.1", "docker.io/grafana/grafana:9.0.1"),
            ("index.docker.io/library/x:1", "docker.io/library/x:1"),
            ("localhost/x:1", "localhost/x:1"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            ("quay.io/kiali/kiali", "quay.io/kiali/kiali:latest"),
        ] {
            assert_eq!(short.parse::<ImageRef>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn digests_stay() {
        let text = format!("docker.io/library/x:1@{}", Digest::of(b""));
        assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        let untagged = format!("quay.io/x/y@{}", Digest::of(b""));
        assert_eq!(untagged.parse::<ImageRef>().unwrap().tagged(), untagged);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "Upper/case", "a//b", "x:", "x:.t", "-h.io/x", "h.io:99999/x", "x@sha256:12", "../x", "a b"] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}
