use tickstream_client::events::Publish;

use super::*;

pub const NOW: u64 = 1_800_000_000_000_000_000;
const LIMITS: BatchLimits = BatchLimits { events: 100, bytes: 10_000 };

pub fn origin(key: Key) -> Origin {
    Origin {
        key: Arc::new(key),
        source: "test",
        address: Some("192.0.2.7".parse().unwrap()),
        user_agent: "agent/1".into(),
        headers: vec![("accept-language".into(), "de".into())],
        receive_time: NOW,
        send_time: 0,
    }
}

/// The events of a request, as the server would read them.
pub fn decoded(request: &Request) -> Vec<Event> {
    let publish = |batch: &RequestBatch| Publish::decode(batch.batch.as_bytes()).unwrap().events;
    request.batches.iter().flat_map(publish).collect()
}

fn written(origin: &Origin, events: Vec<Event>) -> Request {
    let mut writer = EventWriter::new(origin, Ids::OfBody(b"body"), LIMITS, 1000);
    events.into_iter().for_each(|event| writer.event(event));
    writer.finish().unwrap()
}

fn public_key() -> Key {
    Key { is_public: true, ..Key::unrestricted("web") }
}

#[test]
fn each_event_gets_its_sender_and_an_id() {
    let request = written(&origin(Key::unrestricted("k")), vec![Event::default(); 2]);
    let events = decoded(&request);
    let sender = events[0].sender.clone().unwrap();
    assert_eq!(
        (&sender.key_id[..], &sender.source[..], &sender.client_address[..]),
        ("k", "test", "192.0.2.7")
    );
    assert_eq!((&sender.user_agent[..], sender.receive_time), ("agent/1", NOW));
    assert_eq!(sender.original_timestamp, Some(0), "it had none");
    assert_eq!(events[0].timestamp, NOW);
    assert!(events[0].event_id.len() == 16 && events[0].event_id != events[1].event_id);
    let again = decoded(&written(&origin(Key::unrestricted("k")), vec![Event::default(); 2]));
    assert_eq!(again, events);
}

#[test]
fn a_public_key_can_neither_take_others_ids_nor_name_the_sender() {
    let event = Event {
        event_id: vec![7; 16],
        timestamp: NOW,
        sender: Some(Sender { client_address: "203.0.113.1".into(), ..Sender::default() }),
        ..Event::default()
    };
    let public = decoded(&written(&origin(public_key()), vec![event.clone()])).remove(0);
    assert_ne!(public.event_id, event.event_id);
    assert_eq!(public.sender.unwrap().client_address, "192.0.2.7");
    let private = decoded(&written(&origin(Key::unrestricted("k")), vec![event.clone()])).remove(0);
    assert_eq!(private.event_id, event.event_id);
    let sender = private.sender.unwrap();
    assert_eq!((&sender.client_address[..], &sender.key_id[..]), ("203.0.113.1", "k"));
    let broken = Event { event_id: vec![7; 15], ..event };
    assert_eq!(decoded(&written(&origin(public_key()), vec![broken])).remove(0).event_id.len(), 15);
}

#[test]
fn a_wrong_clock_is_corrected_and_the_original_kept() {
    let origin = Origin { send_time: 5_000_000_000, ..origin(Key::unrestricted("tv")) };
    let event = Event { timestamp: 3_000_000_000, ..Event::default() };
    let event = decoded(&written(&origin, vec![event])).remove(0);
    assert_eq!(event.timestamp, NOW - 2_000_000_000);
    let sender = event.sender.unwrap();
    assert_eq!((sender.original_timestamp, sender.send_time), (Some(3_000_000_000), 5_000_000_000));
}

#[test]
fn batches_keep_the_servers_limits_and_indexes_those_of_the_request() {
    let origin = origin(Key { kinds: vec![EventType::Log], ..Key::unrestricted("k") });
    let log =
        |name: String| Event { event_type: EventType::Log.into(), event_name: name, ..Event::default() };
    let mut writer = EventWriter::new(&origin, Ids::New, LIMITS, 1000);
    for index in 0..150 {
        match index % 3 {
            0 => writer.reject("MALFORMED", "no event"),
            1 => writer.event(Event { event_type: EventType::Video.into(), ..Event::default() }),
            _ => writer.event(log("n".repeat(1000))),
        }
    }
    writer.event(log("n".repeat(10_000)));
    let request = writer.finish().unwrap();
    let indexes: Vec<u32> = request.batches.iter().flat_map(|batch| batch.indexes.clone()).collect();
    assert_eq!(indexes, (0..50).map(|i| 3 * i + 2).collect::<Vec<_>>());
    assert!(request.batches.iter().all(|batch| batch.batch.byte_len() <= LIMITS.bytes));
    assert_eq!(request.rejected.len(), 101);
    assert_eq!(request.rejected[1].code, "KIND_NOT_ALLOWED");
    assert_eq!((request.rejected[100].index, &request.rejected[100].code[..]), (150, "EVENT_TOO_LARGE"));
}

#[test]
fn a_request_has_no_more_events_than_it_may() {
    let origin = origin(Key::unrestricted("k"));
    let mut writer = EventWriter::new(&origin, Ids::New, LIMITS, 2);
    writer.event(Event::default());
    writer.reject("MALFORMED", "");
    writer.event(Event::default());
    assert_eq!(writer.finish().unwrap_err(), TooManyEvents(2));
}

#[test]
fn what_events_have_in_common_is_bounded_for_all_of_them() {
    let origin = origin(Key::unrestricted("k"));
    let mut writer = EventWriter::new(&origin, Ids::New, BatchLimits { events: 100, bytes: 400_000 }, 50_000);
    // A resource of 100 KB in each of 50,000 records: 5 GB, from a body of 1 MB.
    let shared = [&[0xA2, 0x06, 0xA0, 0x8D, 0x06][..], &[b'x'; 100_000]].concat();
    let mut taken = 0;
    while !writer.is_overfull() {
        writer.event_with(Event::default(), Extra { fields: &shared, time: 1 });
        taken += 1;
    }
    assert!((900..1100).contains(&taken), "{taken}");
    assert!(!writer.is_roomy());
    assert_eq!(writer.finish().unwrap_err(), TooManyEvents(taken - 1));
}
