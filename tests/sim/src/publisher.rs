//! Virtual publishers: which batches they make, send, and send again. One outlives its connections.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::events::{Ack, Batch, Codec, Event, EventRules, Publish};
use crate::rng::Rng;
use crate::ticks::{MS, SECOND};
use crate::wire;

/// Answered batches that may be sent again: more than a producer's window has.
const ANSWERED_MAX: usize = 400;

/// Habits of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Honours credits and requests to wait.
    Steady,
    /// The same, but hangs up in the middle, and sends again what had no answer.
    Returning,
    /// Doesn't count its credits.
    Greedy,
    /// Breaks one rule or another.
    Botching,
}

#[derive(Debug)]
pub struct Publisher {
    manner: Manner,
    producer: [u8; 16],
    /// The last that was used.
    sequence: u64,
    rules: EventRules,
    events_max: u64,
    codec: Codec,
    /// Of so many events, one is invalid.
    faulty_one_in: u64,
    events: u64,
    event_bytes: u64,
    pause: u64,
    /// On their way, without an answer.
    unanswered: VecDeque<Rc<Publish>>,
    /// To be sent again, before others.
    resent: VecDeque<Rc<Publish>>,
    answered: VecDeque<Rc<Publish>>,
    /// Events to come again in another batch.
    retried: VecDeque<Rc<Event>>,
    waits_until: u64,
}

/// Bytes that it writes in one turn.
#[derive(Debug, Default)]
pub struct Turn {
    pub bytes: Vec<u8>,
    pub made: Vec<Rc<Publish>>,
    /// True if it hangs up then.
    pub leaves: bool,
    /// Until its next turn.
    pub pause: u64,
}

impl Publisher {
    pub fn new(manner: Manner, rules: &EventRules, payload_bytes: u32, rng: &mut Rng) -> Self {
        let mut producer = [0; 16];
        producer[..8].copy_from_slice(&(rng.next() | 1).to_le_bytes());
        producer[8..].copy_from_slice(&rng.next().to_le_bytes());
        Self {
            manner,
            producer,
            sequence: if rng.one_in(8) { u64::MAX - 100_000 } else { 0 },
            rules: rules.clone(),
            events_max: u64::from(payload_bytes / 32).min(2_048),
            codec: rng.pick(&[Codec::None, Codec::None, Codec::Lz4, Codec::Zstd]),
            faulty_one_in: rng.pick(&[2, 10, 10, 1_000]),
            events: rng.pick(&[1, 3, 10, 30]),
            event_bytes: rng.pick(&[1, 20, 300]),
            pause: rng.pick(&[30 * MS, 300 * MS, SECOND]),
            unanswered: VecDeque::new(),
            resent: VecDeque::new(),
            answered: VecDeque::new(),
            retried: VecDeque::new(),
            waits_until: 0,
        }
    }

    /// Starts over on another connection: batches without an answer go again.
    pub fn returns(&mut self, rng: &mut Rng) {
        self.unanswered.append(&mut self.resent);
        std::mem::swap(&mut self.unanswered, &mut self.resent);
        self.waits_until = 0;
        if rng.one_in(10) {
            // Restarted without its memory: other numbers for the same events.
            self.producer[8..].copy_from_slice(&rng.next().to_le_bytes());
            self.sequence = 0;
            for publish in self.resent.drain(..).chain(self.answered.drain(..)) {
                self.retried.extend(publish.batch().events.iter().cloned());
            }
            self.retried.truncate(100);
        }
    }

    /// Batches that it published before the shard began, of which it has some answers.
    pub fn past(&mut self, wall: u64, rng: &mut Rng) -> Vec<Rc<Publish>> {
        let mut past = Vec::new();
        for _ in 0..rng.range(1..40) {
            let batch = self.batch(wall, rng);
            past.push(Rc::new(Publish::new(batch, rng)));
        }
        let (answered, unanswered) = past.split_at(past.len() - rng.below(past.len() as u64 + 1) as usize);
        self.answered.extend(answered.iter().cloned());
        self.resent.extend(unanswered.iter().cloned());
        past
    }

    /// Takes the outcome of a batch.
    pub fn hears(&mut self, ack: &Ack, now: u64) {
        let is_it = |publish: &Rc<Publish>| publish.batch().sequence == ack.sequence;
        let Some(at) = self.unanswered.iter().position(is_it) else { return };
        let publish = self.unanswered.remove(at).expect("it is there");
        for rejected in ack.rejected.iter().filter(|rejected| rejected.is_retryable) {
            self.retried.push_back(publish.batch().events[rejected.index as usize].clone());
        }
        self.answered.push_back(publish);
        if self.answered.len() > ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.waits_until = now + ack.throttle_ms * MS;
    }

    pub fn turn(&mut self, now: u64, wall: u64, rng: &mut Rng) -> Turn {
        let mut turn = Turn { pause: rng.below(2 * self.pause) + MS, ..Turn::default() };
        match self.manner {
            Manner::Greedy => {
                for _ in 0..rng.range(1..3 * u64::from(self.rules.credits)) {
                    self.send(wall, &mut turn, rng);
                }
            }
            Manner::Botching if rng.one_in(4) => self.botch(wall, &mut turn, rng),
            _ if now < self.waits_until && !rng.one_in(10) => turn.pause = self.waits_until - now + 1,
            _ => {
                for _ in 0..rng.range(1..4) {
                    if self.unanswered.len() < self.rules.credits as usize {
                        self.send(wall, &mut turn, rng);
                    }
                }
            }
        }
        if self.manner == Manner::Returning && rng.one_in(8) {
            turn.leaves = true;
            // Often in the middle of a batch.
            if rng.one_in(2) {
                turn.bytes.truncate(rng.below(turn.bytes.len() as u64 + 1) as usize);
            }
        }
        turn
    }

    fn send(&mut self, wall: u64, turn: &mut Turn, rng: &mut Rng) {
        let publish = match self.resent.pop_front() {
            Some(publish) => publish,
            None if !self.answered.is_empty() && rng.one_in(12) => {
                // Its answer may have been lost, for all that the server knows.
                self.old_one(rng)
            }
            None => {
                let batch = self.batch(wall, rng);
                Rc::new(Publish::new(batch, rng))
            }
        };
        self.unanswered.push_back(publish.clone());
        Self::write(&publish, turn);
    }

    /// One that was answered, often at the edge of what is known by its number.
    fn old_one(&self, rng: &mut Rng) -> Rc<Publish> {
        let is_at_edge =
            |publish: &&Rc<Publish>| (255..=257).contains(&(self.sequence - publish.batch().sequence));
        let at_edge = self.answered.iter().find(is_at_edge).filter(|_| rng.one_in(2));
        let any = || &self.answered[rng.below(self.answered.len() as u64) as usize];
        at_edge.unwrap_or_else(any).clone()
    }

    fn write(publish: &Rc<Publish>, turn: &mut Turn) {
        turn.bytes.extend(wire::frame(wire::PUBLISH, &publish.payload));
        turn.made.push(publish.clone());
    }

    /// A new batch, within all limits.
    fn batch(&mut self, wall: u64, rng: &mut Rng) -> Batch {
        self.sequence += match rng.below(60) {
            0 => rng.range(1..300),
            1 => rng.range(253..258),
            _ => 1,
        };
        let count = rng.range(1..self.events + 2).min(self.events_max) as usize;
        let mut room = self.rules.publish_bytes.min(self.rules.unpacked_bytes) as usize - 200;
        let mut events = Vec::new();
        while events.len() < count {
            let event = match self.retried.pop_front() {
                Some(event) => event,
                None => self.event(wall, &events, rng),
            };
            match room.checked_sub(event.bytes.len() + 20) {
                Some(rest) => room = rest,
                None => {
                    self.retried.push_front(event);
                    break;
                }
            }
            events.push(event);
        }
        Batch { producer: self.producer, sequence: self.sequence, events, codec: self.codec }
    }

    fn event(&mut self, wall: u64, batch: &[Rc<Event>], rng: &mut Rng) -> Rc<Event> {
        if let Some(last) = batch.last()
            && rng.one_in(50)
        {
            return last.clone();
        }
        if !self.answered.is_empty() && rng.one_in(20) {
            let old = &self.answered[rng.below(self.answered.len() as u64) as usize].batch().events;
            return rng.pick(old);
        }
        let fault = rng.one_in(self.faulty_one_in).then(|| Event::any_fault(rng));
        let (ahead, age) = (self.rules.ahead_ms * MS, self.rules.age_ms * MS);
        let timestamp = match rng.below(40) {
            0 => wall + ahead + rng.below(4 * SECOND) - 2 * SECOND,
            1 => wall - age + rng.below(4 * SECOND) - 2 * SECOND,
            _ => wall - rng.below(10 * SECOND),
        };
        Rc::new(Event::new(timestamp, rng.below(self.event_bytes) as usize, fault, rng))
    }

    /// Something that isn't allowed.
    fn botch(&mut self, wall: u64, turn: &mut Turn, rng: &mut Rng) {
        let mut batch = self.batch(wall, rng);
        let publish = match rng.below(5) {
            0 => Publish::bad(batch, rng),
            1 => {
                batch.codec = rng.pick(&[Codec::Lz4, Codec::Zstd]);
                Publish::bomb(batch, self.rules.unpacked_bytes as usize, rng)
            }
            2 => {
                let event = batch.events[0].clone();
                batch.events = vec![event; self.events_max as usize + rng.range(1..4) as usize];
                Publish::new(batch, rng)
            }
            3 => {
                // A large one of which the rest doesn't come soon, or at all.
                let length = self.rules.publish_bytes - rng.below(3) as u32 + rng.pick(&[0, 0, 3]);
                turn.bytes.extend([b"TS\x01\x10", &length.to_be_bytes()[..]].concat());
                turn.bytes.extend(vec![0x1a; rng.below(u64::from(length).min(40_000)) as usize]);
                turn.pause = 3 * SECOND;
                return;
            }
            _ => {
                let publish = Rc::new(Publish::new(batch, rng));
                Self::write(&publish, turn);
                let at = rng.range(8..turn.bytes.len() as u64) as usize;
                turn.bytes[at] ^= 1 << rng.below(8);
                return;
            }
        };
        Self::write(&Rc::new(publish), turn);
    }
}
