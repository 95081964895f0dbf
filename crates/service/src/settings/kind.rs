//! Kinds of values: one description for the parser, the help and the errors.

use super::parse::{self, ValueError};
use super::table::Setting;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// A type of values, with the range that is accepted, and how a value becomes a `T`. Displayed, it says what is accepted.
pub enum Kind<T: 'static> {
    /// A whole number.
    Integer(IntegerRange, fn(u32) -> T),
    /// A time span.
    Duration(DurationRange, fn(Duration) -> T),
    /// A number of bytes, with or without a unit.
    Size(SizeRange, fn(u32) -> T),
    /// One of these words.
    Choice(&'static [(&'static str, T)], fn(&T) -> T),
    /// Text that a function reads.
    Text {
        /// For people, such as "a path".
        accepts: fn() -> String,
        /// A number in the file is a value, too.
        takes_number: bool,
        /// Its reader.
        read: fn(&str) -> Result<T, ValueError>,
    },
}

/// Whole numbers from `min` to `max`, both accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerRange {
    /// Least.
    pub min: u32,
    /// Most.
    pub max: u32,
    /// The unit for people, such as "MiB"; empty where the key says it.
    pub unit: &'static str,
}

/// Time spans from `min` to `max`, both accepted, in whole steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationRange {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
    /// The value is a multiple of this.
    pub step: Duration,
    /// 0s is accepted below `min`, and turns something off.
    pub zero_is_off: bool,
    /// The unit of a bare number, where the key names one; `None`: a number needs its unit.
    pub bare: Option<Duration>,
}

/// Numbers of bytes from `min` to `max`, both accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// Least, bytes.
    pub min: u32,
    /// Most, bytes.
    pub max: u32,
}

const MILLISECOND: Duration = Duration::from_millis(1);

impl DurationRange {
    /// Whole milliseconds from `min` to `max`.
    pub const fn millis(min: Duration, max: Duration) -> Self {
        Self { min, max, step: MILLISECOND, zero_is_off: false, bare: None }
    }
}

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
    parse::ADDRESS.to_owned()
}

/// A level, or levels by module, of the log.
pub const fn log_filter() -> Setting<String> {
    text(|| parse::LOG_FILTER.to_owned(), parse::log_filter).value_name("FILTER")
}

impl<T> Kind<T> {
    /// Reads a text that isn't empty.
    pub(super) fn read(&self, text: &str) -> Result<T, ValueError> {
        match self {
            Self::Integer(range, read) => parse::integer(text, *range).map(read),
            Self::Duration(range, read) => parse::duration(text, *range).map(read),
            Self::Size(range, read) => parse::size(text, *range).map(read),
            Self::Choice(words, copy) => {
                let found = words.iter().find(|(word, _)| *word == text);
                found.map(|(_, value)| copy(value)).ok_or_else(|| ValueError::Choice(self.to_string()))
            }
            Self::Text { read, .. } => read(text),
        }
    }

    pub(super) fn takes_number(&self) -> bool {
        // Also a duration, so that its parser can ask for the unit, as it does everywhere else.
        matches!(
            self,
            Self::Integer(..) | Self::Size(..) | Self::Duration(..) | Self::Text { takes_number: true, .. }
        )
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Integer(..) | Self::Duration(DurationRange { bare: Some(_), .. }, _))
    }

    pub(super) const fn with_bare(self, unit: Duration) -> Self {
        match self {
            Self::Duration(range, read) => {
                Self::Duration(DurationRange { bare: Some(unit), step: unit_step(unit), ..range }, read)
            }
            other => other,
        }
    }
}

/// Days are counted whole; smaller units to the millisecond.
const fn unit_step(unit: Duration) -> Duration {
    if unit.as_secs() > 1 { unit } else { MILLISECOND }
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kind<T> {}

impl<T> fmt::Display for Kind<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(range, _) => range.fmt(f),
            Self::Duration(range, _) => range.fmt(f),
            Self::Size(range, _) => range.fmt(f),
            Self::Choice(words, _) => {
                f.write_str(&words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or "))
            }
            Self::Text { accepts, .. } => f.write_str(&accepts()),
        }
    }
}

impl fmt::Display for IntegerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max, unit } = self;
        match *unit {
            "" => write!(f, "a whole number from {min} to {max}"),
            unit => write!(f, "a whole number of {unit} from {min} to {max}"),
        }
    }
}

impl fmt::Display for DurationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.zero_is_off {
            f.write_str("0s (off), or ")?;
        }
        write!(
            f,
            "a duration with its unit from {} to {}",
            show_duration(self.min),
            show_duration(self.max)
        )?;
        if self.step > MILLISECOND {
            write!(f, " in steps of {}", show_duration(self.step))?;
        }
        match self.bare {
            Some(unit) => write!(f, "; without a unit, a number of {}", unit_name(unit)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (Size(self.min), Size(self.max));
        write!(f, "a number of bytes (units: KiB, MiB, KB, MB) from {min} to {max}")
    }
}

/// Units of time, longest first: milliseconds, name in a value, name for people.
const UNITS: [(u128, &str, &str); 5] = [
    (86_400_000, "d", "days"),
    (3_600_000, "h", "hours"),
    (60_000, "m", "minutes"),
    (1_000, "s", "seconds"),
    (1, "ms", "milliseconds"),
];

/// A duration as one would write it: in the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(unit, ..)| millis != 0 && millis.is_multiple_of(*unit));
    unit.map_or_else(|| "0s".to_owned(), |(unit, name, _)| format!("{}{name}", millis / unit))
}

fn unit_name(unit: Duration) -> &'static str {
    let name = UNITS.iter().find(|(millis, ..)| *millis == unit.as_millis());
    name.map_or("units", |(.., name)| name)
}

/// Bytes for people: in the largest binary unit that divides them.
struct Size(u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        if bytes != 0 && bytes.is_multiple_of(1 << 20) {
            write!(f, "{}MiB", bytes >> 20)
        } else if bytes != 0 && bytes.is_multiple_of(1 << 10) {
            write!(f, "{}KiB", bytes >> 10)
        } else {
            write!(f, "{bytes} byte{}", if bytes == 1 { "" } else { "s" })
        }
    }
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
            duration(Duration::ZERO, second).bare(MILLISECOND),
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
