//! The JSON Schema, the shipped profiles, and the profile a bundle carries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use labimg::model::profile::{LoadedProfile, parse};

use crate::support::{Upstream, World};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tomls(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    found.sort();
    assert!(!found.is_empty(), "{}", dir.display());
    found
}

fn loaded(path: &Path) -> LoadedProfile {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|e| e.to_string());
    let text = read(&path.display().to_string()).unwrap();
    parse(&path.display().to_string(), &text, &mut |p| read(p)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A profile's text as the JSON a schema is about.
fn json(text: &str) -> serde_json::Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

fn canonical(profile: &LoadedProfile) -> String {
    toml::to_string(&profile.profile).unwrap()
}

/// What the schema, as the program prints it, has against a profile.
fn against(value: &serde_json::Value) -> Vec<String> {
    let run = World::new().run(&["schema"]).ends(0);
    let schema: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn shipped_profiles_answer_the_schema() {
    for path in tomls(&root().join("profiles")) {
        let merged = loaded(&path);
        assert_eq!(against(&json(&canonical(&merged))), [""; 0], "{} merged", path.display());
        assert_eq!(against(&json(&std::fs::read_to_string(&path).unwrap())), [""; 0], "{} as written", path.display());
    }
}

#[test]
fn cases_answer_the_schema_or_not() {
    let fixtures = root().join("tests/fixtures");
    for entry in std::fs::read_dir(fixtures.join("satisfies")).unwrap() {
        let path = entry.unwrap().path().join("lab.toml");
        assert_eq!(against(&json(&std::fs::read_to_string(&path).unwrap())), [""; 0], "{}", path.display());
    }
    for case in [
        "unknown-key",
        "unknown-table",
        "wrong-type",
        "missing-key",
        "no-schema",
        "schema-2",
        "unknown-platform",
        "not-a-sha256",
    ] {
        let path = fixtures.join("profile").join(case).join("lab.toml");
        let found = against(&json(&std::fs::read_to_string(&path).unwrap()));
        assert!(!found.is_empty(), "the schema lets {case} pass");
    }
}

#[test]
fn an_unknown_key_fails_the_schema_at_every_level() {
    for path in tomls(&root().join("profiles")) {
        let good = json(&canonical(&loaded(&path)));
        let lists = ["cluster", "image", "chart", "manifest", "deploy", "text", "check", "wheel", "step", "host"];
        for list in lists.into_iter().filter(|list| good[list].is_array()) {
            let mut bad = good.clone();
            bad[list][0]["surplus"] = true.into();
            assert!(!against(&bad).is_empty(), "{} {list}", path.display());
        }
        let mut bad = good;
        bad["surplus"] = true.into();
        assert!(!against(&bad).is_empty());
    }
}

#[test]
fn every_module_is_imported_by_some_profile() {
    let profiles = root().join("profiles");
    let mut used = BTreeSet::new();
    for path in tomls(&profiles) {
        used.extend(loaded(&path).sources.files().iter().map(|f| PathBuf::from(&f.name)));
    }
    let idle: Vec<PathBuf> = tomls(&profiles.join("modules")).into_iter().filter(|m| !used.contains(m)).collect();
    assert!(idle.is_empty(), "{idle:?} is imported by none of {used:?}");
}

#[test]
fn a_canonical_profile_reads_as_the_same_profile() {
    let mut all = tomls(&root().join("profiles"));
    all.extend(
        std::fs::read_dir(root().join("tests/fixtures/satisfies")).unwrap().map(|e| e.unwrap().path().join("lab.toml")),
    );
    for path in all {
        let first = loaded(&path);
        let text = canonical(&first);
        let again = parse("canonical.toml", &text, &mut |p| Err(format!("it must not import {p}"))).unwrap();
        assert_eq!(again.profile, first.profile, "{}", path.display());
        assert_eq!(canonical(&again), text);
    }
}

#[test]
fn a_bundle_carries_the_profile_and_the_lock_it_was_built_from() {
    let upstream = Upstream::lab();
    let world = upstream.world();
    world.edit("lab.toml", "[[image]]", "imports = [\"more/data.toml\"]\n\n[[image]]");
    world.write("more/data.toml", "[[file]]\nname = \"extra\"\npath = \"extra.txt\"\n");
    world.write("more/extra.txt", "extra");
    world.run(&["build", "lab.toml"]).ends(0);
    let carried = world.run(&["cat", "lab.labimg", "profile"]).ends(0).out;
    let again = parse("carried.toml", &carried, &mut |p| Err(format!("it must not import {p}"))).unwrap();
    let written = loaded(&world.path("lab.toml"));
    assert_eq!(again.profile, written.profile);
    assert!(carried.contains("more/extra.txt") && against(&json(&carried)).is_empty());
    assert_eq!(world.run(&["cat", "lab.labimg", "lock"]).ends(0).out, world.text("lab.lock"));
    assert_eq!(world.run(&["cat", "lab.labimg", "extra"]).code, 1, "a local file goes by its path");
    assert_eq!(world.run(&["cat", "lab.labimg", "more/extra.txt"]).ends(0).out, "extra");
}
