//! The folders below `tests/fixtures`: each a profile, perhaps a lock, and what labimg must say of them.
//!
//! `LABIMG_BLESS=1 cargo test --test it` writes every `expected.txt` anew; read the difference before it is committed.

use std::path::{Path, PathBuf};

use crate::support::World;
use crate::support::world::copy_dir;

fn cases(group: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(group);
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    assert!(found.len() > 5, "{group}: {found:?}");
    found
}

fn world(case: &Path) -> World {
    let world = World::new();
    copy_dir(case, &world.path(""));
    world
}

fn blessing() -> bool {
    std::env::var_os("LABIMG_BLESS").is_some()
}

/// Runs `lock --check` in a copy of each case; the code and every byte of standard error must be as expected.
fn refused(group: &str, code: i32) {
    let mut wrong = Vec::new();
    for case in cases(group) {
        let run = world(&case).run(&["lock", "--check", "--offline", "lab.toml"]);
        let file = case.join("expected.txt");
        if blessing() {
            std::fs::write(&file, &run.err).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if run.code != code || run.err != expected || !run.out.is_empty() {
            let name = case.file_name().unwrap().display();
            wrong.push(format!(
                "{group}/{name} ended with {}\n{}{}--- expected\n{expected}",
                run.code, run.out, run.err
            ));
        }
        assert!(!run.err.contains("hunter2"), "a secret was repeated:\n{}", run.err);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn locks_that_answer_their_profile() {
    for case in cases("satisfies") {
        let world = world(&case);
        let before = (world.age("lab.lock"), world.read("lab.lock"));
        let check = world.run(&["lock", "--check", "--offline", "lab.toml"]);
        assert_eq!(check.code, 0, "{}: {}", case.display(), check.err);
        let lock = world.run(&["lock", "--offline", "lab.toml"]).ends(0);
        assert!(lock.err.contains("is up to date") && lock.out.is_empty(), "{}: {}", case.display(), lock.err);
        let after = (world.modified("lab.lock"), world.read("lab.lock"));
        assert!(after == before, "{}: the lock was written", case.display());
        assert!(!world.store().exists(), "{}: nothing was to be fetched", case.display());
    }
}

#[test]
fn locks_that_do_not_answer_their_profile() {
    refused("stale", 3);
}

#[test]
fn profiles_that_are_wrong() {
    refused("profile", 1);
}

#[test]
fn locks_that_can_not_be_used() {
    refused("lock", 1);
}

#[test]
fn a_stale_lock_stops_every_verb_that_needs_it_and_stays() {
    if blessing() {
        return; // The messages are being written at this very moment.
    }
    for case in cases("stale").into_iter().filter(|c| c.join("lab.lock").is_file()) {
        let world = world(&case);
        let before = (world.age("lab.lock"), world.read("lab.lock"));
        let expected = std::fs::read_to_string(case.join("expected.txt")).unwrap();
        for verb in ["fetch", "build"] {
            let run = world.run(&[verb, "--offline", "lab.toml"]).ends(3);
            assert_eq!(run.err, expected, "{} {verb}", case.display());
        }
        assert!((world.modified("lab.lock"), world.read("lab.lock")) == before, "{}", case.display());
    }
}
