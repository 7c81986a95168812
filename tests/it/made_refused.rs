//! Archives and packages with something wrong: the exit code, what labimg says, and that nothing half-made stays.

use crate::support::Makings;
use crate::support::makings::deb::{Deb, bomb};
use crate::support::makings::debrepo::{Key, Suite};
use crate::support::makings::{app, base, lib};
use crate::support::upstream::Broken;
use crate::support::world::Run;

/// `lock` ends with `code` and says all of `texts`; no lock is there then.
#[track_caller]
fn no_lock(made: &Makings, code: i32, texts: &[&str]) -> Run {
    let run = made.run(&["lock", "made.toml"]).ends(code).says(texts);
    assert!(!made.world.path("made.lock").exists());
    run
}

#[test]
fn archives_that_can_not_be_trusted() {
    let made = Makings::small();
    let release =
        ": debian bookworm: `$SERVER/debian/dists/bookworm/InRelease` is not signed as it must be: it is plain text\n";
    made.serve_release(|text| text.as_bytes().to_vec());
    no_lock(&made, 4, &[release, "hint: labimg takes packages of signed archives only"]);
    let other = Key::new();
    made.serve_release(|text| other.sign(text));
    let keyring =
        "hint: is it the archive you mean, and is its key in the keyring (keyring = \"FILE\" in [debian.bookworm])?\n";
    no_lock(
        &made,
        4,
        &["the signature of `$SERVER/debian/dists/bookworm/InRelease` is not good", "  gpgv --status-fd", keyring],
    );
    made.serve_release(|text| String::from_utf8(made.key.sign(text)).unwrap().replace("stable", "other").into());
    no_lock(&made, 4, &["is for another text\n", "BAD signature", keyring]);
    made.serve_as(|suite| suite.field("Valid-Until", "Sat, 18 Jul 2026 10:16:37 UTC"));
    no_lock(
        &made,
        1,
        &[
            "was valid until 2026-07-18 10:16 UTC, and it is 20",
            "snapshot = \"20260718T101637Z\" in [debian.bookworm]\n",
        ],
    );
    made.serve_as(|suite| suite.field("Codename", "trixie"));
    no_lock(
        &made,
        1,
        &["InRelease is suite `trixie`, not `bookworm`\n", "hint: suites = [\"trixie\"] in [debian.bookworm]"],
    );
    made.serve_as(|suite| suite.field("Architectures", "arm64"));
    no_lock(&made, 1, &["bookworm has no architecture `amd64`; it has arm64\n"]);
    made.serve_as(|suite| suite.raw("Package: x\n\n"));
    // Nobody wants `x`: its odd entry is told, and the others are chosen from.
    let passed_over = ["/main/binary-amd64/by-hash/SHA256/", ": x (line 37: `` is no version: it is empty)\n"];
    made.run(&["lock", "made.toml"]).ends(0).says(&passed_over);
    std::fs::remove_file(made.world.path("made.lock")).unwrap();
    std::fs::remove_file(made.world.path("keys/archive.gpg")).unwrap();
    made.serve();
    no_lock(&made, 1, &["keys/archive.gpg"]);
}

#[test]
fn an_archive_of_yesterday_is_taken_on_purpose() {
    let made = Makings::small();
    let old = |suite: Suite| suite.field("Valid-Until", "Sat, 18 Jul 2026 10:16:37 UTC");
    made.serve_as(old);
    made.keep_as("20260718T101637Z", old);
    no_lock(&made, 1, &["snapshot = \"20260718T101637Z\" in [debian.bookworm]\n"]);
    made.world.edit("made.toml", "[debian.bookworm]\n", "[debian.bookworm]\nsnapshot = \"20260718T101637Z\"\n");
    made.build().ends(0);
    // Another mirror has nothing to say about it, and the archive of today neither.
    made.world.empty_store();
    made.upstream.remove("/debian/pool/main/app_1.0_all.deb");
    made.build().ends(0);
}

#[test]
fn an_index_that_is_not_the_signed_one() {
    let made = Makings::small();
    let (hits, good) = (made.upstream.hits(), ": debian bookworm: ");
    made.run(&["lock", "made.toml"]).ends(0);
    let asked = made.upstream.asked_since(hits);
    let index = asked.iter().find(|path| path.contains("/binary-amd64/")).unwrap();
    made.world.empty_store();
    std::fs::remove_file(made.world.path("made.lock")).unwrap();
    made.upstream.spoil(index, Broken::Bytes(b"Package: app\n".to_vec()));
    no_lock(&made, 4, &[good, "binary-amd64", "hint: "]);
    made.upstream.mend();
    made.run(&["lock", "made.toml"]).ends(0);
}

#[test]
fn packages_that_can_not_be_chosen() {
    let mut made = Makings::small();
    let set = ": debian bookworm: image made.lab/app:1 (amd64): ";
    made.world.edit("app/image.toml", "[\"app\"]", "[\"ap\"]");
    no_lock(
        &made,
        1,
        &[
            "error: app/image.toml:",
            &format!("{set}no package of bookworm (amd64) is called `ap`\nhint: did you mean `app`?\n"),
        ],
    );
    made.world.edit("app/image.toml", "[\"ap\"]", "[\"app\"]");
    let hint = "\nhint: leave a package out, or take a suite beside this one that has what is needed: suites = [...] in [debian.bookworm]\n";
    made.add(lib("amd64", "0.9"));
    made.serve();
    no_lock(&made, 1, &[&format!("{set}app needs lib (>= 1), but bookworm has lib 0.9{hint}")]);
    let mut deep = Deb::new("lib", "1.0", "amd64");
    deep.field("Depends: deep | deeper");
    made.add(deep);
    made.serve();
    let chain = "app needs lib (>= 1), and lib needs deep | deeper, but bookworm has nothing called deep and nothing called deeper";
    no_lock(&made, 1, &[&format!("{set}{chain}{hint}")]);
    let mut apart = lib("amd64", "1.0");
    apart.field("Conflicts: base");
    made.add(apart);
    made.serve();
    no_lock(&made, 1, &[set, "conflicts with base", "base is essential", hint]);
    assert_eq!(made.leftovers(), [""; 0]);
}

/// Builds with `app` changed; it must fail with `code` and all of `texts`, and leave nothing half-made.
#[track_caller]
fn refused(made: &Makings, code: i32, bytes: Vec<u8>, texts: &[&str]) {
    let _ = std::fs::remove_file(made.world.path("made.lock"));
    made.serve_bytes("app_all", bytes);
    let run = made.build().ends(code).says(texts);
    run.says(&["error: image made.lab/app:1 linux/amd64 packages failed: "]);
    assert_eq!(made.leftovers(), [""; 0]);
    assert!(!made.world.path("made.labimg").exists());
}

/// What is done to a good package.
type Change<'a> = &'a dyn Fn(&mut Deb);

#[test]
fn packages_that_hold_what_none_may() {
    let mut made = Makings::small();
    let cases: &[(Change<'_>, &str)] = &[
        (&|d: &mut Deb| _ = d.file("../x", "x"), "package app 1.0 all: `./../x` is refused: it holds `..`"),
        (
            &|d: &mut Deb| _ = d.entry("/etc/x", b'0', 0o644, "", b"x"),
            "package app 1.0 all: `/etc/x` is an absolute path",
        ),
        (
            &|d: &mut Deb| _ = d.entry("./dev", b'3', 0o644, "", b""),
            "package app 1.0 all: `/dev` is a device: nothing made here has any",
        ),
        (
            &|d: &mut Deb| _ = d.link("a", "/etc").file("a/x", "x"),
            "package app 1.0 all: `/a/x` would be unpacked through the link `/a` to `/etc`",
        ),
        (
            &|d: &mut Deb| d.data_name = Some("data.tar.lzma".into()),
            "package app 1.0 all: its member `data.tar.lzma` is compressed in an unknown way",
        ),
        (&|d: &mut Deb| d.version = "3.0\n".into(), "package app 1.0 all: it is of format `3.0`, not 2.x"),
        (&|d: &mut Deb| d.data.truncate(100), "package app 1.0 all: "),
        (
            &|d: &mut Deb| *d = Deb::new("app", "1.0", "arm64"),
            "package app 1.0 all: it has `Architecture: arm64`, the lock says `all`\n",
        ),
        (
            &|d: &mut Deb| *d = Deb::new("other", "1.0", "all"),
            "package app 1.0 all: it has `Package: other`, the lock says `app`\n",
        ),
        (
            &|d: &mut Deb| _ = d.file("etc/base.conf", "mine"),
            "package app and package base both have `/etc/base.conf`\nhint: leave one of them out, or give it another path\n",
        ),
    ];
    for (change, text) in cases {
        let mut deb = app("1.0");
        change(&mut deb);
        refused(&made, 1, deb.build(), &[text]);
    }
    refused(&made, 1, b"!<arch>\n".to_vec(), &["package app 1.0 all: its first member is not `debian-binary`\n"]);
    let mut cut = app("1.0").build();
    cut.truncate(cut.len() - 40);
    refused(&made, 1, cut, &["package app 1.0 all: it is cut off\n"]);
    made.add(app("1"));
    let text = "package app 1 all: its contents have more than 64 MiB, far beyond its `Installed-Size`\n";
    refused(&made, 1, bomb("app", 100 << 20), &[text]);
    std::fs::remove_file(made.world.path("made.lock")).unwrap();
    made.serve();
    made.build().ends(0);
}

#[test]
fn scripts_that_nobody_knows() {
    let mut made = Makings::small();
    let mut deb = app("1.0");
    deb.control("postinst", "#!/bin/sh\nset -e\nmake-me-happy --now\n");
    made.add(deb);
    made.serve();
    let run = made.build().ends(1);
    let message = "error: image made.lab/app:1 linux/amd64 packages failed: no maintainer scripts are run here, and there is no rule \
                   for what those of this package do:\n  app: postinst does `make-me-happy --now`\n\
                   hint: if they work without, write in image.toml: without-scripts = [\"app\"]\n";
    run.says(&[message]);
    assert_eq!(made.leftovers(), [""; 0]);
    let image = made.world.text("app/image.toml");
    for names in ["\"app\"", "\"*\""] {
        made.world.write("app/image.toml", format!("without-scripts = [{names}]\n{image}"));
        made.run(&["lock", "made.toml"]).ends(0);
        made.build().ends(0);
    }
    // The layer of the essential packages is made first, and is every image's.
    let mut deb = base("amd64");
    deb.control("preinst", "#!/bin/sh\nfrobnicate\n");
    made.add(deb);
    made.serve();
    for (names, code) in [("\"app\"", 1), ("\"app\", \"base\"", 0), ("\"*\"", 0)] {
        made.world.write("app/image.toml", format!("without-scripts = [{names}]\n{image}"));
        made.run(&["lock", "made.toml", "--update", "bookworm"]).ends(0);
        let run = made.build().ends(code);
        if code != 0 {
            let failed = "error: essential bookworm amd64 failed: no maintainer scripts";
            run.says(&[failed, "\n  base: preinst does `frobnicate`\n", "without-scripts = [\"app\", \"base\"]\n"]);
        }
    }
}
