//! Bundles that are not what they claim to be, as every verb that reads one sees them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Upstream, World};

/// The index's header; its text starts behind it.
const BLOCK: usize = 512;
/// Verbs that read a bundle, with what they need.
const READERS: [&[&str]; 6] = [
    &["inspect", "bad.labimg"],
    &["ls", "bad.labimg"],
    &["cat", "bad.labimg", "lock"],
    &["size", "bad.labimg"],
    &["diff", "bad.labimg", "lab.labimg"],
    &["export", "--oci", "--platform", "linux/amd64", "bad.labimg", "-o", "images.tar"],
];

fn built() -> (World, Vec<u8>) {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.run(&["build", "lab.toml"]).ends(0);
    let bytes = world.read("lab.labimg");
    (world, bytes)
}

fn index_len(bytes: &[u8]) -> usize {
    let size = std::str::from_utf8(&bytes[124..135]).unwrap();
    usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap()
}

fn index(bytes: &[u8]) -> Value {
    serde_json::from_slice(&bytes[BLOCK..BLOCK + index_len(bytes)]).unwrap()
}

/// The bundle with another index of the same length.
fn with_index(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = index(bytes);
    change(&mut value);
    let mut text = serde_json::to_vec(&value).unwrap();
    text.resize(index_len(bytes), b' ');
    let mut changed = bytes.to_vec();
    changed[BLOCK..BLOCK + text.len()].copy_from_slice(&text);
    changed
}

/// Every reader refuses `bytes` with `code` and the same words.
#[track_caller]
fn refused(world: &World, bytes: &[u8], code: i32, words: &str) {
    world.write("bad.labimg", bytes);
    for args in READERS {
        let run = world.run(args).ends(code);
        assert!(run.err.contains(words), "{args:?}: `{words}` is not in\n{}", run.err);
        assert!(run.out.is_empty() && !run.err.contains("panicked"), "{args:?}: {}{}", run.out, run.err);
    }
    assert!(!world.path("images.tar").exists(), "an export that fails leaves no file");
}

#[test]
fn other_files_are_no_bundles() {
    let (world, bytes) = built();
    for (file, why) in [
        (&b""[..], "`bad.labimg` is not a labimg bundle: it is empty"),
        (b"short", "is not a labimg bundle: it is too short"),
        (&[0; 2048], "is not a labimg bundle: it does not start with a tar header"),
        (&[b'x'; 2048], "is not a labimg bundle: it does not start with a tar header"),
        (&bytes[BLOCK + index_len(&bytes)..], "is not a labimg bundle: its first member is not `labimg/index.json`"),
    ] {
        refused(&world, file, 1, why);
    }
    world.run(&["inspect", "gone.labimg"]).ends(1).says(&["gone.labimg", "No such file"]);
    world.run(&["inspect", "."]).ends(1).says(&["`.` is not a labimg bundle: it is no regular file"]);
}

#[test]
fn another_format_is_told_apart_from_damage() {
    let (world, bytes) = built();
    let other = with_index(&bytes, |i| *i = json!({"format": 2, "new": ["things"]}));
    refused(&world, &other, 1, "`bad.labimg` is a bundle of format 2; this labimg knows format 1");
}

#[test]
fn a_bundle_that_was_cut_names_the_first_member_it_lacks() {
    let (world, bytes) = built();
    let full = index(&bytes);
    let last = full["members"].as_array().unwrap().last().unwrap().clone();
    let inside = last["offset"].as_u64().unwrap() as usize;
    refused(
        &world,
        &bytes[..inside],
        4,
        &format!("first member that is not whole is `{}`", last["path"].as_str().unwrap()),
    );
    refused(&world, &bytes[..bytes.len() - 1], 4, "`the end of the archive`");
    refused(&world, &bytes[..BLOCK + 100], 4, "`labimg/index.json`");
    let sizes = format!("it has {inside} of {} bytes", bytes.len());
    refused(&world, &bytes[..inside], 4, &sizes);
}

#[test]
fn every_altered_byte_is_found_and_its_member_named() {
    let (world, bytes) = built();
    let members = index(&bytes)["members"].as_array().unwrap().clone();
    for member in &members {
        let mut bad = bytes.clone();
        bad[member["offset"].as_u64().unwrap() as usize] ^= 1;
        world.write("bad.labimg", &bad);
        let run = world.run(&["inspect", "--verify", "bad.labimg"]).ends(4);
        let path = member["path"].as_str().unwrap();
        let told = run.out.lines().filter(|l| l.starts_with("DAMAGED")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains(path), "{path}: {}", run.out);
    }
    let first = members[0]["offset"].as_u64().unwrap() as usize;
    for (at, what) in [
        (first - BLOCK, "header"),
        (bytes.len() - 1, "end"),
        (first + members[0]["size"].as_u64().unwrap() as usize, "padding"),
    ] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        world.write("bad.labimg", &bad);
        let run = world.run(&["inspect", "--verify", "bad.labimg"]).ends(4);
        assert!(run.out.contains("DAMAGED"), "{what}: {}", run.out);
    }
    world.write("bad.labimg", [bytes.as_slice(), b"tail"].concat());
    world.run(&["inspect", "--verify", "bad.labimg"]).ends(4);
    let json = world.run(&["inspect", "--verify", "--json", "bad.labimg"]).ends(4);
    assert!(serde_json::from_str::<Value>(&json.out).unwrap()["damaged"][0]["path"].is_string());
}

#[test]
fn a_damaged_member_is_not_handed_out_quietly() {
    let (world, bytes) = built();
    let mut bad = bytes.clone();
    let lock =
        index(&bytes)["members"].as_array().unwrap().iter().find(|m| m["path"] == "labimg/lock.toml").unwrap().clone();
    bad[lock["offset"].as_u64().unwrap() as usize] ^= 1;
    world.write("bad.labimg", bad);
    world.run(&["cat", "bad.labimg", "lock"]).ends(4).says(&["damaged at `labimg/lock.toml`"]);
    world.run(&["cat", "bad.labimg", "nothing"]).ends(1).says(&["holds no", "nothing"]);
}

#[test]
fn an_index_that_lies_is_refused_with_the_member_it_lies_about() {
    let (world, bytes) = built();
    let last = index(&bytes)["members"].as_array().unwrap().len() - 1;
    let path = index(&bytes)["members"][last]["path"].as_str().unwrap().to_owned();
    type Change = Box<dyn FnOnce(&mut Value)>;
    let set =
        move |field: &'static str, value: Value| -> Change { Box::new(move |i| i["members"][last][field] = value) };
    let far = (bytes.len() as u64).next_multiple_of(512) + 512;
    let previous = index(&bytes)["members"][last - 1]["offset"].clone();
    let cases: Vec<(Change, &str)> = vec![
        (set("offset", far.into()), "it lies outside the file"),
        (set("offset", previous), "it overlaps what stands before it"),
        (set("offset", 0.into()), "it overlaps what stands before it"),
        (set("offset", ((1_u64 << 63) - 512).into()), "2^63"),
        (set("offset", u64::MAX.into()), ""),
        (set("size", (1_u64 << 63).into()), "2^63"),
        (set("size", u64::MAX.into()), "2^63"),
        (set("size", (1_u64 << 40).into()), "it lies outside the file"),
        (set("path", "/etc/passwd".into()), "`/etc/passwd`: its path is not one a bundle holds"),
        (set("path", "../../etc/passwd".into()), "its path is not one a bundle holds"),
        (set("path", "oci-layout".into()), "it is listed twice"),
        (set("size", (-1).into()), "invalid value"),
    ];
    for (change, why) in cases {
        refused(&world, &with_index(&bytes, change), 4, why);
        let run = world.run(&["inspect", "bad.labimg"]);
        assert!(run.err.starts_with("error: `bad.labimg` is damaged at `"), "{}", run.err);
    }
    refused(&world, &with_index(&bytes, |i| i["size"] = u64::MAX.into()), 4, "`labimg/index.json`");
    refused(&world, &with_index(&bytes, |i| drop(i["members"].as_array_mut().unwrap().pop())), 4, "damaged at");
    refused(&world, &with_index(&bytes, set("size", (1_u64 << 63).into())), 4, &path);
    let mut garbage = bytes.clone();
    garbage[BLOCK] = b'[';
    refused(&world, &garbage, 4, "damaged at `labimg/index.json`");
    let mut header = bytes;
    header[124..135].copy_from_slice(b"77777777777");
    let sum = header_sum(&header[..BLOCK]);
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refused(&world, &header, 4, "an index can not have 8589934591 bytes");
}

/// The checksum of a tar header (POSIX ustar): its bytes, with the checksum's own field as blanks.
fn header_sum(header: &[u8]) -> u32 {
    header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum()
}

#[test]
fn no_single_bit_of_the_index_brings_a_reader_down_or_passes() {
    let (world, bytes) = built();
    let bad: PathBuf = world.path("bad.labimg");
    let mut seed = 7_u64;
    for _ in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (seed >> 20) as usize % (BLOCK + index_len(&bytes));
        let mut changed = bytes.clone();
        changed[at] ^= 1 << ((seed >> 8) & 7);
        std::fs::write(&bad, changed).unwrap();
        let verified = labimg::ops::inspect::inspect(&bad, true, &labimg::base::report::Silent);
        // A bit in a name or a version gives another, sound index: what it was made from stands beside it.
        let sound = verified.is_ok_and(|report| report.damaged.is_some_and(|found| found.is_empty()));
        assert!(!sound, "byte {at}");
        let _ = labimg::ops::ls::ls(&bad);
    }
}

#[test]
fn an_index_that_calls_things_otherwise_than_the_lock_is_refused() {
    let (world, bytes) = built();
    type Change = fn(&mut Value);
    let cases: [(Change, &[&str]); 4] = [
        // Two letters of one length change places, so that the text stays as long as it was.
        (|i| flip(&mut i["contents"]["images"][0]["reference"]), &["index.json"]),
        (|i| flip(&mut i["contents"]["charts"][0]["version"]), &["the index has chart", "the lock chart"]),
        (|i| flip(&mut i["contents"]["files"][0]["name"]), &["the index has", "the lock"]),
        (|i| i["epoch"] = json!(i["epoch"].as_u64().unwrap() + 1), &["the index has epoch", "the lock"]),
    ];
    for (change, words) in cases {
        world.write("bad.labimg", with_index(&bytes, change));
        for args in [
            &["ls", "bad.labimg"][..],
            &["inspect", "bad.labimg"],
            &["export", "--oci", "--platform", "linux/amd64", "bad.labimg", "-o", "images.tar"],
            &["serve", "bad.labimg", "--listen", "127.0.0.1:0"],
            &["up", "bad.labimg"],
            &["check", "bad.labimg"],
        ] {
            let run = world.run(args).ends(4);
            assert!(words.iter().all(|w| run.err.contains(w)), "{args:?}: {}", run.err);
        }
        world.run(&["inspect", "bad.labimg", "--verify"]).ends(4);
    }
}

/// Makes the last letter or digit of a text another one.
fn flip(text: &mut Value) {
    let mut found = text.as_str().unwrap().to_owned();
    let last = found.pop().unwrap();
    found.push(if last == '1' { '3' } else { '1' });
    *text = json!(found);
}

#[test]
fn what_damage_hits_is_named() {
    let (world, bytes) = built();
    let layer = labimg::base::digest::Digest::of(b"db two linux/amd64").to_string();
    let members = index(&bytes)["members"].clone();
    let member = members.as_array().unwrap().iter().find(|m| m["digest"] == layer.as_str()).unwrap().clone();
    let mut bad = bytes;
    bad[member["offset"].as_u64().unwrap() as usize] ^= 1;
    world.write("bad.labimg", bad);
    let hint = "hint: copy it again from where it came, or delete it and build again\n";
    let run = world.run(&["inspect", "--verify", "bad.labimg"]).ends(4).says(&[hint]);
    assert!(run.out.contains("(of image quay.io/team/db:2)"), "{}", run.out);
    let run = world.run(&["export", "--oci", "--platform", "linux/amd64", "bad.labimg", "-o", "x.tar"]).ends(4);
    run.says(&["error: `bad.labimg` is damaged: ", "; it is of image quay.io/team/db:2\n", hint]);
}
