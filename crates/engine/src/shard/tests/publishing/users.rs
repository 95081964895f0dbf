//! Users with roles and limits of their own, and what becomes of them while the shard runs.

use std::num::NonZeroU32;

use tickstream_wire::frame;
use tickstream_wire::messages::{Auth, Mode};

use super::super::world::{Seen, World};
use super::site::{Site, collecting, logs, rejections};
use crate::ingest::tests::samples::publish;
use crate::{Access, CloseReason, Config, Credentials, Identified, Limit, Secured, User};

fn user(name: &str, access: Access) -> User {
    User { name: name.into(), secret_sha256: User::hash(name), access }
}

fn with_users(users: &[User]) -> Config {
    let mut config = collecting(|_| {});
    config.credentials = Credentials::new("ada", "s3cret").unwrap().with_users(users.to_vec());
    config
}

fn site(users: &[User]) -> Site {
    Site { world: World::new(with_users(users)), appended: Vec::new() }
}

/// A connection of a user whose secret is its name; and what it got.
fn connect(site: &mut Site, name: &str) -> (usize, Vec<Seen>) {
    let client = site.world.connect();
    site.world.send_auth_as(client, name, name);
    let seen = site.world.client(client).take();
    (client, seen)
}

const READER: Access = Access { publish: false, ..Access::ALL };
const WRITER: Access = Access { subscribe: false, ..Access::ALL };

#[test]
fn each_role_lets_do_one_thing() {
    let mut site = site(&[user("reader", READER), user("writer", WRITER)]);
    let (reader, seen) = connect(&mut site, "reader");
    assert_eq!(seen, [Seen::AckAuth]);
    site.world.send_subscribe(reader, Mode::Second, None);
    site.publish(reader, &publish(1, 1, logs(1, 1)));
    site.assert_closed(reader, "PERMISSION_DENIED", CloseReason::PermissionDenied);
    let (writer, _) = connect(&mut site, "writer");
    site.publish(writer, &publish(1, 1, logs(1, 1)));
    site.sync();
    assert_eq!(site.acked(writer), [(1, 1, 0)]);
    assert_eq!(site.appended[0].batch().user, "writer");
    site.world.send_subscribe(writer, Mode::Second, None);
    site.assert_closed(writer, "PERMISSION_DENIED", CloseReason::PermissionDenied);
}

#[test]
fn a_user_has_so_many_connections_and_others_are_none_of_its() {
    let two = Access { connections: NonZeroU32::new(2), ..Access::ALL };
    let mut site = site(&[user("bob", two), user("eve", Access::ALL)]);
    let (first, _) = connect(&mut site, "bob");
    for name in ["bob", "eve", "eve", "eve"] {
        assert_eq!(connect(&mut site, name).1, [Seen::AckAuth], "{name}");
    }
    assert_eq!(connect(&mut site, "bob").1, [Seen::Error("SERVER_BUSY".to_owned()), Seen::Fin]);
    assert_eq!(site.world.shard.counters().fired(Limit::ConnectionsPerUser), 1);
    site.world.hang_up(first);
    assert_eq!(connect(&mut site, "bob").1, [Seen::AckAuth]);
}

#[test]
fn a_user_s_quota_is_that_of_all_its_connections_and_outlasts_them() {
    let slow = Access { events_per_second: NonZeroU32::new(10), ..Access::ALL };
    let mut site = site(&[user("bob", slow)]);
    let (first, _) = connect(&mut site, "bob");
    let (second, _) = connect(&mut site, "bob");
    let mut sequence = 0;
    let mut send = |site: &mut Site, client: usize| {
        sequence += 1;
        site.publish(client, &publish(1, sequence, logs(sequence * 1_000, 1_000)));
        site.sync();
        let acks = site.acks(client);
        assert_eq!(acks.len(), 1);
        1_000 - rejections(&acks[0]).iter().filter(|(_, code)| *code == "RATE_LIMITED").count()
    };
    // Once its burst is spent by one, the other has nothing left either.
    assert_eq!(send(&mut site, first), 20, "two seconds' worth");
    assert_eq!(send(&mut site, second), 0);
    site.world.hang_up(first);
    site.world.hang_up(second);
    let (third, _) = connect(&mut site, "bob");
    assert_eq!(send(&mut site, third), 0, "coming again doesn't renew it");
    let ada = site.publisher();
    assert_eq!(send(&mut site, ada), 1_000, "another's quota is another");
}

#[test]
fn who_is_taken_out_is_closed_and_who_loses_a_role_loses_what_it_did_by_it() {
    let all = [user("bob", Access::ALL), user("eve", Access::ALL), user("zoe", Access::ALL)];
    let mut site = site(&all);
    let names = ["bob", "eve", "zoe"];
    let [bob, eve, zoe] = names.map(|name| connect(&mut site, name).0);
    let ada = site.publisher();
    for client in [bob, zoe, ada] {
        site.world.send_subscribe(client, Mode::Second, None);
        site.world.client(client).take();
    }
    // Zoe subscribes, eve doesn't: the same change ends the one and not the other.
    let changed = [user("eve", WRITER), user("zoe", WRITER)];
    site.world.shard.reconfigure(&with_users(&changed));
    site.world.settle();
    let codes = [bob, zoe].map(|client| {
        let seen = site.world.client(client).take();
        seen.contains(&Seen::Error("PERMISSION_DENIED".to_owned()))
    });
    assert_eq!(codes, [true, true]);
    assert_eq!(site.world.reasons(), [CloseReason::PermissionDenied; 2]);
    assert!(!site.world.client(eve).closed && !site.world.client(ada).closed);
    assert_eq!(connect(&mut site, "bob").1.first(), Some(&Seen::Error("AUTH_FAILED".to_owned())));
    // Another secret is for those who come.
    let mut renewed = user("eve", Access::ALL);
    renewed.secret_sha256 = User::hash("new");
    site.world.shard.reconfigure(&with_users(&[renewed]));
    site.publish(eve, &publish(1, 1, logs(1, 1)));
    site.sync();
    assert_eq!(site.acked(eve), [(1, 1, 0)]);
}

#[test]
fn a_connection_is_known_by_its_user_its_certificate_and_its_library() {
    let mut site = site(&[user("bob", Access::ALL)]);
    let client = site.world.connect_from("10.0.0.1", true).unwrap();
    let id = site.world.client(client).id;
    let identified = |site: &Site| {
        let Identified { user, subject, client } = site.world.shard.identified(id.slot);
        [user, subject, client].map(|text| text.map(str::to_owned))
    };
    let subject = Some("CN=probe-7".into());
    site.world.shard.secured(id, Secured { resumed: false, user: None, subject });
    assert_eq!(identified(&site), [const { None }; 3], "not before AUTH");
    let (username, password) = ("bob".into(), "bob".into());
    let auth = Auth { username, password, client: Some(format!("{}é", "x".repeat(63))) };
    site.world.send(client, &frame::seal(&auth));
    let library = "x".repeat(63);
    assert_eq!(
        identified(&site),
        [Some("bob"), Some("CN=probe-7"), Some(&*library)].map(|text| text.map(str::to_owned))
    );
    let before = site.world.shard.connection(id.slot).unwrap();
    site.publish(client, &publish(1, 1, logs(1, 3)));
    site.sync();
    let after = site.world.shard.connection(id.slot).unwrap();
    assert_eq!((before.events_accepted, after.events_accepted), (0, 3));
    assert_eq!(before.bytes_received, frame::seal(&auth).len() as u64);
    assert!(after.bytes_received > before.bytes_received);
    site.world.hang_up(client);
    assert_eq!(identified(&site), [const { None }; 3]);
}
