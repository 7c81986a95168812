//! Points in time as archives write them: `Date` of Release files, names of snapshots. No clock is read.

use crate::base::calendar;

/// Seconds since 1970 of a date as Release files have it (Debian repository format, "Date, Valid-Until"; RFC 2822, 3.3),
/// in UTC: `Sat, 11 Jul 2026 10:16:37 UTC`.
pub fn parse_release_date(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    let day = if first.ends_with(',') { words.next()? } else { first };
    let day = number(day, 1..=31)?;
    let month = calendar::month(words.next()?)?;
    let year = number(words.next()?, 1970..=9999)?;
    let mut clock = words.next()?.split(':');
    let (hour, minute) = (number(clock.next()?, 0..=23)?, number(clock.next()?, 0..=59)?);
    let second = clock.next().map_or(Some(0), |s| number(s, 0..=60))?;
    let utc = matches!(words.next()?, "UTC" | "GMT" | "UT" | "Z" | "+0000" | "-0000");
    if !utc || clock.next().is_some() || words.next().is_some() {
        return None;
    }
    seconds(year, month, day, [hour, minute, second])
}

/// Seconds since 1970 of a snapshot's name: `20261101T000000Z`.
pub fn parse_snapshot(text: &str) -> Option<u64> {
    let (day, clock) = text.strip_suffix('Z')?.split_once('T')?;
    if day.len() != 8 || clock.len() != 6 || !text.is_ascii() {
        return None;
    }
    let year = number(&day[..4], 1970..=9999)?;
    let (month, day) = (number(&day[4..6], 1..=12)?, number(&day[6..], 1..=31)?);
    let clock = [number(&clock[..2], 0..=23)?, number(&clock[2..4], 0..=59)?, number(&clock[4..], 0..=60)?];
    seconds(year, month, day, clock)
}

/// The snapshot's name of a time: `20261101T000000Z`.
pub fn snapshot_name(seconds: u64) -> String {
    let (y, mo, d, h, mi, s) = parts(seconds);
    format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}Z")
}

/// A time for people: `2026-11-01 00:00 UTC`.
pub fn shown(seconds: u64) -> String {
    let (y, mo, d, h, mi, _) = parts(seconds);
    format!("{y:04}-{mo:02}-{d:02} {h:02}:{mi:02} UTC")
}

fn parts(seconds: u64) -> (i64, i64, i64, u64, u64, u64) {
    let days = i64::try_from(seconds / 86_400).unwrap_or(0).min(2_932_896); // 9999-12-31
    let (year, month, day) = calendar::date(days);
    (year, month, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

fn number(text: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|n| digits && range.contains(n))
}

fn seconds(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3]) -> Option<u64> {
    let days = calendar::days(year, month, day);
    // 31 November and its like are no dates.
    if calendar::date(days) != (year, month, day) {
        return None;
    }
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_dates() {
        for text in ["Sat, 11 Jul 2026 10:16:37 UTC", "11 Jul 2026 10:16:37 +0000", "Sat, 11 Jul 2026 10:16:37 GMT"] {
            assert_eq!(parse_release_date(text), Some(1_783_764_997), "{text}");
        }
        for text in [
            "",
            "now",
            "Sat, 31 Nov 2026 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37 +0200",
            "Sat, 11 Jul 2026 25:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37",
            "Sat, +1 Jul 2026 10:16:37 UTC",
        ] {
            assert_eq!(parse_release_date(text), None, "{text}");
        }
    }

    #[test]
    fn snapshots_have_names() {
        assert_eq!(parse_snapshot("20260711T101637Z"), Some(1_783_764_997));
        assert_eq!(snapshot_name(1_783_764_997), "20260711T101637Z");
        assert_eq!(shown(1_783_764_997), "2026-07-11 10:16 UTC");
        for text in ["", "20260711", "20260711T1016Z", "2026071äT10163Z", "20261311T101637Z"] {
            assert_eq!(parse_snapshot(text), None, "{text}");
        }
    }
}
