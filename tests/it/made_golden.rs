//! An image made from packages, a wheel and files whose every byte is known. When a value here moves, images of all earlier
//! labimgs stop being reproducible: that takes a new version of the builder that moved, or it is a mistake.

use std::process::Command;

use labimg::base::digest::Digest;

use crate::support::makings::deb::Pack;
use crate::support::{Makings, makings::BOTH};

/// Layers of each platform: essential packages, packages, wheels, users and files; then the manifest.
const AMD64: [&str; 5] = ["", "", "", "", ""];
const ARM64: [&str; 5] = ["", "", "", "", ""];
/// The image's index, and the bundle's.
const INDEX: &str = "";
const IDENTITY: &str = "";
/// The whole bundle.
const BYTES: &str = "";

/// A key is made anew by each test, and its signatures have a time: neither may shape what is compared.
fn fixed(made: &Makings) {
    made.run(&["lock", "made.toml"]).ends(0);
    made.world.write("keys/archive.gpg", "any");
    made.run(&["lock", "--offline", "made.toml"]).ends(0);
    let lock = made.world.text("made.lock");
    let suite = lock.split("[[suite]]").nth(1).unwrap();
    let digest = suite.split("sha256 = ").nth(1).unwrap().lines().next().unwrap();
    made.world.edit("made.lock", digest, &format!("\"sha256:{}\"", "ab".repeat(32)));
}

/// Packages as compressed as `pack` says.
fn packed(pack: Option<Pack>) -> Makings {
    let mut made = Makings::new();
    if let Some(pack) = pack {
        made.debs.values_mut().for_each(|deb| deb.pack = pack);
        made.serve();
    }
    fixed(&made);
    made
}

fn found(made: &Makings, architecture: &str) -> Vec<String> {
    let mut all = made.layers(architecture);
    all.push(made.manifest(architecture));
    all
}

#[test]
fn the_bytes_of_an_image_are_fixed() {
    // Nothing compressed but the wheels: a compressor of packages may give other bytes in its next version.
    let made = packed(Some(Pack::Plain));
    made.build().ends(0);
    let bundle = made.run(&["inspect", "--verify", "--json", "made.labimg"]).ends(0);
    let bundle: serde_json::Value = serde_json::from_str(&bundle.out).unwrap();
    let index = Digest::of(made.run(&["cat", "made.labimg", "made.lab/app:1"]).ends(0).out.as_bytes()).to_string();
    let bytes = Digest::of(&made.world.read("made.labimg")).to_string();
    let rest = [index.as_str(), bundle["identity"].as_str().unwrap(), bytes.as_str()];
    let [amd64, arm64] = BOTH.map(|architecture| found(&made, architecture));
    assert_eq!((amd64, arm64, rest), (AMD64.map(str::to_owned).into(), ARM64.map(str::to_owned).into(), [INDEX, IDENTITY, BYTES]));
}

#[test]
fn how_packages_are_compressed_shapes_nothing() {
    let made = packed(None);
    made.build().ends(0);
    assert_eq!([found(&made, "amd64"), found(&made, "arm64")], [AMD64, ARM64].map(|all| all.map(str::to_owned).to_vec()));
}

#[test]
fn a_different_machine_makes_the_same_image() {
    let made = packed(Some(Pack::Plain));
    let mut command = Command::new("sh");
    let script = "umask 077; mkdir deep; cp -r app keys made.* deep; cd deep; exec \"$@\"";
    made.world.hermetic(&mut command).args(["-c", script, "sh", env!("CARGO_BIN_EXE_labimg")]);
    command.args(["build", "--check", "--cores", "1", "--jobs", "1", "--store", "../other/store", "-o", "out", "made.toml"]);
    command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "tr_TR.UTF-8");
    made.world.seen(&command.output().unwrap()).ends(0).says(&["made 10 of 10 steps"]);
    assert_eq!(Digest::of(&made.world.read("deep/out/made.labimg")).to_string(), BYTES);
}
