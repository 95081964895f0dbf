//! Events and PUBLISHes, of which is known from how they are made what becomes of them. Written from docs/protocol.md and
//! docs/events.md: nothing here calls the crate that is tested.

use std::fmt;
use std::rc::Rc;

use crate::rng::Rng;
use crate::ticks::MS;
use crate::wire::{self, put_bytes, put_number};

/// As it stands in every record.
pub const SERVER: &str = "sim";

/// An event, with what is wrong with it whatever the time is.
pub struct Event {
    pub id: [u8; 16],
    /// When it happened, Unix time, nanoseconds.
    pub timestamp: u64,
    pub bytes: Vec<u8>,
    pub fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NoPlatform,
    TwoPlatforms,
    LongName,
    NotUtf8,
    Broken,
    NoBody,
}

const FAULTS: [Fault; 6] =
    [Fault::NoPlatform, Fault::TwoPlatforms, Fault::LongName, Fault::NotUtf8, Fault::Broken, Fault::NoBody];

/// A rejection that holds for good: code and message.
pub type Reason = (&'static str, String);

impl Fault {
    fn reason(self) -> Reason {
        let (code, message) = match self {
            Self::NoPlatform => ("FIELD_MISSING", "platform: required"),
            Self::TwoPlatforms => ("FIELD_REPEATED", "platform: there may be one, there are more"),
            Self::LongName => ("FIELD_TOO_LONG", "event_name: 200 bytes, at most 128 are allowed"),
            Self::NotUtf8 => ("INVALID_UTF8", "platform: not UTF-8"),
            Self::Broken => ("MALFORMED", "event_id: no protobuf message of its type"),
            Self::NoBody => ("BODY_MISMATCH", "body: there must be one, and the one that event_type names"),
        };
        (code, message.to_owned())
    }
}

/// Settings of event collection in plain numbers.
#[derive(Clone, Debug)]
pub struct EventRules {
    pub credits: u32,
    pub publish_bytes: u32,
    pub unpacked_bytes: u32,
    pub partial_bytes: u64,
    pub queue_bytes: u64,
    /// 0: no limit.
    pub events_per_second: u32,
    pub event_ids: u32,
    pub ahead_ms: u64,
    pub age_ms: u64,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, bytes) = (u128::from_be_bytes(self.id), self.bytes.len());
        write!(f, "event {id:032x} of {}, {bytes} bytes, {:?}", self.timestamp, self.fault)
    }
}

impl Event {
    /// An event that happened at `timestamp`, of some `bytes`.
    pub fn new(timestamp: u64, bytes: usize, fault: Option<Fault>, rng: &mut Rng) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&rng.next().to_le_bytes());
        id[8..].copy_from_slice(&rng.next().to_le_bytes());
        let mut out = Vec::new();
        if fault == Some(Fault::Broken) {
            return Self { id, timestamp, bytes: b"\x0a\x09x".to_vec(), fault };
        }
        put_bytes(&mut out, 1, &id);
        out.push(2 << 3 | 1);
        out.extend(timestamp.to_le_bytes());
        match fault {
            Some(Fault::NoPlatform) => {}
            Some(Fault::TwoPlatforms) => {
                put_bytes(&mut out, 3, b"linux");
                put_bytes(&mut out, 3, b"linux");
            }
            Some(Fault::NotUtf8) => put_bytes(&mut out, 3, b"\xff\xff"),
            _ => put_bytes(&mut out, 3, b"linux"),
        }
        let is_log = rng.one_in(2);
        put_number(&mut out, 6, if is_log { 6 } else { 8 });
        let name = if fault == Some(Fault::LongName) { 200 } else { rng.range(1..40) as usize };
        put_bytes(&mut out, 7, &vec![b'n'; name]);
        let mut body = Vec::new();
        if is_log {
            put_bytes(&mut body, 1, b"shop");
            put_number(&mut body, 2, rng.range(1..6));
            put_bytes(&mut body, 3, &vec![b'm'; bytes.max(1)]);
        } else {
            put_bytes(&mut body, 4, &vec![rng.next() as u8; bytes]);
        }
        if fault != Some(Fault::NoBody) {
            put_bytes(&mut out, if is_log { 15 } else { 17 }, &body);
        }
        if rng.one_in(8) {
            // a field of a later version, which is kept
            put_bytes(&mut out, 100, b"later");
        }
        Self { id, timestamp, bytes: out, fault }
    }

    pub fn any_fault(rng: &mut Rng) -> Fault {
        rng.pick(&FAULTS)
    }

    /// Why it is rejected for good if it comes at `now`, if it is.
    pub fn reason(&self, rules: &EventRules, now: u64) -> Option<Reason> {
        if let Some(fault) = self.fault {
            return Some(fault.reason());
        }
        let (ahead, age) = (self.timestamp.saturating_sub(now), now.saturating_sub(self.timestamp));
        if ahead > rules.ahead_ms * MS {
            let (found, most) = (ahead / MS, rules.ahead_ms);
            let says =
                format!("timestamp: {found} ms ahead of the server's clock, at most {most} are allowed");
            return Some(("CLOCK_AHEAD", says));
        }
        if age > rules.age_ms * MS {
            let (found, most) = (age / MS, rules.age_ms);
            return Some(("TOO_OLD", format!("timestamp: {found} ms ago, at most {most} are allowed")));
        }
        None
    }

    /// A dead letter keeps its bytes.
    pub fn is_readable(&self) -> bool {
        !matches!(self.fault, Some(Fault::Broken | Fault::NotUtf8))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Lz4,
    Zstd,
}

/// A batch: who numbers it, its number, what is in it.
#[derive(Clone, Debug)]
pub struct Batch {
    pub producer: [u8; 16],
    pub sequence: u64,
    pub events: Vec<Rc<Event>>,
    pub codec: Codec,
}

/// A PUBLISH as its maker knows it.
pub struct Publish {
    pub what: What,
    pub payload: Vec<u8>,
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {:?}", self.payload.len(), self.what)
    }
}

#[derive(Debug)]
pub enum What {
    /// `unpacked`: bytes of the EventBatch, where it is packed.
    Batch { batch: Batch, unpacked: Option<usize> },
    /// The event breaks a rule about its fields.
    Bad,
}

impl Publish {
    pub fn new(batch: Batch, rng: &mut Rng) -> Self {
        let (payload, unpacked) = encode(&batch, rng);
        Self { what: What::Batch { batch, unpacked }, payload }
    }

    /// The same batch, but for a rule about its fields that it breaks.
    pub fn bad(mut batch: Batch, rng: &mut Rng) -> Self {
        batch.codec = Codec::None;
        let (producer, sequence) = (&batch.producer[..], batch.sequence);
        let plain = events(&batch.events, rng);
        let head = |producer: &[u8], sequence| {
            let mut out = Vec::new();
            put_bytes(&mut out, 1, producer);
            put_number(&mut out, 2, sequence);
            out
        };
        let packed = |codec: u64, bytes: &[u8]| {
            let mut out = head(producer, sequence);
            put_number(&mut out, 4, codec);
            put_bytes(&mut out, 5, bytes);
            out
        };
        let payload = match rng.below(13) {
            0 => [head(&producer[1..], sequence), plain].concat(),
            1 => [head(&[0; 16], sequence), plain].concat(),
            2 => [head(producer, 0), plain].concat(),
            3 => head(producer, sequence),
            4 => packed(3, &lz4(&plain)),
            5 => packed(0, &lz4(&plain)),
            6 => [packed(1, &lz4(&plain)), plain].concat(),
            // an LZ4 block that is shorter than it says, or than its length
            7 => packed(1, &[&3_u32.to_le_bytes()[..], b"\x20ab"].concat()),
            8 => packed(1, b"\x01\x00"),
            9 => packed(2, b"\x28\xb5\x2f\xfe"),
            10 => packed(2, &[zstd(b"\x1a\x00"), b"more".to_vec()].concat()),
            // packed well, but no EventBatch
            11 => packed(rng.pick(&[1, 2]), b""),
            _ => [head(producer, sequence), b"\x1a\x7f\x00".to_vec()].concat(),
        };
        Self { what: What::Bad, payload }
    }

    /// A batch that unpacks to more than `most` bytes, from few.
    pub fn bomb(batch: Batch, most: usize, rng: &mut Rng) -> Self {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &batch.producer);
        put_number(&mut out, 2, batch.sequence);
        let unpacked = most + rng.range(1..100_000) as usize;
        if batch.codec == Codec::Lz4 {
            put_number(&mut out, 4, 1);
            put_bytes(&mut out, 5, &[&(unpacked as u32).to_le_bytes()[..], b"\x00"].concat());
        } else {
            put_number(&mut out, 4, 2);
            put_bytes(&mut out, 5, &zstd_of_one_byte(unpacked));
        }
        Self { what: What::Batch { batch, unpacked: Some(unpacked) }, payload: out }
    }

    pub fn batch(&self) -> &Batch {
        match &self.what {
            What::Batch { batch, .. } => batch,
            What::Bad => panic!("it has no events"),
        }
    }
}

fn encode(batch: &Batch, rng: &mut Rng) -> (Vec<u8>, Option<usize>) {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &batch.producer);
    put_number(&mut out, 2, batch.sequence);
    let plain = events(&batch.events, rng);
    let (codec, packed) = match batch.codec {
        Codec::None => {
            out.extend(plain);
            return (out, None);
        }
        Codec::Lz4 => (1, lz4(&plain)),
        Codec::Zstd => (2, zstd(&plain)),
    };
    put_number(&mut out, 4, codec);
    put_bytes(&mut out, 5, &packed);
    (out, Some(plain.len()))
}

/// Fields 3, now and then with one of a later version between them.
fn events(events: &[Rc<Event>], rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        put_bytes(&mut out, 3, &event.bytes);
        if rng.one_in(20) {
            put_number(&mut out, 9, 1);
        }
    }
    out
}

/// The unpacked length and one LZ4 block, of literals alone.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u32).to_le_bytes().to_vec();
    if bytes.len() < 15 {
        out.push((bytes.len() as u8) << 4);
    } else {
        out.push(0xf0);
        let rest = bytes.len() - 15;
        out.extend(vec![255; rest / 255]);
        out.push((rest % 255) as u8);
    }
    out.extend(bytes);
    out
}

/// Bytes of a Zstandard block, at most (RFC 8878, 3.1.1.2.3).
const ZSTD_BLOCK: usize = 128 << 10;

/// One Zstandard frame: a single segment of raw blocks.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = zstd_header(bytes.len());
    let mut rest = bytes;
    loop {
        let (block, behind) = rest.split_at(rest.len().min(ZSTD_BLOCK));
        zstd_block(&mut out, 0, block.len(), behind.is_empty());
        out.extend(block);
        if behind.is_empty() {
            return out;
        }
        rest = behind;
    }
}

/// One Zstandard frame of so many times the same byte.
fn zstd_of_one_byte(mut length: usize) -> Vec<u8> {
    let mut out = zstd_header(length);
    while length > 0 {
        let block = length.min(ZSTD_BLOCK);
        length -= block;
        zstd_block(&mut out, 1, block, length == 0);
        out.push(7);
    }
    out
}

/// Magic, and a frame header with a content size of 4 bytes.
fn zstd_header(length: usize) -> Vec<u8> {
    let mut out = b"\x28\xb5\x2f\xfd\xa0".to_vec();
    out.extend((length as u32).to_le_bytes());
    out
}

fn zstd_block(out: &mut Vec<u8>, kind: u32, length: usize, is_last: bool) {
    let header = u32::from(is_last) | kind << 1 | (length as u32) << 3;
    out.extend(&header.to_le_bytes()[..3]);
}

/// A PUBLISH_ACK.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ack {
    pub producer: Vec<u8>,
    pub sequence: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub throttle_ms: u64,
    pub rejected: Vec<Rejected>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    pub index: u64,
    pub code: String,
    pub message: String,
    pub is_retryable: bool,
}

impl Ack {
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        let mut ack = Self::default();
        for (field, value) in wire::fields(payload)? {
            match (field, value) {
                (1, wire::Value::Number(number)) => ack.sequence = number,
                (2, wire::Value::Number(number)) => ack.accepted = number,
                (3, wire::Value::Number(number)) => ack.duplicates = number,
                (4, wire::Value::Bytes(bytes)) => {
                    let read = wire::message(bytes, &[1, 4], &[2, 3])?;
                    ack.rejected.push(Rejected {
                        index: read.number(1),
                        code: read.text(2).to_owned(),
                        message: read.text(3).to_owned(),
                        is_retryable: read.number(4) != 0,
                    });
                }
                (5, wire::Value::Number(number)) => ack.throttle_ms = number,
                (6, wire::Value::Bytes(bytes)) => ack.producer = bytes.to_vec(),
                _ => return Err(format!("field {field} of a PUBLISH_ACK")),
            }
        }
        Ok(ack)
    }
}
