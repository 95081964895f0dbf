//! Connections that come and go: each connects, agrees on TLS where there is any, sends one frame, and is over with
//! the answer.

use std::{
    collections::BTreeMap,
    io,
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use socket2::{SockAddr, SockRef};
use tickstream_uring::ring::{Completion, Ring, Setup};
use tickstream_wire::{
    Decoder, FrameType,
    messages::{ErrorMsg, Message},
};

use crate::{
    clock::wall_us,
    pace::Pace,
    plan::Plan,
    socket::{errno_name, open_socket, send_whole},
    stats::{Class, coarse, count},
    tls::TlsSessions,
    token::{Kind, Token},
};

const RING: Setup = Setup { submissions: 1024, completions: 8192, buffers: 1024, buffer_bytes: 2048 };
/// Interval of all that happens at a rate.
const STEP: Duration = Duration::from_millis(1);
/// An attempt without an answer ends after this.
const PATIENCE_US: u64 = 10_000_000;
/// Answers are short.
const PAYLOAD_MAX: u32 = 4096;

/// Attempts of one thread, and their pace.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Attempts in all.
    pub count: u64,
    /// No more are begun from here on, Unix time.
    pub until_us: u64,
    /// Attempts a second; 0: as fast as they are answered.
    pub per_second: u64,
}

/// Counts of attempts.
#[derive(Debug)]
pub struct AttemptCounts {
    pub begun: u64,
    /// The rate wanted them, but as many as may be were on their way.
    pub left_out: u64,
    /// By the answer: `ACK`, an ERROR's code, or what else ended them.
    pub answers: BTreeMap<String, u64>,
    /// From opening to an ACK, µs; to any other answer.
    pub accepted: Histogram<u32>,
    pub refused: Histogram<u32>,
    /// From the TCP connection to the client's Finished, µs.
    pub tls_full: Histogram<u32>,
    pub tls_resumed: Histogram<u32>,
}

/// An ACK, among the answers.
pub const ACCEPTED: &str = "ACK";

impl AttemptCounts {
    /// All together.
    pub fn merged(all: Vec<Self>) -> Self {
        let mut sum = Self {
            begun: 0,
            left_out: 0,
            answers: BTreeMap::new(),
            accepted: coarse(),
            refused: coarse(),
            tls_full: coarse(),
            tls_resumed: coarse(),
        };
        for counts in all {
            sum.begun += counts.begun;
            sum.left_out += counts.left_out;
            for (answer, times) in counts.answers {
                *sum.answers.entry(answer).or_default() += times;
            }
            let pairs = [
                (&mut sum.accepted, counts.accepted),
                (&mut sum.refused, counts.refused),
                (&mut sum.tls_full, counts.tls_full),
                (&mut sum.tls_resumed, counts.tls_resumed),
            ];
            for (into, from) in pairs {
                into.add(from).expect("all are built alike");
            }
        }
        sum
    }
}

/// State of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    Connecting,
    /// The TLS handshake, or the answer, is awaited.
    Waiting,
    /// Answered; this side has sent its FIN, and awaits the other.
    Leaving,
}

struct Slot {
    stage: Stage,
    socket: Option<OwnedFd>,
    generation: u16,
    opened_us: u64,
    decoder: Decoder,
}

/// One thread's attempts.
pub struct Attempts {
    number: u32,
    plan: Arc<Plan>,
    ring: Ring,
    target: &'static SockAddr,
    frame: Vec<u8>,
    tls: Option<TlsSessions>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Sockets that submissions may still name; closed after the next submit.
    closing: Vec<OwnedFd>,
    counts: AttemptCounts,
}

impl Attempts {
    /// Attempts that send `frame`, `in_flight` at a time, for the calling thread.
    ///
    /// # Errors
    /// If the ring can't be had.
    pub fn new(plan: &Arc<Plan>, number: u32, in_flight: u32, frame: Vec<u8>) -> io::Result<Self> {
        let slot = || Slot {
            stage: Stage::Free,
            socket: None,
            generation: 0,
            opened_us: 0,
            decoder: Decoder::new(),
        };
        Ok(Self {
            number,
            ring: Ring::new(RING)?,
            target: Box::leak(Box::new(SockAddr::from(plan.options.addr))),
            frame,
            tls: plan.tls.as_ref().map(|tls| TlsSessions::new(tls, in_flight as usize)),
            slots: (0..in_flight).map(|_| slot()).collect(),
            free: (0..in_flight).rev().collect(),
            closing: Vec::new(),
            counts: AttemptCounts::merged(Vec::new()),
            plan: plan.clone(),
        })
    }

    /// Makes them.
    ///
    /// # Errors
    /// If the ring fails.
    pub fn run(mut self, workload: Workload) -> io::Result<AttemptCounts> {
        let mut pace =
            (workload.per_second > 0).then(|| Pace::new(wall_us(), workload.per_second, 1_000_000));
        let mut completions = Vec::new();
        let mut looked_us = 0;
        loop {
            let now_us = wall_us();
            let left = if now_us < workload.until_us { workload.count - self.counts.begun } else { 0 };
            if left == 0 && self.free.len() == self.slots.len() {
                break;
            }
            let wanted = match &mut pace {
                Some(pace) => {
                    let due = pace.due(now_us);
                    left.min(due.end - due.start)
                }
                None => left,
            };
            let free = self.free.len() as u64;
            if pace.is_some() {
                self.counts.left_out += wanted.saturating_sub(free);
            }
            for _ in 0..wanted.min(free) {
                self.open(now_us);
            }
            if now_us >= looked_us + PATIENCE_US / 100 {
                looked_us = now_us;
                self.give_up(now_us);
            }
            self.ring.wait(1, Duration::ZERO, STEP)?;
            let now_us = wall_us();
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.complete(completion, now_us);
            }
            if !self.closing.is_empty() {
                self.ring.submit();
                self.closing.clear();
            }
        }
        if let Some(tls) = self.tls {
            (self.counts.tls_full, self.counts.tls_resumed) = (tls.full, tls.resumed);
        }
        Ok(self.counts)
    }

    fn open(&mut self, now_us: u64) {
        let Some(number) = self.free.pop() else { return };
        let index = u64::from(self.number) + self.counts.begun * u64::from(self.plan.threads);
        self.counts.begun += 1;
        let slot = &mut self.slots[number as usize];
        slot.opened_us = now_us;
        slot.generation = slot.generation.wrapping_add(1);
        match open_socket(&self.plan, Class::Steady, index) {
            Ok(socket) => {
                slot.stage = Stage::Connecting;
                let token = Token { kind: Kind::Connect, generation: slot.generation, slot: number };
                self.ring.connect(socket.as_fd(), self.target, token.pack());
                slot.socket = Some(socket);
            }
            Err(error) => self.answered(number, &errno_name(error.raw_os_error().unwrap_or(0)), now_us),
        }
    }

    fn complete(&mut self, completion: Completion, now_us: u64) {
        let token = Token::unpack(completion.token);
        let slot = &self.slots[token.slot as usize];
        if slot.generation == token.generation && slot.stage != Stage::Free {
            match (token.kind, completion.result) {
                (Kind::Connect, Ok(_)) => self.connected(token.slot, now_us),
                (Kind::Connect, Err(errno)) => {
                    self.answered(token.slot, &format!("connect: {}", errno_name(errno)), now_us);
                }
                (_, Ok(len)) if len > 0 => {
                    self.received(token.slot, &completion, now_us);
                    if !completion.more {
                        self.receive(token.slot);
                    }
                }
                (_, Err(libc::ENOBUFS)) => self.receive(token.slot),
                _ if slot.stage == Stage::Leaving => self.free(token.slot),
                (_, Ok(_)) => self.answered(token.slot, "closed without a word", now_us),
                (_, Err(errno)) => self.answered(token.slot, &errno_name(errno), now_us),
            }
        }
        if let Some(received) = completion.received {
            self.ring.recycle(received);
        }
    }

    fn connected(&mut self, number: u32, now_us: u64) {
        self.slots[number as usize].stage = Stage::Waiting;
        let begun = match &mut self.tls {
            None => Ok(()),
            Some(tls) => tls.enter(number, now_us).map_err(|error| format!("TLS: {error}")),
        };
        let begun = begun.and_then(|()| self.send(number));
        match begun {
            Ok(()) => self.receive(number),
            Err(what) => self.answered(number, &what, now_us),
        }
    }

    /// Sends what TLS has to send, or, without it, the frame.
    fn send(&self, number: u32) -> Result<(), String> {
        let bytes = self.tls.as_ref().map_or(&self.frame[..], TlsSessions::output);
        match &self.slots[number as usize].socket {
            Some(socket) if !bytes.is_empty() => {
                send_whole(socket, bytes).map_err(|error| format!("send: {error}"))
            }
            _ => Ok(()),
        }
    }

    fn receive(&mut self, number: u32) {
        let slot = &self.slots[number as usize];
        if let Some(socket) = &slot.socket {
            let token = Token { kind: Kind::Receive, generation: slot.generation, slot: number };
            self.ring.receive(socket.as_fd(), token.pack());
        }
    }

    fn received(&mut self, number: u32, completion: &Completion, now_us: u64) {
        let Some(received) = &completion.received else { return };
        if self.slots[number as usize].stage == Stage::Leaving {
            return;
        }
        let Self { ring, tls, slots, frame, .. } = self;
        let decoder = &mut slots[number as usize].decoder;
        let Some(tls) = tls else {
            if let Some(answer) = read(decoder, ring.bytes(received)) {
                self.answered(number, &answer, now_us);
            }
            return;
        };
        let mut opened = tls.receive(number, ring.bytes(received), now_us);
        if opened.as_ref().is_ok_and(|opened| opened.agreed) {
            opened = tls.seal_more(number, frame).and(opened);
        }
        let answer = read(decoder, tls.plaintext()).or_else(|| match opened {
            Ok(opened) if opened.closed => Some("closed without a word".to_owned()),
            Ok(_) => None,
            Err(error) => Some(format!("TLS: {error}")),
        });
        let sent = self.send(number);
        if let Some(answer) = answer.or(sent.err()) {
            self.answered(number, &answer, now_us);
        }
    }

    /// An attempt has its answer.
    fn answered(&mut self, number: u32, answer: &str, now_us: u64) {
        count(&mut self.counts.answers, answer);
        let slot = &mut self.slots[number as usize];
        let took_us = now_us.saturating_sub(slot.opened_us);
        if answer != ACCEPTED {
            self.counts.refused.saturating_record(took_us);
            return self.free(number);
        }
        self.counts.accepted.saturating_record(took_us);
        slot.stage = Stage::Leaving;
        // In order: close_notify, FIN, and then the server's FIN is awaited.
        if self.tls.as_mut().is_some_and(|tls| tls.say_goodbye(number).is_ok()) {
            let _ = self.send(number);
        }
        if let Some(socket) = &self.slots[number as usize].socket
            && SockRef::from(socket).shutdown(Shutdown::Write).is_err()
        {
            self.free(number);
        }
    }

    /// Ends attempts that have had no answer for too long.
    fn give_up(&mut self, now_us: u64) {
        for number in 0..self.slots.len() as u32 {
            let slot = &self.slots[number as usize];
            if slot.stage == Stage::Free || now_us < slot.opened_us + PATIENCE_US {
                continue;
            }
            if slot.stage == Stage::Leaving {
                count(&mut self.counts.answers, "no FIN after ours in 10 s");
                self.free(number);
            } else {
                self.answered(number, "no answer in 10 s", now_us);
            }
        }
    }

    fn free(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        if let Some(socket) = slot.socket.take() {
            // Ends what the ring still does with it.
            let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
            self.closing.push(socket);
        }
        slot.stage = Stage::Free;
        slot.decoder = Decoder::new();
        if let Some(tls) = &mut self.tls {
            tls.leave(number);
        }
        self.free.push(number);
    }
}

/// The answer, once it is there.
fn read(decoder: &mut Decoder, mut bytes: &[u8]) -> Option<String> {
    loop {
        match decoder.next(&mut bytes, PAYLOAD_MAX) {
            Ok(Some(frame)) => match FrameType::from_byte(frame.kind) {
                Some(FrameType::Ack) => return Some(ACCEPTED.to_owned()),
                Some(FrameType::Error) => {
                    let error = ErrorMsg::decode(frame.payload);
                    return Some(error.map_or_else(|_| "malformed".to_owned(), |error| error.code));
                }
                _ => {}
            },
            Ok(None) => return None,
            Err(_) => return Some("malformed".to_owned()),
        }
    }
}
