//! What a disk and its box take beside the bare programs on the same tree; it asserts nothing. `--ignored` runs it.

use std::path::Path;
use std::time::Instant;

use labimg::base::report::{Silent, Task};
use labimg::build::disk::{DiskSpec, RootTree, qcow2, raw};
use labimg::build::vagrant_box::archive;
use labimg::model::profile::{Boot, Compression, Table};

use crate::support::{EPOCH, bed, spec};

/// The tree, and programs of this machine until it has a gigabyte.
fn large(tree: &Path, to: &Path) {
    let mut builder = tar::Builder::new(std::fs::File::create(to).unwrap());
    let mut archive = tar::Archive::new(std::fs::File::open(tree).unwrap());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let mut header = entry.header().clone();
        let path = entry.path_bytes().into_owned();
        let path = Path::new(std::str::from_utf8(&path).unwrap()).to_owned();
        match entry.link_name().unwrap().map(|l| l.into_owned()) {
            Some(link) => builder.append_link(&mut header, path, link).unwrap(),
            None => builder.append_data(&mut header, path, entry).unwrap(),
        }
    }
    let mut size = std::fs::metadata(tree).unwrap().len();
    let mut open = vec![Path::new("/usr/lib").to_owned()];
    while let Some(dir) = open.pop().filter(|_| size < 1_000_000_000) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && entry.metadata().unwrap().len() > 0 {
                let name = format!("extra-{size}");
                builder.append_path_with_name(entry.path(), name).unwrap();
                size += entry.metadata().unwrap().len();
            }
        }
    }
    builder.finish().unwrap();
}

#[test]
#[ignore = "measures"]
fn a_gigabyte() {
    let Some(bed) = bed() else { return };
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("large.tar");
    large(&bed.tree, &tree);
    let spec = DiskSpec { size: 4, ..spec(Boot::Bios, Table::Mbr) };
    println!("tree: {} MB", std::fs::metadata(&tree).unwrap().len() / 1_000_000);
    for _ in 0..2 {
        let scratch = tempfile::tempdir().unwrap();
        let programs = bed.programs(scratch.path());
        std::fs::create_dir_all(programs.out("")).unwrap();
        let start = Instant::now();
        let bare = "truncate -s 4G /out/disk.raw; \
            mke2fs -q -F -t ext4 -E offset=1048576,lazy_itable_init=0,lazy_journal_init=0 -d /in/tree.tar /out/disk.raw 4193280k";
        programs.run("mke2fs", bare, &[("tree.tar", &tree)], &[]).unwrap();
        let file_system = start.elapsed();
        qcow2::convert(&programs, Compression::Zstd, "box.img").unwrap();
        let bare = start.elapsed();
        println!("bare: mke2fs {file_system:?}, qemu-img {:?}, both {bare:?}", bare - file_system);
        let scratch = tempfile::tempdir().unwrap();
        let programs = bed.programs(scratch.path());
        let start = Instant::now();
        let looked = RootTree::open(&tree, &spec).unwrap();
        let seen = start.elapsed();
        raw(&programs, &spec, &looked, &Task::begin(&Silent, "disk", None)).unwrap();
        let disk = start.elapsed();
        let image = qcow2::convert(&programs, Compression::Zstd, "box.img").unwrap();
        let converted = start.elapsed();
        archive::pack(&bed.store, &[("Vagrantfile", "x")], ("box.img", &image), EPOCH, &|_| ()).unwrap();
        let all = start.elapsed();
        println!(
            "labimg: look {seen:?}, disk {:?}, qcow2 {:?}, box {:?}, all {all:?} = {:.2} × bare",
            disk - seen,
            converted - disk,
            all - converted,
            all.as_secs_f64() / bare.as_secs_f64()
        );
        let start = Instant::now();
        let out = std::fs::File::create(dir.path().join("box.vmdk")).unwrap();
        let from = fs_err::File::open(programs.out("disk.raw")).unwrap();
        let identity = labimg::build::disk::vmdk::Identity { name: "box.vmdk", cid: 1, uuid: "u" };
        let out = std::io::BufWriter::new(out);
        labimg::build::disk::vmdk::write(&from, spec.bytes(), identity, 2, out, &|_| ()).unwrap();
        let size = std::fs::metadata(dir.path().join("box.vmdk")).unwrap().len();
        println!(
            "vmdk: {:?}, {} MB; qcow2 {} MB",
            start.elapsed(),
            size / 1_000_000,
            std::fs::metadata(&image).unwrap().len() / 1_000_000
        );
    }
}
