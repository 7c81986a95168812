//! Debian archives made here and served on loopback, with everything that can be wrong with one; and the machine's real one.

#[path = "support/debrepo.rs"]
mod debrepo;
#[path = "support/fault.rs"]
// One module for several test binaries, each of which uses a part of it.
#[allow(dead_code)]
mod fault;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use debrepo::{DATE, Key, Repo, Suite, deb, no_apt};
use fault::{Fault, good, status};
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::model::lock::{Lock, LockedPackage, PackageSet};
use labimg::source::debian::{Resolved, SuiteRequest, fetch_package, resolve};
use labimg::source::fetch::{fetch_lock, missing};
use labimg::source::{ErrorKind, Net, NetOptions, SourceError};
use labimg::store::{Access, Store};

/// A store, a server with an archive, and a key that signed it.
struct World {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    server: Fault,
    key: Key,
}

impl World {
    async fn new(make: impl FnOnce(&mut Repo, &Key)) -> Self {
        let (mut repo, key) = (Repo::default(), Key::new());
        make(&mut repo, &key);
        let server = Fault::start(move |hit| match repo.files.get(&hit.path) {
            Some(bytes) => good(hit, bytes),
            None => status(404),
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("store"));
        Self { dir, store, server, key }
    }

    fn net(&self) -> Net {
        self.net_with(&[])
    }

    /// Mirrors of `debian` and `debian-security`, and more.
    fn net_with(&self, more: &[(&str, &str)]) -> Net {
        let usual = [("debian", "/debian"), ("debian-security", "/debian-security"), ("debian-snapshot", "/snapshots")];
        let all = usual.iter().chain(more).map(|(name, path)| ((*name).to_owned(), vec![self.server.url(path)]));
        net(NetOptions { archive_mirrors: all.collect(), apt_dir: no_apt(self.dir.path()), ..NetOptions::default() })
    }

    fn request(&self, want: &[&str]) -> SuiteRequest {
        SuiteRequest {
            debian: "lab".to_owned(),
            suites: vec!["bookworm".to_owned()],
            components: vec!["main".to_owned()],
            archive: "debian".to_owned(),
            keyring: Some(self.key.keyring()),
            now: DATE + 3600,
            sets: vec![set("image web amd64", "amd64", want)],
            ..SuiteRequest::default()
        }
    }

    async fn resolve(&self, request: &SuiteRequest) -> Result<Resolved, SourceError> {
        sendable(resolve(&self.net(), &self.store, request)).await
    }

    async fn fails(&self, request: &SuiteRequest) -> (ErrorKind, String, String) {
        let error = self.resolve(request).await.unwrap_err();
        (error.kind(), error.to_string(), error.hint().unwrap_or_default())
    }
}

/// Whoever resolves may do so in a task of its own.
fn sendable<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    future
}

fn net(options: NetOptions) -> Net {
    Net::new(NetOptions { pause: Duration::from_millis(5), tries: 2, ..options }, Arc::new(Silent))
}

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, Access::Shared).unwrap())
}

fn set(name: &str, architecture: &str, want: &[&str]) -> PackageSet {
    let want = want.iter().map(|w| (*w).to_owned()).collect();
    PackageSet {
        name: name.to_owned(),
        debian: "lab".to_owned(),
        architecture: architecture.to_owned(),
        want,
        essential: false,
    }
}

fn labels(resolved: &Resolved) -> Vec<String> {
    resolved.packages.iter().map(LockedPackage::label).collect()
}

/// A small suite: `app` needs `lib`, or what provides it; `data` is for every architecture.
fn small(repo: &mut Repo, key: &Key) {
    usual(repo).sign(repo, key);
}

fn usual(repo: &mut Repo) -> Suite {
    let suite = Suite::new("debian", "bookworm");
    let both = |suite: Suite, repo: &mut Repo, label: &str, more: &str| {
        suite.package(repo, label, "amd64", more).package(repo, label, "arm64", more)
    };
    let suite =
        both(suite, repo, "app 1.0-1", "Pre-Depends: base\nDepends: lib (>= 2), data,\n mta | mail-transport-agent");
    let suite = both(suite, repo, "lib 2.1-1", "Multi-Arch: same");
    let suite = both(suite, repo, "base 12", "Essential: yes");
    let suite = both(suite, repo, "exim 4.9", "Provides: mail-transport-agent\nConflicts: mail-transport-agent");
    let suite = both(suite, repo, "postfix 3.7", "Provides: mail-transport-agent\nConflicts: mail-transport-agent");
    let suite = suite.package(repo, "data 5", "all", "Depends: lib:any (<< 3)");
    suite
        .package(repo, "broken 1", "amd64", "Depends: middle (= 1)")
        .package(repo, "middle 1", "amd64", "Depends: lib (>= 3) | nowhere")
        .package(repo, "rival 1", "amd64", "Breaks: lib (<< 3)")
}

#[tokio::test]
async fn sets_of_two_architectures_become_packages_of_a_lock() {
    let world = World::new(small).await;
    let mut request = world.request(&["app"]);
    request.sets.push(set("image web arm64", "arm64", &["app", "postfix"]));
    request.sets.push(PackageSet { essential: true, ..set("essential lab amd64", "amd64", &[]) });
    let resolved = world.resolve(&request).await.unwrap();
    assert_eq!(
        labels(&resolved),
        [
            "app 1.0-1 amd64",
            "app 1.0-1 arm64",
            "base 12 amd64",
            "base 12 arm64",
            "data 5 all",
            "exim 4.9 amd64",
            "lib 2.1-1 amd64",
            "lib 2.1-1 arm64",
            "postfix 3.7 arm64",
        ]
    );
    let base = &resolved.packages[2];
    assert_eq!(base.sets, ["essential lab amd64", "image web amd64"]);
    assert_eq!(
        (base.digest, base.path.as_str()),
        (Digest::of(&deb("base", "12", "amd64")), "pool/main/base_12_amd64.deb")
    );
    assert_eq!(resolved.packages[4].sets, ["image web amd64", "image web arm64"]);
    let suite = &resolved.suites[0];
    assert_eq!((suite.suite.as_str(), suite.archive.as_str(), suite.date), ("bookworm", "debian", DATE));

    // A second time: the Release file is asked for again, the indices are not.
    let before = world.server.hits().len();
    assert_eq!(world.resolve(&request).await.unwrap(), resolved);
    assert_eq!(world.server.hits().len(), before + 1);

    let lock = Lock {
        suites: resolved.suites,
        package_sets: request.sets.clone(),
        packages: resolved.packages,
        ..Lock::default()
    };
    assert_eq!(missing(&world.store, &lock).unwrap().unwrap().what, "package app 1.0-1 amd64");
    assert_eq!(fetch_lock(&world.net(), &world.store, &lock).await.unwrap().blobs, 9);
    assert_eq!(missing(&world.store, &lock).unwrap(), None);
}

#[tokio::test]
async fn suites_are_merged_and_security_is_an_archive_of_its_own() {
    let world = World::new(|repo, key| {
        small(repo, key);
        let security = Suite::new("debian-security", "bookworm-security").field("Components", "updates/main");
        let security = security.field("Acquire-By-Hash", "no").package(repo, "lib 2.1-1+deb12u1", "amd64", "");
        security.package(repo, "app 1.0-1", "amd64", "").sign(repo, key);
    })
    .await;
    let mut request = world.request(&["app"]);
    request.suites.push("bookworm-security".to_owned());
    let resolved = world.resolve(&request).await.unwrap();
    let of = |name: &str| resolved.packages.iter().find(|p| p.name == name).unwrap();
    assert_eq!((of("lib").version.as_str(), of("lib").archive.as_str()), ("2.1-1+deb12u1", "debian-security"));
    assert_eq!(of("app").suite, "bookworm", "of equal versions the one of the first suite");
    assert_eq!(resolved.suites[1].archive, "debian-security");
}

#[tokio::test]
async fn signatures_are_held_to_the_keyring() {
    let world = World::new(|repo, key| {
        small(repo, key);
        let text = usual(repo).release(repo);
        let signed = String::from_utf8(key.sign(&text)).unwrap();
        repo.files.insert("/plain/dists/bookworm/InRelease".to_owned(), text.clone().into_bytes());
        let evil = signed.replace("bookworm", "bookw0rm");
        repo.files.insert("/altered/dists/bookworm/InRelease".to_owned(), evil.into_bytes());
        repo.files.insert("/more/dists/bookworm/InRelease".to_owned(), format!("{text}\n{signed}").into_bytes());
    })
    .await;
    let armoured = SuiteRequest { keyring: Some(world.key.armoured()), ..world.request(&["lib"]) };
    assert!(world.resolve(&armoured).await.is_ok(), "{:?}", world.resolve(&armoured).await.err());
    for (archive, kind, text) in [
        ("plain", ErrorKind::Mismatch, "is not signed as it must be: it is plain text"),
        ("more", ErrorKind::Mismatch, "is not signed as it must be"),
        ("altered", ErrorKind::Mismatch, "is for another text"),
    ] {
        let net = world.net_with(&[("debian", &format!("/{archive}"))]);
        let error = resolve(&net, &world.store, &world.request(&["lib"])).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{archive}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let other = Key::new();
    let (kind, text, hint) =
        world.fails(&SuiteRequest { keyring: Some(other.keyring()), ..world.request(&["lib"]) }).await;
    assert_eq!(kind, ErrorKind::Mismatch);
    assert!(text.contains("is not in the keyring") && text.contains("gpgv"), "{text}");
    assert!(hint.contains("keyring = "), "{hint}");
    let absent = SuiteRequest { keyring: Some(world.dir.path().join("none.gpg")), ..world.request(&["lib"]) };
    let (kind, text, hint) = world.fails(&absent).await;
    assert_eq!(kind, ErrorKind::Local);
    assert!(text.contains("there is no keyring") && hint.contains("debian-archive-keyring"), "{text} {hint}");
}

#[tokio::test]
async fn an_expired_release_is_judged_at_its_snapshot() {
    let world = World::new(|repo, key| {
        let suite = usual(repo).field("Valid-Until", "Sat, 18 Jul 2026 10:16:37 UTC");
        suite.sign(repo, key);
        let mirrored = repo.files.clone();
        for (path, bytes) in mirrored {
            let below = path.strip_prefix("/debian").unwrap();
            for time in ["20260712T000000Z", "20260701T000000Z", "20260801T000000Z"] {
                repo.files.insert(format!("/snapshots/{time}{below}"), bytes.clone());
            }
        }
    })
    .await;
    let now = DATE + 30 * 24 * 3600;
    let (kind, text, hint) = world.fails(&SuiteRequest { now, ..world.request(&["lib"]) }).await;
    assert_eq!(kind, ErrorKind::Content);
    assert!(text.contains("valid until 2026-07-18 10:16 UTC, and it is 2026-08-10 10:16 UTC"), "{text}");
    assert!(hint.contains("snapshot = \"20260718T101637Z\""), "{hint}");

    let at = |time: &str| SuiteRequest { now, snapshot: Some(time.to_owned()), ..world.request(&["lib"]) };
    let resolved = world.resolve(&at("20260712T000000Z")).await.unwrap();
    assert_eq!(resolved.suites[0].snapshot.as_deref(), Some("20260712T000000Z"));
    assert!(world.server.hits().iter().skip(1).all(|hit| hit.path.starts_with("/snapshots/20260712T000000Z/")));
    assert!(world.fails(&at("20260801T000000Z")).await.1.contains("valid until"));
    let (_, text, _) = world.fails(&at("20260701T000000Z")).await;
    assert!(text.contains("so it is not the snapshot 20260701T000000Z"), "{text}");
    assert_eq!(world.fails(&at("yesterday")).await.1, "`yesterday` is not the name of a snapshot");
    let (kind, text, _) = world.fails(&at("20260713T000000Z")).await;
    assert_eq!(kind, ErrorKind::NotFound, "{text}");
}

#[tokio::test]
async fn other_bytes_than_promised_are_refused() {
    let world = World::new(|repo, key| {
        small(repo, key);
        for (path, bytes) in &mut repo.files {
            if path.contains("binary-amd64") || path.ends_with("lib_2.1-1_arm64.deb") {
                *bytes.last_mut().unwrap() ^= 1;
            }
        }
    })
    .await;
    let (kind, text, _) = world.fails(&world.request(&["lib"])).await;
    assert_eq!(kind, ErrorKind::Mismatch);
    assert!(text.contains("binary-amd64") && text.contains("has digest"), "{text}");

    let arm = SuiteRequest { sets: vec![set("image web arm64", "arm64", &["lib"])], ..world.request(&[]) };
    let Resolved { suites, packages } = world.resolve(&arm).await.unwrap();
    let lock = Lock { suites, packages, ..Lock::default() };
    let error = fetch_lock(&world.net(), &world.store, &lock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("lib_2.1-1_arm64.deb"), "{error}");
}

#[tokio::test]
async fn a_vanished_package_names_the_snapshot_that_has_it() {
    let world = World::new(|repo, key| {
        small(repo, key);
        repo.files.remove("/debian/pool/main/lib_2.1-1_amd64.deb");
        repo.files
            .insert("/kept/20260712T101637Z/pool/main/lib_2.1-1_amd64.deb".to_owned(), deb("lib", "2.1-1", "amd64"));
    })
    .await;
    let Resolved { suites, packages } = world.resolve(&world.request(&["lib"])).await.unwrap();
    let lock = Lock { suites, packages, ..Lock::default() };
    let error = fetch_lock(&world.net(), &world.store, &lock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let (text, hint) = (error.to_string(), error.hint().unwrap());
    assert!(
        text.starts_with("debian lab: package lib 2.1-1 amd64 is gone from ") && text.contains("20260712T101637Z"),
        "{text}"
    );
    assert!(
        hint.contains("--mirror debian-snapshot=URL") && hint.ends_with("labimg lock PROFILE --update lab"),
        "{hint}"
    );
    let kept = world.net_with(&[("debian-snapshot", "/kept")]);
    fetch_lock(&kept, &world.store, &lock).await.unwrap();

    let mut orphan = lock;
    orphan.suites.clear();
    let error = fetch_lock(&kept, &world.store, &orphan).await.unwrap_err().to_string();
    assert!(error.contains("the lock has no suite `bookworm`"), "{error}");
}

#[tokio::test]
async fn what_can_not_be_is_explained() {
    let world = World::new(small).await;
    for (want, text) in [
        (
            &["broken"][..],
            "image web amd64: broken needs middle (= 1), and middle needs lib (>= 3) | nowhere, \
             but bookworm has lib 2.1-1 and nothing called nowhere",
        ),
        (
            &["lib", "rival"],
            "image web amd64: rival was asked for, but rival 1 breaks lib (<< 3), and lib was asked for",
        ),
        (&["exim", "postfix"], "conflicts with mail-transport-agent, and exim was asked for"),
        (&["apps"], "image web amd64: no package of bookworm (amd64) is called `apps`"),
        (&["mail-transport-agent"], "`mail-transport-agent` is a virtual package"),
    ] {
        let (kind, said, _) = world.fails(&world.request(want)).await;
        assert_eq!(kind, ErrorKind::Content);
        assert!(said.contains(text), "{said}");
    }
    assert_eq!(world.fails(&world.request(&["apps"])).await.2, "did you mean `app`?");
    assert!(world.fails(&world.request(&["mail-transport-agent"])).await.2.ends_with("exim, postfix"));
    let chosen = world.resolve(&world.request(&["app", "postfix"])).await.unwrap();
    assert!(!labels(&chosen).contains(&"exim 4.9 amd64".to_owned()), "what is chosen already will do");
}

#[tokio::test]
async fn what_a_suite_has_not_is_named() {
    let world = World::new(|repo, key| {
        small(repo, key);
        let other = repo.files["/debian/dists/bookworm/InRelease"].clone();
        repo.files.insert("/debian/dists/sid/InRelease".to_owned(), other);
    })
    .await;
    let ask = |suite: &str, component: &str, architecture: &str| SuiteRequest {
        suites: vec![suite.to_owned()],
        components: vec![component.to_owned()],
        sets: vec![set("image web", architecture, &["lib"])],
        ..world.request(&[])
    };
    for (request, text) in [
        (ask("bookworm", "contrib", "amd64"), "bookworm has no component `contrib`; it has main"),
        (ask("bookworm", "main", "riscv64"), "bookworm has no architecture `riscv64`; it has all, amd64, arm64"),
        (ask("sid", "main", "amd64"), "is suite `bookworm`, not `sid`"),
        (ask("../x", "main", "amd64"), "suite `../x`"),
        (ask("buster", "main", "amd64"), "dists/buster/InRelease` is not there"),
    ] {
        let (_, said, _) = world.fails(&request).await;
        assert!(said.contains(text), "{said}");
    }
    assert!(world.resolve(&ask("bookworm", "main", "arm64")).await.is_ok());
}

#[tokio::test]
async fn an_odd_entry_is_judged_where_it_is_wanted() {
    let odd =
        "Package: x\nVersion: 1\nArchitecture: amd64\n\nPackage: y\nVersion: 1_0\nArchitecture: amd64\nDepends: (\n\n";
    let world = World::new(|repo, key| {
        let suite =
            usual(repo).raw(odd).package(repo, "wants-y 1", "amd64", "Depends: y").field("Acquire-By-Hash", "no");
        let release = suite.release(repo).replace("Architectures: all amd64 arm64\n", "no field at all\n");
        let release = release.replace("SHA256:\n", "SHA256:\n short 7 main/binary-i386/Packages.gz\n");
        repo.files.insert("/debian/dists/bookworm/InRelease".to_owned(), key.sign(&release));
    })
    .await;
    for again in [false, true] {
        let found = world.resolve(&world.request(&["lib"])).await.unwrap();
        assert_eq!(labels(&found), ["lib 2.1-1 amd64"], "read again from the store: {again}");
    }
    let (kind, said, hint) = world.fails(&world.request(&["lib", "x"])).await;
    assert_eq!(kind, ErrorKind::Content);
    assert!(said.contains("Packages") && said.contains("package x: its size is ``"), "{said}");
    assert!(hint.contains("from another suite or a snapshot"), "{hint}");
    let (_, said, _) = world.fails(&world.request(&["wants-y"])).await;
    assert!(said.contains("wants-y needs y, but bookworm has no y that can be read (`"), "{said}");
    let i386 = SuiteRequest { sets: vec![set("image web", "i386", &["lib"])], ..world.request(&[]) };
    let (_, said, _) = world.fails(&i386).await;
    assert!(said.contains("`short 7 main/binary-i386/Packages.gz` under SHA256 has no digest and size"), "{said}");
}

#[tokio::test]
async fn packages_are_found_below_a_slash() {
    let world = World::new(|repo, key| {
        let suite = usual(repo);
        suite.sign(repo, key);
        let slashed = Suite::new("debian", "trixie");
        let index = "Package: lib\nVersion: 9\nArchitecture: amd64\nFilename: /./pool//main/lib_2.1-1_amd64.deb\n";
        let deb = &repo.files["/debian/pool/main/lib_2.1-1_amd64.deb"];
        let index = format!("{index}Size: {}\nSHA256: {}\n\n", deb.len(), Digest::of(deb).hex().to_uppercase());
        slashed.raw(&index).sign(repo, key);
    })
    .await;
    let request = SuiteRequest { suites: vec!["trixie".to_owned()], ..world.request(&["lib"]) };
    let found = world.resolve(&request).await.unwrap();
    assert_eq!(found.packages[0].path, "pool/main/lib_2.1-1_amd64.deb");
    fetch_package(&world.net(), &world.store, &found.suites[0], &found.packages[0]).await.unwrap();
}

#[tokio::test]
async fn an_archive_nobody_answers_for_says_who_named_it() {
    let world = World::new(small).await;
    let dead = [("debian".to_owned(), vec!["http://127.0.0.1:9/debian".to_owned()])];
    let options =
        NetOptions { archive_mirrors: dead.into(), apt_dir: no_apt(world.dir.path()), ..NetOptions::default() };
    let error = resolve(&net(options), &world.store, &world.request(&["lib"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().starts_with("can not reach the archive `debian`: "), "{error}");
    assert!(
        error.hint().unwrap().contains("--mirror debian=URL, LABIMG_MIRROR or a settings file"),
        "{:?}",
        error.hint()
    );
}
