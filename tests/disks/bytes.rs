//! The same bytes whatever must not matter, and what the checkers of each format say.

use std::path::Path;
use std::process::Command;

use labimg::base::digest::hash_reader;
use labimg::build::disk::qcow2;
use labimg::model::profile::{Boot, Compression, Table};

use crate::support::{bed, has, spec};

fn sha(path: &Path) -> String {
    hash_reader(std::fs::File::open(path).unwrap()).unwrap().0.to_string()
}

/// What a program says, which must end well.
pub fn says(program: &str, args: &[&str]) -> String {
    let ended = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success(), "{program} {args:?}: {}\n{said}", ended.status);
    said
}

#[test]
fn a_disk_twice() {
    let Some(bed) = bed() else { return };
    for (boot, table) in [(Boot::Bios, Table::Mbr), (Boot::Hybrid, Table::Gpt), (Boot::Efi, Table::Mbr)] {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spec = spec(boot, table);
        let programs = bed.programs(one.path());
        let first = bed.disk(&programs, &spec).unwrap();
        let deep = two.path().join("another/place");
        std::fs::create_dir_all(&deep).unwrap();
        let other = bed.programs(&deep);
        let second = bed.disk(&other, &spec).unwrap();
        assert_eq!(sha(&first), sha(&second), "{boot:?} {table:?}");
        let (a, b) = (
            qcow2::convert(&programs, Compression::Zstd, "a.qcow2").unwrap(),
            qcow2::convert(&other, Compression::Zstd, "a.qcow2").unwrap(),
        );
        assert_eq!(sha(&a), sha(&b));
        let raw = first.to_str().unwrap();
        if has("sfdisk") {
            let said = says("sfdisk", &["--verify", raw]);
            assert!(said.contains("No errors detected"), "{said}");
        }
        let root = spec.layout().partitions.last().copied().unwrap();
        let check = format!("e2fsck -fn '/out/disk.raw?offset={}'", root.offset());
        programs.run("e2fsck", &check, &[], &[]).unwrap();
        if has("qemu-img") {
            says("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", raw, a.to_str().unwrap()]);
            says("qemu-img", &["check", a.to_str().unwrap()]);
        }
    }
}
