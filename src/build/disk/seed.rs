//! What would be random on a disk, derived: every identifier is SHA-256 over the disk's seed (`lab/box`) and the role it plays.
//!
//! So two builds of one box agree, and two boxes never share an identifier.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::base::digest::Digest;

/// Where identifiers of one disk come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed(String);

/// A universally unique identifier, bytes in the order they are written (RFC 9562, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid([u8; 16]);

impl Seed {
    /// The seed of a box: `lab/box`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn digest(&self, role: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        // Lengths keep apart what a separator could not.
        hasher.update(format!("labimg disk\n{}\n{}\n{role}", self.0.len(), self.0));
        hasher.finalize().into()
    }

    /// The identifier for `role`: version 8, "custom" (RFC 9562, section 5.8).
    pub fn uuid(&self, role: &str) -> Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.digest(role)[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }

    /// A number for `role` that is never 0: an MBR's disk signature, a FAT volume's serial number.
    pub fn number(&self, role: &str) -> u32 {
        let [a, b, c, d, ..] = self.digest(role);
        u32::from_le_bytes([a, b, c, d]).max(1)
    }

    /// Hexadecimal digits of an Ethernet address for `role`, in VirtualBox's range (08:00:27).
    pub fn mac(&self, role: &str) -> String {
        let [a, b, c, ..] = self.digest(role);
        format!("080027{a:02X}{b:02X}{c:02X}")
    }
}

impl Uuid {
    /// The bytes in the order they are written.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// As a GUID stands in GPT structures: the first three fields little-endian (UEFI 2.10, appendix A).
    pub fn guid(self) -> [u8; 16] {
        let mut b = self.0;
        b[..4].reverse();
        b[4..6].reverse();
        b[6..8].reverse();
        b
    }

    /// A known identifier, as a number: `0xEBD0A0A2_B9E5_4433_87C0_68B6B72699C7`.
    pub const fn of(number: u128) -> Self {
        Self(number.to_be_bytes())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = u128::from_be_bytes(self.0);
        let field = |shift: u32, digits: usize| (n >> shift) & ((1u128 << (4 * digits)) - 1);
        let (a, b, c, d, e) = (field(96, 8), field(80, 4), field(64, 4), field(48, 4), field(0, 12));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

/// Numbers for a version that differs when the digests differ (any order of them): two of up to ten decimal digits.
pub fn version_numbers(digests: &[Digest]) -> (u32, u32) {
    let mut all: Vec<String> = digests.iter().map(Digest::hex).collect();
    all.sort();
    let seed = Seed::new(all.join("\n"));
    (seed.number("version, first"), seed.number("version, second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_depend_on_seed_and_role_alone() {
        let seed = Seed::new("lab/box");
        assert_eq!(seed.uuid("root"), Seed::new("lab/box").uuid("root"));
        assert_ne!(seed.uuid("root"), seed.uuid("hash"));
        assert_ne!(seed.uuid("root"), Seed::new("lab/box2").uuid("root"));
        assert_ne!(Seed::new("a").uuid("b\nc"), Seed::new("a\nb").uuid("c"));
        let text = seed.uuid("root").to_string();
        assert_eq!(text.len(), 36);
        assert_eq!((text.as_bytes()[14], text.as_bytes()[19] >= b'8'), (b'8', true), "{text}");
        assert_eq!(seed.mac("nic").len(), 12);
    }

    #[test]
    fn texts_and_guids_are_as_the_specifications_write_them() {
        let esp = Uuid::of(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        let bytes = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(esp.guid(), bytes);
    }

    #[test]
    fn other_digests_are_another_version() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(version_numbers(&[a, b]), version_numbers(&[b, a]));
        assert_ne!(version_numbers(&[a]), version_numbers(&[b]));
    }
}
