//! Manifests name images: a lab that lacks one is not built, and `check` says which.

use serde_json::Value;

use crate::support::{Upstream, World};

const POD: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: shop\nspec:\n  template:\n    spec:\n      containers:\n      - name: web\n        image: web:1\n      - name: db\n        image: quay.io/team/db:2\n";

fn lab() -> (Upstream, World) {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.write("objects.yaml", POD);
    (upstream, world)
}

#[test]
fn a_lab_that_has_everything_is_built_and_checked() {
    let (upstream, world) = lab();
    world.run(&["check", "lab.toml"]).ends(1).says(&["has no lock yet", "labimg lock lab.toml"]);
    world.run(&["build", "lab.toml"]).ends(0);
    let hits = upstream.hits();
    for what in ["lab.toml", "lab.labimg"] {
        let run = world.run(&["check", what]).ends(0);
        assert_eq!(run.out, "nothing is missing: 2 images in 1 manifest\n");
    }
    assert_eq!(upstream.hits(), hits, "looking needs no network");
}

#[test]
fn a_missing_image_stops_the_build() {
    let (_upstream, world) = lab();
    world.write("objects.yaml", POD.replace("db:2", "db:3"));
    let build = world.run(&["build", "lab.toml"]).ends(1);
    let place =
        "manifest objects, line 12: Deployment shop: spec.template.spec.containers[1].image: `quay.io/team/db:3`";
    build.says(&[
        "error: the lab's manifests name images that it does not carry:\n",
        place,
        "of quay.io/team/db the lab has 2",
        "hint: add to the profile:\n[[image]]\nref = \"quay.io/team/db:3\"\n",
    ]);
    assert!(!world.path("lab.labimg").exists());
    let check = world.run(&["check", "lab.toml"]).ends(3);
    assert!(check.out.contains(&format!("missing {place}")), "{}", check.out);
    let json = world.run(&["check", "--json", "lab.toml"]).ends(3);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["missing"][0]["line"], 12);
    assert_eq!(json["missing"][0]["reference"], "quay.io/team/db:3");
    assert_eq!(json["missing"][0]["hint"], "[[image]]\nref = \"quay.io/team/db:3\"");
}

#[test]
fn a_manifest_that_is_none_stops_the_build() {
    let (_upstream, world) = lab();
    for (text, why) in [
        ("apiVersion: v1\nkind: A\nspec:\n\tx: 1\n", "manifest objects (objects.yaml), line 4: "),
        ("<html>404</html>\n", "line 1: column 1: no Kubernetes object"),
        ("apiVersion: v1\nkind: A\nspec: [\n", "manifest objects (objects.yaml), line "),
    ] {
        world.write("objects.yaml", text);
        world.run(&["lock", "lab.toml"]).ends(0);
        let build = world.run(&["build", "lab.toml"]).ends(1);
        build.says(&["error: manifests can not be read:", why, "hint: mend that place; where the file is not yours"]);
        world.run(&["check", "lab.toml"]).ends(1);
    }
}

#[test]
fn a_key_that_is_twice_is_told_and_packed() {
    let (_upstream, world) = lab();
    world.write("objects.yaml", POD.replace("image: web:1", "image: web:9\n        image: web:1"));
    let note = "manifest objects (objects.yaml), line 11: key `image` is twice in one mapping: the last one counts";
    world.run(&["build", "lab.toml"]).ends(0).says(&[note]);
    let check = world.run(&["check", "lab.toml"]).ends(0);
    assert!(check.out.contains(&format!("note    {note}")), "{}", check.out);
}

#[test]
fn utf16_manifests_are_read() {
    let (_upstream, world) = lab();
    let wide: Vec<u8> =
        format!("\u{feff}{}", POD.replace("db:2", "db:3")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs_err::write(world.path("objects.yaml"), wide).unwrap();
    world.run(&["build", "lab.toml"]).ends(1).says(&["manifest objects, line 12", "`quay.io/team/db:3`"]);
}

#[test]
fn what_is_written_in_the_profile_is_looked_at_too() {
    let (_upstream, world) = lab();
    let text = world.text("lab.toml")
        + "\n[[manifest]]\nname = \"inline\"\ntext = '''\napiVersion: v1\nkind: Pod\nspec: {containers: [{image: \"web:9\"}]}\n'''\n";
    world.write("lab.toml", text);
    world.run(&["build", "lab.toml"]).ends(1).says(&["manifest inline, line 3: Pod", "`web:9`"]);
}
