//! Boxes as a step makes them: their members, their disks, and what reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use labimg::base::report::Silent;
use labimg::build::BuildError;
use labimg::build::disk::DiskSpec;
use labimg::build::step::{Action, Input, Output, Outputs, Run};
use labimg::build::vagrant_box::action::TREE;
use labimg::build::vagrant_box::{BoxAction, Catalog, CatalogEntry, Machine};
use labimg::model::platform::Platform;
use labimg::model::profile::{Boot, Provider, Table};

use crate::bytes::says;
use crate::support::{Bed, EPOCH, bed, has, helper, skipped, spec};

/// Makes the boxes of the tree at `archive`.
fn make(bed: &Bed, disk: DiskSpec, archive: &Path, scratch: &Path) -> Result<Outputs, BuildError> {
    let (digest, size) = bed.store.put_reader(std::fs::File::open(archive).unwrap(), None, "a tree").unwrap();
    let action = BoxAction {
        name: "box test linux/amd64".to_owned(),
        tree: Input::Blob { digest, size },
        disk,
        machine: Machine { name: "test".to_owned(), memory: 512, cpus: 2, debian: true },
        providers: BTreeSet::from([Provider::Libvirt, Provider::Virtualbox, Provider::Qemu]),
        toolchain: bed.toolchain.clone(),
        helper: helper(),
        exec: "labimg toolchain exec x.toml".to_owned(),
    };
    let inputs = BTreeMap::from([(TREE.to_owned(), Output { digest, size, facts: BTreeMap::new() })]);
    let (store, reporter) = (&bed.store, &Silent);
    action.run(&Run { store, scratch, inputs: &inputs, epoch: EPOCH, threads: 2, reporter })
}

/// Unpacks a box and gives its members' names as they stand.
fn unpack(bed: &Bed, output: &Output, to: &Path) -> Vec<String> {
    std::fs::create_dir_all(to).unwrap();
    let mut archive = tar::Archive::new(std::fs::File::open(bed.store.blob_path(&output.digest)).unwrap());
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let meta = (header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap());
        assert_eq!(meta, (0o644, 0, EPOCH));
        names.push(String::from_utf8(entry.path_bytes().into_owned()).unwrap());
        assert!(entry.unpack_in(to).unwrap());
    }
    names
}

#[test]
fn boxes_hold_the_same_disk_and_are_the_same_twice() {
    let Some(bed) = bed() else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made = make(bed, spec(Boot::Bios, Table::Mbr), &bed.tree, one.path()).unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), ["libvirt", "virtualbox"]);
    let again = make(bed, spec(Boot::Bios, Table::Mbr), &bed.tree, two.path()).unwrap();
    assert_eq!(made, again);
    let dir = tempfile::tempdir().unwrap();
    let (libvirt, virtualbox) = (dir.path().join("libvirt"), dir.path().join("virtualbox"));
    assert_eq!(unpack(bed, &made["libvirt"], &libvirt), ["Vagrantfile", "metadata.json", "box.img"]);
    assert_eq!(unpack(bed, &made["virtualbox"], &virtualbox), ["Vagrantfile", "box.ovf", "metadata.json", "box.vmdk"]);
    let metadata = std::fs::read_to_string(libvirt.join("metadata.json")).unwrap();
    assert!(metadata.contains(r#""format":"qcow2","provider":"libvirt","virtual_size":1"#), "{metadata}");
    let raw = one.path().join("out/disk.raw");
    if has("qemu-img") {
        let path = |p: &PathBuf| p.to_str().unwrap().to_owned();
        let (qcow2, vmdk) = (path(&libvirt.join("box.img")), path(&virtualbox.join("box.vmdk")));
        says("qemu-img", &["check", &qcow2]);
        says("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", &path(&raw), &vmdk]);
        says("qemu-img", &["compare", "-f", "qcow2", "-F", "vmdk", &qcow2, &vmdk]);
        let info = says("qemu-img", &["info", &vmdk]);
        assert!(info.contains("streamOptimized") && info.contains("1 GiB (1073741824 bytes)"), "{info}");
    }
    if has("ruby") {
        says("ruby", &["-c", libvirt.join("Vagrantfile").to_str().unwrap()]);
        decides(&libvirt.join("Vagrantfile"));
    }
    well_formed(&virtualbox.join("box.ovf"));
    catalog(&made);
}

/// The Vagrantfile chooses emulation where it is told to, and whatever it finds is one of the two.
fn decides(vagrantfile: &Path) {
    // What Vagrant would hand it, as far as it is used: every setting is remembered, blocks are called.
    let vagrant = "class Any; def initialize; @set = {}; end
        def method_missing(name, *args)
          if name.to_s.end_with?('=') then @set[name.to_s.chomp('=')] = args.first
          elsif name == :set then @set
          else @set[name.to_s] ||= Any.new.tap { |a| yield a if block_given? } end
        end
        def provider(name) a = Any.new; yield a; puts \"#{name} #{a.set['driver']} #{a.set['cpu_mode']} #{a.set['cpu_model']} #{a.set['machine']}\"; end
        def vm; @vm ||= Any.new; end; def ssh; @ssh ||= Any.new; end
      end
      module Vagrant; def self.configure(_) yield Any.new; end; end
      load ARGV[0]";
    let said = |accel: Option<&str>| {
        let mut ruby = Command::new("ruby");
        ruby.args(["-rrbconfig", "-e", vagrant]).arg(vagrantfile);
        match accel {
            Some(accel) => ruby.env("LABIMG_ACCEL", accel),
            None => ruby.env_remove("LABIMG_ACCEL"),
        };
        let ended = ruby.output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    };
    let tcg = said(Some("tcg"));
    assert!(tcg.starts_with("libvirt qemu custom Nehalem "), "{tcg}");
    assert!(tcg.ends_with("qemu    q35,accel=tcg\n"), "{tcg}");
    let kvm = said(Some("kvm"));
    assert!(kvm.starts_with("libvirt kvm host-passthrough  "), "{kvm}");
    let here = said(None);
    println!("this machine, as the Vagrantfile finds it: {here}");
    assert!(here == tcg || here == kvm, "{here}");
}

/// The sections that OVF's schema (DSP8023) asks for, in its order, and every identifier that is referred to.
fn well_formed(ovf: &Path) {
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("the OVF: no python3 to read XML");
    }
    let check = r#"
import sys, xml.etree.ElementTree as E
root = E.parse(sys.argv[1]).getroot()
o = "{http://schemas.dmtf.org/ovf/envelope/1}"; r = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
v = "{http://www.virtualbox.org/ovf/machine}"
assert [c.tag for c in root] == [o + n for n in ("References", "DiskSection", "NetworkSection", "VirtualSystem")], "sections"
file, disk = root.find(f"{o}References/{o}File"), root.find(f"{o}DiskSection/{o}Disk")
assert disk.get(o + "fileRef") == file.get(o + "id"), "fileRef"
system = root.find(o + "VirtualSystem")
for section in root.iter(o + "VirtualHardwareSection"): assert section[0].tag == o + "Info"
items = system.findall(f"{o}VirtualHardwareSection/{o}Item")
ids = [i.find(r + "InstanceID").text for i in items]
assert len(set(ids)) == len(ids), "InstanceID"
kinds = [i.find(r + "ResourceType").text for i in items]
assert {"3", "4", "17", "10"} <= set(kinds) and set(kinds) & {"5", "20"}, kinds
for i in items:
    names = [c.tag.removeprefix(r) for c in i]
    assert names == sorted(names), names # the schema's sequence is alphabetical
    if i.find(r + "Parent") is not None: assert i.find(r + "Parent").text in ids
    if i.find(r + "HostResource") is not None: assert i.find(r + "HostResource").text == "/disk/" + disk.get(o + "diskId")
    if i.find(r + "Connection") is not None: assert i.find(r + "Connection").text == root.find(f"{o}NetworkSection/{o}Network").get(o + "name")
image = next(system.iter(o + "Image"))
assert image.get("uuid") == "{" + disk.get(v + "uuid") + "}", "disk uuid"
"#;
    says("python3", &["-c", check, ovf.to_str().unwrap()]);
}

/// A catalog of both, and what it says of them.
fn catalog(made: &Outputs) {
    let entry = |provider, name: &str| CatalogEntry {
        provider,
        url: format!("file:///srv/{name}.box"),
        digest: made[name].digest,
    };
    let catalog = Catalog {
        name: "disks/test".to_owned(),
        description: "A test".to_owned(),
        platform: Platform::LinuxAmd64,
        epoch: EPOCH,
        entries: vec![entry(Provider::Libvirt, "libvirt"), entry(Provider::Virtualbox, "virtualbox")],
    };
    let json = catalog.json();
    assert!(made.values().all(|o| json.contains(&o.digest.hex())), "{json}");
    if has("ruby") {
        let version = format!("v = Gem::Version.new('{}'); exit(!v.prerelease?)", catalog.version());
        says("ruby", &["-e", &version]);
    }
}

#[test]
fn trees_that_can_not_be_are_refused_by_name() {
    let Some(bed) = bed() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The tree's kernel, and a file that is too large for one GiB beside it.
    let large = dir.path().join("large.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&large).unwrap());
    let mut archive = tar::Archive::new(std::fs::File::open(&bed.tree).unwrap());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if ["boot", "./boot"].iter().any(|d| path.starts_with(d)) || path.contains("modules.builtin") {
            let header = entry.header().clone();
            builder.append(&header, entry).unwrap();
        }
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(1000 << 20);
    header.set_mode(0o644);
    builder.append_data(&mut header, "large", std::io::Read::take(std::io::repeat(7), 1000 << 20)).unwrap();
    builder.finish().unwrap();
    let refused = |disk: DiskSpec, tree: &Path| {
        let error = make(bed, disk, tree, scratch.path()).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let (message, hint) = refused(spec(Boot::Bios, Table::Mbr), &large);
    assert!(message.starts_with("disks/test: a disk of 1 GiB is too small for a tree of 10"), "{message}\n{hint}");
    assert_eq!(hint, "write size = \"2GiB\"");
    let arm = DiskSpec { platform: Platform::LinuxArm64, ..spec(Boot::Efi, Table::Gpt) };
    let (message, _) = refused(arm, &bed.tree);
    assert_eq!(message, "box test linux/amd64: there are no VirtualBox boxes for linux/arm64");
    let bad = dir.path().join("bad.tar");
    std::fs::write(&bad, "no archive").unwrap();
    let (message, _) = refused(spec(Boot::Bios, Table::Mbr), &bad);
    assert!(message.starts_with("box disks/test: its archive can not be read"), "{message}");
}
