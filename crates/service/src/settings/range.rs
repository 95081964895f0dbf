//! Ranges of values, and how they are shown.

use std::{fmt, time::Duration};

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

    /// The same, of which a bare number counts in `unit`: days are counted whole, smaller units to the millisecond.
    pub(super) const fn with_bare(self, unit: Duration) -> Self {
        let step = if unit.as_secs() > 1 { unit } else { MILLISECOND };
        Self { bare: Some(unit), step, ..self }
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
