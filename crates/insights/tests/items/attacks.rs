//! Attacks in the texts of events: on pages and in files they stay texts.

use tickstream_insights::filters::encoded;
use tickstream_insights::teams::TEAMS;
use tickstream_schema::events::Event;
use tickstream_schema::json::{parse_event, write_event};
use tickstream_warehouse_core::query::Role;
use tickstream_warehouse_core::sample::planted::{Facts, planted};

use crate::pages::{TO, text};
use crate::world::{NOW, World};

const ATTACKS: [&str; 4] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; DROP TABLE events; --",
    "=HYPERLINK(\"https://attacker.example\")",
];

/// Replaces each text below that isn't of a fixed form.
fn poison(value: &mut serde_json::Value, key: &str, attack: &str) {
    const FIXED: [&str; 36] = [
        "timestamp",
        "event_id",
        "event_type",
        "trace_id",
        "span_id",
        "parent_span_id",
        "start_time",
        "end_time",
        "status",
        "kind",
        "level",
        "severity",
        "outcome",
        "due_time",
        "charge_period_start",
        "charge_period_end",
        "billing_currency",
        "currency",
        "client_address",
        "resource_type",
        "http_status_code",
        "source",
        "stream_type",
        "category",
        "metric_type",
        "medium",
        "user_id",
        "session_id",
        "anonymous_id",
        "name",
        "url",
        "referrer",
        "drm_type",
        "type",
        "score",
        "region_id",
    ];
    match value {
        serde_json::Value::Object(object) => {
            object.iter_mut().for_each(|(key, value)| poison(value, key, attack));
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|value| poison(value, key, attack)),
        serde_json::Value::String(text) if !FIXED.contains(&key) => attack.clone_into(text),
        _ => {}
    }
}

/// Each kind of planted event once for each attack, with the attack in each text that an attacker chooses.
fn poisoned() -> Vec<Event> {
    let mut kinds = std::collections::BTreeMap::new();
    for event in planted(NOW as u64).0 {
        let mut json = Vec::new();
        write_event(&event, &mut json);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let body = value["event_type"].as_str().unwrap().to_owned();
        let detail = value[&body]["event_name"]
            .as_str()
            .or(value[&body]["kind"].as_str())
            .unwrap_or_default()
            .to_owned();
        kinds.insert((body, detail), value);
    }
    let mut events = Vec::new();
    for value in kinds.values() {
        for attack in ATTACKS {
            let mut value = value.clone();
            let kind = value["event_type"].as_str().unwrap().to_owned();
            let video_event = value[&kind]["event_name"].clone();
            poison(&mut value, "", attack);
            if kind == "video" {
                value[&kind]["event_name"] = video_event;
            }
            for id in ["user_id", "session_id"] {
                value[id] = attack.into();
            }
            value["event_id"] = format!("d5000000-0000-8000-8000-{:012x}", events.len()).into();
            value["timestamp"] = "2026-11-28T09:00:00Z".into();
            events.push(parse_event(&value.to_string()).unwrap_or_else(|error| panic!("{error}: {value}")));
        }
    }
    events
}

#[test]
fn fault_86_an_attack_in_each_text_of_each_kind_stays_text() {
    let world = World::new(poisoned(), Facts::default());
    let role = Role::local();
    let check = |path: &str, query: &str| {
        let page = world.page(path, query, &role);
        let html = text(&page);
        assert!(matches!(page.status, 200 | 303), "{path}?{query}: {html}");
        assert!(!html.contains("<script>") && !html.contains("<img"), "{path}?{query}: {html}");
        html
    };
    let mut seen = 0;
    for team in &TEAMS {
        for query in [TO.to_owned(), format!("{TO}&days=365")] {
            seen += check(&format!("/{}", team.name), &query).matches("&lt;script&gt;").count();
        }
        for (item, attack) in team.items.iter().zip(ATTACKS.iter().cycle()) {
            check(&format!("/{}/{}", team.name, item.name), TO);
            let behind = format!("/{}/{}/behind", team.name, item.name);
            seen += check(&behind, &format!("{TO}&days=365")).matches("&lt;script&gt;").count();
            let named = item.behind.named.iter().map(|(column, _)| encoded(&format!("is.{column}")));
            let point: Vec<_> = named.map(|name| format!("{name}={}", encoded(attack))).collect();
            check(&behind, &format!("{TO}&line=1&{}", point.join("&")));
            let csv = check_csv(&world, &format!("/{}/{}.csv", team.name, item.name));
            assert!(!csv, "{}/{} has a formula", team.name, item.name);
        }
    }
    assert!(seen > 10, "the attack is on the pages, as text: {seen}");
    check("/moment/2026-11-28T09:00:00Z", "");
    for attack in ATTACKS {
        let attack = encoded(attack);
        for kind in ["session", "user", "trace"] {
            check(&format!("/{kind}/{attack}"), TO);
        }
        for name in ["platform", "version", "country", "service", "from", "to", "days", "live"] {
            check("/marketing", &format!("{name}={attack}"));
        }
        for query in [
            "kind=trend&event=",
            "kind=trend&by=",
            "kind=funnel&step=",
            "kind=retention&event=",
            "kind=paths&anchor=",
            "kind=",
            "kind=sql&sql=",
        ] {
            check("/explore", &format!("{query}{attack}"));
        }
        check("/explore/behind", &format!("kind=trend&by=campaign&event={attack}&is.series={attack}"));
        check("/explore/behind", &format!("kind=funnel&step={attack}&is.step={attack}"));
        check("/services/behind", &format!("is.calls={attack}"));
        check("/find", &format!("in=user&id={attack}"));
    }
}

/// True if a cell of CSV begins as a formula.
fn check_csv(world: &World, path: &str) -> bool {
    let csv = text(&world.page(path, TO, &Role::local()));
    csv.split(['\n', ',']).any(|cell| cell.trim_start_matches('"').starts_with("=HYPERLINK"))
}
