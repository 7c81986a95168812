//! What a manifest must be for labimg to use it.

use crate::base::bounded;
use crate::model::image::ImageRef;
use crate::source::SourceError;
use crate::store::image::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST};

/// Docker's manifests before schema 2, plain and signed (distribution, "Image Manifest Version 2, Schema 1").
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_SCHEMA_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// The artifact manifest that image-spec had until 1.1 was released.
const ARTIFACT_MANIFEST: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// The configuration of an artifact that needs none (image-spec, "Guidance for an Empty Descriptor").
const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Media types of an image's configuration: OCI's, and Docker's.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

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
            Ok((Document::Index(index), media_type))
        }
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let artifact = artifact_type(&json);
            let manifest: Manifest = serde_json::from_value(json).map_err(|error| match &artifact {
                // An artifact need have nothing that an image has.
                Some(kind) => artifact_error(kind, what),
                None => answer(error),
            })?;
            manifest.layers.iter().try_for_each(|layer| no_foreign(layer, what))?;
            std::iter::once(&manifest.config).chain(&manifest.layers).try_for_each(|blob| possible_size(blob, what))?;
            Ok((Document::Manifest(manifest), media_type))
        }
        DOCKER_SCHEMA_1 | DOCKER_SCHEMA_1_SIGNED => Err(SourceError::Unsupported {
            what: format!("schema 1 of `{what}`"),
            why: "it has no digests worth pinning; push the image again with a current tool".to_owned(),
        }),
        ARTIFACT_MANIFEST => Err(artifact_error(artifact_type(&json).as_deref().unwrap_or(ARTIFACT_MANIFEST), what)),
        other => Err(SourceError::Unsupported {
            what: format!("media type `{other}` of `{what}`"),
            why: "it is no image manifest or index".to_owned(),
        }),
    }
}

/// What the document says of itself, else what the header says, else what it looks like.
fn media_type(json: &serde_json::Value, content_type: &str) -> String {
    let own = json.get("mediaType").and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    let header = content_type.split(';').next().unwrap_or_default().trim();
    let known = |text: &&str| matches!(*text, OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST);
    if json.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return DOCKER_SCHEMA_1.to_owned();
    }
    let has = |name: &str| json.get(name).is_some_and(|value| !value.is_null());
    let shape = match (has("manifests"), has("layers") || has("config")) {
        (true, _) => OCI_INDEX,
        (false, true) => OCI_MANIFEST,
        (false, false) => header,
    };
    own.or(Some(header).filter(known)).unwrap_or(shape).to_owned()
}

/// What kind of artifact a manifest says it is, where it is none of an image (image-spec, "Guidelines for Artifact Usage").
fn artifact_type(json: &serde_json::Value) -> Option<String> {
    let text = |at: &str| json.pointer(at).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    text("/artifactType").map(str::to_owned)
}

/// What is said of a manifest whose configuration is none of an image.
pub fn no_image(manifest: &Manifest, reference: &ImageRef) -> SourceError {
    let kind = match manifest.config.media_type.as_str() {
        "" | OCI_EMPTY => manifest.layers.first().map_or(OCI_EMPTY, |layer| &layer.media_type),
        kind if IMAGE_CONFIGS.contains(&kind) => {
            return SourceError::Unsupported {
                what: format!("configuration `{kind}` of `{reference}`"),
                why: "it states no platform, so nobody can tell what the image runs on".to_owned(),
            };
        }
        kind => kind,
    };
    artifact_error(
        manifest.artifact_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(kind),
        &reference.to_string(),
    )
}

/// An artifact where a container image is wanted, with what to write instead.
fn artifact_error(kind: &str, what: &str) -> SourceError {
    let instead = match kind.starts_with("application/vnd.cncf.helm.") {
        true => "a Helm chart goes into [[chart]], with `repo = \"oci://…\"` and its name and version",
        false => {
            "[[image]] takes container images. A file that a plain URL serves goes into [[file]]; where the registry lets \
             everybody read, the URL of the artifact's blob is one: `https://HOST/v2/NAME/blobs/sha256:…`"
        }
    };
    SourceError::Unsupported { what: format!("`{what}`, an artifact of type `{kind}`,"), why: instead.to_owned() }
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
        assert!(parse(layer("l", "").as_bytes(), "application/json", "x").is_ok());
    }
}
