use serde_json::{Value as Json, json};
use tickstream_client::events::{Body, Event, EventType, Kind};

use super::{PostHog, Segment};
use crate::{
    http::{HttpSource, test_head},
    keys::Key,
    outcome::Malformed,
    upstream::BatchLimits,
    writer::{
        EventWriter, Ids, Request,
        tests::{NOW, decoded, origin},
    },
};

const LIMITS: BatchLimits = BatchLimits { events: 2048, bytes: 400_000 };

fn decode(source: &dyn HttpSource, body: &[u8]) -> Result<Request, Malformed> {
    let origin = origin(Key::unrestricted("web"));
    let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 10_000);
    source.decode(&test_head("POST", "/", &[]), body, &mut writer)?;
    Ok(writer.finish().unwrap())
}

fn events(source: &dyn HttpSource, body: &Json) -> Vec<Event> {
    let request = decode(source, body.to_string().as_bytes()).unwrap();
    assert_eq!(request.rejected, []);
    decoded(&request)
}

#[test]
fn segments_track_keeps_what_it_says() {
    let body = json!({
        "userId": "u1", "anonymousId": "a1", "event": "Order Completed", "messageId": "m-1",
        "timestamp": "2026-10-14T17:46:40.250Z", "sentAt": "2027-01-15T08:00:00Z",
        "properties": {"revenue": 9.5, "currency": "eur", "order_id": "o1", "items": [{"sku": 1}], "coupon": "X"},
        "context": {
            "library": {"name": "analytics.js", "version": "2"}, "campaign": {"source": "mail"},
            "page": {"url": "https://e.example/x", "path": "/x", "search": "?q=1", "lang": "de"}, "locale": "de-AT",
            "os": {"name": "iOS"}, "device": {"id": "d7", "type": "ios"}, "ip": "192.0.2.1", "app": {"version": "3"}
        },
        "integrations": {"All": false}, "channel": "browser", "writeKey": "never-stored"
    });
    let event = events(&Segment::Call("track"), &body).remove(0);
    assert_eq!((&event.event_name[..], event.event_type()), ("Order Completed", EventType::Custom));
    assert_eq!(
        (event.user_id.as_deref(), &event.anonymous_id[..], &event.platform[..]),
        (Some("u1"), "a1", "ios")
    );
    assert!(
        matches!(event.typed_context["device"].kind, Some(Kind::Map(_))),
        "the schema has no field for an id"
    );
    assert!(matches!(event.typed_context["integrations"].kind, Some(Kind::Map(_))));
    assert_eq!((&event.context["channel"][..], event.context.contains_key("writeKey")), ("browser", false));
    assert_eq!(&event.properties["page.search"][..], "?q=1", "the address doesn't have it");
    assert!(!event.properties.contains_key("page.path"));
    assert_eq!(event.timestamp, 1_792_000_000_250_000_000);
    let revenue = event.revenue.clone().unwrap();
    assert_eq!((revenue.amount, &revenue.currency[..], &revenue.order_id[..]), (Some(9.5), "EUR", "o1"));
    assert_eq!((&event.properties["coupon"][..], &event.properties["page.lang"][..]), ("X", "de"));
    assert!(matches!(event.typed_properties["items"].kind, Some(Kind::List(_))));
    assert_eq!((&event.context["locale"][..], &event.context["ip"][..]), ("de-AT", "192.0.2.1"));
    assert_eq!(event.page.clone().unwrap().url, "https://e.example/x");
    assert_eq!(event.campaign.clone().unwrap().source, "mail");
    assert_eq!(event.app.clone().unwrap().version, "3");
    let again = events(&Segment::Call("track"), &body).remove(0);
    assert_eq!(event.event_id, again.event_id, "by messageId");
}

#[test]
fn a_batchs_context_is_bounded_since_each_call_has_it() {
    let body = |len: usize| json!({"context": {"a": "x".repeat(len)}, "batch": []}).to_string();
    assert!(decode(&Segment::Batch, body(32_000).as_bytes()).is_ok());
    let problem = decode(&Segment::Batch, body(33_000).as_bytes()).unwrap_err().to_string();
    assert!(problem.contains("more than 32768 bytes"), "{problem}");
}

#[test]
fn segments_batch_has_calls_of_all_types_and_a_bad_one_spoils_no_other() {
    let body = json!({
        "sentAt": "1970-01-01T00:00:10Z",
        "context": {"locale": "fr"},
        "batch": [
            {"type": "identify", "userId": "u", "traits": {"plan": "pro", "age": 7}},
            {"type": "page", "anonymousId": "a", "name": "Home", "properties": {"url": "https://e.example/"}},
            {"type": "screen", "anonymousId": "a", "name": "Main"},
            {"type": "group", "userId": "u", "groupId": "g", "traits": {"size": 5}},
            {"type": "alias", "userId": "u", "previousId": "old"},
            {"type": "track", "userId": "u"},
            {"type": "nonsense"},
            7,
            {"type": "track", "userId": 42, "event": "E", "originalTimestamp": "1970-01-01T00:00:08Z"}
        ]
    });
    let request = decode(&Segment::Batch, body.to_string().as_bytes()).unwrap();
    let indexes: Vec<_> = request.rejected.iter().map(|rejection| rejection.index).collect();
    assert_eq!(indexes, [5, 6, 7]);
    let events = decoded(&request);
    let types: Vec<_> = events.iter().map(Event::event_type).collect();
    use EventType::{Alias, Custom, Group, Identify};
    assert_eq!(types, [Identify, Custom, Custom, Group, Alias, Custom]);
    let Some(Body::Identify(identify)) = &events[0].body else { panic!() };
    assert_eq!(identify.traits["plan"], "pro");
    assert_eq!(events[1].properties["name"], "Home");
    assert_eq!(events[1].page.clone().unwrap().url, "https://e.example/");
    assert_eq!((events[3].group_id.as_str(), events[5].user_id.as_deref()), ("g", Some("42")));
    assert!(events.iter().all(|event| event.context["locale"] == "fr"));
    assert_eq!(events[5].timestamp, NOW - 2_000_000_000, "the clock is corrected by sentAt");
    assert_eq!(
        Segment::Batch.secret_in_body(&test_head("POST", "/", &[]), br#"{"writeKey":"k","batch":[]}"#),
        Some("k".into())
    );
}

#[test]
fn posthogs_events_come_alone_in_arrays_and_in_batches() {
    let event = json!({
        "event": "$pageview", "uuid": "01935006-9b80-7666-8a5e-3f1c2b4d5e06", "timestamp": "2026-10-14T17:46:40.250Z",
        "properties": {
            "token": "phc_1", "distinct_id": "d1", "$device_id": "d1", "$session_id": "s1", "$lib": "web",
            "$current_url": "https://e.example/", "$os": "Mac OS X", "n": 1.5
        }
    });
    let batch = json!({"api_key": "phc_1", "batch": [&event]});
    let array = json!([&event]);
    let encoded = {
        use base64::{Engine, engine::general_purpose::STANDARD};
        format!("data={}", STANDARD.encode(event.to_string()).replace('+', "%2B").replace('=', "%3D"))
    };
    for body in [event.to_string(), batch.to_string(), array.to_string(), encoded] {
        let found = decoded(&decode(&PostHog, body.as_bytes()).unwrap()).remove(0);
        assert_eq!(
            (&found.event_name[..], &found.session_id[..], &found.platform[..]),
            ("$pageview", "s1", "web")
        );
        assert_eq!((found.user_id.as_deref(), &found.anonymous_id[..]), (None, "d1"));
        assert_eq!(found.event_id[0], 0x01);
        assert_eq!(found.device.clone().unwrap().os, "Mac OS X");
        assert!(!found.properties.contains_key("token"), "the secret isn't stored");
        assert_eq!(
            PostHog.secret_in_body(&test_head("POST", "/", &[]), body.as_bytes()),
            Some("phc_1".into())
        );
    }
}

#[test]
fn posthogs_identity_calls_become_identity_events() {
    let body = json!({"api_key": "k", "batch": [
        {"event": "$identify", "distinct_id": "u", "properties": {"$anon_distinct_id": "a"}, "$set": {"plan": "pro"}, "$set_once": {"first": 1}},
        {"event": "$create_alias", "distinct_id": "u", "properties": {"alias": "old"}},
        {"event": "$groupidentify", "distinct_id": "u", "properties": {"$group_type": "company", "$group_key": "g", "$group_set": {"n": 1}}},
        {"event": "$groupidentify", "distinct_id": "$company_g", "properties": {"$group_type": "company", "$group_key": "g"}}
    ]});
    let events = events(&PostHog, &body);
    let types: Vec<_> = events.iter().map(Event::event_type).collect();
    assert_eq!(types, [EventType::Identify, EventType::Alias, EventType::Group, EventType::Group]);
    assert_eq!(
        (events[2].user_id.as_deref(), events[3].user_id.as_deref()),
        (Some("u"), None),
        "nobody is meant"
    );
    assert_eq!((events[0].user_id.as_deref(), &events[0].anonymous_id[..]), (Some("u"), "a"));
    let Some(Body::Identify(identify)) = &events[0].body else { panic!() };
    assert_eq!(identify.traits["plan"], "pro");
    assert!(events[0].typed_context.contains_key("$set_once"));
    let Some(Body::Group(group)) = &events[2].body else { panic!() };
    assert_eq!((&group.group_id[..], &group.r#type[..]), ("g", "company"));
}

#[test]
fn bodies_that_are_none_are_refused() {
    for body in ["", "[", "data=%%%", "{\"batch\":7}", "\u{0}", "7"] {
        assert!(decode(&PostHog, body.as_bytes()).is_err(), "{body}");
        assert!(decode(&Segment::Batch, body.as_bytes()).is_err(), "{body}");
    }
    let nested = ["[".repeat(10_000), "]".repeat(10_000)].concat();
    let body =
        format!("{{\"batch\":[{{\"type\":\"track\",\"event\":\"e\",\"properties\":{{\"x\":{nested}}}}}]}}");
    assert_eq!(decode(&Segment::Batch, body.as_bytes()).unwrap().rejected.len(), 1);
}
