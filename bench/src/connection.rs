//! One connection, and what its bytes mean. No I/O: the worker does what comes out.

use std::os::fd::OwnedFd;

use tickstream_wire::{
    Decoder, ErrorCode, Frame, FrameType,
    frame::{SKIPPABLE_FROM, seal},
    messages::{Ack, Auth, ErrorMsg, Message, Mode, MsgType, Subscribe},
};

use crate::{
    batch::BatchReader,
    schedule::Schedule,
    stats::{Class, Counters, Recorder},
    verify::Tracker,
};

/// The largest payload that is accepted from a server.
const PAYLOAD_MAX: u32 = 16 << 20;

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Not opened, or waiting to be opened again.
    Waiting,
    /// The ring connects it.
    Connecting,
    /// TLS is being agreed on.
    Securing,
    /// AUTH and SUBSCRIBE were sent.
    Greeting,
    /// SUBSCRIBE was acknowledged.
    Live,
    /// Dropped by this side; it comes back when its last receive is over.
    Leaving,
    /// Closed; the client won't come back.
    Gone,
}

/// The state of one connection. 100,000 of them should fit a small cache: 56 bytes.
#[derive(Debug)]
pub struct Connection {
    tracker: Tracker,
    decoder: Decoder,
    /// Set from opening to the last completion.
    pub socket: Option<OwnedFd>,
    /// When it was opened, µs, modulo 2³².
    pub opened_us: u32,
    /// Counts its sockets, so that a late completion of an old one is known.
    pub generation: u16,
    pub stage: Stage,
    pub class: Class,
    /// Failed attempts since it was live.
    pub failures: u8,
    /// A receive or a poll is in the ring.
    pub armed: bool,
    /// True if it was subscribed, and so has ticks to answer for.
    subscribed_once: bool,
    /// Taken down and up again by the storm.
    pub stormed: bool,
}

const _: () = assert!(size_of::<Connection>() <= 56);

impl Connection {
    /// One that wasn't opened.
    pub fn new(class: Class) -> Self {
        Self {
            tracker: Tracker::default(),
            decoder: Decoder::new(),
            socket: None,
            opened_us: 0,
            generation: 0,
            stage: Stage::Waiting,
            class,
            failures: 0,
            armed: false,
            subscribed_once: false,
            stormed: false,
        }
    }

    /// The last sequence that came, to resume after.
    pub fn resume_after(&self) -> Option<u64> {
        self.tracker.resume_after()
    }

    /// A new stream of bytes begins.
    pub fn restart(&mut self) {
        self.decoder = Decoder::new();
        self.generation = self.generation.wrapping_add(1);
    }

    /// A SUBSCRIBE was acknowledged at least once.
    pub fn was_subscribed(&self) -> bool {
        self.subscribed_once
    }

    /// Ticks that were due at `until_us` and didn't come, if it ever was subscribed.
    pub fn missing(&self, schedule: Schedule, until_us: u64) -> u64 {
        if self.subscribed_once { self.tracker.missing(schedule, until_us) } else { 0 }
    }
}

/// Consequences of received bytes, for the worker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The subscription is acknowledged.
    pub subscribed: bool,
    /// The connection is over.
    pub close: Option<Close>,
}

/// True if a client may come back after this ERROR code (`docs/protocol.md`, ERROR and close).
pub fn may_come_back(code: &str) -> bool {
    // A client treats an unknown code like INTERNAL.
    match ErrorCode::parse(code).unwrap_or(ErrorCode::Internal) {
        ErrorCode::AuthRequired
        | ErrorCode::AuthFailed
        | ErrorCode::PermissionDenied
        | ErrorCode::BadFrame
        | ErrorCode::UnsupportedVersion
        | ErrorCode::UnsupportedType
        | ErrorCode::MessageTooLarge
        | ErrorCode::ProtocolViolation => false,
        ErrorCode::RateLimited
        | ErrorCode::BadCrc
        | ErrorCode::HeartbeatTimeout
        | ErrorCode::SlowConsumer
        | ErrorCode::ServerBusy
        | ErrorCode::ShuttingDown
        | ErrorCode::Internal => true,
    }
}

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Close {
    /// The server said so.
    Error { code: String, retry_after_ms: u32 },
    /// The server sends what no client can accept.
    Malformed(String),
    /// The server ended TLS in order, but said no reason.
    Notified,
    /// TLS failed; another attempt may go better.
    Tls { what: String, is_passing: bool },
}

/// Reads frames of any connection of one worker.
#[derive(Debug)]
pub struct FrameReader {
    schedule: Schedule,
    batches: BatchReader,
    /// As the last ACK announced it.
    pub heartbeat_interval_ms: Option<u32>,
}

impl FrameReader {
    /// A reader for subscriptions to the ticks of `schedule`.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, batches: BatchReader::new(schedule), heartbeat_interval_ms: None }
    }

    /// Takes `bytes` that arrived on `connection` by `now_us`.
    pub fn receive(
        &mut self,
        connection: &mut Connection,
        mut bytes: &[u8],
        now_us: u64,
        counters: &mut Counters,
        recorder: &mut Recorder,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        counters.bytes += bytes.len() as u64;
        let mut decoder = std::mem::take(&mut connection.decoder);
        while outcome.close.is_none() {
            match decoder.next(&mut bytes, PAYLOAD_MAX) {
                Ok(Some(frame)) => {
                    let handled = self.frame(connection, frame, now_us, counters, recorder, &mut outcome);
                    outcome.close = handled.err();
                }
                Ok(None) => break,
                Err(error) => outcome.close = Some(Close::Malformed(error.to_string())),
            }
        }
        decoder.release();
        connection.decoder = decoder;
        outcome
    }

    /// Records what is pending; at the end of each drain.
    pub fn flush(&self, now_us: u64, recorder: &mut Recorder) {
        recorder.flush(self.batches.batch(), now_us);
    }

    fn frame(
        &mut self,
        connection: &mut Connection,
        frame: Frame<'_>,
        now_us: u64,
        counters: &mut Counters,
        recorder: &mut Recorder,
        outcome: &mut Outcome,
    ) -> Result<(), Close> {
        match FrameType::from_byte(frame.kind) {
            Some(FrameType::DataBatch) => self.batch(connection, frame.payload, now_us, counters, recorder),
            Some(FrameType::Heartbeat) => {
                counters.heartbeats_answered += 1;
                Ok(())
            }
            Some(FrameType::Ack) => {
                let ack = decode::<Ack>(frame.payload, "an ACK")?;
                if ack.heartbeat_interval_ms > 0 {
                    self.heartbeat_interval_ms = Some(ack.heartbeat_interval_ms);
                }
                if ack.acked_type == MsgType::Subscribe as i32 {
                    let faults = &mut counters.faults[connection.class as usize];
                    let (next, time) = (ack.next_sequence, ack.server_time_ms);
                    connection.tracker.subscribe(self.schedule, next, time, faults);
                    let rate = self.schedule.rate_of(next, time);
                    if rate != self.schedule.rate() {
                        counters.other_rate = Some(rate);
                    }
                    connection.subscribed_once = true;
                    outcome.subscribed = true;
                }
                Ok(())
            }
            Some(FrameType::Error) => {
                let error = decode::<ErrorMsg>(frame.payload, "an ERROR")?;
                Err(Close::Error { code: error.code, retry_after_ms: error.retry_after_ms })
            }
            Some(FrameType::GoAway) => {
                counters.goaways += 1;
                Ok(())
            }
            None if frame.kind >= SKIPPABLE_FROM => Ok(()),
            Some(FrameType::Auth | FrameType::Subscribe | FrameType::Publish | FrameType::PublishAck)
            | None => Err(Close::Malformed(format!("a frame of type 0x{:02x} from the server", frame.kind))),
        }
    }

    fn batch(
        &mut self,
        connection: &mut Connection,
        payload: &[u8],
        now_us: u64,
        counters: &mut Counters,
        recorder: &mut Recorder,
    ) -> Result<(), Close> {
        if !self.batches.holds(payload) {
            recorder.flush(self.batches.batch(), now_us);
            self.batches.read(payload).map_err(|error| Close::Malformed(error.to_string()))?;
        }
        let batch = self.batches.batch();
        counters.frames += 1;
        counters.ticks += batch.len() as u64;
        let faults = &mut counters.faults[connection.class as usize];
        let live = connection.tracker.take(batch, self.schedule, faults);
        if live.len() < batch.len() {
            counters.ticks_replayed += live.start as u64;
        }
        if matches!(connection.class, Class::Slow | Class::Stalled) || connection.stormed {
            return Ok(());
        }
        if live.len() == batch.len() {
            recorder.batch_arrived();
        } else {
            for &due_us in &batch.due_us()[live] {
                recorder.record(due_us, now_us, 1);
            }
        }
        Ok(())
    }
}

fn decode<M: Message + Default>(payload: &[u8], what: &str) -> Result<M, Close> {
    M::decode(payload).map_err(|_| Close::Malformed(format!("{what} that can't be decoded")))
}

/// AUTH and SUBSCRIBE, to be sent together.
pub fn greeting(user: &str, password: &str, mode: Mode, resume_after: Option<u64>) -> Vec<u8> {
    let mut bytes = seal(&Auth { username: user.to_owned(), password: password.to_owned(), client: None });
    bytes.extend(seal(&Subscribe { mode: mode as i32, resume_after }));
    bytes
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tickstream_wire::{
        frame::heartbeat,
        messages::{DataBatch, Tick},
    };

    use super::*;
    use crate::{stats::Window, verify::Faults};

    const NOW_US: u64 = 100_004_000;

    struct Client {
        reader: FrameReader,
        connection: Connection,
        counters: Counters,
        recorder: Recorder,
    }

    impl Client {
        fn new(class: Class) -> Self {
            let mut recorder = Recorder::new();
            recorder.steady_window = Window { from_us: 0, until_us: u64::MAX };
            Self {
                reader: FrameReader::new(Schedule::new(Mode::Second, NonZeroU32::MIN)),
                connection: Connection::new(class),
                counters: Counters::default(),
                recorder,
            }
        }

        fn receive(&mut self, bytes: &[u8]) -> Outcome {
            let Self { reader, connection, counters, recorder } = self;
            let outcome = reader.receive(connection, bytes, NOW_US, counters, recorder);
            reader.flush(NOW_US, recorder);
            outcome
        }
    }

    fn acks(next_sequence: u64, server_time_ms: u64) -> Vec<u8> {
        let ack = |acked_type| Ack {
            acked_type: acked_type as i32,
            heartbeat_interval_ms: 15_000,
            next_sequence,
            server_time_ms,
            ..Ack::default()
        };
        [seal(&ack(MsgType::Auth)), seal(&ack(MsgType::Subscribe))].concat()
    }

    fn tick(sequence: u64) -> Vec<u8> {
        let ticks = vec![Tick { mode: 0, epoch_ms: sequence * 1_000 }];
        seal(&DataBatch { schema_version: 1, ticks, first_sequence: sequence })
    }

    #[test]
    fn a_session_is_understood_however_its_bytes_are_cut() {
        let stream = [acks(99, 98_900), tick(99), tick(100), heartbeat()].concat();
        for cut in 0..stream.len() {
            let mut client = Client::new(Class::Steady);
            let subscribed =
                client.receive(&stream[..cut]).subscribed | client.receive(&stream[cut..]).subscribed;
            assert!(subscribed);
            assert_eq!(client.reader.heartbeat_interval_ms, Some(15_000));
            assert_eq!((client.counters.frames, client.counters.heartbeats_answered), (2, 1));
            assert_eq!(client.counters.bytes, stream.len() as u64);
            assert_eq!(client.counters.faults[0], Faults::default());
            assert_eq!((client.recorder.steady.len(), client.recorder.steady.max() / 1_000), (2, 1_004));
        }
    }

    #[test]
    fn slow_connections_are_verified_but_not_timed() {
        let mut client = Client::new(Class::Slow);
        client.receive(&[acks(99, 98_900), tick(100)].concat());
        assert_eq!(client.counters.faults[Class::Slow as usize].gaps, 1);
        assert_eq!(client.counters.faults[Class::Steady as usize], Faults::default());
        assert_eq!(client.recorder.steady.len(), 0);
    }

    #[test]
    fn an_error_and_a_broken_frame_end_the_connection() {
        let check = |bytes: &[u8], expected: Close| {
            assert_eq!(Client::new(Class::Steady).receive(bytes).close, Some(expected));
        };
        let error = ErrorMsg { code: "SERVER_BUSY".into(), message: String::new(), retry_after_ms: 7 };
        check(&seal(&error), Close::Error { code: "SERVER_BUSY".into(), retry_after_ms: 7 });
        check(
            b"HTTP",
            Close::Malformed("not a frame: it starts with 0x48, not with the magic \"TS\"".into()),
        );
        check(&seal(&Subscribe::default()), Close::Malformed("a frame of type 0x02 from the server".into()));
        check(
            &seal(&DataBatch { schema_version: 1, ..DataBatch::default() }),
            Close::Malformed("a DATA_BATCH without ticks".into()),
        );
    }
}
