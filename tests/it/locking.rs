//! `labimg lock` against a server whose tags move.

use crate::support::{Upstream, World};

fn locked() -> (Upstream, World) {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let run = world.run(&["lock", "lab.toml"]).ends(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", "locked 7 inputs in lab.lock\n"));
    (upstream, world)
}

#[test]
fn a_second_lock_asks_nobody_and_writes_nothing() {
    let (upstream, world) = locked();
    let (old, hits) = (world.age("lab.lock"), upstream.hits());
    for args in [&["lock", "lab.toml"][..], &["lock", "--check", "lab.toml"], &["lock", "--offline", "lab.toml"]] {
        let run = world.run(args).ends(0);
        assert_eq!(run.err, "lab.lock is up to date (7 inputs)\n");
    }
    assert_eq!((world.modified("lab.lock"), upstream.hits()), (old, hits));
    world.run(&["lock", "--update", "--", "lab.toml"]).ends(0).says(&["lab.lock is up to date"]);
    assert_eq!(world.modified("lab.lock"), old, "resolved anew to the same content: not written");
    assert!(upstream.hits() > hits);
}

#[test]
fn only_the_input_named_moves() {
    let (upstream, world) = locked();
    let before = world.text("lab.lock");
    let web = upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &["base", "web two"]);
    let db = upstream.image("team/db:2", &[], &["base", "db three"]);
    world.run(&["lock", "lab.toml"]).ends(0).says(&["is up to date"]);
    assert_eq!(world.text("lab.lock"), before, "a lock holds still until it is told to move");

    let run = world.run(&["lock", "lab.toml", "--update", "web:1"]).ends(0);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines[0], "~ image docker.io/library/web:1");
    assert!(lines[1].starts_with("  - sha256:") && lines[1].contains("(linux/amd64 "), "{}", run.out);
    assert!(lines[2].starts_with(&format!("  + {web} (linux/amd64 ")), "{}", run.out);
    assert_eq!((lines.len(), run.err.as_str()), (3, "lab.lock: 1 input moved\n"));
    let after = world.text("lab.lock");
    assert!(after.contains(&web.to_string()) && !after.contains(&db.to_string()));
    let moved = before.lines().zip(after.lines()).filter(|(a, b)| a != b).count();
    assert_eq!((before.lines().count(), moved), (after.lines().count(), 3), "digest of the index and of two manifests");

    let json = world.run(&["lock", "lab.toml", "--update", "--json"]).ends(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["changes"][0]["input"], "image quay.io/team/db:2");
    assert_eq!((&json["written"], json["changes"].as_array().unwrap().len()), (&true.into(), 1));
}

#[test]
fn an_unknown_name_gets_a_suggestion_and_moves_nothing() {
    let (upstream, world) = locked();
    let (old, hits) = (world.age("lab.lock"), upstream.hits());
    let run = world.run(&["lock", "lab.toml", "--update", "dta"]).ends(1);
    assert_eq!(run.err, "error: the profile has no input called `dta`\nhint: did you mean `data`?\n");
    assert_eq!((world.modified("lab.lock"), upstream.hits()), (old, hits));
    world.run(&["lock", "lab.toml", "--update", "app", "--check"]).ends(2);
}

#[test]
fn what_came_and_went_is_told() {
    let (upstream, world) = locked();
    upstream.put("/dl.example.org/more.txt", "more\n");
    world.edit(
        "lab.toml",
        "name = \"data\"\nurl = \"https://dl.example.org/data.txt\"",
        "name = \"more\"\nurl = \"https://dl.example.org/more.txt\"",
    );
    let hits = upstream.hits();
    let check = world.run(&["lock", "--check", "lab.toml"]).ends(3);
    assert!(check.err.contains("file more: not in the lock") && check.err.contains("file data: no longer"));
    assert_eq!(upstream.hits(), hits);
    let run = world.run(&["lock", "lab.toml"]).ends(0);
    assert!(
        run.out.starts_with("- file data\n    sha256:") && run.out.contains("\n+ file more\n    sha256:"),
        "{}",
        run.out
    );
    assert_eq!(run.err, "lab.lock: 2 inputs moved\n");
    world.run(&["lock", "--check", "lab.toml"]).ends(0);
}

#[test]
fn a_failed_lock_leaves_the_old_one() {
    let (upstream, world) = locked();
    let before = (world.age("lab.lock"), world.read("lab.lock"));
    upstream.remove("/dl.example.org/data.txt");
    let run = world.run(&["lock", "lab.toml", "--update"]).ends(1);
    run.says(&["error: file data: `$SERVER/dl.example.org/data.txt` is not there"]);
    assert!((world.modified("lab.lock"), world.read("lab.lock")) == before);
}

#[test]
fn the_same_lock_comes_out_of_an_empty_folder() {
    let (upstream, world) = locked();
    let other = upstream.world();
    other.command(&["lock", "lab.toml", "--jobs", "1"]).env("TZ", "Asia/Tokyo").env("LC_ALL", "C").output().unwrap();
    assert_eq!(other.text("lab.lock"), world.text("lab.lock"));
    assert!(!world.text("lab.lock").contains("127.0.0.1"), "a lock never names a mirror");
}

#[test]
fn what_can_not_be_locked_says_why() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    for (from, to, wants) in [
        ("linux/arm64", "linux/arm64\", \"linux/amd64", &[][..]),
        (
            "web:1",
            "gone:1",
            &["image docker.io/library/gone:1: ", "`$SERVER/v2/library/gone/manifests/1", "is not there"],
        ),
        (
            "ref = \"quay.io/team/db:2\"",
            "ref = \"quay.io/team/db:2\"\nplatforms = [\"linux/arm64\"]",
            &["image quay.io/team/db:2: ", "is not for linux/arm64"],
        ),
        ("version = \"1.0.0\"", "version = \"1.0.1\"", &["chart app: ", "1.0.1"]),
        ("member = \"{os}-{arch}/tool\"", "member = \"bin/tool\"", &["tool tool (linux/amd64): ", "bin/tool"]),
        (
            "member = \"{os}-{arch}/tool\"",
            "member = \"{os}-{arch}/LICENSE\"",
            &["tool tool (linux/amd64): ", "program"],
        ),
    ] {
        world.write("lab.toml", Upstream::LAB.replacen(from, to, 1));
        let run = world.run(&["lock", "lab.toml"]);
        assert_eq!(run.code, i32::from(!wants.is_empty()), "{to}: {}", run.err);
        let run = run.says(wants);
        assert_eq!(world.path("lab.lock").exists(), wants.is_empty(), "{}", run.err);
        let _ = std::fs::remove_file(world.path("lab.lock"));
    }
    let sha = format!("url = \"https://dl.example.org/data.txt\"\nsha256 = \"{}\"", "0".repeat(64));
    world.write("lab.toml", Upstream::LAB.replacen("url = \"https://dl.example.org/data.txt\"", &sha, 1));
    world.run(&["lock", "lab.toml"]).ends(4).says(&["file data: ", "has digest", &"0".repeat(64)]);
    assert!(!world.path("lab.lock").exists());
}

#[test]
fn an_import_that_leads_out_and_back_means_the_same_from_everywhere() {
    let world = World::new();
    // Two folders of one repository.
    std::fs::create_dir_all(world.path(".git")).unwrap();
    world.write("lab/lab.toml", "schema = 1\nname = \"lab\"\nimports = [\"../common/m.toml\"]\n");
    world.write("lab/t.md", "text\n");
    world.write("common/m.toml", "[[text]]\npath = \"../lab/t.md\"\n");
    world.run(&["lock", "lab/lab.toml"]).ends(0);
    let above = world.text("lab/lab.lock");
    assert!(above.contains("path = \"t.md\""), "{above}");
    let mut inside = world.command(&["lock", "--check", "lab.toml"]);
    assert!(inside.current_dir(world.path("lab")).status().unwrap().success());
}
