//! `labimg store …` over a store with one lab in it.

use labimg::base::digest::Digest;

use crate::support::{Upstream, World};

fn built() -> (Upstream, World) {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.run(&["build", "lab.toml"]).ends(0);
    (upstream, world)
}

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

/// Replaces a blob's bytes, as a failing disk would.
fn corrupt(world: &World, digest: &str, bytes: &[u8]) {
    let path = world.blob(digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_bad_blob_is_named_and_mended() {
    let (upstream, world) = built();
    assert!(world.run(&["store", "check"]).ends(0).out.starts_with("all good: 18 blobs, "));
    let data = digest("some data\n");
    for wrong in [&b"sume data\n"[..], b"cut", b"", b"some data\nand more"] {
        corrupt(&world, &data, wrong);
        let run = world.run(&["store", "check"]).ends(4);
        assert!(run.out.starts_with(&format!("bad {data}: ")) && run.out.contains("(needed by lab)"), "{}", run.out);
        assert!(run.out.ends_with("hint: labimg store check --repair\n"), "{}", run.out);
        let run = world.run(&["store", "check", "--repair"]).ends(0);
        assert!(
            run.out.contains(&format!("repaired {data}: ")) && run.out.contains("1 bad, all repaired"),
            "{}",
            run.out
        );
        assert_eq!(std::fs::read(world.blob(&data)).unwrap(), b"some data\n");
        world.run(&["store", "check"]).ends(0);
    }
    let hits = upstream.hits();
    world.run(&["store", "check", "--repair"]).ends(0);
    assert_eq!(upstream.hits(), hits, "nothing bad, nothing asked");
}

#[test]
fn manifests_are_mended_too() {
    let (_upstream, world) = built();
    let lock = world.text("lab.lock");
    let digests: Vec<&str> = lock.lines().filter_map(|l| l.strip_prefix("digest = \"")?.strip_suffix('"')).collect();
    assert_eq!(digests.len(), 5);
    for digest in &digests {
        corrupt(&world, digest, b"{}");
    }
    world.run(&["store", "check"]).ends(4);
    world.run(&["store", "check", "--repair"]).ends(0);
    world.run(&["store", "check"]).ends(0);
    world.run(&["build", "--offline", "lab.toml"]).ends(0).says(&["unchanged"]);
}

#[test]
fn what_can_not_be_mended_now_is_mended_later() {
    let (_upstream, world) = built();
    let data = digest("some data\n");
    corrupt(&world, &data, b"wrong");
    let run = world.run(&["store", "check", "--repair", "--offline"]).ends(4);
    assert!(run.out.contains("lab lab was not mended: ") && run.out.contains("labimg works offline"), "{}", run.out);
    assert!(run.out.contains("1 bad still") && run.out.contains("hint: `labimg build PROFILE`"), "{}", run.out);
    world.run(&["fetch", "lab.toml"]).ends(0).says(&["fetched 1 blob"]);
    world.run(&["store", "check"]).ends(0);
}

#[test]
fn a_bad_blob_that_nobody_needs_goes_away() {
    let (_upstream, world) = built();
    let stray = digest("stray");
    std::fs::write(world.blob(&stray), "not stray").unwrap();
    let run = world.run(&["store", "check"]).ends(4);
    assert!(run.out.contains("(needed by no lab)"), "{}", run.out);
    world.run(&["store", "check", "--repair"]).ends(0);
    assert!(!world.blob(&stray).exists());
}

#[test]
fn a_bad_blob_in_a_bundle_is_found() {
    let (_upstream, world) = built();
    std::fs::remove_file(world.path("lab.labimg")).unwrap();
    let data = digest("some data\n");
    corrupt(&world, &data, b"another size\n");
    let run = world.run(&["build", "--offline", "lab.toml"]).ends(4);
    run.says(&[&data[7..], "is damaged: it has 13 bytes, not 10\nhint: labimg store check --repair\n"]);
    let here = std::fs::read_dir(world.path("")).unwrap().map(|e| e.unwrap().file_name());
    assert!(!here.into_iter().any(|name| name.to_string_lossy().contains(".labimg")), "nothing half-written");
    // Bundling copies blobs without hashing them again (that is what makes it as fast as a copy): bytes that rotted in the
    // store without changing their number are found by who reads the bundle.
    corrupt(&world, &data, b"same size\n");
    world.run(&["build", "--offline", "lab.toml"]).ends(0);
    let verified = world.run(&["inspect", "--verify", "lab.labimg"]).ends(4);
    assert!(verified.out.contains(&format!("blobs/sha256/{}: ", &data[7..])), "{}", verified.out);
    world.run(&["store", "check", "--repair"]).ends(0);
}

#[test]
fn gc_removes_what_no_lab_needs_and_nothing_else() {
    let (upstream, world) = built();
    upstream.image("library/web:1", &["linux/amd64", "linux/arm64"], &["base", "web two"]);
    world.run(&["lock", "lab.toml", "--update", "web:1"]).ends(0);
    world.run(&["build", "lab.toml"]).ends(0);
    let old = world.blob(&digest("web one linux/amd64"));
    let before = world.run(&["store", "gc"]).ends(0);
    assert_eq!(
        before.err,
        "removed 0 blobs (0 B); 8 blobs unneeded but younger than --grace says: `--grace 0s` takes all\n"
    );
    assert!(old.exists());
    let dry = world.run(&["store", "gc", "--grace", "0s", "--dry-run", "--json"]).ends(0);
    let dry: serde_json::Value = serde_json::from_str(&dry.out).unwrap();
    assert_eq!(
        dry["blobs"].as_array().unwrap().len(),
        8,
        "the tool's archive, an index, two manifests, two configurations, two layers"
    );
    assert!(old.exists(), "a dry run removes nothing");
    world.run(&["store", "gc", "--grace", "0s"]).ends(0).says(&["removed 8 blobs ("]);
    assert!(!old.exists() && world.blob(&digest("base linux/amd64")).exists());
    world.run(&["store", "gc", "--grace", "0s"]).ends(0).says(&["removed 0 blobs"]);
    world.run(&["store", "check"]).ends(0);
    world.run(&["build", "--offline", "lab.toml"]).ends(0).says(&["unchanged"]);
}

#[test]
fn two_labs_share_a_store() {
    let (_upstream, world) = built();
    let db = "schema = 1\nname = \"small\"\n[[image]]\nref = \"quay.io/team/db:2\"\n";
    world.write("small.toml", db);
    world.run(&["build", "small.toml"]).ends(0);
    world.run(&["store", "gc", "--grace", "0s"]).ends(0).says(&["removed 1 blob ("]); // the tool's archive
    let du = world.run(&["store", "du", "--json"]).ends(0);
    let du: serde_json::Value = serde_json::from_str(&du.out).unwrap();
    assert_eq!(du["labs"]["small"]["own-bytes"], 0, "all of it is the other lab's, too");
    assert_eq!((&du["unreferenced-bytes"], &du["blobs"]), (&0.into(), &17.into()));
    assert_eq!(du["labs"]["lab"]["bytes"], du["blob-bytes"]);
    let text = world.run(&["store", "du"]).ends(0).out;
    assert!(text.contains("  lab\n") && text.contains("  small\n") && text.contains("(17 blobs in all)"), "{text}");
}

#[test]
fn path_knows_blobs_and_labs() {
    let (_upstream, world) = built();
    let path = |what: &[&str]| world.run(&[&["store", "path"], what].concat());
    assert_eq!(path(&[]).ends(0).out, "$DIR/data/labimg/store\n");
    let data = digest("some data\n");
    let blob = format!("$DIR/data/labimg/store/blobs/sha256/{}\n", &data[7..]);
    assert_eq!(path(&[&data]).ends(0).out, blob);
    assert_eq!(path(&[&data[7..]]).ends(0).out, blob);
    assert_eq!(path(&["lab"]).ends(0).out, "$DIR/data/labimg/store/roots/lab\n");
    let gone = digest("gone");
    assert_eq!(path(&[&gone]).ends(1).err, format!("error: the store has no blob {gone}\n"));
    let expected = "error: `lob` is neither a digest nor a lab in the store\nhint: labs there: lab\n";
    assert_eq!(path(&["lob"]).ends(1).err, expected);
}

#[test]
fn a_root_is_an_oci_layout() {
    let (_upstream, world) = built();
    let root = world.store().join("roots/lab");
    let layout = std::fs::read_to_string(root.join("oci-layout")).unwrap();
    assert_eq!(layout, "{\"imageLayoutVersion\":\"1.0.0\"}\n");
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(root.join("index.json")).unwrap()).unwrap();
    let first = &index["manifests"][0];
    let hex = first["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let manifest = std::fs::read(root.join("blobs/sha256").join(hex)).unwrap();
    assert_eq!(Digest::of(&manifest).hex(), hex);
}

#[test]
fn build_check_hashes_a_bundle_that_stood_there() {
    let (_upstream, world) = built();
    let whole = world.read("lab.labimg");
    let mut rotten = whole.clone();
    let at = rotten.windows(10).position(|w| w == b"some data\n").unwrap();
    rotten[at] ^= 1;
    world.write("lab.labimg", &rotten);
    world.write(".lab.labimg.check", "left by an interrupted run");
    world.run(&["build", "--check", "--offline", "lab.toml"]).ends(0);
    assert!(world.read("lab.labimg") == whole);
    let data = digest("some data\n");
    corrupt(&world, &data, b"sume data\n");
    world.write("lab.labimg", &rotten);
    let run = world.run(&["build", "--check", "--offline", "lab.toml"]).ends(4);
    run.says(&[&data, "is damaged: its digest is", "hint: labimg store check --repair\n"]);
    assert!(!world.path("lab.labimg").exists() && !world.path(".lab.labimg.check").exists());
}

#[test]
fn two_profiles_of_one_bundle_name_are_refused() {
    let (_upstream, world) = built();
    world.write("other/lab.toml", "schema = 1\nname = \"lab\"\n");
    let run = world.run(&["build", "lab.toml", "other/lab.toml"]).ends(1);
    run.says(&["both make `lab.labimg`", "--out DIR"]);
}

#[test]
fn a_lab_that_can_not_be_mended_does_not_keep_others_from_it() {
    let (_upstream, world) = built();
    let data = digest("some data\n");
    corrupt(&world, &data, b"wrong");
    std::fs::create_dir_all(world.store().join("roots/a-broken")).unwrap();
    std::fs::write(world.store().join("roots/a-broken/lock.toml"), "no lock").unwrap();
    let run = world.run(&["store", "check", "--repair"]).ends(1);
    assert!(
        run.out.contains(&format!("repaired {data}")) && run.out.contains("lab a-broken was not mended"),
        "{}",
        run.out
    );
}

#[test]
fn a_blob_that_can_not_be_read_is_not_thrown_away() {
    let (_upstream, world) = built();
    let data = digest("some data\n");
    let mode = |bits| {
        std::fs::set_permissions(world.blob(&data), std::os::unix::fs::PermissionsExt::from_mode(bits)).unwrap();
    };
    mode(0o000);
    if std::fs::read(world.blob(&data)).is_ok() {
        eprintln!("SKIPPED a_blob_that_can_not_be_read_is_not_thrown_away: root reads everything");
        return;
    }
    let run = world.run(&["store", "check", "--repair"]).ends(4);
    assert!(run.out.contains("hint: blobs that can not be read were left alone"), "{}", run.out);
    mode(0o444);
    world.run(&["store", "check"]).ends(0);
}

#[test]
fn rm_forgets_a_lab() {
    let (_upstream, world) = built();
    let run = world.run(&["store", "rm", "lob"]).ends(1);
    assert_eq!(run.err, "error: the store has no lab `lob`\nhint: labs there: lab\n");
    world.run(&["store", "rm", "../roots/lab"]).ends(1);
    world.run(&["store", "rm", "lab"]).ends(0).says(&["forgot lab lab; `labimg store gc` frees"]);
    assert_eq!(std::fs::read_dir(world.store().join("roots")).unwrap().count(), 0);
    world.run(&["store", "gc", "--grace", "0s"]).ends(0).says(&["removed 18 blobs"]);
    world.run(&["store", "check"]).ends(0);
    world.run(&["build", "lab.toml"]).ends(0).says(&["fetched"]);
}

#[test]
fn looking_makes_no_store() {
    let world = World::new();
    for verb in [&["check"][..], &["check", "--repair"], &["gc"], &["du"], &["path"], &["rm", "lab"]] {
        let run = world.run(&[&["store"], verb].concat()).ends(1);
        run.says(&["error: there is no store at `$DIR/data/labimg/store`\nhint: `labimg fetch PROFILE` makes it"]);
        assert!(!world.store().exists(), "{verb:?}");
    }
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let (_upstream, world) = built();
    let made = std::process::Command::new("mkfifo").arg(world.path("pipe")).status();
    assert!(made.unwrap().success());
    world.run(&["inspect", "pipe"]).ends(1).says(&["it is no regular file"]);
    world.run(&["build", "pipe"]).ends(1).says(&["`pipe` is no regular file"]);
    std::fs::remove_file(world.path("lab.labimg")).unwrap();
    std::fs::rename(world.path("pipe"), world.path("lab.labimg")).unwrap();
    world.run(&["build", "lab.toml"]).ends(1).says(&["lab.labimg", "it is no regular file"]);
}

#[test]
fn a_lab_s_record_that_rots_is_named_and_mended() {
    let (_upstream, world) = built();
    let file = |name: &str| world.store().join("roots/lab").join(name);
    let sound = ["index.json", "lock.toml", "root.json"].map(|name| (name, std::fs::read(file(name)).unwrap()));
    for (name, text) in &sound {
        for at in [text.len() / 3, text.len() / 2, text.len() - 5] {
            let mut rotten = text.clone();
            rotten[at] ^= 1;
            std::fs::write(file(name), rotten).unwrap();
            let run = world.run(&["store", "check"]).ends(4);
            assert!(run.out.contains(&format!("bad roots/lab/{name}: ")), "{name}: {}", run.out);
            let run = world.run(&["store", "check", "--repair"]);
            if *name == "lock.toml" {
                let run = run.ends(4);
                assert!(run.out.contains("lab lab was not mended: "), "{}", run.out);
                world.run(&["build", "--offline", "lab.toml"]).ends(0);
            } else {
                let run = run.ends(0);
                assert!(run.out.contains(&format!("repaired roots/lab/{name}: ")), "{name}: {}", run.out);
            }
            world.run(&["store", "check"]).ends(0);
            assert!(sound.iter().all(|(name, text)| std::fs::read(file(name)).unwrap() == *text), "{name}");
        }
    }
}

#[test]
fn a_folder_of_the_store_that_is_a_link_is_told() {
    let (_upstream, world) = built();
    world.write("victim/old.part", "x");
    std::fs::remove_dir_all(world.store().join("tmp")).unwrap();
    std::os::unix::fs::symlink(world.path("victim"), world.store().join("tmp")).unwrap();
    for args in [&["store", "gc", "--grace", "0s"][..], &["store", "check"], &["build", "lab.toml"]] {
        world.run(args).ends(1).says(&["store/tmp` is a link to", "move the link away"]);
    }
    assert!(world.path("victim/old.part").exists());
}
