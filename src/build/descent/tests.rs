//! Comparisons of small things that are made here, and of file systems and disks that the machine's own programs make.

use std::io::Write;
use std::process::Command;

use super::*;
use crate::store::Access;
use crate::store::bundle::Bundle;

#[cfg(test)]
mod disks;
#[cfg(test)]
pub(super) mod filesystems;

/// A member: path, text, mode, owner, time.
struct File(&'static str, &'static str, u32, u64, u64);

fn tar_of(files: &[File], link: Option<&str>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    for File(path, text, mode, uid, mtime) in files {
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(0);
        header.set_mtime(*mtime);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    if let Some(target) = link {
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        builder.append_link(&mut header, "link", target).unwrap();
    }
    builder.into_inner().unwrap()
}

fn report(a: &[u8], b: &[u8]) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Shared).unwrap();
    blobs(&store, &store.put(a).unwrap(), &store.put(b).unwrap()).unwrap()
}

fn told(a: &[u8], b: &[u8]) -> Vec<String> {
    report(a, b).lines(20)
}

/// What two files differ in, one line each.
fn told_of(a: &Path, b: &Path) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    files(a, b, scratch.path()).unwrap().lines(20)
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Whether these programs are there; says so when not.
fn have(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|p| !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|d| Path::new(d).join(p).exists()))
        .collect();
    if !missing.is_empty() {
        eprintln!("NOT RUN: this machine lacks {missing:?}");
    }
    missing.is_empty()
}

/// Runs a program with its input; it must end well.
fn run(program: &str, args: &[&str], input: &str) {
    let mut command = Command::new(program);
    command.args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("E2FSPROGS_FAKE_TIME", "1700000000");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn each_kind_of_difference_is_named() {
    let base = || tar_of(&[File("a", "same", 0o644, 0, 7)], None);
    let one = |file: File| told(&base(), &tar_of(&[file], None));
    assert_eq!(one(File("a", "same", 0o644, 0, 7)), Vec::<String>::new());
    assert_eq!(one(File("a", "sAme", 0o644, 0, 7)), ["a: content differs at byte 1 (4 bytes, 4 bytes)"]);
    assert_eq!(one(File("a", "same!", 0o644, 0, 7)), ["a: content differs at byte 4 (4 bytes, 5 bytes)"]);
    assert_eq!(one(File("a", "same", 0o755, 0, 7)), ["a: mode 0644 in the first, 0755 in the second"]);
    assert_eq!(one(File("a", "same", 0o644, 9, 7)), ["a: owner 0:0 in the first, 9:0 in the second"]);
    let time = format!("a: mtime 7 in the first, 8 in the second [{}]", causes::ONLY_MTIME);
    assert_eq!(one(File("a", "same", 0o644, 0, 8)), [time]);
    assert_eq!(one(File("b", "same", 0o644, 0, 7)), ["a: only in the first", "b: only in the second"]);
    let link = |target| tar_of(&[], Some(target));
    assert_eq!(told(&link("x"), &link("y")), ["link: target `x` in the first, `y` in the second"]);
}

#[test]
fn attributes_in_pax_headers_are_named() {
    let with = |value: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("SCHILY.xattr.user.x", value)]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        builder.append_data(&mut header, "a", &b""[..]).unwrap();
        builder.into_inner().unwrap()
    };
    assert_eq!(told(&with(b"1"), &with(b"\x02")), ["a: xattr user.x `1` in the first, 02 in the second"]);
}

#[test]
fn order_and_compression_are_named() {
    let (a, b) = (|| File("a", "1", 0o644, 0, 7), || File("b", "2", 0o644, 0, 7));
    let (ab, ba) = (tar_of(&[a(), b()], None), tar_of(&[b(), a()], None));
    let order = [
        "a: place in the archive 1 in the first, 2 in the second",
        "b: place in the archive 2 in the first, 1 in the second",
    ];
    assert_eq!(told(&ab, &ba), order[..1]);
    assert_eq!(told(&gzip(&ab, 6), &gzip(&ba, 6)), told(&ab, &ba));
    let zstd = zstd::encode_all(&ba[..], 1).unwrap();
    assert_eq!(told(&gzip(&ab, 6), &zstd), told(&ab, &ba));
    let text = told(&gzip(&ab, 1), &gzip(&ab, 9)).join("");
    assert!(text.starts_with("the content is the same, it is compressed differently from byte "), "{text}");
    let mut longer = ab.clone();
    longer.extend_from_slice(&[0; 512]);
    let want = format!("the content is the same, headers or padding of the archive differ from byte {} on", ab.len());
    assert_eq!(told(&ab, &longer), [want]);
}

#[test]
fn other_blobs_are_compared_by_byte() {
    assert_eq!(told(b"one text", b"one test"), ["differs at byte 6 (8 bytes, 8 bytes)"]);
    assert_eq!(told(b"short", b"shorter"), ["differs at byte 5 (5 bytes, 7 bytes)"]);
    assert_eq!(told(&gzip(b"one text", 6), &gzip(b"one test", 6)), ["differs at byte 6 (8 bytes, 8 bytes)"]);
    let many = |text| {
        tar_of(
            &[
                "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t",
                "u", "v",
            ]
            .map(|n| File(n, text, 0o644, 0, 7)),
            None,
        )
    };
    let found = told(&many("1"), &many("22"));
    assert_eq!((found.len(), found[20].as_str()), (21, "and 2 more"));
}

#[test]
fn damage_is_told_at_the_level_above() {
    let broken = [&[0x1f, 0x8b][..], b"nothing"].concat();
    let other = [&[0x1f, 0x8b][..], b"notHing"].concat();
    let lines = told(&broken, &other);
    assert!(
        lines.len() == 1 && lines[0].starts_with("differs at byte 5 (9 bytes, 9 bytes); not looked into: "),
        "{lines:?}"
    );
    let whole = tar_of(&[File("a", "same", 0o644, 0, 7), File("b", "same", 0o644, 0, 7)], None);
    let mut cut = tar_of(&[File("a", "sAme", 0o644, 0, 7), File("b", "same", 0o644, 0, 7)], None);
    cut.truncate(512 * 3 + 2);
    let lines = told(&whole, &cut);
    assert!(lines.len() == 1 && lines[0].contains("byte 513") && lines[0].contains("; not looked into: "), "{lines:?}");
}

#[test]
fn archives_in_archives_are_looked_into() {
    let nested = |text: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, "layer.tar.gz", text).unwrap();
        builder.into_inner().unwrap()
    };
    let inner = |text| gzip(&tar_of(&[File("etc/machine-id", text, 0o644, 0, 7)], None), 6);
    let report = report(&nested(&inner("0123")), &nested(&inner("4123")));
    assert_eq!(report.differences.len(), 1);
    assert_eq!(report.differences[0].at, ["layer.tar.gz", "etc/machine-id"]);
    assert!(report.differences[0].cause.is_some());
}

#[test]
fn a_path_in_a_layer_of_a_bundle_is_named() {
    use crate::build::tests::Lab;
    use crate::model::platform::Platform;
    let bundle = |text, mode| {
        let layer = String::from_utf8(tar_of(&[File("etc/app", text, mode, 0, 7)], None)).unwrap();
        let mut lab = Lab::full();
        lab.image("app:1", &[Platform::LinuxAmd64], &["base", &layer]);
        let path = lab.bundle("lab.labimg");
        (lab, Bundle::open(&path).unwrap())
    };
    let (first, second) = (bundle("one", 0o644), bundle("onE", 0o755));
    let scratch = tempfile::tempdir().unwrap();
    let lines = bundles(&first.1, &second.1, scratch.path()).unwrap().lines(20);
    let layer = "image docker.io/library/app:1 linux/amd64: layer 2: etc/app: ";
    let want = ["mode 0644 in the first, 0755 in the second", "content differs at byte 2 (3 bytes, 3 bytes)"];
    for line in want.map(|what| format!("{layer}{what}")) {
        assert!(lines.contains(&line), "{lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("manifest")), "{lines:#?}");
    assert_eq!(bundles(&first.1, &first.1, scratch.path()).unwrap(), Report::default());
}

#[test]
fn sparse_members_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let archive = |last: u8| {
        let file = fs_err::File::create(&path).unwrap();
        file.set_len(1 << 22).unwrap();
        std::os::unix::fs::FileExt::write_all_at(file.file(), &[last], (3 << 20) + 5).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_path_with_name(&path, "file").unwrap();
        builder.into_inner().unwrap()
    };
    let want = format!("file: content differs at byte {} (4194304 bytes, 4194304 bytes)", (3 << 20) + 5);
    assert!(told(&archive(1), &archive(2)).contains(&want));
}
