//! A disk as distributions make them for clouds: `/boot` and an EFI system partition of their own, cloud-init, netplan, a server
//! called `sshd.service` and a unit that makes its keys, a ramdisk named as dracut does, somebody else with uid 1000. It becomes a
//! box, twice the same, and boots.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use labimg::base::report::Silent;
use labimg::build::disk_base::DiskBase;
use labimg::build::rootfs::compose::{Contents, File, User, Wishes};
use labimg::build::rootfs::{Compose, TREE};
use labimg::build::step::{Action, Input, Output, Outputs, Run};
use labimg::build::vagrant_box::{BoxAction, Machine as Template};
use labimg::model::platform::Platform;
use labimg::model::profile::{Boot, Provider, Table};
use labimg::store::BlobSource;

use crate::boot::Machine;
use crate::bytes::says;
use crate::support::{Bed, EPOCH, bed, has, helper, skipped, spec};

/// Where partitions start, in MiB, and how long they are: ESP, `/boot`, root.
const PARTS: [(u64, u64, &str); 3] = [(1, 16, "U"), (17, 120, "bc13c2ff-59e6-4262-a352-b275fd6f7172"), (137, 700, "L")];
const MIB: u64 = 1 << 20;

/// Unpacks the tree of the bed and makes a stranger of it.
fn stranger(bed: &Bed, dir: &Path) -> PathBuf {
    let root = dir.join("root");
    std::fs::create_dir(&root).unwrap();
    let (tree, at) = (bed.tree.to_str().unwrap(), root.to_str().unwrap());
    says("tar", &["-C", at, "--xattrs", "--xattrs-include=*", "-xpf", tree]);
    let script = r#"
        cd "$1"
        sed -i 's/vagrant/ubuntu/g' etc/passwd etc/group etc/shadow etc/gshadow etc/subuid etc/subgid
        mv home/vagrant home/ubuntu; rm etc/sudoers.d/vagrant
        mkdir -p etc/cloud etc/netplan
        printf 'network: {version: 2, ethernets: {ens3: {addresses: [192.0.2.7/24]}}}\n' > etc/netplan/50-cloud-init.yaml
        printf '[Match]\nName=*\n[Network]\nAddress=192.0.2.7/24\n' > etc/systemd/network/10-static.network
        printf 'LABEL=rootfs / ext4 discard,errors=remount-ro 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\nLABEL=UEFI /boot/efi vfat umask=0077 0 1\n' > etc/fstab
        rm -f etc/systemd/system/sshd.service etc/systemd/system/*.wants/*networkd* etc/systemd/system/multi-user.target.wants/ssh.service
        sed -i '/^Alias=/d' usr/lib/systemd/system/ssh.service
        mv usr/lib/systemd/system/ssh.service usr/lib/systemd/system/sshd.service
        rm -f etc/init.d/ssh etc/rc?.d/*ssh # systemd would make a second server of it
        version=$(ls boot | sed -n 's/^vmlinuz-//p'); mv "boot/initrd.img-$version" "boot/initramfs-$version.img"
        mkdir -p boot/grub boot/efi; echo 'configfile elsewhere' > boot/grub/grub.cfg
        mkdir ../boot; mv boot/* ../boot/; rmdir ../boot/efi; mkdir boot/efi
        echo x > var/log/cloud-init.log; echo 0123456789abcdef0123456789abcdef > etc/machine-id
    "#;
    says("bash", &["-euc", script, "stranger", at]);
    symlink("/run/systemd/resolve/stub-resolv.conf", root.join("etc/resolv.conf")).unwrap();
    root
}

/// A qcow2 image of a stranger's disk.
fn image(bed: &Bed, dir: &Path) -> PathBuf {
    let root = stranger(bed, dir);
    let raw = dir.join("cloud.raw");
    let disk = std::fs::File::create(&raw).unwrap();
    let size = PARTS.iter().map(|(at, len, _)| at + len).max().unwrap() + 1;
    disk.set_len(size * MIB).unwrap();
    for (from, label, (at, len, _)) in [(dir.join("boot"), "BOOT", PARTS[1]), (root, "rootfs", PARTS[2])] {
        let part = dir.join("part");
        let (tree, to) = (from.to_str().unwrap(), part.to_str().unwrap());
        says("mke2fs", &["-q", "-F", "-t", "ext4", "-L", label, "-d", tree, to, &format!("{len}M")]);
        disk.write_all_at(&std::fs::read(&part).unwrap(), at * MIB).unwrap();
        std::fs::remove_file(part).unwrap();
    }
    let table: String =
        PARTS.iter().map(|(at, len, kind)| format!("start={at}MiB, size={len}MiB, type={kind}\n")).collect();
    let script = "printf 'label: gpt\n%s' \"$2\" | sfdisk -q --no-reread \"$1\"";
    says("bash", &["-euc", script, "table", raw.to_str().unwrap(), &table]);
    let image = dir.join("cloud.qcow2");
    says("qemu-img", &["convert", "-c", "-O", "qcow2", raw.to_str().unwrap(), image.to_str().unwrap()]);
    std::fs::remove_file(raw).unwrap();
    image
}

fn ran(bed: &Bed, action: &dyn Action, inputs: &[(&str, &Output)]) -> Outputs {
    let scratch = tempfile::tempdir().unwrap();
    let inputs = inputs.iter().map(|(label, output)| ((*label).to_owned(), (*output).clone())).collect();
    let (store, reporter, scratch) = (&bed.store, &Silent, scratch.path());
    action.run(&Run { store, scratch, inputs: &inputs, epoch: EPOCH, threads: 2, reporter }).unwrap()
}

/// The tree of the image, its machine's tree, and the boxes of that.
fn made(bed: &Bed, image: &Output) -> Outputs {
    let none = || Input::Step { step: String::new(), output: String::new() };
    let base = DiskBase {
        name: "box cloud amd64 base".to_owned(),
        what: "base `file:cloud`".to_owned(),
        disk: none(),
        platform: Platform::LinuxAmd64,
        limit: 1 << 30,
    };
    let start = std::time::Instant::now();
    let tree = ran(bed, &base, &[("disk", image)]);
    println!("tree of the disk after {:?}", start.elapsed());
    let key = std::fs::read_to_string(bed.key.with_extension("pub")).unwrap().trim().to_owned();
    let wishes = Wishes {
        hostname: "cloud".to_owned(),
        users: vec![User {
            name: "vagrant".to_owned(),
            uid: 1000,
            groups: vec![],
            shell: "/bin/bash".to_owned(),
            sudo: true,
            authorized_keys: vec![key],
        }],
        files: vec![File {
            to: "/srv/hello".into(),
            contents: Contents::Text("hello\n".into()),
            mode: None,
            owner: None,
        }],
        grow_root: true,
        foreign: true,
        ..Wishes::default()
    };
    let compose = Compose { name: "box cloud amd64 tree".to_owned(), tree: none(), wishes };
    let tree = ran(bed, &compose, &[("tree", &tree[TREE])]);
    let boxes = BoxAction {
        name: "box cloud amd64".to_owned(),
        tree: none(),
        disk: spec(Boot::Hybrid, Table::Gpt),
        machine: Template { name: "cloud".to_owned(), memory: 512, cpus: 2, debian: false },
        providers: BTreeSet::from([Provider::Libvirt]),
        toolchain: bed.toolchain.clone(),
        helper: helper(),
        exec: "labimg toolchain exec x.toml".to_owned(),
    };
    ran(bed, &boxes, &[("tree", &tree[TREE])])
}

#[test]
fn a_cloud_image_becomes_a_box_that_boots() {
    let Some(bed) = bed() else { return };
    if !["mke2fs", "sfdisk", "qemu-img", "qemu-system-x86_64", "ssh"].into_iter().all(has) {
        return;
    }
    if rustix::process::getuid().as_raw() != 0 {
        return skipped("a cloud image: its tree is unpacked by root only");
    }
    let dir = tempfile::tempdir().unwrap();
    let (digest, size) =
        bed.store.put_reader(std::fs::File::open(image(bed, dir.path())).unwrap(), None, "a disk").unwrap();
    let image = Output { digest, size, facts: BTreeMap::new() };
    let first = made(bed, &image);
    assert_eq!(first, made(bed, &image));
    let path = bed.store.blob_path(&first["libvirt"].digest);
    println!(
        "box {} of {} bytes, from {size}",
        first["libvirt"].digest,
        bed.store.blob_size(&first["libvirt"].digest).unwrap()
    );
    says("tar", &["-C", dir.path().to_str().unwrap(), "-xf", path.to_str().unwrap(), "box.img"]);
    let mut machine = Machine::start(&dir.path().join("box.img"), "qcow2", dir.path(), None, "virtio");
    let said = machine.ssh(
        &bed.key,
        "id; cat /srv/hello; hostname; findmnt -rno SOURCE,TARGET -t ext4; ip -4 -o addr show scope global; ls /etc/ssh; ls /boot /boot/grub; \
         ls /home; sudo -n sync && echo may; systemctl is-enabled sshd; cat /etc/machine-id; systemctl is-system-running --wait; systemctl --failed --no-legend; true",
    );
    println!("{said}");
    for line in [
        "uid=1001(vagrant) gid=1001(vagrant)",
        "\nhello\ncloud\n",
        "10.0.2.15/24",
        "ssh_host_ed25519_key",
        "\nmay\nenabled\n",
        "\nubuntu\nvagrant\n",
    ] {
        assert!(said.contains(line), "no {line:?} in: {said}\n{}", machine.tail());
    }
    assert!(!said.contains("192.0.2.7") && !said.contains("0123456789abcdef") && said.contains("\nrunning"), "{said}");
    drop(machine);
    let done = Command::new("rm").arg("-rf").arg(dir.path().join("root")).status().unwrap();
    assert!(done.success());
}
