//! `preload = true` where it can not be: told before anything is made.

use crate::support::{Upstream, World};

fn world() -> (Upstream, World) {
    let upstream = Upstream::lab();
    let world = upstream.world();
    (upstream, world)
}

fn profile(cluster: &str) -> String {
    format!(
        "schema = 1\nname = \"p\"\n\n[[cluster]]\nname = \"c\"\nengine = \"kind\"\nkubernetes = \"v1.34.0\"\npreload = true\n{cluster}"
    )
}

#[test]
fn preload_wants_a_node_image_of_kind() {
    let (_upstream, world) = world();
    world.write("p.toml", profile(""));
    let run = world.run(&["build", "p.toml"]).ends(1);
    run.says(&["p.toml:5:8", "cluster `c` preloads, so it needs its `node-image`"]);
    world.edit("p.toml", "engine = \"kind\"", "engine = \"minikube\"");
    world.run(&["build", "p.toml"]).ends(1).says(&["`preload` goes with engine `kind`"]);
    world.edit("p.toml", "preload = true", "preload = false");
    world.run(&["build", "p.toml"]).ends(0);
}

#[test]
fn a_node_image_that_is_none_is_told() {
    // The server's layers are words, no archives.
    let (_upstream, world) = world();
    world.write("p.toml", profile("node-image = \"quay.io/team/db:2\"\n"));
    let run = world.run(&["build", "p.toml"]).ends(1);
    run.says(&["image labimg.lab/node/p/c:v1.34.0 linux/amd64 preload failed: layer sha256:", "of the node image"]);
    assert!(!world.path("p.labimg").exists());
}
