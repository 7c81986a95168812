//! Machines on the command line: boxes out of a bundle, two of them compared, checks over SSH on a machine that is not the one.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::server::{Server, keygen, user};
use crate::support::World;
use crate::support::machines::{PROFILE, a_box, bundle, can_make_disks, disk};

/// A change of a tree, and how `diff` words it.
type Change<'a> = (&'a str, &'a dyn Fn(&std::path::Path), &'a str);

#[test]
fn one_path_that_differs_in_a_disk_is_named_in_words_and_json() {
    if !can_make_disks() {
        return;
    }
    let world = World::new();
    let scratch = world.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let first = a_box(&disk(&scratch, &|_| ()));
    world.write("first.box", &first);
    world.write("first.img", std::fs::read(scratch.join("box.img")).unwrap());
    bundle(&world.path("first.labimg"), &first, b"no archive");
    let mode = |tree: &std::path::Path| {
        std::fs::set_permissions(tree.join("etc/motd"), PermissionsExt::from_mode(0o600)).unwrap();
    };
    let time = |tree: &std::path::Path| {
        let file = std::fs::File::options().append(true).open(tree.join("etc/motd")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_009)).unwrap();
    };
    let content = |tree: &std::path::Path| {
        let file = std::fs::File::options().write(true).open(tree.join("etc/motd")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"W", 0).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    };
    let changes: [Change<'_>; 3] = [
        ("mode", &mode, "/etc/motd: mode 0644 in the first, 0600 in the second"),
        ("mtime", &time, "/etc/motd: mtime 1700000000 in the first, 1700000009 in the second"),
        ("content", &content, "/etc/motd: content differs at byte 0 (8 bytes, 8 bytes)"),
    ];
    for (what, change, words) in changes {
        let second = a_box(&disk(&scratch, change));
        world.write("second.box", &second);
        world.write("second.img", std::fs::read(scratch.join("box.img")).unwrap());
        bundle(&world.path("second.labimg"), &second, b"no archive");
        let disk_at = vec!["partition 1 (ext4)", "/etc/motd"];
        let box_at = [&["box.img"], &disk_at[..]].concat();
        let bundle_at = [&["box server/libvirt linux/amd64"], &box_at[..]].concat();
        for (kind, at) in [("img", disk_at), ("box", box_at), ("labimg", bundle_at)] {
            let files = [format!("first.{kind}"), format!("second.{kind}")];
            let args = ["diff", &files[0], &files[1]];
            let told = world.run(&args).ends(3);
            assert!(told.out.contains(words), "{what}, {kind}: {}", told.out);
            assert!(!told.out.contains("etc/hostname"), "{what}, {kind}: {}", told.out);
            let told = world.run(&[&args[..], &["--json"]].concat()).ends(3);
            let report: Value = serde_json::from_str(&told.out).unwrap();
            assert_eq!(report["same"], json!(false));
            let found = if kind == "labimg" { &report["inside"] } else { &report };
            let places: Vec<&Value> = found["differences"].as_array().unwrap().iter().map(|d| &d["at"]).collect();
            assert!(places.contains(&&json!(at)), "{what}, {kind}: {report:#}");
            assert!(!told.out.contains("etc/hostname"), "{what}, {kind}: {}", told.out);
        }
    }
    for kind in ["img", "box", "labimg"] {
        let file = format!("first.{kind}");
        world.run(&["diff", &file, &file]).ends(0);
    }
}

/// A box of a few bytes.
fn small(text: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::write(&disk, text).unwrap();
    a_box(&disk)
}

#[test]
fn boxes_come_out_of_a_bundle_alone() {
    let world = World::new();
    let boxes = [small("a disk for libvirt"), small("a disk for VirtualBox")];
    bundle(&world.path("small.labimg"), &boxes[0], &boxes[1]);
    let home = world.path("vagrant");
    let import = |args: &[&str]| {
        let mut command = world.command(&[&["box", "import"], args].concat());
        world.seen(&command.env("VAGRANT_HOME", &home).output().unwrap())
    };
    import(&["small.labimg", "--provider", "vmware"]).ends(1).says(&["no box for provider `vmware`", "libvirt"]);
    assert!(!world.path("small").exists(), "nothing was made");
    import(&["small.labimg"]).ends(0).says(&["small/server-amd64", "libvirt", "virtualbox", "cd small && vagrant up"]);
    let lab: Value = serde_json::from_str(&world.text("small/lab.json")).unwrap();
    assert_eq!((&lab["name"], &lab["bundle"]), (&json!("small"), &json!("../small.labimg")));
    assert!(world.text("small/Vagrantfile").contains("Labimg"));
    let catalog: Value = serde_json::from_str(&world.text("small/boxes/server-amd64.json")).unwrap();
    let version = lab["hosts"][0]["version"].as_str().unwrap();
    assert_eq!(catalog["versions"][0]["version"], version);
    for (provider, text) in [("libvirt", "a disk for libvirt"), ("virtualbox", "a disk for VirtualBox")] {
        let image = home.join(format!("boxes/small-VAGRANTSLASH-server-amd64/{version}/{provider}/box.img"));
        assert_eq!(std::fs::read_to_string(image).unwrap(), text);
    }
    // Nothing stands there twice: the boxes are in the bundle and in Vagrant's home.
    let files = std::fs::read_dir(world.path("small/boxes")).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["server-amd64.json"]);
    import(&["small.labimg"]).ends(0).says(&["was there already"]);
    // In the folder, the bundle beside it is found.
    std::fs::remove_dir_all(&home).unwrap();
    let run = import(&["small", "--json"]).ends(0);
    let done: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&done["folder"], &done["boxes"][0]["provider"]), (&json!("small"), &json!("libvirt")));
    assert_eq!(done["machines"], json!(["cp"]));

    let mut command = world.command(&["box", "import"]);
    let here = command.current_dir(world.path("small")).env("VAGRANT_HOME", &home).output().unwrap();
    world.seen(&here).ends(0).says(&["now: vagrant up"]);

    std::fs::copy(world.path("small.labimg"), world.path("noending")).unwrap();
    import(&["noending"]).ends(0).says(&["cd small && vagrant up"]);
    std::fs::create_dir(world.path("else")).unwrap();
    std::fs::copy(world.path("small.labimg"), world.path("else/small")).unwrap();
    import(&["else/small"]).ends(1).says(&["`else/small` is there already", "it is no folder", "--out DIR"]);

    import(&["small.labimg", "--out", "else/where"]).ends(0).says(&["cd else/where && vagrant up"]);
    let lab: Value = serde_json::from_str(&world.text("else/where/lab.json")).unwrap();
    assert_eq!(lab["bundle"].as_str().unwrap(), world.path("small.labimg").canonicalize().unwrap().to_str().unwrap());
    world.write("mine/notes", "mine");
    import(&["small.labimg", "--out", "mine"]).ends(1).says(&["is there already", "--out DIR"]);
    assert_eq!(std::fs::read_dir(world.path("mine")).unwrap().count(), 1);
    import(&["small", "--out", "x"]).ends(1).says(&["a folder already"]);
}

#[test]
fn another_build_of_the_lab_replaces_the_folders_texts_and_boxes() {
    let world = World::new();
    let import = |lab: &str| {
        let mut command = world.command(&["box", "import", lab, "--provider", "libvirt"]);
        world.seen(&command.env("VAGRANT_HOME", world.path("vagrant")).output().unwrap())
    };
    bundle(&world.path("small.labimg"), &small("first"), &small("v"));
    import("small.labimg").ends(0);
    let before = world.text("small/lab.json");
    let digest = labimg::base::digest::Digest::of(&small("first"));
    world.write("small/boxes/server-amd64-libvirt.box", small("first"));
    let mark = format!("{}  server-amd64-libvirt.box\n", digest.hex());
    world.write("small/boxes/server-amd64-libvirt.box.sha256", mark);
    bundle(&world.path("small.labimg"), &small("second"), &small("v"));
    import("small.labimg").ends(0).says(&["is imported"]);
    assert_ne!(world.text("small/lab.json"), before);
    assert!(!world.path("small/boxes/server-amd64-libvirt.box").exists(), "it is of another build");
    // A byte of a box in the bundle: nobody gets it.
    bundle(&world.path("small.labimg"), &small("third"), &small("v"));
    let mut bytes = world.read("small.labimg");
    let at = memchr::memmem::find(&bytes, b"third").unwrap();
    bytes[at] = b'T';
    world.write("small.labimg", bytes);
    import("small.labimg").ends(4).says(&["its catalog says"]);
}

#[test]
fn a_home_without_room_says_how_much_a_box_needs() {
    if user() != "root" {
        eprintln!("NOT RUN: a home of Vagrant's that is full (needs root for a small tmpfs)");
        return;
    }
    let world = World::new();
    bundle(&world.path("small.labimg"), &small(&"x".repeat(3_000_000)), &small("v"));
    std::fs::create_dir(world.path("home")).unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs home && export VAGRANT_HOME=$PWD/home && \
                  { \"$1\" box import small.labimg; code=$?; find home -name 'box.img' -o -name metadata.json >&2; exit $code; }";
    let mut command = std::process::Command::new("unshare");
    world.hermetic(&mut command).args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_labimg")]);
    let run = world.seen(&command.output().unwrap()).ends(1);
    let run = run.says(&["there is no room", "it needs 2.86 MiB", "VAGRANT_HOME"]);
    assert!(!run.err.contains("box.img") && !run.err.contains("metadata.json"), "{}", run.err);
}

#[test]
fn two_files_of_different_kinds_are_each_named_for_what_they_are() {
    let world = World::new();
    bundle(&world.path("small.labimg"), &small("l"), &small("v"));
    world.write("good.box", small("l"));
    world.write("garbage", "neither");
    let (bundled, boxed) = ("`small.labimg` is a labimg bundle", "`good.box` is a box, disk image or archive (tar)");
    let garbage = "`garbage` is not a labimg bundle: it is too short";
    for (first, second, words) in [
        ("good.box", "garbage", [boxed, garbage]),
        ("garbage", "good.box", [garbage, boxed]),
        ("good.box", "small.labimg", [boxed, bundled]),
        ("small.labimg", "good.box", [bundled, boxed]),
        ("small.labimg", "garbage", [bundled, garbage]),
        ("garbage", "garbage", [garbage, "two bundles, or two boxes"]),
    ] {
        world.run(&["diff", first, second]).ends(1).says(&words);
    }
    world.run(&["diff", "good.box", "none"]).ends(1).says(&["none"]);
}

#[test]
fn a_build_keeps_its_hands_off_a_folder_of_somebody_elses() {
    let world = World::new();
    world.write("small.toml", PROFILE);
    let refused = |words: &[&str]| {
        let run = world.run(&["build", "small.toml"]).ends(1);
        assert!(!world.path("small.lock").exists(), "it did not look before its work: {}", run.err);
        run.says(&[&["`./small` is there already", "--out DIR"], words].concat());
    };
    world.write("small/Vagrantfile", "mine");
    world.write("small/boxes/mine.box", "mine");
    refused(&["it holds `Vagrantfile`"]);
    std::fs::remove_file(world.path("small/Vagrantfile")).unwrap();
    refused(&["it holds `boxes/mine.box`"]);
    world.write("small/Vagrantfile", "");
    world.write("small/lab.json", r#"{"name": "other", "bundle": "x"}"#);
    refused(&["it is the folder of lab `other`"]);
    assert_eq!(world.text("small/boxes/mine.box"), "mine");
    std::fs::remove_dir_all(world.path("small")).unwrap();
    world.write("small", "a file");
    refused(&["it is no folder"]);
}

#[test]
fn what_an_interrupted_build_left_of_a_folder_is_gone_on_with() {
    let world = World::new();
    bundle(&world.path("small.labimg"), &small("l"), &small("v"));
    let import = || {
        let mut command = world.command(&["box", "import", "small.labimg"]);
        world.seen(&command.env("VAGRANT_HOME", world.path("vagrant")).output().unwrap()).ends(0);
    };
    import();
    std::fs::remove_file(world.path("small/lab.json")).unwrap();
    world.write("small/boxes/.box-x", "half");
    import();
    std::fs::remove_file(world.path("small/Vagrantfile")).unwrap();
    import();
    assert!(world.path("small/Vagrantfile").exists() && !world.path("small/boxes/.box-x").exists());
}

#[test]
fn a_folder_of_a_strangers_writes_nothing_outside_vagrants_home() {
    let world = World::new();
    bundle(&world.path("small.labimg"), &small("l"), &small("v"));
    let import = |lab: &str| {
        let mut command = world.command(&["box", "import", lab]);
        world.seen(&command.env("VAGRANT_HOME", world.path("vagrant")).output().unwrap())
    };
    import("small.labimg").ends(0);
    std::fs::remove_dir_all(world.path("vagrant")).unwrap();
    let catalog = world.text("small/boxes/server-amd64.json");
    let (lab, outside) = (world.text("small/lab.json"), world.path("outside").display().to_string());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(&catalog).unwrap();
        change(&mut json);
        world.write("small/boxes/server-amd64.json", json.to_string());
    };
    for evil in ["../../../outside", outside.as_str(), "..", ""] {
        with(&|json| json["versions"][0]["version"] = json!(evil));
        import("small").ends(4).says(&["its catalog gives it the version"]);
        with(&|json| json["name"] = json!(evil));
        import("small").ends(4).says(&["its catalog gives it the name"]);
        with(&|json| json["versions"][0]["providers"][0]["url"] = json!(evil));
        import("small").ends(1).says(&["a box stands beside its catalog"]);
    }
    world.write("small/boxes/server-amd64.json", &catalog);
    world.write("small/lab.json", lab.replace("boxes/server-amd64.json", "boxes/../../x.json"));
    import("small").ends(1).says(&["no catalog is at"]);
    assert!(!world.path("outside").exists() && !world.path("vagrant").exists());
}

#[test]
fn links_in_a_folder_that_was_handed_over_are_not_followed() {
    let world = World::new();
    bundle(&world.path("small.labimg"), &small("l"), &small("v"));
    let import = |args: &[&str]| {
        let mut command = world.command(&[&["box", "import"], args].concat());
        world.seen(&command.env("VAGRANT_HOME", world.path("vagrant")).output().unwrap())
    };
    import(&["small.labimg"]).ends(0);
    // What a person keeps beside the boxes is theirs.
    world.write("small/boxes/package.json", "{}");
    world.write("small/boxes/backup.box", "x");
    import(&["small.labimg"]).ends(0);
    assert!(world.path("small/boxes/package.json").exists() && world.path("small/boxes/backup.box").exists());
    // The folder of boxes is a link: nothing is written or removed where it leads.
    std::fs::rename(world.path("small/boxes"), world.path("victim")).unwrap();
    std::os::unix::fs::symlink("../victim", world.path("small/boxes")).unwrap();
    std::fs::remove_file(world.path("victim/server-amd64.json")).unwrap();
    import(&["small.labimg"]).ends(1).says(&["small/boxes` is a link to `../victim`", "move the link away"]);
    let mut left: Vec<_> = std::fs::read_dir(world.path("victim")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["backup.box", "package.json"]);
    // So is the whole folder; one that a person names may be a link of theirs.
    std::fs::remove_dir_all(world.path("small")).unwrap();
    std::fs::create_dir(world.path("mine")).unwrap();
    std::os::unix::fs::symlink("mine", world.path("small")).unwrap();
    import(&["small.labimg"]).ends(1).says(&["small` is a link to `mine`"]);
    assert_eq!(std::fs::read_dir(world.path("mine")).unwrap().count(), 0);
    import(&["small.labimg", "--out", "small"]).ends(0);
    assert!(world.path("mine/boxes/server-amd64.json").is_file());
    // A pipe is not waited for, and a link in the place of a text is replaced.
    std::fs::remove_file(world.path("mine/boxes/server-amd64.json")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(world.path("mine/boxes/server-amd64.json")).status().unwrap();
    assert!(made.success());
    import(&["mine"]).ends(1).says(&["server-amd64.json` is no regular file"]);
    std::fs::remove_file(world.path("mine/boxes/server-amd64.json")).unwrap();
    std::os::unix::fs::symlink("../../victim/package.json", world.path("mine/boxes/server-amd64.json")).unwrap();
    import(&["small.labimg", "--out", "mine"]).ends(0);
    assert_eq!(world.text("victim/package.json"), "{}");
}

/// The lab's folder with what `vagrant up` would have left about `cp`.
fn up(world: &World, server: &Server, key: &str) {
    bundle(&world.path("small.labimg"), &small("l"), &small("v"));
    let mut command = world.command(&["box", "import", "small.labimg", "--quiet"]);
    world.seen(&command.env("VAGRANT_HOME", world.path("vagrant")).output().unwrap()).ends(0);
    let place = json!({"host": "127.0.0.1", "port": server.port, "user": user(), "host-key": key.trim()});
    world.write("small/.vagrant/labimg/hosts/cp.json", place.to_string());
    world.write("small/.vagrant/labimg/id_ed25519", std::fs::read(server.path("user")).unwrap());
}

#[test]
fn a_lab_of_machines_alone_names_its_folder() {
    let world = World::new();
    bundle(&world.path("small.labimg"), &small("l"), &small("v"));
    let how = "labimg box import small.labimg, then: cd small && vagrant up";
    world.run(&["up", "small.labimg"]).ends(1).says(&["come up with Vagrant", how]);
    let run = world.run(&["status"]).ends(0);
    assert!(run.out.is_empty(), "{}", run.out);
    for lab in [&["verify"][..], &["verify", "small"]] {
        world.run(lab).ends(1).says(&["cd FOLDER && labimg verify", "--vagrant FOLDER"]);
    }
    world.run(&["verify", "small.labimg"]).ends(1).says(&["there is no lab `small`", how]);
    let mut command = world.command(&["box", "import", "small.labimg"]);
    world.seen(&command.env("VAGRANT_HOME", world.path("vagrant")).output().unwrap()).ends(0);
    world.run(&["verify", "small.labimg"]).ends(1).says(&["there is no lab `small`", "cd small && labimg verify"]);
}

#[test]
fn a_copied_folder_takes_the_bundle_that_is_named() {
    let Some(server) = Server::start() else { return };
    let world = World::new();
    up(&world, &server, &server.host_key);
    std::fs::create_dir(world.path("else")).unwrap();
    std::fs::rename(world.path("small"), world.path("else/where")).unwrap();
    let folder = ["--vagrant", "else/where", "--only", "it answers"];
    let verify = |lab: &[&str]| world.run(&[&["verify"], lab, &folder[..]].concat());
    for lab in [&[][..], &["small"]] {
        verify(lab).ends(1).says(&["there is no bundle", "labimg verify BUNDLE --vagrant else/where"]);
    }
    verify(&["small.labimg"]).ends(0);
    world.write("garbage", "x");
    verify(&["garbage"]).ends(1).says(&["is not a labimg bundle"]);
    verify(&["other"]).ends(1).says(&["there is no lab `other`"]);
}

#[test]
fn a_machine_with_another_host_key_ends_verify_with_4() {
    let Some(server) = Server::start() else { return };
    let world = World::new();
    up(&world, &server, &server.host_key);
    let verify = ["verify", "--vagrant", "small", "--only", "it answers"];
    let run = world.run(&verify).ends(0);
    assert!(run.out.contains("cp: am up"), "{}", run.out);

    keygen(&server.path("other"), "ed25519", "");
    up(&world, &server, &std::fs::read_to_string(server.path("other.pub")).unwrap());
    let run = world.run(&verify).ends(4);
    for name in ["other.pub", "host.pub"] {
        let mut command = std::process::Command::new("ssh-keygen");
        let out = command.arg("-lf").arg(server.path(name)).output().unwrap().stdout;
        let print = String::from_utf8(out).unwrap().split(' ').nth(1).unwrap().to_owned();
        assert!(print.starts_with("SHA256:") && run.out.contains(&print), "{}", run.out);
    }
    assert!(run.out.contains("cd small && vagrant provision cp"), "{}", run.out);
    let report: Value = serde_json::from_str(&world.run(&[&verify[..], &["--json"]].concat()).ends(4).out).unwrap();
    let check = &report["checks"][0];
    assert_eq!((&check["mismatch"], &check["attempts"]), (&json!(true), &json!(1)), "{check}");
}

#[test]
fn a_machine_that_refuses_the_login_says_what_was_offered() {
    let Some(server) = Server::start() else { return };
    let world = World::new();
    up(&world, &server, &server.host_key);
    keygen(&server.path("stranger"), "ed25519", "");
    let stranger = std::fs::read(server.path("stranger")).unwrap();
    world.write("small/.vagrant/labimg/id_ed25519", stranger);
    let run = world.run(&["verify", "--vagrant", "small", "--only", "it answers"]).ends(3);
    for words in ["refused the login of", "ssh-ed25519 SHA256:", ".vagrant/labimg/id_ed25519", "takes: publickey"] {
        assert!(run.out.contains(words), "`{words}` is not in {}", run.out);
    }
}

#[test]
fn a_command_that_is_killed_and_speaks_no_utf_8_is_told_in_plain_text() {
    let Some(server) = Server::start() else { return };
    let world = World::new();
    up(&world, &server, &server.host_key);
    let run = world.run(&["verify", "--vagrant", "small", "--only", "it is killed"]).ends(3);
    assert!(run.out.contains("on cp ended with signal KILL"), "{}", run.out);
    assert!(run.out.contains("\u{FFFD}[31mred") && !run.out.contains('\u{1b}'), "{:?}", run.out);
}

#[test]
fn ctrl_c_ends_a_check_over_ssh_at_once() {
    let Some(server) = Server::start() else { return };
    let world = World::new();
    up(&world, &server, &server.host_key);
    let mut command = world.command(&["verify", "--vagrant", "small", "--only", "it takes long"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mark = world.path("mark");
    for _ in 0..1200 {
        if mark.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(mark.exists(), "the check did not start");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    world.seen(&child.wait_with_output().unwrap()).ends(130);
}
