//! ext4 file systems that the machine's mke2fs makes of a tree.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use fs_err as fs;

use super::*;

/// A tree, and file systems of it.
pub(in crate::build::descent) struct Bench {
    dir: tempfile::TempDir,
}

pub(super) const UUID: &str = "6a3b1c7e-0000-4000-8000-000000000001";
pub(in crate::build::descent) const SEED: &str = "6a3b1c7e-0000-4000-8000-000000000002";

impl Bench {
    /// A tree with the usual kinds of things; nothing where mke2fs lacks.
    pub(in crate::build::descent) fn new() -> Option<Self> {
        if !have(&["mke2fs", "debugfs"]) {
            return None;
        }
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        let tree = bench.tree();
        for dir in ["etc/ssh", "usr/bin", "many"] {
            fs::create_dir_all(tree.join(dir)).unwrap();
        }
        fs::write(tree.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::write(tree.join("etc/big"), vec![7; 300_000]).unwrap();
        for n in 0..400 {
            fs::write(tree.join(format!("many/a-rather-long-name-{n}")), "x").unwrap();
        }
        symlink("../etc/big", tree.join("usr/bin/short")).unwrap();
        symlink("y".repeat(200), tree.join("usr/bin/long")).unwrap();
        Some(bench)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A file system of the tree as it is.
    pub(in crate::build::descent) fn make(&self, name: &str, seed: &str) -> PathBuf {
        self.settle();
        self.format(name, seed)
    }

    /// The same without giving anything its time: not even inode times move.
    fn format(&self, name: &str, seed: &str) -> PathBuf {
        let image = self.path(name);
        let (tree, extended) = (self.tree(), format!("hash_seed={seed},root_owner=0:0"));
        let args = ["-q", "-F", "-t", "ext4", "-U", UUID, "-E", &extended, "-d", tree.to_str().unwrap()];
        run("mke2fs", &[&args[..], &[image.to_str().unwrap(), "16M"]].concat(), "");
        image
    }

    /// Gives everything one time, and reads it all: what is read first moves times of access once.
    fn settle(&self) {
        let script = "find \"$1\" -exec touch -h -d @1700000000 {} +; tar -cf - \"$1\" | cat > /dev/null";
        run("sh", &["-c", script, "sh", self.tree().to_str().unwrap()], "");
    }

    /// A copy that debugfs changed.
    pub(in crate::build::descent) fn changed(&self, from: &Path, commands: &str) -> PathBuf {
        let image = from.with_extension("changed");
        fs::copy(from, &image).unwrap();
        run("debugfs", &["-w", "-f", "-", image.to_str().unwrap()], commands);
        image
    }
}

#[test]
fn each_kind_of_change_of_a_path_is_named() {
    let Some(bench) = Bench::new() else { return };
    let base = bench.make("base", SEED);
    let tree = bench.tree();
    let check = |want: &[&str]| {
        let lines = told_of(&base, &bench.make("other", SEED));
        // Inode times of the tree's own files are not settled by touch: they do not come into images, or show as structure.
        let starts = lines.len() == want.len() && lines.iter().zip(want).all(|(line, want)| line.starts_with(want));
        assert!(starts, "{lines:#?} instead of {want:#?}");
    };
    fs::write(tree.join("etc/machine-id"), "0123456789abcdef0123456789abcdeX\n").unwrap();
    check(&["/etc/machine-id: content differs at byte 31 (33 bytes, 33 bytes) [a random number"]);
    fs::write(tree.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();

    fs::set_permissions(tree.join("etc/big"), PermissionsExt::from_mode(0o600)).unwrap();
    check(&["/etc/big: mode 0644 in the first, 0600 in the second"]);
    fs::set_permissions(tree.join("etc/big"), PermissionsExt::from_mode(0o644)).unwrap();

    fs::write(tree.join("etc/ssh/ssh_host_rsa_key"), "key").unwrap();
    check(&["/etc/ssh/ssh_host_rsa_key: only in the second [host keys"]);
    fs::remove_file(tree.join("etc/ssh/ssh_host_rsa_key")).unwrap();

    fs::remove_file(tree.join("usr/bin/short")).unwrap();
    symlink("../etc/bag", tree.join("usr/bin/short")).unwrap();
    check(&["/usr/bin/short: target `../etc/big` in the first, `../etc/bag` in the second"]);
    fs::remove_file(tree.join("usr/bin/short")).unwrap();
    check(&["/usr/bin/short: only in the first"]);
}

#[test]
fn a_file_in_hundreds_of_pieces_is_compared_to_the_byte() {
    use std::os::unix::fs::FileExt;
    let Some(bench) = Bench::new() else { return };
    let pieces = fs::File::create(bench.tree().join("etc/pieces")).unwrap();
    // More than the 340 extents that a block of 4 KiB holds, and than the 4 of an inode.
    for n in 0..1000 {
        pieces.file().write_all_at(&[7; 4096], n * 8192).unwrap();
    }
    let base = bench.make("base", SEED);
    pieces.file().write_all_at(&[8], 900 * 8192 + 5).unwrap();
    let lines = told_of(&base, &bench.make("other", SEED));
    let byte = 900 * 8192 + 5;
    assert!(
        lines.len() == 1 && lines[0].starts_with(&format!("/etc/pieces: content differs at byte {byte} ")),
        "{lines:#?}"
    );
}

#[test]
fn times_owners_and_attributes_are_named() {
    let Some(bench) = Bench::new() else { return };
    let base = bench.make("base", SEED);
    let told = |commands: &str| told_of(&base, &bench.changed(&base, commands));
    let time = format!("/etc/big: mtime 1700000000 in the first, 1700000009 in the second [{}]", causes::ONLY_MTIME);
    assert_eq!(told("sif /etc/big mtime @1700000009"), [time]);
    let xattr = "/etc/big: xattr user.x none in the first, `one` in the second";
    assert_eq!(told("ea_set /etc/big user.x one"), [xattr]);
    let long = told(&format!("ea_set /etc/big user.long {}", "v".repeat(300)));
    assert!(long.len() == 1 && long[0].contains("xattr user.long none in the first, `vvv"), "{long:?}");
    let owner = told("sif /etc/big uid 70000");
    assert_eq!(owner.len(), 1, "{owner:?}");
    assert!(owner[0].contains(" in the second") && owner[0].starts_with("/etc/big: owner 0:0"), "{owner:?}");
}

#[test]
fn what_no_path_shows_is_named() {
    let Some(bench) = Bench::new() else { return };
    let base = bench.make("base", SEED);
    let seed = told_of(&base, &bench.format("seed", "6a3b1c7e-0000-4000-8000-000000000003"));
    assert!(seed.len() == 1 && seed[0].starts_with("superblock: hash seed 6a3b"), "{seed:#?}");
    let ctime = told_of(&base, &bench.changed(&base, "sif /etc/big ctime @1700000009"));
    assert!(ctime.len() == 1 && ctime[0].starts_with("inode ctime of /etc/big differs at byte "), "{ctime:#?}");
    // A block that nothing uses: the last one.
    let unused = bench.path("unused");
    let mut bytes = fs::read(&base).unwrap();
    let last = bytes.len() - 7;
    bytes[last] ^= 1;
    fs::write(&unused, bytes).unwrap();
    assert_eq!(told_of(&base, &unused), [format!("unused blocks differs at byte {last}")]);
}

#[test]
fn damage_never_panics() {
    let Some(bench) = Bench::new() else { return };
    let base = bench.make("base", SEED);
    let bytes = fs::read(&base).unwrap();
    let other = bench.path("damaged");
    let mut state = 1u32;
    for round in 0..150 {
        let mut broken = bytes.clone();
        for _ in 0..40 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Tables stand in front.
            let at = 1024 + (state >> 8) as usize % if round % 2 == 0 { 1024 } else { 900_000 };
            broken[at] = (state >> 3) as u8;
        }
        if round % 5 == 0 {
            broken.truncate(3_000_000);
        }
        fs::write(&other, broken).unwrap();
        assert!(!told_of(&base, &other).is_empty());
    }
}
