//! Labs that lack something, and labs that lack nothing.

use super::*;
use crate::base::digest::Digest;
use crate::model::lock::{LockedFile, LockedImage, LockedManifest, LockedProgram};
use crate::model::profile::parse;

const BOTH: [Platform; 2] = [Platform::LinuxAmd64, Platform::LinuxArm64];

fn profile(text: &str) -> (Profile, SourceMap) {
    let text = format!("schema = 1\nname = \"lab\"\n{text}");
    let loaded = parse("lab.toml", &text, &mut |_| Err("none".to_owned())).unwrap_or_else(|e| panic!("{e}"));
    (loaded.profile, loaded.sources)
}

/// A lock that holds all that the profile's own tables name, and labimg, for these platforms.
fn locked(profile: &Profile, platforms: &[Platform]) -> Lock {
    let digest = Digest::of(b"x");
    let manifest = || LockedManifest { media_type: String::new(), digest, size: 1 };
    let image = |reference: &crate::model::image::ImageRef| LockedImage {
        reference: reference.clone(),
        source: None,
        media_type: String::new(),
        digest,
        size: 1,
        platforms: platforms.iter().map(|p| (*p, manifest())).collect(),
    };
    let tools = profile.tool.keys().flat_map(|name| platforms.iter().map(move |p| (name, *p)));
    let nodes = profile.cluster.iter().filter_map(|c| c.node_image.as_deref());
    let own = profile.cluster.iter().filter_map(|c| c.registry.as_ref()?.image.as_deref());
    Lock {
        name: "lab".to_owned(),
        images: profile.image.iter().map(|i| &*i.reference).chain(nodes).chain(own).map(image).collect(),
        files: tools.map(|(name, platform)| tool_file(name, platform, digest)).collect(),
        carried: platforms.iter().map(|p| program(*p)).collect(),
        ..Lock::default()
    }
}

fn tool_file(name: &str, platform: Platform, digest: Digest) -> LockedFile {
    LockedFile {
        kind: FileKind::Tool,
        name: name.to_owned(),
        platform: Some(platform),
        version: Some("v1".to_owned()),
        url: "https://example.com/tool".to_owned(),
        digest,
        size: 1,
        member: None,
    }
}

fn program(platform: Platform) -> LockedProgram {
    LockedProgram { platform, version: "1.0.0".to_owned(), digest: Digest::of(b"p"), size: 1 }
}

/// Part and need of each lack of a lab whose lock holds what its profile names.
fn told(text: &str) -> Vec<(String, bool)> {
    let (profile, _) = profile(text);
    let lock = locked(&profile, &BOTH);
    lacks(&profile, &lock, None).into_iter().map(|l| (l.part, l.needed)).collect()
}

fn needed(parts: &[&str]) -> Vec<(String, bool)> {
    parts.iter().map(|p| ((*p).to_owned(), true)).collect()
}

const TOOLS: &str = "[tool.kind]\nversion = \"v0.30.0\"\nurl = \"https://example.com/{os}-{arch}\"\n\
    [tool.kubectl]\nversion = \"v1.34.0\"\nurl = \"https://example.com/k-{os}-{arch}\"\n";

fn cluster(rest: &str) -> String {
    format!("[[cluster]]\nname = \"c\"\nengine = \"kind\"\nkubernetes = \"v1.34.0\"\n{rest}\n")
}

const NODE: &str = "[[image]]\nref = \"docker.io/kindest/node:v1.34.0\"\n";

#[test]
fn a_whole_lab_lacks_nothing() {
    assert_eq!(told(&format!("{TOOLS}{NODE}{}", cluster(""))), []);
    assert_eq!(told(&format!("{TOOLS}{}", cluster("node-image = \"kindest/node:v1.34.0\""))), []);
    // Labs that nobody brings up here.
    assert_eq!(told("[[image]]\nref = \"web:1\"\n"), []);
    assert_eq!(told("[[host]]\nname = \"h\"\nreach = \"local\"\n"), []);
}

#[test]
fn each_part_is_missed_by_itself() {
    assert_eq!(told(""), needed(&["the lab"]));
    let bare = told(&cluster(""));
    let kubectl = ("tool kubectl".to_owned(), false);
    assert_eq!(bare, [("tool kind".to_owned(), true), kubectl, ("node image".to_owned(), true)]);
    let charts = "[[chart]]\nname = \"x\"\nrepo = \"https://example.com\"\nversion = \"1\"\n\
                  [[deploy]]\nname = \"d\"\nchart = \"x\"\n[[deploy]]\nname = \"i\"\nistio = { profile = \"demo\" }\n";
    let found = told(&format!("{TOOLS}{NODE}{}{charts}", cluster("")));
    assert_eq!(found, needed(&["tool helm", "tool istioctl"]));
    let engine = "[[cluster]]\nname = \"c\"\nengine = \"k3s\"\nkubernetes = \"v1.34.0\"\n";
    assert_eq!(told(engine), needed(&["engine of cluster `c`"]));
    // A cluster that is there needs nothing but the programs that work with it.
    assert_eq!(
        told("[[cluster]]\nname = \"c\"\nengine = \"existing\"\ncontext = \"x\"\n"),
        [("tool kubectl".to_owned(), false)]
    );
}

#[test]
fn the_load_balancer_is_the_one_of_kinds_version() {
    let lab = |version: &str, image: &str| {
        let tools = TOOLS.replace("v0.30.0", version);
        let image = if image.is_empty() { String::new() } else { format!("[[image]]\nref = \"{image}\"\n") };
        let (profile, _) = profile(&format!("{tools}{NODE}{image}{}", cluster("control-planes = 3")));
        lacks(&profile, &locked(&profile, &BOTH), None)
    };
    let (old, new) = ("kindest/haproxy:v20230606-42a2262b", "kindest/haproxy:v20251211-v0.29.0-alpha-100-g82a92c5d");
    assert_eq!(lab("v0.30.0", old), []);
    assert_eq!(lab("v0.31.0", new), []);
    assert_eq!(lab("v0.32.0", "envoyproxy/envoy:v1.36.2"), []);
    for (version, held) in
        [("v0.31.0", old), ("v0.30.0", new), ("v0.32.0", old), ("v0.32.0", "envoyproxy/envoy:v1.30.0")]
    {
        let found = lab(version, held);
        assert_eq!((found.len(), found[0].part.as_str(), found[0].needed), (1, BALANCER, true), "{found:?}");
        let right = balancer::image(version).unwrap();
        assert_eq!(found[0].lines, Some(format!("[[image]]\nref = \"{right}\"")));
    }
    assert!(lab("v0.31.0", old)[0].why.contains("is that of another version of kind"));
    // One that nobody here knows: whether what is held is right is not known either, and said.
    let unknown = lab("v0.40.0", old);
    assert_eq!((unknown.len(), unknown[0].needed), (1, false));
    assert!(unknown[0].why.contains("kind v0.40.0") && unknown[0].why.contains(balancer::KNOWN), "{unknown:?}");
    assert!(lab("v0.40.0", "")[0].needed);
    let one = format!("{TOOLS}{NODE}{}", cluster("control-planes = 1"));
    assert_eq!(told(&one), []);
}

#[test]
fn every_platform_of_the_nodes_counts_unless_one_is_meant() {
    let text = format!("{TOOLS}{NODE}{}", cluster("platforms = [\"linux/amd64\", \"linux/arm64\"]"));
    let (profile, _) = profile(&text);
    let lock = locked(&profile, &[Platform::LinuxAmd64]);
    let found = lacks(&profile, &lock, None);
    let parts: Vec<&str> = found.iter().map(|l| l.part.as_str()).collect();
    assert_eq!(parts, ["tool kind", "tool kubectl", "node image", "labimg itself"]);
    assert!(found.iter().all(|l| l.why.contains("for no linux/arm64")), "{found:?}");
    assert_eq!(lacks(&profile, &lock, Some(Platform::LinuxAmd64)), []);
    // Attendees at a Mac run kind there; its nodes are Linux.
    let mut mac = locked(&profile, &BOTH);
    for file in &mut mac.files {
        file.platform = file.platform.map(|p| if p == Platform::LinuxArm64 { Platform::DarwinArm64 } else { p });
    }
    assert_eq!(lacks(&profile, &mac, None), []);
}

#[test]
fn a_registry_of_ones_own_and_labimg_are_parts() {
    let text = format!("{TOOLS}{NODE}{}", cluster("registry = { name = \"r\", port = 5001, image = \"registry:3\" }"));
    let (profile, _) = profile(&text);
    let mut lock = locked(&profile, &BOTH);
    assert_eq!(lacks(&profile, &lock, None), []);
    lock.images.retain(|i| i.reference.repository != "library/registry");
    lock.carried.clear();
    let parts: Vec<String> = lacks(&profile, &lock, None).into_iter().map(|l| l.part).collect();
    assert_eq!(parts, ["registry image", "labimg itself"]);
}

/// The lines are to be pasted: with them, nothing that lines can bring lacks any more.
#[test]
fn lines_bring_what_lacks() {
    let text = cluster("control-planes = 3") + "[[deploy]]\nname = \"i\"\nistio = { profile = \"demo\" }\n";
    let (before, sources) = profile(&text);
    let found = lacks_at(&before, &locked(&before, &BOTH), &sources);
    assert_eq!(found[0].at.as_deref(), Some("lab.toml:5:10"));
    let advice = advice(&found);
    let lines = advice.strip_prefix("add to the profile:\n").unwrap();
    assert_eq!(told(&format!("{text}\n{lines}\n")), []);
}

#[test]
fn what_nobody_brings_up_is_named() {
    let text = "[[cluster]]\nname = \"a\"\nengine = \"minikube\"\nkubernetes = \"v1.34.0\"\n\
                [[cluster]]\nname = \"b\"\nengine = \"existing\"\ncontext = \"x\"\n\
                [[host]]\nname = \"laptop\"\nreach = \"local\"\ncompose = \"x/compose.yaml\"\n\
                [[host]]\nname = \"edge\"\nreach = \"docker\"\n[[host]]\nname = \"far\"\nreach = \"ssh\"\naddress = \"10.0.0.9\"\n\
                [[link]]\nfrom = \"a\"\nto = \"b\"\nservice = \"web\"\n";
    let (profile, _) = profile(text);
    let found = idle(&profile);
    let what: Vec<&str> = found.iter().map(|i| i.what.as_str()).collect();
    assert_eq!(what, ["cluster a", "host laptop", "host edge", "host far", "link from a to b (service web)"]);
    let bundle = std::path::Path::new("my lab.labimg");
    let lines = by_compose(bundle, &found, true);
    let want = [
        "labimg export 'my lab.labimg' --docker -o - | docker load",
        "labimg cat 'my lab.labimg' x/compose.yaml > compose.yaml",
        "docker compose -f compose.yaml up -d",
    ];
    assert_eq!(lines, want);
    assert_eq!(by_compose(bundle, &found[..1], true), [""; 0]);
}
