//! Counters of a shard, and its view of connections.

use tickstream_wire::messages::Mode;

use super::world::{Seen, World, config};
use crate::clock::{MS, SECOND};
use crate::{CloseReason, Connection, Latencies, Rate, Standing, StreamCounters};

/// Upper bounds of the buckets that aren't empty, microseconds, each with its count.
fn latencies(world: &World) -> Vec<(u64, u64)> {
    let counts = world.shard.latencies().counts().iter();
    let buckets = Latencies::BOUNDS_NS.iter().zip(counts).filter(|(_, count)| **count > 0);
    buckets.map(|(bound, count)| (bound / 1_000, *count)).collect()
}

fn stream(world: &World, mode: Mode) -> StreamCounters {
    *world.shard.counters().stream(mode)
}

fn connection(world: &mut World, client: usize) -> Connection {
    let slot = world.client(client).id.slot;
    world.shard.connection(slot).expect("it is open")
}

#[test]
fn each_live_frame_is_timed_from_when_its_tick_was_due() {
    let mut world = World::new(config());
    for _ in 0..5 {
        world.subscribed(Mode::Second, None);
    }
    world.run(SECOND);
    assert_eq!(latencies(&world), [(10, 5)], "sent at the moment that the tick was due");
    world.actions_per_ms = Some(1);
    world.run(SECOND);
    assert_eq!(latencies(&world), [(10, 6), (1_000, 1), (2_000, 1), (3_000, 1), (4_000, 1)]);
    assert_eq!(world.shard.latencies().sum_ns(), 10 * MS);
    let counted = stream(&world, Mode::Second);
    assert_eq!((counted.batches, counted.ticks), (2, 2));
    assert_eq!((counted.frames_sent, counted.ticks_sent, counted.ticks_late), (10, 10, 0));
    assert_eq!(counted.subscribers, 5);
}

#[test]
fn a_batch_is_timed_from_its_first_tick() {
    let mut world = World::with(|config| config.second = Rate::new(Mode::Second, 1_000).unwrap());
    world.subscribed(Mode::Second, None);
    world.run(SECOND);
    let counted = stream(&world, Mode::Second);
    assert_eq!((counted.batches, counted.ticks, counted.ticks_sent), (200, 1_000, 1_000));
    assert_eq!(counted.batch_sizes[StreamCounters::batch_size(5)], 200);
    assert_eq!(latencies(&world), [(4_000, 200)], "five ticks a millisecond apart wait for the last");
}

#[test]
fn a_replay_is_counted_but_not_timed() {
    let mut world = World::new(config());
    world.subscribed(Mode::Second, Some(900));
    world.run(0);
    let counted = stream(&world, Mode::Second);
    assert_eq!((counted.replays, counted.frames_sent, counted.ticks_sent), (1, 1, 100));
    assert_eq!((counted.batches, latencies(&world)), (0, vec![]));
    world.run(SECOND);
    assert_eq!((stream(&world, Mode::Second).ticks_sent, latencies(&world)), (101, vec![(10, 1)]));
}

#[test]
fn a_frame_that_waited_for_its_socket_is_timed_to_its_last_byte() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.client(client).room = Some(10);
    world.heartbeats(true);
    world.run(500 * MS + 2_300 * MS);
    assert_eq!(latencies(&world), []);
    let seen = connection(&mut world, client);
    assert!(seen.lagging, "{seen:?}");
    assert_eq!((seen.unsent_ms, seen.ticks_behind), (2_300, 2));
    assert_eq!(seen.mode, Some(Mode::Second));
    world.widen(client, 1 << 20);
    world.run(0);
    // Its first tick is 2.3 s late, those after it 1.3 and 0.3.
    assert_eq!(latencies(&world), [(300_000, 1), (1_500_000, 1), (2_500_000, 1)]);
    let seen = connection(&mut world, client);
    assert_eq!((seen.lagging, seen.unsent_ms, seen.ticks_behind), (false, 0, 0));
    assert_eq!(seen.bytes_sent, world.shard.counters().bytes_sent);
}

#[test]
fn ticks_that_are_sealed_late_are_counted() {
    let mut world = World::with(|config| config.second = Rate::new(Mode::Second, 10).unwrap());
    world.subscribed(Mode::Second, None);
    world.run(SECOND);
    assert_eq!(stream(&world, Mode::Second).ticks_late, 0);
    world.stall(SECOND);
    world.run(0);
    // Of the ten of that second, the last is due now.
    let counted = stream(&world, Mode::Second);
    assert_eq!((counted.ticks, counted.ticks_late, counted.ticks_skipped), (20, 9, 0));
}

#[test]
fn streams_are_counted_apart() {
    let mut world = World::new(config());
    let moving = world.subscribed(Mode::Second, None);
    world.subscribed(Mode::Minute, None);
    world.heartbeats(true);
    world.run(20 * SECOND);
    let subscribers =
        |world: &World| [Mode::Second, Mode::Minute].map(|mode| stream(world, mode).subscribers);
    assert_eq!(subscribers(&world), [1, 1]);
    assert_eq!((stream(&world, Mode::Second).ticks_sent, stream(&world, Mode::Minute).ticks_sent), (20, 1));
    world.send_subscribe(moving, Mode::Minute, None);
    assert_eq!(subscribers(&world), [0, 2]);
    world.hang_up(moving);
    assert_eq!(subscribers(&world), [0, 1]);
}

#[test]
fn an_operator_closes_a_connection_once() {
    let mut world = World::new(config());
    let (kicked, other) = (world.subscribed(Mode::Second, None), world.subscribed(Mode::Second, None));
    assert_eq!(connection(&mut world, kicked).standing, Standing::Authenticated);
    let id = world.client(kicked).id;
    assert!(world.shard.kick(id));
    assert_eq!(connection(&mut world, kicked).standing, Standing::Closing);
    assert!(!world.shard.kick(id), "its end is decided");
    world.run(3 * SECOND);
    let seen = world.client(kicked).take();
    assert_eq!(seen[seen.len() - 2..], [Seen::Error("SHUTTING_DOWN".into()), Seen::Fin]);
    assert_eq!(world.reasons(), [CloseReason::Kicked]);
    assert!(world.shard.connection(id.slot).is_none(), "its slot is free");
    assert!(!world.shard.kick(id));
    assert_eq!(world.client(other).sequences().len(), 3);
}
