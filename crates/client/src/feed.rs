//! The subscription as the application sees it: one run of sequences over however many connections.

use std::time::{SystemTime, UNIX_EPOCH};

use tickstream_wire::messages::{DataBatch, Mode, SCHEMA_VERSION, Subscribe};

use crate::{BadMessage, Batch, StreamUpdate, Tick, cursor::Cursor};

/// Subscription that the application wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub mode: Mode,
    /// The application has the ticks up to this one from elsewhere.
    pub resume_after: Option<u64>,
}

/// Subscription as the server grants it. `mode` is `None` until the first one was accepted.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    mode: Option<Mode>,
    cursor: Cursor,
    /// When the server accepted the subscription of this connection, by its clock, Unix time, ms.
    accepted_ms: u64,
    server_ahead_ms: i64,
}

impl Feed {
    /// The mode of the ticks that come.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// The SUBSCRIBE for what is wanted; in the mode that it was in already, it resumes.
    pub fn request(&self, wanted: Wanted) -> Subscribe {
        let resume_after =
            if self.mode == Some(wanted.mode) { self.cursor.last() } else { wanted.resume_after };
        Subscribe { mode: wanted.mode.into(), resume_after }
    }

    /// Notes that the server accepted `request`, and answers whether that is a new mode, and with a reset: the server goes
    /// on before the position that was asked for, which its stream hasn't reached.
    pub fn accepted(&mut self, request: &Subscribe, next_sequence: u64) -> (bool, Option<StreamUpdate>) {
        let before = self.mode.replace(request.mode());
        let position = request.resume_after.filter(|after| *after < next_sequence);
        // Without a position it stands before the tick that the server announced, so that a subscription which breaks
        // before its first tick loses none.
        self.cursor = Cursor::after(position.or(next_sequence.checked_sub(1)));
        let reset =
            |after: u64| StreamUpdate::Reset { expected: after.saturating_add(1), got: next_sequence };
        (before != self.mode, request.resume_after.filter(|after| *after >= next_sequence).map(reset))
    }

    /// Takes the server's clock at its answer to a SUBSCRIBE, which came at `local`: ticks from before are replayed.
    /// Without one (0) the clock of this machine has to do.
    pub fn synchronize(&mut self, server_time_ms: u64, local: SystemTime) {
        let local_ms = local.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.accepted_ms = if server_time_ms == 0 { local_ms } else { server_time_ms };
        self.server_ahead_ms = self.accepted_ms.wrapping_sub(local_ms).cast_signed();
    }

    /// News of a batch: a gap, ticks, both or nothing.
    ///
    /// # Errors
    /// If the server must not send such a batch.
    pub fn batch(
        &mut self,
        batch: &DataBatch,
        received_at: SystemTime,
    ) -> Result<[Option<StreamUpdate>; 2], BadMessage> {
        let mode = self.mode.ok_or(BadMessage::Unexpected { kind: tickstream_wire::FrameType::DataBatch })?;
        check(batch, mode)?;
        let first = batch.first_sequence;
        let advance =
            self.cursor.advance(first, batch.ticks.len()).map_err(|_| BadMessage::SequenceOverflow)?;
        let gap = advance.missing_from.map(|expected| StreamUpdate::Gap { expected, got: first });
        let ticks: Vec<_> = (first..=u64::MAX)
            .zip(&batch.ticks)
            .skip(advance.known)
            .map(|(sequence, tick)| Tick { sequence, epoch_ms: tick.epoch_ms })
            .collect();
        let batch = ticks.first().map(|tick| tick.sequence);
        let replayed = ticks.iter().take_while(|tick| tick.epoch_ms < self.accepted_ms).count();
        let server_ahead_ms = self.server_ahead_ms;
        let batch = batch.map(|first_sequence| {
            StreamUpdate::Batch(Batch { mode, first_sequence, ticks, received_at, replayed, server_ahead_ms })
        });
        Ok([gap, batch])
    }
}

fn check(batch: &DataBatch, mode: Mode) -> Result<(), BadMessage> {
    if batch.schema_version != SCHEMA_VERSION {
        return Err(BadMessage::SchemaVersion { found: batch.schema_version });
    }
    if batch.ticks.is_empty() {
        return Err(BadMessage::EmptyBatch);
    }
    match batch.ticks.iter().find(|tick| tick.mode != i32::from(mode)) {
        Some(tick) => Err(BadMessage::WrongMode { found: tick.mode }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tickstream_wire::messages;

    use super::*;

    const SECOND: Wanted = Wanted { mode: Mode::Second, resume_after: None };
    const MINUTE: Wanted = Wanted { mode: Mode::Minute, resume_after: None };

    fn feed(wanted: Wanted, next_sequence: u64) -> Feed {
        let mut feed = Feed::default();
        assert!(feed.accepted(&feed.request(wanted), next_sequence).0);
        feed
    }

    fn data(mode: i32, first_sequence: u64, ticks: u64) -> DataBatch {
        let ticks =
            (0..ticks).map(|i| messages::Tick { mode, epoch_ms: (first_sequence.wrapping_add(i)) * 1000 });
        DataBatch { schema_version: 1, ticks: ticks.collect(), first_sequence }
    }

    /// The gap and the sequences that a batch leads to.
    fn given(feed: &mut Feed, batch: &DataBatch) -> (Option<(u64, u64)>, Vec<u64>) {
        let [gap, batch] = feed.batch(batch, SystemTime::UNIX_EPOCH).unwrap();
        let gap = gap.map(|event| match event {
            StreamUpdate::Gap { expected, got } => (expected, got),
            other => panic!("{other:?}"),
        });
        let sequences = match batch {
            None => Vec::new(),
            Some(StreamUpdate::Batch(batch)) => {
                assert_eq!(batch.first_sequence, batch.ticks[0].sequence);
                assert!(batch.ticks.iter().all(|tick| tick.epoch_ms == tick.sequence * 1000));
                batch.ticks.iter().map(|tick| tick.sequence).collect()
            }
            Some(other) => panic!("{other:?}"),
        };
        (gap, sequences)
    }

    #[test]
    fn duplicates_are_left_out_and_gaps_told() {
        let mut feed = feed(SECOND, 10);
        assert_eq!(given(&mut feed, &data(0, 10, 2)), (None, vec![10, 11]));
        assert_eq!(given(&mut feed, &data(0, 10, 2)), (None, vec![]));
        assert_eq!(given(&mut feed, &data(0, 11, 2)), (None, vec![12]));
        assert_eq!(given(&mut feed, &data(0, 15, 1)), (Some((13, 15)), vec![15]));
    }

    #[test]
    fn a_subscription_that_breaks_before_its_first_tick_resumes_before_it() {
        let mut feed = feed(SECOND, 10);
        let request = feed.request(SECOND);
        assert_eq!(request.resume_after, Some(9));
        assert!(matches!(feed.accepted(&request, 12), (false, None)));
        assert_eq!(given(&mut feed, &data(0, 12, 1)), (Some((10, 12)), vec![12]));
    }

    #[test]
    fn the_applications_own_position_counts() {
        let wanted = Wanted { resume_after: Some(5), ..SECOND };
        let mut feed = feed(wanted, 8);
        assert_eq!(feed.request(wanted).resume_after, Some(5));
        assert_eq!(given(&mut feed, &data(0, 8, 1)), (Some((6, 8)), vec![8]));
        assert_eq!(feed.request(wanted).resume_after, Some(8));
    }

    #[test]
    fn the_server_s_clock_tells_a_replay() {
        let local = UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        for (server_time_ms, expected) in [(12_000, (2, -988_000)), (2_000_000, (5, 1_000_000)), (0, (5, 0))]
        {
            let mut feed = feed(SECOND, 10);
            feed.synchronize(server_time_ms, local);
            let [_, batch] = feed.batch(&data(0, 10, 5), local).unwrap();
            let Some(StreamUpdate::Batch(batch)) = batch else { panic!("{batch:?}") };
            assert_eq!((batch.replayed, batch.server_ahead_ms), expected, "{server_time_ms}");
        }
    }

    #[test]
    fn a_server_that_is_behind_the_position_resets_it() {
        let mut feed = feed(SECOND, 100);
        assert_eq!(given(&mut feed, &data(0, 100, 2)), (None, vec![100, 101]));
        let request = feed.request(SECOND);
        let (is_new, reset) = feed.accepted(&request, 51);
        assert!(!is_new);
        assert!(matches!(reset, Some(StreamUpdate::Reset { expected: 102, got: 51 })), "{reset:?}");
        assert_eq!(given(&mut feed, &data(0, 51, 2)), (None, vec![51, 52]));
        assert_eq!(feed.request(SECOND).resume_after, Some(52));
        assert!(matches!(feed.accepted(&feed.request(SECOND), 53), (false, None)));
    }

    #[test]
    fn another_mode_starts_afresh() {
        let mut feed = feed(SECOND, 600);
        let request = feed.request(MINUTE);
        assert_eq!(request.resume_after, None);
        assert!(matches!(feed.accepted(&request, 10), (true, None)));
        assert_eq!(given(&mut feed, &data(1, 10, 1)), (None, vec![10]));
    }

    #[test]
    fn bad_batches_are_refused() {
        let check = |batch: DataBatch, expected| {
            let refused = feed(SECOND, 1).batch(&batch, SystemTime::UNIX_EPOCH).unwrap_err();
            assert_eq!(refused, expected);
        };
        check(DataBatch { schema_version: 2, ..data(0, 1, 1) }, BadMessage::SchemaVersion { found: 2 });
        check(DataBatch { schema_version: 0, ..data(0, 1, 1) }, BadMessage::SchemaVersion { found: 0 });
        check(data(0, 1, 0), BadMessage::EmptyBatch);
        check(data(1, 1, 1), BadMessage::WrongMode { found: 1 });
        check(data(77, 1, 1), BadMessage::WrongMode { found: 77 });
        let past_the_end = DataBatch { first_sequence: u64::MAX, ..data(0, 1, 2) };
        check(past_the_end, BadMessage::SequenceOverflow);
        assert!(Feed::default().batch(&data(0, 1, 1), SystemTime::UNIX_EPOCH).is_err());
    }
}
