//! Disks that can be no box, and what is said of them.

use super::*;

#[test]
fn what_is_no_disk_is_called_what_it_is() {
    let Some(bench) = Bench::new() else { return };
    let raw = bench.usual();
    for (name, bytes, says) in [
        ("text", &b"hello"[..], "base `file:x` is no disk: neither a qcow2 image nor"),
        ("empty", b"", "is no disk"),
        ("xz", b"\xfd7zXZ\0rest", "is compressed as a whole | unpack it"),
        ("vmdk", b"KDMV....", "is a VMDK image; a base is a qcow2 or raw image of a disk | take"),
        ("qcow", b"QFI\xfb\0\0\0\x03", "is truncated"),
    ] {
        bench.file(name, bytes);
        let error = bench.error(&bench.path(name));
        assert!(error.contains(says), "{name}: {error}");
    }
    let over = bench.path("over.qcow2");
    let (raw_name, over_name) = (raw.to_str().unwrap(), over.to_str().unwrap());
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw_name, over_name], "");
    let error = bench.error(&over);
    assert!(error.contains("its backing file `") && error.contains("disk.raw` | join the two"), "{error}");
}

#[test]
fn truncated_images_are_told_at_once() {
    let Some(bench) = Bench::new() else { return };
    let raw = bench.usual();
    for options in [&[][..], &["-c"]] {
        let image = bench.qcow2(&raw, options);
        let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
        file.set_len(fs::metadata(&image).unwrap().len() * 2 / 3).unwrap();
        let error = bench.error(&image);
        assert!(error.contains("is truncated: ") && error.contains("| compare its size"), "{error}");
    }
    fs::OpenOptions::new().write(true).open(&raw).unwrap().set_len(MIB + 2 * PART).unwrap();
    let error = bench.error(&raw);
    assert!(error.contains("is truncated: partition 3 ends at byte"), "{error}");
}

#[test]
fn partitions_that_are_not_read_are_named() {
    let Some(bench) = Bench::new() else { return };
    let mut lvm = vec![0; 1024];
    lvm[512..520].copy_from_slice(b"LABELONE");
    let mut btrfs = vec![0; 0x1_0048];
    btrfs[0x1_0040..].copy_from_slice(b"_BHRfS_M");
    let other = bench.ext4("other", "X", "");
    let disk = bench.disk(
        "gpt",
        &[(ESP, b"x"), (LINUX, b"LUKS\xba\xbe"), (LINUX, &lvm), (LINUX, &btrfs), (LINUX, b"XFSB"), (LINUX, &other)],
    );
    let error = bench.error(&disk);
    let list = "1 (16 MiB, unknown), 2 (16 MiB, encrypted (LUKS)), 3 (16 MiB, an LVM volume), 4 (16 MiB, btrfs), 5 (16 MiB, xfs), 6 (16 MiB, ext4)";
    assert!(error.contains(list) && error.contains("has no root file system that is ext4"), "{error}");
    // The root is read, but not what it mounts.
    let disk = bench.disk("gpt", &[(LINUX, &bench.root()), (LINUX, b"XFSB")]);
    let error = bench.error(&disk);
    assert!(error.contains("its /etc/fstab mounts `LABEL=BOOT` at `/boot`, which is not on the disk"), "{error}");
}

#[test]
fn machines_that_can_be_no_box_are_refused() {
    let Some(bench) = Bench::new() else { return };
    let mut arm = ELF.to_vec();
    arm[18] = 183;
    bench.file("root/usr/lib/systemd/systemd", &arm);
    let error = bench.error(&bench.usual());
    assert!(error.contains("its systemd is a program for linux/arm64, the box is for linux/amd64"), "{error}");
    fs::remove_file(bench.path("root/usr/lib/systemd/systemd")).unwrap();
    assert!(bench.error(&bench.usual()).contains("has no systemd |"));
    bench.file("root/usr/lib/systemd/systemd", ELF);
    fs::remove_file(bench.path("root/usr/sbin/sshd")).unwrap();
    assert!(bench.error(&bench.usual()).contains("has no SSH server (OpenSSH), and Vagrant"));
    bench.file("root/usr/sbin/sshd", b"x");
    let large = fs::File::create(bench.path("root/large")).unwrap();
    large.set_len(70 * MIB).unwrap();
    let error = bench.error(&bench.usual());
    assert!(error.contains("do not fit onto the box's disk (at `/large`) | write a larger size"), "{error}");
    fs::remove_file(bench.path("root/large")).unwrap();
    let root = bench.ext4("root", "ROOT", "cd /usr\nmknod null c 1 3\nfeature needs_recovery\n");
    let error = bench.error(&bench.disk("gpt", &[(LINUX, &root)]));
    assert!(error.contains("the file system of partition 1 was never unmounted"), "{error}");
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let Some(bench) = Bench::new() else { return };
    let raw = bench.usual();
    let whole = fs::read(&raw).unwrap();
    // Bytes of tables, superblock, descriptors, inodes and directories of the root.
    let root = (MIB + 2 * PART) as usize;
    let file = fs::OpenOptions::new().write(true).open(&raw).unwrap();
    for (n, at) in (512..1024).step_by(61).chain((root + 1024..root + 40 * 1024).step_by(1117)).enumerate() {
        let damaged = whole[at] ^ [0xff, 1, 0x80][n % 3];
        file.file().write_all_at(&[damaged], at as u64).unwrap();
        let _ = bench.tree(&raw);
        file.file().write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    bench.tree(&raw).unwrap();
}
