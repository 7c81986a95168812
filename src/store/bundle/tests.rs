//! Bundles written and read for real, sound ones and bad ones.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::base::digest::Digest;
use crate::base::report::Silent;
use crate::base::tarfmt::END;
use crate::model::lock::{Lock, LockedLocal, wire};
use crate::store::layout::OCI_LAYOUT;
use crate::store::{Access, BlobSource, Store, StoreError};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    description: Description,
}

/// A store with blobs of these sizes, and a description of them all.
fn fixture(sizes: &[usize]) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Access::Shared).unwrap();
    let mut description = Description { name: "lab".into(), epoch: 1_700_000_000, ..Description::default() };
    for (i, size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (0..*size).map(|n| (n.wrapping_mul(31) >> 3) as u8 ^ i as u8).collect();
        let digest = store.put(&bytes).unwrap();
        description.blobs.insert(digest, *size as u64);
        description.contents.locals.push(LocalEntry { digest, path: format!("f{i}"), size: *size as u64 });
    }
    description.texts = texts(&description.contents);
    Fixture { dir, store, description }
}

/// What stands before the blobs in the bundle of a lab of these local files.
fn texts(contents: &Contents) -> Vec<(String, Vec<u8>)> {
    let local = |l: &LocalEntry| LockedLocal { path: l.path.clone(), digest: l.digest, size: l.size };
    let locals = contents.locals.iter().map(local).collect();
    let lock = Lock { name: "lab".to_owned(), epoch: 1_700_000_000, locals, ..Lock::default() };
    let texts = [
        (OCI_LAYOUT_PATH, OCI_LAYOUT.as_bytes().to_vec()),
        (OCI_INDEX_PATH, contents.oci_index()),
        (PROFILE_PATH, b"schema = 1\nname = \"lab\"\n".to_vec()),
        (LOCK_PATH, wire::to_text(&lock).unwrap().into_bytes()),
    ];
    texts.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect()
}

impl Fixture {
    fn target(&self) -> PathBuf {
        self.dir.path().join("lab.labimg")
    }

    fn write(&self, threads: usize) -> Result<Written, BundleError> {
        let options = Options { threads, sync: false };
        write(&self.description, &self.store, &self.target(), options, &Silent)
    }

    fn written(&self) -> PathBuf {
        self.write(2).unwrap();
        self.target()
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs_err::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, at).unwrap();
    file.file().write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Replaces the index of a bundle, leaving all else in place.
fn forge(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let bundle = Bundle::open(path).unwrap();
    let mut value = serde_json::to_value(bundle.index()).unwrap();
    change(&mut value);
    let mut text = serde_json::to_vec(&value).unwrap();
    assert!(text.len() < bundle.index_len() as usize, "the fixture's index has no room for this");
    text.resize(bundle.index_len() as usize, b' ');
    let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
    file.file().write_all_at(&text, 512).unwrap();
}

/// As [`forge`], so that the index is one that labimg could have written.
fn forge_canonical(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let bundle = Bundle::open(path).unwrap();
    let mut value = serde_json::to_value(bundle.index()).unwrap();
    change(&mut value);
    let index: Index = serde_json::from_value(value).unwrap();
    let mut text = index.to_text();
    let len = bundle.index_len() as usize;
    assert!(text.len() < len, "the fixture's index has no room for this");
    text.resize(len - 1, b' ');
    text.push(b'\n');
    let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
    file.file().write_all_at(&text, 512).unwrap();
}

const SIZES: [usize; 6] = [0, 1, 512, 65_535, 65_536, 3_000_001];

#[test]
fn what_was_written_is_read_back() {
    let f = fixture(&SIZES);
    let written = f.write(2).unwrap();
    assert_eq!(written.outcome, Outcome::Written);
    let bundle = Bundle::open(&f.target()).unwrap();
    assert_eq!(bundle.identity(), written.identity);
    assert_eq!(bundle.file_size(), written.size);
    assert_eq!(bundle.verify(2, &Silent).unwrap(), []);
    assert_eq!(bundle.text(OCI_LAYOUT_PATH, 1 << 20).unwrap(), OCI_LAYOUT);
    for (digest, size) in &f.description.blobs {
        assert_eq!(bundle.blob_size(digest), Some(*size));
        assert_eq!(bundle.read_blob(digest, 4 << 20).unwrap().len() as u64, *size);
    }
    assert!(matches!(bundle.open_blob(&Digest::of(b"other")), Err(StoreError::Missing { .. })));
}

#[test]
fn an_independent_tar_reader_agrees() {
    let f = fixture(&SIZES);
    let bundle = Bundle::open(&f.written()).unwrap();
    let mut archive = tar::Archive::new(fs_err::File::open(f.target()).unwrap());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
        assert_eq!(entry.header().mode().unwrap(), 0o644);
        seen.push((entry.path().unwrap().display().to_string(), entry.raw_file_position(), entry.size()));
    }
    assert_eq!(seen.remove(0), (INDEX_PATH.to_owned(), 512, bundle.index_len()));
    let listed: Vec<_> = bundle.index().members.iter().map(|m| (m.path.clone(), m.offset, m.size)).collect();
    assert_eq!(seen, listed);
    assert!(listed.iter().filter(|m| m.2 >= 65_536).all(|m| m.1 % 4096 == 0));
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let f = fixture(&[70_000_000, 5, 100_000]);
    let bytes: Vec<Vec<u8>> = [1, 2, 5]
        .iter()
        .map(|threads| {
            f.write(*threads).unwrap();
            let bytes = fs_err::read(f.target()).unwrap();
            fs_err::remove_file(f.target()).unwrap();
            bytes
        })
        .collect();
    assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
}

#[test]
fn a_bundle_that_is_there_is_left_alone() {
    use std::os::unix::fs::MetadataExt;
    let f = fixture(&SIZES);
    let path = f.written();
    let inode = fs_err::metadata(&path).unwrap().ino();
    assert_eq!(f.write(1).unwrap().outcome, Outcome::Unchanged);
    assert_eq!(fs_err::metadata(&path).unwrap().ino(), inode);
    fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    assert_eq!(f.write(1).unwrap().outcome, Outcome::Written);
    assert_eq!(Bundle::open(&path).unwrap().verify(1, &Silent).unwrap(), []);
}

#[test]
fn a_bundle_can_be_written_from_a_bundle() {
    let f = fixture(&SIZES);
    let bundle = Bundle::open(&f.written()).unwrap();
    let copy = f.dir.path().join("copy.labimg");
    write(&f.description, &bundle, &copy, Options::default(), &Silent).unwrap();
    assert_eq!(fs_err::read(copy).unwrap(), fs_err::read(f.target()).unwrap());
}

#[test]
fn a_blob_of_another_size_or_none_is_named() {
    let mut f = fixture(&[100, 200]);
    let (digest, size) = f.description.blobs.pop_first().unwrap();
    f.description.blobs.insert(digest, size + 1);
    f.description.contents.locals.clear();
    let error = f.write(2).unwrap_err();
    assert!(error.to_string().contains(&digest.hex()) && error.is_integrity(), "{error}");
    fs_err::remove_file(f.store.blob_path(&digest)).unwrap();
    assert!(matches!(f.write(2).unwrap_err(), BundleError::Store(StoreError::Missing { .. })));
    let left: Vec<_> = fs_err::read_dir(f.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["store"], "nothing half-written");
}

#[test]
fn too_little_room_is_said_beforehand() {
    let mut f = fixture(&[10]);
    f.description.contents.locals.clear();
    f.description.blobs.insert(Digest::of(b"huge"), 1 << 60);
    match f.write(1).unwrap_err() {
        BundleError::NoRoom { needed, free, .. } => assert!(needed > free),
        other => panic!("{other}"),
    }
    assert!(!f.target().exists());
}

#[test]
fn any_flipped_byte_is_found_and_named() {
    let f = fixture(&[1, 700, 65_536]);
    let path = f.written();
    let bundle = Bundle::open(&path).unwrap();
    let members = bundle.index().members.clone();
    let size = bundle.file_size();
    let places =
        (0..bundle.index_len() + 512).step_by(61).chain((bundle.index_len()..size).step_by(173)).chain([size - 1]);
    for at in places {
        flip(&path, at);
        let found = match Bundle::open(&path) {
            Err(BundleError::Store(e)) => panic!("{e}"),
            Err(_) => None,
            Ok(bundle) => Some(bundle.verify(2, &Silent).unwrap()),
        };
        flip(&path, at);
        let Some(found) = found else {
            assert!(at < 512 + bundle.index_len(), "byte {at}");
            continue;
        };
        assert!(!found.is_empty(), "byte {at}");
        if let Some(member) = members.iter().find(|m| (m.offset..m.offset + m.size).contains(&at)) {
            assert_eq!(found.iter().map(|d| d.path.as_str()).collect::<Vec<_>>(), [member.path.as_str()]);
        }
    }
    assert_eq!(bundle.verify(2, &Silent).unwrap(), []);
}

#[test]
fn a_cut_file_names_the_first_member_that_is_not_whole() {
    let f = fixture(&[100_000, 200_000]);
    let path = f.written();
    let bundle = Bundle::open(&path).unwrap();
    let cut_at = |len: u64| {
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        Bundle::open(&path).err().unwrap()
    };
    let last = bundle.index().members.last().unwrap();
    let named = |error| match error {
        BundleError::Truncated { member, .. } => member,
        other => panic!("{other}"),
    };
    assert_eq!(named(cut_at(bundle.file_size() - 1)), "the end of the archive");
    assert_eq!(named(cut_at(last.offset + last.size - 1)), last.path);
    assert_eq!(named(cut_at(bundle.index().members[0].offset)), OCI_LAYOUT_PATH);
    assert_eq!(named(cut_at(2000)), INDEX_PATH);
    assert!(matches!(cut_at(100), BundleError::NotABundle { .. }));
    assert!(matches!(cut_at(0), BundleError::NotABundle { .. }));
}

#[test]
fn forged_indexes_are_refused() {
    let f = fixture(&[100_000]);
    let path = f.written();
    let sound = fs_err::read(&path).unwrap();
    type Change = Box<dyn FnOnce(&mut serde_json::Value)>;
    let set = |key: &'static str, value: serde_json::Value| -> Change {
        Box::new(move |index| index["members"][4][key] = value)
    };
    let cases: Vec<(Change, &str)> = vec![
        (set("offset", (1u64 << 40).into()), "outside the file"),
        (set("offset", 512.into()), "overlaps"),
        (set("size", (1u64 << 63).into()), "2^63"),
        (set("size", ((1u64 << 63) - 1).into()), "2^63"),
        (set("size", u64::MAX.into()), "2^63"),
        (set("offset", (u64::MAX - 511).into()), "2^63"),
        (set("size", (-1).into()), "-1"),
        (set("size", 0.5.into()), "0.5"),
        (set("path", "../../etc/passwd".into()), "path"),
        (set("path", OCI_LAYOUT_PATH.into()), "twice"),
        (Box::new(|i| i["size"] = 4096.into()), "outside"),
        (Box::new(|i| i["contents"]["locals"][0]["size"] = 1.into()), "in the contents"),
        (Box::new(|i| i["members"] = serde_json::json!([])), "but its members end"),
        (Box::new(|i| i["contents"] = 5.into()), "expected struct"),
    ];
    for (change, why) in cases {
        fs_err::write(&path, &sound).unwrap();
        forge(&path, change);
        let error = Bundle::open(&path).err().unwrap();
        assert!(error.is_integrity() && error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn an_index_that_lies_about_offsets_fails_the_check() {
    let f = fixture(&[100_000, 100]);
    let path = f.written();
    forge(&path, |i| {
        let offset = i["members"][5]["offset"].as_u64().unwrap();
        i["members"][5]["offset"] = (offset + 512).into();
        i["size"] = (i["size"].as_u64().unwrap() + 512).into();
    });
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() + 512).unwrap();
    assert!(!Bundle::open(&path).unwrap().verify(1, &Silent).unwrap().is_empty());
}

#[test]
fn other_formats_and_other_files_are_told_apart() {
    let f = fixture(&[10]);
    let path = f.written();
    forge(&path, |i| i["format"] = 2.into());
    let text = Bundle::open(&path).err().unwrap().to_string();
    assert!(text.ends_with("is a bundle of format 2; this labimg knows format 1"), "{text}");
    fs_err::write(&path, vec![b'x'; 10_000]).unwrap();
    assert!(matches!(Bundle::open(&path), Err(BundleError::NotABundle { .. })));
    fs_err::write(&path, crate::base::tarfmt::headers("other", 0, 0, 0).unwrap()).unwrap();
    assert!(matches!(Bundle::open(&path), Err(BundleError::NotABundle { .. })));
    assert!(matches!(Bundle::open(f.dir.path()), Err(BundleError::NotABundle { .. })));
    assert!(matches!(Bundle::open(&f.dir.path().join("gone")), Err(BundleError::Store(StoreError::Io { .. }))));
}

#[test]
fn signatures_behind_the_members_are_accepted_and_other_things_are_not() {
    let f = fixture(&[100]);
    let path = f.written();
    let unsigned = Bundle::open(&path).unwrap();
    let at = unsigned.file_size() - END;
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    let mut tail = crate::base::tarfmt::headers("labimg/signatures/one", 3, 0, at).unwrap();
    tail.extend_from_slice(b"sig");
    tail.resize(1024 + END as usize, 0);
    file.file().write_all_at(&tail, at).unwrap();
    let signed = Bundle::open(&path).unwrap();
    assert!(signed.is_signed() && !unsigned.identity().to_string().is_empty());
    assert_eq!(signed.identity(), unsigned.identity());
    assert_eq!(signed.verify(1, &Silent).unwrap(), []);
    assert_eq!(f.write(1).unwrap().outcome, Outcome::Unchanged);
    file.file().write_all_at(&[0; 512], at).unwrap();
    assert_eq!(Bundle::open(&path).unwrap().verify(1, &Silent).unwrap()[0].path, "the end of the archive");
}

#[test]
fn an_index_that_its_lock_does_not_bear_out_is_told() {
    let f = fixture(&[100, 200]);
    let path = f.written();
    Bundle::open_checked(&path).unwrap();
    let sound = fs_err::read(&path).unwrap();
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, [&str; 2]); 5] = [
        (|i| i["contents"]["locals"][1]["path"] = "g1".into(), ["index has local g1", "lock local f1"]),
        (|i| i["name"] = "lac".into(), ["index is of lab `lac`", "lock of lab `lab`"]),
        (|i| drop(i["contents"]["locals"].as_array_mut().unwrap().pop()), ["lock has local f1", "index does not list"]),
        (
            |i| {
                let first = i["contents"]["locals"][0].clone();
                i["contents"]["locals"][1]["digest"] = first["digest"].clone();
                i["contents"]["locals"][1]["size"] = first["size"].clone();
            },
            ["of local f1, the index says", "the lock {"],
        ),
        (
            |i| {
                let mut file = i["contents"]["locals"][0].clone();
                file.as_object_mut().unwrap().remove("path");
                file["kind"] = "tool".into();
                file["name"] = "x".into();
                i["contents"]["files"] = serde_json::json!([file]);
            },
            ["index has tool x", "not in the lock"],
        ),
    ];
    for (change, says) in cases {
        fs_err::write(&path, &sound).unwrap();
        forge_canonical(&path, change);
        let bundle = Bundle::open(&path).unwrap();
        let told = |text: &str| says.iter().all(|part| text.contains(part));
        let error = Bundle::open_checked(&path).err().unwrap();
        assert!(error.is_integrity() && told(&error.to_string()), "{says:?}: {error}");
        let found = bundle.verify(2, &Silent).unwrap();
        assert!(found.iter().any(|d| d.path == INDEX_PATH && told(&d.why)), "{says:?}: {found:?}");
    }
}

#[test]
fn an_oci_index_that_says_something_else_is_told_when_a_bundle_is_opened() {
    let f = fixture(&[100]);
    let path = f.written();
    forge_canonical(&path, |i| {
        let mut image = i["contents"]["locals"][0].clone();
        image.as_object_mut().unwrap().remove("path");
        image["reference"] = "docker.io/library/one:3".into();
        image["media-type"] = crate::store::image::OCI_MANIFEST.into();
        image["platforms"] = serde_json::json!({});
        i["contents"]["images"] = serde_json::json!([image]);
    });
    let error = Bundle::open(&path).err().unwrap();
    let text = error.to_string();
    assert!(error.is_integrity() && text.contains("index.json") && text.contains("one:3"), "{text}");
}

#[test]
fn a_blob_that_nothing_names_is_told_and_a_lock_of_the_future_is_not() {
    let mut f = fixture(&[100, 200]);
    let gone = f.description.contents.locals.pop().unwrap();
    f.description.texts = texts(&f.description.contents);
    let found = Bundle::open(&f.written()).unwrap().verify(1, &Silent).unwrap();
    let path = format!("{BLOBS}{}", gone.digest.hex());
    assert_eq!(found, [Damaged { path, why: "nothing in the bundle names it".to_owned() }]);
    f.description.texts[3].1 = b"version = 2\n".to_vec();
    assert_eq!(Bundle::open_checked(&f.written()).unwrap().verify(1, &Silent).unwrap(), []);
    f.description.texts[3].1 = b"no lock".to_vec();
    let found = Bundle::open_checked(&f.written()).unwrap().verify(1, &Silent).unwrap();
    assert_eq!(found[0].path, LOCK_PATH);
}
