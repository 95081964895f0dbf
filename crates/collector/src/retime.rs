//! Events of senders that can't be told of a wrong clock.

use prost::Message;
use tickstream_client::{
    EncodedBatch,
    events::{Event, EventBatch},
};

use crate::{
    outcome::{Outcome, Rejection},
    writer::{Request, RequestBatch},
};

/// Verdicts on a timestamp.
const BY_CLOCK: [&str; 2] = ["TOO_OLD", "CLOCK_AHEAD"];

fn is_by_clock(rejection: &Rejection) -> bool {
    BY_CLOCK.contains(&&rejection.code[..])
}

/// The events that were rejected for their timestamps, at the time of their receipt. `None` without any.
pub(crate) fn at_receipt(request: &Request, rejected: &[Rejection], receive_time: u64) -> Option<Request> {
    let mut retimed = Request::default();
    for RequestBatch { batch, indexes } in &request.batches {
        let concerns = |index: &u32| {
            let found = rejected.binary_search_by_key(index, |rejection| rejection.index);
            found.is_ok_and(|at| is_by_clock(&rejected[at]))
        };
        let places: Vec<usize> = (0..indexes.len()).filter(|place| concerns(&indexes[*place])).collect();
        if places.is_empty() {
            continue;
        }
        let Ok(EventBatch { events }) = EventBatch::decode(batch.as_bytes()) else { continue };
        let mut own = RequestBatch { batch: EncodedBatch::default(), indexes: Vec::new() };
        for place in places {
            own.batch.push(&moved(events[place].clone(), receive_time));
            own.indexes.push(indexes[place]);
        }
        retimed.batches.push(own);
    }
    (!retimed.batches.is_empty()).then_some(retimed)
}

fn moved(mut event: Event, receive_time: u64) -> Event {
    let sender = event.sender.get_or_insert_default();
    sender.original_timestamp.get_or_insert(event.timestamp);
    event.timestamp = receive_time;
    event
}

/// Puts the second verdicts in the place of the first ones.
pub(crate) fn merge(outcome: &mut Outcome, again: Outcome) {
    outcome.rejected.retain(|rejection| !is_by_clock(rejection));
    outcome.rejected.extend(again.rejected);
    outcome.rejected.sort_by_key(|rejection| rejection.index);
    outcome.accepted += again.accepted;
    outcome.duplicates += again.duplicates;
    outcome.retry_after = outcome.retry_after.max(again.retry_after);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::Key,
        upstream::BatchLimits,
        writer::{
            EventWriter, Ids,
            tests::{NOW, decoded, origin},
        },
    };

    #[test]
    fn fault_69_what_is_too_old_is_stored_at_its_receipt_and_keeps_its_time() {
        let origin = origin(Key::unrestricted("k"));
        let limits = BatchLimits { events: 2, bytes: 100_000 };
        let mut writer = EventWriter::new(&origin, Ids::New, limits, 10);
        for timestamp in [5, NOW, u64::MAX, 7] {
            writer.event(Event { timestamp, ..Event::default() });
        }
        let request = writer.finish().unwrap();
        let rejected = vec![
            Rejection::last(0, "TOO_OLD", ""),
            Rejection::last(2, "CLOCK_AHEAD", ""),
            Rejection::last(3, "FIELD_MISSING", ""),
        ];
        let retimed = at_receipt(&request, &rejected, NOW).unwrap();
        let events = decoded(&retimed);
        let times: Vec<_> = events
            .iter()
            .map(|event| (event.timestamp, event.sender.as_ref().unwrap().original_timestamp))
            .collect();
        assert_eq!(times, [(NOW, Some(5)), (NOW, Some(u64::MAX))]);
        assert_eq!(
            retimed.batches.iter().flat_map(|batch| batch.indexes.clone()).collect::<Vec<_>>(),
            [0, 2]
        );
        let mut outcome = Outcome { accepted: 1, rejected, ..Outcome::default() };
        merge(&mut outcome, Outcome { accepted: 2, ..Outcome::default() });
        assert_eq!((outcome.accepted, outcome.rejected.len()), (3, 1));
        assert_eq!(at_receipt(&request, &outcome.rejected, NOW), None);
    }
}
