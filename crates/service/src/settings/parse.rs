//! One parser for each type of value, whatever source the text came from.

use super::range::{DurationRange, IntegerRange, SizeRange};
use super::value_error::{AddressError, ValueError};
use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// A whole number without sign or separators.
///
/// # Errors
/// [`ValueError::NotAnInteger`], [`ValueError::OutOfRange`].
pub fn integer(text: &str, range: IntegerRange) -> Result<u32, ValueError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::NotAnInteger(range.to_string()));
    }
    let in_range = |value: &u32| (range.min..=range.max).contains(value);
    text.parse().ok().filter(in_range).ok_or_else(|| ValueError::OutOfRange(range.to_string()))
}

/// A time span: numbers with units, such as `1m 30s`; a bare number where the range has a unit for it.
///
/// # Errors
/// [`ValueError::NoUnit`], [`ValueError::Duration`], [`ValueError::OutOfRange`].
pub fn duration(text: &str, range: DurationRange) -> Result<Duration, ValueError> {
    let out_of_range = || ValueError::OutOfRange(range.to_string());
    let value = match range.bare {
        _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            humantime::parse_duration(text)
                .map_err(|reason| ValueError::Duration { reason, accepts: range.to_string() })?
        }
        Some(unit) => {
            let number = text.parse().ok().and_then(|number| unit.checked_mul(number));
            number.ok_or_else(out_of_range)?
        }
        None => return Err(ValueError::NoUnit(text.to_owned())),
    };
    let off = range.zero_is_off && value.is_zero();
    let in_range = (range.min..=range.max).contains(&value);
    let whole_steps = value.as_nanos().is_multiple_of(range.step.as_nanos());
    if off || in_range && whole_steps { Ok(value) } else { Err(out_of_range()) }
}

/// A number of bytes: digits, then perhaps a unit.
///
/// # Errors
/// [`ValueError::Size`], [`ValueError::OutOfRange`].
pub fn size(text: &str, range: SizeRange) -> Result<u32, ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "kb" => 1_000,
        "mb" => 1_000_000,
        _ => return Err(ValueError::Size(range.to_string())),
    };
    if number.is_empty() {
        return Err(ValueError::Size(range.to_string()));
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let in_range = |bytes: &u32| (range.min..=range.max).contains(bytes);
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .filter(in_range)
        .ok_or_else(|| ValueError::OutOfRange(range.to_string()))
}

/// An IP address and a port.
///
/// # Errors
/// [`AddressError`] says what to write instead.
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

/// A filter of tracing-subscriber, checked but kept as text: `EnvFilter` can't be cloned.
///
/// # Errors
/// [`ValueError::LogFilter`].
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
        let range = DurationRange { min, max, step, zero_is_off: false, bare: None };
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
        let keepalive = DurationRange { min, max, step: min, zero_is_off: true, bare: None };
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
        let setting = super::super::kind::choice(&[("aligned", 1), ("spread", 2)]);
        check(setting.read("spread"), Ok(2));
        check(setting.read("Spread"), Err("is not known; accepted: aligned or spread"));
    }

    #[test]
    fn a_bare_number_counts_in_the_unit_that_the_key_names() {
        let millisecond = Duration::from_millis(1);
        let range = DurationRange::millis(Duration::ZERO, Duration::from_secs(10));
        let range = DurationRange { bare: Some(millisecond), ..range };
        check(duration("5000", range), Ok(Duration::from_secs(5)));
        check(duration("5s", range), Ok(Duration::from_secs(5)));
        check(duration("5ms", range), Ok(5 * millisecond));
        check(duration("10001", range), Err("out of range"));
        check(duration("99999999999999999999", range), Err("out of range"));
        check(duration("-5", range), Err("is not a duration ("));
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
