//! Contents that look random, are the same on every machine, and belong to a name.

use sha2::{Digest as _, Sha256};

/// `sha256:<hex>` of some bytes.
pub fn digest(data: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(data).iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A generator of bytes that belong to a name (SplitMix64 from the name's SHA-256).
pub struct Bytes(u64);

impl Bytes {
    /// The generator of `name`.
    pub fn of(name: &str) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        Self(hash.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to below `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// `len` bytes that do not compress.
    pub fn noise(&mut self, len: u64) -> Vec<u8> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// About `len` bytes of text that compresses well.
    pub fn prose(&mut self, len: u64) -> Vec<u8> {
        const WORDS: [&str; 8] = ["span", "trace", "edge", "cloud", "collector", "queue", "node", "ensemble"];
        let mut out = String::new();
        while (out.len() as u64) < len {
            out.push_str(WORDS[(self.next() % 8) as usize]);
            out.push(if self.next().is_multiple_of(9) { '\n' } else { ' ' });
        }
        out.into_bytes()
    }
}
