//! A toolchain of real Debian packages, unpacked and run.

use std::path::Path;
use std::process::Command;

use crate::support::Box;

/// Enough to make a file system and an archive.
const PACKAGES: [&str; 21] = [
    "base-files",
    "dash",
    "coreutils",
    "libc6",
    "libacl1",
    "libattr1",
    "libselinux1",
    "libpcre2-8-0",
    "libgmp10",
    "libssl3",
    "libtinfo6",
    "tar",
    "gzip",
    "e2fsprogs",
    "libext2fs2",
    "libcom-err2",
    "libblkid1",
    "libuuid1",
    "libss2",
    "zlib1g",
    "libc-bin",
];

/// Fetches and unpacks the packages of this machine's release; `None` where its archive does not answer.
fn tree(dir: &Path) -> Option<std::path::PathBuf> {
    let got = Command::new("apt-get").args(["-qq", "download"]).args(PACKAGES).current_dir(dir).output().ok()?;
    if !got.status.success() {
        println!("skipped: apt-get download: {}", String::from_utf8_lossy(&got.stderr));
        return None;
    }
    let root = dir.join("root");
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::fs::create_dir_all(root.join("usr").join(name)).unwrap();
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|e| e.path().extension().is_some()) {
        // `dpkg-deb -x` would replace the links by directories.
        let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -x --keep-directory-symlink -C \"$2\"";
        let unpacked = Command::new("/bin/sh").args(["-c", script, "x"]).arg(entry.path()).arg(&root).status();
        assert!(unpacked.unwrap().success());
    }
    Some(root)
}

#[test]
fn programs_of_packages_run_and_make_the_same_bytes_twice() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = tree(dir.path()) else { return };
    let make = "mkdir /tmp/t && echo x >/tmp/t/file && tar -C /tmp/t --sort=name --owner=0 --group=0 --numeric-owner \
                --mtime=@$SOURCE_DATE_EPOCH -cf - . | gzip -n9 >/out/t.tar.gz && sha256sum /out/t.tar.gz && \
                truncate -s 4M /out/disk && mke2fs -q -t ext4 /out/disk && e2fsck -fn /out/disk && cat /etc/debian_version";
    let (first, second) = (Box::over(&root).says(make), Box::over(&root).says(make));
    assert_eq!(first.lines().next(), second.lines().next());
    assert!(first.contains("/out/disk: 11/1024 files"), "{first}");
}
