//! The Vagrantfile of a lab, run by Ruby with a stand-in for Vagrant (`vagrantfile.rb`): what it makes, tells and takes away.

use std::path::Path;
use std::process::{Command, Output};

use labimg::base::digest::Digest;
use labimg::build::vagrant_lab::{MadeBox, folder};
use labimg::model::platform::Platform;
use labimg::model::profile::{Provider, parse};

use crate::support::World;

const PROFILE: &str = r#"
schema = 1
name = "small"
[secret.password]
generate = "alnum:20"
[secret.pin]
generate = "hex:9"
[debian.bookworm]
[debian.trixie]
[toolchain]
debian = "trixie"
packages = []
[tool.k3s]
version = "v1"
url = "https://example.org/k3s"
[[box]]
name = "server"
debian = "bookworm"
k3s = { role = "server" }
[[host]]
name = "one"
reach = "vagrant"
box = "server"
ip = "10.77.0.10"
[[host]]
name = "two"
reach = "vagrant"
box = "server"
"#;

/// Runs the stand-in over the folder; `None`, said aloud, where Ruby or ssh-keygen is missing.
fn up(dir: &Path) -> Option<Output> {
    let there = |p: &&str| ["/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(p).exists());
    if let Some(missing) = ["ruby", "ssh-keygen"].iter().find(|p| !there(p)) {
        eprintln!("NOT RUN: this machine lacks {missing}");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/vagrantfile.rb");
    let mut ruby = Command::new("ruby");
    Some(ruby.arg(script).arg(dir).arg("up").env_remove("VAGRANT_DOTFILE_PATH").output().unwrap())
}

/// The lab's folder, in one with a blank in its name.
fn lab(world: &World) {
    let profile = parse("small.toml", PROFILE, &mut |_| Err("none".to_owned())).unwrap().profile;
    let made = MadeBox {
        name: "server".to_owned(),
        platform: Platform::LinuxAmd64,
        provider: Provider::Libvirt,
        digest: Digest::of(b"box"),
        size: 3,
    };
    for (path, text) in folder(&profile, &[made], 0, "../small.labimg").unwrap() {
        world.write(&format!("a lab/{path}"), text);
    }
}

#[test]
fn machines_side_by_side_share_what_is_made_once_and_the_last_takes_it_away() {
    let world = World::new();
    lab(&world);
    let Some(ended) = up(&world.path("a lab")) else { return };
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let shell = Command::new("sh").arg("-n").arg(world.path("a lab/.vagrant/settle")).status().unwrap();
    assert!(shell.success());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../../x", "a;touch x"] {
        let world = World::new();
        lab(&world);
        let text = world.text("a lab/lab.json").replace("\"pin\"", &format!("\"{name}\""));
        world.write("a lab/lab.json", text);
        let Some(ended) = up(&world.path("a lab")) else { return };
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains("is not of labimg's making"), "{said}");
        assert!(!world.path("a lab/.vagrant").exists());
    }
}
