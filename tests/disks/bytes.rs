//! The same bytes whatever must not matter, and what the checkers of each format say.

use std::path::Path;
use std::process::Command;

use labimg::base::digest::hash_reader;
use labimg::base::report::{Silent, Task};
use labimg::build::disk::layout::Role;
use labimg::build::disk::{DiskSpec, RootTree, qcow2, raw};
use labimg::model::platform::Platform;
use labimg::model::profile::{Boot, Compression, Table};

use rustix::fs::Mode;
use rustix::process::umask;

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
        let before = umask(Mode::RWXG | Mode::RWXO);
        let second = bed.disk(&other, &spec);
        umask(before);
        let second = second.unwrap();
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

#[test]
fn a_disk_for_arm64_runs_nothing_of_arm64() {
    let Some(bed) = bed() else { return };
    if !has("dpkg-deb") {
        return;
    }
    let spec = DiskSpec { platform: Platform::LinuxArm64, ..spec(Boot::Efi, Table::Gpt) };
    let scratch = tempfile::tempdir().unwrap();
    let programs = bed.programs(scratch.path());
    let error = bed.disk(&programs, &spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        "disks/test: GRUB's modules for arm64-efi are neither in the toolchain nor in the box",
        "{error}"
    );
    // The other tree with GRUB's modules for arm64: its kernel is wrong, which nothing here asks.
    let unpacked = tempfile::tempdir().unwrap();
    says("dpkg-deb", &["-x", bed.arm64.to_str().unwrap(), unpacked.path().to_str().unwrap()]);
    let tree = scratch.path().join("arm64.tar");
    let mut own = std::fs::read(&bed.tree).unwrap();
    let mut end = own.len();
    while own[..end].ends_with(&[0; 512]) {
        end -= 512;
    }
    own.truncate(end);
    let mut builder = tar::Builder::new(own);
    builder.append_dir("usr/lib/grub", unpacked.path().join("usr/lib/grub")).unwrap();
    builder.append_dir_all("usr/lib/grub/arm64-efi", unpacked.path().join("usr/lib/grub/arm64-efi")).unwrap();
    std::fs::write(&tree, builder.into_inner().unwrap()).unwrap();
    let looked = RootTree::open(&tree, &spec).unwrap();
    let disk = raw(&programs, &spec, &looked, &Task::begin(&Silent, "disk", None)).unwrap();
    let esp = spec.layout().partition(Role::Esp).unwrap();
    let script = format!("mcopy -n -i /out/disk.raw@@{} ::/EFI/BOOT/BOOTAA64.EFI /out/grub.efi", esp.offset());
    programs.run("mcopy", &script, &[], &[]).unwrap();
    let grub = std::fs::read(programs.out("grub.efi")).unwrap();
    let header = u32::from_le_bytes(grub[60..64].try_into().unwrap()) as usize;
    // PE's signature and the machine ARM64 (Microsoft, PE format, "COFF File Header").
    assert_eq!(&grub[header..header + 6], &[b'P', b'E', 0, 0, 0x64, 0xaa]);
    assert!(std::fs::metadata(disk).unwrap().len() == spec.bytes());
}
