//! The root file system: ext4, written by the toolchain's mke2fs straight from the tree's archive into its place on the disk.
//!
//! mke2fs reads the archive through a pipe: the parts of the tree's own that stay, then the disk's own files. Nothing is
//! unpacked, and owners, modes, devices and attributes stay as the archive has them.

use std::path::Path;

use super::DiskSpec;
use super::contents::{BLOCK, Contents};
use super::layout::Partition;
use super::programs::Programs;
use super::spec::{FSTAB, GRUB_CFG};
use crate::base::tarball::{Kind, Member, TarWriter};
use crate::build::BuildError;
use crate::build::sandbox::Exit;

/// What `/etc/mke2fs.conf` would say; the toolchain's own must not shape bytes when a package changes it.
const CONFIG: &str = "\
[defaults]
\tbase_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
\tdefault_mntopts = acl,user_xattr
\tenable_periodic_fsck = 0
\tblocksize = 4096
\tinode_size = 256
\tinode_ratio = 16384
[fs_types]
\text4 = {
\t\tfeatures = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
\t}
";
/// Bytes a file system has for each inode, where the tree does not ask for more of them.
const INODE_RATIO: u64 = 16384;
/// Bytes of an inode.
const INODE: u64 = 256;

/// `$1`: the file system's size in KiB, `$2`: its identifier, `$3`: options for `-E`, `$4`: inodes; then offset and length of
/// every part of the archive.
const SCRIPT: &str = "\
size=$1 uuid=$2 extended=$3 inodes=$4; shift 4
export MKE2FS_CONFIG=/in/mke2fs.conf
archive() {
  while [ $# -gt 0 ]; do
    dd if=/in/tree.tar iflag=skip_bytes,count_bytes,fullblock bs=1M skip=\"$1\" count=\"$2\" status=none; shift 2
  done
  cat /in/disk.tar
}
archive \"$@\" | mke2fs -q -F -t ext4 -b 4096 -I 256 -m 1 -L root -U \"$uuid\" -N \"$inodes\" \\
  -O ^metadata_csum_seed,^orphan_file -E \"$extended\" -d - /out/disk.raw \"${size}k\"
";

/// Writes the file system of `partition` into `/out/disk.raw`. `archive` is the tree's, `what` names it in messages.
///
/// # Errors
/// A disk that is too small: the size that would do is named. Whatever else mke2fs says.
pub fn write(
    programs: &Programs,
    spec: &DiskSpec,
    contents: &Contents,
    archive: &Path,
    partition: &Partition,
) -> Result<(), BuildError> {
    if needed(contents, partition.bytes()) > partition.bytes() {
        return Err(too_small(spec, contents, partition));
    }
    let own = own_files(spec, contents, programs.epoch)
        .map_err(|e| BuildError::bad(spec.seed.as_str(), format!("its own files can not be packed: {e}")))?;
    let own = programs.input("disk.tar", &own)?;
    let config = programs.input("mke2fs.conf", CONFIG.as_bytes())?;
    let extended = format!(
        "offset={},hash_seed={},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0,root_perms=0755",
        partition.offset(),
        spec.seed().uuid("directory hash"),
    );
    let mut args = vec![(partition.bytes() / 1024).to_string(), spec.root_uuid(), extended];
    args.push(inodes(contents, partition.bytes()).to_string());
    args.extend(contents.parts.iter().flat_map(|(at, length)| [at.to_string(), length.to_string()]));
    let inputs = [("tree.tar", archive), ("disk.tar", &own), ("mke2fs.conf", &config)];
    match programs.try_run(SCRIPT, &inputs, &args)? {
        (Exit::Code(0), _) => Ok(()),
        // What mke2fs says when a block or an inode is not to be had in the new file system.
        (_, output) if output.contains("Could not allocate") => Err(too_small(spec, contents, partition)),
        (exit, output) => {
            Err(BuildError::Program { command: "`mke2fs -t ext4`".to_owned(), ended: exit.to_string(), output })
        }
    }
}

/// The disk's own files, as the rest of an archive.
fn own_files(spec: &DiskSpec, contents: &Contents, epoch: u64) -> std::io::Result<Vec<u8>> {
    let cfg = spec.grub_cfg(&contents.kernel_path(), contents.initrd_path().as_deref());
    let fstab = spec.fstab();
    let mut tar = TarWriter::new(Vec::new());
    let member = |path, kind, mode| Member { path, kind, mode, uid: 0, gid: 0, mtime: epoch };
    for path in &contents.missing_dirs {
        tar.put(&member(path, Kind::Dir, 0o755), &mut std::io::empty())?;
    }
    for (path, text) in [(GRUB_CFG, &cfg), (FSTAB, &fstab)] {
        tar.put(&member(path, Kind::File(text.len() as u64), 0o644), &mut text.as_bytes())?;
    }
    tar.finish()
}

/// Inodes of a file system of `bytes`: what the tree needs with room to grow, at least one for every 16 KiB.
fn inodes(contents: &Contents, bytes: u64) -> u64 {
    (contents.members + contents.members / 4 + 1024).max(bytes / INODE_RATIO)
}

/// Bytes a file system of `bytes` needs for the tree: its data, inodes, journal, and a little for the rest.
fn needed(contents: &Contents, bytes: u64) -> u64 {
    // mke2fs's own steps (ext2fs_default_journal_size), in blocks; a file system beyond them has 1 GiB.
    let journal = match bytes / BLOCK {
        0..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        4_194_304..8_388_608 => 32_768,
        8_388_608..16_777_216 => 65_536,
        16_777_216..33_554_432 => 131_072,
        _ => 262_144,
    } * BLOCK;
    // Bitmaps and group descriptors, and blocks of extents and directories beyond the first.
    let rest = bytes / 2048 + contents.data / 200 + (4 << 20);
    contents.data + inodes(contents, bytes) * INODE + journal + rest
}

fn too_small(spec: &DiskSpec, contents: &Contents, partition: &Partition) -> BuildError {
    let beside = spec.bytes() - partition.bytes();
    // One that needs more than the largest there is stays at that: no size will do then.
    let size = (spec.size + 1..2048).find(|g| {
        let room = (u64::from(*g) << 30) - beside;
        needed(contents, room) <= room
    });
    let data = contents.data.div_ceil(1 << 20);
    let message = format!("{}: a disk of {} GiB is too small for a tree of {data} MiB", spec.seed, spec.size);
    let hint = match size {
        Some(size) => format!("write size = \"{size}GiB\""),
        None => "no disk that can be made is large enough: leave something out".to_owned(),
    };
    BuildError::user(message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::disk::layout::Role;
    use crate::build::disk::spec::example;
    use crate::model::profile::{Boot, Table};

    #[test]
    fn a_disk_that_is_too_small_names_the_size() {
        let spec = example(Boot::Bios, Table::Mbr);
        let root = spec.layout().partition(Role::Root).unwrap();
        let contents = |mib: u64| Contents { data: mib << 20, members: 30_000, ..Contents::default() };
        assert!(needed(&contents(1800), root.bytes()) < root.bytes());
        assert!(needed(&contents(2000), root.bytes()) > root.bytes());
        let error = too_small(&spec, &contents(2000), &root);
        assert_eq!(error.to_string(), "lab/box: a disk of 2 GiB is too small for a tree of 2000 MiB");
        assert_eq!(error.hint().unwrap(), "write size = \"3GiB\"");
        let many = Contents { members: 3_000_000, data: 1 << 30, ..Contents::default() };
        assert_eq!(too_small(&spec, &many, &root).hint().unwrap(), "write size = \"3GiB\"");
        assert!(too_small(&spec, &contents(1 << 22), &root).hint().unwrap().starts_with("no disk"));
    }
}
