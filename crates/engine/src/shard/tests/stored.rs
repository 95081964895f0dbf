//! What a PUBLISH_ACK says, and what the record for the journal holds, where the two could part.

use tickstream_wire::frame;
use tickstream_wire::messages::PublishAck;
use tickstream_wire::messages::events::{Event, Publish};

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

/// What the journal gets: the payloads of all records that wait.
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
        world.send(client, &frame::seal(&bad()));
    }
    assert_eq!(records(&mut world).len(), 1);
    assert_eq!((acks(&mut world, first), acks(&mut world, second)), (vec![], vec![]));
    world.shard.records_synced(RecordId(1));
    world.settle();
    let told = acks(&mut world, first);
    assert_eq!(told[0].rejected[0].code, "FIELD_MISSING");
    assert_eq!(told, acks(&mut world, second));
}
