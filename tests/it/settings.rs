//! Flags over environment over `labimg.local.toml` (as far as it counts: trust.rs) over the user's file.

use std::process::Command;

use crate::support::{Upstream, World};

fn store_of(world: &World, command: &mut Command) -> String {
    // Asking makes no store, so the answer is where there is none.
    let said = world.seen(&command.arg("--quiet").output().unwrap()).ends(1).err;
    let path = said.lines().next().and_then(|l| l.strip_prefix("error: there is no store at `")?.strip_suffix('`'));
    format!("{}\n", path.unwrap_or(&said))
}

#[test]
fn the_nearest_setting_wins() {
    let world = World::new();
    let ask = |args: &[&str]| world.command(&[&["store", "path"], args].concat());
    assert_eq!(store_of(&world, &mut ask(&[])), "$DIR/data/labimg/store\n");
    world.settings("store = \"../user-store\"\n");
    assert_eq!(store_of(&world, &mut ask(&[])), "$DIR/config/labimg/../user-store\n");
    world.write("labimg.local.toml", "store = \"local-store\"\n");
    world.run(&["settings", "allow"]).ends(0);
    assert_eq!(store_of(&world, &mut ask(&[])), "$DIR/lab/local-store\n");
    assert_eq!(store_of(&world, ask(&[]).env("LABIMG_STORE", "env-store")), "$DIR/lab/env-store\n");
    let both = store_of(&world, ask(&["--store", "flag-store"]).env("LABIMG_STORE", "env-store"));
    assert_eq!(both, "$DIR/lab/flag-store\n");
    assert_eq!(store_of(&world, ask(&[]).env("LABIMG_STORE", "")), "$DIR/lab/local-store\n", "empty is not set");
}

#[test]
fn local_settings_stand_beside_the_profile() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.write("sub/lab.toml", "schema = 1\nname = \"lab\"\n[[image]]\nref = \"quay.io/team/db:2\"\n");
    world.write("sub/labimg.local.toml", "store = \"here\"\n");
    world.run(&["settings", "allow", "sub/lab.toml"]).ends(0);
    world.run(&["build", "sub/lab.toml"]).ends(0);
    assert!(world.path("sub/here/format").is_file() && !world.store().exists());
}

#[test]
fn a_mirror_of_a_nearer_layer_replaces_the_others() {
    let (wrong, right) = (Upstream::empty(), Upstream::lab());
    let world = wrong.world();
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n[[image]]\nref = \"quay.io/team/db:2\"\n");
    world.run(&["lock", "lab.toml"]).ends(1);
    let hits = wrong.hits();
    world.write("labimg.local.toml", format!("[mirror]\n\"quay.io\" = [\"{}\"]\n", right.base));
    world.run(&["lock", "lab.toml", "--local-settings", "allow"]).ends(0);
    std::fs::remove_file(world.path("labimg.local.toml")).unwrap();
    std::fs::remove_file(world.path("lab.lock")).unwrap();
    let mut command = world.command(&["lock", "lab.toml"]);
    world.seen(&command.env("LABIMG_MIRROR", format!("quay.io={}", right.base)).output().unwrap()).ends(0);
    std::fs::remove_file(world.path("lab.lock")).unwrap();
    world.run(&["lock", "lab.toml", "--mirror", &format!("quay.io={}", right.base)]).ends(0);
    assert_eq!(wrong.hits(), hits);
}

#[test]
fn offline_can_be_set_everywhere() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let with = |value: &str| {
        let mut command = world.command(&["lock", "lab.toml"]);
        world.seen(&command.env("LABIMG_OFFLINE", value).output().unwrap()).code
    };
    assert_eq!((with("1"), upstream.hits()), (1, 0));
    world.write("labimg.local.toml", "offline = true\n");
    world.run(&["lock", "lab.toml"]).ends(1).says(&["labimg works offline"]);
    assert_eq!(upstream.hits(), 0);
    assert_eq!(with("0"), 0, "the environment overrules the file");
}

#[test]
fn settings_that_make_no_sense() {
    let world = World::new();
    let say = |text: &str| {
        world.write("labimg.local.toml", text);
        world.run(&["store", "path"]).ends(1).err
    };
    let unknown = say("stroe = \"x\"\n");
    assert!(unknown.starts_with("error: settings file `./labimg.local.toml:1:1`: unknown field `stroe`"), "{unknown}");
    assert!(unknown.ends_with("hint: did you mean `store`?\n"), "{unknown}");
    assert!(say("tries = 0\n").contains("`tries` is not above 0"));
    assert!(say("jobs = 257\n").contains("`jobs` is above 256"));
    assert!(say("stall-timeout = 0\n").contains("`stall-timeout` is not above 0"));
    assert!(say("jobs = \"many\"\n").contains("invalid type"));
    assert!(say("jobs = 1\n[mirror\n").contains("settings file `./labimg.local.toml:2:"));
    let secret = "[mirror]\n\"quay.io\" = \"http://user:hunter2@127.0.0.1:5000\"\n";
    let refused = say(secret);
    assert!(refused.contains("`mirror`") && !refused.contains("hunter2"), "{refused}");
    world.run(&["settings", "allow", "--quiet"]).ends(0);
    let secret = say(secret);
    assert!(secret.contains("carries a user name or password") && !secret.contains("hunter2"), "{secret}");
    let secret = say("[mirror]\n\"quay.io\" = \"http://user:hunter2@127.0.0.1:5000\n");
    assert!(secret.contains("`./labimg.local.toml:2:") && !secret.contains("hunter2"), "{secret}");
    std::fs::remove_file(world.path("labimg.local.toml")).unwrap();
    let flag = world.run(&["store", "path", "--mirror", "quay.io"]).ends(1);
    assert!(flag.err.starts_with("error: `quay.io` is not a mirror\nhint: FROM=TO, as in "), "{}", flag.err);
    let mut command = world.command(&["store", "path"]);
    let run = world.seen(&command.env("LABIMG_JOBS", "0").output().unwrap()).ends(1);
    assert_eq!(run.err, "error: LABIMG_JOBS is not a number above 0\n");
    let run =
        world.seen(&world.command(&["store", "path"]).env_remove("HOME").env_remove("XDG_DATA_HOME").output().unwrap());
    assert_eq!(run.ends(1).err, "error: no place for the store: HOME is not set\nhint: give one: --store DIR\n");
}

#[test]
fn a_named_credentials_file_must_be_there() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let run = world.run(&["lock", "lab.toml", "--credentials", "gone.json"]).ends(1);
    run.says(&["credential file `gone.json`: there is no such file"]);
    assert_eq!(upstream.hits(), 0);
    let mut command = world.command(&["lock", "lab.toml"]);
    world.seen(&command.env("REGISTRY_AUTH_FILE", "gone.json").output().unwrap()).ends(0);
}
