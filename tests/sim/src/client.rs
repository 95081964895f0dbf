//! Virtual clients: what they say, and how they read.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::events::Publish;
use crate::publisher::{Manner, Publisher};
use crate::rng::Rng;
use crate::rules::{PASS, USER};
use crate::ticks::{MS, SECOND};
use crate::wire;

/// Kind of a client; the order of [`crate::scenario::Scenario::kinds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Steady,
    Silent,
    Dribbler,
    Guesser,
    Flooder,
    Bulky,
    Rude,
    Forgetful,
    Leaver,
    Prober,
    Publisher(Manner),
}

pub const KINDS: [Kind; 14] = [
    Kind::Steady,
    Kind::Silent,
    Kind::Dribbler,
    Kind::Guesser,
    Kind::Flooder,
    Kind::Bulky,
    Kind::Rude,
    Kind::Forgetful,
    Kind::Leaver,
    Kind::Prober,
    Kind::Publisher(Manner::Steady),
    Kind::Publisher(Manner::Returning),
    Kind::Publisher(Manner::Greedy),
    Kind::Publisher(Manner::Botching),
];

/// Reading habits of a client.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    Prompt,
    /// Its socket holds so many bytes; it reads some now and then.
    Drip {
        holds: u64,
        reads: u64,
        every: u64,
    },
    /// Stops for a while, or for ever.
    Stalls {
        holds: u64,
        from: u64,
        until: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

#[derive(Debug)]
pub struct Client {
    pub kind: Kind,
    pub reader: Reader,
    /// Bytes that it has written and that haven't arrived.
    pub written: VecDeque<u8>,
    /// Of these, bytes that come before what TLS protects: a PROXY header and a ClientHello.
    pub bare: usize,
    pub secured: bool,
    pub tls: bool,
    pub end: Option<End>,
    pub ended: Option<End>,
    pub is_delivering: bool,
    /// Bytes in its socket.
    pub unread: u64,
    pub is_authed: bool,
    pub turns: u32,
    /// Of a client that publishes.
    pub publisher: Option<Box<Publisher>>,
    /// PUBLISHes that it made and of which the model doesn't know yet.
    pub made: Vec<Rc<Publish>>,
    /// When it sent its last HEARTBEAT.
    heartbeat: u64,
}

/// The time of a turn.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub mono: u64,
    pub wall: u64,
    /// Due ticks of each stream.
    pub sequences: [u64; 2],
}

impl Client {
    pub fn new(kind: Kind, tls: bool, now: u64, rng: &mut Rng) -> Self {
        let holds = rng.pick(&[0, 1, 20, 300, 5_000]);
        let reader = match rng.below(6) {
            0 => Reader::Drip {
                holds,
                reads: rng.pick(&[1, 7, 60, 4_000]),
                every: rng.pick(&[10 * MS, 300 * MS, 4_900 * MS]),
            },
            1 => {
                let from = now + rng.below(20 * SECOND);
                Reader::Stalls {
                    holds,
                    from,
                    until: from + rng.pick(&[SECOND, 4 * SECOND, 5_200 * MS, 3_600 * SECOND]),
                }
            }
            _ => Reader::Prompt,
        };
        Self {
            kind,
            reader,
            written: VecDeque::new(),
            bare: 0,
            secured: !tls,
            tls,
            end: None,
            ended: None,
            is_delivering: false,
            unread: 0,
            is_authed: false,
            turns: 0,
            publisher: None,
            made: Vec::new(),
            heartbeat: 0,
        }
    }

    /// Bytes that its socket takes now.
    pub fn room(&self, now: u64) -> u64 {
        match self.reader {
            Reader::Prompt => u64::MAX,
            Reader::Drip { holds, .. } => holds.saturating_sub(self.unread),
            Reader::Stalls { holds, from, until } if (from..until).contains(&now) => {
                holds.saturating_sub(self.unread)
            }
            Reader::Stalls { .. } => u64::MAX,
        }
    }

    /// Takes its turn: writes something. Answers when the next one is, if there is one.
    pub fn turn(&mut self, moment: Moment, rng: &mut Rng) -> Option<u64> {
        let now_sequences = moment.sequences;
        self.turns += 1;
        let first = self.turns == 1;
        match self.kind {
            Kind::Silent => {
                if first && rng.one_in(2) {
                    self.write(&wire::auth(USER, PASS)[..rng.range(1..20) as usize]);
                }
                None
            }
            Kind::Prober => {
                self.end = Some(rng.pick(&[End::Fin, End::Reset]));
                None
            }
            Kind::Dribbler => {
                let auth = wire::auth(USER, PASS);
                let at = self.turns as usize - 1;
                self.write(&auth[at..=at]);
                let pause = rng.pick(&[50 * MS, 100 * MS, 900 * MS]);
                if self.turns as usize == auth.len() { self.become_steady(rng) } else { Some(pause) }
            }
            Kind::Guesser => {
                let (user, pass) =
                    rng.pick(&[(USER, "wrong"), ("bob", PASS), ("", ""), (USER, ""), (USER, "changed")]);
                self.write(&wire::auth(user, pass));
                if rng.one_in(2) { Some(SECOND) } else { None }
            }
            Kind::Rude if first && rng.one_in(3) => {
                self.rude(rng);
                Some(rng.below(SECOND))
            }
            _ if !self.is_authed => {
                self.is_authed = true;
                let user = if self.tls && rng.one_in(3) { "" } else { USER };
                self.write(&wire::auth(user, PASS));
                if rng.one_in(2) {
                    self.subscribe(now_sequences, rng);
                }
                Some(rng.below(2 * SECOND))
            }
            Kind::Steady => {
                if rng.one_in(4) || self.turns == 2 {
                    self.subscribe(now_sequences, rng);
                }
                self.write(&wire::frame(wire::HEARTBEAT, b""));
                Some(rng.range(SECOND..14 * SECOND))
            }
            Kind::Forgetful => {
                self.subscribe(now_sequences, rng);
                (self.turns < 4).then(|| rng.below(9 * SECOND))
            }
            Kind::Flooder => {
                let times = rng.pick(&[30, 39, 64, 99, 101, 400]);
                self.write(&wire::frame(wire::HEARTBEAT, b"").repeat(times));
                Some(rng.range(100 * MS..3 * SECOND))
            }
            Kind::Bulky => {
                let bytes = rng.pick(&[1_000, 1_024, 8_192, 8_193, 60_000, 65_536]);
                self.write(&wire::frame(0x80 | rng.next() as u8, &vec![7; bytes]));
                self.write(&wire::frame(wire::HEARTBEAT, b""));
                Some(rng.range(SECOND..9 * SECOND))
            }
            Kind::Leaver => {
                self.subscribe(now_sequences, rng);
                if rng.one_in(3) {
                    self.rude(rng);
                }
                if rng.one_in(2) {
                    self.end = Some(rng.pick(&[End::Fin, End::Reset]));
                    return None;
                }
                Some(rng.below(3 * SECOND))
            }
            Kind::Rude => {
                if rng.one_in(2) {
                    self.subscribe(now_sequences, rng);
                }
                self.rude(rng);
                rng.one_in(2).then(|| rng.below(SECOND))
            }
            Kind::Publisher(_) => self.publish(moment, rng),
        }
    }

    fn publish(&mut self, moment: Moment, rng: &mut Rng) -> Option<u64> {
        if self.heartbeat + 5 * SECOND <= moment.mono {
            self.heartbeat = moment.mono;
            self.write(&wire::frame(wire::HEARTBEAT, b""));
        }
        let turn = self.publisher.as_mut()?.turn(moment.mono, moment.wall, rng);
        self.write(&turn.bytes);
        self.made.extend(turn.made);
        if turn.leaves {
            self.end = Some(rng.pick(&[End::Fin, End::Reset]));
            return None;
        }
        Some(turn.pause.min(4 * SECOND))
    }

    fn become_steady(&mut self, rng: &mut Rng) -> Option<u64> {
        (self.kind, self.is_authed) = (Kind::Steady, true);
        Some(rng.below(SECOND))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.written.extend(bytes);
    }

    fn subscribe(&mut self, now_sequences: [u64; 2], rng: &mut Rng) {
        let mode = rng.weighted(&[3, 1]);
        let live = now_sequences[mode];
        let resume_after = match rng.below(8) {
            0 => Some(live.saturating_sub(rng.below(50))),
            1 => Some(live.saturating_sub(rng.below(100_000))),
            2 => Some(live + rng.below(4)),
            3 if rng.one_in(3) => Some(rng.pick(&[0, live / 2, live + 10_000, u64::MAX - 1, u64::MAX])),
            _ => None,
        };
        self.write(&wire::subscribe(mode as u64, resume_after));
    }

    /// Something that isn't allowed, or hardly.
    fn rude(&mut self, rng: &mut Rng) {
        let mut bytes = match rng.below(14) {
            0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            1 => wire::auth(USER, PASS),
            2 => wire::frame(rng.pick(&[wire::DATA_BATCH, wire::ERROR, wire::ACK, wire::GOAWAY]), b""),
            3 => wire::frame(rng.pick(&[0, 8, 0x10, 0x1f, 0x7f]), b"?"),
            4 => wire::frame(rng.pick(&[0x80, 0xff]), b"of a later version"),
            5 => wire::frame(wire::HEARTBEAT, b"x"),
            6 => wire::frame(
                wire::SUBSCRIBE,
                rng.pick(&[&b"\x08"[..], b"\x08\x02", b"\x0a\x01x", b"\xff\xff\xff"]),
            ),
            7 => wire::subscribe(rng.pick(&[2, u64::MAX, 1 << 32]), None),
            8 => [b"TS\x02".to_vec(), vec![3; 9]].concat(),
            9 => [
                b"TS\x01\x03".to_vec(),
                rng.pick(&[u32::MAX, 1 << 31, 65_537, 4_097, 8_000]).to_be_bytes().to_vec(),
            ]
            .concat(),
            // a field of a later version, and one that is there twice
            10 => wire::frame(wire::SUBSCRIBE, b"\x08\x01\x7a\x03new\x08\x00"),
            11 => wire::frame(wire::AUTH, b"\x0a\x02\xff\xfe"),
            12 => wire::frame(wire::SUBSCRIBE, b"")[..rng.range(1..11) as usize].to_vec(),
            _ => wire::frame(wire::HEARTBEAT, b""),
        };
        if rng.one_in(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        self.write(&bytes);
    }
}

/// The first bytes of a connection through a proxy: a header, valid or not, and whom it names.
pub fn proxy_header(source: SocketAddr, rng: &mut Rng) -> (Vec<u8>, Option<SocketAddr>, bool) {
    let v2 = |command: u8, protocol: u8, block: &[u8]| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([command, protocol]);
        bytes.extend((block.len() as u16).to_be_bytes());
        bytes.extend(block);
        bytes
    };
    let (family, port) = (if source.is_ipv4() { "TCP4" } else { "TCP6" }, source.port());
    let mut block = Vec::new();
    match source.ip() {
        IpAddr::V4(ip) => [ip.octets(); 2].iter().for_each(|octets| block.extend(octets)),
        IpAddr::V6(ip) => [ip.octets(); 2].iter().for_each(|octets| block.extend(octets)),
    }
    block.extend(port.to_be_bytes());
    block.extend(7_400_u16.to_be_bytes());
    let protocol = if source.is_ipv4() { 0x11 } else { 0x21 };
    match rng.below(12) {
        0 => (b"PROXY UNKNOWN\r\n".to_vec(), None, true),
        1 => (v2(0x20, 0, b""), None, true),
        2 => (b"PROXY TCP4 x\r\n".to_vec(), None, false),
        3 => (v2(0x21, protocol, &block[..block.len() - 1]), None, false),
        4 => (v2(0x31, protocol, &block), None, false),
        5 | 6 => {
            let tlvs = [&block[..], b"\x04\0\x02ok"].concat();
            (v2(0x21, protocol, &tlvs), Some(source), true)
        }
        7 | 8 => (v2(0x21, protocol, &block), Some(source), true),
        _ => {
            let line = format!("PROXY {family} {ip} {ip} {port} 7400\r\n", ip = source.ip());
            (line.into_bytes(), Some(source), true)
        }
    }
}
