//! Lines an author can paste into a profile for what it lacks. Versions and addresses are those of `profiles/modules/kind.toml` and
//! `profiles/modules/istio.toml`, whose comments name the sources.

use crate::model::image::ImageRef;

/// The version of kind in those lines.
pub(super) const KIND: &str = "v0.30.0";

/// The table of a tool; `kubernetes` is the version of the cluster that it is for. `None` for a tool labimg does not know.
pub(super) fn tool(name: &str, kubernetes: Option<&str>) -> Option<String> {
    let (version, url, member) = match name {
        "kind" => (KIND, "https://github.com/kubernetes-sigs/kind/releases/download/{version}/kind-{os}-{arch}", None),
        "kubectl" => {
            (kubernetes.unwrap_or("v1.34.0"), "https://dl.k8s.io/release/{version}/bin/{os}/{arch}/kubectl", None)
        }
        "helm" => ("v3.19.0", "https://get.helm.sh/helm-{version}-{os}-{arch}.tar.gz", Some("{os}-{arch}/helm")),
        "istioctl" => (
            "1.28.0",
            "https://github.com/istio/istio/releases/download/{version}/istioctl-{version}-{os}-{arch}.tar.gz",
            Some("istioctl"),
        ),
        _ => return None,
    };
    let member = member.map(|m| format!("\nmember = \"{m}\"")).unwrap_or_default();
    Some(format!("[tool.{name}]\nversion = \"{version}\"\nurl = \"{url}\"{member}"))
}

/// The table of an image.
pub(super) fn image(reference: &ImageRef) -> String {
    format!("[[image]]\nref = \"{reference}\"")
}
