//! Operations on a whole shard, in any order (faults 3, 6, 8, 9): what a driver may say, and what clients send.

use tickstream_engine::{
    Action, Config, ConnId, Credentials, Limits, Mode, Now, Phase, ProxyProtocol, Rate, Secured, SendOutcome,
    Shard,
};
use tickstream_wire::frame;
use tickstream_wire::messages::{Auth, Subscribe};

use crate::bytes::Bytes;
use crate::memory::allocated;

const MS: u64 = 1_000_000;

/// The settings of the shards here: small, so that their limits are reached.
pub(crate) fn settings(proxy_protocol: ProxyProtocol) -> Config {
    Config {
        shard: 0,
        credentials: Credentials::new("ada", "s3cret").expect("credentials"),
        second: Rate::new(Mode::Second, 10).expect("a rate"),
        minute: Rate::new(Mode::Minute, 60).expect("a rate"),
        phase: Phase::Aligned,
        batch_window_ms: 5,
        heartbeat_interval_ms: 15_000,
        heartbeat_timeout_ms: 20_000,
        proxy_protocol,
        proxy_trusted: vec!["10.0.0.0/8".parse().expect("a network")],
        seed: 1,
        ingest: None,
        limits: Limits {
            connections: 8,
            connections_per_address: std::num::NonZeroU32::new(6),
            unauthenticated: 6,
            unauthenticated_per_address: None,
            connections_per_second: None,
            auth_failures_per_minute: 10,
            lag_ms: 0,
            handshake_timeout_ms: 5_000,
            payload_bytes: 4_096,
            auth_timeout_ms: 5_000,
            write_deadline_ms: 5_000,
            frames_per_second: 50,
            replay_window_ms: 60_000,
            replay_ticks: 600,
        },
    }
}

/// The first two bytes of each operation say what and to whom.
///
/// # Panics
/// If the shard does, if it sends to nobody or twice at a time, or if it counts wrong.
pub fn session(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut now = Now { mono_ns: 1_000 * MS, unix_ns: 1_790_000_000_500 * MS };
    let mut shard = Shard::new(settings(ProxyProtocol::Off), now);
    let mut known: Vec<ConnId> = Vec::new();
    let mut unanswered: Vec<(ConnId, u32)> = Vec::new();
    while let (Some(what), Some(whom)) = (bytes.next(), bytes.next()) {
        let conn = known.get(usize::from(whom) % known.len().max(1)).copied();
        let (_, allocated) = allocated(|| match (what % 16, conn) {
            (0 | 1, _) => {
                let peer = ([192, 0, 2, whom % 3], 5_000).into();
                known.extend(shard.accept(peer, what & 0x80 != 0).ok());
            }
            (2, Some(conn)) => {
                let length = usize::from(bytes.next().unwrap_or(0));
                shard.received(conn, bytes.take(length));
            }
            (3, Some(conn)) => {
                let (username, password) = ("ada".to_owned(), "s3cret".to_owned());
                shard.received(conn, &frame::seal(&Auth { username, password, client: None }));
            }
            (4, Some(conn)) => {
                let (mode, after) = (i32::from(whom & 1), u64::from(bytes.next().unwrap_or(0)));
                let resume_after = (whom & 2 != 0).then_some(17_900_000_000 - 60 + after);
                shard.received(conn, &frame::seal(&Subscribe { mode, resume_after }));
            }
            (5, Some(conn)) => drop(shard.received(conn, &frame::heartbeat()).len()),
            // A whole frame of any type.
            (6, Some(conn)) => {
                let (kind, length) = (bytes.next().unwrap_or(0), usize::from(bytes.next().unwrap_or(0)));
                let mut sealed = Vec::new();
                frame::seal_with(&mut sealed, kind, |out| out.extend_from_slice(bytes.take(length)));
                let at = usize::from(whom) % sealed.len();
                shard.received(conn, &sealed[..at]);
                shard.received(conn, &sealed[at..]);
            }
            (7, Some(conn)) => shard.peer_closed(conn),
            (8, Some(conn)) => shard.peer_reset(conn, "reset".to_owned()),
            (9, Some(conn)) => shard.writable(conn),
            (10, Some(conn)) => {
                shard.secured(conn, Secured { resumed: whom & 1 == 0, user: None, subject: None });
            }
            (11, _) => {
                now.mono_ns += u64::from(whom) * 40 * MS;
                now.unix_ns += u64::from(whom) * 40 * MS;
            }
            (12, _) => {
                now.unix_ns = now.unix_ns.saturating_add_signed((i64::from(whom) - 128) * 30_000_000_000);
            }
            (13, Some(conn)) => drop(shard.kick(conn)),
            (14, _) => shard.begin_drain(u32::from(whom) * 50),
            _ => {}
        });
        assert!(allocated <= 1 << 20, "one operation allocates {allocated} bytes");
        shard.handle_timeout(now);
        while shard.poll_report().is_some() {}
        for step in 0..64_u8 {
            let Some(action) = shard.poll_action() else { break };
            match action {
                Action::Send { conn, frame, offset } => {
                    let length = frame.as_bytes().len() as u32 - offset;
                    assert!(length > 0, "nothing to send");
                    assert!(unanswered.iter().all(|(other, _)| *other != conn), "two sends at a time");
                    unanswered.push((conn, length));
                }
                Action::Close { conn, .. } => {
                    let place = known.iter().position(|other| *other == conn).expect("it is known");
                    known.swap_remove(place);
                    unanswered.retain(|(other, _)| *other != conn);
                }
                Action::AwaitWritable { conn } | Action::Shutdown { conn } => assert!(known.contains(&conn)),
            }
            if step % 4 == what % 4
                && let Some((conn, length)) = unanswered.pop()
            {
                let outcome = match whom % 8 {
                    0 => SendOutcome::WouldBlock,
                    1 => SendOutcome::Sent(length.div_ceil(2)),
                    2 if what & 0x40 != 0 => SendOutcome::Broken,
                    _ => SendOutcome::Sent(length),
                };
                shard.sent(conn, outcome);
            }
        }
        let counters = shard.counters();
        assert_eq!(counters.connections as usize, known.len());
        let closed: u64 = counters.closed.iter().sum();
        assert!(closed <= counters.accepted && counters.accepted <= closed + known.len() as u64);
    }
}
