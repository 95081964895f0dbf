//! The way in: each limit is shown to fire, and what it must not touch.

use std::num::NonZeroU32;

use super::world::{Seen, World};
use crate::clock::{MS, SECOND};
use crate::{CloseReason, Limit, Mode, ProxyProtocol, Secured};

fn most(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

/// The limit that keeps a connection from `address` out, if one does.
fn refusal(world: &mut World, address: &str, tls: bool) -> Option<Limit> {
    let before = world.shard.counters();
    let refused = world.connect_from(address, tls).err()?;
    assert_eq!(refused.frame.is_none(), tls, "TLS clients can't read an ERROR yet");
    let limit = refused.limit.expect("a limit");
    assert_eq!(world.shard.counters().fired(limit), before.fired(limit) + 1);
    assert_eq!(world.shard.counters().refused, before.refused + 1);
    Some(limit)
}

/// Answer to a client that authenticates with `password` from `address` gets.
fn attempt(world: &mut World, address: &str, password: &str) -> Seen {
    let client = world.connect_from(address, false).expect("no limit on connections");
    world.send_auth_as(client, "ada", password);
    let answer = world.client(client).take().into_iter().next().expect("an answer");
    world.hang_up(client);
    answer
}

fn error(code: &str) -> Seen {
    Seen::Error(code.to_owned())
}

#[test]
fn connections_without_auth_are_capped_until_they_authenticate_or_go() {
    let mut world = World::with(|config| config.limits.unauthenticated = 2);
    let (a, b) = (world.connect(), world.connect());
    assert_eq!(refusal(&mut world, "127.0.0.1", false), Some(Limit::Unauthenticated));
    world.send_auth(a);
    world.connect();
    assert_eq!(refusal(&mut world, "127.0.0.1", true), Some(Limit::Unauthenticated));
    world.hang_up(b);
    world.connect();
    assert_eq!(world.shard.counters().unauthenticated, 2);
    world.run(8 * SECOND);
    assert_eq!(world.shard.counters().unauthenticated, 0, "the deadline frees their places");
}

#[test]
fn an_address_has_caps_of_its_own_and_an_ipv6_64_is_one_address() {
    let mut world = World::with(|config| config.limits.connections_per_address = most(2));
    for (first, same, other) in
        [("10.0.0.1", "10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")]
    {
        let held = world.connect_from(first, false).unwrap();
        world.connect_from(same, false).unwrap();
        assert_eq!(refusal(&mut world, same, false), Some(Limit::ConnectionsPerAddress));
        assert_eq!(refusal(&mut world, other, false), None);
        world.hang_up(held);
        assert_eq!(refusal(&mut world, same, false), None);
    }
    let mut world = World::with(|config| config.limits.unauthenticated_per_address = most(1));
    let client = world.connect_from("10.0.0.1", false).unwrap();
    assert_eq!(refusal(&mut world, "10.0.0.1", false), Some(Limit::UnauthenticatedPerAddress));
    world.send_auth(client);
    assert_eq!(refusal(&mut world, "10.0.0.1", false), None);
}

#[test]
fn new_connections_have_a_rate_with_two_seconds_of_burst() {
    let mut world = World::with(|config| config.limits.connections_per_second = most(10));
    let let_in =
        |world: &mut World| (0..100).take_while(|_| world.connect_from("10.0.0.1", false).is_ok()).count();
    assert_eq!(let_in(&mut world), 20);
    assert_eq!(refusal(&mut world, "10.0.0.1", false), Some(Limit::ConnectionRate));
    world.run(SECOND);
    assert_eq!(let_in(&mut world), 10);
}

#[test]
fn refused_clients_are_asked_to_come_back_at_different_times() {
    let mut world = World::with(|config| config.limits.connections = 0);
    let mut retries = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let refused = world.connect_from("10.0.0.1", false).unwrap_err();
        retries.insert(refused.frame.expect("an ERROR").as_bytes().to_vec());
    }
    assert!(retries.len() > 600, "{} different answers", retries.len());
}

#[test]
fn brute_force_is_limited_by_address_and_live_sessions_behind_it_are_untouched() {
    let mut world = World::new(super::config());
    let subscriber = world.subscribed(Mode::Second, None);
    for _ in 0..10 {
        assert_eq!(attempt(&mut world, "127.0.0.1", "wrong"), error("AUTH_FAILED"));
    }
    assert_eq!(attempt(&mut world, "127.0.0.1", "wrong"), error("RATE_LIMITED"));
    assert_eq!(attempt(&mut world, "127.0.0.1", "s3cret"), error("RATE_LIMITED"), "whoever asks");
    assert_eq!(attempt(&mut world, "10.0.0.1", "s3cret"), Seen::AckAuth, "from elsewhere");
    assert_eq!(refusal(&mut world, "127.0.0.1", true), Some(Limit::AuthFailures), "before the handshake");
    world.run(6 * SECOND);
    assert_eq!(attempt(&mut world, "127.0.0.1", "s3cret"), Seen::AckAuth);
    let counters = world.shard.counters();
    assert_eq!((counters.auth_failures, counters.fired(Limit::AuthFailures)), (10, 3));
    assert!(world.client(subscriber).sequences().len() >= 6);
}

#[test]
fn short_memory_and_late_ticks_keep_new_connections_out() {
    let mut world = World::with(|config| config.limits.lag_ms = 300);
    let subscriber = world.subscribed(Mode::Second, None);
    world.shard.set_memory_is_short(true);
    assert_eq!(refusal(&mut world, "10.0.0.1", false), Some(Limit::Memory));
    world.shard.set_memory_is_short(false);
    world.stall(850 * MS); // 350 ms past the boundary
    world.run(0);
    assert_eq!(refusal(&mut world, "10.0.0.1", false), Some(Limit::Lag));
    world.run(2 * SECOND);
    assert_eq!(refusal(&mut world, "10.0.0.1", false), None);
    assert_eq!(world.client(subscriber).sequences().len(), 3);
}

#[test]
fn a_tls_connection_has_a_deadline_for_its_handshake_and_then_one_for_auth() {
    let mut world = World::new(super::config());
    let silent = world.connect_from("10.0.0.1", true).unwrap();
    world.send(silent, b"");
    let began = world.now().mono_ns;
    world.run_until_closed(silent);
    assert!((5_000 * MS..5_100 * MS).contains(&(world.now().mono_ns - began)));
    assert_eq!(world.client(silent).take(), [Seen::Fin], "no ERROR outside TLS");

    let slow = world.connect_from("10.0.0.1", true).unwrap();
    world.run(4 * SECOND);
    let id = world.client(slow).id;
    assert_eq!(world.shard.received(id, b"hello"), b"hello", "TLS isn't the engine's");
    world.shard.secured(id, Secured { resumed: false, user: None, subject: None });
    world.run(4 * SECOND);
    world.send_auth(slow);
    assert_eq!(world.client(slow).take(), [Seen::AckAuth]);
    assert_eq!(world.reasons(), [CloseReason::HandshakeTimeout]);
}

#[test]
fn a_certificate_s_name_stands_for_auth_s_and_for_no_other() {
    let check = |username: &str, password: &str, expected: Seen| {
        let mut world = World::new(super::config());
        let client = world.connect_from("10.0.0.1", true).unwrap();
        let id = world.client(client).id;
        world.shard.secured(id, Secured { resumed: false, user: Some("probe-7".into()), subject: None });
        world.send_auth_as(client, username, password);
        assert_eq!(world.client(client).take().first(), Some(&expected), "{username:?} {password:?}");
    };
    check("probe-7", "s3cret", Seen::AckAuth);
    check("", "s3cret", Seen::AckAuth);
    check("ada", "s3cret", error("AUTH_FAILED"));
    check("probe-7", "wrong", error("AUTH_FAILED"));
}

fn proxied(mode: ProxyProtocol) -> World {
    World::with(|config| {
        config.proxy_protocol = mode;
        config.proxy_trusted = vec!["10.0.0.0/8".parse().unwrap()];
        config.limits.connections_per_address = most(1);
    })
}

#[test]
fn the_client_behind_a_trusted_proxy_is_who_limits_and_logs_mean() {
    let mut world = proxied(ProxyProtocol::Required);
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 7400\r\n";
    let first = world.connect_from("10.0.0.1", false).unwrap();
    for byte in header {
        world.send(first, &[*byte]);
    }
    world.send_auth(first);
    assert_eq!(world.client(first).take(), [Seen::AckAuth]);
    let other = world.connect_from("10.0.0.1", false).unwrap();
    world.send(other, b"PROXY TCP4 192.0.2.9 192.0.2.8 4711 7400\r\n");
    let again = world.connect_from("10.0.0.1", false).unwrap();
    world.send(again, header);
    assert_eq!(world.client(again).take(), [error("SERVER_BUSY"), Seen::Fin]);
    world.hang_up(first);
    let report = std::iter::from_fn(|| world.shard.poll_report()).last().unwrap();
    assert_eq!(report.peer, "192.0.2.7:4711".parse().unwrap());
}

#[test]
fn a_proxy_header_is_refused_from_others_and_where_it_is_broken_or_missing() {
    let mut world = proxied(ProxyProtocol::Required);
    let refused = world.connect_from("127.0.0.1", false).unwrap_err();
    assert_eq!(refused.limit, Some(Limit::UntrustedProxy));
    for bytes in [&b"PROXY TCP4 x\r\n"[..], b"TS\x01\x03\0\0\0\0\0\0\0\0"] {
        let client = world.connect_from("10.0.0.1", false).unwrap();
        world.send(client, bytes);
        assert_eq!(world.client(client).take(), [Seen::Fin]);
    }
    assert_eq!(world.reasons(), [CloseReason::BadProxyHeader; 2]);

    let mut world = proxied(ProxyProtocol::Optional);
    let spoofed = world.connect_from("127.0.0.1", false).unwrap();
    world.send(spoofed, b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 7400\r\n");
    assert_eq!(world.client(spoofed).take(), [Seen::Fin]);
    assert_eq!(world.reasons(), [CloseReason::NotAFrame]);
    let direct = world.connect_from("10.0.0.1", false).unwrap();
    world.send_auth(direct);
    assert_eq!(world.client(direct).take(), [Seen::AckAuth]);
}

/// Found by fuzzing.
#[test]
fn what_only_begins_like_a_proxy_header_ends_alike_whole_and_in_pieces() {
    for pieces in [&[&b"PRxy"[..]][..], &[b"P", b"Rxy"], &[b"PRx", b"y"]] {
        let mut world = proxied(ProxyProtocol::Optional);
        let client = world.connect_from("10.0.0.1", true).unwrap();
        let id = world.client(client).id;
        pieces.iter().for_each(|piece| assert_eq!(world.shard.received(id, piece), b""));
        assert_eq!(world.reasons(), [CloseReason::BadProxyHeader], "{pieces:?}");
    }
}

#[test]
fn tls_begins_behind_the_proxy_header() {
    let mut world = proxied(ProxyProtocol::Required);
    let client = world.connect_from("10.0.0.1", true).unwrap();
    let id = world.client(client).id;
    assert!(world.shard.awaits_proxy_header(id));
    assert_eq!(world.shard.received(id, b"PROXY TCP4 192.0.2.7 "), b"");
    assert_eq!(world.shard.received(id, b"192.0.2.8 4711 7400\r\n\x16\x03\x01"), b"\x16\x03\x01");
    assert!(!world.shard.awaits_proxy_header(id));
}

#[test]
fn who_leaves_without_a_byte_was_a_probe() {
    let mut world = proxied(ProxyProtocol::Optional);
    let silent = world.connect_from("127.0.0.1", false).unwrap();
    world.hang_up(silent);
    let local = world.connect_from("10.0.0.1", false).unwrap();
    world.send(local, b"PROXY UNKNOWN\r\n");
    world.hang_up(local);
    let half = world.connect_from("127.0.0.1", false).unwrap();
    world.send(half, b"T");
    world.hang_up(half);
    assert_eq!(world.reasons(), [CloseReason::Probe, CloseReason::Probe, CloseReason::PeerClosed]);
}

#[test]
fn limits_and_credentials_may_change_while_it_runs() {
    let mut world = World::new(super::config());
    let old = world.connect_from("10.0.0.1", false).unwrap();
    world.send_auth(old);
    let mut config = super::config();
    config.credentials = crate::Credentials::new("ada", "changed").unwrap();
    config.limits.connections_per_address = most(2);
    world.shard.reconfigure(&config);
    assert_eq!(attempt(&mut world, "10.0.0.1", "s3cret"), error("AUTH_FAILED"));
    assert_eq!(attempt(&mut world, "10.0.0.1", "changed"), Seen::AckAuth);
    let second = world.connect_from("10.0.0.1", false).unwrap();
    assert_eq!(
        refusal(&mut world, "10.0.0.1", false),
        Some(Limit::ConnectionsPerAddress),
        "the old one counts"
    );
    world.hang_up(old);
    world.hang_up(second);
    config.limits.connections_per_address = None;
    world.shard.reconfigure(&config);
    for _ in 0..10 {
        assert_eq!(refusal(&mut world, "10.0.0.1", false), None);
    }
}

#[test]
fn who_arrives_as_the_drain_begins_is_answered_and_told() {
    let mut world = World::new(super::config());
    let client = world.connect();
    world.shard.begin_drain(5_000);
    world.run(100 * MS);
    world.send_auth(client);
    let seen = world.client(client).take();
    assert!(matches!(seen[..], [Seen::AckAuth, Seen::GoAway { .. }]), "{seen:?}");
    world.run_until_closed(client);
    assert_eq!(world.client(client).take(), [error("SHUTTING_DOWN"), Seen::Fin]);
}
