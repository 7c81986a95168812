//! One bundle whose every byte is known. When a value here moves, bundles of all earlier labimgs stop being reproducible:
//! that takes a new format number, or it is a mistake.

use labimg::base::digest::Digest;

use crate::support::{Upstream, World};

/// The digest of the whole file.
const BYTES: &str = "sha256:cdaa3ec8a101bf0e9a6238f23a2909a191f7db9f405a20475fd4ef70705dbd7d";
/// The digest of its index, as `labimg inspect` gives it.
const IDENTITY: &str = "sha256:9c496f1349723472c24df9a7ec3b9b0f61ba6e14e00d0b3393b604189094f746";
/// The digest of the lock.
const LOCK: &str = "sha256:2b9d2e4944bed608417dadd0c65544c99cfbdc9a15ab2d6c94d4414c8c598b2d";

/// Nothing compressed is in it: a compressor may give other bytes in its next version.
const PROFILE: &str = r#"schema = 1
name = "golden"
summary = "Fixed to the last byte"

[[image]]
ref = "web:1"
platforms = ["linux/arm64", "linux/amd64"]

[[image]]
ref = "quay.io/team/db:2"

[[file]]
name = "data"
url = "https://dl.example.org/data.txt"

[[manifest]]
name = "objects"
path = "objects.yaml"
"#;

fn golden() -> (Upstream, World) {
    let upstream = Upstream::lab();
    let world = World::with(&upstream);
    world.write("golden.toml", PROFILE);
    world.write("objects.yaml", "kind: Namespace\n");
    (upstream, world)
}

#[test]
fn the_bytes_of_a_bundle_are_fixed() {
    let (_upstream, world) = golden();
    world.run(&["build", "golden.toml"]).ends(0);
    let inspected = world.run(&["inspect", "--verify", "--json", "golden.labimg"]).ends(0);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.out).unwrap();
    let lock = Digest::of(&world.read("golden.lock")).to_string();
    let bytes = Digest::of(&world.read("golden.labimg")).to_string();
    let found = [lock.as_str(), inspected["identity"].as_str().unwrap(), bytes.as_str()];
    assert_eq!(found, [LOCK, IDENTITY, BYTES]);
}

#[test]
fn a_different_machine_gives_the_same_bytes() {
    let (_upstream, world) = golden();
    world.run(&["build", "golden.toml"]).ends(0);
    let (_other, elsewhere) = golden();
    let script = "umask 077; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    elsewhere.hermetic(&mut command).args(["-c", script, "sh", env!("CARGO_BIN_EXE_labimg"), "build", "-j", "1"]);
    command.args(["-o", "deep/down", "golden.toml"]).env("TZ", "Pacific/Kiritimati").env("LC_ALL", "tr_TR.UTF-8");
    elsewhere.seen(&command.output().unwrap()).ends(0);
    assert_eq!(elsewhere.text("golden.lock"), world.text("golden.lock"));
    assert!(elsewhere.read("deep/down/golden.labimg") == world.read("golden.labimg"));
}

#[test]
fn exports_are_fixed_as_well() {
    let (_upstream, world) = golden();
    world.run(&["build", "golden.toml"]).ends(0);
    for format in ["--oci", "--docker"] {
        let args = ["export", format, "--platform", "linux/amd64", "golden.labimg", "-o"];
        world.run(&[&args[..], &["one.tar"]].concat()).ends(0);
        let streamed = world.command(&[&args[..], &["-"]].concat()).output().unwrap();
        assert!(streamed.status.success() && streamed.stdout == world.read("one.tar"), "{format}");
    }
}
