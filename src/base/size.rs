//! Numbers of bytes as people read them.

/// `512 B`, `1.50 KiB`, `166.82 MiB`: the largest unit that leaves a whole number before the point.
pub fn shown(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    format!("{value:.2} {}", UNITS.get(power as usize - 1).copied().unwrap_or("EiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_number() {
        let all = [0, 1023, 1024, 1536, 174_927_872, 39208 << 20, u64::MAX].map(shown);
        assert_eq!(all, ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "166.82 MiB", "38.29 GiB", "16.00 EiB"]);
    }
}
