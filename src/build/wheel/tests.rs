//! Wheels made by hand: good ones, and every kind of bad one.

use std::io::{Cursor, Write};

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use super::*;
use crate::base::digest::Digest;

const FILE: &str = "foo_bar-1.0-py3-none-any.whl";

/// A member: name, content, mode; listed in RECORD unless it is one of the dist-info's own.
type Members<'a> = Vec<(&'a str, &'a [u8], u32)>;

struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Stores bytes as a wheel called `file`.
    fn wheel(&self, file: &str, bytes: &[u8]) -> (LockedWheel, PathBuf) {
        let path = self.dir.path().join(file);
        fs_err::write(&path, bytes).unwrap();
        let name = WheelName::parse(file).unwrap();
        let (project, version) = (name.project(), name.version);
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        (LockedWheel { file: file.to_owned(), project, version, digest, size, sets: Vec::new() }, path)
    }

    fn tree(&self, wheels: &[(LockedWheel, PathBuf)]) -> Result<Tree, BuildError> {
        wheel_tree(wheels, &to(), "3.11", Platform::LinuxAmd64, self.dir.path())
    }
}

fn to() -> GuestPath {
    GuestPath::parse("/usr/local/lib/python3.11/dist-packages").unwrap()
}

fn zip_of(members: &Members<'_>) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, mode) in members {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file(*name, options.unix_permissions(*mode)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A whole wheel of `foo_bar` 1.0 with these files, a right RECORD and what else it must have.
fn wheel(files: &Members<'_>) -> Vec<u8> {
    let format: &[u8] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let mut members = files.clone();
    members.push(("foo_bar-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\n", 0o644));
    members.push(("foo_bar-1.0.dist-info/WHEEL", format, 0o644));
    let record: String =
        members.iter().map(|(p, b, _)| record::line(p, Some((&Digest::of(b), b.len() as u64)))).collect();
    members.push(("foo_bar-1.0.dist-info/RECORD", record.as_bytes(), 0o644));
    zip_of(&members)
}

fn read(tree: &Tree, path: &str) -> String {
    let entry = tree.get(&GuestPath::parse(path).unwrap()).unwrap_or_else(|| panic!("no {path}"));
    let Kind::File(content) = &entry.kind else { panic!("{path} is no file") };
    String::from_utf8(content.read(1 << 20).unwrap()).unwrap()
}

fn mode(tree: &Tree, path: &str) -> u32 {
    tree.get(&GuestPath::parse(path).unwrap()).unwrap().mode
}

fn refused(bytes: &[u8]) -> String {
    let made = Made::new();
    let error = made.tree(&[made.wheel(FILE, bytes)]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("wheel {FILE}: ")), "{text}");
    text
}

#[test]
fn everything_goes_to_its_place() {
    let made = Made::new();
    let bytes = wheel(&vec![
        ("foo_bar/__init__.py", b"x = 1\n", 0o600),
        ("foo_bar/lib.so", b"elf", 0o755),
        ("foo_bar/__pycache__/__init__.cpython-311.pyc", b"code", 0o644),
        ("foo_bar-1.0.data/scripts/hello", b"#!python -s\nprint()\n", 0o644),
        ("foo_bar-1.0.data/scripts/native", b"#!python3.9\n", 0o644),
        ("foo_bar-1.0.data/data/share/doc/foo", b"doc", 0o644),
        ("foo_bar-1.0.data/headers/foo.h", b"h", 0o644),
        ("foo_bar-1.0.data/platlib/more.py", b"y = 2\n", 0o644),
        ("foo_bar-1.0.dist-info/entry_points.txt", b"[console_scripts]\nfoo = foo_bar.cli:main\n", 0o644),
    ]);
    let tree = made.tree(&[made.wheel(FILE, &bytes)]).unwrap();
    let lib = "usr/local/lib/python3.11/dist-packages";
    assert_eq!(read(&tree, &format!("{lib}/foo_bar/__init__.py")), "x = 1\n");
    assert_eq!(mode(&tree, &format!("{lib}/foo_bar/__init__.py")), 0o644);
    assert_eq!(mode(&tree, &format!("{lib}/foo_bar/lib.so")), 0o755);
    assert_eq!(read(&tree, &format!("{lib}/more.py")), "y = 2\n");
    assert_eq!(read(&tree, "usr/local/bin/hello"), "#!/usr/bin/python3\nprint()\n");
    assert_eq!(read(&tree, "usr/local/bin/native"), "#!python3.9\n");
    assert_eq!(mode(&tree, "usr/local/bin/hello"), 0o755);
    assert_eq!(read(&tree, "usr/local/share/doc/foo"), "doc");
    assert_eq!(read(&tree, "usr/local/include/python3.11/foo_bar/foo.h"), "h");
    assert!(read(&tree, "usr/local/bin/foo").starts_with("#!/usr/bin/python3\nimport sys\n"));
    assert_eq!(read(&tree, &format!("{lib}/foo_bar-1.0.dist-info/INSTALLER")), "labimg\n");
    assert!(!tree.entries.keys().any(|path| path.as_str().ends_with(".pyc")));
    let dir = tree.get(&GuestPath::parse(lib).unwrap()).unwrap();
    assert!(matches!(dir.kind, Kind::Dir) && dir.mode == 0o755);
    assert_eq!(&*dir.origin, "wheel foo-bar 1.0");
}

#[test]
fn the_record_lists_what_is_installed() {
    let made = Made::new();
    let bytes = wheel(&vec![
        ("foo_bar.py", b"x", 0o644),
        ("foo_bar-1.0.data/scripts/hello", b"#!python\n", 0o644),
        ("foo_bar-1.0.dist-info/entry_points.txt", b"[console_scripts]\nfoo = foo_bar:main\n", 0o644),
    ]);
    let tree = made.tree(&[made.wheel(FILE, &bytes)]).unwrap();
    let text = read(&tree, "usr/local/lib/python3.11/dist-packages/foo_bar-1.0.dist-info/RECORD");
    let listed = record::read(&text).unwrap();
    let files = tree.entries.iter().filter(|(_, e)| matches!(e.kind, Kind::File(_)));
    assert_eq!(listed.len(), files.clone().count(), "{text}");
    for (path, entry) in files {
        let Kind::File(content) = &entry.kind else { continue };
        let (to, name) = ("usr/local/lib/python3.11/dist-packages/", path.as_str());
        let key =
            name.strip_prefix(to).map_or(format!("../../../{}", name.trim_start_matches("usr/local/")), str::to_owned);
        let bytes = content.read(1 << 20).unwrap();
        match listed.get(&key).unwrap_or_else(|| panic!("{key} is not in\n{text}")) {
            Some(hash) => assert_eq!(*hash, record::hash(&Digest::of(&bytes)), "{key}"),
            None => assert!(key.ends_with("/RECORD")),
        }
    }
}

#[test]
fn the_order_of_wheels_makes_no_difference() {
    let made = Made::new();
    let one = made.wheel(FILE, &wheel(&vec![("one.py", b"1", 0o644)]));
    let other = made.wheel("foo_bar-1.0-1-py3-none-any.whl", &wheel(&vec![("one.py", b"1", 0o644)]));
    let Err(BuildError::Clash { path, .. }) = made.tree(&[one.clone(), other.clone()]) else { panic!("no clash") };
    let Err(BuildError::Clash { path: again, .. }) = made.tree(&[other, one]) else { panic!("no clash") };
    assert_eq!(path, again);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (name, why) in [
        ("/etc/passwd", "an absolute path"),
        ("../x.py", "leads out of the wheel"),
        ("a/../../x.py", "leads out of the wheel"),
        ("a\\b.py", "backslash"),
        ("a//b.py", "an empty part"),
        ("./b.py", "an empty part"),
        ("foo_bar-1.0.data/scripts/../../../x", "leads out of the wheel"),
        ("foo_bar-1.0.data/elsewhere/x", "no place that wheels know"),
        ("foo_bar-1.0.data/x", "no place that wheels know"),
    ] {
        let text = refused(&wheel(&vec![(name, b"x", 0o644)]));
        assert!(text.contains(why), "{name}: {text}");
    }
}

#[test]
fn links_and_files_under_files_are_refused() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let text = refused(&writer.finish().unwrap().into_inner());
    assert!(text.contains("`link` is a link or a device"), "{text}");
    let made = Made::new();
    let bytes = wheel(&vec![("a", b"x", 0o644), ("a/b", b"x", 0o644)]);
    assert!(made.tree(&[made.wheel(FILE, &bytes)]).is_err());
    let twice = wheel(&vec![("a.py", b"x", 0o644), ("foo_bar-1.0.data/purelib/a.py", b"x", 0o644)]);
    assert!(refused(&twice).contains("two of its files would be"));
}

/// Renames a member in place: a second `a.py` that the writer of zips would refuse.
#[test]
fn two_members_of_one_name_are_refused() {
    let mut bytes = wheel(&vec![("a.py", b"x", 0o644), ("b.py", b"y", 0o644)]);
    for at in memchr::memmem::find_iter(&bytes.clone(), b"b.py").collect::<Vec<_>>() {
        bytes[at] = b'a';
    }
    let text = refused(&bytes);
    assert!(text.contains("one name"), "{text}");
}

#[test]
fn what_the_record_does_not_say_is_refused() {
    let metadata: (&str, &[u8], u32) = ("foo_bar-1.0.dist-info/METADATA", b"Name: foo-bar\nVersion: 1.0\n", 0o644);
    let format: (&str, &[u8], u32) = ("foo_bar-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\n", 0o644);
    let with = |record: &str| {
        let known =
            [metadata, format].map(|(p, b, _)| record::line(p, Some((&Digest::of(b), b.len() as u64)))).concat();
        let text = format!("{known}{record}");
        let record = ("foo_bar-1.0.dist-info/RECORD", text.as_bytes(), 0o644);
        refused(&zip_of(&vec![("a.py", b"x", 0o644), metadata, format, record]))
    };
    assert!(with("").contains("does not list `a.py`"));
    assert!(with("a.py,,\n").contains("no hash of `a.py`"));
    assert!(with("a.py,md5=x,1\n").contains("of kind `md5`"));
    assert!(with(&record::line("a.py", Some((&Digest::of(b"y"), 1)))).contains("`a.py` has hash sha256="));
    assert!(with("a.py,\"\n").contains("not closed"));
}

#[test]
fn wheels_of_something_else_are_refused() {
    let made = Made::new();
    let bytes = wheel(&vec![("a.py", b"x", 0o644)]);
    for file in [
        "foo_bar-1.0-cp311-cp311-win_amd64.whl",
        "foo_bar-1.0-cp311-cp311-manylinux2014_aarch64.whl",
        "foo_bar-1.0-cp312-cp312-manylinux2014_x86_64.whl",
    ] {
        let text = made.tree(&[made.wheel(file, &bytes)]).unwrap_err().to_string();
        assert!(text.contains("not for Python 3.11 on linux/amd64"), "{text}");
    }
    let text = made.tree(&[made.wheel("foo_bar-2.0-py3-none-any.whl", &bytes)]).unwrap_err().to_string();
    assert!(text.contains("its METADATA says it is Foo.Bar 1.0"), "{text}");
    let text = made.tree(&[made.wheel("other-1.0-py3-none-any.whl", &bytes)]).unwrap_err().to_string();
    assert!(text.contains("`foo_bar-1.0.dist-info` is another project's"), "{text}");
    let (mut locked, path) = made.wheel(FILE, &bytes);
    locked.version = "2.0".to_owned();
    let text = made.tree(&[(locked, path)]).unwrap_err().to_string();
    assert!(text.contains("the lock calls it foo-bar 2.0"), "{text}");
    let (mut locked, path) = made.wheel(FILE, &bytes);
    locked.digest = Digest::of(b"other");
    let text = made.tree(&[(locked, path)]).unwrap_err().to_string();
    assert!(text.contains("the lock says sha256:"), "{text}");
    assert!(wheel_tree(&[], &to(), "2.7", Platform::LinuxAmd64, made.dir.path()).is_err());
}

/// A wheel whose file name, `.dist-info` and METADATA have these versions, with a script in its `.data`.
fn spelled(file: &str, info: &str, metadata: &[u8], more: &str) -> (String, Vec<u8>) {
    let (meta, format) = (format!("{info}.dist-info/METADATA"), format!("{info}.dist-info/WHEEL"));
    let script = format!("{info}.data/scripts/run");
    let mut members: Members<'_> = vec![
        (&script, b"#!python\n", 0o644),
        (&meta, metadata, 0o644),
        (&format, b"Wheel-Version: 1.0\n", 0o644),
        ("foo/__pycache__/x.cpython-311.pyc", b"code", 0o644),
    ];
    let listed = members.iter().filter(|(path, ..)| !path.ends_with(".pyc"));
    let lines = listed.map(|(p, b, _)| record::line(p, Some((&Digest::of(b), b.len() as u64))));
    let (path, text) = (format!("{info}.dist-info/RECORD"), lines.collect::<String>() + more);
    members.push((&path, text.as_bytes(), 0o644));
    (format!("foo_bar-{file}-py3-none-any.whl"), zip_of(&members))
}

#[test]
fn one_version_may_be_spelled_in_several_ways() {
    let again = record::line("foo_bar-1.0.dist-info/WHEEL", Some((&Digest::of(b"Wheel-Version: 1.0\n"), 19)));
    for (file, info, version, more) in [
        ("2021.07.21", "foo_bar-2021.07.21", "2021.7.21", ""),
        ("1.0", "foo_bar-1.0", "1.0.0", ""),
        ("1.0", "Foo.Bar-1.0", "v1.0", ""),
        ("1.0rc1", "foo_bar-1.0.rc1", "1.0-RC.1", ""),
        ("1.0_1", "foo-bar-1.0-1", "1.0.post1", ""),
        ("1!2.0", "foo_bar-1!2", "1!2.0", ""),
        ("1.0", "foo_bar-1.0", "1.0", again.as_str()),
        ("1.0", "foo_bar-1.0", "1.0", "foo_bar-1.0.dist-info\\RECORD,,\n\"x, y\",,\nlone\n"),
    ] {
        let made = Made::new();
        let metadata = [b"Name: foo-bar\nVersion: ", version.as_bytes(), b"\nAuthor: J\xf6rg\n"].concat();
        let (name, bytes) = spelled(file, info, &metadata, more);
        let (mut locked, path) = made.wheel(&name, &bytes);
        locked.version = version.to_owned();
        let tree = made.tree(&[(locked, path)]).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
        assert_eq!(read(&tree, "usr/local/bin/run"), "#!/usr/bin/python3\n", "{name}");
    }
}

/// A bit of the headers changed wherever it stands: encrypted, another compression.
#[test]
fn encrypted_and_unknown_members_are_refused() {
    let change = |local: usize, central: usize, value: u8| {
        let mut bytes = wheel(&vec![("a.py", b"x", 0o644)]);
        for (signature, offset) in [(b"PK\x03\x04", local), (b"PK\x01\x02", central)] {
            let at = memchr::memmem::find(&bytes, signature).unwrap();
            bytes[at + offset] = value;
        }
        refused(&bytes)
    };
    assert!(change(6, 8, 1).contains("encrypted"));
    let text = change(8, 10, 14);
    assert!(text.contains("compressed with"), "{text}");
}

#[test]
fn bombs_and_lies_about_sizes_are_refused() {
    let set_size = |bytes: &mut Vec<u8>, size: u32| {
        for (signature, offset) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
            let at = memchr::memmem::find(bytes, signature).unwrap();
            bytes[at + offset..at + offset + 4].copy_from_slice(&size.to_le_bytes());
        }
    };
    let zeros = vec![0; 5_000_000];
    let mut bytes = wheel(&vec![("zeros.bin", &zeros, 0o644)]);
    set_size(&mut bytes, 10);
    let text = refused(&bytes);
    assert!(text.contains("`zeros.bin` is damaged") || text.contains("contradict"), "{text}");
    let mut bytes = wheel(&vec![("zeros.bin", b"0", 0o644)]);
    set_size(&mut bytes, 4_000_000_000);
    assert!(refused(&bytes).contains("`zeros.bin`"));
    // Three such claims are more than a wheel may have; nothing is unpacked.
    let mut bytes = wheel(&vec![("a", b"0", 0o644), ("b", b"0", 0o644), ("c", b"0", 0o644)]);
    for at in memchr::memmem::find_iter(&bytes.clone(), b"PK\x01\x02").collect::<Vec<_>>() {
        bytes[at + 24..at + 28].copy_from_slice(&4_000_000_000u32.to_le_bytes());
    }
    assert!(refused(&bytes).contains("unpacks to more than"));
}

#[test]
fn damaged_files_are_refused_and_never_panic() {
    let whole = wheel(&vec![("a.py", &[7; 3000], 0o644)]);
    assert!(refused(b"no zip").contains("no zip file"));
    assert!(refused(&zip_of(&vec![("a.py", b"x", 0o644)])).contains("no .dist-info"));
    let made = Made::new();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let _ = made.tree(&[made.wheel(FILE, &bytes)]);
        let _ = made.tree(&[made.wheel(FILE, &whole[..at])]);
    }
}
