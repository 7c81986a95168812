//! `labimg fetch` and `labimg build`: what goes wrong on the way, and that it changes no byte of the result.

use std::process::{Command, Stdio};

use labimg::base::digest::Digest;

use crate::support::upstream::Broken;
use crate::support::{Upstream, World};

fn built() -> (Upstream, World) {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.run(&["build", "lab.toml"]).ends(0);
    (upstream, world)
}

fn layer(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

#[test]
fn build_locks_when_there_is_no_lock_and_says_so() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let run = world.run(&["build", "lab.toml"]).ends(0);
    assert_eq!(run.out, "./lab.labimg\n");
    let says = ["`lab.toml` has no lock yet: locking it first", "locked 7 inputs in lab.lock", "built ./lab.labimg ("];
    run.says(&says);
    world.run(&["lock", "--check", "lab.toml"]).ends(0);
    world.run(&["inspect", "--verify", "lab.labimg"]).ends(0);
}

#[test]
fn fetch_does_not_lock() {
    let upstream = Upstream::lab();
    let run = upstream.world().run(&["fetch", "lab.toml"]).ends(1);
    assert_eq!(run.err, "error: `lab.toml` has no lock yet\nhint: labimg lock lab.toml\n");
    assert_eq!(upstream.hits(), 0);
}

#[test]
fn a_second_build_does_nothing() {
    let (upstream, world) = built();
    let (old, hits) = (world.age("lab.labimg"), upstream.hits());
    let run = world.run(&["build", "lab.toml"]).ends(0);
    assert!(run.err.starts_with("unchanged ./lab.labimg ("), "{}", run.err);
    assert_eq!((run.out.as_str(), world.modified("lab.labimg"), upstream.hits()), ("./lab.labimg\n", old, hits));
    world.run(&["build", "--offline", "--check", "lab.toml"]).ends(0);
    let json = world.run(&["build", "--offline", "--json", "-o", "out/deep", "lab.toml"]).ends(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&json[0]["unchanged"], &json[0]["fetched"]["blobs"]), (&false.into(), &0.into()));
    assert_eq!(world.read("out/deep/lab.labimg"), world.read("lab.labimg"));
}

#[test]
fn the_lock_wins_over_tags_that_moved() {
    let (upstream, world) = built();
    let bytes = world.read("lab.labimg");
    upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &["base", "web two"]);
    upstream.image("team/db:2", &[], &["other"]);
    world.empty_store();
    std::fs::remove_file(world.path("lab.labimg")).unwrap();
    world.run(&["build", "lab.toml"]).ends(0);
    assert!(world.read("lab.labimg") == bytes, "the same bytes from an empty store, tags moved");
}

#[test]
fn a_stale_lock_is_not_resolved_again() {
    let (upstream, world) = built();
    world.edit("lab.toml", "version = \"1.0.0\"", "version = \"1.1.0\"");
    let before = (world.age("lab.lock"), world.read("lab.lock"), upstream.hits());
    for verb in ["build", "fetch"] {
        let run = world.run(&[verb, "lab.toml"]).ends(3);
        run.says(&["chart app: version was 1.0.0, is 1.1.0", "hint: labimg lock lab.toml"]);
    }
    assert!((world.modified("lab.lock"), world.read("lab.lock"), upstream.hits()) == before);
}

#[test]
fn a_vanished_digest_names_who_lacks_it() {
    let (upstream, world) = built();
    world.empty_store();
    upstream.remove(&layer("web one linux/arm64"));
    let run = world.run(&["fetch", "lab.toml"]).ends(1);
    run.says(&[
        "error: lab.toml:5:7: image docker.io/library/web:1: ",
        &layer("web one linux/arm64"),
        "hint: the lock names bytes that $SERVER no longer serves; labimg lock lab.toml --update docker.io/library/web:1",
    ]);
}

#[test]
fn other_bytes_are_refused_with_code_4() {
    let (upstream, world) = built();
    for (key, text) in [
        (layer("web one linux/amd64"), "web one linux/amdXX"),
        (layer("base linux/amd64"), "shorter"),
        ("/dl.example.org/data.txt".to_owned(), "same size\n"),
        ("/dl.example.org/data.txt".to_owned(), "another size\n"),
    ] {
        world.empty_store();
        upstream.spoil(&key, Broken::Bytes(text.into()));
        let run = world.run(&["fetch", "lab.toml"]).ends(4);
        assert!(run.err.contains("$SERVER") && run.err.contains("hint: lock and server do not agree"), "{}", run.err);
        let wrong = world.blob(&layer(text));
        assert!(!wrong.exists(), "wrong bytes never become a blob");
        upstream.mend();
        world.run(&["fetch", "lab.toml"]).ends(0);
        world.run(&["store", "check"]).ends(0);
    }
}

#[test]
fn a_lock_edited_by_hand_is_a_mismatch() {
    let (_upstream, world) = built();
    let text = world.text("lab.lock");
    let right = layer("some data\n");
    world.edit("lab.lock", &right, &layer("what I would like it to be"));
    world.empty_store();
    let run = world.run(&["fetch", "lab.toml"]).ends(4);
    run.says(&[
        "error: lab.toml:24:7: file data: ",
        "data.txt` has digest",
        &right,
        "labimg lock lab.toml --update data\n",
    ]);
    world.write("lab.lock", text);
    world.run(&["build", "lab.toml"]).ends(0).says(&["unchanged"]);
}

#[test]
fn who_may_not_is_told_to_log_in() {
    let (upstream, world) = built();
    world.empty_store();
    upstream.spoil("/v2/team/db/manifests/2", Broken::Login);
    let run = world.run(&["lock", "lab.toml", "--update", "quay.io/team/db:2"]).ends(1);
    run.says(&["image quay.io/team/db:2: ", "not allowed (status 401)", "hint: log in first: docker login $SERVER"]);
}

#[test]
fn a_server_in_trouble_is_quoted() {
    let (upstream, world) = built();
    world.empty_store();
    upstream.spoil("/dl.example.org/data.txt", Broken::Status(503));
    let run = world.run(&["fetch", "lab.toml"]).ends(1);
    run.says(&["`$SERVER/dl.example.org/data.txt`: status 503, it says: no"]);
    upstream.spoil("/dl.example.org/data.txt", Broken::Stall(4));
    world.write("labimg.local.toml", "stall-timeout = 1\n");
    let run = world.run(&["fetch", "lab.toml"]).ends(1);
    run.says(&["can not get `$SERVER/dl.example.org/data.txt`: ", "(tried 1 time)"]);
    upstream.mend();
    world.run(&["fetch", "lab.toml"]).ends(0).says(&["fetched 1 blob (10 B)"]);
}

#[test]
fn a_host_nobody_hears_is_named_with_a_hint() {
    let world = World::new();
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n[[image]]\nref = \"127.0.0.1:1/team/db:2\"\n");
    let run = world.run(&["lock", "lab.toml"]).ends(1);
    run.says(&["127.0.0.1:1", "(tried 1 time)", "hint: ", "--mirror 127.0.0.1:1=http://"]);
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n[[file]]\nname = \"x\"\nurl = \"http://127.0.0.1:1/x\"\n");
    let run = world.run(&["build", "lab.toml"]).ends(1);
    run.says(&[
        "file x: can not get `http://127.0.0.1:1/x`",
        "(tried 1 time)",
        "hint: is the server at http://127.0.0.1:1 up?",
    ]);
    assert!(!world.path("lab.lock").exists() && !world.path("lab.labimg").exists());
}

#[test]
fn offline_with_an_empty_store_says_what_is_missing() {
    let (upstream, world) = built();
    world.empty_store();
    let hits = upstream.hits();
    let run = world.run(&["build", "--offline", "lab.toml"]).ends(1);
    run.says(&[
        "is not in the store, and labimg works offline",
        "hint: run the same command without --offline (or LABIMG_OFFLINE) once",
    ]);
    assert_eq!(upstream.hits(), hits);
}

#[test]
fn two_builds_at_once_share_a_store() {
    let upstream = Upstream::lab();
    let big = "x".repeat(3 << 20);
    upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &["base", &big]);
    let world = upstream.world();
    world.run(&["lock", "lab.toml"]).ends(0);
    let start = |out: &str| {
        let mut command = world.command(&["build", "-o", out, "lab.toml"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start("one"), start("two")];
    for child in both {
        world.seen(&child.wait_with_output().unwrap()).ends(0);
    }
    assert!(world.read("one/lab.labimg") == world.read("two/lab.labimg"));
    world.run(&["store", "check"]).ends(0);
    let parts = std::fs::read_dir(world.store().join("tmp")).unwrap().count();
    assert_eq!(parts, 0, "nothing half-written is left");
}

#[test]
fn two_builds_at_once_of_one_profile_without_a_lock() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let start = || {
        let mut command = world.command(&["build", "lab.toml"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()].map(|child| world.seen(&child.wait_with_output().unwrap()));
    for run in &both {
        // Whoever comes second while the first one writes the very same file is told so.
        assert!(run.code == 0 || run.err.contains("another labimg is writing `./lab.labimg`"), "{}", run.err);
    }
    assert!(both.iter().any(|run| run.code == 0), "{both:?}");
    world.run(&["build", "--offline", "lab.toml"]).ends(0).says(&["unchanged"]);
    world.run(&["inspect", "--verify", "lab.labimg"]).ends(0);
}

#[test]
fn a_store_that_can_not_be_written() {
    if !is_root() {
        eprintln!("SKIPPED a_store_that_can_not_be_written: mounting takes root");
        return;
    }
    let (_upstream, world) = built();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let run = |args: &[&str]| {
        let mut command = Command::new("unshare");
        let store = world.store();
        world.hermetic(&mut command).args(["-m", "sh", "-c", script, "sh"]).arg(&store);
        world.seen(&command.arg(env!("CARGO_BIN_EXE_labimg")).args(args).output().unwrap())
    };
    let probe = run(&["store", "path"]);
    if probe.err.contains("mount") || probe.err.contains("unshare") {
        eprintln!("SKIPPED a_store_that_can_not_be_written: {}", probe.err);
        return;
    }
    probe.ends(0);
    run(&["store", "check"]).ends(0);
    std::fs::remove_file(world.blob(&layer("some data\n"))).unwrap();
    let failed = run(&["fetch", "lab.toml"]).ends(1);
    failed.says(&[
        "$DIR/data/labimg/store",
        "Read-only file system",
        "hint: give a store you may write to: --store DIR",
    ]);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn stores_of_others_are_left_alone() {
    let world = World::new();
    std::fs::create_dir_all(world.store()).unwrap();
    std::fs::write(world.store().join("format"), "2\n").unwrap();
    let run = world.run(&["store", "du"]).ends(1);
    let expected = "error: `$DIR/data/labimg/store` is a store of format 2; this labimg knows format 1\n\
                    hint: give this labimg a store of its own: --store DIR\n";
    assert_eq!(run.err, expected);
    world.write("mine/diary.txt", "dear diary");
    let run = world.run(&["store", "--store", "mine", "check"]).ends(1);
    let expected = "error: `$DIR/lab/mine` is not empty and not a labimg store\n\
                    hint: give an empty or new directory: --store DIR\n";
    assert_eq!(run.err, expected);
    assert_eq!(std::fs::read_dir(world.path("mine")).unwrap().count(), 1);
    world.write("file", "");
    world.run(&["store", "--store", "file", "check"]).ends(1).says(&["$DIR/lab/file"]);
}
