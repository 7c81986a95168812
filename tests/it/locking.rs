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
    for all in [&["lock", "--update", "--", "lab.toml"][..], &["lock", "--update-all", "lab.toml"]] {
        world.run(all).ends(0).says(&["lab.lock is up to date"]);
    }
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

    let run = world.run(&["lock", "--update", "web:1", "lab.toml"]).ends(0);
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
    run.says(&[
        "error: lab.toml:24:7: file data: `$SERVER/dl.example.org/data.txt` is not there",
        "; it was asked for `https://dl.example.org/data.txt`\n",
    ]);
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
fn every_input_that_fails_is_told_with_its_place() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let digest = format!("web:1@sha256:{}", "1".repeat(64));
    for (from, to, at, wants) in [
        ("web:1", "gone:1", "5:7: image docker.io/library/gone:1: ", &["is the name right"][..]),
        ("web:1", &digest, "5:7: image ", &["hint: the digest is the one written in ", ": docker.io/library/web:1\n"]),
        ("https://charts", "https://other", "13:8: chart app: ", &["other.example.org"]),
        ("\"1.0.0\"", "\"1.0.1\"", "14:11: chart app: ", &["no version 1.0.1"]),
        ("\"{os}-{arch}/tool\"", "\"bin/tool\"", "20:10: tool tool (linux/amd64): ", &["bin/tool"]),
        (
            "\"{os}-{arch}/tool\"",
            "\"{os}-{arch}/LICENSE\"",
            "20:10: tool tool (linux/amd64): `linux-amd64/LICENSE` of `https://dl.example.org/tool-v1-linux-amd64.tar.gz`",
            &["is not for linux/amd64: it is no program\n"],
        ),
        (
            "version = \"v1\"",
            "version = \"v2\"",
            "19:7: tool tool (linux/amd64): ",
            &["; it was asked for `https://dl.example.org/tool-v2-"],
        ),
    ] {
        world.write("lab.toml", Upstream::LAB.replacen(from, to, 1));
        let run = world.run(&["lock", "lab.toml"]).ends(1).says(wants);
        assert!(run.err.starts_with(&format!("error: lab.toml:{at}")), "{}", run.err);
        assert!(!run.err.contains("labimg lock") && !run.err.contains("the lock"), "there is no lock yet: {}", run.err);
    }
    let sha = format!("url = \"https://dl.example.org/data.txt\"\nsha256 = \"{}\"", "0".repeat(64));
    world.write("lab.toml", Upstream::LAB.replacen("url = \"https://dl.example.org/data.txt\"", &sha, 1));
    let run = world.run(&["lock", "lab.toml"]).ends(4);
    let right = labimg::base::digest::Digest::of(b"some data\n").hex();
    run.says(&["error: lab.toml:25:10: file data: ", &format!("write sha256 = \"{right}\"\n")]);
    world.write("part.toml", "[[image]]\nref = \"none:1\"\n");
    world.write("lab.toml", "schema = 1\nname = \"lab\"\nimports = [\"part.toml\"]\n");
    world.run(&["lock", "lab.toml"]).ends(1).says(&["error: part.toml:2:7: image docker.io/library/none:1: "]);
}

#[test]
fn a_tag_that_is_not_there_is_told_with_those_that_are() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    let tags = |tags: &str| upstream.put("/v2/library/web/tags/list", format!("{{\"name\":\"web\",\"tags\":{tags}}}"));
    tags(r#"["1.9","1.10","1.2","latest","1.10-rc1"]"#);
    world.write("lab.toml", Upstream::LAB.replacen("web:1", "web:2", 1));
    let hint = "hint: write the tag you want; the repository has 1.10, 1.10-rc1, 1.9, 1.2, latest\n";
    world.run(&["lock", "lab.toml"]).ends(1).says(&["web:2: ", hint]);
    let many: Vec<String> = (0..30).map(|n| format!("\"0.{n}\"")).collect();
    tags(&format!("[{}]", many.join(",")));
    world
        .run(&["lock", "lab.toml"])
        .ends(1)
        .says(&["has 0.29, 0.28, 0.27, 0.26, 0.25, 0.24, 0.23, 0.22 and 22 more\n"]);
    for odd in ["null", "[]", "7"] {
        tags(odd);
        world.run(&["lock", "lab.toml"]).ends(1).says(&["hint: is the name right"]);
    }
    tags(r#"["1"]"#);
    world.write("lab.toml", Upstream::LAB.replacen("web:1", "web", 1));
    let says = [
        "lab.toml:5:7: image docker.io/library/web:latest: ",
        "; the profile writes no tag, so `latest` was asked for\n",
    ];
    world
        .run(&["lock", "lab.toml"])
        .ends(1)
        .says(&says)
        .says(&["hint: write the tag you want; the repository has 1\n"]);
    upstream.image("library/web:latest", &["linux/amd64", "linux/arm64"], &["base"]);
    let warns = "warning: lab.toml:5:7: image docker.io/library/web:latest: the profile writes no tag, so `latest` is locked, \
                 which moves; write the one you want: ref = \"docker.io/library/web:TAG\"\n";
    world.run(&["lock", "lab.toml"]).ends(0).says(&[warns]);
    let again = world.run(&["lock", "lab.toml"]).ends(0);
    assert!(!again.err.contains("warning"), "nothing was asked: {}", again.err);
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
