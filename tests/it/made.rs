//! The ordinary life of a lab that makes an image: what changes, what stays, and what labimg says of it.

use serde_json::Value;

use crate::support::makings::{app, lib};
use crate::support::{Makings, makings::BOTH};

#[test]
fn an_edited_application_makes_one_layer_anew() {
    let made = Makings::new();
    made.build().ends(0);
    let (before, hits) = (made.layers("arm64"), made.upstream.hits());
    assert_eq!(made.steps(), (0, 10), "nothing changed");
    made.build().ends(0).says(&["unchanged ./made.labimg"]);

    made.world.write("app/app.py", "#!/usr/bin/env sh\nprint('two')\n");
    let stale = made.build().ends(3);
    stale.says(&["local app/app.py: ", "hint: labimg lock made.toml\n"]);
    let lock = made.run(&["lock", "--offline", "made.toml"]).ends(0);
    assert!(lock.out.starts_with("~ local app/app.py\n  - sha256:"), "{}", lock.out);
    assert_eq!(lock.err, "made.lock: 1 input moved\n");
    assert_eq!(made.steps(), (4, 10), "files and manifest of each platform");
    let after = made.layers("arm64");
    assert_eq!((after.len(), &after[..3]), (4, &before[..3]));
    assert_ne!(after[3], before[3]);
    assert_eq!(made.upstream.hits(), hits, "the network is not needed for that");
    assert_eq!(made.leftovers(), [""; 0]);
}

#[test]
fn a_lock_moves_when_told_and_only_what_is_told() {
    let mut made = Makings::small();
    made.run(&["lock", "made.toml"]).ends(0);
    let (old, text, hits) = (made.world.age("made.lock"), made.world.text("made.lock"), made.upstream.hits());
    for arch in BOTH {
        made.add(lib(arch, "1.1"));
    }
    made.serve();
    for args in [&["lock", "made.toml"][..], &["lock", "--check", "made.toml"], &["lock", "--offline", "made.toml"]] {
        made.run(args).ends(0).says(&["made.lock is up to date"]);
    }
    assert_eq!((made.world.modified("made.lock"), made.upstream.hits()), (old, hits), "a lock holds still");

    let image = made.run(&["lock", "made.toml", "--update", "made.lab/app:1"]).ends(1);
    assert_eq!(
        image.err,
        "error: `made.lab/app:1` is made here: only what it is made of can move\nhint: labimg lock made.toml --update bookworm\n"
    );
    let unknown = made.run(&["lock", "made.toml", "--update", "lib"]).ends(1);
    assert_eq!(
        unknown.err,
        "error: packages move together: `lib` is one of [debian.bookworm]\nhint: labimg lock made.toml --update bookworm\n"
    );
    assert_eq!((made.world.modified("made.lock"), made.world.text("made.lock")), (old, text));

    let moved = made.run(&["lock", "made.toml", "--update", "bookworm"]).ends(0);
    let names: Vec<&str> = moved.out.lines().filter(|l| !l.starts_with(' ')).collect();
    assert_eq!(names, ["~ debian bookworm bookworm", "~ package lib (bookworm amd64)"]);
    assert!(moved.out.contains("\n  - 1.0 ") && moved.out.contains("\n  + 1.1 "), "{}", moved.out);
    assert_eq!(made.steps(), (4, 4));
}

#[test]
fn a_package_that_moves_leaves_the_layers_without_it() {
    let mut made = Makings::small_built();
    let before = made.layers("amd64");
    made.add(app("1.1"));
    made.serve();
    made.run(&["lock", "made.toml", "--update", "bookworm"]).ends(0).says(&["made.lock: 2 inputs moved"]);
    assert_eq!(made.steps(), (2, 4), "packages and manifest; the files lie over the same paths");
    let after = made.layers("amd64");
    let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, false, true]);
}

#[test]
fn a_second_image_shares_what_is_essential() {
    let made = Makings::small_built();
    let layers = made.layers("amd64");
    let profile = made.world.text("made.toml");
    let (image, other) = profile.split_at(profile.find("[[image]]").unwrap());
    let second = other.replace("app:1", "second:1").replace("app/", "second/");
    made.world.write("made.toml", format!("{image}{other}\n{second}"));
    made.world.write("second/image.toml", "schema = 1\ndebian = \"bookworm\"\npackages = [\"lib\"]\n");
    let stale = made.build().ends(3);
    stale.says(&["packages image made.lab/second:1 (amd64): not in the lock", "hint: labimg lock made.toml\n"]);
    made.run(&["lock", "made.toml"]).ends(0);
    assert_eq!(made.steps(), (3, 7));
    let manifest = made.cat("made.lab/second:1");
    assert_eq!(manifest["layers"][0]["digest"], layers[0].as_str());
    assert_eq!(made.layers("amd64"), layers);

    made.world.edit("second/image.toml", "[\"lib\"]", "[]");
    made.build().ends(3).says(&["packages image made.lab/second:1 (amd64): "]);
}

#[test]
fn why_says_what_changed() {
    let mut made = Makings::small();
    made.run(&["lock", "made.toml"]).ends(0);
    let never = made.run(&["why", "made.toml", "linux/amd64"]).ends(0);
    assert_eq!(never.err, "");
    let lines: Vec<&str> = never.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", never.out);
    assert!(
        lines[0].starts_with("image made.lab/app:1 linux/amd64 files: waits for essential bookworm amd64"),
        "{}",
        lines[0]
    );
    assert_eq!(lines[2], "image made.lab/app:1 linux/amd64 packages: never built");
    made.build().ends(0);
    made.add(app("1.1"));
    made.serve();
    made.world.write("app/app.py", "#!/bin/sh\n");
    made.run(&["lock", "made.toml", "--update", "bookworm"]).ends(0);
    let packages = made.run(&["why", "made.toml", "image made.lab/app:1 linux/amd64 packages"]).ends(0);
    let lines: Vec<&str> = packages.out.lines().collect();
    assert_eq!(lines[0], "image made.lab/app:1 linux/amd64 packages: changed since the last build");
    let app = ["  input package app 1.0 all: was sha256:", "  input package app 1.1 all: is new, sha256:"];
    assert!(lines.len() == 3 && lines[1].starts_with(app[0]) && lines[2].starts_with(app[1]), "{}", packages.out);
    let json = made.run(&["why", "--json", "made.toml"]).ends(0);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);
    assert_eq!((&json[0]["why"], &json[0]["there"]), (&"unchanged".into(), &true.into()));
    assert_eq!(json[3]["why"]["changes"][1]["what"], "input package app 1.1 all");
    assert_eq!(json[1]["waits-for"][0], "image made.lab/app:1 linux/amd64 packages");
    let wrong = made.run(&["why", "made.toml", "pakages"]).ends(1);
    wrong.says(&["error: no step's name holds `pakages`; there are:\n  essential bookworm amd64\n"]);
}

#[test]
fn the_graph_shows_what_an_image_is_made_of() {
    let made = Makings::new();
    let graph = made.run(&["graph", "made.toml"]).ends(0);
    for edge in [
        "\"archive debian\" -> \"packages of bookworm\"",
        "\"packages of bookworm\" -> \"image made.lab/app:1\"",
        "\"Python package index\" -> \"wheels web\"",
        "\"wheels web\" -> \"image made.lab/app:1\"",
        "\"image made.lab/app:1\" -> \"made.labimg\"",
    ] {
        assert!(graph.out.contains(edge), "{edge} is not in\n{}", graph.out);
    }
}

#[test]
fn mirrors_are_told_on_the_command_line_and_stay_out_of_every_file() {
    let made = Makings::new();
    made.world.settings("tries = 1\n");
    let base = &made.upstream.base;
    let mirrors = [format!("debian={base}/debian"), format!("pypi={base}/simple")];
    made.run(&["build", "--mirror", &mirrors[0], "--mirror", &mirrors[1], "made.toml"]).ends(0);
    let bytes = made.world.read("made.labimg");
    let address = base.trim_start_matches("http://").as_bytes();
    assert!(!bytes.windows(address.len()).any(|w| w == address), "a bundle never names a mirror");
    assert!(!made.world.text("made.lock").contains("127.0.0.1"));
}
