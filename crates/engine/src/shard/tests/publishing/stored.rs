//! Storage of a PUBLISH, and what its PUBLISH_ACK says of the rest.

use proptest::prelude::*;
use tickstream_schema::events::{Body, Codec, Event};
use tickstream_wire::frame;
use tickstream_wire::messages::Message;

use super::site::{Site, collecting, logs, rejections};
use crate::ingest::tests::samples::{event_id, events, packed, publish};
use crate::{PrivacyConfig, Secured};

#[test]
fn every_kind_is_stored_as_it_was_sent_by_each_codec() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let mut site = Site::new();
        let client = site.publisher();
        let plain = publish(1, 1, events());
        site.publish(client, &if codec == Codec::None { plain } else { packed(plain, codec) });
        assert_eq!(site.acked(client), [], "not before the sync");
        site.sync();
        assert_eq!(site.acked(client), [(1, 8, 0)]);
        assert_eq!(site.stored(), events());
        let batch = site.appended[0].batch();
        assert_eq!((&*batch.peer, &*batch.server, &*batch.user), ("127.0.0.1", "server-1", "ada"));
        assert_eq!(batch.receive_time_ns, site.world.now().unix_ns);
        assert!(!batch.is_partial && batch.dead_letters.is_empty());
    }
}

#[test]
fn the_good_events_of_a_batch_are_kept_and_the_bad_ones_get_a_verdict_each() {
    let mut site = Site::new();
    let client = site.publisher();
    let mut batch = logs(0, 6);
    batch[1].platform.clear();
    batch[4].body = None;
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!((ack.accepted, ack.duplicates, ack.throttle_ms), (4, 0, 0));
    assert_eq!(rejections(&ack), [(1, "FIELD_MISSING"), (4, "BODY_MISMATCH")]);
    assert!(ack.rejected[0].message.contains("platform"), "{ack:?}");
    assert_eq!(site.stored(), [0, 2, 3, 5].map(|index: usize| batch[index].clone()));
    let dead_letters = site.appended[0].batch().dead_letters;
    for (letter, index) in dead_letters.iter().zip([1, 4]) {
        assert_eq!(letter.index, index);
        assert_eq!(Event::decode(letter.event()).unwrap(), batch[index as usize]);
    }
    assert_eq!(dead_letters.len(), 2);
    // Sent again, the rejections are the same, and nothing is written.
    site.publish(client, &publish(1, 1, batch));
    let again = site.acks(client).remove(0);
    assert_eq!((again.accepted, again.duplicates), (0, 4));
    assert_eq!(again.rejected, ack.rejected);
    assert_eq!(site.appended.len(), 1);
    assert_eq!(site.world.shard.counters().ingest.dead_letters, 2);
}

#[test]
fn an_event_that_cannot_be_read_costs_only_itself() {
    let mut site = Site::new();
    let client = site.publisher();
    let mut payload = publish(1, 1, logs(1, 2)).encode_to_vec();
    payload.extend(b"\x1a\x03\x0a\x09x"); // an event_id of nine bytes in an event of three
    payload.extend(b"\x1a\x04\x1a\x02\xff\xff"); // a platform that isn't UTF-8
    let mut bytes = Vec::new();
    frame::seal_with(&mut bytes, 0x10, |out| out.extend(payload));
    site.world.send(client, &bytes);
    site.append();
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!(ack.accepted, 2);
    assert_eq!(rejections(&ack), [(2, "MALFORMED"), (3, "INVALID_UTF8")]);
    let dead_letters = site.appended[0].batch().dead_letters;
    assert!(
        dead_letters.iter().all(|letter| letter.event.is_none()),
        "rules can't be applied to what can't be read"
    );
}

#[test]
fn a_certificate_s_name_and_the_credentials_of_the_time_stand_in_the_record() {
    let mut site = Site::new();
    let old = site.publisher();
    let secured = site.world.connect_from("192.0.2.7", true).unwrap();
    let id = site.world.client(secured).id;
    site.world.shard.secured(id, Secured { resumed: false, user: Some("grace".into()), subject: None });
    site.world.send_auth_as(secured, "", "s3cret");
    site.world.client(secured).take();
    let mut changed = collecting(|_| {});
    changed.credentials = crate::Credentials::new("eve", "s3cret").unwrap();
    site.world.shard.reconfigure(&changed);
    let new = site.world.connect();
    site.world.send_auth_as(new, "eve", "s3cret");
    for (client, sequence) in [(old, 1), (secured, 2), (new, 3)] {
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
    }
    let users: Vec<_> = site.appended.iter().map(|record| record.batch().user).collect();
    assert_eq!(users, ["ada", "grace", "eve"]);
    assert_eq!(site.appended[1].batch().peer, "192.0.2.7");
}

#[test]
fn rules_are_applied_before_anything_is_written_dead_letters_included() {
    let mut site = Site::with(|ingest| {
        let rules = [
            "user_id=hash",
            "log.context.user_id=hash",
            "properties.email=mask",
            "log.message=drop",
            "context.client_ip=truncate",
        ];
        let rules = rules.map(|rule| rule.parse().unwrap()).into();
        ingest.privacy = PrivacyConfig::new(rules, [9; 32], true).unwrap();
    });
    let client = site.publisher();
    let mut batch = events();
    batch.extend(logs(100, 3));
    batch[2].platform.clear();
    batch[5].event_name = "e".repeat(200);
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    assert_eq!(rejections(&site.acks(client)[0]), [(2, "FIELD_MISSING"), (5, "FIELD_TOO_LONG")]);
    let record = &site.appended[0];
    for secret in ["user-1", "ada@example.org", "192.0.2.77", "no stock", "line 100", "127.0.0.1"] {
        let bytes = secret.as_bytes();
        assert!(!record.payload.windows(bytes.len()).any(|window| window == bytes), "{secret}");
    }
    let batch = record.batch();
    assert_eq!((batch.peer.as_str(), batch.events.len(), batch.dead_letters.len()), ("127.0.0.0", 9, 2));
    for letter in &batch.dead_letters {
        let event = Event::decode(letter.event()).unwrap();
        assert_eq!((&*event.properties["email"], &*event.context["client_ip"]), ("***", "192.0.2.0"));
    }
    // Ids are left alone: duplicates are known all the same.
    assert_eq!(batch.events[0].event_id, event_id(1));
    site.publish(client, &publish(2, 1, events()));
    site.sync();
    assert_eq!(site.acks(client)[0].duplicates, 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_stored_is_what_was_sent_less_what_is_bad_known_or_private(
        batches in prop::collection::vec(prop::collection::vec((0..12_u64, 0..4_u8), 1..12), 1..8),
        is_private: bool,
        codec in 0..3_i32,
    ) {
        let mut site = Site::with(|ingest| {
            let rules = if is_private { vec!["log.message=mask".parse().unwrap()] } else { vec![] };
            ingest.privacy = PrivacyConfig::new(rules, [1; 32], false).unwrap();
        });
        let client = site.publisher();
        let (mut expected, mut known): (Vec<Event>, Vec<u64>) = (Vec::new(), Vec::new());
        for (batch, sequence) in batches.into_iter().zip(1..) {
            let (mut accepted, mut duplicates, mut rejected) = (0, 0, 0);
            // Some kinds have no field that the rule names: they are copied as they come, between others.
            let kinds = events();
            let sent: Vec<Event> = batch.iter().map(|&(number, what)| {
                let kind = kinds[if what == 1 { 5 } else { number as usize % 5 }].clone();
                let mut event = Event { event_id: event_id(number), ..kind };
                if what == 2 {
                    event.platform.clear();
                    rejected += 1;
                } else if known.contains(&number) {
                    duplicates += 1;
                } else {
                    known.push(number);
                    accepted += 1;
                    let mut stored = event.clone();
                    if let (true, Some(Body::Log(log))) = (is_private, &mut stored.body) {
                        log.message = "***".into();
                    }
                    expected.push(stored);
                }
                event
            }).collect();
            let plain = publish(1, sequence, sent);
            let codec = Codec::try_from(codec).unwrap();
            site.publish(client, &if codec == Codec::None { plain } else { packed(plain, codec) });
            site.sync();
            let ack = site.acks(client).remove(0);
            prop_assert_eq!((ack.accepted, ack.duplicates, ack.rejected.len()), (accepted, duplicates, rejected));
        }
        prop_assert_eq!(site.stored(), expected);
    }
}
