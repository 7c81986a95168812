//! All of it again as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `nobody` on Debian; any number without rights would do.
const NOBODY: u32 = 65534;

#[test]
fn everything_works_as_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: this is an ordinary user already");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    open(dir.path());
    let (tests, labimg, tmp, broken) =
        (dir.path().join("tests"), dir.path().join("labimg"), dir.path().join("tmp"), dir.path().join("broken"));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::copy(crate::support::helper(), &labimg).unwrap();
    std::fs::create_dir(&tmp).unwrap();
    std::os::unix::fs::chown(&tmp, Some(NOBODY), Some(NOBODY)).unwrap();
    // Programs that come first on this machine and are not what they should be.
    std::fs::create_dir(&broken).unwrap();
    for name in ["sh", "mke2fs", "gzip", "date"] {
        std::fs::write(broken.join(name), "#!/bin/false\n").unwrap();
        open(&broken.join(name));
    }
    let path = format!("{}:/usr/bin:/bin", broken.display());
    let ran = Command::new(&tests)
        .args(["--skip", "everything_works_as_an_ordinary_user"])
        .env_clear()
        .envs([("LABIMG_TEST_HELPER", labimg.as_os_str()), ("TMPDIR", tmp.as_os_str()), ("PATH", path.as_ref())])
        .current_dir(&tmp)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}
