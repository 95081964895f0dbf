//! The time, and times of senders whose clocks are wrong.

use std::time::{SystemTime, UNIX_EPOCH};

/// Clocks that differ by less are taken as right: the difference is the network's.
const TOLERANCE_NS: u64 = 60 * 1_000_000_000;

/// Nanoseconds by which the timestamps of a request are to be moved: the collector's clock minus the sender's, as the
/// sender gave it with this attempt. `None` within the tolerance of 60 s, or if the sender gave no time.
pub fn correction(received_ns: u64, sent_at_ns: u64) -> Option<i64> {
    let is_wrong = sent_at_ns != 0 && received_ns.abs_diff(sent_at_ns) > TOLERANCE_NS;
    let difference = i128::from(received_ns) - i128::from(sent_at_ns);
    is_wrong.then(|| difference.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

/// The timestamp, moved; it stays within what an unsigned number holds.
pub fn corrected(timestamp_ns: u64, correction: i64) -> u64 {
    timestamp_ns.saturating_add_signed(correction)
}

/// Unix time, nanoseconds.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const NOW: u64 = 1_800_000_000 * S;

    #[test]
    fn fault_69_a_senders_clock_at_1970_2099_or_an_hour_off_is_corrected() {
        for sent_at in [5 * S, 4_070_908_800 * S, NOW - 3600 * S, NOW + 3600 * S] {
            let correction = correction(NOW, sent_at).unwrap();
            // An event that happened two seconds before it was sent.
            assert_eq!(corrected(sent_at - 2 * S, correction), NOW - 2 * S, "{sent_at}");
        }
    }

    #[test]
    fn small_differences_and_senders_without_a_time_change_nothing() {
        for sent_at in [0, NOW, NOW - 60 * S, NOW + 60 * S] {
            assert_eq!(correction(NOW, sent_at), None);
        }
        assert_eq!(corrected(5, -10), 0);
        assert_eq!(corrected(u64::MAX, 1), u64::MAX);
    }
}
