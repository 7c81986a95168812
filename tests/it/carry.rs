//! Bundles carry labimg itself: what a lock pins, what the bundle and its image hold, and where the program comes from.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::world::NOT_CARRIED;
use crate::support::{Upstream, World};

/// A static program of `machine` (ELF's number) that says it is labimg of `version`.
fn program(machine: u8, version: &str) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (bytes[18], bytes[32], bytes[54], bytes[56], bytes[64]) = (machine, 64, 56, 1, 1);
    bytes.extend(format!("labimg-is-version:{version}\n").bytes());
    bytes
}

const AMD64: u8 = 62;
const ARM64: u8 = 183;

fn world() -> World {
    let world = World::new();
    let objects = "[[manifest]]\nname = \"m\"\ntext = \"kind: Namespace\"\n";
    world.write("carry.toml", format!("schema = 1\nname = \"carry\"\n{objects}"));
    world.write("amd64", program(AMD64, "1.2.3"));
    world.write("arm64", program(ARM64, "1.2.3"));
    world
}

#[test]
fn a_dynamic_program_is_not_carried_and_one_note_says_so() {
    let world = world();
    let said = String::from_utf8(world.command(&["lock", "carry.toml"]).output().unwrap().stderr).unwrap();
    let (note, rest) = said.split_once('\n').unwrap();
    assert!(
        note.starts_with(NOT_CARRIED) && note.contains(": this program is not static (static ones: cargo "),
        "{said}"
    );
    assert_eq!(rest, "locked 0 inputs in carry.lock\n");
    assert!(!world.text("carry.lock").contains("labimg\n") && world.text("carry.lock").contains("revision = 0"));
    assert_eq!(world.run(&["lock", "carry.toml"]).ends(0).err, "carry.lock is up to date (0 inputs)\n");
}

#[test]
fn what_is_carried_is_a_tool_and_an_image_of_the_bundle() {
    let world = world();
    let carry = ["--carry", "amd64", "--carry", "arm64"];
    world.run(&[&["lock", "carry.toml"], &carry[..]].concat()).ends(0);
    let lock = world.text("carry.lock");
    assert!(lock.contains("revision = 2\n") && lock.matches("[[labimg]]").count() == 2, "{lock}");
    let run = world.run(&["build", "carry.toml", "--check"]).ends(0);
    let listed = world.run(&["ls", "carry.labimg", "--json", "--all"]).ends(0).out;
    assert!(listed.contains("labimg.lab/labimg:1.2.3") && listed.contains("linux/arm64"), "{listed}");
    assert!(listed.contains("\"labimg\""), "{listed}");
    let args = ["export", "carry.labimg", "--oci", "--platform", "linux/arm64", "-o", "out.tar"];
    world.run(&args).ends(1).says(&["no images here but labimg's own (`--image labimg.lab/labimg:1.2.3` exports it)"]);
    for name in ["labimg.lab/labimg:1.2.3", "labimg.lab/labimg"] {
        world.run(&[&args[..], &["--image", name]].concat()).ends(0).says(&["exported 1 image for linux/arm64"]);
    }
    let again = world.run(&["build", "carry.toml"]).ends(0);
    assert_eq!(
        (run.out, again.err.contains("4 steps, all there")),
        ("./carry.labimg\n".to_owned(), again.err.contains("4 steps, all there"))
    );
    // Kept from the collector, found again in a new store only where it is given.
    world.run(&["store", "gc", "--grace", "0s"]).ends(0);
    world.run(&["build", "carry.toml"]).ends(0);
    let first = world.read("carry.labimg");
    world.empty_store();
    let lost = world.run(&["build", "carry.toml"]).ends(1);
    lost.says(&[
        "the lock carries labimg 1.2.3 for linux/amd64 (sha256:",
        "--carry FILE",
        "labimg lock carry.toml --update labimg",
    ]);
    world.run(&[&["build", "carry.toml"], &carry[..]].concat()).ends(0);
    assert_eq!(world.read("carry.labimg"), first);
}

#[test]
fn a_lock_holds_still_until_it_is_told_to_move() {
    let world = world();
    world.run(&["lock", "carry.toml", "--carry", "amd64"]).ends(0);
    let before = world.text("carry.lock");
    world.run(&["lock", "carry.toml"]).ends(0).says(&["up to date"]);
    world.run(&["lock", "carry.toml", "--check"]).ends(0);
    world
        .run(&["lock", "carry.toml", "--update", "labimg"])
        .ends(0)
        .says(&["does not move: this program is not static"]);
    assert_eq!(world.text("carry.lock"), before);
    world.write("arm64", program(ARM64, "1.2.4"));
    let run = world.run(&["lock", "carry.toml", "--carry", "arm64"]).ends(0);
    run.says(&["labimg 1.2.3 for linux/amd64 is no longer carried"]);
    assert!(world.text("carry.lock").contains("version = \"1.2.4\""));
}

#[test]
fn what_can_not_be_carried_is_told() {
    let world = world();
    world.write("other", program(3, "1.0.0"));
    world.write("script", "#!/bin/sh\n");
    world.write("nobody", program(AMD64, "../x"));
    world.write("newer", program(ARM64, "1.3.0"));
    for (file, why) in [
        ("other", "a program for linux/386, not"),
        ("script", "is a script, not"),
        ("nobody", "is no labimg that says its version"),
        ("none", "can not be read"),
        (".", "is no regular file"),
        ("/bin/ls", "is not static"),
    ] {
        world.run(&["lock", "carry.toml", "--carry", file]).ends(1).says(&["can not be carried: it ", why]);
    }
    let run = world.run(&["lock", "carry.toml", "--carry", "amd64", "--carry", "newer"]).ends(1);
    run.says(&["one lock carries one version"]);
    assert!(!world.path("carry.lock").exists());
}

#[test]
fn a_lock_that_contradicts_itself_is_refused() {
    let world = world();
    world.run(&["lock", "carry.toml", "--carry", "amd64", "--carry", "arm64"]).ends(0);
    world.edit("carry.lock", "version = \"1.2.3\"", "version = \"1.2.2\"");
    world.run(&["fetch", "carry.toml"]).ends(1).says(&["one lock has one version"]);
}

/// labimg's own image is none of the lab's: it is there for mirrors, and nobody else meets it unasked.
#[test]
fn labimg_is_none_of_the_labs_images() {
    let upstream = Upstream::empty();
    upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &["base"]);
    let world = World::with(&upstream);
    world.write("amd64", program(AMD64, "1.2.3"));
    let image = "[[image]]\nref = \"web:1\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    world.write("shop.toml", format!("schema = 1\nname = \"shop\"\n{image}"));
    world.run(&["build", "shop.toml", "--carry", "amd64"]).ends(0);
    let json = |args: &[&str]| serde_json::from_str::<Value>(&world.run(args).ends(0).out).unwrap();
    // It was carried for one platform only, which is nothing to the lab's own image.
    for platform in ["linux/amd64", "linux/arm64"] {
        let args = ["export", "shop.labimg", "--docker", "--platform", platform, "-o", "out.tar", "--json"];
        assert_eq!(json(&args)["images"], serde_json::json!(["docker.io/library/web:1"]), "{platform}");
    }
    let images = |found: &Value| found.as_array().unwrap().iter().filter(|e| e["kind"] == "image").count();
    assert_eq!(images(&json(&["ls", "shop.labimg", "--json"])), 2);
    let size = json(&["size", "shop.labimg", "--json"]);
    assert_eq!(images(&size["items"]), 1);
    let own: u64 = size["items"].as_array().unwrap().iter().map(|i| i["own"].as_u64().unwrap()).sum();
    let sum = own + size["shared"].as_u64().unwrap() + size["overhead"].as_u64().unwrap();
    assert_eq!(Some(sum), size["total"].as_u64(), "its bytes are told all the same");
    let inspect = json(&["inspect", "shop.labimg", "--json"]);
    assert_eq!(inspect["contents"]["images"].as_array().unwrap().len(), 1);
    assert_eq!(inspect["labimg"], "labimg.lab/labimg:1.2.3");
    let mut command = world.command(&["serve", "shop.labimg", "--listen", "127.0.0.1:0"]);
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(line.contains(" serves 1 image of shop.labimg"), "{line}");
}
