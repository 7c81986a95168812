//! What was made lies in the store as what was fetched does: kept while a lab needs it, checked, mended, made again.

use crate::support::Makings;
use crate::support::upstream::Broken;

/// The digest of a package's file, as the lock has it.
fn locked(made: &Makings, package: &str) -> String {
    let lock = made.world.text("made.lock");
    let entry = lock.split("[[package]]").find(|p| p.contains(&format!("name = \"{package}\"\n"))).unwrap();
    entry.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

fn remove(made: &Makings, digest: &str) {
    std::fs::remove_file(made.world.blob(digest)).unwrap();
}

/// Other bytes of the same size, which no look at a directory shows.
fn damage(made: &Makings, digest: &str) {
    let path = made.world.blob(digest);
    let size = std::fs::metadata(&path).unwrap().len();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0; usize::try_from(size).unwrap()]).unwrap();
}

#[test]
fn a_full_store_needs_no_network() {
    let made = Makings::small_built();
    let hits = made.upstream.hits();
    made.run(&["build", "--offline", "made.toml"]).ends(0).says(&["unchanged ./made.labimg"]);
    made.build().ends(0);
    assert_eq!(made.upstream.hits(), hits);
    remove(&made, &locked(&made, "app"));
    let run = made.run(&["build", "--offline", "made.toml"]).ends(1);
    assert_eq!(
        run.err,
        "error: app/image.toml:3:13: debian bookworm: package app 1.0 all: `$SERVER/debian/pool/main/app_1.0_all.deb` is not in the store, and labimg works offline\n\
         hint: run the same command without --offline (or LABIMG_OFFLINE) once\n"
    );
    made.build().ends(0).says(&["fetched 1 blob", "unchanged ./made.labimg"]);
}

#[test]
fn gc_keeps_what_the_next_build_wants_and_nothing_after_rm() {
    let made = Makings::small_built();
    made.run(&["store", "gc", "--grace", "0s"]).ends(0);
    assert_eq!(made.steps(), (0, 4));
    made.run(&["fetch", "made.toml"]).ends(0);
    made.run(&["store", "gc", "--grace", "0s"]).ends(0).says(&["removed 0 blobs"]);
    assert_eq!(made.steps(), (0, 4), "a fetch does not let go of what was made");
    made.run(&["store", "check"]).ends(0);
    made.run(&["store", "rm", "made"]).ends(0);
    made.run(&["store", "gc", "--grace", "0s"]).ends(0).says(&["4 realisations"]);
    for folder in ["blobs/sha256", "roots", "scratch", "tmp"] {
        let mut left = std::fs::read_dir(made.world.store().join(folder)).unwrap();
        assert!(left.next().is_none(), "{folder} is not empty");
    }
    assert_eq!(made.steps(), (4, 4));
}

#[test]
fn a_damaged_layer_is_made_again() {
    let made = Makings::small_built();
    let (before, layers) = (made.world.read("made.labimg"), made.layers("amd64"));
    damage(&made, &layers[1]);
    std::fs::remove_file(made.world.path("made.labimg")).unwrap();
    made.run(&["build", "--check", "made.toml"]).ends(4).says(&["hint: labimg store check --repair\n"]);
    let repair = made.run(&["store", "check", "--repair"]).ends(4);
    let hint = "hint: `labimg build PROFILE` brings back files beside the profile, and makes anew what labimg made\n";
    assert!(repair.out.starts_with(&format!("bad {}: ", layers[1])) && repair.out.ends_with(hint), "{}", repair.out);
    let why = made.run(&["why", "made.toml", "amd64 packages"]).ends(0);
    let step = "image made.lab/app:1 linux/amd64 packages";
    assert_eq!(why.out, format!("{step}: unchanged since the last build, but its output is not in the store\n"));
    made.run(&["build", "--offline", "made.toml"]).ends(0).says(&["made 1 of 4 steps"]);
    assert!(made.world.read("made.labimg") == before);
    made.run(&["store", "check"]).ends(0);
}

#[test]
fn a_damaged_input_shapes_nothing() {
    let made = Makings::small_built();
    let (package, before) = (locked(&made, "app"), made.world.read("made.labimg"));
    damage(&made, &package);
    remove(&made, &made.layers("amd64")[1]);
    let run = made.build().ends(4);
    run.says(&["packages, input `package app 1.0 all` failed: blob ", &package, "hint: labimg store check --repair\n"]);
    assert_eq!(made.leftovers(), [""; 0]);

    let offline = made.run(&["store", "check", "--repair", "--offline"]).ends(4);
    assert!(offline.out.contains("lab made was not mended: debian bookworm: package app 1.0 all: "), "{}", offline.out);
    let repair = made.run(&["store", "check", "--repair"]).ends(4);
    assert!(repair.out.contains(&format!("repaired {package}: ")), "{}", repair.out);
    made.build().ends(0).says(&["made 1 of 4 steps"]);
    assert!(made.world.read("made.labimg") == before);
    // Without anything made missing, all is well at once.
    damage(&made, &package);
    made.run(&["store", "check", "--repair"]).ends(0);
}

#[test]
fn a_package_that_is_gone_or_another_one() {
    let made = Makings::small_built();
    let path = "/debian/pool/main/app_1.0_all.deb";
    remove(&made, &locked(&made, "app"));
    made.upstream.spoil(path, Broken::Status(404));
    let gone = made.build().ends(1);
    assert_eq!(
        gone.err.split_once(": debian bookworm: ").map(|(_, rest)| rest).unwrap_or_default(),
        "package app 1.0 all is gone from $SERVER/debian/pool/main/app_1.0_all.deb; the snapshot 20260712T101637Z of debian still has it\n\
         hint: name a mirror of the snapshots: --mirror debian-snapshot=URL; or take what is there now: labimg lock made.toml --update bookworm\n"
    );
    let size = made.debs["app_all"].build().len();
    for other in [vec![0; size], vec![0; 9]] {
        made.upstream.spoil(path, Broken::Bytes(other));
        let run = made.build().ends(4);
        run.says(&[
            "error: app/image.toml:3:13: debian bookworm: package app 1.0 all: `$SERVER/debian/pool/main/app_1.0_all.deb` has ",
            "labimg lock made.toml --update bookworm\n",
        ]);
    }
    made.upstream.mend();
    made.upstream.spoil("/debian/pool/main/lib_1.0_amd64.deb", Broken::Status(404));
    made.build().ends(0);
    assert_eq!(made.leftovers(), [""; 0]);
}

#[test]
fn a_package_that_only_the_snapshots_have_still_comes() {
    let made = Makings::small();
    made.run(&["lock", "made.toml"]).ends(0);
    made.keep_as("20260712T101637Z", |suite| suite);
    made.upstream.remove("/debian/pool/main/app_1.0_all.deb");
    made.build().ends(0);
}

#[test]
fn a_lock_that_was_tampered_with() {
    let made = Makings::small();
    made.run(&["lock", "made.toml"]).ends(0);
    let good = made.world.text("made.lock");
    let digest = locked(&made, "app");
    made.world.edit("made.lock", &digest, &format!("sha256:{}", "0".repeat(64)));
    for verb in ["fetch", "build"] {
        let run = made.run(&[verb, "made.toml"]).ends(4);
        run.says(&[
            "error: app/image.toml:3:13: debian bookworm: package app 1.0 all: `$SERVER/debian/pool/main/app_1.0_all.deb` has digest sha256:",
            &"0".repeat(64),
        ]);
    }
    assert!(!made.world.path("made.labimg").exists());
    made.world.write("made.lock", good.replacen("suite = \"bookworm\"\narchive", "suite = \"trixie\"\narchive", 1));
    made.build().ends(3).says(&["debian bookworm: suites was trixie of debian, is bookworm of debian"]);
    made.world.write("made.lock", good);
    made.build().ends(0);
    assert_eq!(made.leftovers(), [""; 0]);
}

#[test]
fn what_a_step_came_to_that_rots_is_told_and_made_again() {
    let made = Makings::small_built();
    let before = made.world.read("made.labimg");
    let all = std::fs::read_dir(made.world.store().join("realisations")).unwrap().map(|e| e.unwrap().path());
    let of_layers = |path: &std::path::PathBuf| {
        path.is_file() && std::fs::read_to_string(path).unwrap().contains("\"diff-id\":\"sha256:")
    };
    let path = all.into_iter().find(of_layers).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.find("\"diff-id\":\"sha256:").unwrap() + 20;
    let mut rotten = text.clone().into_bytes();
    rotten[at] ^= 1;
    let name = format!("realisations/{}", path.file_name().unwrap().to_str().unwrap());
    let rot = || std::fs::write(&path, &rotten).unwrap();
    rot();
    let run = made.run(&["store", "check"]).ends(4);
    assert!(run.out.contains(&format!("bad {name}: ")), "{}", run.out);
    std::fs::remove_file(made.world.path("made.labimg")).unwrap();
    made.run(&["build", "--offline", "made.toml"]).ends(0).says(&["is built again", "made 1 of 4 steps"]);
    assert!(made.world.read("made.labimg") == before && std::fs::read_to_string(&path).unwrap() == text);
    rot();
    let run = made.run(&["store", "check", "--repair"]).ends(0);
    assert!(run.out.contains(&format!("repaired {name}: ")), "{}", run.out);
    assert!(!path.exists());
    made.run(&["build", "--offline", "made.toml"]).ends(0).says(&["made 1 of 4 steps"]);
    made.run(&["store", "check"]).ends(0);
    // One of before, without a digest, counts for nothing and is no error.
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    old.as_object_mut().unwrap().remove("digest");
    old["format"] = 1.into();
    std::fs::write(&path, old.to_string()).unwrap();
    made.run(&["store", "check"]).ends(0);
    let run = made.run(&["build", "--offline", "made.toml"]).ends(0).says(&["made 1 of 4 steps"]);
    assert!(!run.err.contains("built again"), "{}", run.err);
}
