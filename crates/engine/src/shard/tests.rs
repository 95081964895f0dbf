//! Whole shards under virtual time: `World` plays driver, network and clients.

mod arrival;
mod counting;
mod publishing;
mod stored;
mod world;

use tickstream_wire::messages::Mode;

use crate::clock::{MS, SECOND};
use crate::close::CloseReason;
use crate::config::Phase;
pub(crate) use world::config;
use world::{Seen, World};

const HOUR: u64 = 3_600 * SECOND;

#[test]
fn auth_then_subscribe_then_ticks_at_the_boundary() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    assert_eq!(world.client(client).take(), [Seen::AckAuth, Seen::AckSubscribe { next: 1_001 }]);
    world.run(3 * SECOND);
    assert_eq!(
        world.client(client).take(),
        [1_001, 1_002, 1_003].map(|at| Seen::Batch { first: at, end: at + 1 })
    );
    assert_eq!(world.client(client).latest_ns, 0, "a single tick goes at once");
}

#[test]
fn minute_ticks_come_by_the_minute() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Minute, None);
    world.heartbeats(true);
    world.run(121 * SECOND);
    assert_eq!(world.client(client).sequences(), [17, 18]); // 1,020 s and 1,080 s
}

#[test]
fn ticks_of_a_batch_wait_for_the_last_of_the_window() {
    let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, 10_000).unwrap());
    let client = world.subscribed(Mode::Second, None);
    world.run(2 * SECOND);
    let batches = world.client(client).batches();
    assert!((398..=400).contains(&batches.len()), "{} batches in 2 s", batches.len());
    assert!(batches.iter().all(|(first, end)| end - first == 50 && first % 50 == 0), "{batches:?}");
    assert!(batches.windows(2).all(|pair| pair[0].1 == pair[1].0), "{batches:?}");
}

#[test]
fn the_heartbeat_deadline_runs_from_the_last_heartbeat_alone() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Minute, None);
    world.run(7 * SECOND);
    world.send_heartbeat(client);
    let last = world.now().mono_ns;
    world.run(10 * SECOND);
    world.send_subscribe(client, Mode::Minute, None);
    world.run_until_closed(client);
    let waited = world.now().mono_ns - last;
    assert!((20_000 * MS..=20_500 * MS).contains(&waited), "closed after {} ms", waited / MS);
    let seen = world.client(client).take();
    assert_eq!(seen[seen.len() - 2..], [Seen::Error("HEARTBEAT_TIMEOUT".into()), Seen::Fin]);
    assert!(seen.contains(&Seen::Heartbeat), "heartbeats are echoed");
}

#[test]
fn who_does_not_authenticate_in_time_is_closed() {
    let mut world = World::new(config());
    let client = world.connect();
    world.send(client, b"TS\x01\x01\0\0");
    let since = world.now().mono_ns;
    world.run_until_closed(client);
    assert!((5_000 * MS..=5_100 * MS).contains(&(world.now().mono_ns - since)));
    assert_eq!(world.client(client).take(), [Seen::Error("AUTH_REQUIRED".into()), Seen::Fin]);
    assert_eq!(world.reasons(), [CloseReason::AuthTimeout]);
}

#[test]
fn bytes_that_are_no_frame_get_no_answer() {
    let mut world = World::new(config());
    let client = world.connect();
    world.send(client, b"G");
    assert_eq!(world.client(client).take(), [Seen::Fin]);
    world.run(3 * SECOND);
    assert!(world.client(client).released, "lingering is bounded");
    assert_eq!(world.shard.counters().connections, 0);
}

#[test]
fn a_stalled_subscriber_is_closed_at_the_write_deadline_and_costs_nobody_else() {
    let mut world = World::new(config());
    let (stalled, healthy) = (world.subscribed(Mode::Second, None), world.subscribed(Mode::Second, None));
    world.client(stalled).room = Some(20);
    world.heartbeats(true);
    world.run_until_closed(stalled);
    // its first tick, due at 1,001 s, didn't fit
    let waited = world.now().unix_ns - 1_001 * SECOND;
    assert!((5_000 * MS..=5_500 * MS).contains(&waited), "closed after {} ms", waited / MS);
    assert_eq!(world.client(stalled).take().last(), Some(&Seen::Reset));
    assert_eq!(world.reasons(), [CloseReason::SlowConsumer]);
    world.run(5 * SECOND);
    assert_eq!(world.client(healthy).latest_ns, 0);
    assert_eq!(world.client(healthy).sequences(), (1_001..1_012).collect::<Vec<_>>());
}

#[test]
fn a_drip_reader_is_judged_by_its_oldest_byte_not_by_its_progress() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.client(client).room = Some(0);
    world.heartbeats(true);
    for _ in 0..20 {
        world.run(900 * MS);
        world.widen(client, 2);
    }
    assert!(world.client(client).closed);
    assert_eq!(world.reasons(), [CloseReason::SlowConsumer]);
}

#[test]
fn a_laggard_that_recovers_gets_every_tick_in_order() {
    let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, 1_000).unwrap());
    let client = world.subscribed(Mode::Second, None);
    let first = world.client(client).next_announced();
    world.heartbeats(true);
    for round in 1..=8 {
        world.client(client).room = Some(37 * round);
        world.run(700 * MS * round % (4 * SECOND));
        assert!(world.shard.counters().lagging == 1);
        world.widen(client, 1 << 20);
        world.run(20 * MS);
    }
    world.client(client).room = None;
    world.run(SECOND);
    let sequences = world.client(client).sequences();
    assert_eq!(sequences, (first..first + sequences.len() as u64).collect::<Vec<_>>());
    assert_eq!(world.shard.counters().lagging, 0);
    assert_eq!(world.shard.counters().stream(Mode::Second).replays, 0, "laggards share the log's bytes");
}

#[test]
fn resume_replays_the_gap_exactly() {
    let check = |mode, resume_after, expected_first: u64| {
        let mut world = World::new(config());
        let client = world.subscribed(mode, Some(resume_after));
        world.heartbeats(true);
        world.run(130 * SECOND);
        assert_eq!(world.client(client).next_announced(), expected_first, "{mode:?} after {resume_after}");
        let sequences = world.client(client).sequences();
        let last = match mode {
            Mode::Second => 1_130,
            Mode::Minute => 18,
        };
        assert_eq!(sequences, (expected_first..=last).collect::<Vec<_>>(), "{mode:?} after {resume_after}");
    };
    // the shard stands at 1,000.5 s; its replay window is ten minutes
    check(Mode::Second, 990, 991);
    check(Mode::Second, 1_000, 1_001);
    check(Mode::Second, 1_003, 1_004);
    check(Mode::Second, 0, 1_001 - 600);
    check(Mode::Minute, 12, 13);
    check(Mode::Minute, 0, 17 - 10);
}

#[test]
fn a_position_that_cannot_be_starts_at_the_next_tick() {
    for after in [u64::MAX, u64::MAX - 1, 1_001 + 601, 10_005] {
        let mut world = World::new(config());
        let client = world.subscribed(Mode::Second, Some(after));
        world.run(3 * SECOND);
        assert_eq!(world.client(client).next_announced(), 1_001, "after {after}");
        assert_eq!(world.client(client).sequences(), [1_001, 1_002, 1_003], "after {after}");
    }
}

#[test]
fn another_rate_ends_nobody_and_replays_nothing() {
    let check = |ticks, after: u64, first: u64, last: u64| {
        let mut world = World::with(|config| {
            config.second = crate::Rate::new(Mode::Second, ticks).unwrap();
            config.limits.replay_window_ms = 20_000;
        });
        let client = world.subscribed(Mode::Second, Some(after));
        world.run(SECOND);
        assert!(!world.client(client).closed, "{ticks} ticks a second");
        assert_eq!(world.client(client).next_announced(), first, "{ticks} ticks a second");
        let expected: Vec<_> = (first..=last).collect();
        assert_eq!(world.client(client).sequences(), expected, "{ticks} ticks a second");
    };
    // The shard stands at 1,000.5 s, and the clients were at 10 ticks a second before.
    check(5, 10_004, 5_003, 5_007);
    check(9, 10_004, 9_005, 9_013);
    check(10, 10_004, 10_005, 10_015);
    check(20, 10_004, 20_011, 20_030);
    // Older than what is kept, of the same rate, and all there is.
    check(10, 9_600, 10_006 - 200, 10_015);
    check(20, 0, 20_011 - 400, 20_030);
}

#[test]
fn fault_9_extreme_numbers_in_every_field_are_answered() {
    let numbers = [0, 1, 2, 127, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
    let varint = |mut number: u64| {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    };
    for mode in numbers {
        for after in numbers {
            let mut world = World::new(config());
            let client = world.connect();
            world.send_auth(client);
            let payload = [&[0x08][..], &varint(mode), &[0x10], &varint(after)].concat();
            let mut bytes = Vec::new();
            tickstream_wire::frame::seal_with(&mut bytes, 2, |out| out.extend_from_slice(&payload));
            world.send(client, &bytes);
            // A mode is an int32: its low 32 bits count.
            let is_bad = mode as u32 > 1;
            let seen = world.client(client).take();
            let is_refused = seen.contains(&Seen::Error("BAD_FRAME".into()));
            assert_eq!(is_refused, is_bad, "mode {mode}, resume_after {after}: {seen:?}");
        }
    }
}

#[test]
fn a_long_replay_and_the_live_stream_join_without_a_seam() {
    let mut world = World::with(|config| {
        config.second = crate::Rate::new(Mode::Second, 10_000).unwrap();
        config.limits.replay_ticks = 50_000;
    });
    let other = world.subscribed(Mode::Second, None);
    world.run(2 * SECOND);
    let client = world.subscribed(Mode::Second, Some(1));
    world.client(client).room = Some(30_000);
    world.run(500 * MS);
    world.widen(client, 1 << 30);
    world.run(SECOND);
    let sequences = world.client(client).sequences();
    assert_eq!(sequences, (sequences[0]..sequences[0] + sequences.len() as u64).collect::<Vec<_>>());
    assert_eq!(sequences.last(), world.client(other).sequences().last());
    assert!(sequences.len() > 50_000);
}

#[test]
fn a_second_subscribe_switches_even_in_the_middle_of_a_frame() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.client(client).room = Some(10);
    world.run(1_500 * MS);
    world.send_subscribe(client, Mode::Minute, None);
    world.run(SECOND);
    world.widen(client, 1 << 20);
    world.heartbeats(true);
    world.run(60 * SECOND);
    let seen = world.client(client).take();
    let expected = [
        Seen::AckAuth,
        Seen::AckSubscribe { next: 1_001 },
        Seen::Batch { first: 1_001, end: 1_002 },
        Seen::AckSubscribe { next: 17 },
    ];
    assert_eq!(seen[..4], expected);
    assert!(
        seen[4..].iter().all(|seen| matches!(seen, Seen::Heartbeat | Seen::Batch { first: 17, end: 18 }))
    );
}

#[test]
fn a_stall_of_the_shard_loses_no_tick_and_drops_nobody() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.run(19 * SECOND);
    world.stall(30 * SECOND);
    world.send_heartbeat(client);
    world.run(5 * SECOND);
    assert!(!world.client(client).closed);
    let batches = world.client(client).batches();
    assert!(batches.contains(&(1_020, 1_050)), "one larger batch: {batches:?}");
    let sequences = world.client(client).sequences();
    assert_eq!(sequences, (1_001..=1_054).collect::<Vec<_>>());
}

#[test]
fn a_clock_set_forward_skips_and_one_set_back_waits() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.heartbeats(true);
    world.run(2 * SECOND);
    world.set_clock(1_000 * SECOND + HOUR);
    world.run(2 * SECOND);
    assert_eq!(world.client(client).sequences(), [1_001, 1_002, 4_601, 4_602]);
    assert!(world.shard.counters().stream(Mode::Second).ticks_skipped > 3_590);
    world.set_clock(4_600 * SECOND + 500 * MS);
    world.run(4 * SECOND);
    assert_eq!(world.client(client).sequences(), [1_001, 1_002, 4_601, 4_602, 4_603, 4_604]);
    assert!(!world.client(client).closed, "deadlines don't run on the wall clock");
}

#[test]
fn a_clock_set_back_delays_nobody_who_is_new() {
    let check = |ticks, mode, back_ns: u64, first: u64, last: u64| {
        let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, ticks).unwrap());
        world.heartbeats(true);
        let old = world.subscribed(mode, None);
        world.run(65 * SECOND);
        let back = world.now().unix_ns - back_ns;
        world.set_clock(back);
        let new = world.subscribed(mode, None);
        world.run(90 * SECOND);
        let sequences = world.client(new).sequences();
        assert_eq!(sequences, (first..=last).collect::<Vec<_>>(), "{ticks} {mode:?}, {back_ns} ns back");
        let sequences = world.client(old).sequences();
        assert_eq!(sequences, (sequences[0]..=last).collect::<Vec<_>>(), "strictly rising, without a gap");
        assert!(!world.client(old).closed && !world.client(new).closed);
        let counted = world.shard.counters();
        assert_eq!((counted.clock_back.steps, counted.clock_back.ns), (1, back_ns));
        assert_eq!(world.shard.poll_clock_step(), Some(crate::ClockStep::Back(back_ns)));
        assert_eq!(world.shard.poll_clock_step(), None);
    };
    // At 1,065.5 s.
    check(1, Mode::Second, 20 * SECOND, 1_046, 1_135);
    check(1_000, Mode::Second, 20 * SECOND, 1_045_500, 1_135_499);
    check(1, Mode::Second, 700 * MS, 1_065, 1_154);
    check(1, Mode::Minute, 80 * SECOND, 17, 17);
}

#[test]
fn a_clock_set_back_in_the_middle_of_a_fan_out_loses_nothing() {
    let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, 1_000).unwrap());
    let old: Vec<_> = (0..100).map(|_| world.subscribed(Mode::Second, None)).collect();
    world.run(200 * MS);
    world.actions_per_ms = Some(2);
    world.run(60 * MS);
    let back = world.now().unix_ns - 2 * SECOND;
    world.set_clock(back);
    let new = world.subscribed(Mode::Second, None);
    world.actions_per_ms = None;
    world.run(SECOND);
    let first = back / MS;
    let sequences = world.client(new).sequences();
    assert!(
        sequences[0] <= first + 10 && sequences.len() > 900,
        "{:?}",
        &sequences[..5.min(sequences.len())]
    );
    world.run(2 * SECOND);
    for client in old.into_iter().chain([new]) {
        let sequences = world.client(client).sequences();
        assert_eq!(sequences, (sequences[0]..sequences[0] + sequences.len() as u64).collect::<Vec<_>>());
        assert!(*sequences.last().unwrap() > back / MS + 2_900);
    }
}

#[test]
fn a_tick_just_behind_a_step_of_the_clock_is_on_time() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.run(SECOND);
    world.set_clock(1_100 * SECOND - MS / 2);
    world.run(MS / 2);
    assert_eq!(world.client(client).sequences(), [1_001, 1_100]);
}

#[test]
fn a_shard_that_falls_behind_sends_larger_batches() {
    let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, 1_000).unwrap());
    let clients: Vec<_> = (0..100).map(|_| world.subscribed(Mode::Second, None)).collect();
    world.actions_per_ms = Some(2); // 100 sends take 50 ms, ten windows
    world.run(2 * SECOND);
    world.actions_per_ms = None;
    world.run(100 * MS);
    for client in clients {
        let first = world.client(client).next_announced();
        let sequences = world.client(client).sequences();
        assert_eq!(sequences, (first..first + sequences.len() as u64).collect::<Vec<_>>());
        assert!(sequences.len() > 2_000);
        assert!(world.client(client).batches().len() < 100);
    }
}

#[test]
fn spread_ticks_keep_their_sequence_and_come_at_their_phase() {
    let mut world = World::with(|config| config.phase = Phase::Spread);
    let clients: Vec<_> = (0..200).map(|_| world.subscribed(Mode::Second, None)).collect();
    world.run(3 * SECOND);
    let mut phases = std::collections::BTreeSet::new();
    for client in clients {
        let client = world.client(client);
        assert!(
            client
                .labels
                .iter()
                .all(|(sequence, label)| label - sequence * 1_000 == client.labels[0].1 % 1_000)
        );
        assert_eq!(client.latest_ns, 0, "each is due, and sent, at its own time");
        assert_eq!(client.sequences().len(), 3);
        phases.insert(client.labels[0].1 % 1_000);
    }
    assert!(phases.len() > 190, "{} phases", phases.len());
}

#[test]
fn a_drain_tells_everyone_then_closes_everyone() {
    let mut world = World::new(config());
    let clients: Vec<_> = (0..1_000).map(|_| world.subscribed(Mode::Second, None)).collect();
    let silent = world.connect();
    let began = world.now().mono_ns;
    world.shard.begin_drain(5_000);
    assert_eq!(
        world.shard.accept(([127, 0, 0, 1], 9).into(), false).unwrap_err().reason,
        CloseReason::ShuttingDown
    );
    while !world.shard.is_empty() {
        world.run(10 * MS);
        assert!(world.now().mono_ns - began < 5_100 * MS, "{} left", world.shard.counters().connections);
    }
    let mut retries = std::collections::BTreeSet::new();
    for client in clients {
        let seen = world.client(client).take();
        let goaway = seen.iter().position(|seen| matches!(seen, Seen::GoAway { .. })).expect("a GOAWAY");
        if let Seen::GoAway { retry_after_ms } = seen[goaway] {
            retries.insert(retry_after_ms);
        }
        assert_eq!(seen[seen.len() - 2..], [Seen::Error("SHUTTING_DOWN".into()), Seen::Fin]);
    }
    assert!(retries.len() > 500, "clients come back one by one");
    assert_eq!(world.client(silent).take(), [Seen::Error("SHUTTING_DOWN".into()), Seen::Fin]);
}

/// Found by simulation.
#[test]
fn a_drain_without_time_still_tells_everyone_why() {
    for over_ms in [0, 1, 100] {
        let mut world = World::new(config());
        let clients: Vec<_> = (0..1_000).map(|_| world.subscribed(Mode::Second, None)).collect();
        world.shard.begin_drain(over_ms);
        world.run(u64::from(crate::Limits::DRAIN_MS_MIN) * MS);
        for client in clients {
            let seen = world.client(client).take();
            assert!(
                matches!(&seen[..], [.., Seen::Error(code), Seen::Fin] if code == "SHUTTING_DOWN"),
                "{over_ms} ms: {seen:?}"
            );
        }
    }
}

#[test]
fn a_drain_waits_no_longer_for_who_lingers_already() {
    let mut world = World::new(config());
    let client = world.connect();
    world.send(client, b"G");
    world.run(10 * MS);
    world.shard.begin_drain(1_000);
    world.run(SECOND);
    assert!(world.shard.is_empty());
}

#[test]
fn one_connection_above_the_limit_is_refused_and_a_freed_slot_is_taken_again() {
    let mut world = World::with(|config| config.limits.connections = 2);
    let (a, _b) = (world.connect(), world.connect());
    let refused = world.shard.accept(([127, 0, 0, 1], 9).into(), false).unwrap_err();
    assert_eq!(refused.reason, CloseReason::ServerBusy);
    let old = world.client(a).id;
    world.hang_up(a);
    let c = world.connect();
    let new = world.client(c).id;
    assert_eq!((new.slot, new.generation), (old.slot, old.generation + 2), "the third of the shard");
    world.shard.received(old, b"garbage for a connection that is gone");
    world.shard.sent(old, crate::SendOutcome::Broken);
    world.shard.peer_closed(old);
    world.run(MS);
    assert!(!world.client(c).closed, "late words don't reach the slot's next connection");
}

#[test]
fn who_asks_without_reading_is_cut_off() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Minute, None);
    world.client(client).room = Some(0);
    for _ in 0..200 {
        world.send_heartbeat(client);
        world.run(20 * MS);
    }
    assert_eq!(world.reasons(), [CloseReason::SlowConsumer]);
}

#[test]
fn a_flood_of_frames_is_rate_limited() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Minute, None);
    world.send(client, &tickstream_wire::frame::heartbeat().repeat(500));
    let seen = world.client(client).take();
    assert_eq!(seen[seen.len() - 2..], [Seen::Error("RATE_LIMITED".into()), Seen::Fin]);
}

#[test]
fn a_replay_does_not_inherit_the_age_of_the_log() {
    let mut world = World::new(config());
    let _other = world.subscribed(Mode::Second, None); // keeps the log
    world.heartbeats(true);
    world.run(20 * SECOND);
    let client = world.connect();
    world.client(client).room = Some(770); // for both ACKs and the replay up to the log, not for more
    world.send_auth(client);
    world.send_subscribe(client, Mode::Second, Some(900));
    world.run(60 * MS);
    assert_eq!(world.shard.counters().lagging, 1);
    world.widen(client, 1 << 20);
    world.run(SECOND);
    assert_eq!(world.reasons(), [], "a client that reads within 60 ms is no slow consumer");
    assert_eq!(world.client(client).sequences(), (901..=1_021).collect::<Vec<_>>());
}

#[test]
fn a_stall_across_the_minute_closes_nobody_who_asked_meanwhile() {
    let mut world = World::new(config()); // 1,000.5 s; the next minute's tick is due at 1,020
    let clients = [world.subscribed(Mode::Minute, None), world.subscribed(Mode::Minute, None)];
    world.run(17 * SECOND);
    world.stall(9 * SECOND);
    world.shard.advance(world.now());
    let id = world.client(clients[0]).id;
    world.shard.received(id, &tickstream_wire::frame::heartbeat()); // its echo is pending when the fan-out comes by
    world.run(SECOND);
    assert_eq!(world.reasons(), [], "the pause was the server's");
    for client in clients {
        assert_eq!(world.client(client).sequences(), [17]);
    }
}

/// Found by simulation, seed 2867.
#[test]
fn a_stall_over_a_minute_s_tick_forgives_who_was_behind_before_it() {
    let mut world = World::new(config()); // 1,000.5 s; ticks are due at 1,020, 1,080, 1,140 and 1,200
    let client = world.subscribed(Mode::Minute, None);
    world.run(18 * SECOND);
    world.client(client).room = Some(0);
    world.send_heartbeat(client); // its echo keeps the socket full
    world.run(2_500 * MS);
    for _ in 0..3 {
        world.stall(60 * SECOND);
        world.run(10 * MS);
    }
    world.client(client).take();
    world.widen(client, 1 << 20);
    world.run(100 * MS);
    assert_eq!(world.reasons(), [], "the pause was the server's");
    assert_eq!(world.client(client).sequences(), [17, 18, 19, 20]);
}

#[test]
fn who_resumes_ahead_of_this_clock_survives_a_stall() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, Some(1_003));
    world.stall(9 * SECOND);
    world.run(SECOND);
    assert_eq!(world.reasons(), []);
    assert_eq!(world.client(client).sequences(), (1_004..=1_010).collect::<Vec<_>>());
}

#[test]
fn a_laggard_gets_what_was_published_before_the_clock_was_set_forward() {
    let mut world = World::new(config());
    let client = world.subscribed(Mode::Second, None);
    world.heartbeats(true);
    world.run(SECOND);
    world.client(client).room = Some(0);
    world.run(2 * SECOND);
    world.set_clock(1_100 * SECOND + 600 * MS);
    world.run(MS);
    world.widen(client, 1 << 20);
    world.run(2 * SECOND);
    assert_eq!(world.client(client).sequences(), [1_001, 1_002, 1_003, 1_101, 1_102]);
}

#[test]
fn a_replay_that_never_catches_up_is_given_up() {
    let mut world = World::with(|config| {
        config.second = crate::Rate::new(Mode::Second, 1_000).unwrap();
        config.limits.replay_ticks = 20_000;
    });
    let client = world.subscribed(Mode::Second, Some(1));
    world.client(client).room = Some(2_000);
    world.heartbeats(true);
    for _ in 0..4_000 {
        world.run(500 * MS);
        world.widen(client, 2_000); // the stream has some 9,000 bytes a second
        if world.client(client).closed {
            break;
        }
    }
    assert_eq!(world.reasons(), [CloseReason::SlowConsumer]);
}

/// Found by simulation.
#[test]
fn a_laggard_is_not_excused_from_published_ticks_by_a_clock_set_forward() {
    let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, 100).unwrap());
    let (client, _other) = (world.subscribed(Mode::Second, None), world.subscribed(Mode::Second, None));
    world.client(client).room = Some(0);
    world.heartbeats(true);
    world.run(4 * SECOND);
    world.set_clock(1_004 * SECOND + 500 * MS + HOUR);
    // Its first tick is past the deadline, which the wheel is about to notice; the log has dropped that tick and more.
    world.run(1_040 * MS);
    world.widen(client, 1 << 20);
    world.run(SECOND);
    assert_eq!(world.reasons(), [CloseReason::SlowConsumer], "{:?}", world.client(client).sequences());
}

/// Found by simulation.
#[test]
fn a_replay_is_not_given_up_for_ticks_that_a_clock_set_forward_left_out() {
    let mut world = World::with(|config| config.second = crate::Rate::new(Mode::Second, 1_000).unwrap());
    let client = world.connect();
    world.client(client).room = Some(0);
    world.send_auth(client);
    world.send_subscribe(client, Mode::Second, Some(1_000_450));
    world.run(SECOND);
    world.set_clock(1_001 * SECOND + 500 * MS + HOUR);
    world.run(MS);
    world.widen(client, 1 << 30);
    world.run(SECOND);
    assert_eq!(world.reasons(), []);
}

#[test]
fn who_resumes_from_beyond_the_window_is_not_given_up_when_a_tick_comes_first() {
    let mut world = World::with(|config| config.limits.replay_window_ms = 3_600_000);
    world.set_clock(999_999 * SECOND + 500 * MS);
    world.run(SECOND);
    let client = world.connect();
    world.client(client).room = Some(0);
    world.send_auth(client);
    world.send_subscribe(client, Mode::Second, Some(1));
    world.run(2 * SECOND);
    world.widen(client, 1 << 20);
    world.run(SECOND);
    assert_eq!(world.reasons(), []);
    assert_eq!(world.client(client).sequences(), (1_000_001 - 3_600..=1_000_003).collect::<Vec<_>>());
}

#[test]
fn a_client_that_half_closes_still_reads_why_it_was_refused() {
    let mut world = World::new(config());
    let client = world.connect();
    let id = world.client(client).id;
    // one pass of a driver: the bytes, and the FIN behind them
    world.shard.received(id, b"TS\x01\x03\0\0\0\0\0\0\0\0");
    world.shard.peer_closed(id);
    world.run(MS);
    assert_eq!(world.client(client).take(), [Seen::Error("AUTH_REQUIRED".into())]);
    assert!(world.client(client).released);
}

#[test]
fn the_largest_settings_are_usable() {
    let mut world = World::with(|config| {
        config.second = crate::Rate::new(Mode::Second, 10_000_000).unwrap();
        config.batch_window_ms = 1_000;
        config.limits.payload_bytes = 16 << 20;
    });
    let client = world.subscribed(Mode::Second, None);
    world.run(SECOND);
    assert!(world.client(client).ticks >= 1_000_000);
}

#[test]
fn ten_thousand_connections_live_through_an_hour() {
    let mut world = World::new(config());
    world.keep_labels = false;
    let clients: Vec<_> = (0..10_000)
        .map(|index| world.subscribed(if index % 10 == 0 { Mode::Second } else { Mode::Minute }, None))
        .collect();
    world.heartbeats(true);
    world.run(HOUR);
    for (index, client) in clients.into_iter().enumerate() {
        let client = world.client(client);
        assert!(!client.closed);
        assert_eq!(client.ticks, if index % 10 == 0 { 3_600 } else { 60 });
        assert_eq!(client.latest_ns, 0);
    }
    let counters = world.shard.counters();
    let replays = counters.streams.map(|stream| stream.replays);
    assert_eq!((counters.connections, counters.sends_short, replays), (10_000, 0, [0, 0]));
}
