//! A shard with a journal that takes records, and syncs or refuses them when it is told.

use tickstream_schema::events::{Event, Publish, StoredBatch};
use tickstream_schema::events::{Message, PublishAck};
use tickstream_wire::frame;

use super::super::world::{Seen, World, config};
use crate::ingest::tests::samples::log;
use crate::{CloseReason, Config, IngestConfig, RecordId, RejectionCode, StorageFault};

/// A record that the journal took.
#[derive(Clone, Debug)]
pub struct Kept {
    pub id: RecordId,
    pub producer: [u8; 16],
    pub sequence: u64,
    pub events: u32,
    pub payload: Vec<u8>,
}

impl Kept {
    pub fn batch(&self) -> StoredBatch {
        let batch = StoredBatch::decode(&self.payload[..]).expect("a StoredBatch");
        assert_eq!(batch.events.len(), self.events as usize);
        batch
    }
}

/// A world with a journal.
pub struct Site {
    pub world: World,
    pub appended: Vec<Kept>,
}

pub fn collecting(change: impl FnOnce(&mut IngestConfig)) -> Config {
    let mut ingest = IngestConfig::new("server-1", 7);
    change(&mut ingest);
    Config { ingest: Some(ingest), ..config() }
}

impl Site {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut IngestConfig)) -> Self {
        Self { world: World::new(collecting(change)), appended: Vec::new() }
    }

    /// A connection that has authenticated.
    pub fn publisher(&mut self) -> usize {
        let client = self.world.connect();
        self.world.send_auth(client);
        assert_eq!(self.world.client(client).take(), [Seen::AckAuth]);
        client
    }

    pub fn publish(&mut self, client: usize, publish: &Publish) {
        self.world.send(client, &frame::seal_as(frame::FrameType::Publish, publish));
        self.append();
    }

    /// The journal takes what there is.
    pub fn append(&mut self) {
        while let Some(record) = self.world.shard.poll_record() {
            self.appended.push(Kept {
                id: record.id,
                producer: record.producer,
                sequence: record.sequence,
                events: record.events,
                payload: record.payload.to_vec(),
            });
        }
    }

    /// The journal syncs all that it took.
    pub fn sync(&mut self) {
        if let Some(last) = self.appended.last() {
            self.world.shard.records_synced(last.id);
        }
        self.world.settle();
    }

    pub fn refuse(&mut self, id: u64, fault: StorageFault) {
        self.world.shard.record_refused(RecordId(id), fault);
        self.world.settle();
    }

    /// The PUBLISH_ACKs that a client got since the last call, and nothing else.
    pub fn acks(&mut self, client: usize) -> Vec<PublishAck> {
        let seen = self.world.client(client).take().into_iter();
        seen.map(|seen| match seen {
            Seen::PublishAck(ack) => ack,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    /// Sequence, accepted and duplicates of them; none has a rejection.
    pub fn acked(&mut self, client: usize) -> Vec<(u64, u32, u32)> {
        let acks = self.acks(client).into_iter();
        acks.map(|ack| {
            assert_eq!(ack.rejected, [], "of {}", ack.sequence);
            (ack.sequence, ack.accepted, ack.duplicates)
        })
        .collect()
    }

    pub fn stored(&self) -> Vec<Event> {
        self.appended.iter().flat_map(|record| record.batch().events).collect()
    }

    /// The client was closed with this ERROR, for this reason.
    pub fn assert_closed(&mut self, client: usize, error: &str, reason: CloseReason) {
        assert!(self.world.client(client).closed);
        let seen = self.world.client(client).take();
        assert!(seen.contains(&Seen::Error(error.to_owned())), "{seen:?}");
        assert_eq!(self.world.reasons(), [reason]);
    }
}

/// `count` small events, numbered from `first` on.
pub fn logs(first: u64, count: u64) -> Vec<Event> {
    (first..first + count).map(log).collect()
}

/// Index and code of each rejection; whether it is retryable agrees with the code.
pub fn rejections(ack: &PublishAck) -> Vec<(u32, &str)> {
    for rejected in &ack.rejected {
        let code =
            RejectionCode::ALL.into_iter().find(|code| code.as_str() == rejected.code).expect("a code");
        assert_eq!(code.is_retryable(), rejected.retryable);
    }
    ack.rejected.iter().map(|rejected| (rejected.index, &*rejected.code)).collect()
}
