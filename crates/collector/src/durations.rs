//! Durations of the configuration file.

use std::time::Duration;

/// A duration such as "15s", "1m30s" or "500ms".
pub(crate) fn duration(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(default) };
    let parsed = || {
        let mut rest = text.trim();
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let unit_len = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(unit_len);
            let ms = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            sum = sum.checked_add(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(ms)?))?;
            rest = after;
        }
        Some(sum).filter(|sum| *sum >= Duration::from_millis(100))
    };
    parsed().ok_or_else(|| {
        format!("{name} is \"{text}\"; it is a duration of at least 100ms, such as 15s or 1m30s")
    })
}
