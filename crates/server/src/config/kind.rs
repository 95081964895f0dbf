//! What a setting's value may be: one description for the parser, the help and the errors.

use super::Credentials;
use std::{fmt, time::Duration};

/// The type of a setting, with the range that it accepts. Displayed, it says what is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user name or password.
    Credential,
    /// A file's or a directory's path.
    Path,
    /// An IP address and a port.
    Address,
    /// Networks in a list.
    Networks,
    /// Fields of events, and what is done to each.
    PrivacyRules,
    /// Text in a record.
    Name,
    /// What a certificate can be issued to.
    ServerName,
    /// Addresses of the admin endpoint.
    AdminAddresses,
    /// Where traces go.
    OtlpEndpoint,
    /// CPU numbers in list syntax.
    Cpus,
    /// A level, or levels by module.
    LogFilter,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Integer(IntegerRange),
    /// A time span with a unit.
    Duration(DurationRange),
    /// A number of bytes, with or without a unit.
    Size(SizeRange),
}

/// Whole numbers from `min` to `max`, both accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerRange {
    /// Least.
    pub min: u32,
    /// Most.
    pub max: u32,
    /// Of what, for people: "milliseconds"; empty where the key says it.
    pub unit: &'static str,
}

/// Time spans from `min` to `max`, both accepted, in whole steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationRange {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
    /// What the value must be a multiple of: the precision of whoever uses it.
    pub step: Duration,
    /// Whether 0s is accepted below `min`, and turns something off.
    pub zero_is_off: bool,
}

/// Numbers of bytes from `min` to `max`, both accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// Least, bytes.
    pub min: u32,
    /// Most, bytes.
    pub max: u32,
}

impl Kind {
    /// A whole number of `unit` (may be empty).
    pub const fn integer(min: u32, max: u32, unit: &'static str) -> Self {
        Self::Integer(IntegerRange { min, max, unit })
    }

    /// Whole milliseconds.
    pub const fn millis(min: Duration, max: Duration) -> Self {
        Self::Duration(DurationRange { min, max, step: Duration::from_millis(1), zero_is_off: false })
    }

    /// Whole multiples of `step`, or 0s for off.
    pub const fn or_off(min: Duration, max: Duration, step: Duration) -> Self {
        Self::Duration(DurationRange { min, max, step, zero_is_off: true })
    }

    /// Bytes.
    pub const fn size(min: u32, max: u32) -> Self {
        Self::Size(SizeRange { min, max })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential => write!(f, "text of 1 to {} bytes", Credentials::BYTES_MAX),
            Self::Path => f.write_str("a path"),
            Self::Address => f.write_str("an IP address and a port, such as 127.0.0.1:7400 or [::1]:7400"),
            Self::Networks => f.write_str("networks and addresses, such as 10.0.0.0/8,2001:db8::/32"),
            Self::PrivacyRules => f.write_str(
                "fields of events with drop, mask, hash or truncate, such as user_id=hash,log.message=mask",
            ),
            Self::Name => f.write_str("text of 1 to 255 bytes"),
            Self::ServerName => f.write_str("a DNS name or an IP address"),
            Self::AdminAddresses => f.write_str(
                "IP addresses with ports, and absolute paths behind unix:, such as \
                 127.0.0.1:9090,unix:/run/tickstream.sock",
            ),
            Self::OtlpEndpoint => f.write_str("an http:// URL, such as http://127.0.0.1:4318"),
            Self::Cpus => f.write_str("CPU numbers and ranges, such as 0-3,8"),
            Self::LogFilter => f.write_str(
                "off, error, warn, info, debug or trace, also by module, such as info,tickstream=debug",
            ),
            Self::Choice(words) => f.write_str(&words.join(" or ")),
            Self::Integer(range) => range.fmt(f),
            Self::Duration(range) => range.fmt(f),
            Self::Size(range) => range.fmt(f),
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
        let (min, max) = (humantime::format_duration(self.min), humantime::format_duration(self.max));
        write!(f, "a duration with its unit from {min} to {max}")?;
        if self.step > Duration::from_millis(1) {
            write!(f, " in steps of {}", humantime::format_duration(self.step))?;
        }
        Ok(())
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (Size(self.min), Size(self.max));
        write!(f, "a number of bytes (units: KiB, MiB, KB, MB) from {min} to {max}")
    }
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
            write!(f, "{bytes} bytes")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, expected: &str) {
        assert_eq!(kind.to_string(), expected);
    }

    #[test]
    fn kinds_say_what_they_accept() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        check(Kind::integer(1, 10_000_000, ""), "a whole number from 1 to 10000000");
        check(Kind::integer(0, 1000, "milliseconds"), "a whole number of milliseconds from 0 to 1000");
        check(Kind::millis(second, hour), "a duration with its unit from 1s to 1h");
        check(
            Kind::or_off(second, hour, second),
            "0s (off), or a duration with its unit from 1s to 1h in steps of 1s",
        );
        check(Kind::size(1024, 16 << 20), "a number of bytes (units: KiB, MiB, KB, MB) from 1KiB to 16MiB");
        check(Kind::size(1, 2000), "a number of bytes (units: KiB, MiB, KB, MB) from 1 bytes to 2000 bytes");
        check(Kind::Choice(&["aligned", "spread"]), "aligned or spread");
    }
}
