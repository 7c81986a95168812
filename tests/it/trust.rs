//! What a folder of somebody else's says: its settings count where they are harmless or were allowed, and its profiles take
//! files from where they may come from.

use std::os::unix::fs::symlink;

use crate::support::world::Run;
use crate::support::{Upstream, World};

/// A lab whose only image is at `quay.io`, with a folder's mirror for it.
fn with_mirror(upstream: &Upstream) -> World {
    let world = World::new();
    world.write("sub/lab.toml", "schema = 1\nname = \"lab\"\n[[image]]\nref = \"quay.io/team/db:2\"\n");
    world.write("sub/labimg.local.toml", format!("jobs = 2\n\n[mirror]\n\"quay.io\" = \"{}\"\n", upstream.base));
    world
}

#[test]
fn settings_of_a_folder_count_once_they_were_allowed() {
    let upstream = Upstream::lab();
    let world = with_mirror(&upstream);
    let run = world.run(&["lock", "sub/lab.toml"]).ends(1);
    assert!(!run.err.contains(&upstream.base), "no value is repeated: {}", run.err);
    run.says(&[
        "error: settings file `sub/labimg.local.toml` is not allowed yet; these of its keys count only then:\n",
        "\n  sub/labimg.local.toml:3:2: `mirror`: your requests, with your passwords, go there\n",
        "\nhint: a folder may be somebody else's, so read it; where you trust it: labimg settings allow sub (",
    ]);
    assert_eq!(upstream.hits(), 0, "nothing was sent");
    let refused = world.run(&["lock", "sub/lab.toml", "--json"]).ends(1);
    assert!(refused.out.contains("labimg settings allow sub"), "{}", refused.out);

    world.run(&["settings", "allow", "sub"]).ends(0).says(&["allowed as it is now: ", "which sets `mirror`\n"]);
    let run = world.run(&["lock", "sub/lab.toml"]).ends(0);
    run.says(&["settings of this folder: sub/labimg.local.toml (jobs, mirror)\n"]);
    let quiet = world.run(&["lock", "sub/lab.toml", "--json"]).ends(0);
    assert!(!quiet.err.contains("settings of"), "{}", quiet.err);

    // By whatever name the folder goes; but no other folder, and no other content.
    symlink("sub", world.path("link")).unwrap();
    world.run(&["lock", "link/lab.toml", "--check"]).ends(0);
    world.write("other/labimg.local.toml", world.read("sub/labimg.local.toml"));
    world.write("other/lab.toml", world.read("sub/lab.toml"));
    world.run(&["lock", "other/lab.toml"]).ends(1).says(&["is not allowed yet"]);
    let text = world.text("sub/labimg.local.toml");
    world.write("sub/labimg.local.toml", format!("{text}# more\n"));
    world
        .run(&["lock", "sub/lab.toml", "--check"])
        .ends(1)
        .says(&["`sub/labimg.local.toml` changed since you allowed it"]);
    world.run(&["settings", "show", "sub"]).ends(0);
    world.write("sub/labimg.local.toml", text);
    world.run(&["lock", "sub/lab.toml", "--check"]).ends(0);
    world.run(&["settings", "revoke", "sub"]).ends(0).says(&["no longer allowed"]);
    world.run(&["lock", "sub/lab.toml", "--check"]).ends(1).says(&["is not allowed yet"]);
}

#[test]
fn every_verb_minds_the_settings_of_its_folder() {
    let world = World::new();
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n");
    world.write("labimg.local.toml", "[engine.kind]\nenv = { LD_PRELOAD = \"/tmp/evil.so\" }\n");
    let verbs = [
        "lock lab.toml",
        "build lab.toml",
        "check lab.toml",
        "graph lab.toml",
        "up lab.labimg",
        "status",
        "down lab",
        "kubectl get pods",
        "env",
        "doctor",
        "store du",
        "serve lab.labimg",
        "box import lab.labimg",
    ];
    for verb in verbs {
        let run = world.run(&verb.split(' ').collect::<Vec<_>>()).ends(1);
        run.says(&["labimg.local.toml` is not allowed yet", "`engine`: it sets the environment of programs"]);
    }
    // These need no setting.
    for verb in ["settings show", "schema", "completions bash"] {
        world.run(&verb.split(' ').collect::<Vec<_>>()).ends(0);
    }
    world.run(&["graph", "lab.toml", "--local-settings", "ignore"]).ends(0);
    let with = |value: &str| {
        let mut command = world.command(&["graph", "lab.toml"]);
        world.seen(&command.env("LABIMG_LOCAL_SETTINGS", value).output().unwrap())
    };
    assert_eq!((with("ignore").ends(0).err.as_str(), with("ask").code), ("", 1));
    with("allow").ends(0).says(&["settings of this folder: ./labimg.local.toml (engine)"]);
    with("yes").ends(1).says(&["LABIMG_LOCAL_SETTINGS is neither `ask` nor `allow` nor `ignore`"]);
}

#[test]
fn harmless_settings_count_as_they_are() {
    let world = World::new();
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n");
    world.write(
        "labimg.local.toml",
        "jobs = 3\nper-host = 2\ntries = 2\nstall-timeout = 9\ncores = 1\nmemory = 512\noffline = true\n",
    );
    world.run(&["lock", "lab.toml"]).ends(0).says(&["settings of this folder: ./labimg.local.toml (jobs, "]);
    world.run(&["settings", "allow"]).ends(0).says(&["counts as it is: nothing in it needs to be allowed"]);
    let shown = world.run(&["settings", "show", "--json"]).ends(0).out;
    assert!(shown.contains("\"standing\": \"harmless\"") && shown.contains("\"in-force\": true"), "{shown}");
    world.write("labimg.local.toml", "offline = false\n");
    world.run(&["lock", "lab.toml"]).ends(1).says(&["labimg.local.toml:1:1: `offline`: "]);
    world.write("elsewhere/x", "");
    world.run(&["settings", "allow", "elsewhere"]).ends(1).says(&["there is no file `elsewhere/labimg.local.toml`"]);
}

#[test]
fn authorities_that_changed_are_to_be_allowed_anew() {
    let world = World::new();
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n");
    world.write("labimg.local.toml", "ca = [\"ca.pem\"]\n");
    world.run(&["settings", "allow"]).ends(1).says(&["labimg.local.toml` names `./ca.pem`, which can not be read"]);
    world.write("ca.pem", "one");
    world.run(&["settings", "allow"]).ends(0);
    world.run(&["graph", "lab.toml"]).ends(0);
    world.write("ca.pem", "two");
    world.run(&["graph", "lab.toml"]).ends(1).says(&["names `./ca.pem`, which changed since you allowed it"]);
}

#[test]
fn a_settings_file_that_is_no_file_holds_nobody_up() {
    let world = World::new();
    world.write("lab.toml", "schema = 1\nname = \"lab\"\n");
    for (fifo, args) in [("labimg.local.toml", ["graph", "lab.toml"]), ("lab.lock", ["build", "lab.toml"])] {
        let made = std::process::Command::new("mkfifo").arg(world.path(fifo)).status().unwrap();
        assert!(made.success());
        world.run(&args).ends(1).says(&["is no regular file"]);
        std::fs::remove_file(world.path(fifo)).unwrap();
    }
}

/// Every key of a profile that names a local file, with `PATH` in its place.
const PLACES: [&str; 12] = [
    "[[text]]\npath = \"PATH\"\n",
    "[[file]]\nname = \"x\"\npath = \"PATH\"\n",
    "[[manifest]]\nname = \"x\"\npath = \"PATH\"\n",
    "[[chart]]\nname = \"x\"\nrepo = \"https://charts.example.org\"\nversion = \"1.0.0\"\nvalues = \"PATH\"\n",
    "[[host]]\nname = \"x\"\nreach = \"local\"\ncompose = \"PATH\"\n",
    "[debian.d]\nsuites = [\"bookworm\"]\nkeyring = \"PATH\"\n[toolchain]\ndebian = \"d\"\npackages = []\n",
    "[[cluster]]\nname = \"c\"\nengine = \"kind\"\nkubernetes = \"v1.34.0\"\nmounts = [{ path = \"PATH\", node = \"/x\" }]\n",
    "[debian.bookworm]\n[toolchain]\ndebian = \"bookworm\"\npackages = []\n[[step]]\nname = \"s\"\nrun = \"true\"\ninputs = { x = \"path:PATH\" }\n",
    "[[image]]\nref = \"x.lab/x:1\"\nbuild = \"PATH\"\n",
    "imports = [\"PATH\"]\n",
    "[[image]]\nref = \"x.lab/x:1\"\nbuild = \"from.toml\"\n",
    "[[image]]\nref = \"x.lab/x:1\"\nbuild = \"folder.toml\"\n",
];

/// Labs whose profile names `path` in each place; gives place and what `graph`, which reads all of them, said.
fn said_of(world: &World, path: &str, args: &[&str]) -> Vec<(&'static str, Run)> {
    let image = "schema = 1\n[[file]]\nto = \"/x\"\nfrom = ";
    world.write("sub/from.toml", format!("{image}\"{path}\"\n"));
    let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
    world.write("sub/folder.toml", format!("{image}\"{folder}\"\n"));
    let said = |place: &&'static str| {
        let (head, rest) = match place.starts_with("imports") {
            true => (place.replace("PATH", path), String::new()),
            false => (String::new(), place.replace("PATH", path)),
        };
        world.write("sub/lab.toml", format!("schema = 1\nname = \"lab\"\n{head}{rest}"));
        (*place, world.run(&[&["graph", "sub/lab.toml"], args].concat()))
    };
    PLACES.iter().map(said).collect()
}

#[test]
fn files_outside_the_profile_s_folder_are_refused_wherever_they_are_named() {
    let world = World::new();
    world.write("secret/key", "PRIVATE-KEY");
    world.write("sub/deep/note", "note");
    symlink("../secret/key", world.path("sub/notes.md")).unwrap();
    symlink("../secret", world.path("sub/linked")).unwrap();
    symlink(world.path("secret/key"), world.path("sub/absolute")).unwrap();
    for path in ["../secret/key", "notes.md", "linked/key", "absolute", "deep/../../secret/key"] {
        for (place, run) in said_of(&world, path, &[]) {
            // A folder is taken as what it holds; a link in it is refused as ever.
            let refused =
                run.err.contains("files of this profile come from below") || run.err.contains("a symbolic link:");
            assert!(run.code == 1 && refused, "{path} in {place}: {} {}", run.code, run.err);
            assert!(run.err.contains(".toml:") && !run.err.contains("PRIVATE-KEY"), "{path} in {place}: {}", run.err);
        }
    }
    // The way out: a person names the folder. (Links in what an image takes are refused as ever.)
    let taken = said_of(&world, "../secret/key", &["--root", "."]);
    for (place, run) in
        taken.iter().filter(|(place, _)| !place.contains("imports") && !place.contains("build = \"PATH"))
    {
        assert_eq!(run.code, 0, "{place}: {}", run.err);
    }
    let mut command = world.command(&["graph", "sub/lab.toml"]);
    world.seen(&command.env("LABIMG_ROOT", world.path("")).output().unwrap()).ends(0);
    world
        .run(&["graph", "sub/lab.toml", "--root", "gone"])
        .ends(1)
        .says(&["the root for local files, `gone`, can not be used"]);
}

#[test]
fn a_repository_is_one_folder() {
    let world = World::new();
    world.write("repo/.git/config", "token");
    world.write("repo/shared/note", "note");
    world.write("repo/profiles/lab.toml", "schema = 1\nname = \"lab\"\n[[text]]\npath = \"../shared/note\"\n");
    world.run(&["lock", "repo/profiles/lab.toml"]).ends(0);
    world.edit("repo/profiles/lab.toml", "../shared/note", "../../lab.toml");
    world.write("lab.toml", "x");
    let run = world.run(&["lock", "repo/profiles/lab.toml"]).ends(1);
    run.says(&[
        "`$DIR/lab/repo/profiles` and `$DIR/lab/repo`",
        "lab.toml:4:8",
        "hint: copy it there; or, where you trust the profile",
    ]);
    world.edit("repo/profiles/lab.toml", "../../lab.toml", "../.git/config");
    world.run(&["lock", "repo/profiles/lab.toml"]).ends(1).says(&["belongs to git, and is no input"]);
    // A home is no repository, whatever lies in it.
    let mut command = world.command(&["lock", "repo/profiles/lab.toml"]);
    world.edit("repo/profiles/lab.toml", "../.git/config", "../shared/note");
    world.seen(&command.env("HOME", world.path("repo")).output().unwrap()).ends(1).says(&["come from below"]);
}

#[test]
fn what_is_no_file_is_no_input_and_holds_nobody_up() {
    let world = World::new();
    assert!(std::process::Command::new("mkfifo").arg(world.path("fifo")).status().unwrap().success());
    std::fs::create_dir_all(world.path("sub")).unwrap();
    std::fs::rename(world.path("fifo"), world.path("sub/fifo")).unwrap();
    for (place, run) in said_of(&world, "fifo", &[]) {
        assert_eq!(run.code, 1, "{place}: {}", run.err);
        assert!(run.err.contains("fifo"), "{place}: {}", run.err);
    }
}
