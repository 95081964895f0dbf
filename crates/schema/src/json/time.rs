//! Times as RFC 3339 writes them, to the nanosecond.

use std::fmt;

const SECOND: u64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// Nanoseconds of Unix time, to be shown: `2026-11-21T20:00:00.123456789Z`.
pub(super) struct Rfc3339(pub u64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ns) = ((self.0 / SECOND) as i64, self.0 % SECOND);
        let (year, month, day) = civil(seconds / DAY_S);
        let of_day = seconds % DAY_S;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
    }
}

/// Nanoseconds of Unix time of an RFC 3339 text, with any offset and up to nine digits of a second; `None` for any other
/// text, and for times before 1970 or after July 2554.
pub fn parse(text: &str) -> Option<u64> {
    let (date, time) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (clock, offset_s) = split_offset(time)?;
    let [year, month, day] = numbers(date, b'-', [4, 2, 2])?;
    let (whole, fraction) =
        clock.split_once('.').map_or((clock, None), |(whole, fraction)| (whole, Some(fraction)));
    let [hour, minute, second] = numbers(whole, b':', [2, 2, 2])?;
    let ns = fraction.map_or(Some(0), nanoseconds)?;
    let is_clock = hour < 24 && minute < 60 && second <= 60;
    if !is_clock || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    // A leap second, 60, is the first of the next minute: Unix time has none.
    let seconds = days(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second - offset_s;
    u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(ns)
}

/// The time of day, and how far its zone is ahead of UTC, seconds.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let (clock, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(offset.get(1..)?, b':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 3600 + minutes * 60)))
}

/// Numbers with so many digits each, separated.
fn numbers<const N: usize>(text: &str, separator: u8, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(char::from(separator));
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number = all_digits(part)?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn nanoseconds(fraction: &str) -> Option<u64> {
    let digits = all_digits(fraction)?;
    let value: u64 = if digits.len() <= 9 { digits.parse().ok()? } else { return None };
    Some(value * 10_u64.pow(9 - digits.len() as u32))
}

fn all_digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date. Years begin in March, so that the leap day is their last: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days, not below 0, after 1970 began.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let check = |text: &str, expected| assert_eq!(parse(text), expected, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-11-21T20:00:00.123456789Z", Some(1_795_291_200_123_456_789));
        check("2026-11-21t21:30:00.5+01:30", Some(1_795_291_200_500_000_000));
        check("2026-11-21 15:00:00-05:00", Some(1_795_291_200_000_000_000));
        check("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000_000));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000_000_000));
        check("2554-07-21T23:34:33.709551615Z", Some(u64::MAX));
        for wrong in [
            "",
            "2026-11-21",
            "2026-11-21T20:00:00",
            "2026-11-21T20:00Z",
            "2026-11-21T20:00:00.Z",
            "2026-11-21T20:00:00.1234567890Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T20:60:00Z",
            "2026-11-21T20:00:61Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "2554-07-21T23:34:33.709551616Z",
            "+026-11-21T20:00:00Z",
            "2026-11-21T20:00:00+1:00",
            "2026-11-21T20:00:00+24:00",
            "2026-11-21T20:00:00 01:00",
            "2026-11-2éT20:00:00Z",
            "2026-1--21T20:00:00Z",
            "9999999999999999999999",
        ] {
            check(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back(ns: u64) {
            prop_assert_eq!(parse(&Rfc3339(ns).to_string()), Some(ns));
        }

        #[test]
        fn it_is_what_humantime_says(ns: u64) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(ns);
            prop_assert_eq!(humantime::format_rfc3339_nanos(time).to_string(), Rfc3339(ns).to_string());
        }

        #[test]
        fn noise_is_no_panic(text: String) {
            parse(&text);
        }
    }
}
