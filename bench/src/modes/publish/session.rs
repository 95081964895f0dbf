//! One publishing connection, without I/O: what it may send, and whether what comes back fits.

use std::{collections::VecDeque, os::fd::OwnedFd};

use tickstream_schema::events::PublishAck;
use tickstream_wire::{
    Decoder, Frame, FrameType,
    frame::SKIPPABLE_FROM,
    messages::{Ack, ErrorMsg, Message, MsgType},
};

use super::{acked::AckedFile, counts::Counts, template::Producer};
use crate::{
    connection::may_come_back,
    stats::{Window, count},
};

/// The largest payload that is accepted from a server.
const PAYLOAD_MAX: u32 = 16 << 20;

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not opened, or waiting to be opened again.
    Waiting,
    Connecting,
    /// TLS is being agreed on.
    Securing,
    /// AUTH was sent.
    Greeting,
    Live,
    /// Ended; the publisher won't come back.
    Over,
}

/// A batch without a PUBLISH_ACK.
#[derive(Clone, Copy, Debug)]
struct Pending {
    sequence: u64,
    sent_us: u64,
    payload_bytes: u32,
}

/// The state of one connection, and of what it has published.
pub struct Session {
    pub stage: Stage,
    pub socket: Option<OwnedFd>,
    /// Counts its sockets, so that a late completion of an old one is known.
    pub generation: u16,
    pub producer: Producer,
    /// A SEND isn't over: frames must not mix.
    pub sending: bool,
    /// True while it is in the worker's queue.
    pub queued: bool,
    pub heartbeat_due: bool,
    /// No PUBLISH before this, µs: the server asked to wait.
    pub quiet_until_us: u64,
    /// Failed attempts since it was live.
    pub failures: u8,
    was_live: bool,
    decoder: Decoder,
    credits: u32,
    /// The next new batch.
    next: u64,
    /// Batches without a PUBLISH_ACK, by rising sequence.
    pending: VecDeque<Pending>,
    /// Number of them, from the front, that were sent on this connection.
    sent: usize,
}

/// Rules for all connections of a thread.
pub struct Rules<'a> {
    pub window: Window,
    pub events: u32,
    pub ignore_throttle: bool,
    pub acked: Option<&'a mut AckedFile>,
    pub counts: &'a mut Counts,
}

/// Consequences of received bytes, for the worker.
#[derive(Debug, Default)]
pub struct Outcome {
    /// AUTH was acknowledged.
    pub live: bool,
    /// There may be more to send.
    pub acknowledged: bool,
    /// The server announced this.
    pub heartbeat_interval_ms: Option<u32>,
    pub close: Option<Close>,
}

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Close {
    pub why: String,
    /// Another attempt may go better.
    pub is_passing: bool,
    pub retry_after_ms: u32,
}

impl Close {
    /// Another attempt would change nothing.
    pub fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_passing: false, retry_after_ms: 0 }
    }

    /// Another attempt may go better.
    pub fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_passing: true, retry_after_ms: 0 }
    }
}

impl Session {
    /// One that wasn't opened.
    pub fn new(producer: Producer) -> Self {
        Self {
            stage: Stage::Waiting,
            socket: None,
            generation: 0,
            producer,
            sending: false,
            queued: false,
            heartbeat_due: false,
            quiet_until_us: 0,
            failures: 0,
            was_live: false,
            decoder: Decoder::new(),
            credits: 0,
            next: 1,
            pending: VecDeque::new(),
            sent: 0,
        }
    }

    /// A new stream of bytes begins. What was sent on the one before and isn't acknowledged is to be sent again.
    pub fn restart(&mut self) {
        self.decoder = Decoder::new();
        self.generation = self.generation.wrapping_add(1);
        self.sending = false;
        self.heartbeat_due = false;
        self.sent = 0;
        self.credits = 0;
    }

    /// The sequence that its next new batch will have.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Batches without a PUBLISH_ACK.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// Credits and throttling allow a PUBLISH.
    pub fn may_publish(&self, now_us: u64) -> bool {
        self.stage == Stage::Live
            && !self.sending
            && self.sent < self.credits as usize
            && now_us >= self.quiet_until_us
    }

    /// The next batch is one that was sent before.
    pub fn has_to_resend(&self) -> bool {
        self.sent < self.pending.len()
    }

    /// The sequence of the batch that is to be sent now.
    pub fn sequence_to_send(&self) -> u64 {
        self.pending.get(self.sent).map_or(self.next, |pending| pending.sequence)
    }

    /// Notes that the next batch was handed to the kernel.
    pub fn handed_over(&mut self, now_us: u64, payload_bytes: u32, counts: &mut Counts) {
        match self.pending.get_mut(self.sent) {
            Some(pending) => {
                (pending.sent_us, pending.payload_bytes) = (now_us, payload_bytes);
                counts.resent += 1;
            }
            None => {
                self.pending.push_back(Pending { sequence: self.next, sent_us: now_us, payload_bytes });
                self.next += 1;
            }
        }
        self.sent += 1;
        self.sending = true;
        counts.sent += 1;
        counts.in_flight.note(self.sent);
    }

    /// Takes `bytes` that arrived by `now_us`.
    pub fn receive(&mut self, mut bytes: &[u8], now_us: u64, rules: &mut Rules<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut decoder = std::mem::take(&mut self.decoder);
        while outcome.close.is_none() {
            match decoder.next(&mut bytes, PAYLOAD_MAX) {
                Ok(Some(frame)) => outcome.close = self.frame(frame, now_us, rules, &mut outcome).err(),
                Ok(None) => break,
                Err(error) => outcome.close = Some(Close::for_good(error.to_string())),
            }
        }
        decoder.release();
        self.decoder = decoder;
        outcome
    }

    fn frame(
        &mut self,
        frame: Frame<'_>,
        now_us: u64,
        rules: &mut Rules<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Close> {
        match FrameType::from_byte(frame.kind) {
            Some(FrameType::PublishAck) => {
                let ack = decode::<PublishAck>(frame.payload, "a PUBLISH_ACK")?;
                self.answered(&ack, now_us, rules)?;
                outcome.acknowledged = true;
                Ok(())
            }
            Some(FrameType::Ack) => self.greeted(&decode::<Ack>(frame.payload, "an ACK")?, rules, outcome),
            Some(FrameType::Error) => {
                let error = decode::<ErrorMsg>(frame.payload, "an ERROR")?;
                Err(Close {
                    is_passing: may_come_back(&error.code),
                    retry_after_ms: error.retry_after_ms,
                    why: if error.message.is_empty() {
                        error.code
                    } else {
                        format!("{}: {}", error.code, error.message)
                    },
                })
            }
            Some(FrameType::Heartbeat | FrameType::GoAway) => Ok(()),
            None if frame.kind >= SKIPPABLE_FROM => Ok(()),
            _ => Err(Close::for_good(format!("a frame of type 0x{:02x} from the server", frame.kind))),
        }
    }

    fn greeted(&mut self, ack: &Ack, rules: &mut Rules<'_>, outcome: &mut Outcome) -> Result<(), Close> {
        if ack.acked_type != MsgType::Auth as i32 || self.stage != Stage::Greeting {
            return Err(Close::for_good("an ACK that nobody asked for"));
        }
        if ack.publish_credits == 0 {
            return Err(Close::for_good("the server takes no events (--journal)"));
        }
        self.credits = ack.publish_credits;
        self.stage = Stage::Live;
        self.failures = 0;
        outcome.live = true;
        outcome.heartbeat_interval_ms = Some(ack.heartbeat_interval_ms).filter(|&ms| ms > 0);
        rules.counts.credits = ack.publish_credits;
        if std::mem::replace(&mut self.was_live, true) {
            rules.counts.reconnects += 1;
        } else {
            rules.counts.connected += 1;
        }
        Ok(())
    }

    /// PUBLISH_ACKs come in the order of the PUBLISHes.
    fn answered(&mut self, ack: &PublishAck, now_us: u64, rules: &mut Rules<'_>) -> Result<(), Close> {
        let fault = |what: &str, rules: &mut Rules<'_>| {
            count(&mut rules.counts.faults, what);
            Close::for_good(what)
        };
        if ack.producer_id != self.producer.id {
            return Err(fault("a PUBLISH_ACK for another producer", rules));
        }
        let awaited = self.pending.front().copied().filter(|_| self.sent > 0);
        let Some(pending) = awaited.filter(|pending| pending.sequence == ack.sequence) else {
            return Err(fault("a PUBLISH_ACK for a batch that isn't the oldest on the way", rules));
        };
        let kept = u64::from(ack.accepted) + u64::from(ack.duplicates);
        if kept + ack.rejected.len() as u64 != u64::from(rules.events) {
            return Err(fault("a PUBLISH_ACK whose events aren't as many as were sent", rules));
        }
        self.pending.pop_front();
        self.sent -= 1;
        let Rules { window, ignore_throttle, .. } = *rules;
        let counts = &mut *rules.counts;
        let latency_us = now_us.saturating_sub(pending.sent_us);
        counts.answered(window, now_us, latency_us, kept, pending.payload_bytes);
        counts.accepted += u64::from(ack.accepted);
        counts.duplicates += u64::from(ack.duplicates);
        for rejection in &ack.rejected {
            counts.rejected(&rejection.code, &rejection.message);
        }
        if ack.throttle_ms > 0 {
            counts.throttle_hints += 1;
            counts.throttle_ms_max = counts.throttle_ms_max.max(ack.throttle_ms);
            if !ignore_throttle {
                self.quiet_until_us = now_us + u64::from(ack.throttle_ms) * 1_000;
            }
        }
        if let Some(acked) = &mut rules.acked {
            acked.note(&self.producer.id, ack.sequence, kept);
        }
        Ok(())
    }
}

fn decode<M: Message + Default>(payload: &[u8], what: &str) -> Result<M, Close> {
    M::decode(payload).map_err(|_| Close::for_good(format!("{what} that can't be decoded")))
}

#[cfg(test)]
mod tests {
    use tickstream_schema::events::Rejected;
    use tickstream_wire::frame::{seal, seal_as};

    use super::*;

    const EVENTS: u32 = 10;

    struct Client {
        session: Session,
        counts: Counts,
    }

    impl Client {
        /// Authenticated, with two credits.
        fn new() -> Self {
            let mut client = Self { session: Session::new(Producer::new(1, 2)), counts: Counts::new() };
            client.connect();
            client
        }

        fn connect(&mut self) {
            self.session.restart();
            self.session.stage = Stage::Greeting;
            let ack = Ack {
                acked_type: MsgType::Auth as i32,
                publish_credits: 2,
                max_publish_size: 1_000,
                ..Ack::default()
            };
            assert!(self.receive(&seal(&ack), 0).live);
        }

        fn receive(&mut self, bytes: &[u8], now_us: u64) -> Outcome {
            let mut rules = Rules {
                window: Window { from_us: 0, until_us: u64::MAX },
                events: EVENTS,
                ignore_throttle: false,
                acked: None,
                counts: &mut self.counts,
            };
            self.session.receive(bytes, now_us, &mut rules)
        }

        fn publish(&mut self, now_us: u64) -> u64 {
            assert!(self.session.may_publish(now_us));
            let sequence = self.session.sequence_to_send();
            self.session.handed_over(now_us, 3_000, &mut self.counts);
            self.session.sending = false;
            sequence
        }

        fn ack(&self, sequence: u64) -> PublishAck {
            let producer_id = self.session.producer.id.to_vec();
            PublishAck { sequence, accepted: EVENTS, producer_id, ..PublishAck::default() }
        }
    }

    #[test]
    fn credits_bound_what_is_on_the_way_and_answers_are_timed() {
        let mut client = Client::new();
        assert_eq!((client.publish(1_000), client.publish(2_000)), (1, 2));
        assert!(!client.session.may_publish(2_000));
        let answer = seal_as(FrameType::PublishAck, &client.ack(1));
        assert!(client.receive(&answer, 5_000).acknowledged);
        assert_eq!(client.publish(6_000), 3);
        assert_eq!((client.counts.events, client.counts.accepted, client.counts.bytes), (10, 10, 3_000));
        assert_eq!(client.counts.latency.max() / 100, 40);
    }

    #[test]
    fn what_was_not_acknowledged_goes_out_again_first() {
        let mut client = Client::new();
        client.publish(1_000);
        client.publish(1_000);
        client.connect();
        assert!(client.session.has_to_resend());
        assert_eq!((client.publish(2_000), client.publish(2_000)), (1, 2));
        let answer = seal_as(FrameType::PublishAck, &client.ack(1));
        client.receive(&answer, 3_000);
        assert_eq!(client.publish(3_000), 3);
        assert_eq!((client.counts.reconnects, client.counts.resent), (1, 2));
    }

    #[test]
    fn an_answer_that_does_not_fit_is_a_fault() {
        let check = |change: fn(&mut PublishAck), expected: &str| {
            let mut client = Client::new();
            client.publish(1_000);
            client.publish(1_000);
            let mut ack = client.ack(1);
            change(&mut ack);
            let close = client.receive(&seal_as(FrameType::PublishAck, &ack), 2_000).close;
            assert!(close.as_ref().is_some_and(|close| close.why.contains(expected)), "{close:?}");
        };
        check(|ack| ack.sequence = 2, "isn't the oldest");
        check(|ack| ack.sequence = 3, "isn't the oldest");
        check(|ack| ack.producer_id[0] ^= 1, "another producer");
        check(|ack| ack.accepted -= 1, "aren't as many");
        check(|ack| ack.rejected.push(Rejected::default()), "aren't as many");
    }

    #[test]
    fn a_hint_to_wait_is_followed() {
        let mut client = Client::new();
        client.publish(1_000);
        let ack = PublishAck { throttle_ms: 20, ..client.ack(1) };
        client.receive(&seal_as(FrameType::PublishAck, &ack), 2_000);
        assert!(!client.session.may_publish(21_999) && client.session.may_publish(22_000));
    }

    #[test]
    fn verdicts_are_counted_by_code() {
        let mut client = Client::new();
        client.publish(1_000);
        let rejection =
            |index| Rejected { index, code: "CLOCK".into(), message: "m".into(), retryable: false };
        let ack = PublishAck {
            accepted: 7,
            duplicates: 1,
            rejected: vec![rejection(0), rejection(3)],
            ..client.ack(1)
        };
        assert!(client.receive(&seal_as(FrameType::PublishAck, &ack), 2_000).close.is_none());
        assert_eq!(client.counts.rejected["CLOCK"], 2);
        assert_eq!((client.counts.accepted, client.counts.duplicates, client.counts.events), (7, 1, 8));
    }

    #[test]
    fn a_server_without_event_collection_is_told() {
        let mut session = Session::new(Producer::new(1, 2));
        session.stage = Stage::Greeting;
        let mut client = Client { session, counts: Counts::new() };
        let close =
            client.receive(&seal(&Ack { acked_type: MsgType::Auth as i32, ..Ack::default() }), 0).close;
        assert!(close.is_some_and(|close| close.why.contains("--journal") && !close.is_passing));
    }
}
