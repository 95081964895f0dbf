//! The published message: a running number and when it was due, as text, so that any protocol carries it.

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Running number, from 0.
    pub sequence: u64,
    /// Unix time, µs.
    pub due_us: u64,
}

impl Message {
    /// Bytes of a message without padding: those of tickstream's DATA_BATCH frame with one tick.
    pub const LEN: usize = SEQUENCE_DIGITS + 1 + DUE_DIGITS;
    /// Bytes of the longest message.
    pub const LEN_MAX: usize = 4096;

    /// The payload, of `len` bytes.
    pub fn encode(self, len: usize) -> Vec<u8> {
        let Self { sequence, due_us } = self;
        let mut payload = format!("{sequence:0SEQUENCE_DIGITS$} {due_us:0DUE_DIGITS$}").into_bytes();
        payload.resize(len.max(payload.len()), b' ');
        payload
    }

    /// Back from a payload; `None` if it is none of ours.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let sequence = number(payload.get(..SEQUENCE_DIGITS)?)?;
        let due_us = number(payload.get(SEQUENCE_DIGITS + 1..Self::LEN)?)?;
        Some(Self { sequence, due_us })
    }
}

const SEQUENCE_DIGITS: usize = 12;
const DUE_DIGITS: usize = 16;

/// A decimal number of at most 19 digits.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_and_has_the_length_asked_for() {
        let message = Message { sequence: 123_456, due_us: 1_767_225_600_123_456 };
        for len in [Message::LEN, 40, 400] {
            let payload = message.encode(len);
            assert_eq!(payload.len(), len);
            assert_eq!(Message::decode(&payload), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_not_taken_for_one() {
        assert_eq!(Message::decode(b""), None);
        assert_eq!(Message::decode(b"00000000000x 1767225600123456"), None);
        assert_eq!(number(b"99999999999999999999"), None);
    }
}
