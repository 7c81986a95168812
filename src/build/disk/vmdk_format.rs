//! Structures of a stream-optimised VMDK (VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and
//! "Stream-Optimized Compressed Sparse Extents"). All numbers are little-endian; the unit is a sector.

use crate::build::disk::layout::SECTOR;

/// Sectors of a grain: 64 KiB.
pub const GRAIN: u64 = 128;
/// Grains of a table.
pub const TABLE: u64 = 512;
/// Sectors before the first grain: header, descriptor, and nothing up to a grain's boundary.
pub const OVERHEAD: u64 = 128;
/// Where the directory is when only the footer knows.
pub const AT_END: u64 = u64::MAX;
/// Kinds of markers.
pub const END_OF_STREAM: u32 = 0;
/// Before a grain table.
pub const GRAIN_TABLE: u32 = 1;
/// Before the grain directory.
pub const GRAIN_DIRECTORY: u32 = 2;
/// Before the footer.
pub const FOOTER: u32 = 3;

/// Where the descriptor starts, and how many sectors it may have.
const DESCRIPTOR: (u64, u64) = (1, 20);
/// Line ends are recognisable, grains are compressed, there are markers.
const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;

/// The header, and with the directory's sector the footer.
pub fn header(capacity: u64, directory: u64) -> [u8; SECTOR as usize] {
    let mut all = Vec::with_capacity(SECTOR as usize);
    all.extend_from_slice(b"KDMV");
    all.extend_from_slice(&3u32.to_le_bytes());
    all.extend_from_slice(&FLAGS.to_le_bytes());
    for number in [capacity, GRAIN, DESCRIPTOR.0, DESCRIPTOR.1] {
        all.extend_from_slice(&number.to_le_bytes());
    }
    all.extend_from_slice(&(TABLE as u32).to_le_bytes());
    // No redundant directory.
    for number in [0, directory, OVERHEAD] {
        all.extend_from_slice(&number.to_le_bytes());
    }
    // Shut down cleanly; the four characters that a transfer as text would change; deflate.
    all.extend_from_slice(&[0, b'\n', b' ', b'\r', b'\n', 1, 0]);
    let mut sector = [0; SECTOR as usize];
    sector[..all.len()].copy_from_slice(&all);
    sector
}

/// A marker's sector: how many sectors of what follow.
pub fn marker(sectors: u64, kind: u32) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    sector[..8].copy_from_slice(&sectors.to_le_bytes());
    sector[12..16].copy_from_slice(&kind.to_le_bytes());
    sector
}

/// Everything before the first grain. `name` is the file's own, `cid` and `uuid` tell it from others.
pub fn front(capacity: u64, name: &str, cid: u32, uuid: &str) -> Vec<u8> {
    let cylinders = (capacity / (255 * 63)).clamp(1, 16383);
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
         # Extent description\nRDONLY {capacity} SPARSE \"{name}\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n\
         ddb.uuid.image = \"{uuid}\"\nddb.uuid.parent = \"00000000-0000-0000-0000-000000000000\"\n\
         ddb.uuid.modification = \"00000000-0000-0000-0000-000000000000\"\n\
         ddb.uuid.parentmodification = \"00000000-0000-0000-0000-000000000000\"\n\
         ddb.toolsVersion = \"2147483647\"\n"
    );
    let mut all = header(capacity, AT_END).to_vec();
    let room = (DESCRIPTOR.1 * SECTOR) as usize;
    all.extend_from_slice(text.as_bytes().get(..room).unwrap_or(text.as_bytes()));
    all.resize((OVERHEAD * SECTOR) as usize, 0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    #[test]
    fn fields_stand_where_readers_look() {
        let front = front(4 << 21, "box.vmdk", 0xab, "u-u-i-d");
        assert_eq!(front.len(), 65536);
        assert_eq!((&front[..4], front[4], &front[8..12]), (&b"KDMV"[..], 3, &[1, 0, 3, 0][..]));
        assert_eq!((&front[56..64], &front[72..80]), (&[255; 8][..], &[0, 10, 32, 13, 10, 1, 0, 0][..]));
        assert!(std::str::from_utf8(&front[512..1500]).unwrap().contains("CID=000000ab\n"));
        assert_eq!(marker(4, GRAIN_TABLE)[..16], [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert!(Digest::of(&front).to_string().starts_with("sha256:008673eae58f7c44"), "{}", Digest::of(&front));
    }
}
