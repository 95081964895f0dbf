//! Numbers with their units, as the live page writes them.

/// Stands for a number that isn't known.
pub const NONE: &str = "-";

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with three digits that mean something.
pub fn short(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        100.0.. => count(number.round() as u64),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Something a second.
pub fn rate(per_second: Option<f64>) -> String {
    per_second.map_or_else(|| NONE.to_owned(), |rate| format!("{} /s", short(rate)))
}

/// Bytes.
pub fn bytes(bytes: f64) -> String {
    if bytes < 1e3 { format!("{} B", bytes.round()) } else { scaled(bytes, &["B", "kB", "MB", "GB", "TB"]) }
}

/// Bytes a second.
pub fn byte_rate(per_second: Option<f64>) -> String {
    per_second.map_or_else(|| NONE.to_owned(), |rate| format!("{}/s", bytes(rate)))
}

/// Milliseconds of a latency.
pub fn latency(ms: Option<f64>) -> String {
    ms.map_or_else(|| NONE.to_owned(), |ms| scaled(ms * 1e3, &["µs", "ms", "s"]))
}

/// A power of ten of milliseconds.
pub fn decade(ms: f64) -> String {
    // A little more, so that the last bit of a power doesn't make 1 ms 1,000 µs.
    let text = latency(Some(ms * 1.000_1));
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    format!("{} {unit}", number.split('.').next().unwrap_or(number))
}

/// A part of a CPU.
pub fn percent(part: Option<f64>) -> String {
    let percent = |part: f64| {
        if part < 0.0995 { format!("{:.1} %", 100.0 * part) } else { format!("{:.0} %", 100.0 * part) }
    };
    part.map_or_else(|| NONE.to_owned(), percent)
}

/// A time span, in its two largest units.
pub fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..10 => format!("{s}.{} s", ms / 100 % 10),
        10..60 => format!("{s} s"),
        60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {:02} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// A time span, in its largest unit.
pub fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

fn scaled(mut number: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= 1e3 && unit + 1 < units.len() {
        number /= 1e3;
        unit += 1;
    }
    format!("{} {}", short(number), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Copy + std::fmt::Debug>(write: impl Fn(T) -> String, expected: &[(T, &str)]) {
        for (number, text) in expected {
            assert_eq!(write(*number), *text, "{number:?}");
        }
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        check(count, &[(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]);
        check(rate, &[(None, "-"), (Some(0.0), "0 /s"), (Some(0.1), "0.10 /s"), (Some(12.34), "12.3 /s")]);
        check(rate, &[(Some(100_000.4), "100,000 /s")]);
        check(
            bytes,
            &[(0.0, "0 B"), (999.0, "999 B"), (1_000.0, "1.00 kB"), (2.25e7, "22.5 MB"), (5e15, "5,000 TB")],
        );
        check(byte_rate, &[(None, "-"), (Some(443_210.0), "443 kB/s")]);
        check(
            latency,
            &[(None, "-"), (Some(0.05), "50.0 µs"), (Some(1.234), "1.23 ms"), (Some(2_500.0), "2.50 s")],
        );
        check(
            decade,
            &[(0.01, "10 µs"), (0.1, "100 µs"), (0.999_999_9, "1 ms"), (100.0, "100 ms"), (1e4, "10 s")],
        );
        check(
            percent,
            &[
                (None, "-"),
                (Some(0.0), "0.0 %"),
                (Some(0.023), "2.3 %"),
                (Some(0.0996), "10 %"),
                (Some(1.0), "100 %"),
            ],
        );
    }

    #[test]
    fn time_spans_have_one_or_two_units() {
        check(
            duration,
            &[(0, "0 ms"), (999, "999 ms"), (1_999, "1.9 s"), (59_999, "59 s"), (60_000, "1 min 00 s")],
        );
        check(duration, &[(3_725_000, "1 h 02 min"), (90_000_000, "1 d 1 h")]);
        check(
            age,
            &[
                (999, "0 s"),
                (59_999, "59 s"),
                (3_599_999, "59 min"),
                (86_399_999, "23 h"),
                (86_400_000, "1 d"),
            ],
        );
    }
}
