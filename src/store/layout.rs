//! The files of an OCI image layout (image-spec, "Image Layout") that labimg writes: for roots, bundles and exports.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::digest::Digest;
use crate::model::platform::Platform;
use crate::store::image::OCI_INDEX;

/// The content of `oci-layout` (image-spec, "oci-layout file").
pub const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}\n";

/// A descriptor of an OCI index (image-spec, "Content Descriptors"); keys in alphabetical order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciDescriptor {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    digest: Digest,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<OciPlatform>,
    size: u64,
}

#[derive(Debug, Clone, Serialize)]
struct OciPlatform {
    architecture: &'static str,
    os: &'static str,
}

impl OciDescriptor {
    /// A descriptor without name and platform.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { annotations: BTreeMap::new(), digest, media_type: media_type.to_owned(), platform: None, size }
    }

    /// The names skopeo (`ref.name`) and containerd (`io.containerd.image.name`) look for; both want the full form.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        for key in ["io.containerd.image.name", "org.opencontainers.image.ref.name"] {
            self.annotations.insert(key, name.to_owned());
        }
        self
    }

    /// For one platform.
    #[must_use]
    pub fn of(mut self, platform: Platform) -> Self {
        self.platform = Some(OciPlatform { architecture: platform.arch(), os: platform.os() });
        self
    }
}

/// An OCI image index (image-spec, "Image Index") of these manifests.
pub fn oci_index(manifests: Vec<OciDescriptor>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OciIndex {
        manifests: Vec<OciDescriptor>,
        media_type: &'static str,
        schema_version: u32,
    }
    // String keys, numbers and texts: nothing here can fail to serialise.
    let mut text =
        serde_json::to_vec(&OciIndex { manifests, media_type: OCI_INDEX, schema_version: 2 }).unwrap_or_default();
    text.push(b'\n');
    text
}
