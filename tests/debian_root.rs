//! Root file systems from packages made here: honest ones and hostile ones.
#![allow(clippy::disallowed_methods)]

#[path = "support/deb.rs"]
mod deb;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use deb::{Deb, Pack, bomb};
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::build::debian::{RootOptions, Unpacked, build_root, inside, merge, review, unpack, unpack_all, write_tree};
use labimg::build::tree::{Kind, Tree};
use labimg::build::{BuildError, debian::dpkg};
use labimg::model::guest_path::GuestPath;
use labimg::model::lock::LockedPackage;
use labimg::store::{Access, Store};

fn locked(name: &str, version: &str, architecture: &str, bytes: &[u8]) -> LockedPackage {
    LockedPackage {
        debian: "debian".into(),
        name: name.into(),
        version: version.into(),
        architecture: architecture.into(),
        suite: "stable".into(),
        archive: "debian".into(),
        path: format!("pool/{name}.deb"),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        sets: Vec::new(),
    }
}

fn open(bytes: &[u8], name: &str) -> Result<Unpacked, BuildError> {
    let dir = tempfile::tempdir().unwrap();
    unpack(&mut &bytes[..], &locked(name, "1", "all", bytes), dir.path())
}

fn good(deb: &Deb, name: &str) -> Unpacked {
    open(&deb.build(), name).unwrap()
}

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap()
}

fn roots(packages: Vec<Unpacked>) -> Result<Tree, BuildError> {
    let options = RootOptions { epoch: 1_700_000_000, architecture: "amd64".into(), ..Default::default() };
    build_root(packages, &options).map(|r| r.full)
}

#[test]
fn every_compression_unpacks_to_the_same() {
    for pack in [Pack::Plain, Pack::Gzip, Pack::Xz, Pack::Zstd] {
        let mut deb = Deb::new("a", "1", "all");
        let long = format!("usr/{}", "long/".repeat(40));
        deb.pack = pack;
        deb.dir("usr").file("usr/x", "text").link("usr/l", "/anywhere/../../out").hard("usr/h", "./usr/x");
        deb.file(&long, "deep").entry("./usr/su", b'0', 0o4755, "", b"setuid");
        deb.more.push(("_gpgorigin".into(), b"ignored".to_vec()));
        let a = good(&deb, "a");
        let Kind::File(content) = &a.entries[&path("usr/x")].kind else { panic!() };
        assert_eq!(content.read(10).unwrap(), b"text");
        assert_eq!(dpkg::hex(&a.md5[&path("usr/h")]), "1cb251ec0d568de6a929b520c4aed8d1");
        assert_eq!(a.entries[&path("usr/su")].mode, 0o4755);
        assert!(a.entries.contains_key(&path(&long)));
        assert!(matches!(&a.entries[&path("usr/h")].kind, Kind::Hardlink(to) if *to == path("usr/x")));
    }
}

#[test]
fn hostile_entries_are_refused_by_package_path_and_reason() {
    let with = |f: &dyn Fn(&mut Deb)| {
        let mut deb = Deb::new("evil", "1", "all");
        f(&mut deb);
        open(&deb.build(), "evil").unwrap_err().to_string()
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Deb));
    let cases: [Case<'_>; 16] = [
        ("`/etc/passwd` is an absolute path", &|d| {
            d.entry("/etc/passwd", b'0', 0o644, "", b"x");
        }),
        ("`./../x` is refused: it holds `..`", &|d| {
            d.entry("./../x", b'0', 0o644, "", b"x");
        }),
        ("`a/../../x` is refused", &|d| {
            d.entry("a/../../x", b'0', 0o644, "", b"x");
        }),
        ("`/dev/sda` is a device", &|d| {
            d.entry("./dev/sda", b'4', 0o644, "", b"");
        }),
        ("`/dev/tty` is a device", &|d| {
            d.entry("./dev/tty", b'3', 0o644, "", b"");
        }),
        ("`/run/p` is a named pipe", &|d| {
            d.entry("./run/p", b'6', 0o644, "", b"");
        }),
        ("`/x` is of an unknown kind", &|d| {
            d.entry("./x", b'V', 0o644, "", b"");
        }),
        ("is a name that is not UTF-8", &|d| {
            d.raw(b"./\xff\xfe", b'0', 0o644, "", b"");
        }),
        ("is a name with control characters", &|d| {
            d.file("a\nb", "");
        }),
        ("through the link `/out` to `/etc`", &|d| {
            d.link("out", "/etc").file("out/passwd", "x");
        }),
        ("is under `/f`, which is a file", &|d| {
            d.file("f", "").file("f/x", "x");
        }),
        ("is in the package twice", &|d| {
            d.file("f", "1").file("f", "2");
        }),
        ("is a hard link to a path outside", &|d| {
            d.hard("h", "../../etc/shadow");
        }),
        ("`/h` is a hard link to `/etc/shadow`, which is no file before it", &|d| {
            d.hard("h", "etc/shadow");
        }),
        ("is a link to nothing", &|d| {
            d.link("l", "");
        }),
        ("is refused: a name has more than 255 bytes", &|d| {
            d.file(&"x".repeat(256), "");
        }),
    ];
    for (want, make) in cases {
        let message = with(make);
        assert!(message.starts_with("package evil 1 all: ") && message.contains(want), "{want}: {message}");
    }
}

#[test]
fn wrong_packages_are_refused() {
    let deb = Deb::new("a", "1", "all");
    let bytes = deb.build();
    let dir = tempfile::tempdir().unwrap();
    for (name, version, architecture, want) in [
        ("b", "1", "all", "it has `Package: a`, the lock says `b`"),
        ("a", "2", "all", "it has `Version: 1`, the lock says `2`"),
        ("a", "1", "arm64", "it has `Architecture: all`, the lock says `arm64`"),
    ] {
        let error = unpack(&mut &bytes[..], &locked(name, version, architecture, &bytes), dir.path()).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    let with = |f: &dyn Fn(&mut Deb)| {
        let mut deb = deb.clone();
        f(&mut deb);
        open(&deb.build(), "a").unwrap_err().to_string()
    };
    assert!(
        with(&|d| d.data_name = Some("data.tar.bz2".into())).contains("`data.tar.bz2` is compressed in an unknown way")
    );
    assert!(with(&|d| d.data_name = Some("date.tar".into())).contains("unknown member `date.tar`"));
    assert!(with(&|d| d.more.push(("extra".into(), vec![1]))).contains("unknown member `extra`"));
    assert!(with(&|d| d.version = "3.0\n".into()).contains("of format `3.0`"));
    assert!(with(&|d| d.control.clear()).contains("no file `control`"));
    assert!(
        with(&|d| {
            d.control("../x", "y");
        })
        .contains("a file called")
    );
    for len in (0..bytes.len()).step_by(7) {
        assert!(open(&bytes[..len], "a").is_err(), "cut at {len}");
    }
}

#[test]
fn bombs_stop_while_they_stream() {
    let bytes = bomb("bomb", 4 << 30);
    assert!(bytes.len() < 1 << 20);
    let error = open(&bytes, "bomb").unwrap_err().to_string();
    assert!(error.contains("more than 64 MiB"), "{error}");
    let mut deb = Deb::new("names", "1", "all");
    deb.pack = Pack::Zstd;
    deb.raw(&vec![b'x'; 8 << 20], b'0', 0o644, "", b"");
    let error = open(&deb.build(), "names").unwrap_err().to_string();
    assert!(error.contains("a header in it has more than 1 MiB"), "{error}");
}

#[test]
fn paths_stay_inside_and_usr_is_merged() {
    let mut base = Deb::new("base-files", "1", "all");
    base.dir("bin").dir("lib").dir("usr").dir("usr/bin").link("var", "../../out");
    let mut tool = Deb::new("tool", "1", "all");
    tool.dir("bin").file("bin/tool", "x").hard("bin/again", "bin/tool").dir("lib64").file("lib64/ld.so", "l");
    let (base, tool) = (good(&base, "base-files"), good(&tool, "tool"));
    let tree = merge::root_tree(&[&tool, &base], &[]).unwrap().tree;
    for alias in ["bin", "sbin", "lib", "lib64"] {
        assert!(matches!(&tree.get(&path(alias)).unwrap().kind, Kind::Symlink(to) if *to == format!("usr/{alias}")));
    }
    assert!(tree.get(&path("lib32")).is_none());
    assert!(tree.get(&path("usr/bin/tool")).is_some() && tree.get(&path("bin/tool")).is_none());
    assert!(
        matches!(&tree.get(&path("usr/bin/again")).unwrap().kind, Kind::Hardlink(to) if *to == path("usr/bin/tool"))
    );
    let mut out = Deb::new("out", "1", "all");
    out.dir("var").file("var/x", "x");
    let out = good(&out, "out");
    let error = merge::root_tree(&[&out, &base], &[]).unwrap_err().to_string();
    assert!(error.contains("package out") && error.contains("leads out of the tree"), "{error}");
}

#[test]
fn one_file_of_two_packages_is_a_clash_unless_replaced() {
    let make = |name: &str, text: &str, field: &str| {
        let mut deb = Deb::new(name, "1", "all");
        deb.field(field).dir("etc").file("etc/x", text);
        good(&deb, name)
    };
    let (a, b) = (make("a", "1", "Section: x"), make("b", "2", "Section: x"));
    let error = merge::root_tree(&[&a, &b], &[]).unwrap_err().to_string();
    assert_eq!(error, "package a and package b both have `/etc/x`");
    for (field, fine) in [("Replaces: z, a (<< 2)", true), ("Replaces: a (<< 1)", false)] {
        let b = make("b", "2", field);
        let merged = merge::root_tree(&[&a, &b], &[]);
        assert_eq!(merged.is_ok(), fine, "{field}");
        if let Ok(merged) = merged {
            assert_eq!(inside::text(&merged.tree, "etc/x").unwrap(), "2");
            assert!(merged.lost[&0].contains(&path("etc/x")));
        }
    }
    let aside = merge::Diversion { path: path("etc/x"), to: path("etc/x.b"), by: "a".into() };
    let tree = merge::root_tree(&[&a, &b], &[aside]).unwrap().tree;
    assert_eq!(
        (inside::text(&tree, "etc/x").unwrap().as_str(), inside::text(&tree, "etc/x.b").unwrap().as_str()),
        ("1", "2")
    );
}

#[test]
fn unknown_scripts_are_named_all_at_once() {
    let script = |name: &str, text: &str| {
        let mut deb = Deb::new(name, "1", "all");
        deb.control("postinst", text);
        good(&deb, name)
    };
    let packages = vec![
        script("one", "#!/bin/sh\nmake-it-work --now\n"),
        script("none", "#!/bin/sh\nset -e\nexit 0\n"),
        script("linux-image-9", "#!/bin/sh\n"),
    ];
    assert_eq!(review(&packages).unwrap().len(), 2);
    let mut options = RootOptions { architecture: "amd64".into(), ..Default::default() };
    let Err(BuildError::User { message, hint }) = build_root(packages.clone(), &options) else { panic!() };
    assert!(message.contains("one: postinst does `make-it-work --now`"), "{message}");
    assert!(message.contains("linux-image-9: cannot work without its scripts"), "{message}");
    assert!(hint.ends_with("without-scripts = [\"linux-image-9\", \"one\"]"), "{hint}");
    options.without_scripts = BTreeSet::from(["one".into(), "linux-image-9".into()]);
    build_root(packages, &options).unwrap();
}

#[test]
fn the_database_is_dpkgs() {
    let mut a = Deb::new("b-pkg", "1", "all");
    a.field("Conffiles-Note: x")
        .control("conffiles", "/etc/b.conf\n")
        .control("triggers", "interest-noawait /usr/x\ninterest t\n");
    a.dir("etc").file("etc/b.conf", "text").dir("usr").file("usr/f", "text");
    let b = Deb::new("a-pkg", "1", "all");
    let tree = roots(vec![good(&a, "b-pkg"), good(&b, "a-pkg")]).unwrap();
    let file = |p: &str| inside::text(&tree, &format!("var/lib/dpkg/{p}")).unwrap();
    let status = file("status");
    assert!(status.starts_with("Package: a-pkg\nStatus: install ok installed\n"), "{status}");
    assert!(
        status.contains("Conffiles:\n /etc/b.conf 1cb251ec0d568de6a929b520c4aed8d1\nDescription: b-pkg\n longer\n"),
        "{status}"
    );
    assert_eq!(file("info/b-pkg.list"), "/.\n/etc\n/etc/b.conf\n/usr\n/usr/f\n");
    assert_eq!(file("info/b-pkg.md5sums"), "1cb251ec0d568de6a929b520c4aed8d1  usr/f\n");
    assert_eq!((file("triggers/File"), file("triggers/t")), ("/usr/x b-pkg/noawait\n".into(), "b-pkg\n".into()));
}

#[test]
fn many_packages_come_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Access::Shared).unwrap();
    let mut packages = Vec::new();
    for at in 0..20 {
        let name = format!("p{at}");
        let mut deb = Deb::new(&name, "1", "all");
        let bytes = deb.file(&format!("f{at}"), &"x".repeat(at * 1000)).build();
        store.put(&bytes).unwrap();
        packages.push(locked(&name, "1", "all", &bytes));
    }
    for threads in [1, 4] {
        let unpacked = unpack_all(&store, &packages, dir.path(), threads, &Silent).unwrap();
        assert!(unpacked.iter().map(|u| &u.package).eq(&packages));
        let Kind::File(last) = &unpacked[19].entries[&path("f19")].kind else { panic!() };
        assert_eq!(last.read(1 << 20).unwrap(), "x".repeat(19_000).into_bytes());
    }
    packages[7].version = "2".into();
    let error = unpack_all(&store, &packages, dir.path(), 4, &Silent).unwrap_err();
    assert!(error.to_string().starts_with("package p7 2 all: "), "{error}");
}

#[test]
fn a_tree_on_disk_has_its_modes_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut deb = Deb::new("a", "1", "all");
    deb.entry("./ro", b'5', 0o555, "", b"")
        .entry("./ro/f", b'0', 0o400, "", b"text")
        .link("l", "/etc")
        .hard("h", "ro/f");
    let tree = merge::root_tree(&[&good(&deb, "a")], &[]).unwrap().tree;
    write_tree(&tree, dir.path(), 1_000_000).unwrap();
    let meta = |p: &str| dir.path().join(p).symlink_metadata().unwrap();
    assert_eq!((meta("ro").permissions().mode() & 0o7777, meta("ro/f").permissions().mode() & 0o7777), (0o555, 0o400));
    let times =
        ["ro", "ro/f", "l", "h"].map(|p| meta(p).modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap());
    assert!(times.iter().all(|t| t.as_secs() == 1_000_000));
    std::fs::set_permissions(dir.path().join("ro"), std::fs::Permissions::from_mode(0o755)).unwrap();

    // A link that stands where a directory should be is not followed.
    let outside = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), other.path().join("ro")).unwrap();
    assert!(write_tree(&tree, other.path(), 0).is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_group_that_no_package_makes_is_told_with_a_way_out() {
    let alone = Deb::new("base-files", "1", "all");
    let error = roots(vec![good(&alone, "base-files")]).unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(error.to_string().contains("the group `mail`") && hint.contains("base-passwd"), "{error:?}");
}
