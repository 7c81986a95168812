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
        let chart = "1 chart was not looked into: app\n";
        assert_eq!(run.out, format!("nothing is missing where was looked: 2 images in 1 manifest\n{chart}"));
        world.run(&["check", "--strict", what]).ends(3);
        let json = world.run(&["check", "--json", what]).ends(0);
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(
            (&json["not-looked-into"][0]["kind"], &json["not-looked-into"][0]["name"]),
            (&"chart".into(), &"app".into())
        );
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
        ("apiVersion: v1\nkind: A\nkind: B\n", "key `kind` is twice"),
    ] {
        world.write("objects.yaml", text);
        world.run(&["lock", "lab.toml"]).ends(0);
        world.run(&["build", "lab.toml"]).ends(1).says(&["error: manifests can not be read:", why]);
        world.run(&["check", "lab.toml"]).ends(1);
    }
}

#[test]
fn what_is_written_in_the_profile_is_looked_at_too() {
    let (_upstream, world) = lab();
    let text = world.text("lab.toml")
        + "\n[[manifest]]\nname = \"inline\"\ntext = '''\napiVersion: v1\nkind: Pod\nspec: {containers: [{image: \"web:9\"}]}\n'''\n";
    world.write("lab.toml", text);
    world.run(&["build", "lab.toml"]).ends(1).says(&["manifest inline, line 3: Pod", "`web:9`"]);
}

#[test]
fn a_lab_that_was_looked_at_whole_passes_the_strict_check() {
    let (_upstream, world) = lab();
    let text = world.text("lab.toml");
    let (start, rest) = text.split_once("[[chart]]").unwrap();
    let (_, end) = rest.split_once("[tool.tool]").unwrap();
    world.write("lab.toml", format!("{start}[tool.tool]{end}"));
    world.run(&["build", "lab.toml"]).ends(0);
    let run = world.run(&["check", "--strict", "lab.toml"]).ends(0);
    assert_eq!(run.out, "nothing is missing: 2 images in 1 manifest\n");
}

/// What the author must hear before a room without internet does.
#[test]
fn a_lab_that_cannot_come_up_is_told_when_it_is_locked_built_and_checked() {
    let world = World::new();
    let cluster =
        "schema = 1\nname = \"shop\"\n\n[[cluster]]\nname = \"c\"\nengine = \"kind\"\nkubernetes = \"v1.34.0\"\n";
    world.write("shop.toml", cluster);
    let parts = ["tool kind (shop.toml:6:10)", "node image (shop.toml:5:8)", "labimg itself (shop.toml:6:10)"];
    let paste = ["[tool.kind]\n  version", "[[image]]\n  ref = \"docker.io/kindest/node:v1.34.0\"", "--update labimg"];
    for verb in ["lock", "build"] {
        let run = world.run(&[verb, "shop.toml"]).ends(0);
        assert_eq!(run.err.matches("warning: the lab lacks what it needs to come up:").count(), 1, "{}", run.err);
        run.says(&parts).says(&paste);
    }
    for what in ["shop.toml", "shop.labimg"] {
        let run = world.run(&["check", what]).ends(3);
        assert!(run.out.contains("missing tool kind (") && !run.out.contains("nothing is missing"), "{}", run.out);
        assert!(run.out.contains("wanted  tool kubectl"), "{}", run.out);
        let json = world.run(&["check", "--json", what]).ends(3);
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json["lacking"][0]["part"], "tool kind");
        assert_eq!(json["lacking"][0]["needed"], true);
    }
    // Nothing of that is the machine's fault, and no engine is asked.
    let up = world.run(&["up", "shop.labimg"]).ends(1);
    up.says(&["lab `shop` cannot come up from this bundle:", "tool kind: ", "node image: ", "labimg itself: "]);
    let doctor = world.run(&["doctor", "shop.labimg"]).ends(1);
    for line in ["BAD   tool kind", "warn  tool kubectl", "BAD   node image", "BAD   labimg itself"] {
        assert!(doctor.out.contains(line), "{line}\n{}", doctor.out);
    }
}

#[test]
fn an_engine_that_does_not_run_and_a_lab_of_nothing_are_told() {
    let world = World::new();
    let cluster = "[[cluster]]\nname = \"c\"\nengine = \"minikube\"\nkubernetes = \"v1.34.0\"\n";
    for (name, body, why) in [
        ("mini", cluster, "engine of cluster `c` (mini.toml:5:10): this version of labimg does not bring minikube up"),
        ("none", "", "the lab (none.toml:2:8): there is nothing in it"),
    ] {
        let file = format!("{name}.toml");
        world.write(&file, format!("schema = 1\nname = \"{name}\"\n{body}"));
        world.run(&["lock", &file]).ends(0).says(&[why]);
        world.run(&["build", &file]).ends(0).says(&[why]);
        let run = world.run(&["check", &file]).ends(3);
        assert!(run.out.contains(&format!("missing {why}")), "{}", run.out);
        world.run(&["up", &format!("{name}.labimg")]).ends(1);
        world.run(&["doctor", &format!("{name}.labimg")]).ends(1);
    }
}

#[test]
fn a_lab_of_compose_files_is_not_said_to_be_up() {
    let upstream = Upstream::empty();
    upstream.image("library/web:1", &[], &["base"]);
    let world = World::with(&upstream);
    let host = "[[host]]\nname = \"laptop\"\nreach = \"local\"\ncompose = \"shop/compose.yaml\"\n";
    let check = "[[check]]\nname = \"it answers\"\ntimeout = \"1s\"\nhttp = { url = \"http://127.0.0.1:1/\" }\n\
        [[check]]\nname = \"it runs\"\nssh = { host = \"laptop\", run = \"true\" }\n";
    let text = |rest: &str| format!("schema = 1\nname = \"shop\"\n[[image]]\nref = \"web:1\"\n{host}{rest}");
    world.write("shop/compose.yaml", "services: {web: {image: \"web:1\"}}\n");
    world.write("shop.toml", text(check));
    world.run(&["build", "shop.toml"]).ends(0);
    let up = world.run(&["up", "shop.labimg"]).ends(1);
    assert!(!up.err.contains("is up"), "{}", up.err);
    up.says(&[
        "labimg brings up nothing of lab `shop`: host laptop: ",
        "hint: labimg export shop.labimg --docker -o - | docker load\n\
         labimg cat shop.labimg shop/compose.yaml > compose.yaml\ndocker compose -f compose.yaml up -d",
    ]);
    assert_eq!(world.run(&["cat", "shop.labimg", "shop/compose.yaml"]).ends(0).out, world.text("shop/compose.yaml"));
    let doctor = world.run(&["doctor", "shop.labimg"]).ends(1);
    assert!(doctor.out.contains("host laptop") && doctor.out.contains("not looked at"), "{}", doctor.out);
    assert_eq!(
        world.run(&["check", "shop.toml"]).ends(0).out.lines().last(),
        Some("1 compose file was not looked into: shop/compose.yaml")
    );
    world.run(&["status"]).ends(0).says(&["no lab is up here"]);
    // Checks look all the same, whoever brought it up; what cannot be looked at is neither passed nor failed.
    let verify = world.run(&["verify", "shop.labimg"]).ends(3);
    assert!(verify.out.contains("0 of 2 checks passed, 1 not looked at"), "{}", verify.out);
    assert!(verify.out.contains("FAIL  it answers") && verify.out.contains("?     it runs"), "{}", verify.out);
    world.write("shop.toml", text(""));
    world.run(&["build", "shop.toml"]).ends(0);
    let verify = world.run(&["verify", "shop.labimg"]).ends(1).says(&["no `[[check]]`"]);
    assert_eq!(verify.out, "shop: no checks: nothing was looked at\n");
}

/// A state folder as `up` leaves it, and an engine that does not answer.
#[test]
fn what_an_engine_does_not_tell_is_not_known() {
    let world = World::new();
    let state = "{\"name\": \"shop\", \"bundle\": \"/none\", \"identity\": null, \"wanted\": [\"c\", \"d\"], \
                 \"clusters\": {\"c\": {\"engine\": \"kind\", \"made\": true}}, \"idle\": [\"host edge: nobody\"]}";
    world.write("state/shop/lab.json", state);
    let mut command = world.command(&["status"]);
    command.env("LABIMG_STATE", world.path("state")).env("DOCKER_HOST", "unix:///nonexistent");
    let run = world.seen(&command.output().unwrap()).ends(0);
    assert!(run.out.starts_with("shop  not looked at: "), "{}", run.out);
    assert!(!run.out.contains("not whole") && run.out.contains("not looked at: host edge: nobody"), "{}", run.out);
    assert!(run.out.contains("d        not made"), "{}", run.out);
}
