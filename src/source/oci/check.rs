//! What a manifest must be for labimg to use it.

use crate::base::bounded;
use crate::source::SourceError;
use crate::store::image::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST};

/// An index or a manifest.
pub enum Document {
    /// An index or manifest list.
    Index(Index),
    /// The manifest of one image.
    Manifest(Manifest),
}

/// Parses what a registry gave for `what` as `content_type`; gives its media type too.
///
/// # Errors
/// Schema 1, another kind of artifact, and foreign layers, each with the reason.
pub fn parse(bytes: &[u8], content_type: &str, what: &str) -> Result<(Document, String), SourceError> {
    let answer =
        |e: serde_json::Error| SourceError::Answer { url: what.to_owned(), what: "image manifest", why: e.to_string() };
    let json: serde_json::Value = bounded::from_json(bytes).map_err(answer)?;
    let media_type = media_type(&json, content_type);
    match media_type.as_str() {
        OCI_INDEX | DOCKER_LIST => {
            let index: Index = serde_json::from_value(json).map_err(answer)?;
            index.manifests.iter().try_for_each(|manifest| possible_size(manifest, what))?;
            Ok((Document::Index(index), media_type))
        }
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let manifest: Manifest = serde_json::from_value(json).map_err(answer)?;
            manifest.layers.iter().try_for_each(|layer| no_foreign(layer, what))?;
            std::iter::once(&manifest.config).chain(&manifest.layers).try_for_each(|blob| possible_size(blob, what))?;
            Ok((Document::Manifest(manifest), media_type))
        }
        other if other.contains("manifest.v1+") => Err(SourceError::Unsupported {
            what: format!("schema 1 of `{what}`"),
            why: "it has no digests worth pinning; push the image again with a current tool".to_owned(),
        }),
        other => Err(SourceError::Unsupported {
            what: format!("media type `{other}` of `{what}`"),
            why: "it is no image manifest or index".to_owned(),
        }),
    }
}

/// What the document says of itself, else what the header says, else what it looks like.
fn media_type(json: &serde_json::Value, content_type: &str) -> String {
    let own = json.get("mediaType").and_then(serde_json::Value::as_str);
    let header = content_type.split(';').next().unwrap_or_default().trim();
    let known = |text: &&str| matches!(*text, OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST);
    if json.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return "application/vnd.docker.distribution.manifest.v1+json".to_owned();
    }
    let shape = match (json.get("manifests"), json.get("layers")) {
        (Some(_), _) => OCI_INDEX,
        (None, Some(_)) => OCI_MANIFEST,
        (None, None) => header,
    };
    own.or(Some(header).filter(known)).unwrap_or(shape).to_owned()
}

/// A descriptor's size is an int64 (image-spec, "Descriptor"); with more, sums of sizes would mean nothing.
fn possible_size(descriptor: &Descriptor, what: &str) -> Result<(), SourceError> {
    if i64::try_from(descriptor.size).is_ok() {
        return Ok(());
    }
    let why = format!("{} can not have {} bytes", descriptor.digest, descriptor.size);
    Err(SourceError::Answer { url: what.to_owned(), what: "image manifest", why })
}

fn no_foreign(layer: &Descriptor, what: &str) -> Result<(), SourceError> {
    let kind = &layer.media_type;
    if layer.urls.is_empty() && !kind.contains(".foreign.") && !kind.contains("nondistributable") {
        return Ok(());
    }
    Err(SourceError::Unsupported {
        what: format!("foreign layer {} of `{what}`", layer.digest),
        why: "its licence keeps it out of registries, and so out of bundles".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, content_type: &str) -> String {
        parse(text.as_bytes(), content_type, "x").err().unwrap().to_string()
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_a_reason() {
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(refused(old, "application/vnd.docker.distribution.manifest.v1+prettyjws").contains("schema 1"));
        let digest = crate::base::digest::Digest::of(b"");
        let layer = |kind: &str, more: &str| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":1}},
                "layers":[{{"mediaType":"{kind}","digest":"{digest}","size":1{more}}}]}}"#
            )
        };
        let foreign = layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "");
        assert!(refused(&foreign, OCI_MANIFEST).contains("foreign layer"));
        let elsewhere = layer("application/vnd.oci.image.layer.v1.tar+gzip", r#","urls":["https://x"]"#);
        assert!(refused(&elsewhere, OCI_MANIFEST).contains("foreign layer"));
        assert!(refused("{}", "text/html").contains("text/html"));
        assert!(refused("<html>", "text/html").contains("no image manifest"));
        let huge = layer("l", "").replace(r#""size":1}]"#, r#""size":9223372036854775808}]"#);
        assert!(refused(&huge, OCI_MANIFEST).contains("can not have 9223372036854775808 bytes"));
        let huge = format!(r#"{{"manifests":[{{"mediaType":"m","digest":"{digest}","size":18446744073709551615}}]}}"#);
        assert!(refused(&huge, OCI_INDEX).contains("can not have"));
        assert!(parse(layer("l", "").as_bytes(), "application/json", "x").is_ok());
    }
}
