//! An image made from packages, a wheel and files whose every byte is known. When a value here moves, images of all earlier
//! labimgs stop being reproducible: that takes a new version of the builder that moved, or it is a mistake.

use std::process::Command;

use labimg::base::digest::Digest;

use crate::support::makings::deb::Pack;
use crate::support::{Makings, makings::BOTH};

/// Layers of each platform: essential packages, packages, wheels, users and files; then the manifest.
const AMD64: [&str; 5] = [
    "sha256:09d1e50c4155654e8dae81b8bcfa881c5242cc1a921b44f93c2dc86b04a5d710",
    "sha256:0e17d6dcd9487e732f37cf2e5c57d62c54d541df0f2a15c387c1eacf1a9f65ee",
    "sha256:783cd68a233d5e0261c0934a13584108a8fdb19c3d0cf682f83f72fe743e0379",
    "sha256:326cdb1f2d20d4bf1e4e259bf8d42ae69915db4fc728b05ce64cb091a26c5ba0",
    "sha256:969c5c375190b3bacfa8787d66edb3818f9ddc77a36b91423b0a1bb4d85d17e5",
];
const ARM64: [&str; 5] = [
    "sha256:ac8aa369005f991890702443b1da83501b35a9c8f32efff37bb128203c1bf130",
    "sha256:fcf404b587953d46d917c6e5c221062592aba10cf1e1c087b64880862fd193fe",
    "sha256:783cd68a233d5e0261c0934a13584108a8fdb19c3d0cf682f83f72fe743e0379",
    "sha256:326cdb1f2d20d4bf1e4e259bf8d42ae69915db4fc728b05ce64cb091a26c5ba0",
    "sha256:ee71949685989a1f0bc8eb5fa6fd623ec465bf7237cc72be2e872eaa699b5b42",
];
/// The image's index, and the bundle's.
const INDEX: &str = "sha256:56d54c0d4d00a59ab554a2917917c52ec5850f13b16372769095720fc4781081";
const IDENTITY: &str = "sha256:339e55e34b5efa8fe79c947a82b3208be1f982eb7f58561b1e5aad1f3e700144";
/// The whole bundle.
const BYTES: &str = "sha256:91753d5e67ef7f851eda09f7e7911c53af57f5f4f287c3314a8e4f9322e0a1af";

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
    assert_eq!(
        (amd64, arm64, rest),
        (AMD64.map(str::to_owned).into(), ARM64.map(str::to_owned).into(), [INDEX, IDENTITY, BYTES])
    );
}

#[test]
fn how_packages_are_compressed_shapes_nothing() {
    let made = packed(None);
    made.build().ends(0);
    assert_eq!(
        [found(&made, "amd64"), found(&made, "arm64")],
        [AMD64, ARM64].map(|all| all.map(str::to_owned).to_vec())
    );
}

#[test]
fn a_different_machine_makes_the_same_image() {
    let made = packed(Some(Pack::Plain));
    let mut command = Command::new("sh");
    let script = "umask 077; mkdir deep; cp -r app keys made.* deep; cd deep; exec \"$@\"";
    made.world.hermetic(&mut command).args(["-c", script, "sh", env!("CARGO_BIN_EXE_labimg")]);
    command.args([
        "build",
        "--check",
        "--cores",
        "1",
        "--jobs",
        "1",
        "--store",
        "../other/store",
        "-o",
        "out",
        "made.toml",
    ]);
    command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "tr_TR.UTF-8");
    made.world.seen(&command.output().unwrap()).ends(0).says(&["made 10 of 10 steps"]);
    assert_eq!(Digest::of(&made.world.read("deep/out/made.labimg")).to_string(), BYTES);
}
