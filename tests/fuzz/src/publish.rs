//! Event collection (faults 7, 9): batches of any bytes, and a journal that syncs, refuses and is asked at any time.

use std::collections::HashMap;

use tickstream_engine::{
    Action, Config, ConnId, IngestConfig, IngestPressure, Now, PrivacyAction, PrivacyConfig, PrivacyRule,
    ProxyProtocol, RecordId, SendOutcome, Shard, StorageFault,
};
use tickstream_schema::events::{Codec, StoredBatch};
use tickstream_schema::events::{Message, Publish, PublishAck};
use tickstream_wire::messages::{Auth, Subscribe};
use tickstream_wire::{Decoder, frame};

use crate::bytes::Bytes;
use crate::memory::allocated;
use crate::session::settings;

const MS: u64 = 1_000_000;
/// Most that one operation may ask the allocator for, bytes: the largest window of a Zstandard frame and its decoder,
/// a batch unpacked, tables of known batches and ids, and a record.
const ALLOCATED_MAX: usize = 24 << 20;
/// Event ids that the shard remembers.
const EVENT_IDS: u32 = 256;
const PUBLISH: u8 = frame::FrameType::Publish as u8;
const PUBLISH_ACK: u8 = frame::FrameType::PublishAck as u8;

/// Small limits, so that they are reached, and a rule of each kind.
fn collecting() -> Config {
    let rules = [
        ("user_id", PrivacyAction::Hash),
        ("session_id", PrivacyAction::Mask),
        ("context.client_ip", PrivacyAction::Truncate),
        ("properties", PrivacyAction::Drop),
    ];
    let rules = rules.map(|(path, action)| PrivacyRule { path: path.to_owned(), action }).to_vec();
    let ingest = IngestConfig {
        credits: std::num::NonZeroU32::new(3).expect("not 0"),
        publish_bytes: 16_384,
        unpacked_bytes: 65_536,
        partial_bytes: 20_000,
        queue_bytes: 32_768,
        events_per_second: std::num::NonZeroU32::new(1_000),
        event_ids: EVENT_IDS,
        privacy: PrivacyConfig::new(rules, [7; 32], true).expect("rules"),
        ..IngestConfig::new("server-1", 7)
    };
    Config { ingest: Some(ingest), ..settings(ProxyProtocol::Off) }
}

/// A record that the journal was handed.
struct Kept {
    id: RecordId,
    producer: [u8; 16],
    sequence: u64,
    event_ids: Vec<Vec<u8>>,
    payload: Vec<u8>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Written,
    Synced,
    Refused,
}

struct Site {
    shard: Shard,
    now: Now,
    conns: Vec<ConnId>,
    records: Vec<Kept>,
    /// When an event id was last taken, counted in events.
    taken: HashMap<Vec<u8>, u64>,
    events: u64,
    synced_events: u64,
    acknowledged: u64,
}

/// The first byte of each operation says what, the next to whom.
///
/// # Panics
/// If the shard does, stores an event twice, acknowledges more than is stored, makes a record that is no `StoredBatch` or
/// can't be restored, or allocates without bound.
pub fn publish(input: &[u8]) {
    let mut bytes = Bytes(input);
    let now = Now { mono_ns: 1_000 * MS, unix_ns: 1_790_000_000_500 * MS };
    let mut site = Site {
        shard: Shard::new(collecting(), now),
        now,
        conns: Vec::new(),
        records: Vec::new(),
        taken: HashMap::new(),
        events: 0,
        synced_events: 0,
        acknowledged: 0,
    };
    while let (Some(what), Some(whom)) = (bytes.next(), bytes.next()) {
        site.operate(what, whom, &mut bytes);
        site.shard.handle_timeout(site.now);
        while site.shard.poll_report().is_some() {}
        site.act(whom & 0x40 == 0);
        assert_eq!(site.shard.counters().ingest.accepted, site.synced_events);
        assert!(site.acknowledged <= site.synced_events, "acknowledged before it is stored");
    }
    site.restart();
}

impl Site {
    fn operate(&mut self, what: u8, whom: u8, bytes: &mut Bytes<'_>) {
        let Some(&conn) = self.conns.get(usize::from(whom & 3)) else { return self.connect() };
        let shard = &mut self.shard;
        let ((), allocated) = allocated(|| match what % 12 {
            // A PUBLISH of any bytes.
            0 => {
                let length = usize::from(bytes.next_u16());
                let payload = bytes.take(length);
                let mut sealed = Vec::new();
                frame::seal_with(&mut sealed, PUBLISH, |out| out.extend_from_slice(payload));
                shard.received(conn, &sealed);
            }
            // Events of any bytes in an envelope that is right, in two pieces.
            1..=3 => {
                let sequence = u64::from(bytes.next().unwrap_or(0)) + 1;
                let length = usize::from(bytes.next_u16());
                let events = bytes.take(length);
                let codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(what % 12) - 1];
                let envelope = Publish {
                    producer_id: vec![whom | 1; 16],
                    sequence,
                    codec: codec.into(),
                    compressed: if codec == Codec::None { Vec::new() } else { events.to_vec() },
                    ..Publish::default()
                };
                let mut sealed = Vec::new();
                frame::seal_with(&mut sealed, PUBLISH, |out| {
                    out.extend_from_slice(&envelope.encode_to_vec());
                    if codec == Codec::None {
                        out.extend_from_slice(events);
                    }
                });
                let (first, second) = sealed.split_at(usize::from(whom >> 2) * 64 % sealed.len());
                shard.received(conn, first);
                shard.received(conn, second);
            }
            // Part of a frame.
            4 => {
                let length = usize::from(bytes.next_u16());
                shard.received(conn, bytes.take(length));
            }
            5 => shard.peer_closed(conn),
            6 => shard.set_ingest_pressure(match whom >> 2 & 3 {
                0 => IngestPressure::Refuse { ms: 20 },
                1 => IngestPressure::Throttle { ms: 20 },
                _ => IngestPressure::None,
            }),
            7 => {
                self.now.mono_ns += u64::from(whom) * 10 * MS;
                self.now.unix_ns += u64::from(whom) * 10 * MS;
                shard.received(conn, &frame::heartbeat());
            }
            8 => {
                shard.received(conn, &frame::seal(&Subscribe { mode: 0, resume_after: None }));
            }
            _ => {}
        });
        assert!(allocated <= ALLOCATED_MAX, "one operation allocates {allocated} bytes");
        match what % 12 {
            9 => self.append(usize::from(whom >> 2)),
            10 => self.sync(usize::from(whom >> 2)),
            11 => self.refuse(usize::from(whom >> 2)),
            _ => {}
        }
    }

    fn connect(&mut self) {
        if let Ok(conn) = self.shard.accept(([192, 0, 2, 1], 5_000).into(), false) {
            self.conns.push(conn);
            let auth = Auth { username: "ada".to_owned(), password: "s3cret".to_owned(), client: None };
            self.shard.received(conn, &frame::seal(&auth));
        }
    }

    /// The journal takes up to `most` records.
    fn append(&mut self, most: usize) {
        for _ in 0..most {
            let Some(record) = self.shard.poll_record() else { return };
            let batch = StoredBatch::decode(record.payload).expect("a StoredBatch");
            assert_eq!(batch.events.len(), record.events as usize);
            assert!(!batch.events.is_empty() || !batch.dead_letters.is_empty(), "an empty record");
            assert!(batch.peer == "192.0.2.0", "the peer {:?} isn't truncated", batch.peer);
            let mut event_ids = Vec::new();
            for event in batch.events {
                assert!(event.properties.is_empty(), "a field that a rule drops");
                assert!(["", "***"].contains(&&*event.session_id), "a field that a rule masks");
                assert!(event.user_id.is_none_or(|user| user.len() == 32), "a field that a rule hashes");
                if let Some(before) = self.taken.insert(event.event_id.clone(), self.events) {
                    let since = self.events - before;
                    assert!(since >= u64::from(EVENT_IDS), "stored twice, {since} events apart");
                }
                self.events += 1;
                event_ids.push(event.event_id);
            }
            self.records.push(Kept {
                id: record.id,
                producer: record.producer,
                sequence: record.sequence,
                event_ids,
                payload: record.payload.to_vec(),
                fate: Fate::Written,
            });
        }
    }

    /// The oldest `most` records that aren't are on stable storage.
    fn sync(&mut self, most: usize) {
        let mut up_to = None;
        for record in self.records.iter_mut().filter(|record| record.fate == Fate::Written).take(most) {
            record.fate = Fate::Synced;
            self.synced_events += record.event_ids.len() as u64;
            up_to = Some(record.id);
        }
        if let Some(up_to) = up_to {
            self.shard.records_synced(up_to);
        }
    }

    /// A record isn't stored.
    fn refuse(&mut self, which: usize) {
        let mut written = self.records.iter_mut().filter(|record| record.fate == Fate::Written);
        let Some(record) = written.nth(which) else { return };
        record.fate = Fate::Refused;
        for id in &record.event_ids {
            self.taken.remove(id);
        }
        self.shard.record_refused(record.id, [StorageFault::Full, StorageFault::Failed][which % 2]);
    }

    /// The driver sends what there is.
    fn act(&mut self, takes_all: bool) {
        for _ in 0..256 {
            let Some(action) = self.shard.poll_action() else { break };
            match action {
                Action::Send { conn, frame, offset } => {
                    let bytes = frame.as_bytes();
                    if offset == 0 {
                        self.read(bytes);
                    }
                    let length = bytes.len() as u32 - offset;
                    let sent = if takes_all { length } else { length.div_ceil(2) };
                    self.shard.sent(conn, SendOutcome::Sent(sent));
                }
                Action::Close { conn, .. } => self.conns.retain(|other| *other != conn),
                Action::AwaitWritable { .. } | Action::Shutdown { .. } => {}
            }
        }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        let mut decoder = Decoder::new();
        let frame = decoder.next(&mut bytes, 1 << 20).expect("a frame").expect("a whole frame");
        if frame.kind == PUBLISH_ACK {
            let ack = PublishAck::decode(frame.payload).expect("a PUBLISH_ACK");
            assert!(ack.rejected.is_sorted_by_key(|rejected| rejected.index), "by rising index");
            self.acknowledged += u64::from(ack.accepted);
        }
    }

    /// Restores what was stored, into another shard.
    fn restart(&mut self) {
        let mut shard = Shard::new(collecting(), self.now);
        for record in self.records.iter().filter(|record| record.fate == Fate::Synced) {
            shard.restore(record.producer, record.sequence, &record.payload).expect("a record of its own");
        }
    }
}
