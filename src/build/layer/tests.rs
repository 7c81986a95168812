//! Layers read back, their golden digests, differences of trees.

use super::*;
use crate::base::codec;
use crate::base::report::Silent;
use crate::store::{Access, BlobSource};

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap()
}

fn sample() -> Tree {
    let from: Arc<str> = "package hello".into();
    let mut tree = Tree::default();
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7 % 251) as u8).collect();
    tree.put(path("usr/bin/hello"), Entry::file(&from, 0o4755, Content::bytes(content)));
    tree.put(path("usr/bin/again"), Entry { kind: Kind::Hardlink(path("usr/bin/hello")), ..Entry::dir(&from) });
    tree.put(path("bin"), Entry::symlink(&from, "usr/bin"));
    tree.put(path("etc/ä"), Entry { uid: 3_000_000, ..Entry::file(&from, 0o644, Content::bytes(*b"x")) });
    tree
}

fn written(tree: &Tree, threads: usize) -> (tempfile::TempDir, Store, Layer) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Shared).unwrap();
    let task = Task::begin(&Silent, "layer", None);
    let layer = write_layer(tree, 1_700_000_000, &store, threads, &task).unwrap();
    (dir, store, layer)
}

#[test]
fn a_layer_is_the_same_with_any_number_of_threads() {
    let (_dir, store, layer) = written(&sample(), 1);
    for threads in [2, 5] {
        assert_eq!(written(&sample(), threads).2, layer);
    }
    let mut plain = Vec::new();
    codec::decoder(store.open_blob(&layer.digest).unwrap()).unwrap().read_to_end(&mut plain).unwrap();
    assert_eq!((Digest::of(&plain), plain.len() as u64), (layer.diff_id, layer.uncompressed));
    let mut archive = tar::Archive::new(&plain[..]);
    let found: Vec<(String, tar::EntryType, u32, u64)> = archive
        .entries()
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            let h = e.header();
            (e.path().unwrap().to_str().unwrap().to_owned(), h.entry_type(), h.mode().unwrap(), h.uid().unwrap())
        })
        .collect();
    use tar::EntryType as T;
    let expected = [
        ("bin", T::Symlink, 0o777, 0),
        ("etc/", T::Directory, 0o755, 0),
        ("etc/ä", T::Regular, 0o644, 3_000_000),
        ("usr/", T::Directory, 0o755, 0),
        ("usr/bin/", T::Directory, 0o755, 0),
        ("usr/bin/again", T::Regular, 0o4755, 0),
        ("usr/bin/hello", T::Link, 0o4755, 0),
    ];
    assert_eq!(found, expected.map(|(p, t, m, u)| (p.to_owned(), t, m, u)));
    assert_eq!(layer.diff_id.hex(), "b69f8ed5466adbf81c200b8dafd23d4b443b5c0c6b071b336caf6b66a8c0e318");
    assert_eq!(layer.digest.hex(), "f371d3e23786a45cca5973ecf62ce089e390151d177dfafd34d6e20d7571e682");
}

#[test]
fn an_empty_tree_says_so() {
    let (_dir, _store, layer) = written(&Tree::default(), 2);
    assert!(layer.empty && layer.uncompressed == 1024 && layer.output().facts[EMPTY] == "yes");
}

#[test]
fn links_to_nothing_and_whiteout_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Shared).unwrap();
    let task = Task::begin(&Silent, "layer", None);
    let from: Arc<str> = "package bad".into();
    for (at, kind) in [
        ("x", Kind::Hardlink(path("y"))),
        ("x", Kind::Hardlink(path("x"))),
        ("etc/.wh.passwd", Kind::File(Content::bytes([]))),
    ] {
        let mut tree = Tree::default();
        tree.put(path(at), Entry { kind, ..Entry::dir(&from) });
        let text = write_layer(&tree, 0, &store, 1, &task).unwrap_err().to_string();
        assert!(text.starts_with("package bad: "), "{text}");
    }
}

#[test]
fn a_difference_holds_what_changed_and_whiteouts() {
    let lower = sample();
    assert!(difference(&lower, &sample()).unwrap().entries.is_empty(), "equal trees");
    let from: Arc<str> = "image.toml".into();
    let mut upper = sample();
    upper.entries.remove(&path("bin"));
    upper.put(path("etc/ä"), Entry { uid: 3_000_000, ..Entry::file(&from, 0o644, Content::bytes(*b"y")) });
    upper.entries.get_mut(&path("etc")).unwrap().mode = 0o700;
    let found: Vec<String> = difference(&lower, &upper).unwrap().entries.keys().map(ToString::to_string).collect();
    assert_eq!(found, ["/.wh.bin", "/etc", "/etc/ä"]);
    // A removed directory is one whiteout; another name of a file brings all its names.
    let mut upper = sample();
    upper.entries.retain(|p, _| !p.is_within(&path("etc")));
    upper.put(path("usr/new"), Entry { kind: Kind::Hardlink(path("usr/bin/hello")), ..Entry::dir(&from) });
    let changed = difference(&lower, &upper).unwrap();
    let found: Vec<String> = changed.entries.keys().map(ToString::to_string).collect();
    assert_eq!(found, ["/.wh.etc", "/usr", "/usr/bin", "/usr/bin/again", "/usr/bin/hello", "/usr/new"]);
    written(&changed, 1);
    // A directory that became a file needs no whiteouts.
    let mut upper = sample();
    upper.entries.retain(|p, _| !p.is_within(&path("etc")));
    upper.put(path("etc"), Entry::file(&from, 0o644, Content::bytes([])));
    assert_eq!(difference(&lower, &upper).unwrap().entries.len(), 1);
}
