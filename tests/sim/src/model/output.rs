//! Frames that a shard sends, and how it closes.

use tickstream_engine::{CloseReason, SealedFrame, SendOutcome};

use super::conn::{PendingReply, Phase, Reply, Subscription, Underway};
use super::gate::address;
use super::{LATE_NS, Model, stepped_over, stepped_to};
use crate::events::Ack;
use crate::ticks::MS;
use crate::wire;

impl Model {
    /// The shard sends `frame` from `offset` on; the socket will answer `answer`.
    pub fn offered(&mut self, index: usize, frame: &SealedFrame, offset: u32, answer: SendOutcome) {
        self.expected.sends += 1;
        let conn = &self.conns[index];
        assert!(!conn.is_gone && !conn.is_shut, "a send behind the end of {conn:?}");
        assert!(conn.is_answered() && !conn.is_awaited, "a send too many for {conn:?}");
        assert!((offset as usize) < frame.as_bytes().len(), "nothing to send");
        if let Some(underway) = &conn.underway {
            let goes_on = underway.bytes == frame.as_bytes() && underway.reported == offset;
            assert!(goes_on, "another frame, or from elsewhere, before the last was whole: {conn:?}");
        } else {
            assert_eq!(offset, 0, "{conn:?}");
            let underway = self.begun(index, frame);
            self.conns[index].underway = Some(underway);
        }
        let conn = &mut self.conns[index];
        conn.served_by = None;
        conn.underway.as_mut().expect("it was begun").answer = Some(answer);
    }

    fn begun(&mut self, index: usize, frame: &SealedFrame) -> Underway {
        let (kind, payload) = wire::open(frame.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let conn = &self.conns[index];
        assert!(!conn.error_begun, "a frame behind ERROR: {conn:?}");
        assert!(payload.len() <= self.rules.payload_bytes as usize, "a payload of {} bytes", payload.len());
        let active_ns = self.active_ns;
        let mut underway = Underway {
            bytes: frame.as_bytes().to_vec(),
            kind,
            reported: 0,
            answer: None,
            ticks: 0,
            mode: 0,
            is_replay: false,
            since_latest: active_ns,
            since_earliest: active_ns,
        };
        match kind {
            wire::DATA_BATCH => self.batch(index, payload, &mut underway),
            wire::GOAWAY => {
                let conn = &mut self.conns[index];
                assert!(self.drain.is_some() && !conn.goaway_seen, "a GOAWAY without reason");
                assert!(matches!(conn.phase, Phase::Authenticated | Phase::Closing));
                conn.goaway_seen = true;
                let goaway = wire::message(payload, &[2], &[1]).unwrap_or_else(|error| panic!("{error}"));
                assert!(
                    (200..3_200).contains(&goaway.number(2)),
                    "GOAWAY: retry_after_ms {}",
                    goaway.number(2)
                );
            }
            _ => {
                let next = self.conns[index].pending_replies.pop_front();
                let PendingReply { reply, since } =
                    next.unwrap_or_else(|| panic!("a frame of type {kind}, and no reply is pending"));
                (underway.since_latest, underway.since_earliest) = (since, since);
                self.reply(index, kind, payload, frame, &reply);
            }
        }
        underway
    }

    fn reply(&mut self, index: usize, kind: u8, payload: &[u8], frame: &SealedFrame, reply: &Reply) {
        match *reply {
            Reply::Heartbeat => {
                assert!(kind == wire::HEARTBEAT && payload.is_empty(), "no HEARTBEAT: {kind}");
            }
            Reply::Error { code, retry_ms } => {
                let is_draining = code == "SHUTTING_DOWN" && self.conns[index].phase == Phase::Closing;
                let conn = &mut self.conns[index];
                conn.error_begun = true;
                let is_drain =
                    conn.closing.is_some_and(|closing| closing.reason == CloseReason::ShuttingDown);
                let knows = conn.goaway_seen || conn.mode.is_none();
                assert!(!is_draining || !is_drain || knows, "SHUTTING_DOWN without GOAWAY: {conn:?}");
                self.check_error(frame.as_bytes(), code, retry_ms);
            }
            Reply::PublishAck(ref expected) => {
                assert_eq!(kind, wire::PUBLISH_ACK, "the reply");
                self.publish_ack(payload, expected);
            }
            Reply::AckAuth { unix_ms } => {
                let next = self.ack(kind, payload, wire::AUTH, unix_ms);
                assert_eq!(next, 0, "next_sequence of AUTH's ACK");
            }
            Reply::AckSubscribe { mode, next: (least, most), live, steps, is_ahead, unix_ms } => {
                let next = self.ack(kind, payload, wire::SUBSCRIBE, unix_ms);
                assert!((least..=most).contains(&next), "next_sequence {next} isn't in {least}..={most}");
                self.conns[index].subscription = Some(Subscription {
                    mode,
                    next,
                    phase_ms: None,
                    live,
                    steps,
                    is_ahead,
                    is_live: next >= live.1,
                });
            }
        }
    }

    /// `next_sequence` of an ACK.
    fn ack(&self, kind: u8, payload: &[u8], of: u8, unix_ms: u64) -> u64 {
        assert_eq!(kind, wire::ACK, "the reply");
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let ack = wire::message(payload, &numbers, &[]).unwrap_or_else(|error| panic!("{error}"));
        let rules = &self.rules;
        let found = [1, 2, 3, 4, 5, 7].map(|field| ack.number(field));
        let limits =
            [rules.heartbeat_interval_ms, rules.heartbeat_timeout_ms, rules.payload_bytes, rules.window_ms];
        let [interval, timeout, bytes, window] = limits.map(u64::from);
        assert_eq!(found, [u64::from(of), interval, timeout, bytes, window, unix_ms], "ACK");
        let events = rules.events.as_ref().map(|events| [events.credits, events.publish_bytes]);
        let expected = events.unwrap_or_default().map(u64::from);
        assert_eq!([ack.number(8), ack.number(9)], expected, "credits and size of a PUBLISH");
        ack.number(6)
    }

    /// Messages may be left out, but for the first where there is room.
    fn publish_ack(&self, payload: &[u8], expected: &Ack) {
        let mut found = Ack::read(payload).unwrap_or_else(|error| panic!("{error}"));
        let first = found.rejected.first();
        let has_message = first.is_none_or(|first| !first.message.is_empty());
        assert!(has_message || self.rules.payload_bytes < 8_192, "no message: {found:?}");
        for (found, expected) in found.rejected.iter_mut().zip(&expected.rejected) {
            // What is said of a whole batch isn't the model's affair.
            if found.message.is_empty() || expected.message.is_empty() {
                found.message.clone_from(&expected.message);
            }
        }
        assert_eq!(found, *expected, "PUBLISH_ACK");
    }

    /// Ticks: the next ones, by their right names, and none before its time.
    fn batch(&mut self, index: usize, payload: &[u8], underway: &mut Underway) {
        let (first, mode, labels) = wire::batch(payload).unwrap_or_else(|error| panic!("{error}"));
        let (steps, streams, wall_most) = (&self.steps, &self.streams, self.wall_most);
        let conn = &mut self.conns[index];
        assert_eq!(conn.phase, Phase::Authenticated, "a batch behind the end: {conn:?}");
        assert_eq!(conn.mode.map(|mode| mode as u64), Some(mode), "ticks of the wrong stream: {conn:?}");
        let subscription = conn.subscription.as_mut().expect("a subscription that was acknowledged");
        assert_eq!(subscription.mode as u64, mode, "ticks of the wrong stream");
        let stream = &streams[subscription.mode];
        let end = first + labels.len() as u64;
        let phase = labels[0].wrapping_sub(stream.label(first));
        assert!(phase < stream.phases, "tick {first} is called {}", labels[0]);
        assert_eq!(
            *subscription.phase_ms.get_or_insert(phase),
            phase,
            "the phase of tick {first} has changed"
        );
        for (sequence, label) in (first..).zip(&labels) {
            assert_eq!(*label, stream.label(sequence) + phase, "label of tick {sequence}");
        }
        let due_ns = stream.due_ns(end - 1) + phase * MS;
        assert!(due_ns <= wall_most, "tick {} is sent {} ns before its time", end - 1, due_ns - wall_most);
        let next = subscription.next;
        assert!(first >= next, "tick {first} is sent again, {next} is next");
        // What was left out was due while the clock was set forward.
        let steps = &steps[subscription.steps..];
        let is_explained = (0..=steps.len()).any(|left| {
            let steps = &steps[..left];
            let least = stepped_to(steps, stream, next, phase, |step| step.after_least);
            (least..=stepped_over(steps, stream, next, phase)).contains(&first)
        });
        assert!(is_explained, "the ticks from {next} to {first} are lost, {phase} {steps:?}");
        let is_replay = !subscription.is_live;
        subscription.next = end;
        (underway.ticks, underway.mode, underway.is_replay) = (end - first, subscription.mode, is_replay);
        let published = stream.due_ns(first) + phase * MS;
        if first >= subscription.live.0 || !is_replay {
            underway.since_earliest =
                self.history.earliest(published).unwrap_or(self.active_ns).min(self.active_ns);
        }
        if !is_replay && subscription.is_ahead {
            let last = self.history.latest(stream.batch_due_ns(first) + phase * MS);
            underway.since_latest = last.unwrap_or(self.active_ns).min(self.active_ns);
        }
    }

    /// The shard was told the answer to a send. Returns whether the connection is still there.
    pub fn answered(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if conn.is_gone {
            return;
        }
        let underway = conn.underway.as_mut().expect("a send was unanswered");
        let length = underway.bytes.len() as u32;
        match underway.answer.take().expect("a send was unanswered") {
            SendOutcome::Sent(bytes) => {
                underway.reported += bytes;
                conn.bytes_sent += u64::from(bytes);
                self.expected.bytes_sent += u64::from(bytes);
                if underway.reported == length {
                    self.expected.frames_sent += 1;
                    if underway.kind == wire::DATA_BATCH {
                        self.expected.streams[underway.mode].frames_sent += 1;
                        self.expected.streams[underway.mode].ticks_sent += underway.ticks;
                    }
                    conn.underway = None;
                    return;
                }
                self.expected.sends_short += 1;
                (conn.is_full, conn.full_since) = (true, self.active_ns);
            }
            SendOutcome::WouldBlock => {
                self.expected.sends_short += 1;
                (conn.is_full, conn.full_since) = (true, self.active_ns);
            }
            SendOutcome::Broken => self.lost(index, CloseReason::PeerReset),
        }
    }

    pub fn awaits(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        assert!(conn.is_full && !conn.is_awaited && !conn.is_gone, "nothing to await: {conn:?}");
        (conn.is_awaited, conn.served_by) = (true, None);
    }

    pub fn writable(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if !conn.is_gone && std::mem::take(&mut conn.is_awaited) {
            conn.is_full = false;
        }
    }

    pub fn shut(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let closing = conn.closing.unwrap_or_else(|| panic!("FIN without reason: {conn:?}"));
        assert!(!closing.is_aborted && !conn.is_shut && !conn.is_gone, "FIN out of turn: {conn:?}");
        assert!(conn.frames() == 0, "FIN before its pending frames: {conn:?}");
        assert_eq!(conn.error_begun, closing.sends_error, "the last frame before FIN: {conn:?}");
        conn.is_shut = true;
    }

    /// The shard lets go of a connection.
    pub fn released(&mut self, index: usize, abort: bool) {
        let (active_ns, drain) = (self.active_ns, self.drain);
        let conn = &mut self.conns[index];
        let closing = conn.closing.unwrap_or_else(|| panic!("let go without reason: {conn:?}"));
        assert!(!conn.is_gone, "let go twice");
        let is_sent = conn.frames() == 0;
        // A drain leaves less time to those that linger, too.
        let ends = drain.map_or(closing.ends, |drain| closing.ends.min(drain.began + drain.over_ns / 5));
        let is_over = active_ns >= ends;
        if closing.is_aborted {
            let is_slow = closing.reason == CloseReason::SlowConsumer;
            assert!(abort == is_slow || abort && (is_over || drain.is_some()), "RST or FIN: {conn:?}");
        } else if is_over {
            assert!(is_sent || abort, "FIN though frames are pending: {conn:?}");
        } else {
            let may_go = is_sent && conn.peer_closed && !abort;
            assert!(may_go, "let go too early, at {active_ns}: {conn:?}");
            assert!(active_ns < closing.ends + LATE_NS);
        }
        if is_sent && !closing.is_aborted {
            assert_eq!(conn.error_begun, closing.sends_error, "the last frame: {conn:?}");
        }
        conn.is_gone = true;
        conn.underway = None;
        conn.pending_replies.clear();
        self.gate.open -= 1;
        if conn.is_counted {
            self.gate.held.get_mut(&address(conn.peer.ip())).expect("it is counted").0 -= 1;
        }
    }
}
