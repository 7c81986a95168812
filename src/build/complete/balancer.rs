//! The image kind starts before several control planes. No manifest names it, kind pulls it by this very name, and it moves
//! with kind's version.

use crate::model::image::ImageRef;

/// Minor number and patch of a release of kind, whose major number is 0.
type Release = (u32, u32);

/// Which releases of kind want which image, from and to, both included. Source of each: kind's
/// `pkg/cluster/internal/loadbalancer/const.go` at the tags v0.20.0 to v0.30.0, v0.31.0 and v0.32.0.
const TABLE: [(Release, Release, &str); 3] = [
    ((20, 0), (30, u32::MAX), "docker.io/kindest/haproxy:v20230606-42a2262b"),
    ((31, 0), (31, 0), "docker.io/kindest/haproxy:v20251211-v0.29.0-alpha-100-g82a92c5d"),
    ((32, 0), (32, 0), "docker.io/envoyproxy/envoy:v1.36.2"),
];

/// The versions of kind whose image is known, for people.
pub const KNOWN: &str = "v0.20 to v0.30, v0.31.0 and v0.32.0";

/// The image that kind of this version (`v0.30.0`, with or without the `v`) starts; `None` where labimg does not know.
pub fn image(version: &str) -> Option<ImageRef> {
    let mut numbers = version.trim().trim_start_matches('v').splitn(3, '.');
    let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let at: Release = (minor.parse().ok()?, patch.parse().ok()?);
    let (.., name) = TABLE.iter().find(|(from, to, _)| major == "0" && (*from..=*to).contains(&at))?;
    name.parse().ok()
}

/// Whether an image may be the one that some kind starts: its repository is that of one.
pub fn is_candidate(reference: &ImageRef) -> bool {
    let same = |name: &str| name.parse::<ImageRef>().is_ok_and(|known| known.name() == reference.name());
    TABLE.iter().any(|(.., name)| same(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_image_its_source_names() {
        let name = |version: &str| image(version).map(|i| i.to_string());
        let old = Some("docker.io/kindest/haproxy:v20230606-42a2262b".to_owned());
        for version in ["v0.20.0", "0.24.1", "v0.29.0", "v0.30.0"] {
            assert_eq!(name(version), old, "{version}");
        }
        let new = "docker.io/kindest/haproxy:v20251211-v0.29.0-alpha-100-g82a92c5d";
        assert_eq!(name("v0.31.0").as_deref(), Some(new));
        assert_eq!(name("v0.32.0").as_deref(), Some("docker.io/envoyproxy/envoy:v1.36.2"));
        for version in ["", "v0.19.0", "v0.31.1", "v0.33.0", "v1.30.0", "v0.30", "v0.30.0-alpha", "latest"] {
            assert_eq!(name(version), None, "{version}");
        }
    }

    #[test]
    fn candidates_are_told_by_their_repository() {
        let is = |text: &str| is_candidate(&text.parse().unwrap());
        assert!(is("kindest/haproxy:v1") && is("envoyproxy/envoy:v1.36.2"));
        assert!(!is("haproxy:2") && !is("quay.io/kindest/haproxy:v1"));
    }
}
