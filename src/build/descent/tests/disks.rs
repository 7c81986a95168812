//! Disk images: containers of one disk, tables, and the way down to a path.

use fs_err as fs;

use super::filesystems::Bench;
use super::*;

const SECTOR: usize = 512;

/// A raw disk of a partition table that sfdisk makes of `script`, with `content` at `first` sectors.
fn disk(path: &Path, script: &str, first: usize, content: &[u8]) {
    let mut bytes = vec![0; first * SECTOR];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + 2048 * SECTOR, 0);
    fs::write(path, &bytes).unwrap();
    run("sfdisk", &["-q", path.to_str().unwrap()], script);
    let mut made = fs::read(path).unwrap();
    made[first * SECTOR..first * SECTOR + content.len()].copy_from_slice(content);
    fs::write(path, made).unwrap();
}

fn convert(from: &Path, to: &Path, args: &[&str]) {
    let ends = [from.to_str().unwrap(), to.to_str().unwrap()];
    run("qemu-img", &[&["convert", "-f", "raw"], args, &ends].concat(), "");
}

const MBR: &str = "label: dos\nlabel-id: 0x11223344\n2048,,83,*\n";
const GPT: &str = "label: gpt\nlabel-id: 6A3B1C7E-0000-4000-8000-000000000005\n2048,,L,*\n";

#[test]
fn a_path_in_two_boxes_is_named() {
    let Some(bench) = Bench::new().filter(|_| have(&["sfdisk", "qemu-img"])) else { return };
    let seed = "6a3b1c7e-0000-4000-8000-000000000002";
    let first = bench.make("first", seed);
    fs::write(bench.tree().join("etc/machine-id"), "X123456789abcdef0123456789abcdef\n").unwrap();
    let second = bench.make("second", seed);
    for (script, label) in [(MBR, "mbr"), (GPT, "gpt")] {
        let boxes = [&first, &second].map(|image| {
            let (raw, qcow2) = (bench.path("raw"), bench.path("box.img"));
            disk(&raw, script, 2048, &fs::read(image).unwrap());
            convert(&raw, &qcow2, &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]);
            let mut builder = tar::Builder::new(Vec::new());
            builder.append_path_with_name(&qcow2, "box.img").unwrap();
            builder.into_inner().unwrap()
        });
        let report = report(&boxes[0], &boxes[1]);
        let found: Vec<_> = report.differences.iter().filter(|d| matches!(d.what, What::Content { .. })).collect();
        assert_eq!(found.len(), 1, "{label}: {report:#?}");
        assert_eq!(found[0].at, ["box.img", "partition 1 (ext4)", "/etc/machine-id"]);
        assert!(found[0].to_string().contains("/etc/machine-id: content differs at byte 0 (33 bytes, 33 bytes)"));
    }
}

#[test]
fn containers_of_one_disk_are_told_apart_from_two_disks() {
    let Some(bench) = Bench::new().filter(|_| have(&["sfdisk", "qemu-img"])) else { return };
    let image = bench.make("fs", "6a3b1c7e-0000-4000-8000-000000000002");
    let raw = bench.path("raw");
    disk(&raw, MBR, 2048, &fs::read(&image).unwrap());
    let of = |raw: &Path, name: &str, args: &[&str]| {
        let to = bench.path(name);
        convert(raw, &to, args);
        to
    };
    let plain = of(&raw, "plain", &["-O", "qcow2"]);
    let others = [
        of(&raw, "zstd", &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]),
        of(&raw, "zlib", &["-c", "-O", "qcow2"]),
        of(&raw, "small", &["-c", "-O", "qcow2", "-o", "cluster_size=4096"]),
        of(&raw, "old", &["-O", "qcow2", "-o", "compat=0.10"]),
        of(&raw, "stream", &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
        of(&raw, "sparse", &["-O", "vmdk"]),
        raw.clone(),
    ];
    for other in &others {
        let lines = told_of(&plain, other);
        assert!(
            lines.len() == 1 && lines[0].starts_with("the content is the same, its container differs ("),
            "{lines:?}"
        );
    }
    let mut bytes = fs::read(&raw).unwrap();
    bytes[440] ^= 1;
    let changed = bench.path("changed");
    fs::write(&changed, &bytes).unwrap();
    for other in &others {
        let lines = told_of(other, &of(&changed, "other", &["-c", "-O", "qcow2"]));
        let id = "partition table (MBR): disk identifier 0x11223344 in the first, 0x11223345 in the second [";
        assert!(lines.len() == 1 && lines[0].starts_with(id), "{other:?}: {lines:?}");
    }
}

#[test]
fn tables_boot_code_and_gaps_are_named() {
    if !have(&["sfdisk"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let told = |x: &str, y: &str, change: &dyn Fn(&mut Vec<u8>)| {
        disk(&a, x, 2048, &[1; 4096]);
        disk(&b, y, 2048, &[1; 4096]);
        let mut bytes = fs::read(&b).unwrap();
        change(&mut bytes);
        fs::write(&b, bytes).unwrap();
        told_of(&a, &b)
    };
    let fixed = "label: gpt\nlabel-id: 6A3B1C7E-0000-4000-8000-000000000005\n\
                 start=2048, size=1000, uuid=6A3B1C7E-0000-4000-8000-000000000006, name=root\n";
    let other = fixed.replace("name=root", "name=boot");
    let name = "partition 1: name `root` in the first, `boot` in the second";
    assert_eq!(told(fixed, &other, &|_| ()), [name]);
    assert_eq!(told(fixed, fixed, &|b| b[5] = 9), ["boot code differs at byte 5"]);
    assert_eq!(
        told(fixed, fixed, &|b| b[2048 * 512] = 9),
        ["partition 1: content differs at byte 0 (512000 bytes, 512000 bytes)"]
    );
    assert_eq!(told(fixed, fixed, &|b| b[100 * 512] = 9), ["the space between partitions differs at byte 51200"]);
    let last = told(fixed, fixed, &|b| *b.last_mut().unwrap() = 9);
    assert!(last.len() == 1 && last[0].starts_with("the partition table's copy differs at byte "), "{last:?}");
}

#[test]
fn damaged_images_never_panic() {
    if !have(&["qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    fs::write(&raw, (0..3_000_000u32).map(|n| (n >> 9) as u8).collect::<Vec<_>>()).unwrap();
    for args in [&["-c", "-O", "qcow2"][..], &["-O", "qcow2"], &["-O", "vmdk", "-o", "subformat=streamOptimized"]] {
        let image = dir.path().join("image");
        convert(&raw, &image, args);
        let (bytes, other) = (fs::read(&image).unwrap(), dir.path().join("other"));
        let mut state = 1u32;
        for round in 0..300usize {
            let mut broken = bytes.clone();
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % if round % 2 == 0 { 112 } else { broken.len() };
            broken[at] ^= (state >> 3) as u8 | 1;
            fs::write(&other, broken).unwrap();
            assert!(!told_of(&image, &other).is_empty());
        }
    }
}
