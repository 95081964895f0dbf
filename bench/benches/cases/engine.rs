//! A shard with its connections, driven as the server drives it, with sockets that take everything at once.

use std::hint::black_box;

use tickstream_engine::{
    Action, Config, ConnId, Credentials, Limits, Mode, Now, Phase, ProxyProtocol, Rate, SealedFrame,
    SendOutcome, Shard,
};
use tickstream_wire::frame;
use tickstream_wire::messages::{Auth, Subscribe};

use super::{Case, Operation};

const MS: u64 = 1_000_000;
/// From tick to tick of the stream SECOND: 10 a second.
const INTERVAL_NS: u64 = 100 * MS;
/// Cursors of a fan-out.
const SUBSCRIBERS: u32 = 10_000;
/// Actions of one pass of the server's driver.
const ACTIONS_PER_PASS: usize = 256;

pub const CASES: &[Case] = &[
    Case { name: "HEARTBEAT and its echo", items: 1, prepare: heartbeat },
    Case { name: "SUBSCRIBE again", items: 1, prepare: subscribe_again },
    Case { name: "accept, close", items: 1, prepare: accept_close },
    Case { name: "accept, AUTH, SUBSCRIBE, close", items: 1, prepare: accept_auth_subscribe_close },
    Case { name: "idle pass, 10,000 connections", items: 1, prepare: idle_pass },
    Case { name: "fan-out to 10,000", items: SUBSCRIBERS, prepare: fan_out },
];

/// HEARTBEAT received, echo polled, send answered.
fn heartbeat() -> Operation {
    let mut driver = Driver::new();
    let conn = driver.subscriber(Mode::Second);
    let heartbeat = frame::heartbeat();
    Box::new(move || {
        driver.shard.received(conn, black_box(&heartbeat));
        driver.settle();
    })
}

/// A subscriber subscribes again: SUBSCRIBE received, ACK polled, send answered.
fn subscribe_again() -> Operation {
    let mut driver = Driver::new();
    let conn = driver.subscriber(Mode::Second);
    let subscribe = subscribe(Mode::Second);
    Box::new(move || {
        driver.shard.received(conn, black_box(&subscribe));
        driver.settle();
    })
}

/// Cost of a connection that asks for nothing; to subtract from the next case.
fn accept_close() -> Operation {
    let mut driver = Driver::new();
    driver.subscriber(Mode::Second);
    Box::new(move || {
        let conn = driver.accept();
        driver.shard.peer_closed(conn);
        driver.settle();
    })
}

/// A connection that authenticates, then subscribes, and is gone.
fn accept_auth_subscribe_close() -> Operation {
    let mut driver = Driver::new();
    driver.subscriber(Mode::Second);
    let (auth, subscribe) = (auth(), subscribe(Mode::Second));
    Box::new(move || {
        let conn = driver.accept();
        driver.shard.received(conn, black_box(&auth));
        driver.settle();
        driver.shard.received(conn, black_box(&subscribe));
        driver.settle();
        driver.shard.peer_closed(conn);
        driver.settle();
    })
}

/// A pass in which nothing happened.
fn idle_pass() -> Operation {
    let mut driver = Driver::new();
    for _ in 0..SUBSCRIBERS {
        driver.subscriber(Mode::Minute);
    }
    Box::new(move || {
        driver.pass(1);
        black_box(driver.shard.poll_timeout());
    })
}

/// One batch of one tick to every subscriber: publish, poll all sends, answer all.
fn fan_out() -> Operation {
    let mut driver = Driver::new();
    for _ in 0..SUBSCRIBERS {
        driver.subscriber(Mode::Second);
    }
    // Until the log drops a batch for each that it gets.
    for _ in 0..4 {
        driver.pass(INTERVAL_NS);
    }
    let before = driver.shard.counters();
    driver.pass(INTERVAL_NS);
    let after = driver.shard.counters();
    assert_eq!(after.stream(Mode::Second).batches - before.stream(Mode::Second).batches, 1);
    assert_eq!(after.frames_sent - before.frames_sent, u64::from(SUBSCRIBERS));
    Box::new(move || driver.pass(INTERVAL_NS))
}

/// The server's driver without its ring.
struct Driver {
    shard: Shard,
    now: Now,
    /// State that the kernel would hold: sends without an answer.
    sends: Vec<(ConnId, SealedFrame, u32)>,
}

impl Driver {
    fn new() -> Self {
        // 2026-11-21 20:00:00 UTC, when a tick is due.
        let now = Now { mono_ns: 77_000 * MS, unix_ns: 1_795_291_200_000 * MS };
        Self { shard: Shard::new(config(), now), now, sends: Vec::with_capacity(ACTIONS_PER_PASS) }
    }

    /// Lets `ns` pass, at most half a second, and does what is due then.
    fn pass(&mut self, ns: u64) {
        self.now = Now { mono_ns: self.now.mono_ns + ns, unix_ns: self.now.unix_ns + ns };
        self.shard.handle_timeout(self.now);
        self.settle();
    }

    /// Carries out all actions and answers all sends, in portions as the server's driver does.
    fn settle(&mut self) {
        loop {
            let mut acted = false;
            for _ in 0..ACTIONS_PER_PASS {
                match self.shard.poll_action() {
                    Some(Action::Send { conn, frame, offset }) => self.sends.push((conn, frame, offset)),
                    Some(Action::Close { conn, abort }) => _ = black_box((conn, abort)),
                    Some(action) => unreachable!("every socket takes everything: {action:?}"),
                    None => break,
                }
                acted = true;
            }
            for (conn, frame, offset) in self.sends.drain(..) {
                self.shard.sent(conn, SendOutcome::Sent(frame.as_bytes().len() as u32 - offset));
            }
            while let Some(report) = self.shard.poll_report() {
                black_box(report);
            }
            if !acted {
                return;
            }
        }
    }

    fn accept(&mut self) -> ConnId {
        self.shard.accept(([127, 0, 0, 1], 40_000).into(), false).expect("below the limit on connections")
    }

    /// A connection that authenticated and subscribed.
    fn subscriber(&mut self, mode: Mode) -> ConnId {
        let conn = self.accept();
        self.shard.received(conn, &auth());
        self.shard.received(conn, &subscribe(mode));
        self.settle();
        let counters = self.shard.counters();
        assert_eq!(counters.subscribed, u64::from(counters.connections));
        conn
    }
}

/// The server's defaults, but 10 ticks a second, a log of two batches, and nothing that ends a connection.
fn config() -> Config {
    Config {
        shard: 0,
        credentials: Credentials::new("benchmark", "correct horse battery").expect("not too long"),
        second: Rate::new(Mode::Second, 10).expect("a valid rate"),
        minute: Rate::new(Mode::Minute, 1).expect("a valid rate"),
        phase: Phase::Aligned,
        batch_window_ms: 5,
        heartbeat_interval_ms: 15_000,
        heartbeat_timeout_ms: u32::MAX,
        proxy_protocol: ProxyProtocol::Off,
        proxy_trusted: Vec::new(),
        seed: 0,
        ingest: None,
        limits: Limits {
            connections_per_address: None,
            unauthenticated: u32::MAX,
            unauthenticated_per_address: None,
            connections_per_second: None,
            auth_failures_per_minute: 10,
            lag_ms: 0,
            handshake_timeout_ms: 5_000,
            connections: 100_000,
            payload_bytes: 65_536,
            auth_timeout_ms: 5_000,
            write_deadline_ms: 200,
            frames_per_second: u32::MAX,
            replay_window_ms: 3_600_000,
            replay_ticks: 100_000,
        },
    }
}

fn auth() -> Vec<u8> {
    frame::seal(&Auth {
        username: "benchmark".to_owned(),
        password: "correct horse battery".to_owned(),
        client: None,
    })
}

fn subscribe(mode: Mode) -> Vec<u8> {
    frame::seal(&Subscribe { mode: mode.into(), resume_after: None })
}
