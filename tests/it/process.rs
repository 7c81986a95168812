//! The program as a process: usage errors, signals, pipes.

use std::io::Read;
use std::process::Stdio;

use labimg::base::digest::Digest;

use crate::support::upstream::Broken;
use crate::support::{Upstream, World};

#[test]
fn a_wrong_command_line_ends_with_2() {
    let world = World::new();
    for args in [
        &["frobnicate"][..],
        &[],
        &["build"],
        &["lock"],
        &["build", "--jobs", "0", "x"],
        &["export", "x", "-o", "y"],
        &["export", "--oci", "--docker", "x", "-o", "y"],
        &["store", "gc", "--grace", "soon"],
        &["ls", "a", "b"],
    ] {
        let run = world.run(args).ends(2);
        assert!(run.out.is_empty() && !run.err.is_empty(), "{args:?}: {}", run.out);
    }
    world.run(&["bulid", "x"]).ends(2).says(&["unrecognized subcommand 'bulid'", "build"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let world = World::new();
    for args in [&["--help"][..], &["--version"], &["help", "lock"], &["lock", "-h"], &["completions", "bash"]] {
        let run = world.run(args).ends(0);
        assert!(!run.out.is_empty() && run.err.is_empty(), "{args:?}: {}", run.err);
    }
}

#[test]
fn a_profile_that_is_not_there() {
    let world = World::new();
    for verb in ["lock", "fetch", "build", "graph"] {
        let run = world.run(&[verb, "gone.toml"]).ends(1);
        assert_eq!(run.err, "error: there is no file `gone.toml`\n", "{verb}");
    }
    world.run(&["lock", "."]).ends(1).says(&["`.` is a directory, not a file"]);
    world.write("latin1.toml", b"name = \"\xe9\"\n");
    world.run(&["lock", "latin1.toml"]).ends(1).says(&["`latin1.toml` is not UTF-8 text"]);
}

#[test]
fn one_file_where_another_is_wanted_is_told_as_that() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.run(&["build", "lab.toml"]).ends(0);
    for verb in ["lock", "fetch", "build", "graph", "why"] {
        let says = [
            "`lab.labimg` is a bundle; a profile is wanted here",
            "hint: `labimg inspect lab.labimg` shows what it is\n",
        ];
        world.run(&[verb, "lab.labimg"]).ends(1).says(&says);
        world.run(&[verb, "lab.lock"]).ends(1).says(&["`lab.lock` is a lock", "hint: its profile is `lab.toml`\n"]);
        world.run(&[verb, "lab"]).ends(1).says(&["there is no file `lab`\nhint: did you mean `lab.toml`?\n"]);
    }
    world.run(&["lock", "."]).ends(1).says(&["hint: name a profile in it: `./lab.toml`\n"]);
    let says = "lab.toml` makes its bundle, `lab.labimg`\n";
    for args in [
        &["inspect", "lab.toml"][..],
        &["ls", "lab.toml"],
        &["cat", "lab.toml", "lock"],
        &["up", "lab.toml"],
        &["doctor", "lab.toml"],
        &["serve", "lab.toml"],
        &["export", "--oci", "lab.toml", "-o", "x.tar"],
    ] {
        world.run(args).ends(1).says(&["is not a labimg bundle", "hint: that is a profile; `labimg build ", says]);
    }
    world.run(&["inspect", "lab"]).ends(1).says(&["hint: did you mean `lab.labimg`?\n"]);
    let none =
        ["there is no image `docker.io/library/nope:1` here; there are docker.io/library/web:1, quay.io/team/db:2\n"];
    world.run(&["export", "--oci", "lab.labimg", "--image", "nope:1", "-o", "x.tar"]).ends(1).says(&none);
    world.run(&["list", "lab.labimg"]).ends(2).says(&["tip: `labimg ls BUNDLE`"]);
    world.run(&["up"]).ends(1).says(&["no lab is up here", "hint: `labimg up BUNDLE` brings one up\n"]);
    world.write("lab.toml", Upstream::LAB.replacen("[[image]]", "[[imag]]", 1));
    let json = world.run(&["lock", "lab.toml", "--json"]).ends(1);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["hint"], "did you mean `image`?");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let upstream = Upstream::lab();
    let layers: Vec<String> = (0..40).map(|i| format!("{i}{}", "x".repeat(10_000))).collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &layers);
    let world = upstream.world();
    world.run(&["build", "lab.toml"]).ends(0);
    for args in [
        &["ls", "lab.labimg"][..],
        &["size", "lab.labimg"],
        &["cat", "lab.labimg", "lock"],
        &["inspect", "--json", "lab.labimg"],
        &["export", "--oci", "--platform", "linux/amd64", "lab.labimg", "-o", "-"],
        &["schema"],
        &["completions", "zsh"],
        &["graph", "lab.toml"],
    ] {
        let mut child = world.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let run = world.seen(&child.wait_with_output().unwrap());
        assert_eq!((run.code, run.err.contains("error")), (0, false), "{args:?}: {}", run.err);
    }
}

#[test]
fn ctrl_c_leaves_what_the_next_run_goes_on_from() {
    let upstream = Upstream::lab();
    let big = "y".repeat(400_000);
    upstream.image("team/db:2", &[], &["base", &big]);
    let world = upstream.world();
    world.run(&["lock", "lab.toml"]).ends(0);
    let digest = Digest::of(format!("{big} linux/amd64").as_bytes());
    upstream.spoil(&digest.to_string(), Broken::Stall(300_000));
    let child = world.command(&["build", "lab.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    upstream.wait_for(&digest.to_string());
    let part = world.store().join(format!("tmp/{}.part", digest.hex()));
    // Whatever arrived must be on disk before the interrupt, or there is nothing to go on from.
    for _ in 0..1000 {
        if std::fs::metadata(&part).is_ok_and(|m| m.len() > 0) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = world.seen(&child.wait_with_output().unwrap()).ends(130);
    run.says(&["interrupted; what is there is kept"]);
    assert!(!world.path("lab.labimg").exists() && part.exists());
    upstream.mend();
    world.run(&["build", "lab.toml"]).ends(0);
    world.run(&["inspect", "--verify", "lab.labimg"]).ends(0);
    world.run(&["store", "check"]).ends(0);
}

#[test]
fn quiet_says_nothing_when_all_is_well() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let run = world.run(&["build", "--quiet", "lab.toml"]).ends(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("./lab.labimg\n", ""));
}

#[test]
fn json_is_one_value_on_standard_output() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    for args in [
        &["lock", "lab.toml", "--json"][..],
        &["fetch", "lab.toml", "--json"],
        &["build", "lab.toml", "--json"],
        &["inspect", "--verify", "lab.labimg", "--json"],
        &["ls", "lab.labimg", "--json"],
        &["size", "lab.labimg", "--json"],
        &["diff", "lab.labimg", "lab.labimg", "--json"],
        &["graph", "lab.toml", "--json"],
        &["store", "check", "--json"],
        &["store", "gc", "--json"],
        &["store", "du", "--json"],
        &["store", "path", "--json"],
        &["schema", "--json"],
    ] {
        let mut child = world.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success(), "{args:?}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{args:?}: {text}");
    }
}

#[test]
fn json_tells_of_failures_too() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let told = |args: &[&str], code: i32| -> serde_json::Value {
        let run = world.run(args).ends(code);
        assert!(run.err.contains("error: "), "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    };
    let gone = told(&["build", "gone.toml", "--json"], 1);
    assert_eq!(gone, serde_json::json!({"error": "there is no file `gone.toml`", "hint": null, "exit-code": 1}));
    world.run(&["lock", "lab.toml"]).ends(0);
    world.edit("lab.toml", "web:1", "web:2");
    let stale = told(&["lock", "lab.toml", "--check", "--json"], 3);
    assert_eq!((&stale["exit-code"], stale["stale"][0]["input"].is_string()), (&3.into(), true), "{stale}");
    let cat = world.run(&["cat", "gone.labimg", "lock", "--json"]).ends(1);
    assert!(cat.out.is_empty(), "{}", cat.out);
}
