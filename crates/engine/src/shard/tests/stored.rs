//! PUBLISH_ACK and the record for the journal holds, where the two could part.

use tickstream_schema::events::{Event, Publish, StoredBatch};
use tickstream_schema::events::{Message, PublishAck};
use tickstream_wire::frame;

use super::world::{Seen, World, config};
use crate::ingest::tests::samples::{log, publish};
use crate::{Config, IngestConfig, RecordId};

fn world(change: impl FnOnce(&mut IngestConfig)) -> World {
    let mut ingest = IngestConfig::new("server-1", 7);
    change(&mut ingest);
    World::new(Config { ingest: Some(ingest), ..config() })
}

/// A connection that has authenticated.
fn publisher(world: &mut World) -> usize {
    let client = world.connect();
    world.send_auth(client);
    assert_eq!(world.client(client).take(), [Seen::AckAuth]);
    client
}

/// The journal's share: the payloads of all records that wait.
fn records(world: &mut World) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| world.shard.poll_record().map(|record| record.payload.to_vec())).collect()
}

fn acks(world: &mut World, client: usize) -> Vec<PublishAck> {
    let seen = world.client(client).take().into_iter();
    seen.map(|seen| match seen {
        Seen::PublishAck(ack) => ack,
        other => panic!("{other:?}"),
    })
    .collect()
}

/// A batch of one event that no server takes.
fn bad() -> Publish {
    publish(1, 1, vec![Event { platform: String::new(), ..log(1) }])
}

#[test]
fn a_verdict_that_comes_again_waits_for_the_dead_letter_of_the_first() {
    let mut world = world(|_| {});
    let (first, second) = (publisher(&mut world), publisher(&mut world));
    for client in [first, second] {
        world.send(client, &frame::seal_as(frame::FrameType::Publish, &bad()));
    }
    assert_eq!(records(&mut world).len(), 1);
    assert_eq!((acks(&mut world, first), acks(&mut world, second)), (vec![], vec![]));
    world.shard.records_synced(RecordId(1));
    world.settle();
    let first_acks = acks(&mut world, first);
    assert_eq!(first_acks[0].rejected[0].code, "FIELD_MISSING");
    assert_eq!(first_acks, acks(&mut world, second));
}

/// Key or length in the ten bytes that a varint may have at most.
fn long_varint(value: u8) -> [u8; 10] {
    let mut bytes = [0x80; 10];
    (bytes[0], bytes[9]) = (value | 0x80, 0);
    bytes
}

#[test]
fn no_record_is_larger_than_the_limit_however_its_events_were_encoded() {
    const LIMIT: usize = 256 << 10;
    // Heads of different lengths, so that the last event that fits leaves more or less of a rest.
    for name in (0..200).step_by(9) {
        let mut world = world(|ingest| {
            ingest.server = "n".repeat(name).into();
            ingest.record_bytes = LIMIT as u32;
        });
        let client = publisher(&mut world);
        let mut payload = publish(1, 1, vec![]).encode_to_vec();
        for number in 1..=2_000 {
            let event = log(number).encode_to_vec();
            payload.extend(long_varint(0x1A));
            let mut length = long_varint(event.len() as u8);
            length[1] |= (event.len() >> 7) as u8;
            payload.extend(length);
            payload.extend(event);
        }
        let mut bytes = Vec::new();
        frame::seal_with(&mut bytes, 0x10, |out| out.extend(payload));
        world.send(client, &bytes);
        let record = records(&mut world).remove(0);
        let batch = StoredBatch::decode(&record[..]).unwrap();
        assert!(batch.is_partial && batch.events.len() > 1_000, "{}", batch.events.len());
        assert!(record.len() <= LIMIT, "{} bytes are above the limit of {LIMIT}", record.len());
    }
}
