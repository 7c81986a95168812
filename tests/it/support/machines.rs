//! Bundles of a lab with one machine, whose box holds a real disk of a few files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use labimg::base::report::Silent;
use labimg::build::bundle::describe;
use labimg::build::vagrant_lab::MadeBox;
use labimg::model::lock::{Lock, wire};
use labimg::model::platform::Platform;
use labimg::model::profile::{Provider, parse};
use labimg::store::bundle::{Options, write};
use labimg::store::{Access, Store};

/// One machine, `cp`, of box `server`, and checks on it; the file `MARK` says that the second runs.
pub const PROFILE: &str = r#"
schema = 1
name = "small"
[debian.bookworm]
[debian.trixie]
[toolchain]
debian = "trixie"
packages = []
[[box]]
name = "server"
debian = "bookworm"
providers = ["libvirt", "virtualbox"]
[[host]]
name = "cp"
reach = "vagrant"
box = "server"
ip = "10.77.0.10"
[[check]]
name = "it answers"
ssh = { host = "cp", run = "echo I am up", output = "am up" }
timeout = "2s"
[[check]]
name = "it takes long"
ssh = { host = "cp", run = "touch MARK; sleep 1000" }
timeout = "100s"
[[check]]
name = "it is killed"
ssh = { host = "cp", run = '''printf "\377\033[31mred\n" >&2; kill -9 $$''' }
timeout = "1s"
"#;
const PARTITIONS: &str = "label: dos\nlabel-id: 0x11223344\n2048,,83,*\n";
const UUID: &str = "6a3b1c7e-0000-4000-8000-000000000001";
/// Where the only partition starts, in bytes.
const FIRST: usize = 2048 * 512;

/// Whether this machine has the programs that make disks; said aloud where not.
pub fn can_make_disks() -> bool {
    let there = |p: &&str| ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|d| Path::new(d).join(p).exists());
    let missing: Vec<_> = ["mke2fs", "sfdisk", "qemu-img"].into_iter().filter(|p| !there(p)).collect();
    if !missing.is_empty() {
        eprintln!("NOT RUN: this machine lacks {missing:?}");
    }
    missing.is_empty()
}

/// A disk in qcow2, at `dir/box.img`, of a small tree that `change` changes.
pub fn disk(dir: &Path, change: &dyn Fn(&Path)) -> PathBuf {
    let (tree, raw, qcow2) = (dir.join("tree"), dir.join("raw"), dir.join("box.img"));
    let _ = std::fs::remove_dir_all(&tree);
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/hostname"), "cp\n").unwrap();
    std::fs::write(tree.join("etc/motd"), "welcome\n").unwrap();
    for name in ["etc/hostname", "etc/motd"] {
        std::fs::set_permissions(tree.join(name), PermissionsExt::from_mode(0o644)).unwrap();
    }
    run("sh", &["-c", "find \"$1\" -exec touch -h -d @1700000000 {} +", "sh", tree.to_str().unwrap()], "");
    change(&tree);
    // What is read first moves times of access once.
    run("sh", &["-c", "tar -cf - \"$1\" | cat > /dev/null", "sh", tree.to_str().unwrap()], "");
    let _ = std::fs::remove_file(&raw);
    let extended = format!("hash_seed={UUID},root_owner=0:0");
    let (tree, file) = (tree.to_str().unwrap(), raw.to_str().unwrap());
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-U", UUID, "-E", &extended, "-d", tree, file, "8M"], "");
    let content = std::fs::read(&raw).unwrap();
    std::fs::write(&raw, vec![0; FIRST + content.len()]).unwrap();
    run("sfdisk", &["-q", file], PARTITIONS);
    let mut made = std::fs::read(&raw).unwrap();
    made[FIRST..].copy_from_slice(&content);
    std::fs::write(&raw, made).unwrap();
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", file, qcow2.to_str().unwrap()], "");
    qcow2
}

/// A box for libvirt of a disk.
pub fn a_box(disk: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.mode(tar::HeaderMode::Deterministic);
    for (name, text) in [("metadata.json", r#"{"provider":"libvirt"}"#), ("Vagrantfile", "")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.append_path_with_name(disk, "box.img").unwrap();
    tar.into_inner().unwrap()
}

/// Writes the lab's bundle to `to`, with these boxes.
pub fn bundle(to: &Path, libvirt: &[u8], virtualbox: &[u8]) {
    let mark = to.with_file_name("mark");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Shared).unwrap();
    let made = |provider, bytes: &[u8]| MadeBox {
        name: "server".to_owned(),
        platform: Platform::LinuxAmd64,
        provider,
        digest: store.put(bytes).unwrap(),
        size: bytes.len() as u64,
    };
    let boxes = [made(Provider::Libvirt, libvirt), made(Provider::Virtualbox, virtualbox)];
    let profile =
        parse("small.toml", &PROFILE.replace("MARK", mark.to_str().unwrap()), &mut |_| Err("none".to_owned()))
            .unwrap()
            .profile;
    let lock = Lock { name: "small".to_owned(), ..Lock::default() };
    let (profile, text) = (toml::to_string(&profile).unwrap(), wire::to_text(&lock).unwrap());
    let description = describe(&profile, &text, &lock, &boxes, &store).unwrap();
    write(&description, &store, to, Options::default(), &Silent).unwrap();
}

/// Runs a program with its input; it must end well.
fn run(program: &str, args: &[&str], input: &str) {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("E2FSPROGS_FAKE_TIME", "1700000000");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}
