//! Numbers and times for people.

use chrono::DateTime;

use crate::table::Value;

/// A cell without a value.
pub const NOTHING: &str = "–";

/// A number with as many digits as help: thousands are parted, small ones have three significant digits.
pub fn number(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        return "–".to_owned();
    }
    let digits = match size {
        size if size == size.trunc() || size >= 1_000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.001 => 4,
        _ => return format!("{number:.2e}"),
    };
    let text = format!("{size:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    if number < 0.0 && text.contains(|digit: char| ('1'..='9').contains(&digit)) {
        out.push('−');
    }
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    let part = part.trim_end_matches('0');
    if !part.is_empty() {
        out.push('.');
        out.push_str(part);
    }
    out
}

/// A number in few characters, for axes.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let scaled = |by: f64, unit: &str| format!("{}{unit}", number((value / by * 10.0).round() / 10.0));
    match size {
        size if size >= 1e12 => format!("{value:.1e}"),
        size if size >= 1e9 => scaled(1e9, "G"),
        size if size >= 1e6 => scaled(1e6, "M"),
        size if size >= 1e4 => scaled(1e3, "k"),
        _ => number(value),
    }
}

/// A time of day and date, UTC; of midnight the date.
pub fn time(ns: i64) -> String {
    let time = DateTime::from_timestamp_nanos(ns);
    let text = time.format("%Y-%m-%d %H:%M:%S").to_string();
    text.strip_suffix(" 00:00:00").map_or(text.clone(), str::to_owned)
}

/// The same to the minute, for axes and periods.
pub fn minute(ns: i64) -> String {
    let text = DateTime::from_timestamp_nanos(ns).format("%Y-%m-%d %H:%M").to_string();
    text.strip_suffix(" 00:00").map_or(text.clone(), str::to_owned)
}

/// A length of time in its largest unit.
pub fn age(length: std::time::Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// A cell for people.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::Text(text) => text.clone(),
        Value::Integer(whole) => number(*whole as f64),
        Value::Number(part) => number(*part),
        Value::Time(ns) => time(*ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        for (given, expected) in [
            (0.0, "0"),
            (1234567.0, "1,234,567"),
            (-1234.5, "−1,234"),
            (123.456, "123.5"),
            (1.5, "1.5"),
            (99.95, "99.95"),
            (0.01234, "0.0123"),
            (-0.00001, "-1.00e-5"),
            (100.0, "100"),
        ] {
            assert_eq!(number(given), expected, "{given}");
        }
        assert_eq!(short(12_345.0), "12.3k");
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(time(0), "1970-01-01");
        assert_eq!(time(61_000_000_000), "1970-01-01 00:01:01");
        assert_eq!(minute(61_000_000_000), "1970-01-01 00:01");
        assert_eq!(age(std::time::Duration::from_secs(186)), "3 min");
    }
}
