//! A batch in a segment: length of its events in bytes, their number, CRC-32C of both and of the events; the events.
//! Numbers have four bytes, little-endian.

use crc_fast::{CrcAlgorithm, Digest};
use tickstream_client::EncodedBatch;

const HEAD_BYTES: usize = 12;
/// Most bytes whose CRC is computed to find the next whole frame behind damage: less than a second.
const SEARCHED_BYTES_MAX: usize = 1 << 30;

/// The frame of a batch.
pub(super) fn encoded(batch: &EncodedBatch) -> Vec<u8> {
    let events = batch.as_bytes();
    let mut frame = Vec::with_capacity(HEAD_BYTES + events.len());
    frame.extend((events.len() as u32).to_le_bytes());
    frame.extend((batch.len() as u32).to_le_bytes());
    frame.extend(crc(&frame, events).to_le_bytes());
    frame.extend_from_slice(events);
    frame
}

/// The batch at the front, and the bytes of its frame. `None`: it isn't whole.
pub(super) fn decoded(bytes: &[u8]) -> Option<(EncodedBatch, usize)> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (length, count, expected) = (number(0)? as usize, number(4)?, number(8)?);
    let events = bytes.get(HEAD_BYTES..HEAD_BYTES.checked_add(length)?)?;
    if crc(&bytes[..8], events) != expected {
        return None;
    }
    Some((EncodedBatch::from_encoded(events.to_vec(), count as usize), HEAD_BYTES + length))
}

/// Bytes of the whole frames at the front.
pub(super) fn whole(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some((_, len)) = decoded(&bytes[at..]) {
        at += len;
    }
    at
}

/// The next whole frame behind bytes at the front that aren't one. `None`: there is none.
pub(super) fn resumed(bytes: &[u8]) -> Option<usize> {
    // Where only its events are damaged, its length leads there.
    let next = length(bytes)?.checked_add(HEAD_BYTES).filter(|at| *at < bytes.len());
    if let Some(at) = next.filter(|at| decoded(&bytes[*at..]).is_some()) {
        return Some(at);
    }
    let mut budget = SEARCHED_BYTES_MAX;
    (1..bytes.len()).find(|at| {
        let rest = &bytes[*at..];
        let Some(length) = length(rest).filter(|length| (1..rest.len()).contains(length)) else {
            return false;
        };
        budget = budget.saturating_sub(length);
        budget > 0 && decoded(rest).is_some() && reaches_end(rest)
    })
}

/// True if there are whole frames up to the end, or up to one that a crash has torn. That tells them from bytes within an event
/// that look like a frame: an event ends with what the collector adds.
fn reaches_end(bytes: &[u8]) -> bool {
    let tail = &bytes[whole(bytes)..];
    length(tail).is_none_or(|length| HEAD_BYTES + length > tail.len())
}

/// The length that a frame's head tells.
fn length(bytes: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize)
}

fn crc(head: &[u8], events: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(events);
    digest.finalize() as u32
}
