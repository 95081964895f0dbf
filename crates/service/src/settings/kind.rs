//! Constructors of settings, one for each kind of value.

use super::accepted::Kind;
use super::parse;
use super::range::{DurationRange, IntegerRange, SizeRange};
use super::table::Setting;
use super::value_error::{ADDRESS, LOG_FILTER, ValueError};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// A whole number; `unit` may be empty.
pub const fn integer(min: u32, max: u32, unit: &'static str) -> Setting<u32> {
    Setting::new(Kind::Integer(IntegerRange { min, max, unit }, |number| number), "N")
}

/// A whole number from `min`, at least 1.
pub const fn positive(min: u32, max: u32, unit: &'static str) -> Setting<NonZeroU32> {
    assert!(min > 0, "0 isn't positive");
    let read = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Setting::new(Kind::Integer(IntegerRange { min, max, unit }, read), "N")
}

/// A whole number of which 0, if it is accepted, means none.
pub const fn positive_or_none(min: u32, max: u32, unit: &'static str) -> Setting<Option<NonZeroU32>> {
    Setting::new(Kind::Integer(IntegerRange { min, max, unit }, NonZeroU32::new), "N")
}

/// Whole milliseconds.
pub const fn duration(min: Duration, max: Duration) -> Setting<Duration> {
    Setting::new(Kind::Duration(DurationRange::millis(min, max), |duration| duration), "DURATION")
}

/// Whole milliseconds, for a setting that may be empty.
pub const fn optional_duration(min: Duration, max: Duration) -> Setting<Option<Duration>> {
    Setting::new(Kind::Duration(DurationRange::millis(min, max), Some), "DURATION")
}

/// Whole multiples of `step`, or 0s for off.
pub const fn duration_or_off(min: Duration, max: Duration, step: Duration) -> Setting<Option<Duration>> {
    let read = |duration: Duration| if duration.is_zero() { None } else { Some(duration) };
    Setting::new(
        Kind::Duration(DurationRange { min, max, step, zero_is_off: true, bare: None }, read),
        "DURATION",
    )
}

impl<T> Setting<T> {
    /// A bare number counts in this unit, which the key names (`_ms`, `_seconds`, `_days`). The unit is written out as
    /// everywhere else, too.
    pub const fn bare(self, unit: Duration) -> Self {
        self.map_duration(unit)
    }
}

/// Bytes, at least 1.
pub const fn size(min: u32, max: u32) -> Setting<NonZeroU32> {
    assert!(min > 0, "0 isn't positive");
    let read = |bytes| NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN);
    Setting::new(Kind::Size(SizeRange { min, max }, read), "SIZE")
}

/// One of these words.
pub const fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> Setting<T> {
    Setting::new(Kind::Choice(words, |value| *value), "WORD")
}

/// Text that `read` reads; `accepts` describes it.
pub const fn text<T>(accepts: fn() -> String, read: fn(&str) -> Result<T, ValueError>) -> Setting<T> {
    Setting::new(Kind::Text { accepts, takes_number: false, read }, "TEXT")
}

/// As [`text`]; a bare number in the file is text, too.
pub const fn text_or_number<T>(
    accepts: fn() -> String,
    read: fn(&str) -> Result<T, ValueError>,
) -> Setting<T> {
    Setting::new(Kind::Text { accepts, takes_number: true, read }, "TEXT")
}

/// A file's or a directory's path, for a setting that may be empty.
pub const fn path() -> Setting<Option<PathBuf>> {
    text(|| "a path".to_owned(), |path| Ok(Some(PathBuf::from(path)))).value_name("PATH")
}

/// An IP address and a port.
pub const fn address() -> Setting<SocketAddr> {
    text(accepted_address, |text| Ok(parse::address(text)?)).value_name("IP:PORT")
}

/// The same, for a setting that may be empty.
pub const fn optional_address() -> Setting<Option<SocketAddr>> {
    text(accepted_address, |text| Ok(Some(parse::address(text)?))).value_name("IP:PORT")
}

fn accepted_address() -> String {
    ADDRESS.to_owned()
}

/// A level, or levels by module, of the log.
pub const fn log_filter() -> Setting<String> {
    text(|| LOG_FILTER.to_owned(), parse::log_filter).value_name("FILTER")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AnySetting;

    fn check<T: Sync>(setting: Setting<T>, expected: &str) {
        assert_eq!(setting.accepts(), expected);
    }

    #[test]
    fn kinds_say_what_they_accept() {
        let (second, hour, day) =
            (Duration::from_secs(1), Duration::from_secs(3600), Duration::from_secs(86_400));
        check(integer(1, 10_000_000, ""), "a whole number from 1 to 10000000");
        check(integer(0, 1000, "MiB"), "a whole number of MiB from 0 to 1000");
        check(duration(second, hour), "a duration with its unit from 1s to 1h");
        check(
            duration_or_off(second, hour, second),
            "0s (off), or a duration with its unit from 1s to 1h in steps of 1s",
        );
        check(
            duration(Duration::ZERO, second).bare(Duration::from_millis(1)),
            "a duration with its unit from 0s to 1s; without a unit, a number of milliseconds",
        );
        check(
            duration(day, 30 * day).bare(day),
            "a duration with its unit from 1d to 30d in steps of 1d; without a unit, a number of days",
        );
        check(size(1024, 16 << 20), "a number of bytes (units: KiB, MiB, KB, MB) from 1KiB to 16MiB");
        check(size(1, 2000), "a number of bytes (units: KiB, MiB, KB, MB) from 1 byte to 2000 bytes");
        check(choice(&[("aligned", 1), ("spread", 2)]), "aligned or spread");
    }
}
