//! One parser for each type of value, whatever source the text came from.

use super::kind::{DurationRange, IntegerRange, Kind, SizeRange};
use crate::placement::PlacementError;
use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};
use tickstream_engine::{Network, NetworkError, PrivacyError};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// What is wrong with a value. Each message continues the sentence that begins with key, value and origin.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A value is needed.
    #[error("is empty; accepted: {0}")]
    Empty(Kind),
    /// Not text at all.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// Not digits.
    #[error("is not a whole number; accepted: {0}")]
    NotAnInteger(Kind),
    /// Too small or too large.
    #[error("is out of range; accepted: {0}")]
    OutOfRange(Kind),
    /// A duration that is a bare number.
    #[error("is a bare number; a duration needs a unit, such as \"{0}s\" or \"{0}ms\"")]
    NoUnit(String),
    /// Not a duration.
    #[error("is not a duration ({reason}); accepted: {kind}")]
    Duration {
        /// What humantime has to say.
        reason: humantime::DurationError,
        /// What is accepted.
        kind: Kind,
    },
    /// Not a number of bytes.
    #[error("is not a size; accepted: {0}")]
    Size(Kind),
    /// Not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Not an address of the admin endpoint.
    #[error("has {0:?}, which is no address of the admin endpoint; accepted: {1}")]
    Admin(String, Kind),
    /// Not a URL that traces can be sent to.
    #[error("{0}; accepted: {1}")]
    OtlpEndpoint(&'static str, Kind),
    /// A file without a usable token. Nothing of it is told.
    #[error(
        "must hold one line of {} to {} printable ASCII characters without spaces, such as `openssl rand -hex 32` makes",
        super::AdminToken::BYTES_MIN,
        super::AdminToken::BYTES_MAX
    )]
    AdminToken,
    /// Journals that can't be so small.
    #[error(
        "must be at least {least}, so that each of {shards} shards keeps three segments: one that is full, one that is \
             written, one that is made ready"
    )]
    JournalSize {
        /// How many shards share it.
        shards: usize,
        /// The least, MiB.
        least: u64,
    },
    /// Privacy rules that can't be applied.
    #[error(transparent)]
    Privacy(PrivacyError),
    /// Too long, or with control characters.
    #[error("is no name; accepted: {0}, without control characters")]
    Name(Kind),
    /// A file without a usable key. Nothing of it is told.
    #[error("must hold 64 hexadecimal digits, such as `openssl rand -hex 32` makes")]
    PrivacyKey,
    /// Not one of the words.
    #[error("is not known; accepted: {0}")]
    Choice(Kind),
    /// Not a filter of tracing-subscriber.
    #[error("is not a log filter ({reason}); accepted: {}", Kind::LogFilter)]
    LogFilter {
        /// Which part is wrong, and how.
        reason: String,
    },
    /// Not usable CPUs.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A file that can't be read.
    #[error("can't be read: {0}")]
    File(io::Error),
    /// A credential of the wrong length. The length is all that is told.
    #[error("must be 1 to {max} bytes long, it has {bytes}", max = super::Credentials::BYTES_MAX)]
    CredentialLength {
        /// Its length; for a file, no more than is read of it.
        bytes: usize,
    },
    /// A cross-field rule: this must be above another setting.
    #[error("must be longer than {other} ({value})")]
    NotLongerThan {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: String,
    },
    /// A cross-field rule: this must not be below another setting.
    #[error("must be at least {other} ({value}), so that each shard gets one")]
    LessThan {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: usize,
    },
    /// Not a network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// TLS can't be had with it.
    #[error("can't be used: {}", tickstream_client::with_causes(.0))]
    Tls(tickstream_client::TlsConfigError),
    /// A cross-field rule: two listeners at one address would share its connections.
    #[error("is also where {other} ({value}) accepts connections; give {own} another port")]
    Overlaps {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: SocketAddr,
        /// This one's value.
        own: SocketAddr,
    },
    /// A cross-field rule: this means nothing without another setting.
    #[error("needs {other}, which isn't set")]
    Needs {
        /// The other setting.
        other: &'static str,
    },
    /// A cross-field rule: one of two settings only.
    #[error("excludes {other}, which is set too (from {origin}); set one of them")]
    Excludes {
        /// The other setting.
        other: &'static str,
        /// Where that one comes from.
        origin: String,
    },
}

/// Why a text is no address to listen on, with what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// `7400`
    #[error("is only a port; write 0.0.0.0:{0} for all IPv4 interfaces, or [::]:{0}")]
    OnlyPort(String),
    /// `10.0.0.1`
    #[error("has no port; write {0}:7400")]
    NoPort(String),
    /// `::1` or `::1:7400`, which is an address, too
    #[error("is an IPv6 address without brackets; write [{0}]:7400, with the port behind the bracket")]
    NoBrackets(Ipv6Addr),
    /// `localhost:7400`
    #[error("names a host; an IP address is needed, such as 127.0.0.1:{0}")]
    Host(String),
    /// `10.0.0.1:99999`
    #[error("has no valid port: \"{0}\" is no number from 0 to 65535")]
    Port(String),
    /// Anything else.
    #[error("is not an address; accepted: {}", Kind::Address)]
    Other,
}

/// A whole number without sign or separators.
pub fn integer(text: &str, range: IntegerRange) -> Result<u32, ValueError> {
    let kind = Kind::Integer(range);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::NotAnInteger(kind));
    }
    let in_range = |value: &u32| (range.min..=range.max).contains(value);
    text.parse().ok().filter(in_range).ok_or(ValueError::OutOfRange(kind))
}

/// Networks with commas between them.
pub fn networks(text: &str) -> Result<Vec<Network>, ValueError> {
    text.split(',').map(|network| Ok(network.trim().parse()?)).collect()
}

/// A time span in humantime's syntax.
pub fn duration(text: &str, range: DurationRange) -> Result<Duration, ValueError> {
    let kind = Kind::Duration(range);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::NoUnit(text.to_owned()));
    }
    let value = humantime::parse_duration(text).map_err(|reason| ValueError::Duration { reason, kind })?;
    let off = range.zero_is_off && value.is_zero();
    let in_range = (range.min..=range.max).contains(&value);
    let whole_steps = value.as_nanos().is_multiple_of(range.step.as_nanos());
    if off || in_range && whole_steps { Ok(value) } else { Err(ValueError::OutOfRange(kind)) }
}

/// A number of bytes: digits, then perhaps a unit.
pub fn size(text: &str, range: SizeRange) -> Result<u32, ValueError> {
    let kind = Kind::Size(range);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "kb" => 1_000,
        "mb" => 1_000_000,
        _ => return Err(ValueError::Size(kind)),
    };
    if number.is_empty() {
        return Err(ValueError::Size(kind));
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let in_range = |bytes: &u32| (range.min..=range.max).contains(bytes);
    bytes.and_then(|bytes| bytes.try_into().ok()).filter(in_range).ok_or(ValueError::OutOfRange(kind))
}

/// An IP address and a port.
pub fn address(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(AddressError::NoBrackets(address));
    }
    if is_ip(text) {
        return Err(AddressError::NoPort(text.to_owned()));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Err(match text.rsplit_once(':') {
        None if is_number(text) => AddressError::OnlyPort(text.to_owned()),
        Some(("", port)) if is_number(port) => AddressError::OnlyPort(port.to_owned()),
        Some((ip, port)) if is_ip(ip) => AddressError::Port(port.to_owned()),
        Some((host, port)) if is_number(port) && !host.contains([':', '[', ']']) => {
            AddressError::Host(port.to_owned())
        }
        None if text.starts_with(|c: char| c.is_ascii_alphabetic()) => AddressError::Host("7400".to_owned()),
        _ => AddressError::Other,
    })
}

fn is_ip(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bracketed.map_or_else(|| text.parse::<std::net::Ipv4Addr>().is_ok(), |ip| ip.parse::<Ipv6Addr>().is_ok())
}

/// One of a setting's words, as what it stands for.
pub fn choice<T: Copy>(text: &str, kind: Kind, words: &[(&str, T)]) -> Result<T, ValueError> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or(ValueError::Choice(kind))
}

/// A filter of tracing-subscriber, checked but kept as text: `EnvFilter` can't be cloned.
pub fn log_filter(text: &str) -> Result<String, ValueError> {
    for part in text.split(',').map(str::trim) {
        // EnvFilter would take a mistyped level for the name of a module, and log nothing else.
        let bare_word = !part.contains(['=', '[', ']']);
        if bare_word && (part.is_empty() || part.parse::<LevelFilter>().is_err()) {
            return Err(ValueError::LogFilter { reason: format!("\"{part}\" is no level") });
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(ValueError::LogFilter { reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::{Debug, Display};

    fn check<T: PartialEq + Debug, E: Display>(result: Result<T, E>, expected: Result<T, &str>) {
        match (result, expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (Ok(value), Err(expected)) => panic!("{value:?} instead of the error {expected:?}"),
            (Err(error), Ok(expected)) => panic!("\"{error}\" instead of {expected:?}"),
        }
    }

    #[test]
    fn integers() {
        let range = IntegerRange { min: 1, max: 1000, unit: "milliseconds" };
        let accepted = "accepted: a whole number of milliseconds from 1 to 1000";
        check(integer("1", range), Ok(1));
        check(integer("1000", range), Ok(1000));
        for text in ["0", "1001", "99999999999999999999"] {
            check(integer(text, range), Err(&format!("out of range; {accepted}")));
        }
        for text in ["", "5s", "-1", "+1", "1.5", "1_000", " 1"] {
            check(integer(text, range), Err(&format!("not a whole number; {accepted}")));
        }
    }

    #[test]
    fn durations() {
        let (min, max, step) = (Duration::from_secs(1), Duration::from_secs(3600), Duration::from_millis(1));
        let range = DurationRange { min, max, step, zero_is_off: false };
        check(duration("1s", range), Ok(min));
        check(duration("1h", range), Ok(max));
        check(duration("1m 30s", range), Ok(Duration::from_secs(90)));
        check(duration("1500ms", range), Ok(Duration::from_millis(1500)));
        check(
            duration("15", range),
            Err("bare number; a duration needs a unit, such as \"15s\" or \"15ms\""),
        );
        check(duration("0", range), Err("bare number"));
        for text in ["", "15x", "soon", "-5s", "s"] {
            check(duration(text, range), Err("is not a duration ("));
        }
        for text in ["0s", "999ms", "2h", "1s 1us"] {
            check(
                duration(text, range),
                Err("out of range; accepted: a duration with its unit from 1s to 1h"),
            );
        }
        let keepalive = DurationRange { min, max, step: min, zero_is_off: true };
        check(duration("0s", keepalive), Ok(Duration::ZERO));
        check(duration("1500ms", keepalive), Err("out of range; accepted: 0s (off), or"));
    }

    #[test]
    fn sizes() {
        let range = SizeRange { min: 1024, max: 16 << 20 };
        check(size("65536", range), Ok(65_536));
        check(size("64KiB", range), Ok(65_536));
        check(size("64 kib", range), Ok(65_536));
        check(size("16MiB", range), Ok(16 << 20));
        check(size("64KB", range), Ok(64_000));
        check(size("1MB", range), Ok(1_000_000));
        for text in ["1023", "0", "17MiB", "18446744073709551615MiB", "99999999999999999999"] {
            check(size(text, range), Err("out of range; accepted: a number of bytes"));
        }
        for text in ["", "KiB", "64K", "64GiB", "-1", "1.5MiB", "64KiB2"] {
            check(
                size(text, range),
                Err("is not a size; accepted: a number of bytes (units: KiB, MiB, KB, MB)"),
            );
        }
    }

    #[test]
    fn addresses() {
        check(address("0.0.0.0:7400"), Ok("0.0.0.0:7400".parse().unwrap()));
        check(address("[::1]:0"), Ok("[::1]:0".parse().unwrap()));
        check(address("7400"), Err("only a port; write 0.0.0.0:7400"));
        check(address(":7400"), Err("only a port; write 0.0.0.0:7400"));
        check(address("10.0.0.1"), Err("has no port; write 10.0.0.1:7400"));
        check(address("[::1]"), Err("has no port; write [::1]:7400"));
        check(address("::1"), Err("without brackets; write [::1]:7400"));
        check(address("::1:7400"), Err("without brackets"));
        check(
            address("localhost:7401"),
            Err("names a host; an IP address is needed, such as 127.0.0.1:7401"),
        );
        check(address("localhost"), Err("names a host"));
        check(address("10.0.0.1:99999"), Err("no valid port: \"99999\""));
        check(address("[::1]:http"), Err("no valid port: \"http\""));
        for text in ["", "10.0.0.1:", "[::1:7400", "1.2.3"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn choices() {
        let kind = Kind::Choice(&["aligned", "spread"]);
        let words = [("aligned", 1), ("spread", 2)];
        check(choice("spread", kind, &words), Ok(2));
        check(choice("Spread", kind, &words), Err("is not known; accepted: aligned or spread"));
    }

    #[test]
    fn log_filters() {
        for text in ["info", "off", "WARN", "info,tickstream=debug", "warn,[span{field=1}]=trace"] {
            check(log_filter(text), Ok(text.to_owned()));
        }
        check(log_filter("infos"), Err("(\"infos\" is no level); accepted: off, error, warn, info"));
        check(log_filter(""), Err("\"\" is no level"));
        check(log_filter("info,"), Err("\"\" is no level"));
        check(log_filter("tickstream=loud"), Err("is not a log filter ("));
    }
}
