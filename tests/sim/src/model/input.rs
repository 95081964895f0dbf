//! Meaning of a connection's bytes and of its end.

use tickstream_engine::{CloseReason, Limit};

use super::conn::{PendingReply, Phase, Reply};
use super::gate::address;
use super::{FRAMES_PENDING_MAX, Model};
use crate::ticks::{MS, SECOND};
use crate::wire;

/// Why a connection ends, when its client may come back, and the limit that fired.
pub(super) type Fault = (CloseReason, (u32, u32), Option<Limit>);
pub(super) type Handled = Result<(), Fault>;

/// Longest payload before AUTH.
const PAYLOAD_BEFORE_AUTH: u32 = 4_096;
pub(super) const BUSY_RETRY: (u32, u32) = (1_000, 1_999);

impl Model {
    /// Bytes came. `said` is why the shard ended the connection meanwhile, if it did, for what may go two ways.
    pub fn received(&mut self, index: usize, mut bytes: &[u8], said: Option<CloseReason>) {
        self.expected.bytes_received += bytes.len() as u64;
        if self.conns[index].phase == Phase::Proxied {
            match self.header(index, &mut bytes, said) {
                Ok(true) => {}
                Ok(false) => return,
                Err((reason, retry_ms, limit)) => return self.end(index, reason, retry_ms, limit),
            }
        }
        let conn = &mut self.conns[index];
        conn.has_received |= !bytes.is_empty();
        if !conn.accepts_frames() {
            return;
        }
        let held = self.partial_bytes(index);
        self.conns[index].unread.extend_from_slice(bytes);
        while self.conns[index].accepts_frames() {
            match self.frame(index, said) {
                None => return self.hold_partial(index, held),
                Some(handled) => {
                    self.expected.frames_received += 1;
                    if let Err((reason, retry_ms, limit)) = handled {
                        self.end(index, reason, retry_ms, limit);
                    }
                }
            }
        }
    }

    /// Takes the header of a proxy; false if there is more to come.
    fn header(&mut self, index: usize, bytes: &mut &[u8], said: Option<CloseReason>) -> Result<bool, Fault> {
        let conn = &mut self.conns[index];
        if conn.header.is_valid && conn.header.bytes == 0 {
            // None is sent; what begins like one is waited for, and is a bad one then.
            let begins_like_one = matches!(bytes.first(), Some(b'P' | b'\r'));
            if conn.header_seen > 0 || begins_like_one {
                conn.header_seen += bytes.len();
                let is_bad = said == Some(CloseReason::BadProxyHeader);
                return if is_bad { Err((CloseReason::BadProxyHeader, (0, 0), None)) } else { Ok(false) };
            }
        }
        let missing = conn.header.bytes - conn.header_seen;
        conn.header_seen += bytes.len().min(missing);
        if !conn.header.is_valid {
            assert!(
                said.is_some() || conn.header_seen < conn.header.bytes,
                "a bad PROXY header was taken: {conn:?}"
            );
            return match said {
                Some(_) => Err((CloseReason::BadProxyHeader, (0, 0), None)),
                None => Ok(false),
            };
        }
        if bytes.len() < missing || bytes.is_empty() {
            return Ok(false);
        }
        *bytes = &bytes[missing..];
        conn.peer = conn.header.source.unwrap_or(conn.peer);
        conn.phase = if conn.tls { Phase::Handshaking } else { Phase::Unauthenticated };
        let (from, tls) = (address(conn.peer.ip()), conn.tls);
        let must = self.gate.address_refusals(&self.rules, from, tls, self.active_ns);
        if must.is_empty() {
            self.gate.hold(from);
            self.conns[index].is_counted = true;
            return Ok(true);
        }
        // Which of them is told first is the shard's affair; there is but one at a time in a bucket's order.
        Err((CloseReason::ServerBusy, BUSY_RETRY, must.first().copied()))
    }

    /// Handles the next frame; `None` if it isn't there.
    fn frame(&mut self, index: usize, said: Option<CloseReason>) -> Option<Handled> {
        let conn = &self.conns[index];
        let unread = &conn.unread;
        let plain = |reason| Some(Err((reason, (0, 0), None)));
        if unread.iter().zip(b"TS").any(|(found, expected)| found != expected) {
            return plain(CloseReason::NotAFrame);
        }
        if unread.get(2).is_some_and(|&version| version != 1) {
            return plain(CloseReason::UnsupportedVersion);
        }
        let &[_, _, _, kind, a, b, c, d] = unread.first_chunk()?;
        let length = u32::from_be_bytes([a, b, c, d]);
        let most = match (conn.phase, &self.rules.events) {
            (Phase::Authenticated, Some(events)) if kind == wire::PUBLISH => events.publish_bytes,
            (Phase::Authenticated, _) => self.rules.payload_bytes,
            _ => self.rules.payload_bytes.min(PAYLOAD_BEFORE_AUTH),
        };
        if length > most {
            return Some(Err((CloseReason::MessageTooLarge, (0, 0), Some(Limit::FrameBytes))));
        }
        let end = 8 + length as usize;
        if unread.len() < end + 4 {
            return None;
        }
        let payload = unread[8..end].to_vec();
        let is_whole = unread[end..end + 4] == wire::crc32c(&payload).to_be_bytes();
        self.conns[index].unread.drain(..end + 4);
        if !is_whole {
            return plain(CloseReason::BadCrc);
        }
        Some(match self.conns[index].phase {
            Phase::Unauthenticated if kind == wire::AUTH => self.auth(index, &payload),
            Phase::Unauthenticated => Err((CloseReason::AuthRequired, (0, 0), None)),
            _ => self.request(index, kind, &payload, said),
        })
    }

    fn auth(&mut self, index: usize, payload: &[u8]) -> Handled {
        let Ok(auth) = wire::message(payload, &[], &[1, 2]) else {
            return Err((CloseReason::BadFrame, (0, 0), None));
        };
        let from = address(self.conns[index].peer.ip());
        let wait_ms = self.gate.auth_wait_ms(&self.rules, from, self.active_ns);
        if wait_ms > 0 {
            return Err((CloseReason::RateLimited, (wait_ms, wait_ms), Some(Limit::AuthFailures)));
        }
        let named = match &self.conns[index].user {
            Some(user) => auth.text(1).is_empty() || auth.text(1) == user,
            None => auth.text(1) == self.rules.user,
        };
        if !named || auth.text(2) != self.rules.pass {
            self.gate.failed(&self.rules, from, self.active_ns);
            self.expected.auth_failures += 1;
            return Err((CloseReason::AuthFailed, (0, 0), None));
        }
        self.expected.authenticated += 1;
        self.leave_pre_auth(index);
        let unix_ms = self.wall / MS;
        let conn = &mut self.conns[index];
        (conn.phase, conn.since) = (Phase::Authenticated, self.active_ns);
        conn.pending_replies
            .push_back(PendingReply { reply: Reply::AckAuth { unix_ms }, since: self.active_ns });
        Ok(())
    }

    fn request(&mut self, index: usize, kind: u8, payload: &[u8], said: Option<CloseReason>) -> Handled {
        // Not of those that are counted by the second, unless it is refused.
        if kind == wire::PUBLISH {
            return self.publish(index, payload, said);
        }
        self.spend_frame(index)?;
        let conn = &mut self.conns[index];
        let bad = |reason| Err((reason, (0, 0), None));
        match kind {
            wire::SUBSCRIBE => self.subscribe(index, payload, said),
            wire::HEARTBEAT if !payload.is_empty() => bad(CloseReason::BadFrame),
            wire::HEARTBEAT => {
                conn.since = self.active_ns;
                self.expected.heartbeats += 1;
                self.enqueue(index, Reply::Heartbeat, said)
            }
            wire::AUTH | wire::DATA_BATCH..=wire::GOAWAY | wire::PUBLISH_ACK => {
                bad(CloseReason::ProtocolViolation)
            }
            0x80.. => Ok(()),
            _ => bad(CloseReason::UnsupportedType),
        }
    }

    /// Counts a frame against those of the running second.
    pub(super) fn spend_frame(&mut self, index: usize) -> Handled {
        let second = self.active_ns / SECOND;
        let budget = &mut self.conns[index].budget;
        if budget.0 != second {
            *budget = (second, 0);
        }
        budget.1 += 1;
        if budget.1 > self.rules.frames_per_second {
            return Err((CloseReason::RateLimited, BUSY_RETRY, Some(Limit::Frames)));
        }
        Ok(())
    }

    fn subscribe(&mut self, index: usize, payload: &[u8], said: Option<CloseReason>) -> Handled {
        let bad = Err((CloseReason::BadFrame, (0, 0), None));
        let Ok(asked) = wire::message(payload, &[1, 2], &[]) else { return bad };
        let mode = match asked.number(1) as i32 {
            0 => 0,
            1 => 1,
            _ => return bad,
        };
        let stream = &self.streams[mode];
        // The next tick to be sent: whatever is due, as far as the shard has got with that.
        let phase = stream.phases - 1;
        let low = stream.due_end(self.wall, phase).min(stream.due_end(self.wall_settled, phase));
        let high = stream.due_end(self.wall_high, 0);
        // A position that clocks can't explain, or another rate can, is none.
        let first = |live: u64| match asked.numbers[2] {
            Some(after) if stream.may_resume(after, live) => {
                after.saturating_add(1).max(live.saturating_sub(stream.replay))
            }
            _ => live,
        };
        let (next, live) = ((first(low).min(first(high)), first(low).max(first(high))), (low, high));
        let conn = &mut self.conns[index];
        if let Some(old) = conn.mode.replace(mode) {
            self.expected.streams[old].subscribers -= 1;
        }
        self.expected.streams[mode].subscribers += 1;
        self.expected.subscribed += 1;
        let (steps, is_ahead) = (self.steps.len(), self.wall == self.wall_most);
        let reply = Reply::AckSubscribe { mode, next, live, steps, is_ahead, unix_ms: self.wall / MS };
        self.enqueue(index, reply, said)
    }

    /// Enqueues a reply, unless the client asks without reading the answers.
    pub(super) fn enqueue(&mut self, index: usize, reply: Reply, said: Option<CloseReason>) -> Handled {
        let goaways = usize::from(self.drain.is_some() && !self.conns[index].goaway_seen);
        let conn = &mut self.conns[index];
        let frames = conn.frames();
        let is_last = self.expected.frames_received + 1 == self.frames_counted;
        let may_be_slow =
            said == Some(CloseReason::SlowConsumer) && is_last && frames + goaways >= FRAMES_PENDING_MAX;
        if conn.is_full && (frames >= FRAMES_PENDING_MAX || may_be_slow) {
            return Err((CloseReason::SlowConsumer, (0, 0), None));
        }
        conn.pending_replies.push_back(PendingReply { reply, since: self.active_ns });
        Ok(())
    }

    /// FIN came, RST, or TLS gave up.
    pub fn lost(&mut self, index: usize, reason: CloseReason) {
        let conn = &mut self.conns[index];
        match &mut conn.closing {
            None => self.end(index, reason, (0, 0), None),
            Some(_) if reason == CloseReason::TlsFailed => {}
            Some(closing) if reason == CloseReason::PeerClosed && !conn.is_shut => {
                // It may still read its pending frames.
                conn.peer_closed |= !closing.is_aborted;
            }
            Some(_) => {
                conn.broken |= reason == CloseReason::PeerReset;
                conn.peer_closed = true;
                conn.closing.as_mut().expect("it is closing").is_aborted = true;
            }
        }
    }

    /// An operator closes it. False if its end is decided already.
    pub fn kicked(&mut self, index: usize) -> bool {
        let conn = &self.conns[index];
        if conn.is_gone || conn.closing.is_some() {
            return false;
        }
        self.end(index, CloseReason::Kicked, BUSY_RETRY, None);
        true
    }
}
